"""Options that commands share, and what they turn into."""

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from executors.boundaries import from_json
from ferrylog.cli.moment import parse_moment
from ferrylog.errors import Usage
from ferrylog.logs import configure
from ferrylog.redact import learn
from journal.evidence import read_key
from journal.sqlite import SqliteJournal
from statemachine.limits import AT_MOST, MAX_WORKERS
from statemachine.words import BsonText, JobId

DEFAULT_JOURNAL = Path("ferrylog.db")
MAX_MEMBERS = 50
"""Of a replica set."""


class Mode(StrEnum):
    COORDINATED = "coordinated"
    DIRECT = "direct"


class OnExhausted(StrEnum):
    PAUSE = "pause"
    SKIP_UNIT = "skip-unit"
    FAIL_JOB = "fail-job"


class OnConflict(StrEnum):
    STOP = "stop"
    SKIP = "skip"
    OVERWRITE = "overwrite"


class Retry(StrEnum):
    NONE = "none"
    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Jitter(StrEnum):
    NONE = "none"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


class ReadPreference(StrEnum):
    PRIMARY = "primary"
    PRIMARY_PREFERRED = "primaryPreferred"
    SECONDARY = "secondary"
    SECONDARY_PREFERRED = "secondaryPreferred"
    NEAREST = "nearest"


class Batch(StrEnum):
    ADAPTIVE = "adaptive"
    DOCUMENT = "document"
    FIXED = "fixed"


class Compression(StrEnum):
    NONE = "none"
    ZSTD = "zstd"


class DumpCompression(StrEnum):
    NONE = "none"
    ZSTD = "zstd"
    GZIP = "gzip"


class Layout(StrEnum):
    CHUNKS = "chunks"
    MONGODUMP = "mongodump"


class Consistency(StrEnum):
    FUZZY = "fuzzy"
    SNAPSHOT = "snapshot"


Journal = Annotated[
    Path,
    typer.Option(
        "--journal", envvar="FERRYLOG_JOURNAL", resolve_path=True, help="The journal file."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Every small step.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Errors only.")]
Job = Annotated[str | None, typer.Argument(metavar="[JOB]", help="Default: the newest.")]

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        resolve_path=True,
        help="Seal, or check a seal, with its bytes.",
    ),
]

Source = Annotated[
    str | None,
    typer.Option("--source", envvar="FERRYLOG_SOURCE", metavar="URI", show_envvar=False),
]
SourceFile = Annotated[
    Path | None,
    typer.Option(
        "--source-uri-file", envvar="FERRYLOG_SOURCE_URI_FILE", help="A file with the URI."
    ),
]
Target = Annotated[
    str | None,
    typer.Option("--target", envvar="FERRYLOG_TARGET", metavar="URI", show_envvar=False),
]
TargetFile = Annotated[
    Path | None,
    typer.Option(
        "--target-uri-file", envvar="FERRYLOG_TARGET_URI_FILE", help="A file with the URI."
    ),
]
SourceOrUri = Annotated[
    str | None,
    typer.Option("--source", "--uri", envvar="FERRYLOG_SOURCE", metavar="URI", show_envvar=False),
]
TargetOrUri = Annotated[
    str | None,
    typer.Option("--target", "--uri", envvar="FERRYLOG_TARGET", metavar="URI", show_envvar=False),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "--uri",
        envvar="FERRYLOG_TARGET",
        metavar="URI",
        show_envvar=False,
        help="May be given again: each target gets the documents that --placement gives it.",
    ),
]
TargetFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--target-uri-file",
        envvar="FERRYLOG_TARGET_URI_FILE",
        help="A file with the URI; may be given again.",
    ),
]
Database = Annotated[str | None, typer.Option("--db", "-d", help="One database.")]
Collection = Annotated[
    list[str] | None,
    typer.Option("--collection", "-c", help="One collection of --db; may be given again."),
]
Query = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        "-q",
        metavar="[GLOB=]JSON",
        help="Only documents that match, of all namespaces or of those of a glob.",
    ),
]
NsFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--ns-from", "--nsFrom", metavar="PATTERN", help="Rename what fits, with * or $x$."
    ),
]
NsTo = Annotated[
    list[str] | None, typer.Option("--ns-to", "--nsTo", metavar="PATTERN", help="To this.")
]
Users = Annotated[
    bool,
    typer.Option("--users-and-roles", "--dumpDbUsersAndRoles", "--restoreDbUsersAndRoles"),
]
AsOf = Annotated[
    Consistency,
    typer.Option(
        "--consistency",
        help="fuzzy: each document as of when it is read; snapshot: all as of one cluster time, "
        "while the server's window lasts.",
    ),
]
ChunkDocs = Annotated[int, typer.Option("--chunk-docs", min=1, help="Documents per chunk, about.")]
ChunkBytes = Annotated[int, typer.Option("--chunk-bytes", min=1024, help="Bytes per chunk, about.")]
Drop = Annotated[
    bool,
    typer.Option("--drop", help="Replace what the target has; that is kept until `commit`."),
]
Swap = Annotated[
    bool,
    typer.Option("--swap", help="As --drop, but each collection stays in use until it is whole."),
]
Recorded = Annotated[
    bool,
    typer.Option("--undo/--no-undo", help="Record what a rollback needs; keep what is replaced."),
]
Conflicts = Annotated[
    OnConflict, typer.Option("--on-conflict", help="Another document under the same _id.")
]
WriteConcern = Annotated[
    str, typer.Option("--write-concern", "--writeConcern", help="majority or a number > 1.")
]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Compare both sides.")]
Shards = Annotated[
    int | None,
    typer.Option("--shards-in-flight", min=1, max=64, help="Of an increment, at the same time."),
]
New = Annotated[bool, typer.Option("--new", help="Even if one is unfinished.")]
CHUNK_DOCS = 100_000
CHUNK_BYTES = 64 << 20
Include = Annotated[
    list[str] | None,
    typer.Option("--ns-include", "--nsInclude", metavar="GLOB", help="Over db.collection."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--ns-exclude", "--nsExclude", metavar="GLOB", help="Wins over include."),
]
DumpWorkers = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_WORKERS, envvar="FERRYLOG_DUMP_WORKERS", help="Readers; default 4."
    ),
]
RestoreWorkers = Annotated[
    int | None,
    typer.Option(
        "--restore-workers",
        "--numInsertionWorkersPerCollection",
        min=1,
        max=MAX_WORKERS,
        envvar="FERRYLOG_RESTORE_WORKERS",
        help="Writers; default 4.",
    ),
]
MaxRetries = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=AT_MOST["max_retries"],
        envvar=["FERRYLOG_MAX_RETRIES", "RETRY_ATTEMPTS"],
        help="Failures per task; default 3.",
    ),
]
Exhausted = Annotated[
    OnExhausted | None,
    typer.Option(
        "--on-exhausted",
        envvar="FERRYLOG_ON_EXHAUSTED",
        help="When a task has failed that often; default pause.",
    ),
]
RetryPolicy = Annotated[
    Retry | None,
    typer.Option("--retry", envvar="FERRYLOG_RETRY", help="How delays grow; default exponential."),
]
RetryJitter = Annotated[
    Jitter | None,
    typer.Option("--jitter", envvar="FERRYLOG_JITTER", help="How they vary; default equal."),
]
RetryBase = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=AT_MOST["retry_base_ms"] / 1000,
        envvar="FERRYLOG_RETRY_BASE",
        help="Seconds before the first retry; default 1.",
    ),
]
RetryCap = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=AT_MOST["retry_cap_ms"] / 1000,
        envvar="FERRYLOG_RETRY_CAP",
        help="Seconds before any retry at most; default 60.",
    ),
]
Patience = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=AT_MOST["patience_ms"] / 1000,
        envvar="FERRYLOG_PATIENCE",
        help="Seconds to wait for a deployment that serves nobody; default 120.",
    ),
]
BreakerFailures = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=AT_MOST["breaker_failures"],
        envvar=["FERRYLOG_BREAKER_FAILURES", "CIRCUIT_BREAKER_THRESHOLD"],
        help="Failures in a row before everything waits; default 10.",
    ),
]
BreakerWait = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=AT_MOST["breaker_ms"] / 1000,
        envvar="FERRYLOG_BREAKER_WAIT",
        help="Seconds that it waits before one task tries again; default 30, doubled up to 60.",
    ),
]
Timer = Annotated[
    float | None,
    typer.Option(
        "--tick",
        min=0.01,
        max=AT_MOST["tick_ms"] / 1000,
        envvar="FERRYLOG_TICK",
        help="Seconds between two looks at requests and retries, at most; default 2.",
    ),
]
BatchPolicy = Annotated[
    Batch | None,
    typer.Option(
        "--batch",
        envvar="FERRYLOG_BATCH",
        help="How much a write command holds: as much as the target takes in good time, 10 to 1000 "
        "documents by their time, or always the same; default adaptive.",
    ),
]
BatchTime = Annotated[
    int | None,
    typer.Option(
        "--batch-ms",
        min=1,
        max=AT_MOST["batch_ms"],
        envvar="FERRYLOG_BATCH_MS",
        help="Milliseconds that a write command should take.",
    ),
]
BatchDocs = Annotated[
    int | None,
    typer.Option(
        "--batch-docs",
        min=1,
        max=AT_MOST["batch_docs"],
        envvar="FERRYLOG_BATCH_DOCS",
        help="Documents of a write command at most; of a fixed one exactly.",
    ),
]
Preference = Annotated[
    ReadPreference | None,
    typer.Option(
        "--read-preference",
        "--readPreference",
        envvar="FERRYLOG_READ_PREFERENCE",
        help="Where the source is read; default: readPreference in its URI, or primary.",
    ),
]
WorkDir = Annotated[
    Path | None,
    typer.Option("--work-dir", envvar="FERRYLOG_WORK_DIR", help="For chunk files."),
]


@dataclass(frozen=True, slots=True)
class Common:
    """How to speak, and of which journal."""

    journal: Path
    json: bool
    verbose: int
    quiet: bool

    def __post_init__(self) -> None:
        configure(verbose=self.verbose, quiet=self.quiet or (self.json and not self.verbose))


def whole_number(text: str) -> bool:
    """Plain digits, and few enough to be a setting."""
    return text.isascii() and text.isdecimal() and len(text) < 10


Endpoints = Annotated[
    list[str] | None,
    typer.Option("--endpoint", metavar="NAME=URI", help="A place of a group; may come again."),
]
EndpointFiles = Annotated[
    list[str] | None,
    typer.Option("--endpoint-uri-file", metavar="NAME=FILE", help="The same, URI in a file."),
]


def swap_token(swap: bool) -> str:
    """Of a new job: part of the names under which its collections are filled."""
    return secrets.token_hex(6) if swap else ""


def uri(role: str, given: str | None, file: Path | None, fallback: str | None = None) -> str:
    """The connection string: from the nearest source that names one (flag, environment, settings
    file), directly or as a file; else what the journal remembers. Two at once are refused."""
    near, far = _nearness(role), _nearness(f"{role}-uri-file")
    if given is not None and file is not None and near == far:
        raise Usage(f"the {role} is named twice, directly and by a file", remedy="keep one")
    if file is not None and (given is None or far < near):
        return _from_file(role, file)
    if given is not None:
        _warn_of_argv(role, given)
        return given
    if fallback is not None:
        return fallback
    raise Usage(
        f"no {role} is named",
        remedy=f"--{role} URI, --{role}-uri-file FILE, or FERRYLOG_{role.upper()}",
    )


def uris(role: str, given: Sequence[str] | None, files: Sequence[Path] | None) -> list[str]:
    """As `uri`, of a side that may be several deployments."""
    given, files = list(given or ()), list(files or ())
    if len(given) <= 1 and len(files) <= 1:
        return [uri(role, next(iter(given), None), next(iter(files), None))]
    near, far = _nearness(role), _nearness(f"{role}-uri-file")
    if given and files and near == far:
        raise Usage(f"the {role}s are named directly and by files", remedy="keep one way")
    if files and (not given or far < near):
        return [_from_file(role, file) for file in files]
    for each in given:
        _warn_of_argv(role, each)
    return given


def _nearness(option: str) -> int:
    """0 for a flag, 1 for the environment, 2 for the settings file or nothing."""
    flag, variable = f"--{option}", f"FERRYLOG_{option.upper().replace('-', '_')}"
    if any(word.partition("=")[0] == flag for word in sys.argv[1:]):
        return 0
    return 1 if variable in os.environ else 2


def _from_file(role: str, file: Path) -> str:
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise Usage(
            f"cannot read the {role} URI from {file}: {why}", remedy="one line, UTF-8"
        ) from None
    if not text:
        raise Usage(f"{file} is empty", remedy=f"write the {role} URI into it")
    return text


def _warn_of_argv(role: str, given: str) -> None:
    """A password in the arguments stands in everybody's process list."""
    authority = given.partition("://")[2].partition("?")[0]
    credentials = authority.rpartition("@")[0]
    if ":" in credentials and any(given in argument for argument in sys.argv[1:]):
        learn([given, credentials.partition(":")[2]])
        typer.echo(
            f"warning: the password of the {role} is visible in the process list; "
            f"use --{role}-uri-file or FERRYLOG_{role.upper()}",
            err=True,
        )


def selection(
    database: str | None,
    collections: Sequence[str] | None,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Include and exclude globs; `--db` and `--collection` are short for an include."""
    if collections and database is None:
        raise Usage("--collection needs --db", remedy="name the database too")
    wanted = list(include or ())
    if database is not None:
        must_be_database(database)
        names = [literal(each) for each in collections or ()] or ["*"]
        wanted += [f"{literal(database)}.{name}" for name in names]
    return tuple(wanted), tuple(exclude or ())


def must_be_database(name: str) -> None:
    if not name or set(name) & set('/\\. "$\0'):
        raise Usage(f"{name!r} is no database name", remedy="see --ns-include for globs")


def queries(given: Sequence[str] | None) -> tuple[tuple[str, BsonText], ...]:
    """Globs, and the documents that are wanted of what they name; one without a glob comes last
    and stands for the rest."""
    found = [_query(each) for each in given or ()]
    return tuple(sorted(found, key=lambda pair: pair[0] == "*"))


def _query(text: str) -> tuple[str, BsonText]:
    glob, equals, filter_ = ("*", "=", text) if text.startswith("{") else text.partition("=")
    if not equals or not glob:
        raise Usage(f"{text!r} is no query", remedy="write JSON, or GLOB=JSON")
    try:
        return glob, from_json(filter_)
    except ValueError as error:
        raise Usage(f"the query for {glob} is no Extended JSON: {error}") from None


def must_be_safe(concern: str) -> None:
    """Raises `Usage` for a write concern that may lose what was acknowledged."""
    several = whole_number(concern) and 1 < int(concern) <= MAX_MEMBERS
    if concern != "majority" and not several:
        raise Usage(
            f"write concern {concern!r} may lose acknowledged documents in a failover",
            remedy=f"majority, or a number of members from 2 to {MAX_MEMBERS}",
        )


def literal(name: str) -> str:
    """A name as a glob that matches only itself."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def seq_of(journal: SqliteJournal, job: JobId, moment: str | None) -> int | None:
    """The seq of the job's last event up to a moment; `None` without a moment. Raises `Usage`
    when the job begins later."""
    if moment is None:
        return None
    seq = journal.last_before(job, **asdict(parse_moment(moment)))
    if seq is None:
        raise Usage(f"job {job} has no event up to {moment}", remedy="give a later moment")
    return seq


def key(file: Path | None) -> bytes | None:
    """The bytes of a sealing key. Raises `BadEvidence` for a short one."""
    return read_key(file) if file is not None else None
