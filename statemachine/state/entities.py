"""The parts of a state: what is open, and how far it is."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from statemachine.events import IndexSpec
from statemachine.words import (
    BsonText,
    ChunkId,
    Found,
    Key,
    OperationId,
    Place,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    UnitType,
)


@dataclass(slots=True)
class Task:
    """One thing to do: where it stands and what is left of its budget."""

    status: Status = Status.PENDING
    attempt: int = 0
    """Of the last start; counts up over all epochs."""
    failures: int = 0
    """Attempts that failed since the last requeue; the retry budget."""
    waits: int = 0
    """Attempts that met an unavailable deployment since then; no fault of the task."""
    waited_ms: int = 0
    """Their delays in all."""
    delay_ms: int = 0
    """The last delay."""
    interruptions: int = 0
    """Attempts whose process died, since the last progress."""
    priority: int = 0
    epoch: int = 0
    """Of the last start."""
    not_before_ms: int = 0
    code: str = ""
    why: str = ""
    """Of the last failure."""


class Part(NamedTuple):
    """One of several files of a chunk."""

    name: str
    documents: int
    file_bytes: int
    sha256: str


class ChunkFile(NamedTuple):
    """A whole, durable chunk file."""

    name: str
    documents: int
    bytes: int
    file_bytes: int
    sha256: str
    at: int = 0
    """Offset of its first byte: a part of a plain `.bson` begins anywhere."""
    place: Place = "work"
    erased: int = 0
    """Of an increment: keys in it whose documents are gone."""
    rejected: int = 0
    """Documents that were read for it and that the user's own code did not let through, or that an
    export cannot hold."""
    parts: tuple[Part, ...] = ()
    """Of an export: its files, where they are several."""


class Done(NamedTuple):
    """How far the restore of a chunk came."""

    position: int = 0
    documents: int = 0
    bytes: int = 0
    present: int = 0
    rejected: int = 0
    last_key: Key | None = None
    """Of a copy: the last key that the target acknowledged."""


NOTHING: Final = Done()


@dataclass(slots=True)
class Chunk:
    """A key range with work left on it."""

    id: ChunkId
    unit: UnitId
    lower: Key | None
    upper: Key | None
    documents: int
    natural: bool
    priority: int = 0
    bisected: bool = False
    """Cut off something that failed: looked at more closely than others."""
    dropped: bool = False
    verified: tuple[int, int, int] = (0, 0, 0)
    """What its verification counted: chunks that differ, documents of the source, of the target."""
    again: bool = False
    """Its range was carried before, or part of it: what lies there may be the job's own, as it was
    transformed then."""
    file: ChunkFile | None = None
    done: Done = NOTHING


class Link(NamedTuple):
    """One increment of a chain that is restored."""

    number: int
    digest: str
    """SHA-256 of its manifest."""
    until: str
    """The cluster time of its end."""
    log: bool = False
    """Its log is replayed up to there, instead of its shards."""
    rows: int = 0
    """Documents and deletions in it, or in its log about."""


class Applied(NamedTuple):
    """How far the target has a shard."""

    position: int = 0
    """In the shard's file."""
    documents: int = 0
    erased: int = 0
    bytes: int = 0
    last_key: Key | None = None


UNAPPLIED: Final = Applied()


@dataclass(slots=True)
class Shard:
    """A key range of one collection in the increment under way, with work left on it."""

    id: ShardId
    namespace: str
    target: str
    type: UnitType
    lower: Key | None
    upper: Key | None
    file: ChunkFile
    done: Applied = UNAPPLIED


@dataclass(slots=True)
class Operation:
    """One operation of a group."""

    id: OperationId
    forward: BsonText
    compensation: BsonText
    wait_for: tuple[OperationId, ...] = ()
    rollback_wait_for: tuple[OperationId, ...] = ()
    target: str = ""
    tries: int = 3
    cancelled: bool = False
    """It will never start."""


@dataclass(frozen=True, slots=True)
class Undo:
    """One undo of a rollback; see `events.UndoPlanned`."""

    number: int
    task: TaskKind
    entity: str
    unit: UnitId | None = None
    chunk: ChunkId | None = None
    lower: Key | None = None
    upper: Key | None = None
    natural: bool = False
    file: ChunkFile | None = None
    """Where its documents lay, if in a file."""
    documents: int = 0
    digest: str = ""
    acknowledged: bool = False
    """See `events.UndoPlanned`."""


@dataclass(slots=True)
class Unit:
    """A collection or view: what it is, and its counters. Documents and bytes are sums."""

    id: UnitId
    target: str
    type: UnitType
    uuid: str
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents_estimate: int
    bytes_estimate: int
    expires: bool = False
    target_uuid: str = ""
    created: bool = False
    """The target has it."""
    found: Found = ""
    """What lay under its name before."""
    swapped: bool = False
    """It has its own name: see `JobSpec.swap`."""
    columns: str = ""
    """Of its export, as its census found them; opaque here."""
    built: tuple[str, ...] = ()
    """Names of the indexes that stood before the data came."""
    status: UnitStatus = UnitStatus.PENDING
    priority: int = 0
    named: int = 0
    """Chunks that ever were; the next one takes this as its number."""
    planned: int = 0
    """Chunks."""
    restored: int = 0
    """Chunks whose restore completed."""
    settled: int = 0
    """Chunks with nothing left to do."""
    dropped: int = 0
    """Chunks that the job goes on without."""
    indexing: int = 0
    """Indexes with work left."""
    bisecting: bool = False
    """The chunks planned next are parts of one that failed."""
    next_priority: int = 0
    """Of the chunks planned next."""
    weight: int = 0
    """Estimated documents over all chunks, at least 1 each, times the stages of each."""
    weight_done: int = 0
    dumped_documents: int = 0
    dumped_bytes: int = 0
    restored_documents: int = 0
    restored_bytes: int = 0
    present: int = 0
    rejected: int = 0
    mismatched: int = 0
    """Chunks on which source and target differ."""
    source_documents: int = 0
    target_documents: int = 0
    """Counted by verification."""
    repaired: int = 0
    passing: int = 0
    """Of the rejected, those that the first increment brings."""
    differing: int = 0
    """Options and indexes on which source and target differ."""
    damaged: int = 0
    """Places of its file in the dump that cannot be read."""
    batch_documents: int = 0
    """Of one write command, as last journaled; 0: nothing is known."""
    batch_bytes: int = 0


@dataclass(slots=True)
class Breaker:
    """Of one pool."""

    failures: int = 0
    """In a row."""
    opened: int = 0
    """Times in a row; 0 while it is closed."""
    until_ms: int = 0
    waited_ms: int = 0
    """How long it was to stay open, in all."""
    probe: TaskKey | None = None
    """The one task that was let through."""
