"""Facts to state: `evolve` has no opinion, one dispatch, and covers every event."""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from statemachine.errors import UnknownEntity
from statemachine.events import (
    AnyEvent,
    Cancelled,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    Completed,
    CreateCompleted,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    DumpInvalidated,
    IndexCompleted,
    InDoubt,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobRequested,
    JobResumed,
    PauseRequested,
    PlanCompleted,
    Requeued,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    ResultIgnored,
    RetryScheduled,
    RunStarted,
    Started,
    SurveyCompleted,
    TaskEvent,
    UnitCompleted,
    UnitRegistered,
    UnitSkipped,
    Value,
    VerifyCompleted,
)
from statemachine.state import Chunk, ChunkFile, Done, State, Task, Unit
from statemachine.transitions import next_job_status, next_task_status, next_unit_status
from statemachine.words import (
    THE_JOB,
    ChunkId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    index_task,
    unit_of,
)

SIDES = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY)


def fold(events: Iterable[AnyEvent], state: State | None = None) -> State:
    """The state after these events. A `state` given is consumed: use what is returned."""
    state = state if state is not None else State()
    for event in events:
        evolve(state, event)
    return state


def evolve(state: State, event: AnyEvent) -> None:  # noqa: C901, PLR0912 — one arm per event
    """Change `state` by one fact.

    Raises `ImpossibleTransition` or `UnknownEntity` for an event that cannot follow what
    `state` already holds; no event that the tables refuse has changed anything then.
    """
    match event:
        case (
            Started()
            | RetryScheduled()
            | DeadLettered()
            | Cancelled()
            | InDoubt()
            | Resolved()
            | Requeued()
            | RestoreProgressed()
            | DumpInvalidated()
            | SurveyCompleted()
            | CreateCompleted()
            | PlanCompleted()
            | DumpCompleted()
            | RestoreCompleted()
            | IndexCompleted()
            | VerifyCompleted()
        ):
            _task_moved(state, event)
        case JobRequested():
            state.spec = event.spec
            survey = TaskKey(TaskKind.SURVEY, THE_JOB)
            _put(state, survey, Task())
        case RunStarted():
            state.status = next_job_status(state.status, event.kind)
            state.epoch = event.epoch
            state.settings = event.settings
        case PauseRequested():
            state.status = next_job_status(state.status, event.kind)
            state.why = event.why
        case JobPaused() | JobCompleted():
            state.status = next_job_status(state.status, event.kind)
        case JobResumed():
            state.status = next_job_status(state.status, event.kind)
            state.why = ""
        case JobFailed():
            state.status = next_job_status(state.status, event.kind)
            state.code, state.why = event.code, event.why
        case UnitRegistered():
            _unit_registered(state, event)
        case ChunkPlanned():
            _chunk_planned(state, event)
        case UnitCompleted():
            _unit_ended(state, event.unit, event)
        case UnitSkipped():
            _unit_ended(state, event.unit, event)
            _drop_unit(state, event.unit)
        case ChunkReleased() | ChunkKept():
            _file_decided(state, event)
        case DocumentRejected() | ResultIgnored():
            pass
        case _:
            assert_never(event)


# --- tasks ---


def _task_moved(state: State, event: TaskEvent) -> None:
    key = event.task
    task = state.tasks.get(key)
    if task is None:
        raise UnknownEntity(entity=f"{key.kind} of {key.entity}", event=event.kind)
    status = next_task_status(task.status, event.verb, entity=key.entity, event=event.kind)
    _put(state, key, replace(_details(state, task, event), status=status))
    match event:
        case RestoreProgressed():
            _restored(state, event, position=event.position)
        case Resolved(decision="discard") if key.kind is TaskKind.RESTORE:
            _forget_progress(state, ChunkId(key.entity))
        case DumpInvalidated():
            _file_lost(state, ChunkId(event.entity))
        case RetryScheduled():
            state.retries += 1
        case _ if isinstance(event, Completed):
            _completed(state, event)
        case _:
            pass


def _details(state: State, task: Task, event: TaskEvent) -> Task:
    """The fields beside the status that this event changes."""
    match event:
        case Started():
            return replace(task, attempt=event.attempt, epoch=state.epoch)
        case RetryScheduled():
            return replace(
                task,
                failures=task.failures + 1,
                not_before_ms=event.not_before_ms,
                code=event.code,
                why=event.why,
            )
        case DeadLettered():
            failed = task.status is Status.PROCESSING  # else the failure is counted already
            return replace(task, failures=task.failures + failed, code=event.code, why=event.why)
        case DumpInvalidated():
            return replace(task, failures=task.failures + 1, why=event.why)
        case InDoubt():
            return replace(task, interruptions=task.interruptions + 1)
        case Requeued():
            return replace(task, failures=0, interruptions=0, code="", why="")
        case _:
            return task


def _completed(state: State, event: Completed) -> None:
    match event:
        case SurveyCompleted():
            state.closed = True
        case CreateCompleted():
            _created(state, UnitId(event.entity), event)
        case PlanCompleted():
            unit = _unit(state, event.entity, event)
            status = next_unit_status(unit.status, event.kind, unit=unit.id)
            state.units[unit.id] = replace(unit, status=status)
        case DumpCompleted():
            chunk = _chunk(state, event.entity, event)
            file = ChunkFile(
                event.file, event.documents, event.bytes, event.file_bytes, event.sha256
            )
            state.chunks[chunk.id] = replace(chunk, file=file)
            state.files += 1
            _add(state, chunk.unit, dumped_documents=event.documents, dumped_bytes=event.bytes)
            _advance(state, chunk.id, TaskKind.DUMP)
        case RestoreCompleted():
            chunk = _chunk(state, event.entity, event)
            _restored(state, event, position=chunk.file.file_bytes if chunk.file else 0)
            _advance(state, chunk.id, TaskKind.RESTORE)
        case VerifyCompleted():
            chunk = _chunk(state, event.entity, event)
            _add(
                state,
                chunk.unit,
                mismatched=int(not event.equal),
                source_documents=event.source_documents,
                target_documents=event.target_documents,
            )
            _advance(state, chunk.id, TaskKind.VERIFY)
        case IndexCompleted():
            pass
        case _:
            assert_never(event)


def _created(state: State, unit_id: UnitId, event: CreateCompleted) -> None:
    unit = state.units[unit_id]
    left = tuple(index for index in unit.indexes if index.name not in event.built)
    state.units[unit_id] = replace(unit, indexes=left, target_uuid=event.uuid)
    if unit.type == "collection":
        _put(state, TaskKey(TaskKind.PLAN, unit_id), Task())


def _advance(state: State, chunk_id: ChunkId, stage: TaskKind) -> None:
    """The chunk has this stage behind it: open the next one, or settle the chunk."""
    chunk = state.chunks[chunk_id]
    unit = state.units[chunk.unit]
    done = list(unit.stages_done)
    done[SIDES.index(stage)] += 1
    weight_done = unit.weight_done + max(1, chunk.documents)
    state.units[unit.id] = replace(
        unit, stages_done=(done[0], done[1], done[2]), weight_done=weight_done
    )
    if stage is TaskKind.RESTORE and done[1] == unit.planned:
        for index in unit.indexes:
            _put(state, index_task(unit.id, index.name), Task())
    after = state.stages[state.stages.index(stage) + 1 :]
    if after:
        key = TaskKey(after[0], chunk_id)
        _put(state, key, state.tasks.get(key, Task()))  # there already if its file was lost
    else:
        _settle(state, chunk_id)


def _settle(state: State, chunk_id: ChunkId) -> None:
    chunk = state.chunks.pop(chunk_id)
    for kind in SIDES:
        _remove(state, TaskKey(kind, chunk_id))
    unit = state.units[chunk.unit]
    state.units[unit.id] = replace(unit, settled=unit.settled + 1)
    if chunk.file is None:
        return
    if chunk.done.rejected:
        state.files -= 1
        state.kept += 1  # the only place where the rejected documents still are
    else:
        state.releasing[chunk_id] = chunk.file.name


def _restored(state: State, event: RestoreProgressed | RestoreCompleted, *, position: int) -> None:
    chunk = _chunk(state, event.entity, event)
    before = chunk.done
    done = Done(position, event.documents, event.bytes, event.present, event.rejected)
    state.chunks[chunk.id] = replace(chunk, done=done)
    _add(
        state,
        chunk.unit,
        restored_documents=done.documents - before.documents,
        restored_bytes=done.bytes - before.bytes,
        present=done.present - before.present,
        rejected=done.rejected - before.rejected,
    )


def _forget_progress(state: State, chunk_id: ChunkId) -> None:
    chunk = state.chunks[chunk_id]
    done = chunk.done
    state.chunks[chunk_id] = replace(chunk, done=Done())
    _add(
        state,
        chunk.unit,
        restored_documents=-done.documents,
        restored_bytes=-done.bytes,
        present=-done.present,
        rejected=-done.rejected,
    )


def _file_lost(state: State, chunk_id: ChunkId) -> None:
    """The dump starts again: take back what its completion brought."""
    _forget_progress(state, chunk_id)
    chunk = state.chunks[chunk_id]
    unit = state.units[chunk.unit]
    dumped, restored, verified = unit.stages_done
    file = chunk.file
    assert file is not None
    state.units[unit.id] = replace(
        unit,
        stages_done=(dumped - 1, restored, verified),
        weight_done=unit.weight_done - max(1, chunk.documents),
        dumped_documents=unit.dumped_documents - file.documents,
        dumped_bytes=unit.dumped_bytes - file.bytes,
    )
    state.chunks[chunk_id] = replace(chunk, file=None)
    state.files -= 1


# --- units and chunks ---


def _unit_registered(state: State, event: UnitRegistered) -> None:
    state.units[event.unit] = Unit(
        id=event.unit,
        target=event.target,
        type=event.type,
        uuid=event.uuid,
        options=event.options,
        indexes=event.indexes,
        documents_estimate=event.documents,
        bytes_estimate=event.bytes,
    )
    state.open_units[event.unit] = None
    first = TaskKind.CREATE if TaskKind.RESTORE in state.stages else TaskKind.PLAN
    if first is TaskKind.CREATE or event.type == "collection":
        _put(state, TaskKey(first, event.unit), Task())


def _chunk_planned(state: State, event: ChunkPlanned) -> None:
    unit = _unit(state, event.unit, event)
    chunk = Chunk(event.chunk, event.unit, event.lower, event.upper, event.documents, event.natural)
    state.chunks[chunk.id] = chunk
    state.units[unit.id] = replace(
        unit,
        planned=unit.planned + 1,
        weight=unit.weight + max(1, event.documents) * len(state.stages),
    )
    _put(state, TaskKey(state.stages[0], chunk.id), Task())


def _unit_ended(state: State, unit_id: UnitId, event: UnitCompleted | UnitSkipped) -> None:
    unit = _unit(state, unit_id, event)
    status = next_unit_status(unit.status, event.kind, unit=unit_id)
    state.units[unit_id] = replace(unit, status=status)
    del state.open_units[unit_id]


def _drop_unit(state: State, unit_id: UnitId) -> None:
    """Forget the open work of a skipped unit. Its dead letters stay: somebody will ask."""
    for chunk in [chunk for chunk in state.chunks.values() if chunk.unit == unit_id]:
        del state.chunks[chunk.id]
        if chunk.file is not None:
            state.releasing[chunk.id] = chunk.file.name
    for key, task in list(state.tasks.items()):
        if unit_of(key) == unit_id and task.status is not Status.FAILED:
            _remove(state, key)


def _file_decided(state: State, event: ChunkReleased | ChunkKept) -> None:
    if event.chunk not in state.releasing:
        raise UnknownEntity(entity=event.chunk, event=event.kind)
    del state.releasing[event.chunk]
    state.files -= 1
    state.kept += isinstance(event, ChunkKept)


# --- small hands ---


def _put(state: State, key: TaskKey, task: Task) -> None:
    before = state.tasks.get(key)
    if before is not None and before.status is not task.status:
        del state.queues[key.kind, before.status][key]
    state.tasks[key] = task
    state.queues.setdefault((key.kind, task.status), {})[key] = None


def _remove(state: State, key: TaskKey) -> None:
    task = state.tasks.pop(key, None)
    if task is not None:
        del state.queues[key.kind, task.status][key]


def _add(state: State, unit_id: UnitId, **amounts: int) -> None:
    unit = state.units[unit_id]
    sums = {name: getattr(unit, name) + amount for name, amount in amounts.items()}
    state.units[unit_id] = replace(unit, **sums)


def _unit(state: State, unit_id: str, event: Value) -> Unit:
    try:
        return state.units[UnitId(unit_id)]
    except KeyError:
        raise UnknownEntity(entity=unit_id, event=getattr(event, "kind", "")) from None


def _chunk(state: State, chunk_id: str, event: Value) -> Chunk:
    try:
        return state.chunks[ChunkId(chunk_id)]
    except KeyError:
        raise UnknownEntity(entity=chunk_id, event=getattr(event, "kind", "")) from None
