"""A story in words, for somebody who never saw the program."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any, Final

from ferrylog.redact import one_line
from ferrylog.views.chained import result_of_increments
from ferrylog.views.fidelity import left_behind
from ferrylog.views.spans import size, span
from ferrylog.views.story import Attempt, Note, Parts, StoryReport
from ferrylog.views.undone import result_of_operations
from statemachine.state.stages import KEEPS_FILES
from statemachine.words import THE_JOB

WIDTH: Final = 96
CAUSES: Final = {
    "transient": "a failure that may pass",
    "unavailable": "an outage: the deployment served nobody then",
    "permanent": "a failure that would come back every time",
    "fatal": "a failure that only the operator can remove",
}
STAGES: Final = {
    "survey": "list what the source holds",
    "create": "make it on the target",
    "census": "learn which fields of which types its documents have",
    "plan": "cut it into chunks",
    "dump": "source to file",
    "restore": "file to target",
    "copy": "source to target",
    "split": "find where to cut it in two",
    "index": "build it on the target",
    "verify": "compare source and target",
    "finish": "switch expiry on, compare what stands on the target",
    "manifest": "make the files one whole",
    "capture": "learn what changed",
    "shape": "make the target's collections those of the increment's end",
    "apply": "shard to target",
    "settle": "build what indexes are missing, compare at the end",
    "follow": "one round of changes to the target",
    "operation": "what the operation does",
    "undo": "what the operation did is taken back",
}
JOBS: Final = {
    "migrate": "copy collections from {source} to {target}",
    "verify": "compare {source} with {target}",
    "dump": "dump collections of {source} to {target}",
    "export": "export collections of {source} to {target}",
    "restore": "restore collections from {source} to {target}",
    "group": "run a group of operations on {target}",
    "plan": "see what copying collections from {source} to {target} would do, and do nothing",
}
WAYS: Final = {"dump": ("dumped",), "export": ("dumped",), "restore": ("restored",), "verify": ()}
"""What is done with chunks before they are verified; of a migration: dumped and restored."""


def stories_text(reports: Sequence[StoryReport]) -> str:
    """Of all that share a name."""
    told = [story_text(report) for report in reports]
    if len(reports) > 1:
        types = " and ".join(
            "an index" if report.type == "index" else f"a {report.type}" for report in reports
        )
        told.insert(0, one_line(f"{reports[0].entity} is the name of {types}:"))
    return "\n\n".join(told)


def story_text(report: StoryReport) -> str:
    name = _name(report)
    lines = [f"{name}job {report.job}", "", "What it is"]
    lines += _paragraph(_what(report))
    lines += _paragraph(
        f"The job was asked for by {report.asked.by} at {report.asked.at}: to "
        + JOBS[report.asked.kind].format(source=report.asked.source, target=report.asked.target)
        + "."
    )
    if report.parts is not None and report.asked.kind != "group":
        lines += _paragraph(_parts(report.asked.kind, report.parts))
    lines += ["", "What happened"]
    for each in report.history:
        lines += _note(each) if isinstance(each, Note) else _attempt(each)
    if report.clock_went_back:
        lines += _paragraph(
            "The clock went back in the meantime: times may contradict each other, the order above "
            "is that of the journal."
        )
    lines += ["", "Where it stands", *_paragraph(report.standing), *_paragraph(_sums(report))]
    return "\n".join(one_line(line) for line in (*lines, "", *_proof(report)))


def _name(report: StoryReport) -> str:
    """With which the story begins; parts of the job have a type of their own only in words."""
    if report.entity == THE_JOB:
        return ""
    what = str(report.type)
    if what == "job":
        link = report.entity.startswith("link:")
        what = ("shard" if "#" in report.entity else "increment") if link else "operation"
    return f"{what} {report.entity} of "


def _paragraph(text: str, indent: str = "  ") -> list[str]:
    return wrap(
        one_line(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


# --- what it is ---


def _what(report: StoryReport) -> str:
    what = report.what
    match report.type:
        case "chunk":
            heir = f" It took the place of {report.replaces}." if report.replaces else ""
            return f"A chunk: a part of the collection {what['unit']}. {_range(report)}{heir}"
        case "unit":
            target = "" if what["target"] == what["unit"] else f", which becomes {what['target']}"
            return f"A unit: the {what['type']} {what['unit']}{target}."
        case "index":
            unique = "unique " if what.get("unique") else ""
            return f"An index: {unique}{what['name']} of the collection {what['unit']}."
        case "pool":
            return "The workers that share one breaker, and so the fate of their deployment."
        case _ if report.entity != THE_JOB and not report.entity.startswith("link:"):
            undo = report.entity.partition(" ")[0] in STAGES
            what_it_is = "the undo of an operation" if undo else "an operation"
            return f"It is {what_it_is} of the job."
        case _ if report.entity != THE_JOB:
            number, _, shard = report.entity.removeprefix("link:").partition("#")
            whole = f"increment {number} of the chain that the job restores"
            return (
                f"A shard: a key range of a collection in {whole}." if shard else f"It is {whole}."
            )
        case _:
            return "The job itself, with what belongs to it as a whole."


def _range(report: StoryReport) -> str:
    """A file that is no dump of ferrylog's own does not tell between which keys it lies."""
    what = report.what
    about = f"about {what['documents']:,} documents by the plan's estimate"
    lower, upper = what["lower"], what["upper"]
    if any(each.kind == "file_found" for each in report.history if isinstance(each, Note)):
        about = f"{what['documents']:,} documents"
        if lower is None and upper is None:
            return f"It is a part of a file of the dump, {about}."
    if lower is None and upper is None:
        text = f"It is the only one and holds everything, {about}."
    elif lower is None:
        text = f"It holds everything whose _id lies below {upper}, {about}."
    elif upper is None:
        text = f"It holds everything whose _id is {lower} or lies above it, {about}."
    else:
        text = (
            f"It holds everything whose _id lies from {lower} (included) to {upper} "
            f"(not included), {about}."
        )
    return text + (" It is read in the order of insertion." if what["natural"] else "")


def _parts(kind: str, parts: Parts) -> str:
    ways = ("copied",) if parts.copied else WAYS.get(kind, ("dumped", "restored"))
    done = [f"{getattr(parts, way):,} {way}" for way in ways]
    if kind not in KEEPS_FILES:
        done.append(f"{parts.verified:,} verified, {parts.differing:,} of these with differences")
    first, *others = done
    first = first.replace(" ", " were ", 1)
    told = " and ".join((", ".join((first, *others[:-1])), *others[-1:]))
    return (
        f"Of its {parts.chunks:,} chunks {told}: {parts.documents:,} documents, "
        f"{size(parts.bytes)}; {parts.rejected:,} documents were rejected. On the way: "
        f"{parts.retries:,} retries, {parts.lost:,} attempts cut off by the end of their process, "
        f"{parts.dead_letters:,} tasks given up."
    )


# --- what happened ---


def _note(note: Note) -> list[str]:
    return [f"  {note.at}  {one_line(note.kind)}", *_paragraph(note.text, " " * 6)]


def attempt_lines(attempts: Sequence[Attempt]) -> list[str]:
    """Each with its run, its end, and what was decided then."""
    return [line for attempt in attempts for line in _attempt(attempt)]


def _attempt(attempt: Attempt) -> list[str]:
    run = attempt.run
    who = f"in run {run.epoch} ({run.by}, host {run.host}, process {run.pid})" if run else "no run"
    stage = f"{attempt.stage} ({STAGES[attempt.stage]}), attempt {attempt.attempt}"
    head = f"  {attempt.began}  {stage}"
    who = f"Seq {attempt.seq} to {attempt.last_seq}, {who}."
    said = (_ended(attempt), _next(attempt), who)
    return [one_line(head), *_paragraph(" ".join(filter(None, said)), " " * 6)]


def _ended(attempt: Attempt) -> str:
    lasted = "" if attempt.duration_ms is None else f" after {span(attempt.duration_ms)}"
    if attempt.clock_went_back:
        lasted = " (for how long is unknown: the clock went back)"
    match attempt.outcome:
        case "completed":
            return f"It succeeded{lasted}: {_result(attempt)}"
        case "failed":
            why = f"{CAUSES[attempt.cause]}: {attempt.code}: {_whole(attempt.why)}"
            return f"It failed{lasted}, because of {why}"
        case "cancelled":
            code = f"{attempt.code}: " if attempt.code else ""
            return f"It was called off{lasted}, and is not to blame: {code}{_whole(attempt.why)}"
        case "lost" if attempt.at_once:
            return f"It was cut off: somebody wanted a rest at once.{_last_sign(attempt)}"
        case "lost":
            return f"The process was gone before it told how this ended.{_last_sign(attempt)}"
        case _:
            return f"The journal does not tell how this ended.{_last_sign(attempt)}"


def _last_sign(attempt: Attempt) -> str:
    if attempt.progress is None:
        return ""
    done = attempt.progress
    return (
        f" Its last sign of life came at {done.at}: the target had acknowledged "
        f"{done.documents:,} documents of the chunk."
    )


def _next(attempt: Attempt) -> str:
    found = f"Run {attempt.decided_in_run} found it in doubt and decided to"
    match attempt.decision:
        case "retry":
            return (
                f"Decided: try again after {span(attempt.delay_ms or 0)} (jitter "
                f"{attempt.jitter:.2f}), not before {attempt.not_before}."
            )
        case "give_up" if attempt.outcome == "lost":
            return f"{found} give it up: {attempt.code}: {_whole(attempt.why)}"
        case "give_up":
            return "Decided: give it up (a dead letter) until somebody requeues it."
        case "again" if attempt.outcome == "lost":
            return f"{found} do it again from nothing."
        case "again":
            return "Decided: do it again when its turn comes."
        case "continue":
            if attempt.stage == "copy":
                return f"{found} go on after the {attempt.position:,} documents that were read."
            return f"{found} go on after byte {attempt.position:,} of the chunk file."
        case _:
            return ""


def _result(attempt: Attempt) -> str:
    made = attempt.result
    match attempt.stage:
        case "dump":
            return _dumped(made)
        case "restore" | "copy":
            return (
                f"of this chunk {made['documents']:,} documents ({size(made['bytes'])}) lie on the "
                f"target, {made['present']:,} of them lay there already, equal to the byte; "
                f"{made['rejected']:,} were rejected."
            )
        case "verify":
            return _verified(made)
        case "census" | "plan" | "split":
            return _planned(attempt.stage, made)
        case "create":
            built = f" with the indexes {', '.join(made['built'])}" if made["built"] else ""
            return f"it stands on the target{built}."
        case "survey":
            return _surveyed(made)
        case "finish":
            return _finished(made)
        case "manifest":
            sealed = f" (manifest: SHA-256 {made['sha256']})" if made["sha256"] else ""
            return f"{made['documents']:,} documents, {size(made['bytes'])}, are one whole{sealed}."
        case "index":
            return "it stands on the target."
        case "operation" | "undo":
            return result_of_operations(made)
        case _:
            return result_of_increments(attempt.stage, made)


def _dumped(made: dict[str, Any]) -> str:
    told = (
        f"{made['documents']:,} documents ({size(made['bytes'])}) in {made['blocks']:,} blocks "
        f"became "
    )
    if parts := made.get("parts"):
        return f"{told}{len(parts):,} files, {size(made['file_bytes'])} in all."
    return f"{told}the file {made['file']} ({size(made['file_bytes'])}, SHA-256 {made['sha256']})."


def _planned(stage: str, made: dict[str, Any]) -> str:
    if stage == "census":
        return f"of {_counted(made['documents'], 'document')} all columns are known."
    if stage == "plan":
        return f"it was cut into {made['chunks']:,} chunks."
    return f"its range was cut into {made['chunks']:,} parts."


def _surveyed(made: dict[str, Any]) -> str:
    as_of = f", read as of cluster time {made['cluster_time']}" if made["cluster_time"] else ""
    left = left_behind(made["users"], made["roles"])
    stay = f" {left}." if left else ""
    notes = "".join(f" {_whole(note)}" for note in made["notes"])
    units = _counted(made["units"], "unit")
    return f"{units} (collections, views) belong to the job{as_of}.{stay}{notes}"


def _finished(made: dict[str, Any]) -> str:
    if not made["differing"]:
        return "nothing is left to do with it, and nothing that was compared differs."
    found = "; ".join(
        f"{each['what']} is {each['source'] or 'missing'} on the source and "
        f"{each['target'] or 'missing'} on the target"
        for each in made["differing"]
    )
    return f"source and target are described differently: {found}."


def _verified(made: dict[str, Any]) -> str:
    if made["equal"]:
        known = f", but for {made['rejected']:,} rejected documents" if made["rejected"] else ""
        return (
            f"source and target hold the same {made['source_documents']:,} documents{known} "
            f"(digest {made['source_digest'] or 'none'})."
        )
    shown = ", ".join(f"_id {each['key']} is {each['what']}" for each in made["differing"][:5])
    return (
        f"source ({made['source_documents']:,} documents, digest {made['source_digest']}) and "
        f"target ({made['target_documents']:,} documents, digest {made['target_digest']}) "
        f"differ{': ' + shown if shown else ''}."
    )


# --- the end ---


def _sums(report: StoryReport) -> str:
    return " ".join(
        f"{stage.stage}: {stage.status}, {_counted(stage.attempts, 'attempt')}, "
        f"{stage.failed} failed, {stage.lost} cut off."
        for stage in report.stages
    )


def _proof(report: StoryReport) -> list[str]:
    proof = report.proof
    return [
        "Proof",
        f"  {_counted(proof.events, 'event')} of the journal, each checked against its hash",
        f"  the first: seq {proof.first.seq}, {proof.first.at}, hash {proof.first.hash}",
        f"  the last:  seq {proof.last.seq}, {proof.last.at}, hash {proof.last.hash}",
    ]


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _whole(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
