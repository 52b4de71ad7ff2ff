"""Facts to state: `evolve` has no opinion, and an arm for every event.

An arm changes the state in place and is chosen by the event's class alone: a history of
millions of events is folded at every start, so nothing here copies or searches.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    TASK_OF,
    AnyEvent,
    Cancelled,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    CreateCompleted,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    DumpInvalidated,
    Event,
    IndexCompleted,
    InDoubt,
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
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
    VerifyCompleted,
)
from statemachine.state import NOTHING, Chunk, ChunkFile, Done, State, Task, Unit
from statemachine.transitions import next_job_status, next_task_status, next_unit_status
from statemachine.words import (
    THE_JOB,
    Status,
    TaskKey,
    TaskKind,
    index_task,
    unit_of,
)

SIDES: Final = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY)


def fold(events: Iterable[AnyEvent], state: State | None = None) -> State:
    """The state after these events. A `state` given is consumed: use what is returned."""
    state = state if state is not None else State()
    for event in events:
        evolve(state, event)
    return state


def evolve(state: State, event: AnyEvent) -> None:
    """Change `state` by one fact.

    Raises `ImpossibleTransition` or `UnknownEntity` for an event that cannot follow what
    `state` already holds; no event that the tables refuse has changed anything then.
    """
    ARMS[type(event)](state, event)


# --- the job ---


def _job_requested(state: State, event: JobRequested) -> None:
    if state.spec is not None:
        raise ImpossibleTransition(entity="", status=state.status, event=event.kind)
    state.spec = event.spec
    _put(state, TaskKey(TaskKind.SURVEY, THE_JOB), Task())


def _job_moved_on(state: State, event: AnyEvent) -> None:
    """Move the job along its table. Nothing happens to a job that nobody asked for."""
    if state.spec is None:
        raise UnknownEntity(entity=THE_JOB, event=event.kind)
    state.status = next_job_status(state.status, event.kind)


def _epoch_began(state: State, event: RunStarted | JobExported) -> None:
    if event.epoch != state.epoch + 1:
        raise ImpossibleTransition(
            entity=f"epoch {event.epoch}", status=f"epoch {state.epoch}", event=event.kind
        )
    _job_moved_on(state, event)
    state.epoch = event.epoch


def _run_started(state: State, event: RunStarted) -> None:
    _epoch_began(state, event)
    state.settings = event.settings


def _pause_requested(state: State, event: PauseRequested) -> None:
    _job_moved_on(state, event)
    state.why = event.why


def _job_resumed(state: State, event: JobResumed) -> None:
    _job_moved_on(state, event)
    state.why = ""


def _job_failed(state: State, event: JobFailed) -> None:
    _job_moved_on(state, event)
    state.code, state.why = event.code, event.why


def _job_exported(state: State, event: JobExported) -> None:
    _epoch_began(state, event)
    state.why = f"exported by {event.by} on {event.host}"


def _job_imported(state: State, event: JobImported) -> None:
    """The folders of the host that it left are none of this one's."""
    _job_moved_on(state, event)
    if state.settings is not None:
        state.settings = state.settings.model_copy(update={"work_dir": ""})
    state.why = f"imported by {event.by} on {event.host}"


def _told(state: State, event: DocumentRejected | ResultIgnored) -> None:
    """For people; no decision depends on it."""
    if state.spec is None:
        raise UnknownEntity(entity=event.about, event=event.kind)


# --- tasks ---


def _moved(state: State, event: TaskEvent) -> Task:
    """Move the task that the event is about along its table."""
    kind, entity = TASK_OF[event.kind], event.entity
    task: Task | None = state.tasks.get((kind, entity))  # type: ignore[call-overload] # = its TaskKey
    if task is None:
        raise UnknownEntity(entity=f"{kind} of {entity}", event=event.kind)
    before = task.status
    status = next_task_status(before, event.verb, entity, event.kind)
    if status is not before:
        key, queues = TaskKey(kind, entity), state.queues
        del queues[kind, before][key]
        queues.setdefault((kind, status), {})[key] = None
        task.status = status
    return task


def _started(state: State, event: Started) -> None:
    task = _moved(state, event)
    task.attempt = event.attempt
    task.epoch = state.epoch


def _retry_scheduled(state: State, event: RetryScheduled) -> None:
    task = _moved(state, event)
    task.failures += 1
    task.not_before_ms = event.not_before_ms
    task.code, task.why = event.code, event.why
    state.retries += 1


def _dead_lettered(state: State, event: DeadLettered) -> None:
    known = state.tasks.get(event.task)
    failed = known is not None and known.status is Status.PROCESSING
    task = _moved(state, event)
    task.failures += failed  # else the failure is counted already
    task.code, task.why = event.code, event.why


def _cancelled(state: State, event: Cancelled) -> None:
    _moved(state, event)


def _in_doubt(state: State, event: InDoubt) -> None:
    _moved(state, event).interruptions += 1


def _resolved(state: State, event: Resolved) -> None:
    _moved(state, event)
    if event.decision == "discard" and event.task.kind is TaskKind.RESTORE:
        _forget_progress(state, _chunk(state, event.entity, event))


def _requeued(state: State, event: Requeued) -> None:
    task = _moved(state, event)
    task.failures = task.interruptions = 0
    task.code = task.why = ""


# --- what tasks bring about ---


def _survey_completed(state: State, event: SurveyCompleted) -> None:
    _moved(state, event)
    state.closed = True


def _create_completed(state: State, event: CreateCompleted) -> None:
    _moved(state, event)
    unit = _unit(state, event.entity, event)
    unit.indexes = tuple(index for index in unit.indexes if index.name not in event.built)
    unit.target_uuid = event.uuid
    if unit.type == "collection":
        _put(state, TaskKey(TaskKind.PLAN, unit.id), Task())


def _plan_completed(state: State, event: PlanCompleted) -> None:
    _moved(state, event)
    unit = _unit(state, event.entity, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)


def _dump_completed(state: State, event: DumpCompleted) -> None:
    _moved(state, event)
    chunk = _chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    chunk.file = ChunkFile(event.file, event.documents, event.bytes, event.file_bytes, event.sha256)
    state.files += 1
    unit.dumped_documents += event.documents
    unit.dumped_bytes += event.bytes
    _advance(state, chunk, unit, TaskKind.DUMP)


def _dump_invalidated(state: State, event: DumpInvalidated) -> None:
    """The dump starts again: take back what its completion brought."""
    task = _moved(state, event)
    task.failures += 1
    task.why = event.why
    chunk = _chunk(state, event.entity, event)
    _forget_progress(state, chunk)
    assert chunk.file is not None
    unit = state.units[chunk.unit]
    unit.weight_done -= max(1, chunk.documents)
    unit.dumped_documents -= chunk.file.documents
    unit.dumped_bytes -= chunk.file.bytes
    chunk.file = None
    state.files -= 1


def _restore_progressed(state: State, event: RestoreProgressed) -> None:
    _moved(state, event)
    _restored(state, _chunk(state, event.entity, event), event, position=event.position)


def _restore_completed(state: State, event: RestoreCompleted) -> None:
    _moved(state, event)
    chunk = _chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    _restored(state, chunk, event, position=chunk.file.file_bytes if chunk.file else 0)
    unit.restored += 1
    _advance(state, chunk, unit, TaskKind.RESTORE)


def _index_completed(state: State, event: IndexCompleted) -> None:
    _moved(state, event)


def _verify_completed(state: State, event: VerifyCompleted) -> None:
    _moved(state, event)
    chunk = _chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    unit.mismatched += not event.equal
    unit.source_documents += event.source_documents
    unit.target_documents += event.target_documents
    if len(state.stages) == 1:
        state.done_documents += event.source_documents
    _advance(state, chunk, unit, TaskKind.VERIFY)


def _advance(state: State, chunk: Chunk, unit: Unit, stage: TaskKind) -> None:
    """The chunk has this stage behind it: open the next one, or settle the chunk."""
    unit.weight_done += max(1, chunk.documents)
    if stage is TaskKind.RESTORE and unit.restored == unit.planned:
        for index in unit.indexes:
            _put(state, index_task(unit.id, index.name), Task())
    stages = state.stages
    if stage is stages[-1]:
        _settle(state, chunk, unit)
        return
    key = TaskKey(stages[stages.index(stage) + 1], chunk.id)
    if key not in state.tasks:  # there already if the chunk's file was lost
        _put(state, key, Task())


def _settle(state: State, chunk: Chunk, unit: Unit) -> None:
    del state.chunks[chunk.id]
    for kind in SIDES:
        _remove(state, TaskKey(kind, chunk.id))
    unit.settled += 1
    if chunk.file is None:
        return
    if chunk.done.rejected:
        state.files -= 1
        state.kept += 1  # the only place where the rejected documents still are
    else:
        state.releasing[chunk.id] = chunk.file.name


def _restored(
    state: State, chunk: Chunk, event: RestoreProgressed | RestoreCompleted, *, position: int
) -> None:
    done = Done(position, event.documents, event.bytes, event.present, event.rejected)
    _add(state, chunk, done)
    chunk.done = done


def _forget_progress(state: State, chunk: Chunk) -> None:
    _add(state, chunk, NOTHING)
    chunk.done = NOTHING


def _add(state: State, chunk: Chunk, done: Done) -> None:
    """What lies between the chunk's progress so far and `done` goes into the sums."""
    before, unit = chunk.done, state.units[chunk.unit]
    documents, size = done.documents - before.documents, done.bytes - before.bytes
    unit.restored_documents += documents
    unit.restored_bytes += size
    unit.present += done.present - before.present
    unit.rejected += done.rejected - before.rejected
    state.done_documents += documents
    state.done_bytes += size


# --- units and chunks ---


def _unit_registered(state: State, event: UnitRegistered) -> None:
    if known := state.units.get(event.unit):
        raise ImpossibleTransition(entity=known.id, status=known.status, event=event.kind)
    if state.spec is None:
        raise UnknownEntity(entity=THE_JOB, event=event.kind)
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
    if event.chunk in state.chunks:
        raise ImpossibleTransition(entity=event.chunk, status=unit.status, event=event.kind)
    chunk = Chunk(event.chunk, unit.id, event.lower, event.upper, event.documents, event.natural)
    state.chunks[chunk.id] = chunk
    stages = state.stages
    unit.planned += 1
    unit.weight += max(1, event.documents) * len(stages)
    _put(state, TaskKey(stages[0], chunk.id), Task())


def _unit_completed(state: State, event: UnitCompleted) -> None:
    unit = _unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]


def _unit_skipped(state: State, event: UnitSkipped) -> None:
    """Forget the open work of the unit. Its dead letters stay: somebody will ask."""
    unit = _unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]
    for chunk in [chunk for chunk in state.chunks.values() if chunk.unit == unit.id]:
        del state.chunks[chunk.id]
        if chunk.file is not None:
            state.releasing[chunk.id] = chunk.file.name
    for key, task in list(state.tasks.items()):
        if unit_of(key) == unit.id and task.status is not Status.FAILED:
            _remove(state, key)


def _file_decided(state: State, event: ChunkReleased | ChunkKept) -> None:
    if event.chunk not in state.releasing:
        raise UnknownEntity(entity=event.chunk, event=event.kind)
    del state.releasing[event.chunk]
    state.files -= 1
    state.kept += isinstance(event, ChunkKept)


# --- small hands ---


def _put(state: State, key: TaskKey, task: Task) -> None:
    state.tasks[key] = task
    state.queues.setdefault((key.kind, task.status), {})[key] = None


def _remove(state: State, key: TaskKey) -> None:
    task = state.tasks.pop(key, None)
    if task is not None:
        del state.queues[key.kind, task.status][key]


def _unit(state: State, unit_id: str, event: Event) -> Unit:
    try:
        return state.units[unit_id]  # type: ignore[index]
    except KeyError:
        raise UnknownEntity(entity=unit_id, event=event.kind) from None


def _chunk(state: State, chunk_id: str, event: Event) -> Chunk:
    try:
        return state.chunks[chunk_id]  # type: ignore[index]
    except KeyError:
        raise UnknownEntity(entity=chunk_id, event=event.kind) from None


# fmt: off
ARMS: Final[Mapping[type[Event], Callable[[State, Any], None]]] = {
    JobRequested:      _job_requested,
    RunStarted:        _run_started,
    PauseRequested:    _pause_requested,
    JobPaused:         _job_moved_on,
    JobResumed:        _job_resumed,
    JobCompleted:      _job_moved_on,
    JobFailed:         _job_failed,
    JobExported:       _job_exported,
    JobImported:       _job_imported,
    ResultIgnored:     _told,
    UnitRegistered:    _unit_registered,
    UnitCompleted:     _unit_completed,
    UnitSkipped:       _unit_skipped,
    ChunkPlanned:      _chunk_planned,
    ChunkReleased:     _file_decided,
    ChunkKept:         _file_decided,
    DocumentRejected:  _told,
    Started:           _started,
    RetryScheduled:    _retry_scheduled,
    DeadLettered:      _dead_lettered,
    Cancelled:         _cancelled,
    InDoubt:           _in_doubt,
    Resolved:          _resolved,
    Requeued:          _requeued,
    SurveyCompleted:   _survey_completed,
    CreateCompleted:   _create_completed,
    PlanCompleted:     _plan_completed,
    DumpCompleted:     _dump_completed,
    DumpInvalidated:   _dump_invalidated,
    RestoreProgressed: _restore_progressed,
    RestoreCompleted:  _restore_completed,
    IndexCompleted:    _index_completed,
    VerifyCompleted:   _verify_completed,
}
"""What each event does to a state. A test holds that every event has its arm."""
# fmt: on
