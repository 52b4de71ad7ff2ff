"""Groups of operations, and taking back what a job did."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import takewhile
from operator import attrgetter
from typing import Final

from statemachine.decide.isolation import letter_of
from statemachine.events import (
    AnyEvent,
    DeadLettered,
    GroupCommitted,
    InDoubt,
    JobFailed,
    JobRequested,
    JobRolledBack,
    JobSpec,
    OperationDropped,
    OperationPlanned,
    RollbackFailed,
    RollbackStarted,
    StopRequested,
    UndoPlanned,
)
from statemachine.policy import US
from statemachine.state import State, Undo
from statemachine.stimuli import Failed, GroupAsked, PlannedOperation, RollbackAsked
from statemachine.undoing import OPERATIONS
from statemachine.words import (
    JobStatus,
    OperationId,
    Status,
    TaskKey,
    TaskKind,
    undo_task,
)

Waits = Mapping[OperationId, Sequence[OperationId]]


def group_asked(asked: GroupAsked) -> list[AnyEvent]:
    """Planned one by one, and committed when all of them are in order (I36, P8)."""
    events: list[AnyEvent] = [JobRequested(by=asked.by, spec=asked.spec)]
    if wrong := "; ".join(flaws(asked.operations)):
        return [*events, JobFailed(code="EOPS001", why=wrong)]
    events += [
        OperationPlanned(
            operation=each.id,
            forward=each.forward,
            compensation=each.compensation,
            wait_for=each.wait_for,
            rollback_wait_for=each.rollback_wait_for,
            target=each.target,
            tries=each.tries,
        )
        for each in asked.operations
    ]
    return [*events, GroupCommitted(operations=len(asked.operations))]


def flaws(operations: Sequence[PlannedOperation]) -> Iterator[str]:
    """Why these are no group, in words; nothing when they are (I36)."""
    if not operations:
        yield "a group has at least one operation"
    names = [each.id for each in operations]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two operations are named {name}"
    for each in operations:
        if not each.forward:
            yield f"{each.id} does nothing"
        if not each.compensation:
            yield f"{each.id} has no compensation"
        for other in (*each.wait_for, *each.rollback_wait_for):
            if other not in names:
                yield f"{each.id} waits for {other}, which is no operation of the group"
    waits = {each.id: each.wait_for for each in operations}
    if cycle := _cycle(waits):
        yield f"these wait for each other: {' → '.join(cycle)}"
        return
    for each in operations:
        for other in each.rollback_wait_for:
            if each.id not in _all_before(waits, other):
                yield (
                    f"the undo of {each.id} is to wait for that of {other}, which may start before "
                    f"it: let {other} wait for {each.id}"
                )


def _cycle(waits: Waits) -> list[OperationId]:
    """Operations that wait for each other in this order, the first again at the end."""
    clear: set[OperationId] = set()
    for name in waits:
        path, ahead = [name], [iter(waits[name])]
        while path:
            following = next((each for each in ahead[-1] if each not in clear), None)
            if following is None:
                clear.add(path.pop())
                ahead.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                path.append(following)
                ahead.append(iter(waits.get(following, ())))
    return []


def _all_before(waits: Waits, name: OperationId) -> set[OperationId]:
    """All that are applied before this one starts."""
    found: set[OperationId] = set()
    ahead = list(waits.get(name, ()))
    while ahead:
        if (each := ahead.pop()) not in found:
            found.add(each)
            ahead += waits.get(each, ())
    return found


# --- a group runs ---


def waits_for(state: State, key: TaskKey) -> tuple[OperationId, ...]:
    """What is to be applied before the operation starts, and is not."""
    operation = state.operations[OperationId(key.entity)]
    return tuple(each for each in operation.wait_for if not _stands(state, each, Status.COMPLETED))


def _stands(state: State, operation: OperationId, status: Status) -> bool:
    task = state.tasks.get(TaskKey(TaskKind.OPERATION, operation))
    return task is not None and task.status is status


def operation_given_up(letter: DeadLettered, spec: JobSpec) -> list[AnyEvent]:
    """The whole group is taken back, when what else runs has ended; or only those are left out
    that wait for the failed one (M6). An undo stops the rollback."""
    why = f"{letter.task.kind} {letter.entity} failed: {letter.code}: {letter.why}"
    if letter.task.kind is TaskKind.UNDO:
        return [RollbackFailed(code="EROLLBACK001", why=why)]
    if spec.continue_on_error:
        return []
    return [StopRequested(by=US, why=why, request=0, immediate=False, rollback=True)]


def left_behind(state: State) -> list[AnyEvent]:
    """An operation that waits for what will never be applied."""
    for each in state.operations.values():
        if _stands(state, each.id, Status.PENDING):
            for gone in each.wait_for:
                if state.operations[gone].cancelled or _stands(state, gone, Status.FAILED):
                    why = f"{gone} failed or was left out"
                    return [OperationDropped(operation=each.id, why=why)]
    return []


# --- taking back ---

TAKING_BACK: Final = (
    JobStatus.ROLLING_BACK,
    JobStatus.ROLLBACK_PAUSED,
    JobStatus.ROLLBACK_FAILED,
)
TAKES_BACK: Final = ("migrate", "restore", "group")
"""Kinds of jobs that change a target."""
CHANGES_NOTHING: Final = "the job changes nothing that could be taken back"
AT_REST: Final = (
    JobStatus.PAUSED,
    JobStatus.STOPPED,
    JobStatus.COMPLETED,
    JobStatus.FAILED,
    JobStatus.ROLLED_BACK,
)


def no_undo(state: State) -> str:
    """Why nobody can ever take the job back; empty when somebody can, once it rests."""
    if state.spec is None or state.spec.kind not in TAKES_BACK:
        return CHANGES_NOTHING
    if state.committed:
        return "the job is committed: what was kept for a rollback is gone"
    if not (state.spec.undo or state.spec.kind == "group"):
        return "the job was begun without a record of what it changes"
    return ""


def no_rollback(state: State) -> str:
    """Why the job cannot be taken back as it stands; empty when it can."""
    if why := no_undo(state):
        return why
    if state.status is JobStatus.ROLLED_BACK and not state.rolled_to:
        return "the job is rolled back already"
    if state.status not in AT_REST:
        return f"the job is {state.status}"
    return ""


def outdated(state: State, asked: RollbackAsked) -> str:
    """Why the plan is not one of this job as it stands: the history has gone on since it was read.
    What the job has forgotten is not missed."""
    known = {undo_task(each.task, each.entity) for each in asked.undos} | state.tasks.keys()
    for key, task in () if asked.to else state.tasks.items():
        if key.kind in OPERATIONS and task.attempt and undo_task(*key) not in known:
            return f"{key.kind} {key.entity} was started since this was planned"
    return ""


def rollback(state: State, asked: RollbackAsked) -> list[AnyEvent]:
    """What was planned and not started never will be; the rest is fixed here, once (I37, I38)."""
    undos = [each for each in asked.undos if undo_task(each.task, each.entity) not in state.tasks]
    events: list[AnyEvent] = []
    events += [
        OperationDropped(operation=each, why="the group is rolled back")
        for each in state.operations
        if _never_started(state, each)
    ]
    events += [
        InDoubt.of(key, attempt=task.attempt)
        for key, task in state.tasks.items()
        if task.status is Status.PROCESSING
    ]
    events += [_undo_planned(number, each) for number, each in enumerate(undos, 1)]
    started = RollbackStarted(
        by=asked.by,
        request=asked.request,
        why=asked.why,
        undos=len(undos),
        to=asked.to,
        force=asked.force,
        continue_on_error=asked.continue_on_error,
    )
    return [*events, started]


def _never_started(state: State, operation: OperationId) -> bool:
    task = state.tasks.get(TaskKey(TaskKind.OPERATION, operation))
    return task is not None and not task.attempt


def _undo_planned(number: int, undo: Undo) -> UndoPlanned:
    file = undo.file
    told = UndoPlanned(
        number=number,
        task=undo.task,
        entity=undo.entity,
        unit=undo.unit,
        chunk=undo.chunk,
        lower=undo.lower,
        upper=undo.upper,
        natural=undo.natural,
        documents=undo.documents,
        digest=undo.digest,
        acknowledged=undo.acknowledged,
    )
    if file is None:
        return told
    return told.model_copy(
        update={
            "file": file.name,
            "file_at": file.at,
            "file_place": file.place,
            "file_documents": file.documents,
            "bytes": file.bytes,
            "file_bytes": file.file_bytes,
            "sha256": file.sha256,
        }
    )


def next_undo(state: State) -> TaskKey | None:
    """Whose turn it is when nobody is at work, in the order that is fixed (I38)."""
    failed = state.size(TaskKind.UNDO, Status.FAILED)
    for undo in _left_to_undo(state):
        if not failed or not _waits_for_failed(state, undo):
            return undo_task(undo.task, undo.entity)
    return None


def _left_to_undo(state: State) -> Iterator[Undo]:
    """Pending ones stand in their queue as they were planned, and those that come back behind them:
    nobody walks over all that is done."""
    tasks, undos = state.tasks, state.undos
    pending = state.queues.get((TaskKind.UNDO, Status.PENDING, 0), OrderedDict())
    fresh = takewhile(lambda key: not tasks[key].attempt, pending)
    again = list(takewhile(lambda key: tasks[key].attempt, reversed(pending)))
    again += state.queue(TaskKind.UNDO, Status.WAITING)
    begun = sorted((undos[key.entity] for key in again), key=attrgetter("number"))
    return merge(begun, (undos[key.entity] for key in fresh), key=attrgetter("number"))


def taken_back(state: State) -> AnyEvent:
    """The end of a rollback in which nobody's turn comes any more (I41)."""
    if state.size(TaskKind.UNDO, Status.FAILED):
        why = "some undos failed, and others wait for them"
        return RollbackFailed(code="EROLLBACK001", why=why)
    return JobRolledBack(undone=state.undone, skipped=state.skipped, kept=state.undo_kept)


def _waits_for_failed(state: State, undo: Undo) -> bool:
    """Whether an undo that has not come about is to be there first, where the rollback goes on
    behind failures."""
    earlier = takewhile(lambda other: other is not undo, state.undos.values())
    return any(
        state.tasks[undo_task(other.task, other.entity)].status is not Status.COMPLETED
        for other in earlier
        if _rests_on(state, undo, other)
    )


def _rests_on(state: State, undo: Undo, other: Undo) -> bool:
    """Whether what is undone before it was built upon it. What brings increments touches any
    collection."""
    if undo.task is not TaskKind.OPERATION:
        return undo.unit is None or other.unit is None or undo.unit == other.unit
    operation = state.operations[OperationId(undo.entity)]
    later = state.operations[OperationId(other.entity)]
    return later.id in operation.rollback_wait_for or operation.id in later.wait_for


def undo_failed(state: State, news: Failed, breaker: Sequence[AnyEvent]) -> list[AnyEvent]:
    """It stops the rollback, loudly, unless somebody wants the others undone all the same."""
    letter = letter_of(news)
    assert state.spec is not None
    ends = [] if state.persevering else operation_given_up(letter, state.spec)
    return [letter, *breaker, *ends]
