"""One job as a whole."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from statemachine.events import JobSpec, RunSettings
from statemachine.state.entities import Breaker, Chunk, Link, Operation, Shard, Task, Undo, Unit
from statemachine.state.stages import reads_dump, stages_of
from statemachine.words import (
    Alert,
    ChunkId,
    JobStatus,
    OperationId,
    Phase,
    Pool,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)

RESTING: Final = (
    JobStatus.PAUSED,
    JobStatus.STOPPED,
    JobStatus.ROLLBACK_PAUSED,
    JobStatus.ROLLBACK_FAILED,
    JobStatus.MOVED,
)


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
