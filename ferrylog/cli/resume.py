"""`ferrylog resume`: `start` without the first stimulus."""

from ferrylog.cli import exporting as x
from ferrylog.cli import limits as limited
from ferrylog.cli import options as o
from ferrylog.cli import transforming as own
from ferrylog.cli.followed import end_followed
from ferrylog.cli.plan import end_plan
from ferrylog.cli.running import a_run, end, sides_of
from ferrylog.cli.settings import run_settings
from ferrylog.endpoints import endpoints_of
from ferrylog.errors import Usage
from ferrylog.jobs import find_job, journal_to_write, unfinished
from ferrylog.past import Past
from ferrylog.recall import recall
from journal.sqlite import SqliteJournal
from statemachine.state import DUMP
from statemachine.words import JobId


def resume(
    job: o.Job = None,
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    endpoint: o.Endpoints = None,
    endpoint_uri_file: o.EndpointFiles = None,
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
    transform_workers: own.Workers = None,
    transform_timeout: own.Timeout = None,
    worker_memory: x.WorkerMemory = None,
    read_preference: o.Preference = None,
    shards_in_flight: o.Shards = None,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Go on where the last acknowledged batch ended. Default: the newest unfinished job that is no
    dry run."""
    common = o.Common(journal, json, verbose, quiet)
    SqliteJournal.read_only(journal).close()  # must be there: resume makes no journal
    with journal_to_write(journal) as written:
        wanted, past = _wanted(written, job)
        spec, before = past.state.spec, past.state.settings
        assert spec is not None
        if json and spec.kind == "dump" and spec.target == f"{DUMP}-":
            raise Usage("standard output cannot take both the archive and --json")
        settings = run_settings(
            before,
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
            worker_memory=x.memory_of_worker(worker_memory),
            read_preference=read_preference,
            shards_in_flight=shards_in_flight,
        )
        with (
            sides_of(spec, source, source_uri_file, target, target_uri_file) as sides,
            endpoints_of(past.state, endpoint, endpoint_uri_file) as places,
            a_run(common, written, sides, settings, places) as run,
        ):
            engine = run.resume(wanted, past)
            if spec.kind == "plan":
                end_plan(common, run, engine)
            end_followed(common, written, sides, settings, engine)
            end(common, written, engine)


def _wanted(journal: SqliteJournal, job: str | None) -> tuple[JobId, Past]:
    newest = find_job(journal, job)
    if job is None:
        for going_on, its_past in unfinished(journal):
            if its_past.state.spec is not None and its_past.state.spec.kind != "plan":
                return going_on, its_past
    # With nothing unfinished the newest says again how it ended: a kill may have come just after.
    return newest, recall(journal, newest)
