"""`ferrylog dump`: a deployment to a folder of chunk files, a mongodump directory, an archive."""

from functools import partial
from typing import Annotated, Literal

import typer

from ferrylog.cli import limits as limited
from ferrylog.cli import options as o
from ferrylog.cli.beginning import same_job, start_or_continue
from ferrylog.cli.chains import increment_of
from ferrylog.cli.ends import archive_at, end_at
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import defaults, run_settings
from ferrylog.errors import Usage
from ferrylog.jobs import journal_to_write
from ferrylog.wiring import deployment
from statemachine.events import JobSpec
from statemachine.state import is_stored

Form = Literal["chunks", "mongodump", "archive"]
Squeeze = Literal["none", "zstd", "gzip"]


def dump(
    source: o.SourceOrUri = None,
    source_uri_file: o.SourceFile = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR|URL",
            help="Made if it is not there; or s3://, gs://, az:// with bucket and prefix.",
        ),
    ] = None,
    layout: Annotated[
        o.Layout, typer.Option(help="ferrylog's own, or mongodump's.")
    ] = o.Layout.CHUNKS,
    archive: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="mongodump's archive instead; - is standard output."),
    ] = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="For mongodump's layouts.")] = False,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Only what changed since the last link in --out."),
    ] = False,
    keep_log: Annotated[
        bool,
        typer.Option("--keep-log", help="Of an increment: each change too, for restore --at."),
    ] = False,
    capture_memory: Annotated[
        int | None,
        typer.Option(metavar="BYTES", min=1 << 20, help="Of an increment, for changed keys."),
    ] = None,
    db: o.Database = None,
    collection: o.Collection = None,
    ns_include: o.Include = None,
    ns_exclude: o.Exclude = None,
    query: o.Query = None,
    users_and_roles: o.Users = False,
    consistency: o.AsOf = o.Consistency.FUZZY,
    chunk_docs: o.ChunkDocs = o.CHUNK_DOCS,
    chunk_bytes: o.ChunkBytes = o.CHUNK_BYTES,
    compression: Annotated[o.DumpCompression | None, typer.Option()] = None,
    dump_workers: o.DumpWorkers = None,
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
    read_preference: o.Preference = None,
    new: o.New = False,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Dump a deployment, or some of it: resumable, every chunk journaled."""
    common = o.Common(journal, json, verbose, quiet)
    include, exclude = o.selection(db, collection, ns_include, ns_exclude)
    target = _target(out, archive, layout)
    if is_stored(target) and (incremental or layout is not o.Layout.CHUNKS):
        raise Usage(
            "a store takes whole dumps of ferrylog's own layout, without increments",
            remedy="write it to a folder; what lies there may be copied to a store by any tool",
        )
    form: Form = "archive" if archive is not None else layout.value
    packed = _compression(form, compression, gzip=gzip)
    if archive == "-" and json:
        raise Usage("standard output cannot take both the archive and --json")
    uri = o.uri("source", source, source_uri_file)
    given = partial(
        run_settings,
        dump_workers=dump_workers,
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
        read_preference=read_preference,
        capture_bytes=capture_memory,
    )
    if keep_log and not incremental:
        raise Usage("--keep-log is for increments", remedy="add --incremental")
    with deployment("source", uri) as side:
        assert side is not None
        spec = JobSpec(
            kind="dump",
            mode="coordinated",
            source=side.where,
            target=target,
            source_id=side.identity,
            target_id=target,
            include=include,
            exclude=exclude,
            chunk_docs=chunk_docs,
            chunk_bytes=chunk_bytes,
            compression=packed,
            write_concern="majority",
            drop=False,
            on_conflict="stop",
            verify=False,
            layout=form,
            queries=o.queries(query),
            users=users_and_roles,
            consistency=consistency.value,
        )
        if incremental:
            spec = increment_of(spec, keep_log=keep_log)
        with journal_to_write(journal) as written:
            same = None if new else same_job(written, spec)
            settings = given(same[1].state.settings) if same else given(defaults(uri))
            with a_run(common, written, (side, None), settings) as run:
                end(common, written, start_or_continue(run, spec, same, anew=new))


def _target(out: str | None, archive: str | None, layout: o.Layout) -> str:
    """Raises `Usage`, `BadStoreUrl`."""
    if (out is None) == (archive is None):
        raise Usage("name where the dump goes, once", remedy="--out DIR or --archive FILE")
    if archive is not None and layout is not o.Layout.CHUNKS:
        raise Usage("--layout is for directories; an archive has its own")
    return archive_at(archive) if archive is not None else end_at(out or "")


def _compression(form: Form, wanted: o.DumpCompression | None, *, gzip: bool) -> Squeeze:
    """Of the files that are left at the end."""
    if gzip and wanted not in (None, o.DumpCompression.GZIP):
        raise Usage(f"--gzip and --compression {wanted} contradict each other")
    zipped = gzip or wanted is o.DumpCompression.GZIP
    if form == "chunks":
        if zipped:
            raise Usage(
                "chunk files are compressed by zstd or not at all",
                remedy="--compression zstd, or --layout mongodump --gzip",
            )
        return "none" if wanted is o.DumpCompression.NONE else "zstd"
    if wanted is o.DumpCompression.ZSTD:
        raise Usage("mongodump's layouts know gzip only", remedy="--gzip")
    return "gzip" if zipped else "none"
