"""Options of exports, and what they turn into. Guide: docs/export.md."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

from executors.boundaries import from_json
from ferrylog.cli import limits as limited
from ferrylog.cli import options as o
from ferrylog.cli import transforming as own
from ferrylog.cli.ends import end_at
from ferrylog.cli.environment import worker_memory
from ferrylog.cli.settings import run_settings
from ferrylog.clock import when
from ferrylog.errors import Usage
from statemachine.events import ExportSpec, RunSettings
from statemachine.limits import MAX_WORKERS
from statemachine.words import BsonText

CHUNK_BYTES: Final = 512 << 20
"""A chunk ends at 100,000 documents (G1), and before that only where these are larger than 5 KB:
each becomes a file or more, and readers want few and large ones. Nothing of this size is held in
memory; it bounds what a kill has done again, and the draft on the disk."""
PARTS: Final = ("year", "month", "day")
"""Of a date, by which documents may be parted."""


class Format(StrEnum):
    PARQUET = "parquet"
    JSONL = "jsonl"


class Types(StrEnum):
    EXCHANGE = "exchange"
    NATIVE = "native"


class JsonForm(StrEnum):
    CANONICAL = "canonical"
    RELAXED = "relaxed"


class Empty(StrEnum):
    FILE = "file"
    NONE = "none"


Source = Annotated[
    str | None,
    typer.Option(
        "--source", "--uri", envvar="FERRYLOG_SOURCE", metavar="URI",
        help="Or MONGO_URI; MONGO_USERNAME, MONGO_PASSWORD and MONGO_AUTH_SOURCE (admin) join "
        "one without a user.",
    ),
]  # fmt: skip
Out = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", envvar="FERRYLOG_OUT", metavar="DIR|URL",
        help="A folder, or s3://, gs://, az:// with bucket and prefix; or GCS_BUCKET and "
        "GCS_PREFIX (a bucket needs no GCP_PROJECT_ID).",
    ),
]  # fmt: skip

WorkerMemory = Annotated[
    str | None,
    typer.Option(
        "--worker-memory",
        envvar="FERRYLOG_WORKER_MEMORY",
        metavar="BYTES|2g",
        help="Of each worker of an export, kept by writing earlier; default 8g, or "
        "MAX_MEMORY_USAGE_GB.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which documents."""

    db: Annotated[str | None, typer.Option("--db", "-d", help="One database; or MONGO_DB.")] = None
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection", "-c",
            help="One collection of --db, may be given again; or MONGO_COLLECTION.",
        ),
    ] = None  # fmt: skip
    ns_include: o.Include = None
    ns_exclude: o.Exclude = None
    query: o.Query = None
    consistency: o.AsOf = o.Consistency.FUZZY
    chunk_docs: Annotated[
        int,
        typer.Option(
            "--chunk-docs", min=1, envvar=["FERRYLOG_CHUNK_DOCS", "CHUNK_SIZE"],
            help="Documents per chunk, about.",
        ),
    ] = o.CHUNK_DOCS  # fmt: skip
    chunk_bytes: o.ChunkBytes = CHUNK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Of the user's own, through which documents go."""

    transform: own.Transform = None
    validate: own.Validate = None
    max_malformed: own.Malformed = own.MAX_MALFORMED

    def names(self) -> tuple[str, str]:
        """As a job keeps them. Raises `Usage`."""
        return own.names(self.transform, self.validate, o.Mode.COORDINATED, follow=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What an export leaves."""

    format: Annotated[
        Format,
        typer.Option(
            "--format", envvar=["FERRYLOG_FORMAT", "OUTPUT_FORMAT"], case_sensitive=False,
            help="Columns, or one JSON document a line.",
        ),
    ] = Format.PARQUET  # fmt: skip
    types: Annotated[
        Types | None,
        typer.Option(
            "--types",
            help="Of Parquet: exchange, which every reader knows (default), or native, which "
            "keeps BSON's own.",
        ),
    ] = None
    json_form: Annotated[
        JsonForm | None,
        typer.Option(
            "--json-form", help="Of JSONL: canonical, which is exact (default), or relaxed."
        ),
    ] = None
    compression: Annotated[o.DumpCompression, typer.Option()] = o.DumpCompression.ZSTD
    projection: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Only these fields, as of find(): '{\"name\": 1}'."),
    ] = None
    partition: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD[:year|month|day]",
            help="Of Parquet: folders FIELD=value, by a field or its date.",
        ),
    ] = None
    dated: Annotated[
        bool, typer.Option("--dated", help="Into a folder YYYY-MM-DD of the day it begins (UTC).")
    ] = False
    since: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Only what is new since the last such export, by a field that only grows.",
        ),
    ] = None
    empty: Annotated[
        Empty, typer.Option("--empty", help="What a collection without documents leaves.")
    ] = Empty.FILE
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export that lies there.")
    ] = False

    def spec(self, now_ms: int) -> ExportSpec:
        """As a job keeps it that begins now. Raises `Usage`."""
        if self.types is not None and self.format is not Format.PARQUET:
            raise Usage("--types is for --format parquet", remedy="see --json-form")
        if self.json_form is not None and self.format is not Format.JSONL:
            raise Usage("--json-form is for --format jsonl", remedy="see --types")
        if self.partition is not None and self.format is not Format.PARQUET:
            raise Usage("--partition is for --format parquet", remedy="leave it out")
        return ExportSpec(
            format=self.format.value,
            types=(self.types or Types.EXCHANGE).value,
            json_form=(self.json_form or JsonForm.CANONICAL).value,
            projection=_projection(self.projection),
            partition=_partition(self.partition),
            prefix=self._prefix(now_ms),
            since=_field("--since", self.since),
            empty=self.empty.value,
            overwrite=self.overwrite,
        )

    def _prefix(self, now_ms: int) -> str:
        """Each of several exports of what is new has a folder of its own."""
        began = when(now_ms)
        time = re.sub(r"[-:]|\.\d+", "", began)
        return "/".join([began[:10]] * self.dated + [time] * (self.since is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How an export runs: what may change from run to run."""

    transform_workers: own.Workers = None
    transform_timeout: own.Timeout = None
    dump_workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "--dump-workers", min=1, max=MAX_WORKERS,
            envvar=["FERRYLOG_DUMP_WORKERS", "MAX_WORKERS"],
            help="Chunks at the same time; default 4.",
        ),
    ] = None  # fmt: skip
    worker_memory: WorkerMemory = None
    max_retries: o.MaxRetries = None
    on_exhausted: o.Exhausted = None
    retry: o.RetryPolicy = None
    jitter: o.RetryJitter = None
    retry_base: o.RetryBase = None
    retry_cap: o.RetryCap = None
    patience: o.Patience = None
    breaker_failures: o.BreakerFailures = None
    breaker_wait: o.BreakerWait = None
    tick: o.Timer = None
    memory_limit: limited.Memory = None
    cpu_limit: limited.Processor = None
    disk_reserve: limited.Reserve = None
    read_docs_per_s: limited.ReadDocuments = None
    read_mb_per_s: limited.ReadMegabytes = None
    read_preference: o.Preference = None
    work_dir: o.WorkDir = None

    def settings(self, before: RunSettings | None) -> RunSettings:
        """With those of the run before where nothing was given. Raises `Usage`."""
        return run_settings(
            before,
            dump_workers=self.dump_workers,
            worker_memory=memory_of_worker(self.worker_memory),
            max_retries=self.max_retries,
            on_exhausted=self.on_exhausted,
            work_dir=self.work_dir,
            retry=self.retry,
            jitter=self.jitter,
            retry_base=self.retry_base,
            retry_cap=self.retry_cap,
            patience=self.patience,
            breaker_failures=self.breaker_failures,
            breaker_wait=self.breaker_wait,
            tick=self.tick,
            limits=limited.limits(
                self.memory_limit,
                self.cpu_limit,
                self.disk_reserve,
                (self.read_docs_per_s, self.read_mb_per_s),
                (None, None),
            ),
            transform_workers=self.transform_workers,
            transform_ms=own.timeout_ms(self.transform_timeout),
            read_preference=self.read_preference,
        )


def memory_of_worker(text: str | None) -> int | None:
    """Bytes. Raises `Usage`."""
    return limited.size("worker_memory", text) if text else worker_memory()


def target_of(out: str | None) -> str:
    """As a job keeps it: `file:` and a path, or the URL of a store. Raises `Usage`, and
    `BadStoreUrl` for a URL that is none: nothing of it is repeated, it may hold a key."""
    if not out:
        raise Usage("name where the export goes", remedy="--out DIR, or --out s3://bucket/prefix")
    return end_at(out)


def _projection(text: str | None) -> BsonText:
    if text is None:
        return BsonText("")
    try:
        return from_json(text)
    except ValueError as error:
        raise Usage(f"--projection is no Extended JSON: {error}") from None


def _partition(text: str | None) -> str:
    """What follows a colon is a part of a date."""
    field = _field("--partition", text)
    part = field.rpartition(":")[2] if ":" in field else PARTS[0]
    if part not in PARTS or field.startswith(":"):
        raise Usage(
            f"--partition {field!r} is no field", remedy=f"FIELD, or FIELD:{'|'.join(PARTS)}"
        )
    return field


def _field(option: str, text: str | None) -> str:
    if text is None:
        return ""
    if not text or text.startswith("$") or "\0" in text or "" in text.split("."):
        raise Usage(f"{option} {text!r} is no name of a field", remedy="such as updated_at")
    return text
