"""Operation groups, and taking back what a job did: every operation brings its undo."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Event
from statemachine.events.tasks import TaskEvent
from statemachine.words import (
    BsonText,
    ChunkId,
    Key,
    OperationId,
    Place,
    TaskKind,
    UnitId,
    Verb,
)

# --- a group: planned, committed, run ---


class OfOperation(Event):
    """Something that happened to an operation of a group."""

    operation: OperationId

    @property
    def about(self) -> str:
        return self.operation


class OperationPlanned(OfOperation):
    """One operation of a group, with its undo (I36, M1). Both are opaque here."""

    kind: Literal["operation_planned"] = "operation_planned"
    forward: BsonText
    compensation: BsonText
    wait_for: tuple[OperationId, ...]
    """Operations that are to be applied before it starts."""
    rollback_wait_for: tuple[OperationId, ...]
    """Operations that are to be undone before it is."""
    target: str
    """Where it runs: the name of an endpoint; empty: the job's target."""
    tries: PositiveInt
    """Attempts that may fail."""


class GroupCommitted(Event):
    """All operations of the group are planned and in order: from here on they may start (P8)."""

    kind: Literal["group_committed"] = "group_committed"
    operations: PositiveInt


class OperationDropped(OfOperation):
    """It was planned and will never start (I37)."""

    kind: Literal["operation_dropped"] = "operation_dropped"
    why: str


class OperationCompleted(TaskEvent):
    """The operation is applied."""

    verb = Verb.COMPLETED
    kind: Literal["operation_completed"] = "operation_completed"
    changes: tuple[str, ...]
    """What it did, in words."""


# --- taking back ---


class UndoPlanned(Event):
    """One undo of a rollback that is about to begin: of an operation that was started, whatever
    became of it (I37)."""

    kind: Literal["undo_planned"] = "undo_planned"
    number: PositiveInt
    """Place in the order of undoing, from 1: the reverse of the order of starting (I38)."""
    task: TaskKind
    entity: str
    """The operation: what was started."""
    unit: UnitId | None
    acknowledged: bool = False
    """The journal holds an end or a progress of it: then its undo log has to be there."""
    chunk: ChunkId | None = None
    """Of what carried documents; all fields below are of it."""
    lower: Key | None = None
    upper: Key | None = None
    natural: bool = False
    file: str = ""
    """Where its documents lay; empty: they came from the source without a file."""
    file_at: NonNegativeInt = 0
    file_place: Place = "work"
    file_documents: NonNegativeInt = 0
    bytes: NonNegativeInt = 0
    file_bytes: NonNegativeInt = 0
    sha256: str = ""
    documents: NonNegativeInt = 0
    """That the target held in the range when it was verified."""
    digest: str = ""
    """Of these; empty: it was not verified."""

    @property
    def about(self) -> str:
        return f"{self.task} {self.entity}"


class RollbackStarted(Event):
    """What is to be undone stands fixed in the events before this one (I38)."""

    kind: Literal["rollback_started"] = "rollback_started"
    by: str
    request: NonNegativeInt
    why: str
    undos: NonNegativeInt
    to: str
    """Everything started after this operation is undone; empty: everything."""
    force: bool
    """Collections that the job made go, whatever others wrote to them since."""
    continue_on_error: bool
    """A failed undo stops only those that wait for it."""


class UndoCompleted(TaskEvent):
    """What one operation did is gone from the target."""

    verb = Verb.COMPLETED
    kind: Literal["undo_completed"] = "undo_completed"
    documents: NonNegativeInt
    """Removed or put back."""
    kept: NonNegativeInt
    """Documents and other things that others changed since: they stay as they are."""
    changes: tuple[str, ...]
    """What was done, and what was kept, in words."""


class UndoSkipped(Event):
    """The rollback goes on without this undo, or ended without it."""

    kind: Literal["undo_skipped"] = "undo_skipped"
    entity: str
    """Of the undo: task kind and entity of the operation."""
    by: str
    request: NonNegativeInt
    why: str

    @property
    def about(self) -> str:
        return self.entity


class JobRolledBack(Event):
    """Everything that was to be undone is undone, or was skipped by somebody's word (I41)."""

    kind: Literal["job_rolled_back"] = "job_rolled_back"
    undone: NonNegativeInt
    skipped: NonNegativeInt
    kept: NonNegativeInt


class RollbackFailed(Event):
    """An undo failed for good: the rollback stops there until somebody goes on with it."""

    kind: Literal["rollback_failed"] = "rollback_failed"
    code: str
    why: str


class RollbackContinued(Event):
    """Somebody goes on with a rollback that rested."""

    kind: Literal["rollback_continued"] = "rollback_continued"
    by: str


class JobCommitted(Event):
    """Nobody can take the job back any more: what was kept for that is freed."""

    kind: Literal["job_committed"] = "job_committed"
    by: str
