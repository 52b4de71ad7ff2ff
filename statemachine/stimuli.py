"""What reaches the engine: outcomes of effects, requests of people, the passing of time."""

from dataclasses import dataclass

from statemachine.events import (
    ChainLink,
    Difference,
    IndexSpec,
    JobSpec,
    MetadataDifference,
    RunSettings,
)
from statemachine.state import ChunkFile, Undo
from statemachine.words import (
    Alert,
    BatchCause,
    BsonText,
    Cause,
    ChunkId,
    Found,
    Key,
    OperationId,
    TaskKey,
    TaskKind,
    UnitId,
    UnitType,
)


@dataclass(frozen=True, slots=True)
class JobAsked:
    """A new job is wanted."""

    by: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation of a group that is wanted; see `events.OperationPlanned`."""

    id: OperationId
    forward: BsonText
    compensation: BsonText
    wait_for: tuple[OperationId, ...] = ()
    rollback_wait_for: tuple[OperationId, ...] = ()
    target: str = ""
    tries: int = 3


@dataclass(frozen=True, slots=True)
class GroupAsked:
    """A new group of operations is wanted."""

    by: str
    spec: JobSpec
    operations: tuple[PlannedOperation, ...]


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A process took the job over, holding the journal's lease."""

    by: str
    host: str
    pid: int
    version: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """Nothing new is to start; `immediate`: what runs is to be cancelled."""

    by: str
    why: str
    request: int = 0
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked:
    by: str
    why: str
    request: int = 0
    immediate: bool = False
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class SetAsked:
    """A setting of the run is to change."""

    by: str
    name: str
    """A field of `RunSettings`."""
    value: int | str
    request: int = 0


@dataclass(frozen=True, slots=True)
class PriorityAsked:
    by: str
    entity: str
    """A unit or a chunk."""
    priority: int
    request: int = 0


@dataclass(frozen=True, slots=True)
class ExcludeAsked:
    by: str
    unit: UnitId
    request: int = 0


@dataclass(frozen=True, slots=True)
class AddAsked:
    """More of the source is to be carried."""

    by: str
    include: tuple[str, ...]
    request: int = 0


@dataclass(frozen=True, slots=True)
class SplitAsked:
    by: str
    chunk: ChunkId
    request: int = 0


@dataclass(frozen=True, slots=True)
class RequeueAsked:
    """A dead letter is to be tried again."""

    by: str
    entity: str
    """Of a task, or a chunk with rejected documents."""
    request: int = 0
    task: TaskKind | None = None
    """`None`: the chunk's rejected documents."""


@dataclass(frozen=True, slots=True)
class DropAsked:
    """The job is to go on without what a dead letter stands for."""

    by: str
    entity: str
    task: TaskKind
    request: int = 0


@dataclass(frozen=True, slots=True)
class CutoverAsked:
    """Following is to end."""

    by: str
    request: int = 0


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """What the job did is to be taken back; `undos`: all of that, in the order of undoing."""

    by: str
    why: str
    undos: tuple[Undo, ...]
    request: int = 0
    to: str = ""
    """Only what was started after this operation."""
    force: bool = False
    continue_on_error: bool = False


@dataclass(frozen=True, slots=True)
class CommitAsked:
    """Nobody is to take the job back any more."""

    by: str
    request: int = 0


@dataclass(frozen=True, slots=True)
class Gauge:
    """One measured value that may raise or clear an alert."""

    alert: Alert
    entity: str
    """`job`, or what it is about."""
    value: float
    limit: float
    """Above it the alert is raised; at most so much, it is cleared."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the shell measured: alerts of these kinds that are not among them are cleared."""

    gauges: tuple[Gauge, ...]


@dataclass(frozen=True, slots=True)
class ExportAsked:
    """The job is to go on in another journal."""

    by: str
    host: str


@dataclass(frozen=True, slots=True)
class ImportAsked:
    """The job's history arrived in this journal, whole."""

    by: str
    host: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; capacity may be free, a retry may be due."""


# --- results: what a task that succeeded brings back ---


@dataclass(frozen=True, slots=True)
class FoundUnit:
    unit: UnitId
    target: str
    type: UnitType
    uuid: str
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents: int
    bytes: int
    expires: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    units: tuple[FoundUnit, ...]
    cluster_time: str = ""
    users: int = 0
    roles: int = 0
    """Left where they are."""
    notes: tuple[str, ...] = ()
    damage: tuple["FoundDamage", ...] = ()
    """Of the dump as a whole."""
    since: str = ""
    """The source's cluster time before anything was looked at."""
    links: tuple[ChainLink, ...] = ()
    """Of a chain: the increments to apply."""


@dataclass(frozen=True, slots=True)
class Created:
    built: tuple[str, ...]
    uuid: str = ""
    found: Found = ""
    """What lay under the name before this job came, over all attempts."""


@dataclass(frozen=True, slots=True)
class Planned:
    """`n` boundaries cut the `_id` space into `n + 1` chunks, in order."""

    boundaries: tuple[Key, ...]
    documents: int
    """Estimate over all chunks."""
    natural: bool
    conflicts: tuple[tuple[str, str], ...] = ()
    """Of a dry run: code and reason of what will go wrong, or may."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Where the documents of one chunk lie; its range, where the dump tells it."""

    file: ChunkFile
    lower: Key | None = None
    upper: Key | None = None
    natural: bool = False


@dataclass(frozen=True, slots=True)
class FoundDamage:
    file: str
    at: int
    bytes: int
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class PlannedFiles:
    """Chunks by the files of a dump, in order; and what of them cannot be read."""

    files: tuple[FoundFile, ...]
    damage: tuple[FoundDamage, ...] = ()
    conflicts: tuple[tuple[str, str], ...] = ()
    """Of a dry run, as in `Planned`."""


@dataclass(frozen=True, slots=True)
class Split:
    """`n` boundaries cut a chunk's range into `n + 1` parts with so many documents."""

    boundaries: tuple[Key, ...]
    documents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    key: Key
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Dumped:
    file: str
    documents: int
    bytes: int
    file_bytes: int
    blocks: int
    sha256: str
    erased: int = 0
    rejected: int = 0
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """How far a restore came, counted over all its attempts; `position` in the chunk file."""

    position: int
    documents: int
    bytes: int
    present: int
    rejected: int
    rejections: tuple[Rejection, ...] = ()
    """Those since the last news."""
    repaired: int = 0
    """Since the last news too."""


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a copy came, counted over all its attempts; `position` in documents read."""

    position: int
    last_key: Key | None
    documents: int
    bytes: int
    present: int
    rejected: int
    rejections: tuple[Rejection, ...] = ()
    """Those since the last news."""
    repaired: int = 0
    """Since the last news too."""


@dataclass(frozen=True, slots=True)
class Built:
    """An index stands."""


@dataclass(frozen=True, slots=True)
class Verified:
    equal: bool
    source_documents: int
    target_documents: int
    source_digest: str
    target_digest: str
    rejected: int
    differing: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    differing: tuple[MetadataDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifested:
    sha256: str
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Unfiled:
    """Chunk files that a dump was to hold are not as they were written; each with the reason."""

    chunks: tuple[tuple[ChunkId, str], ...]


@dataclass(frozen=True, slots=True)
class Capturing:
    """The keys of all changes up to a cluster time are durable."""

    token: BsonText
    cluster_time: str
    changes: int
    """Over all attempts."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The keys of all changes up to a cluster time are durable, and `units` is what stood then."""

    units: tuple[FoundUnit, ...]
    token: BsonText
    cluster_time: str
    changes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundShard:
    """A key range of a collection in an increment, and the file with its documents."""

    namespace: str
    target: str
    type: UnitType
    lower: Key | None
    upper: Key | None
    file: ChunkFile


@dataclass(frozen=True, slots=True)
class Shaped:
    shards: tuple[FoundShard, ...]
    """Of the increment: the same in every attempt."""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applying:
    """How far the target has a shard, counted over all attempts; `position` in its file."""

    position: int
    last_key: Key | None
    documents: int
    erased: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Settled:
    differing: tuple[MetadataDifference, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """One round: what changed up to `cluster_time` is on the target."""

    token: BsonText
    cluster_time: str
    lag_ms: int
    documents: int = 0
    erased: int = 0
    bytes: int = 0
    changes: tuple[str, ...] = ()
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Operated:
    """An operation of a group is applied."""

    changes: tuple[str, ...] = ()
    """In words."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an operation did is taken back; see `events.UndoCompleted`."""

    documents: int = 0
    kept: int = 0
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """A chunk file is gone."""


Result = (
    Surveyed
    | Created
    | Planned
    | PlannedFiles
    | Split
    | Dumped
    | Restored
    | Copied
    | Built
    | Verified
    | Finished
    | Manifested
    | Unfiled
    | Captured
    | Shaped
    | Applying
    | Settled
    | Followed
    | Operated
    | Undone
    | Released
)


# --- outcomes ---


@dataclass(frozen=True, slots=True)
class Succeeded:
    task: TaskKey
    attempt: int
    epoch: int
    result: Result


@dataclass(frozen=True, slots=True)
class Progressed:
    """Part of a restore, a copy, a shard or a capture is durable; more follows."""

    task: TaskKey
    attempt: int
    epoch: int
    result: Restored | Copied | Applying | Capturing


@dataclass(frozen=True, slots=True)
class Resized:
    """Write commands for the unit hold another number of documents than the journal last said."""

    unit: UnitId
    documents: int
    bytes: int
    cause: BatchCause
    batch_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The world said no."""

    task: TaskKey
    attempt: int
    epoch: int
    cause: Cause
    code: str
    why: str
    jitter: float = 0.5
    """Drawn by the shell, in 0..1: the rules know no chance."""
    retry_after_ms: int = 0
    """What a throttling server asked for."""


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """A restore found its chunk file cut, changed or missing, before it wrote anything of it."""

    task: TaskKey
    attempt: int
    epoch: int
    why: str


Outcome = Succeeded | Failed | FileDamaged
Asked = (
    PauseAsked
    | StopAsked
    | SetAsked
    | PriorityAsked
    | ExcludeAsked
    | AddAsked
    | SplitAsked
    | RequeueAsked
    | DropAsked
    | CutoverAsked
    | RollbackAsked
    | CommitAsked
)
"""What operators ask of a job; each gets an answer in the journal."""
Stimulus = (
    JobAsked
    | GroupAsked
    | RunBegan
    | Asked
    | Measured
    | Resized
    | ExportAsked
    | ImportAsked
    | Tick
    | Progressed
    | Outcome
)
