"""Somebody asks for something: done and told, or refused and told. Nothing is asked in vain."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from statemachine.decide.found import chunk_found
from statemachine.decide.increments import CHAIN
from statemachine.decide.isolation import not_carried
from statemachine.decide.operations import (
    CHANGES_NOTHING,
    TAKES_BACK,
    TAKING_BACK,
    no_rollback,
    no_undo,
    outdated,
    rollback,
)
from statemachine.events import (
    AnyEvent,
    ChunkDropped,
    ChunkPlanned,
    ChunkReplaced,
    CutoverRequested,
    IndexDropped,
    InDoubt,
    JobCommitted,
    JobPaused,
    JobReopened,
    JobStopped,
    NamespacesAdded,
    PauseRequested,
    PriorityChanged,
    RequestRefused,
    Requeued,
    RunSettings,
    SettingChanged,
    SplitRequested,
    StopRequested,
    SurveyInvalidated,
    UndoSkipped,
    UnitExcluded,
)
from statemachine.limits import AT_MOST, LIVE
from statemachine.state import State, is_whole
from statemachine.stimuli import (
    AddAsked,
    Asked,
    CommitAsked,
    CutoverAsked,
    DropAsked,
    ExcludeAsked,
    FoundFile,
    PauseAsked,
    PriorityAsked,
    RequeueAsked,
    RollbackAsked,
    SetAsked,
    SplitAsked,
    StopAsked,
)
from statemachine.words import (
    THE_JOB,
    ChunkId,
    JobStatus,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    unit_of,
)

VERBS: Final = {
    PauseAsked: "pause",
    StopAsked: "stop",
    SetAsked: "set",
    PriorityAsked: "priority",
    ExcludeAsked: "exclude",
    AddAsked: "add",
    SplitAsked: "split",
    RequeueAsked: "requeue",
    DropAsked: "drop",
    CutoverAsked: "cutover",
    RollbackAsked: "rollback",
    CommitAsked: "commit",
}
"""What each request is called in the journal."""
COMPLETED: Final = JobStatus.COMPLETED


class _Refused(Exception):
    """Why a request does not fit."""


def asked(state: State, wish: Asked) -> list[AnyEvent]:
    """What becomes of a request; nothing if it was answered before."""
    if state.spec is None or (wish.request and wish.request <= state.request):
        return []
    try:
        return _answer(state, wish)
    except _Refused as no:
        if not wish.request:  # nobody waits for an answer: a signal
            return []
        return [
            RequestRefused(by=wish.by, request=wish.request, verb=VERBS[type(wish)], why=str(no))
        ]


def refusal(state: State, wish: Asked) -> str:
    """Why the request would be refused; empty if it would not."""
    try:
        _answer(state, wish)
    except _Refused as no:
        return str(no)
    return ""


def _answer(state: State, wish: Asked) -> list[AnyEvent]:
    if state.status is JobStatus.MOVED:
        raise _Refused("the job has left this journal")
    if state.terminal and type(wish) not in ALWAYS:
        raise _Refused(f"the job is {state.status}")
    if state.status in (*TAKING_BACK, JobStatus.ROLLED_BACK) and not _of_undos(wish):
        raise _Refused(f"the job is {state.status}")
    return ANSWERS[type(wish)](state, wish)


def _of_undos(wish: Asked) -> bool:
    """Whether it may be asked of a job that is taken back."""
    letter = isinstance(wish, RequeueAsked | DropAsked) and wish.task is TaskKind.UNDO
    return letter or isinstance(
        wish, PauseAsked | StopAsked | SetAsked | RollbackAsked | CommitAsked
    )


# --- pause and stop ---


def _pause(state: State, wish: PauseAsked) -> list[AnyEvent]:
    """A second, immediate one hastens the first, also where that was a stop."""
    if state.status is JobStatus.ROLLING_BACK:
        why = {"by": wish.by, "why": wish.why, "request": wish.request, "immediate": True}
        return [PauseRequested.model_validate(why), *_at_once(state, JobPaused())]
    if state.status is JobStatus.STOPPING and wish.immediate:
        stop = StopAsked(wish.by, wish.why, wish.request, wish.immediate, state.rollback)
        return _stop(state, stop)
    hastens = state.status is JobStatus.PAUSING and wish.immediate
    if state.status is not JobStatus.RUNNING and not hastens:
        raise _Refused(f"the job is {state.status}")
    event = PauseRequested(by=wish.by, why=wish.why, request=wish.request, immediate=wish.immediate)
    return [event, *(_at_once(state, JobPaused()) if wish.immediate else [])]


def _stop(state: State, wish: StopAsked) -> list[AnyEvent]:
    """A pause under way becomes a stop; a second, immediate one hastens the first. What cannot be
    taken back is not stopped for that."""
    if wish.rollback and (why := no_undo(state)):
        raise _Refused(why)
    if state.status is JobStatus.ROLLING_BACK and not wish.rollback:
        return _pause(state, PauseAsked(wish.by, wish.why, wish.request, wish.immediate))
    hastens = state.status is JobStatus.STOPPING and wish.immediate
    if state.terminal or state.status in (JobStatus.STOPPED, JobStatus.PENDING, *TAKING_BACK):
        raise _Refused(f"the job is {state.status}")
    if state.status is JobStatus.STOPPING and not hastens:
        raise _Refused("the job is stopping already")
    event = StopRequested(
        by=wish.by,
        why=wish.why,
        request=wish.request,
        immediate=wish.immediate,
        rollback=wish.rollback,
    )
    at_once = wish.immediate or state.status is JobStatus.PAUSED
    return [event, *(_at_once(state, JobStopped()) if at_once else [])]


def _at_once(state: State, end: JobPaused | JobStopped) -> list[AnyEvent]:
    """What runs is in doubt until somebody resumes."""
    doubts: list[AnyEvent] = [
        InDoubt.of(key, attempt=task.attempt)
        for key, task in state.tasks.items()
        if task.status is Status.PROCESSING
    ]
    return [*doubts, end]


# --- taking back ---


def _rollback(state: State, wish: RollbackAsked) -> list[AnyEvent]:
    """Only of a job at which nobody is at work: what runs is stopped first."""
    if why := no_rollback(state) or outdated(state, wish):
        raise _Refused(why)
    return rollback(state, wish)


def _commit(state: State, wish: CommitAsked) -> list[AnyEvent]:
    if state.spec is None or state.spec.kind not in TAKES_BACK:
        raise _Refused(CHANGES_NOTHING)
    if state.committed:
        raise _Refused("the job is committed already")
    if not state.terminal:
        raise _Refused(f"the job is {state.status}: it has to end first")
    return [JobCommitted(by=wish.by)]


# --- how it runs ---


def _set(state: State, wish: SetAsked) -> list[AnyEvent]:
    settings = state.settings
    if settings is None:
        raise _Refused("the job has not begun")
    if wish.name not in LIVE:
        raise _Refused(f"{wish.name} is no setting of a running job: {', '.join(LIVE)}")
    most = AT_MOST.get(wish.name)
    if most is not None and (not isinstance(wish.value, int) or wish.value > most):
        raise _Refused(f"{wish.name} must be a whole number up to {most}")
    try:
        RunSettings.model_validate({**settings.model_dump(), wish.name: wish.value})
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
        raise _Refused(f"{wish.name} cannot be that: {why}") from None
    was = getattr(settings, wish.name)
    if was == wish.value:
        raise _Refused(f"{wish.name} is {was} already")
    return [
        SettingChanged(by=wish.by, request=wish.request, name=wish.name, value=wish.value, was=was)
    ]


def _priority(state: State, wish: PriorityAsked) -> list[AnyEvent]:
    found = state.units.get(UnitId(wish.entity)) or state.chunks.get(ChunkId(wish.entity))
    if found is None:
        raise _Refused(f"{wish.entity} is no unit and no open chunk of the job")
    if not -9 <= wish.priority <= 9:
        raise _Refused(f"a priority is a whole number from -9 to 9, not {wish.priority}")
    if found.priority == wish.priority:
        raise _Refused(f"{wish.entity} has priority {wish.priority} already")
    return [
        PriorityChanged(
            by=wish.by,
            request=wish.request,
            entity=wish.entity,
            priority=wish.priority,
            was=found.priority,
        )
    ]


def _cutover(state: State, wish: CutoverAsked) -> list[AnyEvent]:
    """Once the bulk copy is done the next round is the last; before, it will be."""
    assert state.spec is not None
    if not state.spec.follow:
        raise _Refused("the job does not follow its source")
    if state.cutover:
        raise _Refused("the cut-over is under way already")
    return [CutoverRequested(by=wish.by, request=wish.request)]


# --- what it carries ---


def _one_selection(state: State) -> None:
    """A chain is one selection from its beginning to its end, and so is what is followed."""
    assert state.spec is not None
    if is_whole(state.spec):
        raise _Refused("what a chain holds, or a job follows, stays as it was selected")


def _exclude(state: State, wish: ExcludeAsked) -> list[AnyEvent]:
    _one_selection(state)
    if wish.unit not in state.units:
        raise _Refused(f"{wish.unit} is no unit of the job")
    if wish.unit not in state.open_units:
        raise _Refused(f"{wish.unit} is {state.units[wish.unit].status}")
    return [UnitExcluded(unit=wish.unit, by=wish.by, request=wish.request)]


def _add(state: State, wish: AddAsked) -> list[AnyEvent]:
    _one_selection(state)
    survey = TaskKey(TaskKind.SURVEY, THE_JOB)
    if not wish.include or any("://" in glob for glob in wish.include):
        raise _Refused("no namespace is named")
    for name in wish.include:
        if unit := state.units.get(UnitId(name)):
            raise _Refused(f"{name} is a unit of the job already: {unit.status}")
    added = NamespacesAdded(by=wish.by, request=wish.request, include=wish.include)
    if survey not in state.tasks:
        raise _Refused("the job selects no namespaces")
    if state.tasks[survey].status is not Status.COMPLETED:
        raise _Refused("the source is being surveyed; ask again when that is done")
    _not_at_work(state, TaskKey(TaskKind.MANIFEST, THE_JOB))
    return [added, SurveyInvalidated.of(survey, why=f"added {', '.join(wish.include)}")]


def _split(state: State, wish: SplitAsked) -> list[AnyEvent]:
    chunk = state.chunks.get(wish.chunk)
    if chunk is None:
        raise _Refused(f"{wish.chunk} is no open chunk of the job")
    if chunk.natural:
        raise _Refused(f"{wish.chunk} is read in insertion order and stays whole")
    if state.from_dump or (state.spec is not None and state.spec.incremental):
        raise _Refused(f"{wish.chunk} is a part of a dump and stays whole")
    if TaskKey(TaskKind.SPLIT, chunk.id) in state.tasks:
        raise _Refused(f"{wish.chunk} is being split already")
    return [SplitRequested(chunk=chunk.id, by=wish.by, request=wish.request, why="asked for")]


# --- dead letters ---


def _requeue(state: State, wish: RequeueAsked) -> list[AnyEvent]:
    """The work of a dead letter once more; a job that has ended waits for a resume then."""
    if state.status is JobStatus.FAILED:
        raise _Refused("the job is failed; `ferrylog start --new` begins another")
    events = _again(state, wish)
    if state.status is JobStatus.COMPLETED:
        events.append(JobReopened(by=wish.by))
    return events


def _again(state: State, wish: RequeueAsked) -> list[AnyEvent]:
    if state.increment and wish.task not in (*CHAIN, TaskKind.UNDO):
        raise _Refused("increments lie on top of it: restore anew, with --new --drop")
    if wish.task is None:
        chunk = state.flawed.get(ChunkId(wish.entity))
        if chunk is None:
            raise _Refused(f"{wish.entity} has no rejected documents")
        if chunk.id in state.releasing:
            raise _Refused(f"a file of {wish.entity} is being removed; ask again")
        if state.spec is not None and state.spec.follow and state.token:
            raise _Refused("the rounds of following have gone on: what changes there is carried")
        unit = state.units[chunk.unit]
        if unit.status in (UnitStatus.FAILED, UnitStatus.EXCLUDED):
            raise _Refused(f"{unit.id} is {unit.status}")
        _not_at_work(state, TaskKey(TaskKind.FINISH, unit.id))
        _not_at_work(state, TaskKey(TaskKind.MANIFEST, THE_JOB))
        why = "requeued"
        replaced = ChunkReplaced(chunk=chunk.id, by=wish.by, request=wish.request, why=why)
        again = ChunkId(f"{unit.id}#{unit.named}")
        if chunk.file is not None and state.from_dump:
            found = FoundFile(chunk.file, chunk.lower, chunk.upper, chunk.natural)
            return [replaced, *chunk_found(unit.id, again, found)]
        planned = ChunkPlanned(
            unit=unit.id,
            chunk=again,
            lower=chunk.lower,
            upper=chunk.upper,
            documents=chunk.documents,
            natural=chunk.natural,
        )
        return [replaced, planned]
    key = TaskKey(wish.task, wish.entity)
    task = state.tasks.get(key)
    if task is None or task.status is not Status.FAILED:
        standing = task.status if task is not None else "unknown or settled"
        raise _Refused(f"the {wish.task} of {wish.entity} is {standing}, not a dead letter")
    unit_id = unit_of(key)
    if unit_id is not None and state.units[unit_id].status is UnitStatus.FAILED:
        raise _Refused(f"the job went on without {unit_id}; `start --new` carries it")
    if unit_id is not None and key.kind is TaskKind.INDEX:
        _not_at_work(state, TaskKey(TaskKind.FINISH, unit_id))
    return [Requeued.of(key, by=wish.by, request=wish.request)]


def _not_at_work(state: State, key: TaskKey) -> None:
    """What looks at the whole must not be at work while a part of it changes."""
    task = state.tasks.get(key)
    if task is not None and task.status is Status.PROCESSING:
        raise _Refused(f"the {key.kind} of {key.entity} is processing; ask again")


def _drop(state: State, wish: DropAsked) -> list[AnyEvent]:
    """Of a job that has ended only an index: it went on without it already."""
    if state.terminal and not (wish.task is TaskKind.INDEX and state.status is COMPLETED):
        raise _Refused(f"the job is {state.status}")
    key = TaskKey(wish.task, wish.entity)
    task = state.tasks.get(key)
    if task is None or task.status is not Status.FAILED:
        raise _Refused(f"the {wish.task} of {wish.entity} is not a dead letter")
    if key.kind is TaskKind.UNDO:
        why = f"left out by {wish.by}: {task.code}: {task.why}"
        return [UndoSkipped(entity=key.entity, by=wish.by, request=wish.request, why=why)]
    if key.kind is TaskKind.INDEX:
        return [IndexDropped(entity=key.entity, by=wish.by, request=wish.request)]
    chunk = state.chunks.get(ChunkId(wish.entity))
    if chunk is None:
        raise _Refused(f"{wish.entity} is no chunk and no index: exclude the unit instead")
    _one_selection(state)
    return [
        ChunkDropped(
            chunk=chunk.id,
            by=wish.by,
            request=wish.request,
            documents=not_carried(chunk),
            why=f"dropped by {wish.by}",
        )
    ]


ANSWERS: Final[Mapping[type, Callable[[State, Any], list[AnyEvent]]]] = {
    PauseAsked: _pause,
    StopAsked: _stop,
    RequeueAsked: _requeue,
    DropAsked: _drop,
    SetAsked: _set,
    PriorityAsked: _priority,
    ExcludeAsked: _exclude,
    AddAsked: _add,
    SplitAsked: _split,
    CutoverAsked: _cutover,
    RollbackAsked: _rollback,
    CommitAsked: _commit,
}
"""A test holds that every request has its answer."""
ALWAYS: Final = (
    PauseAsked,
    StopAsked,
    RequeueAsked,
    DropAsked,
    RollbackAsked,
    CommitAsked,
)
"""They answer for a job that has ended too."""
