"""`ferrylog start`: a migration, from nothing to verified."""

from functools import partial
from typing import Annotated

import typer

from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.cli.plan import SAME_WORK, end_plan
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import defaults, run_settings
from ferrylog.engine import Engine
from ferrylog.errors import OtherSettings, Usage
from ferrylog.jobs import journal_to_write, without_end
from ferrylog.past import Past
from ferrylog.wiring import Run, deployments
from journal.errors import JobMoved
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec
from statemachine.words import JobId, JobStatus

MAX_MEMBERS = 50
"""Of a replica set."""


def start(
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    db: o.Database = None,
    collection: o.Collection = None,
    ns_include: o.Include = None,
    ns_exclude: o.Exclude = None,
    mode: Annotated[
        o.Mode,
        typer.Option(
            envvar="FERRYLOG_MODE",
            help="By chunk files and two pools of workers, or straight to the target.",
        ),
    ] = o.Mode.COORDINATED,
    chunk_docs: Annotated[int, typer.Option(min=1, help="Documents per chunk, about.")] = 100_000,
    chunk_bytes: Annotated[int, typer.Option(min=1024, help="Bytes per chunk, about.")] = 64 << 20,
    dump_workers: o.DumpWorkers = None,
    restore_workers: o.RestoreWorkers = None,
    max_retries: o.MaxRetries = None,
    on_exhausted: o.Exhausted = None,
    retry: o.RetryPolicy = None,
    jitter: o.RetryJitter = None,
    retry_base: o.RetryBase = None,
    retry_cap: o.RetryCap = None,
    patience: o.Patience = None,
    breaker_failures: o.BreakerFailures = None,
    tick: o.Timer = None,
    read_preference: o.Preference = None,
    compression: Annotated[o.Compression, typer.Option()] = o.Compression.ZSTD,
    drop: Annotated[bool, typer.Option("--drop", help="Replace what the target has.")] = False,
    on_conflict: Annotated[
        o.OnConflict, typer.Option(help="Another document under the same _id.")
    ] = o.OnConflict.STOP,
    write_concern: Annotated[
        str, typer.Option("--write-concern", "--writeConcern", help="majority or a number > 1.")
    ] = "majority",
    verify: Annotated[bool, typer.Option(help="Compare source and target.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Plan and foresee; write nothing.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Even if one is unfinished.")] = False,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Migrate: plan, dump chunks, restore chunks, build indexes, verify."""
    common = o.Common(journal, json, verbose, quiet)
    include, exclude = o.selection(db, collection, ns_include, ns_exclude)
    uris = o.uri("source", source, source_uri_file), o.uri("target", target, target_uri_file)
    given = partial(
        run_settings,
        dump_workers=dump_workers,
        restore_workers=restore_workers,
        max_retries=max_retries,
        on_exhausted=on_exhausted,
        work_dir=work_dir,
        retry=retry,
        jitter=jitter,
        retry_base=retry_base,
        retry_cap=retry_cap,
        patience=patience,
        breaker_failures=breaker_failures,
        tick=tick,
        read_preference=read_preference,
    )
    fresh = given(defaults(uris[0]))
    several = o.whole_number(write_concern) and 1 < int(write_concern) <= MAX_MEMBERS
    if write_concern != "majority" and not several:
        raise Usage(
            f"write concern {write_concern!r} may lose acknowledged documents in a failover",
            remedy=f"majority, or a number of members from 2 to {MAX_MEMBERS}",
        )
    with deployments(*uris) as sides:
        spec = JobSpec(
            kind="plan" if dry_run else "migrate",
            mode=mode.value,
            source=sides[0].where,
            target=sides[1].where,
            source_id=sides[0].identity,
            target_id=sides[1].identity,
            include=include,
            exclude=exclude,
            chunk_docs=chunk_docs,
            chunk_bytes=chunk_bytes,
            compression=compression.value,
            write_concern=write_concern,
            drop=drop,
            on_conflict=on_conflict.value,
            verify=verify,
        )
        with journal_to_write(journal) as written:
            same = None if new else _same_job(written, spec)
            settings = given(same[1].state.settings) if same is not None else fresh
            with a_run(common, written, sides, settings) as run:
                engine = _start_or_continue(run, spec, same)
                if dry_run:
                    end_plan(common, run, engine)
                end(common, written, engine)


def _start_or_continue(run: Run, spec: JobSpec, same: tuple[JobId, Past] | None) -> Engine:
    if same is None:
        return run.start(clock.new_job_id(), spec)
    job, past = same
    typer.echo(f"continuing the unfinished job {job}; --new would begin another", err=True)
    return run.resume(job, past)


def _same_job(journal: SqliteJournal, spec: JobSpec) -> tuple[JobId, Past] | None:
    """The newest unfinished job of the same work. Raises `OtherSettings`, and `JobMoved` when it
    goes on elsewhere."""
    for job, past in without_end(journal):
        known = past.state.spec
        assert known is not None
        if all(getattr(known, name) == getattr(spec, name) for name in ("kind", *SAME_WORK)):
            differing = [
                f"{name} was {getattr(known, name)}"
                for name in JobSpec.model_fields
                if name not in ("source", "target") and getattr(known, name) != getattr(spec, name)
            ]
            if past.state.status is JobStatus.MOVED:
                raise JobMoved(job, past.state.why)
            if differing:
                raise OtherSettings(job, differing)
            return job, past
    return None
