"""The facts: what can stand in a journal. Past tense, frozen, strict, a literal `kind`.

Time, epoch and sequence live in the envelope (`journal.protocol.Recorded`). The kinds and
fields are a public format: `tests/golden/events` holds one of each, for ever.
"""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from statemachine.words import (
    Alert,
    BsonText,
    Cause,
    ChunkId,
    Key,
    Millis,
    Pool,
    TaskKey,
    TaskKind,
    UnitId,
    Verb,
)


class Value(BaseModel):
    """A part of an event."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Event(Value):
    """Something that happened."""

    kind: str

    @property
    def about(self) -> str:
        """The entity that the event is about, for filters and reports."""
        return "job"


Priority = Annotated[int, Field(ge=-9, le=9)]
"""Of units and chunks: the higher goes first."""


# --- what was asked for ---


class JobSpec(Value):
    """What a job is to do; fixed for its life. URIs stand here without credentials."""

    kind: Literal["migrate", "verify", "plan"]
    """`plan` is a dry run: what a migration would do, and nothing done."""
    mode: Literal["coordinated", "direct"]
    source: str
    target: str
    source_id: str
    """Identity of the source deployment, made by `executors.clients`."""
    target_id: str
    include: tuple[str, ...] = ()
    """Globs over `db.collection`; empty means everything that is not the server's own."""
    exclude: tuple[str, ...] = ()
    chunk_docs: PositiveInt
    chunk_bytes: PositiveInt
    compression: Literal["none", "zstd"]
    write_concern: str
    """`majority`, or a number of members as text."""
    drop: bool
    on_conflict: Literal["stop", "skip", "overwrite"]
    verify: bool
    of: str = ""
    """For a `verify` job: the job whose work it verifies."""


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


class IndexSpec(Value):
    """One index, as the source server describes it."""

    name: str
    unique: bool
    spec: BsonText


# --- the job ---


class JobRequested(Event):
    """Somebody asked for a job."""

    kind: Literal["job_requested"] = "job_requested"
    by: str
    spec: JobSpec


class RunStarted(Event):
    """A process took the job over; whatever an older epoch started is in doubt from here on."""

    kind: Literal["run_started"] = "run_started"
    epoch: PositiveInt
    by: str
    host: str
    pid: PositiveInt
    version: str
    settings: RunSettings


class PauseRequested(Event):
    """Nothing new starts from here on; what runs goes on to its outcome (A18)."""

    kind: Literal["pause_requested"] = "pause_requested"
    by: str
    why: str
    request: NonNegativeInt
    """Number of the inbox request that asked; 0 when none did."""
    immediate: bool
    """What runs is cancelled, in doubt until somebody resumes."""


class StopRequested(Event):
    """As a pause, by an operator who does not want the job to go on by itself (M2)."""

    kind: Literal["stop_requested"] = "stop_requested"
    by: str
    why: str
    request: NonNegativeInt
    immediate: bool
    rollback: bool
    """What the job created is to be undone."""


class JobStopped(Event):
    """The stop was reached: nothing runs."""

    kind: Literal["job_stopped"] = "job_stopped"


class JobPaused(Event):
    """The pause was reached: nothing runs; after a controlled one nothing is in doubt."""

    kind: Literal["job_paused"] = "job_paused"


class JobResumed(Event):
    """Somebody asked to go on after a pause (A19)."""

    kind: Literal["job_resumed"] = "job_resumed"
    by: str


class JobReopened(Event):
    """A dead letter of a finished job was requeued: there is work again."""

    kind: Literal["job_reopened"] = "job_reopened"
    by: str


class JobExported(Event):
    """The job leaves this journal: no run of an older epoch may append any more (P4)."""

    kind: Literal["job_exported"] = "job_exported"
    epoch: PositiveInt
    by: str
    host: str


class JobImported(Event):
    """The job arrived in this journal; what was at work when it left is in doubt from here on."""

    kind: Literal["job_imported"] = "job_imported"
    by: str
    host: str


class JobCompleted(Event):
    """Every unit reached its end; rejects and differences, if any, are counted here."""

    kind: Literal["job_completed"] = "job_completed"
    rejected: NonNegativeInt
    dead_letters: NonNegativeInt
    mismatched: NonNegativeInt


class JobFailed(Event):
    """The job ended without reaching what was asked for."""

    kind: Literal["job_failed"] = "job_failed"
    code: str
    why: str


class SettingChanged(Event):
    """Somebody changed how the job runs, while it runs or rests."""

    kind: Literal["setting_changed"] = "setting_changed"
    by: str
    request: NonNegativeInt
    name: str
    """A field of `RunSettings`."""
    value: int | str
    was: int | str


class PriorityChanged(Event):
    """Somebody moved a unit or a chunk before or behind the others; 0 is where all begin."""

    kind: Literal["priority_changed"] = "priority_changed"
    by: str
    request: NonNegativeInt
    entity: str
    priority: Priority
    was: Priority

    @property
    def about(self) -> str:
        return self.entity


class NamespacesAdded(Event):
    """Somebody wants more of the source carried: it is surveyed again for these globs."""

    kind: Literal["namespaces_added"] = "namespaces_added"
    by: str
    request: NonNegativeInt
    include: tuple[str, ...]


class RequestRefused(Event):
    """Somebody asked for what does not fit; nothing was done."""

    kind: Literal["request_refused"] = "request_refused"
    by: str
    request: NonNegativeInt
    verb: str
    why: str


class BreakerOpened(Event):
    """So many failures in a row that nothing of this pool starts before `until_ms`; then one
    task probes."""

    kind: Literal["breaker_opened"] = "breaker_opened"
    pool: Pool
    failures: PositiveInt
    open_ms: PositiveInt
    until_ms: Millis
    why: str

    @property
    def about(self) -> str:
        return f"{self.pool} pool"


class BreakerClosed(Event):
    """Something of the pool succeeded."""

    kind: Literal["breaker_closed"] = "breaker_closed"
    pool: Pool

    @property
    def about(self) -> str:
        return f"{self.pool} pool"


class AlertRaised(Event):
    """Something is not as it should be; it lasts until the alert is cleared."""

    kind: Literal["alert_raised"] = "alert_raised"
    alert: Alert
    entity: str
    value: float
    limit: float
    why: str

    @property
    def about(self) -> str:
        return self.entity


class AlertCleared(Event):
    """It is as it should be again."""

    kind: Literal["alert_cleared"] = "alert_cleared"
    alert: Alert
    entity: str
    value: float

    @property
    def about(self) -> str:
        return self.entity


class ResultIgnored(Event):
    """News of a task that no longer waits for it arrived and changed nothing (I20)."""

    kind: Literal["result_ignored"] = "result_ignored"
    task: TaskKind
    entity: str
    attempt: NonNegativeInt
    epoch: PositiveInt
    what: str

    @property
    def about(self) -> str:
        return self.entity


# --- units and chunks ---


class UnitRegistered(Event):
    """A collection or view of the source belongs to the job."""

    kind: Literal["unit_registered"] = "unit_registered"
    unit: UnitId
    target: str
    type: Literal["collection", "view"]
    uuid: str
    """The collection's UUID on the source, hexadecimal; empty for a view."""
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents: NonNegativeInt
    bytes: NonNegativeInt

    @property
    def about(self) -> str:
        return self.unit


class ChunkPlanned(Event):
    """A key range of a unit became a chunk: from `lower` (included) to `upper` (not included).

    `None` is the open end: below every `_id` of every type, above every one (MaxKey included).
    """

    kind: Literal["chunk_planned"] = "chunk_planned"
    unit: UnitId
    chunk: ChunkId
    lower: Key | None
    upper: Key | None
    documents: NonNegativeInt
    """An estimate."""
    natural: bool
    """Read in insertion order (capped collections) instead of `_id` order."""

    @property
    def about(self) -> str:
        return self.chunk


class UnitCompleted(Event):
    """Every chunk of the unit is settled and every index was tried."""

    kind: Literal["unit_completed"] = "unit_completed"
    unit: UnitId

    @property
    def about(self) -> str:
        return self.unit


class UnitSkipped(Event):
    """A task of the unit was dead-lettered and the policy is to go on without the unit."""

    kind: Literal["unit_skipped"] = "unit_skipped"
    unit: UnitId
    why: str

    @property
    def about(self) -> str:
        return self.unit


class UnitExcluded(Event):
    """Somebody took the unit out of the job; what the target has of it stays there."""

    kind: Literal["unit_excluded"] = "unit_excluded"
    unit: UnitId
    by: str
    request: NonNegativeInt

    @property
    def about(self) -> str:
        return self.unit


class ConflictForeseen(Event):
    """A dry run saw what will go wrong, or may."""

    kind: Literal["conflict_foreseen"] = "conflict_foreseen"
    unit: UnitId
    code: str
    why: str

    @property
    def about(self) -> str:
        return self.unit


class SplitRequested(Event):
    """The chunk is to be cut in two: somebody finds it too big, or something in it fails."""

    kind: Literal["split_requested"] = "split_requested"
    chunk: ChunkId
    by: str
    request: NonNegativeInt
    why: str

    @property
    def about(self) -> str:
        return self.chunk


class ChunkReplaced(Event):
    """Other chunks, planned next, cover the range of this one: they begin from nothing."""

    kind: Literal["chunk_replaced"] = "chunk_replaced"
    chunk: ChunkId
    by: str
    request: NonNegativeInt
    why: str

    @property
    def about(self) -> str:
        return self.chunk


class ChunkDropped(Event):
    """The job goes on without this chunk; its documents count as rejected."""

    kind: Literal["chunk_dropped"] = "chunk_dropped"
    chunk: ChunkId
    by: str
    request: NonNegativeInt
    documents: NonNegativeInt
    """Not carried; an estimate."""
    why: str

    @property
    def about(self) -> str:
        return self.chunk


class IndexDropped(Event):
    """The job goes on without this index of the target."""

    kind: Literal["index_dropped"] = "index_dropped"
    entity: str
    by: str
    request: NonNegativeInt

    @property
    def about(self) -> str:
        return self.entity


class ChunkReleased(Event):
    """The chunk's file is no longer needed and is gone."""

    kind: Literal["chunk_released"] = "chunk_released"
    chunk: ChunkId

    @property
    def about(self) -> str:
        return self.chunk


class ChunkKept(Event):
    """The chunk is settled but its file stays in the work folder."""

    kind: Literal["chunk_kept"] = "chunk_kept"
    chunk: ChunkId
    why: str

    @property
    def about(self) -> str:
        return self.chunk


class DocumentRejected(Event):
    """The target refused one document, or holds another under the same `_id`."""

    kind: Literal["document_rejected"] = "document_rejected"
    chunk: ChunkId
    key: Key
    code: str
    why: str

    @property
    def about(self) -> str:
        return self.chunk


# --- tasks: one life, one class per verb, one kind per task and verb ---


TASK_OF: Final = {f"{task}_{verb}": task for task in TaskKind for verb in Verb}


class TaskEvent(Event):
    """Something that happened to a task; `kind` is `<task kind>_<verb>`."""

    verb: ClassVar[Verb]
    entity: str

    @classmethod
    def of(cls, task: TaskKey, **fields: object) -> Self:
        """This verb for that task. Raises `ValidationError` for a task that knows no such verb."""
        kind = f"{task.kind}_{cls.verb}"
        return cls.model_validate({"kind": kind, "entity": task.entity, **fields})

    @property
    def task(self) -> TaskKey:
        return TaskKey(TASK_OF[self.kind], self.entity)

    @property
    def about(self) -> str:
        return self.entity


class Started(TaskEvent):
    """The task is about to be handed to an executor; its effect is unknown until an outcome."""

    verb = Verb.STARTED
    kind: Literal[
        "survey_started",
        "create_started",
        "plan_started",
        "dump_started",
        "restore_started",
        "copy_started",
        "split_started",
        "index_started",
        "verify_started",
    ]
    attempt: PositiveInt


class RetryScheduled(TaskEvent):
    """The attempt did not succeed; the task may start again from `not_before_ms`."""

    verb = Verb.RETRY_SCHEDULED
    kind: Literal[
        "survey_retry_scheduled",
        "create_retry_scheduled",
        "plan_retry_scheduled",
        "dump_retry_scheduled",
        "restore_retry_scheduled",
        "copy_retry_scheduled",
        "split_retry_scheduled",
        "index_retry_scheduled",
        "verify_retry_scheduled",
    ]
    attempt: PositiveInt
    cause: Cause
    code: str
    why: str
    delay_ms: NonNegativeInt
    jitter: Annotated[float, Field(ge=0, le=1)]
    not_before_ms: Millis


class DeadLettered(TaskEvent):
    """The task is given up until somebody requeues it (A34)."""

    verb = Verb.DEAD_LETTERED
    kind: Literal[
        "survey_dead_lettered",
        "create_dead_lettered",
        "plan_dead_lettered",
        "dump_dead_lettered",
        "restore_dead_lettered",
        "copy_dead_lettered",
        "split_dead_lettered",
        "index_dead_lettered",
        "verify_dead_lettered",
    ]
    attempt: NonNegativeInt
    cause: Cause
    code: str
    why: str


class Cancelled(TaskEvent):
    """The attempt ended without outcome and without blame; the task is pending again."""

    verb = Verb.CANCELLED
    kind: Literal[
        "survey_cancelled",
        "create_cancelled",
        "plan_cancelled",
        "dump_cancelled",
        "restore_cancelled",
        "copy_cancelled",
        "split_cancelled",
        "index_cancelled",
        "verify_cancelled",
    ]
    attempt: PositiveInt
    code: str
    why: str


class InDoubt(TaskEvent):
    """The process that started this attempt is gone; nobody knows how far it came."""

    verb = Verb.IN_DOUBT
    kind: Literal[
        "survey_in_doubt",
        "create_in_doubt",
        "plan_in_doubt",
        "dump_in_doubt",
        "restore_in_doubt",
        "copy_in_doubt",
        "split_in_doubt",
        "index_in_doubt",
        "verify_in_doubt",
    ]
    attempt: PositiveInt


class Resolved(TaskEvent):
    """What becomes of a task in doubt: done again from nothing, or continued after `position`."""

    verb = Verb.RESOLVED
    kind: Literal[
        "survey_resolved",
        "create_resolved",
        "plan_resolved",
        "dump_resolved",
        "restore_resolved",
        "copy_resolved",
        "split_resolved",
        "index_resolved",
        "verify_resolved",
    ]
    decision: Literal["discard", "continue"]
    position: NonNegativeInt


class Requeued(TaskEvent):
    """Somebody asked for a given-up task to be tried again, with a fresh budget."""

    verb = Verb.REQUEUED
    kind: Literal[
        "survey_requeued",
        "create_requeued",
        "plan_requeued",
        "dump_requeued",
        "restore_requeued",
        "copy_requeued",
        "split_requeued",
        "index_requeued",
        "verify_requeued",
    ]
    by: str
    request: NonNegativeInt


class SurveyCompleted(TaskEvent):
    """Everything the source holds for this job is registered; no unit comes after this (I29)."""

    verb = Verb.COMPLETED
    kind: Literal["survey_completed"] = "survey_completed"
    units: NonNegativeInt


class CreateCompleted(TaskEvent):
    """The target collection stands, with its options and its unique indexes."""

    verb = Verb.COMPLETED
    kind: Literal["create_completed"] = "create_completed"
    built: tuple[str, ...]
    """Names of the indexes that stand already."""
    uuid: str
    """Of the target collection, hexadecimal; empty for a view."""


class PlanCompleted(TaskEvent):
    """The chunks planned so far cover the whole `_id` space of the unit, without overlap (I21)."""

    verb = Verb.COMPLETED
    kind: Literal["plan_completed"] = "plan_completed"
    chunks: PositiveInt


class DumpCompleted(TaskEvent):
    """The chunk file is whole, durable and has its name."""

    verb = Verb.COMPLETED
    kind: Literal["dump_completed"] = "dump_completed"
    file: str
    """Name inside the job's work folder."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    """Of the documents, uncompressed."""
    file_bytes: NonNegativeInt
    blocks: NonNegativeInt
    sha256: str
    """Of the whole file."""


class SurveyInvalidated(TaskEvent):
    """More of the source is wanted: it is surveyed again."""

    verb = Verb.INVALIDATED
    kind: Literal["survey_invalidated"] = "survey_invalidated"
    why: str


class DumpInvalidated(TaskEvent):
    """The chunk file is damaged or gone; the chunk is dumped again (I24)."""

    verb = Verb.INVALIDATED
    kind: Literal["dump_invalidated"] = "dump_invalidated"
    why: str


class RestoreProgressed(TaskEvent):
    """The target acknowledged every block of the chunk file before `position`."""

    verb = Verb.PROGRESSED
    kind: Literal["restore_progressed"] = "restore_progressed"
    attempt: PositiveInt
    position: NonNegativeInt
    """Offset in the chunk file, in bytes: resume goes on here."""
    documents: NonNegativeInt
    """Of this chunk on the target so far: inserted, present, overwritten."""
    bytes: NonNegativeInt
    present: NonNegativeInt
    """Of `documents`: found there already, equal to the byte."""
    rejected: NonNegativeInt


class RestoreCompleted(TaskEvent):
    """The target acknowledged every document of the chunk file, or refused it by name."""

    verb = Verb.COMPLETED
    kind: Literal["restore_completed"] = "restore_completed"
    documents: NonNegativeInt
    bytes: NonNegativeInt
    present: NonNegativeInt
    rejected: NonNegativeInt


class CopyProgressed(TaskEvent):
    """The target acknowledged every document of the chunk up to `last_key`."""

    verb = Verb.PROGRESSED
    kind: Literal["copy_progressed"] = "copy_progressed"
    attempt: PositiveInt
    position: NonNegativeInt
    """Documents read so far."""
    last_key: Key
    """Resume goes on behind it."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    present: NonNegativeInt
    rejected: NonNegativeInt


class CopyCompleted(TaskEvent):
    """The target acknowledged every document of the chunk's range, or refused it by name."""

    verb = Verb.COMPLETED
    kind: Literal["copy_completed"] = "copy_completed"
    documents: NonNegativeInt
    bytes: NonNegativeInt
    present: NonNegativeInt
    rejected: NonNegativeInt


class SplitCompleted(TaskEvent):
    """The chunk is replaced by so many that cover its range without overlap (I21)."""

    verb = Verb.COMPLETED
    kind: Literal["split_completed"] = "split_completed"
    chunks: PositiveInt


class IndexCompleted(TaskEvent):
    """The index stands on the target."""

    verb = Verb.COMPLETED
    kind: Literal["index_completed"] = "index_completed"


class Difference(Value):
    """One document on which source and target disagree."""

    key: Key
    what: Literal["missing", "extra", "different"]
    """On the target, seen from the source."""


class VerifyCompleted(TaskEvent):
    """Source and target were read over the chunk's range and compared."""

    verb = Verb.COMPLETED
    kind: Literal["verify_completed"] = "verify_completed"
    equal: bool
    """Nothing differs but what was rejected."""
    source_documents: NonNegativeInt
    target_documents: NonNegativeInt
    source_digest: str
    target_digest: str
    rejected: NonNegativeInt
    """Differing documents that the restore rejected by name: known, and no mismatch."""
    differing: tuple[Difference, ...]
    """The first few, rejected ones among them."""


Completed = (
    SurveyCompleted
    | CreateCompleted
    | PlanCompleted
    | DumpCompleted
    | RestoreCompleted
    | CopyCompleted
    | SplitCompleted
    | IndexCompleted
    | VerifyCompleted
)

AnyEvent = (
    JobRequested
    | RunStarted
    | PauseRequested
    | JobPaused
    | StopRequested
    | JobStopped
    | JobReopened
    | JobResumed
    | JobCompleted
    | JobFailed
    | JobExported
    | JobImported
    | SettingChanged
    | PriorityChanged
    | NamespacesAdded
    | RequestRefused
    | BreakerOpened
    | BreakerClosed
    | AlertRaised
    | AlertCleared
    | ResultIgnored
    | UnitRegistered
    | ChunkPlanned
    | UnitCompleted
    | UnitSkipped
    | UnitExcluded
    | ConflictForeseen
    | SplitRequested
    | ChunkReplaced
    | ChunkDropped
    | IndexDropped
    | ChunkReleased
    | ChunkKept
    | DocumentRejected
    | Started
    | RetryScheduled
    | DeadLettered
    | Cancelled
    | InDoubt
    | Resolved
    | Requeued
    | SurveyInvalidated
    | DumpInvalidated
    | RestoreProgressed
    | CopyProgressed
    | Completed
)
