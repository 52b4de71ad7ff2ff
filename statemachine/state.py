"""The state: what a future decision needs, and nothing else.

A job's state is the fold of its events (`evolve`). Settled chunks leave the maps and become
counters, so its size follows the open work, not the history. A state and its parts are owned
by one fold and changed in place: effects carry copies.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from statemachine.events import IndexSpec, JobSpec, RunSettings
from statemachine.words import (
    Alert,
    BsonText,
    ChunkId,
    Found,
    JobStatus,
    Key,
    OperationId,
    Phase,
    Place,
    Pool,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    UnitType,
)

DUMP: Final = "file:"
"""How the name of a source or target begins that is a dump."""
STAGES: Final[dict[tuple[str, str], tuple[TaskKind, ...]]] = {
    ("migrate", "coordinated"): (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY),
    ("migrate", "direct"): (TaskKind.COPY, TaskKind.VERIFY),
    ("verify", "coordinated"): (TaskKind.VERIFY,),
    ("verify", "direct"): (TaskKind.VERIFY,),
    ("dump", "coordinated"): (TaskKind.DUMP,),
    ("dump", "direct"): (TaskKind.DUMP,),
    ("restore", "coordinated"): (TaskKind.RESTORE, TaskKind.VERIFY),
    ("restore", "direct"): (TaskKind.RESTORE, TaskKind.VERIFY),
    ("plan", "coordinated"): (),
    ("plan", "direct"): (),
    ("group", "coordinated"): (),
    ("group", "direct"): (),
}
"""What is done with a chunk, in order, by the kind and the mode of its job."""


def reads_dump(spec: JobSpec) -> bool:
    return spec.source.startswith(DUMP) or (spec.kind == "verify" and spec.target.startswith(DUMP))


def stages_of(spec: JobSpec) -> tuple[TaskKind, ...]:
    """Of every chunk of a job; what only verifies keeps its one stage. Where changes follow, a
    chunk is nothing that could be compared: a job of its own does it at the end."""
    stages = STAGES[spec.kind, spec.mode]
    wanted = spec.verify and not spec.follow
    return stages if wanted or len(stages) < 2 else stages[:-1]


def restores_chain(spec: JobSpec) -> bool:
    return spec.kind == "restore" and bool(spec.links or spec.at)


def is_whole(spec: JobSpec) -> bool:
    """Whether nothing can be left out: changes that follow would miss it."""
    return spec.follow or spec.incremental or restores_chain(spec)


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
    """Documents that were read for it and that the user's own code did not let through."""


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


@dataclass(slots=True)
class State:
    """One job."""

    spec: JobSpec | None = None
    status: JobStatus = JobStatus.PENDING
    epoch: int = 0
    settings: RunSettings | None = None
    closed: bool = False
    """Registration is closed: no unit comes any more."""
    why: str = ""
    """Of the last pause or failure."""
    code: str = ""
    request: int = 0
    """The highest number of a request that was answered."""
    immediate: bool = False
    """What ran was cancelled by the pause or stop under way."""
    rollback: bool = False
    """Asked for with the last stop."""
    added: tuple[str, ...] = ()
    """Globs that came to the job's selection later."""
    dropped: int = 0
    """Indexes that the job goes on without."""
    suspects: int = 0
    """Chunks cut in two because something failed, since the last such part that was carried."""
    adding: int = 0
    """How many of `added` came last."""
    damaged: int = 0
    """Places of a dump that cannot be read and belong to no unit."""
    cluster_time: str = ""
    """Of a snapshot: as of when the source is read."""
    users: int = 0
    roles: int = 0
    """That this job leaves on the source."""
    retries: int = 0
    kept: int = 0
    """Chunk files that stay."""
    units: dict[UnitId, Unit] = field(default_factory=dict)
    chunks: dict[ChunkId, Chunk] = field(default_factory=dict)
    tasks: dict[TaskKey, Task] = field(default_factory=dict)
    queues: dict[tuple[TaskKind, Status, int], OrderedDict[TaskKey, None]] = field(
        default_factory=dict
    )
    """The same tasks by kind, status and priority, first in first out; completed ones left out.
    A plain dict forgets nothing: looking for its first key walks over all that were removed."""
    priorities: tuple[int, ...] = (0,)
    """All that were ever given, the highest first."""
    open_units: dict[UnitId, None] = field(default_factory=dict)
    ripe: dict[UnitId, None] = field(default_factory=dict)
    """Of them, those with no work left."""
    flawed: dict[ChunkId, Chunk] = field(default_factory=dict)
    """Settled chunks with documents that were rejected: they may be requeued."""
    quarantine: dict[TaskKey, None] = field(default_factory=dict)
    """Pending tasks with which the process died: each runs alone, to be cleared or convicted."""
    breakers: dict[Pool, Breaker] = field(
        default_factory=lambda: {pool: Breaker() for pool in Pool}
    )
    alerts: dict[tuple[Alert, str], None] = field(default_factory=dict)
    """Those raised and not cleared, with their entity."""
    filed: dict[ChunkId, Chunk] = field(default_factory=dict)
    """Settled chunks of a job that dumps: the manifest will name their files."""
    releasing: dict[ChunkId, str] = field(default_factory=dict)
    """Settled chunks whose file is still there, and the file's name."""
    files: int = 0
    """Chunk files in the work folder that will go again."""
    done_documents: int = 0
    done_bytes: int = 0
    """Over all units: restored, or what the only stage does: dumped, verified. Rates are made of
    it."""
    since: str = ""
    """`seconds.increment` before anything of the source was read."""
    token: str = ""
    """Where the stream of changes goes on: of a capture, of following."""
    reached: str = ""
    """The cluster time up to which changes are captured, or on the target."""
    changes: int = 0
    """Captured so far."""
    outdated: bool = False
    """The source can no longer be read as of the increment's time: what runs is to end."""
    moments: int = 0
    """Times that the increment had to go on to a later one."""
    highest: int = 0
    """Of all attempts that were started in such a job."""
    forgotten: int = 0
    """Attempts up to this number are of an older time: nothing of theirs is news any more."""
    lag_ms: int = 0
    """Of following, after its last round."""
    cutover: bool = False
    """Asked for."""
    drained: bool = False
    """Following has ended."""
    differing: int = 0
    """Options and indexes that differ at the end of a chain, or of following."""
    phase: Phase | None = None
    """Of the restore of a chain."""
    links: tuple[Link, ...] = ()
    """Of the chain, in order: all that are to be applied."""
    increment: int = 0
    """How many of them were started."""
    applied: int = 0
    """How many of them are applied."""
    deadline_ms: int = 0
    """Of the increment under way."""
    proposed: bool = False
    """The shards of the increment under way are planned."""
    shards: dict[ShardId, Shard] = field(default_factory=dict)
    """Of the increment under way, those with work left."""
    shards_planned: int = 0
    """Of the increment under way."""
    upserted: int = 0
    erased: int = 0
    """Documents, over all increments and rounds."""
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    """Of a group, as they were planned."""
    undos: dict[str, Undo] = field(default_factory=dict)
    """Of the rollback under way, by the entity of their task, in the order of undoing."""
    undone: int = 0
    skipped: int = 0
    undo_kept: int = 0
    """Over all rollbacks: undos done, undos left out, and what others changed and stays."""
    rolled_to: str = ""
    """Of the last rollback: the operation after which all was undone."""
    forced: bool = False
    persevering: bool = False
    """Of the last rollback: see `events.RollbackStarted`."""
    committed: bool = False
    """Nobody can take the job back any more."""

    @property
    def terminal(self) -> bool:
        return self.status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ROLLED_BACK)

    @property
    def resting(self) -> bool:
        """Nothing more happens without an operator."""
        return self.terminal or self.status in RESTING

    @property
    def from_dump(self) -> bool:
        """Where the documents lie is found, not read from a server."""
        return self.spec is not None and reads_dump(self.spec)

    @property
    def stages(self) -> tuple[TaskKind, ...]:
        assert self.spec is not None
        return stages_of(self.spec)

    def queue(self, kind: TaskKind, status: Status) -> Iterator[TaskKey]:
        """The tasks of one kind and status: by priority, then in the order in which they came."""
        for priority in self.priorities:
            yield from self.queues.get((kind, status, priority), ())

    def size(self, kind: TaskKind, status: Status) -> int:
        queues = self.queues
        return sum([len(queues.get((kind, status, each), ())) for each in self.priorities])

    def count(self, status: Status) -> int:
        """Tasks of all kinds; completed ones are not counted."""
        return sum(len(queue) for (_, s, _), queue in self.queues.items() if s is status)

    def busy(self, pool: tuple[TaskKind, ...]) -> int:
        """Tasks at work among these kinds."""
        return sum([self.size(kind, Status.PROCESSING) for kind in pool])


RESTING: Final = (
    JobStatus.PAUSED,
    JobStatus.STOPPED,
    JobStatus.ROLLBACK_PAUSED,
    JobStatus.ROLLBACK_FAILED,
    JobStatus.MOVED,
)


def digest(state: State) -> str:
    """SHA-256 over the canonical JSON of the state: equal states, equal digests, any process."""
    text = json.dumps(plain(state), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plain(state: State) -> dict[str, Any]:
    """The whole state as JSON-ready data; map keys are sorted by `digest`, queues keep order."""
    return {
        **{name: getattr(state, name) for name in SCALARS},
        "spec": state.spec.model_dump(mode="json") if state.spec else None,
        "settings": state.settings.model_dump(mode="json") if state.settings else None,
        "added": list(state.added),
        "priorities": list(state.priorities),
        "units": {unit_id: _unit(unit) for unit_id, unit in state.units.items()},
        "chunks": {chunk.id: _chunk(chunk) for chunk in state.chunks.values()},
        "flawed": {chunk.id: _chunk(chunk) for chunk in state.flawed.values()},
        "filed": {chunk.id: _chunk(chunk) for chunk in state.filed.values()},
        "tasks": {f"{k.kind} {k.entity}": asdict(task) for k, task in state.tasks.items()},
        "queues": {
            f"{kind} {status} {priority}": [key.entity for key in queue]
            for (kind, status, priority), queue in state.queues.items()
            if queue
        },
        "breakers": {pool: asdict(breaker) for pool, breaker in state.breakers.items()},
        "alerts": [list(alert) for alert in state.alerts],
        "open_units": list(state.open_units),
        "ripe": list(state.ripe),
        "quarantine": [list(key) for key in state.quarantine],
        "releasing": state.releasing,
        "links": [list(link) for link in state.links],
        "shards": {shard.id: _shard(shard) for shard in state.shards.values()},
        "operations": [asdict(each) for each in state.operations.values()],
        "undos": [plain_undo(each) for each in state.undos.values()],
    }


def plain_undo(undo: Undo) -> dict[str, Any]:
    return {**asdict(undo), "file": list(undo.file) if undo.file is not None else None}


def _chunk(chunk: Chunk) -> dict[str, Any]:
    file = chunk.file._asdict() if chunk.file is not None else None
    verified = list(chunk.verified)
    return {**asdict(chunk), "file": file, "done": chunk.done._asdict(), "verified": verified}


def _shard(shard: Shard) -> dict[str, Any]:
    return {**asdict(shard), "file": shard.file._asdict(), "done": shard.done._asdict()}


def _unit(unit: Unit) -> dict[str, Any]:
    indexes = [index.model_dump(mode="json") for index in unit.indexes]
    return {**{name: getattr(unit, name) for name in Unit.__slots__}, "indexes": indexes}


SCALARS: Final = (
    "status", "epoch", "closed", "why", "code", "request", "immediate", "rollback", "dropped",
    "suspects", "adding", "damaged", "cluster_time", "users", "roles", "retries", "kept", "files",
    "done_documents", "done_bytes", "since", "token", "reached", "changes", "outdated", "moments",
    "highest", "forgotten", "lag_ms", "cutover", "drained", "differing", "phase", "increment",
    "applied", "deadline_ms", "proposed", "shards_planned", "upserted", "erased",
    "undone", "skipped", "undo_kept", "rolled_to", "forced", "persevering", "committed",
)  # fmt: skip
"""Fields of a state that are one plain value each."""
