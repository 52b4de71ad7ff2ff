"""Arms: the life that all tasks share."""

from typing import Final

from statemachine.errors import UnknownEntity
from statemachine.events import (
    TASK_OF,
    Cancelled,
    DeadLettered,
    InDoubt,
    Requeued,
    Resolved,
    RetryScheduled,
    Started,
    TaskEvent,
)
from statemachine.evolve.chunks import CARRIES, begin_again
from statemachine.evolve.hands import (
    answered,
    enter,
    healed,
    hurt,
    leave,
    once_more,
    probed,
    ripen,
    the_chunk,
)
from statemachine.policy import BISECTED, POOL_OF
from statemachine.state import State, Task
from statemachine.transitions import next_phase, next_task_status
from statemachine.words import (
    Cause,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)


def moved(state: State, event: TaskEvent) -> Task:
    """Move the task that the event is about along its table."""
    kind, entity = TASK_OF[event.kind], event.entity
    task: Task | None = state.tasks.get((kind, entity))  # type: ignore[call-overload] # = its TaskKey
    if task is None:
        raise UnknownEntity(entity=f"{kind} of {entity}", event=event.kind)
    before = task.status
    status = next_task_status(before, event.verb, entity, event.kind)
    if status is not before:
        key = TaskKey(kind, entity)
        leave(state, key, task)
        task.status = status
        enter(state, key, task)
        if (before in ENDS) is not (status in ENDS):
            if kind is TaskKind.INDEX:
                _index_moved(state, key, 1 if before in ENDS else -1)
            elif kind is TaskKind.FINISH:
                ripen(state, state.units[UnitId(entity)])
    return task


def done(state: State, event: TaskEvent) -> Task:
    """It ended well."""
    task = moved(state, event)
    task.interruptions = 0
    healed(state, event)
    return task


ENDS: Final = (Status.COMPLETED, Status.FAILED)


def _index_moved(state: State, key: TaskKey, change: int) -> None:
    unit = state.units[UnitId(key.entity.rpartition("@")[0])]
    unit.indexing += change
    once_more(state, TaskKey(TaskKind.FINISH, unit.id))
    ripen(state, unit)


def started(state: State, event: Started) -> None:
    phase = state.phase
    if phase is not None and event.kind == "shape_started":
        phase = next_phase(phase, event.kind)
    task = moved(state, event)
    task.attempt = event.attempt
    task.epoch = state.epoch
    state.phase = phase
    if state.spec is not None and state.spec.incremental:
        state.highest = max(state.highest, event.attempt)
    breaker = state.breakers[POOL_OF[TASK_OF[event.kind]]]
    if breaker.opened:
        breaker.probe = event.task
    if task.interruptions:
        state.quarantine.pop(event.task, None)


def retry_scheduled(state: State, event: RetryScheduled) -> None:
    task = moved(state, event)
    task.interruptions = 0  # it can end without the process
    if event.cause is Cause.UNAVAILABLE:
        task.waits += 1
        task.waited_ms += event.delay_ms
    else:
        task.failures += 1
    task.delay_ms, task.not_before_ms = event.delay_ms, event.not_before_ms
    task.code, task.why = event.code, event.why
    state.retries += 1
    hurt(state, event.task, event.cause)


def dead_lettered(state: State, event: DeadLettered) -> None:
    known = state.tasks.get(event.task)
    failed = known is not None and known.status is Status.PROCESSING
    task = moved(state, event)
    task.code, task.why = event.code, event.why
    if failed:  # else the failure is counted already
        task.failures += 1
        hurt(state, event.task, event.cause)


def cancelled(state: State, event: Cancelled) -> None:
    task = moved(state, event)
    task.interruptions = 0  # it can end without the process
    task.waits = task.waited_ms = task.delay_ms = 0
    probed(state, event.task)


def in_doubt(state: State, event: InDoubt) -> None:
    """Nobody's fault where an operator wanted it at once."""
    moved(state, event).interruptions += not state.immediate


def resolved(state: State, event: Resolved) -> None:
    if moved(state, event).interruptions and event.task.kind in BISECTED:
        state.quarantine[event.task] = None
    if event.decision == "discard" and event.task.kind in CARRIES:
        begin_again(state, the_chunk(state, event.entity, event))


def requeued(state: State, event: Requeued) -> None:
    task = moved(state, event)
    state.suspects = 0
    task.failures = task.interruptions = 0
    task.waits = task.waited_ms = task.delay_ms = 0
    task.code = task.why = ""
    answered(state, event.request)
