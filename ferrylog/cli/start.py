"""`ferrylog start`: a migration, from nothing to verified."""

from functools import partial
from typing import Annotated

import typer

from executors.select import renames_of
from ferrylog.cli import limits as limited
from ferrylog.cli import options as o
from ferrylog.cli import transforming as own
from ferrylog.cli.beginning import same_job, start_or_continue
from ferrylog.cli.followed import end_followed
from ferrylog.cli.plan import end_plan
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import defaults, run_settings
from ferrylog.errors import Usage
from ferrylog.jobs import journal_to_write
from ferrylog.wiring import deployments
from statemachine.events import JobSpec


def start(
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    db: o.Database = None,
    collection: o.Collection = None,
    ns_include: o.Include = None,
    ns_exclude: o.Exclude = None,
    ns_from: o.NsFrom = None,
    ns_to: o.NsTo = None,
    query: o.Query = None,
    users_and_roles: o.Users = False,
    consistency: o.AsOf = o.Consistency.FUZZY,
    mode: Annotated[
        o.Mode,
        typer.Option(
            envvar="FERRYLOG_MODE",
            help="By chunk files and two pools of workers, or straight to the target.",
        ),
    ] = o.Mode.COORDINATED,
    transform: own.Transform = None,
    validate: own.Validate = None,
    transform_workers: own.Workers = None,
    transform_timeout: own.Timeout = None,
    max_malformed: own.Malformed = own.MAX_MALFORMED,
    chunk_docs: own.ChunkDocs = None,
    chunk_bytes: o.ChunkBytes = o.CHUNK_BYTES,
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
    breaker_wait: o.BreakerWait = None,
    tick: o.Timer = None,
    memory_limit: limited.Memory = None,
    cpu_limit: limited.Processor = None,
    disk_reserve: limited.Reserve = None,
    read_docs_per_s: limited.ReadDocuments = None,
    read_mb_per_s: limited.ReadMegabytes = None,
    write_docs_per_s: limited.WriteDocuments = None,
    write_mb_per_s: limited.WriteMegabytes = None,
    batch: o.BatchPolicy = None,
    batch_ms: o.BatchTime = None,
    batch_docs: o.BatchDocs = None,
    read_preference: o.Preference = None,
    compression: Annotated[o.Compression, typer.Option()] = o.Compression.ZSTD,
    drop: o.Drop = False,
    swap: o.Swap = False,
    undo: o.Recorded = True,
    on_conflict: o.Conflicts = o.OnConflict.STOP,
    write_concern: o.WriteConcern = "majority",
    verify: o.Verify = True,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Then carry over what changes, until `ferrylog cutover` ends it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Plan and foresee; write nothing.")
    ] = False,
    new: o.New = False,
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
        breaker_wait=breaker_wait,
        tick=tick,
        limits=limited.limits(
            memory_limit,
            cpu_limit,
            disk_reserve,
            (read_docs_per_s, read_mb_per_s),
            (write_docs_per_s, write_mb_per_s),
        ),
        batch=batch,
        batch_ms=batch_ms,
        batch_docs=batch_docs,
        transform_workers=transform_workers,
        transform_ms=own.timeout_ms(transform_timeout),
        read_preference=read_preference,
    )
    fresh = given(defaults(uris[0]))
    o.must_be_safe(write_concern)
    if follow and consistency is o.Consistency.SNAPSHOT:
        raise Usage("what is followed is not as of one time", remedy="leave out --consistency")
    if follow and on_conflict is not o.OnConflict.STOP:
        raise Usage("following replaces what it finds under the same _id: --on-conflict stop only")
    if follow and swap:
        raise Usage("what is followed has its own name from the beginning", remedy="use --drop")
    code = own.names(transform, validate, mode, follow=follow)
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
            chunk_docs=own.chunk_docs(chunk_docs, transforms=any(code)),
            chunk_bytes=chunk_bytes,
            compression=compression.value,
            write_concern=write_concern,
            drop=drop or swap,
            swap=o.swap_token(swap),
            undo=undo,
            on_conflict=on_conflict.value,
            verify=verify,
            renames=renames_of(ns_from or (), ns_to or ()),
            queries=o.queries(query),
            users=users_and_roles,
            consistency=consistency.value,
            metadata=verify,
            follow=follow and not dry_run,
            transform=code[0],
            model=code[1],
        )
        with journal_to_write(journal) as written:
            same = None if new else same_job(written, spec)
            settings = given(same[1].state.settings) if same is not None else fresh
            with a_run(common, written, sides, settings) as run:
                engine = start_or_continue(run, spec, same, malformed=max_malformed)
                if dry_run:
                    end_plan(common, run, engine)
            end_followed(common, written, sides, settings, engine)
            end(common, written, engine)
