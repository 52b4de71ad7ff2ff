"""`ferrylog restore`: a dump of ours or of mongodump's to a deployment."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from executors.clients import Deployment
from executors.dumps.named import dump_path, identity_of, open_named, what_lies_there
from executors.select import renames_of
from ferrylog import clock
from ferrylog.cli import limits as limited
from ferrylog.cli import options as o
from ferrylog.cli.beginning import same_job, start_or_continue
from ferrylog.cli.chains import increments_foretold, links_wanted, must_be_no_chain
from ferrylog.cli.ends import archive_at, end_at
from ferrylog.cli.plan import end_plan
from ferrylog.cli.running import a_run, end, tell_end
from ferrylog.cli.settings import DEFAULTS, run_settings
from ferrylog.cli.several import (
    Interrupted,
    Placement,
    Seen,
    completed,
    in_turn,
    must_rest,
    places,
)
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.jobs import journal_to_write
from ferrylog.wiring import deployment
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec, RunSettings
from statemachine.state import DUMP, is_stored
from statemachine.words import JobStatus


def restore(
    dump: Annotated[
        str | None,
        typer.Argument(metavar="[DIR|URL]", help="As --from.", show_default=False),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|URL",
            help="A dump of ferrylog or mongodump, an export of JSONL, one .bson or .jsonl file; "
            "or s3://, gs://, az:// with bucket and prefix.",
        ),
    ] = None,
    archive: Annotated[
        str | None, typer.Option(metavar="FILE", help="An archive instead; - is standard input.")
    ] = None,
    to_increment: Annotated[
        int | None,
        typer.Option(min=0, help="Of a chain: up to this link; 0 is the full dump alone."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Of a chain: as of then, between links where a log was kept."
        ),
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="For the whole job, from now.")
    ] = None,
    increment_deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="For each increment.")
    ] = None,
    shards_in_flight: o.Shards = None,
    target: o.Targets = None,
    target_uri_file: o.TargetFiles = None,
    placement: Annotated[
        Placement | None,
        typer.Option(
            "--placement",
            help="Of several targets: which documents each of them gets, by their _id; range only "
            "of ferrylog's own dumps. Default: hash.",
        ),
    ] = None,
    db: o.Database = None,
    collection: o.Collection = None,
    ns_include: o.Include = None,
    ns_exclude: o.Exclude = None,
    ns_from: o.NsFrom = None,
    ns_to: o.NsTo = None,
    users_and_roles: o.Users = False,
    objcheck: Annotated[
        bool, typer.Option("--objcheck", help="Look at every byte before anything is written.")
    ] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Take what is whole from a damaged dump.")
    ] = False,
    legacy_indexes: Annotated[
        bool,
        typer.Option(
            "--convert-legacy-indexes",
            "--convertLegacyIndexes",
            help="Make index keys valid that old servers took.",
        ),
    ] = False,
    gzip: Annotated[bool, typer.Option("--gzip", hidden=True)] = False,
    drop: o.Drop = False,
    swap: o.Swap = False,
    undo: o.Recorded = True,
    on_conflict: o.Conflicts = o.OnConflict.STOP,
    write_concern: o.WriteConcern = "majority",
    verify: o.Verify = True,
    chunk_docs: o.ChunkDocs = o.CHUNK_DOCS,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Look at all of it; write nothing.")
    ] = False,
    new: o.New = False,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Restore a dump: all of it is looked at before the first write; resumable after a kill."""
    del gzip  # recognised by itself
    common = o.Common(journal, json, verbose, quiet)
    source = _source(dump, from_, archive)
    path, stored = source.removeprefix(DUMP), is_stored(source)
    if stored and (objcheck or salvage):
        raise Usage(
            "a dump in a store is read once: --objcheck and --salvage read it before",
            remedy=f"`ferrylog verify --from {path}` looks at every byte; or copy it to a disk",
        )
    into, (include, exclude) = "", o.selection(db, collection, ns_include, ns_exclude)
    if archive is None and not stored and what_lies_there(Path(path)) != "databases":
        into, include = _into(path, db, collection), tuple(ns_include or ())
    o.must_be_safe(write_concern)
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
        shards_in_flight=shards_in_flight,
    )
    links, moment = (0, "")
    if stored:
        must_be_no_chain(path, to_increment, at)
    elif archive is None:
        links, moment = links_wanted(Path(path), to_increment, at)
    elif to_increment is not None or at is not None:
        raise Usage("an archive is no chain", remedy="leave out --to-increment and --at")
    if (links or moment) and on_conflict is not o.OnConflict.STOP:
        raise Usage(
            "increments replace what they find under an _id or a unique value: into a target that "
            "has documents of its own they are not applied",
            remedy="--on-conflict stop, or --to-increment 0 for the full dump alone",
        )
    if (links or moment) and swap:
        raise Usage(
            "increments are applied to collections under their own names", remedy="use --drop"
        )
    unidentified = JobSpec(
        kind="plan" if dry_run else "restore",
        mode="coordinated",
        source=source,
        target="",
        source_id="",
        target_id="",
        include=include,
        exclude=exclude,
        chunk_docs=chunk_docs,
        chunk_bytes=chunk_bytes,
        compression="zstd",
        write_concern=write_concern,
        drop=drop or swap,
        swap=o.swap_token(swap),
        undo=undo,
        on_conflict=on_conflict.value,
        verify=verify,
        layout="chunks" if archive is None else "archive",
        into=into,
        renames=renames_of(ns_from or (), ns_to or ()),
        users=users_and_roles,
        metadata=verify,
        objcheck=objcheck,
        salvage=salvage,
        legacy_indexes=legacy_indexes,
        links=links,
        at=moment,
        increment_ms=round((increment_deadline or 0) * 1000),
    )
    uris = o.uris("target", target, target_uri_file)
    placed = places(len(uris), placement)
    _must_be_placeable(unidentified, placed)
    source_id, seen = identity_of(unidentified), Seen()

    def carry(uri: str, place: str) -> None:
        with deployment("target", uri) as side:
            assert side is not None
            seen.add(side)
            spec = unidentified.model_copy(
                update={
                    "source_id": source_id,
                    "target": side.where,
                    "target_id": side.identity,
                    "place": place,
                    "deadline_ms": clock.now_ms() + round(deadline * 1000) if deadline else 0,
                }
            )
            with journal_to_write(journal) as written:
                _carry(common, written, side, spec, given, new=new)

    if len(uris) > 1:
        in_turn(common, uris, placed, carry)
    carry(uris[0], "")


def _carry(
    common: o.Common,
    written: SqliteJournal,
    side: Deployment,
    spec: JobSpec,
    given: Callable[[RunSettings | None], RunSettings],
    *,
    new: bool,
) -> NoReturn:
    """The job of one target, to its end. Of one that is done already only that is told."""
    if spec.place and not new and (done := completed(written, spec)):
        typer.echo(f"job {done[0]} has done this; --new would do it once more", err=True)
        end(common, written, Engine(written, *done))
    same = None if new else same_job(written, spec)
    if same is not None and dump_path(spec) == "-":
        raise Usage(
            f"job {same[0]} is unfinished, and nobody can tell whether this is its archive",
            remedy=f"`ferrylog resume {same[0]} <ARCHIVE`, or --new",
        )
    settings = given(same[1].state.settings if same else DEFAULTS)
    with a_run(common, written, (None, side), settings) as run:
        engine = start_or_continue(run, spec, same)
        if spec.kind == "plan":
            if spec.links or spec.at:
                typer.echo(increments_foretold(spec), err=True)
            end_plan(common, run, engine)
        code = tell_end(common, written, engine)
    ended = engine.state.status in (JobStatus.COMPLETED, JobStatus.FAILED)
    asked = spec.place and not ended and must_rest(written, engine.job)
    raise Interrupted(code) if asked else typer.Exit(code)


def _must_be_placeable(spec: JobSpec, placed: list[str]) -> None:
    """Raises `Usage` for what can only go to one target, or not by ranges."""
    if len(placed) == 1:
        return
    if spec.at:
        raise Usage(
            "a log is replayed to one target only: what it changes is not told apart by _id",
            remedy="--to-increment, or --at a time at which a link ends",
        )
    if dump_path(spec) == "-":
        raise Usage("standard input can be read but once", remedy="--archive FILE")
    ranges = placed[0].startswith(Placement.RANGE)
    if ranges and (spec.layout == "archive" or open_named(spec).layout != "chunks"):
        raise Usage(
            "only a dump of ferrylog's own layout knows ranges of _id", remedy="--placement hash"
        )


def _source(dump: str | None, from_: str | None, archive: str | None) -> str:
    """Raises `Usage`, `BadStoreUrl`."""
    named = [each for each in (dump, from_, archive) if each is not None]
    if len(named) != 1:
        raise Usage("name the dump, once", remedy="--from DIR, or --archive FILE")
    return archive_at(archive) if archive is not None else end_at(named[0])


def _into(path: str, db: str | None, collections: list[str] | None) -> str:
    """Where documents go that lie in files without the name of a database around them."""
    if db is None:
        raise Usage(
            f"{path} does not say which database its documents belong to",
            remedy="-d DB, and -c COLLECTION for one .bson file",
        )
    o.must_be_database(db)
    if len(collections or ()) > 1:
        raise Usage("one file becomes one collection", remedy="give -c once")
    return f"{db}.{collections[0]}" if collections else db
