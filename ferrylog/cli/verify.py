"""`ferrylog verify`: source against target, chunk by chunk; a job of its own, so it resumes."""

from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import typer
from pydantic import Field

from executors.select import is_literal
from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.cli.running import a_run, sides_of
from ferrylog.cli.settings import DEFAULTS, run_settings
from ferrylog.cli.verify_dump import verify_dump
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.jobs import find_migration, journal_to_write, spec_of, unfinished
from ferrylog.recall import recall
from ferrylog.redact import one_line
from ferrylog.views.model import Report, exit_code
from ferrylog.wiring import Run
from journal.sqlite import SqliteJournal
from statemachine.events import (
    Difference,
    FinishCompleted,
    JobSpec,
    MetadataDifference,
    VerifyCompleted,
)
from statemachine.state import DUMP, State, Unit, restores_chain, transforms
from statemachine.words import JobId, JobStatus, Status, TaskKey, TaskKind, UnitStatus

PIPE: Final = f"{DUMP}-"
"""Standard input or output as the end of a job."""


class VerifiedUnit(Report):
    namespace: str
    source_count: int
    target_count: int
    equal: bool
    differing: tuple[Difference, ...]
    metadata: tuple[MetadataDifference, ...] = ()
    """With `--metadata`: options and indexes that differ."""


class VerifyReport(Report):
    schema_: Literal["ferrylog.verify/1"] = Field("ferrylog.verify/1", alias="schema")
    job: str
    of: str
    status: str
    equal: bool
    units: tuple[VerifiedUnit, ...]


def verify(
    job: o.Job = None,
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR|URL", help="A dump alone, whatever made it."),
    ] = None,
    read_data_subset: Annotated[
        str,
        typer.Option(metavar="n/t|x%|SIZE", help="Of --from: read only this much of the data."),
    ] = "",
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Options, indexes and views too.")
    ] = False,
    dump_workers: o.DumpWorkers = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Compare counts and content digests of every chunk; exit 4 when they differ."""
    common = o.Common(journal, json, verbose, quiet)
    if from_ is not None:
        if job is not None or metadata:
            raise Usage("--from looks at a dump alone: no job, no --metadata")
        verify_dump(from_, common, read_data_subset, dump_workers or DEFAULTS.dump_workers)
        return
    if read_data_subset:
        raise Usage("--read-data-subset goes with --from DIR")
    settings = run_settings(dump_workers=dump_workers, restore_workers=1)
    SqliteJournal.read_only(journal).close()
    with journal_to_write(journal) as written:
        done = find_migration(written, job)
        spec = spec_of(written, done)
        if spec.incremental or restores_chain(spec):
            raise Usage(
                f"job {done} has to do with a chain, whose documents lie in several links",
                remedy="a restore with --verify reads every batch back; for the files: "
                "`ferrylog inspect chain DIR --check`",
            )
        if transforms(spec):
            raise Usage(
                f"the documents of job {done} went through code of your own: the source does not "
                "tell what the target should hold",
                remedy="a job compares each chunk with the target as it goes, unless --no-verify "
                f"was given: `ferrylog inspect events {done} --kind verify_completed`",
            )
        if spec.export is not None:
            raise Usage(
                f"job {done} is an export: what it wrote was counted and summed as it was written",
                remedy="its _manifest.json has the SHA-256 of each file; canonical JSON lines come "
                "back with `ferrylog restore --from`",
            )
        if PIPE in (spec.source, spec.target):
            raise Usage(
                f"the archive of job {done} came or went through a pipe",
                remedy="verify with the source, or keep the archive",
            )
        with (
            sides_of(spec, source, source_uri_file, target, target_uri_file) as sides,
            a_run(common, written, sides, settings) as run,
        ):
            report, code = compare(run, written, done, spec, metadata=metadata)
    tell(common, report)
    raise typer.Exit(code)


def compare(
    run: Run, journal: SqliteJournal, done: JobId, spec: JobSpec, *, metadata: bool
) -> tuple[VerifyReport, int]:
    """What `done` left, beside what it was made of; and the exit code that this means."""
    engine = _verify(run, journal, done, spec, metadata=metadata)
    report = _report(journal, engine, done)
    code = exit_code(engine.state)
    return report, code if report.equal or code != 0 else 4


def tell(common: o.Common, report: VerifyReport) -> None:
    typer.echo(report.as_json() if common.json else _text(report))


def _verify(
    run: Run, journal: SqliteJournal, done: JobId, spec: JobSpec, *, metadata: bool
) -> Engine:
    include, exclude = _selection(spec, recall(journal, done).state)
    wanted = spec.model_copy(
        update={
            "kind": "verify",
            "of": done,
            "verify": True,
            "metadata": metadata,
            "consistency": "fuzzy",
            "include": include,
            "exclude": exclude,
            "follow": False,
        }
    )
    for job, past in unfinished(journal):
        if past.state.spec == wanted:
            return run.resume(job, past)
    return run.start(clock.new_job_id(), wanted)


def _selection(spec: JobSpec, state: State) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Include and exclude of a job that compares what a job carries now: with what was added to
    it, without what was left out of it."""
    if any(
        is_literal(name) and fnmatchcase(name, glob)
        for name in state.added
        for glob in spec.exclude
    ):
        # Added in spite of an exclude, as no two lists of globs can say: one by one.
        left = [unit.id for unit in state.units.values() if unit.status is not UnitStatus.EXCLUDED]
        return tuple(map(o.literal, left)), () if left else ("*",)
    include = (*spec.include, *state.added) if spec.include else ()
    out = [unit.id for unit in state.units.values() if unit.status is UnitStatus.EXCLUDED]
    return include, (*spec.exclude, *map(o.literal, out))


def _report(journal: SqliteJournal, engine: Engine, of: JobId) -> VerifyReport:
    differing: dict[str, list[Difference]] = {}
    metadata: dict[str, list[MetadataDifference]] = {}
    for recorded in journal.read(engine.job):
        event = recorded.event
        if isinstance(event, VerifyCompleted) and not event.equal:
            unit = event.entity.rpartition("#")[0]
            differing.setdefault(unit, []).extend(event.differing)
        elif isinstance(event, FinishCompleted):
            metadata[event.entity] = list(event.differing)
    units = _units(engine.state, differing, metadata) + _gone(journal, engine.state, of)
    return VerifyReport(
        job=engine.job,
        of=of,
        status=engine.state.status,
        equal=engine.state.status is JobStatus.COMPLETED and all(unit.equal for unit in units),
        units=units,
    )


def _units(
    state: State,
    differing: dict[str, list[Difference]],
    metadata: dict[str, list[MetadataDifference]],
) -> tuple[VerifiedUnit, ...]:
    views = state.spec is not None and state.spec.metadata
    return tuple(
        _unit(state, unit, differing.get(unit.id, []), metadata.get(unit.id, []))
        for unit in state.units.values()
        if unit.type != "view" or views
    )


def _unit(
    state: State, unit: Unit, differing: list[Difference], last: list[MetadataDifference]
) -> VerifiedUnit:
    """Equal is only what was compared from end to end. `last`: what its last touch told, which
    counts documents beside those of a dump."""
    touch = state.tasks.get(TaskKey(TaskKind.FINISH, unit.id))
    whole = unit.status is UnitStatus.COMPLETED and not unit.dropped
    lost = touch is not None and touch.status is Status.FAILED
    source, target = unit.source_documents, unit.target_documents
    beside, metadata = list[Difference](), list[MetadataDifference]()
    for each in last:
        what, _, key = each.what.partition(": _id ")
        if what == "documents":
            source, target = max(source, int(each.source)), max(target, int(each.target))
        elif key and what in ("extra", "missing"):
            beside.append(Difference.model_validate({"key": key, "what": what}))
        else:
            metadata.append(each)
    return VerifiedUnit(
        namespace=unit.id,
        source_count=source,
        target_count=target,
        equal=whole and not (lost or unit.mismatched or unit.differing),
        differing=(*differing, *beside),
        metadata=tuple(metadata),
    )


def _gone(journal: SqliteJournal, state: State, of: JobId) -> tuple[VerifiedUnit, ...]:
    """Collections that the job moved and the source does not have any more: not equal, because
    nobody can tell."""
    done = recall(journal, of).state
    if done.spec is not None and done.spec.follow:  # what the source dropped, the target did too
        return ()
    moved = done.units.values()
    return tuple(
        VerifiedUnit(
            namespace=unit.id,
            source_count=0,
            target_count=unit.restored_documents,
            equal=False,
            differing=(),
        )
        for unit in moved
        if unit.type != "view"
        and unit.id not in state.units
        and unit.status is not UnitStatus.EXCLUDED
    )


def _described(each: MetadataDifference) -> str:
    source, target = each.source or "none", each.target or "none"
    return f"{each.what}: {source} on the source, {target} on the target"


def _text(report: VerifyReport) -> str:
    lines = [
        f"{'equal  ' if unit.equal else 'DIFFERS'}  {one_line(unit.namespace)}: "
        f"{unit.source_count:,} documents on the source, {unit.target_count:,} on the target"
        + "".join(f"\n    {each.what}: _id {one_line(each.key)}" for each in unit.differing)
        + "".join(f"\n    {one_line(_described(each))}" for each in unit.metadata)
        for unit in report.units
    ]
    verdict = "source and target are equal" if report.equal else "source and target DIFFER"
    return "\n".join([*lines, verdict if report.status == "completed" else report.status])
