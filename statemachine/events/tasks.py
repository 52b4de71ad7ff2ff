"""One life for all tasks: one class per verb, one kind per task and verb."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from statemachine.events.base import Event
from statemachine.words import (
    Cause,
    Millis,
    TaskKey,
    TaskKind,
    Verb,
)

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
        "census_started",
        "plan_started",
        "dump_started",
        "restore_started",
        "copy_started",
        "split_started",
        "index_started",
        "verify_started",
        "finish_started",
        "manifest_started",
        "capture_started",
        "shape_started",
        "apply_started",
        "settle_started",
        "follow_started",
        "operation_started",
        "undo_started",
    ]
    attempt: PositiveInt


class RetryScheduled(TaskEvent):
    """The attempt did not succeed; the task may start again from `not_before_ms`."""

    verb = Verb.RETRY_SCHEDULED
    kind: Literal[
        "survey_retry_scheduled",
        "create_retry_scheduled",
        "census_retry_scheduled",
        "plan_retry_scheduled",
        "dump_retry_scheduled",
        "restore_retry_scheduled",
        "copy_retry_scheduled",
        "split_retry_scheduled",
        "index_retry_scheduled",
        "verify_retry_scheduled",
        "finish_retry_scheduled",
        "manifest_retry_scheduled",
        "capture_retry_scheduled",
        "shape_retry_scheduled",
        "apply_retry_scheduled",
        "settle_retry_scheduled",
        "follow_retry_scheduled",
        "operation_retry_scheduled",
        "undo_retry_scheduled",
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
        "census_dead_lettered",
        "plan_dead_lettered",
        "dump_dead_lettered",
        "restore_dead_lettered",
        "copy_dead_lettered",
        "split_dead_lettered",
        "index_dead_lettered",
        "verify_dead_lettered",
        "finish_dead_lettered",
        "manifest_dead_lettered",
        "capture_dead_lettered",
        "shape_dead_lettered",
        "apply_dead_lettered",
        "settle_dead_lettered",
        "follow_dead_lettered",
        "operation_dead_lettered",
        "undo_dead_lettered",
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
        "census_cancelled",
        "plan_cancelled",
        "dump_cancelled",
        "restore_cancelled",
        "copy_cancelled",
        "split_cancelled",
        "index_cancelled",
        "verify_cancelled",
        "finish_cancelled",
        "manifest_cancelled",
        "capture_cancelled",
        "shape_cancelled",
        "apply_cancelled",
        "settle_cancelled",
        "follow_cancelled",
        "operation_cancelled",
        "undo_cancelled",
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
        "census_in_doubt",
        "plan_in_doubt",
        "dump_in_doubt",
        "restore_in_doubt",
        "copy_in_doubt",
        "split_in_doubt",
        "index_in_doubt",
        "verify_in_doubt",
        "finish_in_doubt",
        "manifest_in_doubt",
        "capture_in_doubt",
        "shape_in_doubt",
        "apply_in_doubt",
        "settle_in_doubt",
        "follow_in_doubt",
        "operation_in_doubt",
        "undo_in_doubt",
    ]
    attempt: PositiveInt


class Resolved(TaskEvent):
    """What becomes of a task in doubt: done again from nothing, or continued after `position`."""

    verb = Verb.RESOLVED
    kind: Literal[
        "survey_resolved",
        "create_resolved",
        "census_resolved",
        "plan_resolved",
        "dump_resolved",
        "restore_resolved",
        "copy_resolved",
        "split_resolved",
        "index_resolved",
        "verify_resolved",
        "finish_resolved",
        "manifest_resolved",
        "capture_resolved",
        "shape_resolved",
        "apply_resolved",
        "settle_resolved",
        "follow_resolved",
        "operation_resolved",
        "undo_resolved",
    ]
    decision: Literal["discard", "continue"]
    position: NonNegativeInt


class Requeued(TaskEvent):
    """Somebody asked for a given-up task to be tried again, with a fresh budget."""

    verb = Verb.REQUEUED
    kind: Literal[
        "survey_requeued",
        "create_requeued",
        "census_requeued",
        "plan_requeued",
        "dump_requeued",
        "restore_requeued",
        "copy_requeued",
        "split_requeued",
        "index_requeued",
        "verify_requeued",
        "finish_requeued",
        "manifest_requeued",
        "capture_requeued",
        "shape_requeued",
        "apply_requeued",
        "settle_requeued",
        "follow_requeued",
        "operation_requeued",
        "undo_requeued",
    ]
    by: str
    request: NonNegativeInt
