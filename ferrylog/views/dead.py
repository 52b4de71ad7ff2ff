"""Dead letters as people and machines see them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ferrylog.clock import when
from ferrylog.letters import Letter
from ferrylog.redact import one_line, redact
from ferrylog.views.shapes import Report
from ferrylog.views.story import Attempt
from ferrylog.views.telling import attempt_lines

MAX_KEY = 60
"""Characters of an `_id` in a list."""


class LetterReport(Report):
    id: int
    level: str
    """job, unit, chunk, document, index"""
    state: Literal["failed", "rejected", "dropped"]
    task: str | None
    namespace: str | None
    chunk: str | None
    entity: str
    key: str | None = Field(alias="_id")
    code: str
    why: str
    attempts: int
    at: str
    requeue: str
    """The command that asks for it again."""


class LettersReport(Report):
    schema_: Literal["ferrylog.dead-letters/1"] = Field("ferrylog.dead-letters/1", alias="schema")
    job: str
    letters: tuple[LetterReport, ...]
    unnamed: int
    """Rejected documents that are counted and not named: there were too many in one chunk."""


class Shown(Report):
    schema_: Literal["ferrylog.dead-letter/1"] = Field("ferrylog.dead-letter/1", alias="schema")
    job: str
    letter: LetterReport
    lower: str | None
    upper: str | None
    """The range of its chunk; `None` is an open end."""
    history: tuple[Attempt, ...]
    file: str | None
    """Where the document lies whole."""
    document: str | None
    """Canonical Extended JSON."""


def letter_report(letter: Letter, journal: Path) -> LetterReport:
    of_chunk = letter.level in ("chunk", "document")
    return LetterReport(
        id=letter.id,
        level=letter.level,
        state="failed" if letter.task else "dropped" if letter.dropped else "rejected",
        task=letter.task,
        namespace=letter.unit,
        chunk=letter.entity if of_chunk else None,
        entity=letter.entity,
        key=letter.key,
        code=letter.code,
        why=redact(letter.why),
        attempts=letter.attempts,
        at=when(letter.at_ms),
        requeue=command("requeue", letter.id, journal),
    )


def command(verb: str, number: int, journal: Path) -> str:
    return f"ferrylog dead-letters {verb} {number} --journal {shlex.quote(str(journal))}"


def letters_text(report: LettersReport, journal: Path) -> str:
    if not report.letters:
        return f"job {report.job} has no dead letters"
    lines = [f"job {report.job} · {len(report.letters):,} dead letters"]
    lines += map(_line, report.letters)
    if report.unnamed:
        lines.append(f"  and {report.unnamed:,} more rejected documents, counted but not named")
    where = shlex.quote(str(journal))
    lines.append(f"  → look: ferrylog dead-letters show ID --journal {where}")
    lines.append(
        f"  → once more: ferrylog dead-letters requeue ID... --journal {where} (--all: all of them)"
    )
    return "\n".join(one_line(line) for line in lines)


def _line(letter: LetterReport) -> str:
    what = letter.entity if letter.task is None else f"{letter.task} of {letter.entity}"
    key = f" _id {_short(letter.key)}" if letter.key is not None else ""
    state = "" if letter.state == "failed" else f" {letter.state}"
    code = f" {letter.code}:" if letter.code else ""
    return (
        f"  {letter.id:>7}  {letter.at}  {letter.level:<8}  {what}{key}{state}:{code} "
        f"{letter.why} ({_attempts(letter.attempts)})"
    )


def _short(key: str) -> str:
    return key if len(key) <= MAX_KEY else f"{key[: MAX_KEY - 1]}…"


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def shown_text(shown: Shown) -> str:
    letter = shown.letter
    lines = [f"dead letter {letter.id} of job {shown.job}", _line(letter)]
    if letter.chunk is not None:
        lines.append(f"  range of {letter.chunk}: {_range(shown)}")
    lines += ["", "  attempts" if shown.history else "  no attempt is told of"]
    lines += attempt_lines(shown.history)
    if letter.level == "document":
        lines += ["", *_document(shown)]
    lines += ["", f"  once more: {letter.requeue}"]
    return "\n".join(one_line(line) for line in lines)


def _range(shown: Shown) -> str:
    lower = shown.lower if shown.lower is not None else "the beginning"
    upper = f"{shown.upper} (not included)" if shown.upper is not None else "the end"
    return f"{lower} to {upper}"


def _document(shown: Shown) -> list[str]:
    if shown.document is None:
        return ["  the document itself is not in the work folder of this host"]
    return [f"  the document, whole, in {shown.file}", f"  {shown.document}"]


def of_stages(history: Sequence[object], letter: Letter) -> tuple[Attempt, ...]:
    """The attempts of the task that was given up; of a chunk, those of all its stages."""
    found = [each for each in history if isinstance(each, Attempt)]
    return tuple(each for each in found if letter.task in (None, each.stage))
