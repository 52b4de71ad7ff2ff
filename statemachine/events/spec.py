"""What a job is to do, and how a run does it."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Value
from statemachine.words import (
    BsonText,
)


class ExportSpec(Value):
    """In which form an export leaves documents, and which of them; fixed for the job's life."""

    format: Literal["parquet", "jsonl"]
    types: Literal["exchange", "native"] = "exchange"
    """Of Parquet: types that every reader knows, or those that hold BSON's own."""
    json_form: Literal["canonical", "relaxed"] = "canonical"
    """Of JSONL: MongoDB's Extended JSON, exact or easier to read."""
    projection: BsonText = BsonText("")
    """As of `find`; empty: whole documents."""
    partition: str = ""
    """A field, or `field:year`, `field:month`, `field:day` of a date, by whose values documents go
    to folders `field=value`; empty: none."""
    prefix: str = ""
    """Folder of this export beneath the target, with slashes between its parts; empty: the target
    itself."""
    since: str = ""
    """A field that only grows: only documents whose value lies in `(above, upto]`; empty: all."""
    above: BsonText = BsonText("")
    """A document with one field; empty: from the beginning."""
    upto: BsonText = BsonText("")
    empty: Literal["file", "none"] = "file"
    """What a collection without documents leaves."""
    overwrite: bool = False
    """An export that lies there is replaced."""


class FilePart(Value):
    """One of several files that hold the documents of one chunk."""

    name: str
    documents: NonNegativeInt
    file_bytes: NonNegativeInt
    sha256: str


class JobSpec(Value):
    """What a job is to do; fixed for its life. URIs stand here without credentials."""

    kind: Literal["migrate", "dump", "restore", "verify", "plan", "group", "export"]
    """`plan` is a dry run: what a migration would do, and nothing done; `group` runs operations."""
    mode: Literal["coordinated", "direct"]
    source: str
    """A deployment, or where a dump lies: `file:` and its path, or the URL of an object store."""
    target: str
    """As `source`."""
    source_id: str
    """Identity of the source, made by `executors.clients`, or by `executors.dumps`."""
    target_id: str
    include: tuple[str, ...] = ()
    """Globs over `db.collection`; empty means everything that is not the server's own."""
    exclude: tuple[str, ...] = ()
    chunk_docs: PositiveInt
    chunk_bytes: PositiveInt
    compression: Literal["none", "zstd", "gzip"]
    """gzip only of what a dump job packs."""
    write_concern: str
    """`majority`, or a number of members as text."""
    drop: bool
    on_conflict: Literal["stop", "skip", "overwrite"]
    verify: bool
    of: str = ""
    """For a `verify` job: the job whose work it verifies."""
    layout: Literal["chunks", "mongodump", "archive"] = "chunks"
    """What a dump job leaves, or what a restore reads; a directory tells by itself what it is."""
    into: str = ""
    """Of a dump that does not name it: its database, or its `db.collection`."""
    consistency: Literal["fuzzy", "snapshot"] = "fuzzy"
    """Every document as of when it was read, or all as of one cluster time."""
    renames: tuple[tuple[str, str], ...] = ()
    """Patterns over `db.collection`, from and to; the first that fits counts."""
    queries: tuple[tuple[str, BsonText], ...] = ()
    """Globs over `db.collection` and which of its documents are wanted; the first that fits
    counts."""
    users: bool = False
    """Users and roles too."""
    metadata: bool = False
    """What stands on the target is compared with the source: options, indexes, views."""
    objcheck: bool = False
    """Every byte of a dump's documents is looked at before anything is written."""
    salvage: bool = False
    """Of a damaged dump, what is whole is restored."""
    legacy_indexes: bool = False
    """Index keys that old servers took and new ones refuse are made valid."""
    incremental: bool = False
    """A dump of what changed since the last link of the chain that lies where it goes."""
    parent: str = ""
    """Of an increment: SHA-256 of the manifest of the link before it."""
    keep_log: bool = False
    """Of an increment: every change too, in order."""
    links: NonNegativeInt = 0
    """Of a restore: how many increments of the chain are applied to the full dump."""
    at: str = ""
    """Of a restore: `seconds.increment` up to which the log of the next link is replayed too."""
    follow: bool = False
    """Of a migration: what changes on the source is carried over until somebody cuts over."""
    deadline_ms: NonNegativeInt = 0
    """When the job is to have ended, since the Unix epoch; 0: whenever."""
    increment_ms: NonNegativeInt = 0
    """How long the restore of one increment may take; 0: as long as it takes."""
    undo: bool = False
    """What the job changes on the target is recorded before it does, and can be taken back."""
    swap: str = ""
    """Collections are filled under names with this in them, and take their own names when they are
    whole; empty: they have them from the beginning."""
    title: str = ""
    """Of a group: what it is for."""
    endpoints: tuple[tuple[str, str], ...] = ()
    """Of a group that runs at several places: their names, and URIs without credentials."""
    endpoint_ids: tuple[str, ...] = ()
    """Of each of them in this order: which deployment it was."""
    continue_on_error: bool = False
    """Of a group: a failed operation stops only those that wait for it."""
    transform: str = ""
    """`module:function` of the user's own through which each document goes between being read and
    being written to its chunk file; empty: none."""
    model: str = ""
    """`module:Model` of the user's own that each document, transformed, must fit; empty: none."""
    export: ExportSpec | None = None
    """Of an export."""
    place: str = ""
    """Of a restore to several targets: which documents this one gets, `hash:K/N` or `range:K/N`;
    empty: all."""


class RunSettings(Value):
    """What an operator may change from run to run."""

    dump_workers: PositiveInt
    restore_workers: PositiveInt
    max_retries: PositiveInt
    """Attempts of one task that may fail; the last of them dead-letters it (A8)."""
    on_exhausted: Literal["pause", "skip-unit", "fail-job"]
    retry_base_ms: NonNegativeInt
    retry_cap_ms: NonNegativeInt
    files_ahead: PositiveInt
    """Chunk files that may lie in the work folder before dumping waits."""
    work_dir: str
    """Where chunk files lie; empty: beside the journal."""
    retry: Literal["none", "fixed", "linear", "exponential"]
    """How delays between attempts grow from `retry_base_ms` to `retry_cap_ms`."""
    jitter: Literal["none", "full", "equal", "decorrelated"]
    """How delays are drawn; see `policy.backoff_ms`."""
    patience_ms: NonNegativeInt
    """Of delays in all that one task waits for an unavailable deployment before it is given up."""
    breaker_failures: PositiveInt
    """Failures in a row, of one pool, that open its breaker."""
    breaker_ms: PositiveInt
    """How long a breaker stays open before the first probe; doubled by each probe that fails."""
    tick_ms: PositiveInt
    """Upper bound between two turns; outcomes wake the engine at once."""
    hang_ms: PositiveInt
    """A worker that shows no life for this long is given up and its attempt fails."""
    read_preference: Literal[
        "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"
    ]
    """Where the source is read."""
    shards_in_flight: PositiveInt = 10
    """Shards of one increment that are applied at the same time."""
    capture_bytes: PositiveInt = 256 << 20
    """Of memory that keeping the changed keys in order may take."""
    follow_ms: PositiveInt = 1000
    """How long one round of following collects changes."""
    memory_limit: NonNegativeInt = 0
    """Bytes that the process may hold; 0: 80 % of the machine's or the container's."""
    cpu_limit: NonNegativeInt = 0
    """Percent of all cores that the process may take; 0: all of them."""
    disk_reserve: NonNegativeInt = 0
    """Bytes that stay free where chunk files lie; 0: 1 GiB, or 2 % of a smaller disk."""
    read_docs_per_s: NonNegativeInt = 0
    """Of the source, by all readers together; 0: as fast as it goes. So are the three below."""
    read_bytes_per_s: NonNegativeInt = 0
    write_docs_per_s: NonNegativeInt = 0
    write_bytes_per_s: NonNegativeInt = 0
    batch: Literal["adaptive", "document", "fixed"] = "adaptive"
    """How many documents one write command holds: see `statemachine.batching`."""
    batch_ms: NonNegativeInt = 0
    """How long one write command should take; 0: as the policy says."""
    batch_docs: NonNegativeInt = 0
    """Documents of one write command at most, and of a fixed one exactly; 0: as the policy says."""
    transform_workers: NonNegativeInt = 0
    """Processes for code of the user's own; 0: one per core, at most 8."""
    transform_ms: PositiveInt = 60_000
    """How long that code may take for one document before its process is ended."""
    transform_sha256: str = ""
    """Of the file that the code of this run stands in."""
    worker_memory: PositiveInt = 8 << 30
    """Bytes that one worker of an export may hold; what would be more is written out earlier."""


class IndexSpec(Value):
    """One index, as the source server describes it."""

    name: str
    unique: bool
    spec: BsonText
