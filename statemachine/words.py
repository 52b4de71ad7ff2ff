"""The vocabulary: ids, kinds and statuses, each word with one meaning.

`docs/GLOSSARY.md` says the same in sentences. Units stand last in names; `_ms` is
milliseconds since the Unix epoch for instants, milliseconds for durations.
"""

from enum import StrEnum
from typing import Literal, NamedTuple, NewType

JobId = NewType("JobId", str)
UnitId = NewType("UnitId", str)
"""A unit is one collection or view; its id is its source namespace, `db.collection`."""
ChunkId = NewType("ChunkId", str)
"""A chunk is one key range of a unit; its id is `db.collection#index`."""
ShardId = NewType("ShardId", str)
"""A shard is one key range of one collection in one increment; its id is `link:number#index`."""
OperationId = NewType("OperationId", str)
"""An operation of a group; its id is the name that its author gave it."""
Key = NewType("Key", str)
"""A document's `_id` as text. Opaque here: only `executors.boundaries` makes and reads it."""
BsonText = NewType("BsonText", str)
"""One BSON document as text, exact to the byte. Opaque here, like `Key`."""
Millis = NewType("Millis", int)
UnitType = Literal["collection", "view", "timeseries"]
Found = Literal["", "nothing", "empty", "documents"]
"""What lay under a name before a job came; empty: nobody looked."""
Place = Literal["work", "dump", "store"]
"""Where a chunk file lies: in the job's work folder, which is cleared, in a dump, or in a dump of
an object store, from which it comes to the work folder while it is needed."""


class TaskKind(StrEnum):
    """Everything that has an effect is a task; all tasks share one life (`TASK_TRANSITIONS`)."""

    __hash__ = str.__hash__  # an enum's own hash runs in Python: half the time of a replay

    SURVEY = "survey"
    """Of a job: list what the source holds, register the units."""
    CREATE = "create"
    """Of a unit: make the target collection with its options and unique indexes."""
    CENSUS = "census"
    """Of a unit that is exported into columns: which fields of which types its documents have."""
    PLAN = "plan"
    """Of a unit: cut its `_id` space into chunks."""
    DUMP = "dump"
    """Of a chunk: source to chunk file; of an export, to files in its format."""
    RESTORE = "restore"
    """Of a chunk: chunk file to target."""
    COPY = "copy"
    """Of a chunk: source to target, without a file (direct mode)."""
    SPLIT = "split"
    """Of a chunk: find where to cut it in two."""
    INDEX = "index"
    """Of one index of a unit: build it on the target, after the data."""
    VERIFY = "verify"
    """Of a chunk: source and target hold the same documents."""
    FINISH = "finish"
    """Of a unit, when all else is done: expiry is switched on, what stands there is compared."""
    MANIFEST = "manifest"
    """Of a job that dumps or exports, when all else is done: its files become one whole."""
    RELEASE = "release"
    """Of a chunk: its file is no longer needed and is removed."""
    CAPTURE = "capture"
    """Of a job that dumps an increment: learn which documents changed, up to one cluster time."""
    SHAPE = "shape"
    """Of an increment: the target's collections become those that stood at its end."""
    APPLY = "apply"
    """Of a shard: its documents to the target, and what was deleted away from it."""
    SETTLE = "settle"
    """Of an increment, or of a job that followed: indexes are built, what stands is compared."""
    FOLLOW = "follow"
    """Of a job that follows its source: one round of changes to the target."""
    OPERATION = "operation"
    """Of an operation of a group: what it does."""
    UNDO = "undo"
    """Of a rollback: what one operation did is taken back."""


class Status(StrEnum):
    """Where a task stands."""

    __hash__ = str.__hash__

    PENDING = "pending"
    WAITING = "waiting"
    PROCESSING = "processing"
    IN_DOUBT = "in_doubt"
    COMPLETED = "completed"
    FAILED = "failed"


class Verb(StrEnum):
    """What can happen to a task; `<task kind>_<verb>` is the kind of its event."""

    __hash__ = str.__hash__

    STARTED = "started"
    PROGRESSED = "progressed"
    COMPLETED = "completed"
    RETRY_SCHEDULED = "retry_scheduled"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"
    RESOLVED = "resolved"
    REQUEUED = "requeued"
    INVALIDATED = "invalidated"


class UnitStatus(StrEnum):
    """Where a unit stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXCLUDED = "excluded"
    """An operator took it out of the job."""


class JobStatus(StrEnum):
    """Where a job stands. What the rejects and differences of a completed one are, is counted."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """As paused, by an operator's word that it is not to go on by itself."""
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    """What the job did is being taken back."""
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_FAILED = "rollback_failed"
    """An undo failed: nothing more happens before somebody goes on."""
    ROLLED_BACK = "rolled_back"
    MOVED = "moved"
    """Exported to go on elsewhere: this journal may only look."""


class Phase(StrEnum):
    """Where the restore of a chain stands."""

    INVALID = "invalid"
    """Nobody looked at the chain yet."""
    ALLOCATING = "allocating"
    """The chain is accepted; the full dump, or the next increment, is to be applied."""
    PROPOSING = "proposing"
    """The target's collections become those of the increment."""
    WAITING = "waiting"
    """The shards of the increment are at work."""
    APPLYING = "applying"
    """All increments are applied; the job is about to end."""
    DONE = "done"
    FAILED = "failed"


class Cause(StrEnum):
    """Who can make a failure go away: time, nobody, or only the operator."""

    TRANSIENT = "transient"
    """The same attempt may succeed later: a cursor lost, a write conflict, a time limit."""
    UNAVAILABLE = "unavailable"
    """The deployment serves nobody now: network, failover, throttling. It is waited out."""
    PERMANENT = "permanent"
    """The same attempt will fail again: the task is dead-lettered at once."""
    FATAL = "fatal"
    """No attempt of any task can succeed now: disk full, not authorised. The job pauses."""


class Pool(StrEnum):
    """Tasks that share workers and one breaker; what each holds is `policy.POOLS`."""

    __hash__ = str.__hash__

    DUMP = "dump"
    RESTORE = "restore"
    APPLY = "apply"


class Alert(StrEnum):
    """What an operator wants to be told while it lasts."""

    ERROR_RATE = "error_rate"
    RETRIES = "retries"
    STALLED = "stalled"
    SLOW = "slow"
    BREAKER = "breaker"
    MEMORY = "memory"
    CPU = "cpu"
    DISK = "disk"
    THROTTLED = "throttled"
    """A server asks for less, or has more in its cache than it can write out."""


BatchCause = Literal["learned", "faster", "slower", "throttled", "cache", "memory", "set"]
"""Why write commands hold more or fewer documents: as in a job before, the last ones took less or
more time than they should, the server asked for less, its cache is full, memory is short, or an
operator wants it so."""


class TaskKey(NamedTuple):
    """The identity of a task: its kind and the id of what it works on."""

    kind: TaskKind
    entity: str
    """`job`, a unit id, a chunk id, `<unit id>@<index name>`, `link:<number>`, a shard id, an
    operation id, or, of an undo, the kind and the entity of what is undone."""


THE_JOB = "job"
"""The entity of tasks that belong to the job as a whole."""


def unit_of(key: TaskKey) -> UnitId | None:
    """The unit a task belongs to; `None` for tasks of the job."""
    match key.kind:
        case TaskKind.SURVEY | TaskKind.MANIFEST | TaskKind.CAPTURE | TaskKind.FOLLOW:
            return None
        case TaskKind.SHAPE | TaskKind.APPLY | TaskKind.SETTLE:
            return None
        case TaskKind.OPERATION | TaskKind.UNDO:
            return None
        case TaskKind.CREATE | TaskKind.CENSUS | TaskKind.PLAN | TaskKind.FINISH:
            return UnitId(key.entity)
        case TaskKind.INDEX:
            return UnitId(key.entity.rpartition("@")[0])
        case _:
            return UnitId(key.entity.rpartition("#")[0])


def index_task(unit_id: UnitId, name: str) -> TaskKey:
    """The task that builds this index; index names may hold any character but NUL."""
    escaped = name.replace("%", "%25").replace("@", "%40")
    return TaskKey(TaskKind.INDEX, f"{unit_id}@{escaped}")


def undo_task(of: TaskKind, entity: str) -> TaskKey:
    """The task that takes back what this one did."""
    return TaskKey(TaskKind.UNDO, f"{of} {entity}")


def link_entity(number: int) -> str:
    """The entity of the tasks that belong to an increment."""
    return f"link:{number}"
