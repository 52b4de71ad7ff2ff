"""`ferrylog inspect explain`: one entity's whole story, in words."""

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Annotated, Any

import typer

from ferrylog.cli import options as o
from ferrylog.cli.inspect.names import an_entity
from ferrylog.clock import when
from ferrylog.jobs import find_job
from ferrylog.views.standing import (
    chunk_standing,
    index_standing,
    job_standing,
    pool_standing,
    unit_standing,
)
from ferrylog.views.story import Asked, Parts, StoryReport, Teller, proof, runs_of
from ferrylog.views.telling import stories_text
from journal import audit, overview
from journal.audit import Wanted
from journal.entities import Type
from journal.errors import DamagedJournal
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import (
    AnyEvent,
    ChunkPlanned,
    ChunkReplaced,
    Event,
    JobRequested,
    JobSpec,
    SplitCompleted,
    UnitRegistered,
)
from statemachine.state import keeps_files
from statemachine.undoing import OPERATIONS
from statemachine.words import THE_JOB, JobId, UnitId, index_task, undo_task


def explain(
    entity: Annotated[
        str,
        typer.Argument(
            metavar="ENTITY", help="UNIT#N, UNIT, UNIT@INDEX, job, dump pool, link:N, link:N#SHARD."
        ),
    ],
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Default: the newest.")] = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Tell the whole story of one chunk, unit, index or of the job, from the journal alone.

    Where several share the name, the story of each; with --json one object a line.
    """
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        reports = stories(opened, wanted, an_entity(opened, wanted, entity))
    lines = (report.as_json() for report in reports)
    typer.echo("\n".join(lines) if json else stories_text(reports))


def stories(journal: SqliteJournal, job: JobId, entity: str) -> list[StoryReport]:
    """Of everything under this name, one that the job knows; the unit first. Raises
    `DamagedJournal`."""
    found = overview.types(journal, job, entity)
    if not found:
        raise DamagedJournal(journal.path, f"no event of job {job} tells what {entity} is")
    return [_story(journal, job, entity, each) for each in found]


def _story(journal: SqliteJournal, job: JobId, entity: str, kind: Type) -> StoryReport:
    own = _own(journal, job, entity, kind)
    events = [recorded.event for recorded in own]
    recorded, requested = audit.request(journal, job)
    teller = Teller(runs_of(audit.find(journal, Wanted(job, kind="run_started"))))
    told = list(merge(own, *_undone(journal, job, entity), key=lambda each: each.seq))
    teller.hear(told)
    what = _what(journal, job, entity, kind, events)
    parts = tuple(_parts_of(journal, job, own)) if kind == "chunk" else ()
    return StoryReport(
        job=job,
        entity=entity,
        type=kind,
        asked=_asked(recorded, requested),
        what=what,
        history=tuple(teller.history),
        parts=_parts(journal, job, requested.spec, entity) if kind == "unit" else None,
        stages=teller.stages(),
        replaces=_replaced(journal, job, own) if kind == "chunk" else "",
        replaced_by=parts,
        standing=_standing(journal, job, kind, what, teller, events, requested, parts),
        clock_went_back=teller.clock_went_back,
        proof=proof(told),
    )


def _own(journal: SqliteJournal, job: JobId, entity: str, kind: Type) -> list[Recorded]:
    """Its events; of the job also what its pools went through."""
    own = audit.find(journal, Wanted(job, entity=entity, type=kind))
    if (kind, entity) != ("job", THE_JOB):
        return list(own)
    pools = audit.find(journal, Wanted(job, kind="breaker_*"))
    return list(merge(own, pools, key=lambda recorded: recorded.seq))


def _undone(journal: SqliteJournal, job: JobId, entity: str) -> Iterator[Iterator[Recorded]]:
    """What became of it when the job was taken back."""
    if entity != THE_JOB:
        for kind in sorted(OPERATIONS):
            undo = undo_task(kind, entity).entity
            yield audit.find(journal, Wanted(job, entity=undo, type="job"))


def _parts_of(journal: SqliteJournal, job: JobId, own: Sequence[Recorded]) -> list[str]:
    """The chunks that took this one's place: planned next."""
    replaced = [each.seq for each in own if isinstance(each.event, ChunkReplaced)]
    if not replaced:
        return []
    found = audit.find(journal, Wanted(job, kind="chunk_planned", after=replaced[-1]))
    return [each.event.about for each in islice(found, _count(own))]


def _count(own: Sequence[Recorded]) -> int:
    split = [each.event.chunks for each in own if isinstance(each.event, SplitCompleted)]
    return split[-1] if split else 1


def _replaced(journal: SqliteJournal, job: JobId, own: Sequence[Recorded]) -> str:
    """The chunk whose place this one took."""
    planned = next((each.seq for each in own if isinstance(each.event, ChunkPlanned)), 0)
    before = audit.find(journal, Wanted(job, kind="chunk_replaced", until=planned), tail=1)
    for replaced in before:
        whole = replaced.event.about
        its = list(audit.find(journal, Wanted(job, entity=whole, type="chunk")))
        if own[0].event.about in _parts_of(journal, job, its):
            return whole
    return ""


def _asked(recorded: Recorded, event: JobRequested) -> Asked:
    return Asked(
        by=event.by,
        at=when(recorded.recorded_at_ms),
        kind=event.spec.kind,
        source=event.spec.source,
        target=event.spec.target,
    )


def _what(
    journal: SqliteJournal, job: JobId, entity: str, kind: Type, own: Sequence[AnyEvent]
) -> dict[str, Any]:
    """The fields of the event that brought the entity into the job."""
    if kind in ("job", "pool"):
        return {}
    if kind == "index":
        return _index(journal, job, entity)
    brought = UnitRegistered if kind == "unit" else ChunkPlanned
    for event in own:
        if isinstance(event, brought):
            return _fields(event)
    raise DamagedJournal(journal.path, f"no event brings the {kind} {entity} into job {job}")


def _fields(event: Event) -> dict[str, Any]:
    return event.model_dump(mode="json", exclude={"kind"})


def _index(journal: SqliteJournal, job: JobId, entity: str) -> dict[str, Any]:
    unit = UnitId(entity.rpartition("@")[0])
    found = audit.find(journal, Wanted(job, entity=unit, kind="unit_registered"))
    for registered in (recorded.event for recorded in found):
        assert isinstance(registered, UnitRegistered)
        for index in registered.indexes:
            if index_task(unit, index.name).entity == entity:
                return {"unit": unit, **index.model_dump(mode="json")}
    return {"unit": unit, "name": entity.rpartition("@")[2]}


def _parts(journal: SqliteJournal, job: JobId, spec: JobSpec, unit: str) -> Parts:
    counts = overview.tally(journal, job, unit)

    def ending(verb: str) -> int:
        return sum(count.events for kind, count in counts.items() if kind.endswith(verb))

    nothing = overview.Count()
    dumped, restored, copied = (
        counts.get(f"{way}_completed", nothing) for way in ("dump", "restore", "copy")
    )
    carried = (dumped,) if keeps_files(spec) else (restored, copied)
    verified = counts.get("verify_completed", nothing)
    return Parts(
        chunks=ending("chunk_planned") - ending("chunk_replaced"),
        dumped=dumped.events - ending("dump_invalidated"),
        restored=restored.events,
        copied=copied.events,
        verified=verified.events,
        differing=verified.differing,
        documents=sum(count.documents for count in carried),
        bytes=sum(count.bytes for count in carried),
        rejected=sum(count.rejected for count in carried),
        retries=ending("_retry_scheduled"),
        lost=ending("_in_doubt"),
        dead_letters=ending("_dead_lettered"),
    )


def _standing(
    journal: SqliteJournal,
    job: JobId,
    kind: Type,
    what: dict[str, Any],
    teller: Teller,
    own: Sequence[AnyEvent],
    requested: JobRequested,
    parts: Sequence[str],
) -> str:
    of_job = _events(journal, Wanted(job, entity=THE_JOB))
    if kind == "job":
        return job_standing(of_job)
    if kind == "pool":
        return f"{pool_standing(own)} {job_standing(of_job)}"
    unit = what["unit"]
    of_unit = list(audit.find(journal, Wanted(job, entity=unit, kind="unit_[cse]*")))
    left = any(each.event.kind in ("unit_skipped", "unit_excluded") for each in of_unit)
    if kind == "unit" or (left and not parts):
        reopened = _reopened(journal, job, unit, of_unit)
        events = own if kind == "unit" else ()
        text = unit_standing([each.event for each in of_unit], reopened=reopened, own=events)
    elif kind == "chunk":
        text = chunk_standing(requested.spec, teller.statuses, own, parts)
    else:
        text = index_standing(teller.statuses, own)
    return f"{text} {job_standing(of_job)}"


def _reopened(journal: SqliteJournal, job: JobId, unit: str, of_unit: Sequence[Recorded]) -> bool:
    """Whether a chunk of the unit was replaced since it was finished."""
    after = of_unit[-1].seq if of_unit else 0
    replaced = audit.find(journal, Wanted(job, kind="chunk_replaced", after=after))
    return any(each.event.about.rpartition("#")[0] == unit for each in replaced)


def _events(journal: SqliteJournal, wanted: Wanted) -> list[AnyEvent]:
    return [recorded.event for recorded in audit.find(journal, wanted)]
