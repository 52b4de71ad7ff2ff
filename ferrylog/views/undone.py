"""Groups of operations, and what is taken back, in words and numbers."""

from typing import Any

from ferrylog.views.shapes import GroupReport, UndoneReport
from statemachine.events import (
    AnyEvent,
    GroupCommitted,
    JobCommitted,
    JobRolledBack,
    OperationDropped,
    OperationPlanned,
    RollbackContinued,
    RollbackFailed,
    RollbackStarted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.state import State
from statemachine.words import OperationId, Status, TaskKey, TaskKind


def note_on_operations(event: AnyEvent) -> str:
    """A sentence; empty for events of other matters."""
    match event:
        case OperationPlanned():
            waits = f"; it waits for {', '.join(event.wait_for)}" if event.wait_for else ""
            return f"It was planned, with what takes it back{waits}."
        case GroupCommitted():
            return f"All {event.operations:,} operations were in order: they may start."
        case OperationDropped():
            return f"It will never start: {event.why}."
        case UndoPlanned():
            return f"What it did is to be taken back, as number {event.number:,}."
        case RollbackStarted():
            return _started(event)
        case UndoSkipped():
            return f"{event.by} left it out: {event.why}."
        case JobRolledBack():
            return (
                f"It is taken back: {event.undone:,} operations undone, {event.skipped:,} left "
                f"out; {event.kept:,} things stay, because others changed them since."
            )
        case RollbackFailed():
            return f"The rollback stopped: {event.code}: {event.why}."
        case RollbackContinued():
            return f"{event.by} went on with the rollback."
        case JobCommitted():
            return f"{event.by} committed it: nobody can take it back any more."
        case _:
            return ""


def _started(event: RollbackStarted) -> str:
    down = f", down to {event.to}" if event.to else ""
    forced = ", by force" if event.force else ""
    return (
        f"{event.by} has it taken back{down}{forced}: {event.undos:,} operations, in the reverse "
        f"order of their starts: {event.why}."
    )


def result_of_operations(made: dict[str, Any]) -> str:
    """What an operation or its undo brought about; `made`: the fields of its event."""
    what = "; ".join(made["changes"]) or "nothing had to be changed"
    documents = f"{made['documents']:,} documents; " if made.get("documents") else ""
    kept = f"; {made['kept']:,} kept" if made.get("kept") else ""
    return f"{documents}{what}{kept}."


def group_report(state: State) -> GroupReport | None:
    """Of a group of operations."""
    if state.spec is None or state.spec.kind != "group":
        return None
    done, failed, left = 0, 0, 0
    for operation in state.operations.values():
        task = state.tasks.get(_key(operation.id))
        done += task is not None and task.status is Status.COMPLETED
        failed += task is not None and task.status is Status.FAILED
        left += operation.cancelled
    total = len(state.operations)
    return GroupReport(
        title=state.spec.title,
        operations=total,
        completed=done,
        failed=failed,
        dropped=left,
        percent=round(100 * done / total, 1) if total else 0.0,
    )


def _key(operation: OperationId) -> TaskKey:
    return TaskKey(TaskKind.OPERATION, operation)


def undone_report(state: State) -> UndoneReport | None:
    """Of a job that is taken back, or was."""
    if not state.undos:
        return None
    return UndoneReport(
        total=len(state.undos),
        undone=state.undone,
        skipped=state.skipped,
        kept=state.undo_kept,
        to=state.rolled_to,
    )
