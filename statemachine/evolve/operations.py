"""Arms: groups of operations, and taking back what a job did."""

from dataclasses import replace

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    GroupCommitted,
    JobCommitted,
    JobRolledBack,
    OperationCompleted,
    OperationDropped,
    OperationPlanned,
    RollbackContinued,
    RollbackFailed,
    RollbackStarted,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.evolve.hands import answered, put, remove
from statemachine.evolve.job import job_moved_on
from statemachine.evolve.tasks import done
from statemachine.state import ChunkFile, Operation, State, Task, Undo
from statemachine.words import JobStatus, Status, TaskKey, TaskKind, undo_task


def operation_planned(state: State, event: OperationPlanned) -> None:
    if state.spec is None or state.spec.kind != "group" or state.closed:
        raise UnknownEntity(entity=event.operation, event=event.kind)
    if event.operation in state.operations:
        raise ImpossibleTransition(entity=event.operation, status="planned", event=event.kind)
    fields = {name: getattr(event, name) for name in Operation.__slots__ if hasattr(event, name)}
    state.operations[event.operation] = Operation(id=event.operation, **fields)


def group_committed(state: State, event: GroupCommitted) -> None:
    """From here on its operations may start."""
    if state.spec is None or state.spec.kind != "group" or state.closed:
        raise ImpossibleTransition(entity="", status=state.status, event=event.kind)
    state.closed = True
    for operation in state.operations:
        put(state, TaskKey(TaskKind.OPERATION, operation), Task())


def operation_dropped(state: State, event: OperationDropped) -> None:
    operation = state.operations.get(event.operation)
    key = TaskKey(TaskKind.OPERATION, event.operation)
    task = state.tasks.get(key)
    if operation is None or task is None:
        raise UnknownEntity(entity=event.operation, event=event.kind)
    if task.attempt:
        raise ImpossibleTransition(entity=event.operation, status=task.status, event=event.kind)
    operation.cancelled = True
    remove(state, key)


def operation_completed(state: State, event: OperationCompleted) -> None:
    done(state, event)


# --- taking back ---


def undo_planned(state: State, event: UndoPlanned) -> None:
    """Its task can be started when the rollback has."""
    key = undo_task(event.task, event.entity)
    if state.spec is None or (event.unit is not None and event.unit not in state.units):
        raise UnknownEntity(entity=key.entity, event=event.kind)
    if key.entity in state.undos or key in state.tasks or not state.resting:
        raise ImpossibleTransition(entity=key.entity, status="planned", event=event.kind)
    file = None
    if event.file:
        file = ChunkFile(
            event.file,
            event.file_documents,
            event.bytes,
            event.file_bytes,
            event.sha256,
            event.file_at,
            event.file_place,
        )
    fields = {name: getattr(event, name) for name in Undo.__slots__ if name != "file"}
    state.undos[key.entity] = Undo(**fields, file=file)
    put(state, key, Task())


def rollback_started(state: State, event: RollbackStarted) -> None:
    job_moved_on(state, event)
    state.why, state.code = event.why, ""
    state.rollback = False
    state.rolled_to, state.forced = event.to, event.force
    state.persevering = event.continue_on_error
    answered(state, event.request)


def undo_completed(state: State, event: UndoCompleted) -> None:
    done(state, event)
    state.undone += 1
    state.undo_kept += event.kept


def undo_skipped(state: State, event: UndoSkipped) -> None:
    key = TaskKey(TaskKind.UNDO, event.entity)
    task = state.tasks.get(key)
    if task is None:
        raise UnknownEntity(entity=event.entity, event=event.kind)
    if task.status in (Status.PROCESSING, Status.IN_DOUBT, Status.COMPLETED):
        raise ImpossibleTransition(entity=event.entity, status=task.status, event=event.kind)
    remove(state, key)
    task.status = Status.COMPLETED
    state.tasks[key] = task
    state.skipped += 1
    answered(state, event.request)


def job_rolled_back(state: State, event: JobRolledBack) -> None:
    """Its undos stay known, so that none is ever planned again. What a chunk brought was taken
    out, or went with its collection: it is nothing any more by which a later one is proven."""
    job_moved_on(state, event)
    state.undos = {
        entity: replace(each, file=None, lower=None, upper=None, chunk=None, digest="")
        for entity, each in state.undos.items()
    }


def rollback_failed(state: State, event: RollbackFailed) -> None:
    job_moved_on(state, event)
    state.code, state.why = event.code, event.why


def rollback_continued(state: State, event: RollbackContinued) -> None:
    job_moved_on(state, event)
    state.why = state.code = ""
    for undo in state.undos:
        task = state.tasks[TaskKey(TaskKind.UNDO, undo)]
        task.waits = task.waited_ms = 0


def job_committed(state: State, event: JobCommitted) -> None:
    if state.committed:
        raise ImpossibleTransition(entity="", status=JobStatus.COMPLETED, event=event.kind)
    job_moved_on(state, event)
    state.committed = True
