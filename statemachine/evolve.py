"""Facts to state: `evolve` has no opinion, and an arm for every event.

An arm changes the state in place and is chosen by the event's class alone: a history of
millions of events is folded at every start, so nothing here copies or searches.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    TASK_OF,
    AlertCleared,
    AlertRaised,
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    Cancelled,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    Completed,
    ConflictForeseen,
    CopyCompleted,
    CopyProgressed,
    CreateCompleted,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    DumpInvalidated,
    Event,
    IndexCompleted,
    IndexDropped,
    InDoubt,
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
    JobPaused,
    JobReopened,
    JobRequested,
    JobResumed,
    JobStopped,
    NamespacesAdded,
    PauseRequested,
    PlanCompleted,
    PriorityChanged,
    RequestRefused,
    Requeued,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    ResultIgnored,
    RetryScheduled,
    RunSettings,
    RunStarted,
    SettingChanged,
    SplitCompleted,
    SplitRequested,
    Started,
    StopRequested,
    SurveyCompleted,
    SurveyInvalidated,
    TaskEvent,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
    VerifyCompleted,
)
from statemachine.policy import COUNTED, POOL_OF, US
from statemachine.state import NOTHING, Breaker, Chunk, ChunkFile, Done, State, Task, Unit
from statemachine.transitions import next_job_status, next_task_status, next_unit_status
from statemachine.words import (
    THE_JOB,
    Cause,
    ChunkId,
    Key,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    index_task,
)

SIDES: Final = (
    TaskKind.DUMP,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.VERIFY,
    TaskKind.SPLIT,
)
"""Tasks of chunks."""
CARRIES: Final = (TaskKind.RESTORE, TaskKind.COPY)
"""After these the chunk's documents are on the target."""


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
    """A new process, most likely after somebody removed a cause: breakers begin closed."""
    _epoch_began(state, event)
    state.settings = event.settings
    state.immediate = False
    for pool in state.breakers:
        state.breakers[pool] = Breaker()


def _pause_requested(state: State, event: PauseRequested | StopRequested) -> None:
    _job_moved_on(state, event)
    state.why = event.why
    state.immediate = event.immediate
    state.rollback = isinstance(event, StopRequested) and event.rollback
    _answered(state, event.request)


def _job_resumed(state: State, event: JobResumed) -> None:
    _job_moved_on(state, event)
    state.why = ""
    state.rollback = False


def _job_reopened(state: State, event: JobReopened) -> None:
    _job_moved_on(state, event)
    state.why = f"reopened by {event.by}"


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


def _told(state: State, event: AnyEvent) -> None:
    """For people; no decision depends on it. But nothing is told of a job that nobody asked for."""
    if state.spec is None:
        raise UnknownEntity(entity=event.about, event=event.kind)


# --- what operators change while it goes ---


def _setting_changed(state: State, event: SettingChanged) -> None:
    if state.settings is None or event.name not in RunSettings.model_fields:
        raise UnknownEntity(entity=event.name, event=event.kind)
    changed = {**state.settings.model_dump(), event.name: event.value}
    try:
        state.settings = RunSettings.model_validate(changed)
    except ValidationError:
        raise ImpossibleTransition(
            entity=event.name, status=str(event.was), event=event.kind
        ) from None
    _answered(state, event.request)


def _priority_changed(state: State, event: PriorityChanged) -> None:
    """Of a unit with all its open chunks, or of one chunk."""
    if unit := state.units.get(UnitId(event.entity)):
        unit.priority = unit.next_priority = event.priority
        entities = {unit.id, *(chunk.id for chunk in _open_chunks(state, unit))}
        entities |= {index_task(unit.id, index.name).entity for index in unit.indexes}
    else:
        entities = {_chunk(state, event.entity, event).id}
    if event.priority not in state.priorities:
        state.priorities = tuple(sorted({*state.priorities, event.priority}, reverse=True))
    for entity in entities:
        if chunk := state.chunks.get(ChunkId(entity)):
            chunk.priority = event.priority
    for key in [key for key in state.tasks if key.entity in entities]:
        task = state.tasks[key]
        _leave(state, key, task)
        task.priority = event.priority
        _enter(state, key, task)
    _answered(state, event.request)


def _namespaces_added(state: State, event: NamespacesAdded) -> None:
    _told(state, event)
    state.added += event.include
    _answered(state, event.request)


def _survey_invalidated(state: State, event: SurveyInvalidated) -> None:
    _moved(state, event)
    state.closed = False


def _request_refused(state: State, event: RequestRefused) -> None:
    _told(state, event)
    _answered(state, event.request)


def _answered(state: State, request: int) -> None:
    """A request that comes twice is no news."""
    state.request = max(state.request, request)


# --- breakers and alerts ---


def _breaker_opened(state: State, event: BreakerOpened) -> None:
    _told(state, event)
    breaker = state.breakers[event.pool]
    breaker.opened += 1
    breaker.until_ms = event.until_ms
    breaker.probe = None


def _breaker_closed(state: State, event: BreakerClosed) -> None:
    _told(state, event)
    state.breakers[event.pool] = Breaker()


def _alert_raised(state: State, event: AlertRaised) -> None:
    _told(state, event)
    state.alerts[event.alert, event.entity] = None


def _alert_cleared(state: State, event: AlertCleared) -> None:
    if (event.alert, event.entity) not in state.alerts:
        raise UnknownEntity(entity=f"alert {event.alert} of {event.entity}", event=event.kind)
    del state.alerts[event.alert, event.entity]


def _hurt(state: State, key: TaskKey, cause: Cause) -> None:
    """One more failure in a row of the pool, if another server might have done better."""
    if cause in COUNTED:
        breaker = state.breakers[POOL_OF[key.kind]]
        breaker.failures += 1
    _probed(state, key)


def _healed(state: State, event: TaskEvent) -> None:
    state.breakers[POOL_OF[TASK_OF[event.kind]]].failures = 0


def _probed(state: State, key: TaskKey) -> None:
    """The probe, if this was it, has told what it had to tell."""
    breaker = state.breakers[POOL_OF[key.kind]]
    if breaker.probe == key:
        breaker.probe = None


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
        key, queues, priority = TaskKey(kind, entity), state.queues, task.priority
        if before is not Status.COMPLETED:
            del queues[kind, before, priority][key]
        if status is not Status.COMPLETED:
            queues.setdefault((kind, status, priority), {})[key] = None
        task.status = status
        if kind is TaskKind.INDEX and (before in ENDS) is not (status in ENDS):
            _index_moved(state, key, 1 if before in ENDS else -1)
    return task


ENDS: Final = (Status.COMPLETED, Status.FAILED)


def _index_moved(state: State, key: TaskKey, change: int) -> None:
    unit = state.units[UnitId(key.entity.rpartition("@")[0])]
    unit.indexing += change
    _ripen(state, unit)


def _started(state: State, event: Started) -> None:
    task = _moved(state, event)
    task.attempt = event.attempt
    task.epoch = state.epoch
    breaker = state.breakers[POOL_OF[TASK_OF[event.kind]]]
    if breaker.opened:
        breaker.probe = event.task


def _retry_scheduled(state: State, event: RetryScheduled) -> None:
    task = _moved(state, event)
    if event.cause is Cause.UNAVAILABLE:
        task.waits += 1
        task.waited_ms += event.delay_ms
    else:
        task.failures += 1
    task.delay_ms, task.not_before_ms = event.delay_ms, event.not_before_ms
    task.code, task.why = event.code, event.why
    state.retries += 1
    _hurt(state, event.task, event.cause)


def _dead_lettered(state: State, event: DeadLettered) -> None:
    known = state.tasks.get(event.task)
    failed = known is not None and known.status is Status.PROCESSING
    task = _moved(state, event)
    task.code, task.why = event.code, event.why
    if failed:  # else the failure is counted already
        task.failures += 1
        _hurt(state, event.task, event.cause)


def _cancelled(state: State, event: Cancelled) -> None:
    _moved(state, event)
    _probed(state, event.task)


def _in_doubt(state: State, event: InDoubt) -> None:
    """Nobody's fault where an operator wanted it at once."""
    _moved(state, event).interruptions += not state.immediate


def _resolved(state: State, event: Resolved) -> None:
    _moved(state, event)
    if event.decision == "discard" and event.task.kind in CARRIES:
        _forget_progress(state, _chunk(state, event.entity, event))


def _requeued(state: State, event: Requeued) -> None:
    task = _moved(state, event)
    task.failures = task.interruptions = 0
    task.waits = task.waited_ms = task.delay_ms = 0
    task.code = task.why = ""
    _answered(state, event.request)


# --- what tasks bring about ---


def _done(state: State, event: Completed) -> Task:
    task = _moved(state, event)
    _healed(state, event)
    return task


def _survey_completed(state: State, event: SurveyCompleted) -> None:
    _done(state, event)
    state.closed = True


def _create_completed(state: State, event: CreateCompleted) -> None:
    _done(state, event)
    unit = _unit(state, event.entity, event)
    unit.indexes = tuple(index for index in unit.indexes if index.name not in event.built)
    unit.target_uuid = event.uuid
    if unit.type == "collection":
        _put(state, TaskKey(TaskKind.PLAN, unit.id), Task(priority=unit.priority))
    _ripen(state, unit)


def _plan_completed(state: State, event: PlanCompleted) -> None:
    _done(state, event)
    unit = _unit(state, event.entity, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    _ripen(state, unit)


def _dump_completed(state: State, event: DumpCompleted) -> None:
    _done(state, event)
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


def _progressed(state: State, event: RestoreProgressed | CopyProgressed) -> None:
    task = _moved(state, event)
    task.interruptions = task.waits = task.waited_ms = 0
    _healed(state, event)
    last_key = event.last_key if isinstance(event, CopyProgressed) else None
    chunk = _chunk(state, event.entity, event)
    _restored(state, chunk, event, position=event.position, last_key=last_key)


def _carried(state: State, event: RestoreCompleted | CopyCompleted) -> None:
    """The chunk's documents are on the target."""
    _done(state, event)
    chunk = _chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    _restored(state, chunk, event, position=chunk.file.file_bytes if chunk.file else 0)
    unit.restored += 1
    if chunk.bisected:
        unit.suspects = 0
    _advance(state, chunk, unit, TASK_OF[event.kind])


def _completed(state: State, event: IndexCompleted | SplitCompleted) -> None:
    _done(state, event)


def _verify_completed(state: State, event: VerifyCompleted) -> None:
    _done(state, event)
    chunk = _chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    chunk.verified = (int(not event.equal), event.source_documents, event.target_documents)
    _add_verified(unit, chunk, 1)
    if len(state.stages) == 1:
        state.done_documents += event.source_documents
    _advance(state, chunk, unit, TaskKind.VERIFY)


def _advance(state: State, chunk: Chunk, unit: Unit, stage: TaskKind) -> None:
    """The chunk has this stage behind it: open the next one, or settle the chunk."""
    unit.weight_done += max(1, chunk.documents)
    if stage in CARRIES:
        _open_indexes(state, unit)
    stages = state.stages
    if stage is stages[-1]:
        _settle(state, chunk, unit)
        return
    key = TaskKey(stages[stages.index(stage) + 1], chunk.id)
    if key not in state.tasks:  # there already if the chunk's file was lost
        _put(state, key, Task(priority=chunk.priority))


def _open_indexes(state: State, unit: Unit) -> None:
    """When the unit's data is on the target; indexes stay when a chunk is carried again."""
    if unit.restored + unit.dropped < unit.planned:
        return
    for index in unit.indexes:
        key = index_task(unit.id, index.name)
        if key not in state.tasks:
            _put(state, key, Task(priority=unit.priority))
            unit.indexing += 1


def _settle(state: State, chunk: Chunk, unit: Unit) -> None:
    _close(state, chunk)
    unit.settled += 1
    if chunk.done.rejected:
        state.flawed[chunk.id] = chunk
    _ripen(state, unit)


def _close(state: State, chunk: Chunk) -> None:
    """No work is left on the chunk; its file may go."""
    del state.chunks[chunk.id]
    for kind in SIDES:
        _remove(state, TaskKey(kind, chunk.id))
    if chunk.file is not None:
        state.releasing[chunk.id] = chunk.file.name


def _add_verified(unit: Unit, chunk: Chunk, sign: int) -> None:
    mismatched, source, target = chunk.verified
    unit.mismatched += sign * mismatched
    unit.source_documents += sign * source
    unit.target_documents += sign * target


def _restored(
    state: State,
    chunk: Chunk,
    event: RestoreProgressed | RestoreCompleted | CopyProgressed | CopyCompleted,
    *,
    position: int,
    last_key: Key | None = None,
) -> None:
    counts = (event.documents, event.bytes, event.present, event.rejected)
    done = Done(position, *counts, last_key)
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
    first = TaskKind.CREATE if state.spec.kind == "migrate" else TaskKind.PLAN
    if first is TaskKind.CREATE or event.type == "collection":
        _put(state, TaskKey(first, event.unit), Task())
    _ripen(state, state.units[event.unit])


def _chunk_planned(state: State, event: ChunkPlanned) -> None:
    unit = _unit(state, event.unit, event)
    if event.chunk in state.chunks:
        raise ImpossibleTransition(entity=event.chunk, status=unit.status, event=event.kind)
    stages = state.stages
    unit.named += 1
    unit.planned += 1
    unit.weight += max(1, event.documents) * len(stages)
    if not stages:  # a dry run counts it and that is all
        unit.settled += 1
        return
    chunk = Chunk(event.chunk, unit.id, event.lower, event.upper, event.documents, event.natural)
    chunk.priority = unit.next_priority
    chunk.bisected = unit.bisecting
    state.chunks[chunk.id] = chunk
    _put(state, TaskKey(stages[0], chunk.id), Task(priority=chunk.priority))


def _split_requested(state: State, event: SplitRequested) -> None:
    """What was done with the chunk is taken back, but for the documents on the target, which will
    be found there."""
    chunk = _chunk(state, event.chunk, event)
    unit = state.units[chunk.unit]
    _take_back(state, chunk, unit)
    for kind in SIDES:
        _remove(state, TaskKey(kind, chunk.id))
    if chunk.file is not None:
        state.releasing[chunk.id] = chunk.file.name
        chunk.file = None
    unit.weight += max(1, chunk.documents) * len(state.stages)
    unit.planned += 1
    if event.by == US:
        chunk.bisected = True
        unit.suspects += 1
    _put(state, TaskKey(TaskKind.SPLIT, chunk.id), Task(priority=chunk.priority))
    _answered(state, event.request)


def _chunk_replaced(state: State, event: ChunkReplaced) -> None:
    """An open chunk that was split, or a settled one with rejected documents."""
    chunk = state.flawed.pop(event.chunk, None)
    if chunk is None:
        chunk = _chunk(state, event.chunk, event)
        unit = state.units[chunk.unit]
        if not _is(state, TaskKey(TaskKind.SPLIT, chunk.id), Status.COMPLETED):
            raise ImpossibleTransition(entity=chunk.id, status="not split", event=event.kind)
        unit.planned -= 1
        unit.weight -= max(1, chunk.documents) * len(state.stages)
        unit.bisecting, unit.next_priority = chunk.bisected, chunk.priority
        _close(state, chunk)
        _answered(state, event.request)
        return
    unit = state.units[chunk.unit]
    unit.bisecting, unit.next_priority = chunk.bisected, chunk.priority
    _take_back(state, chunk, unit)
    if unit.status is UnitStatus.COMPLETED:
        unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
        state.open_units[unit.id] = None
    state.ripe.pop(unit.id, None)
    _answered(state, event.request)


def _take_back(state: State, chunk: Chunk, unit: Unit) -> None:
    """The chunk out of all sums of its unit; with what it brought so far."""
    settled = chunk.id not in state.chunks
    share = max(1, chunk.documents)
    stages = state.stages
    completed = [
        stage
        for stage in stages
        if settled or _is(state, TaskKey(stage, chunk.id), Status.COMPLETED)
    ]
    unit.planned -= 1
    unit.weight -= share * len(stages)
    unit.weight_done -= share * len(completed)
    unit.settled -= settled and not chunk.dropped
    unit.dropped -= chunk.dropped
    carried = not chunk.dropped and any(stage in CARRIES for stage in completed)
    unit.restored -= carried
    if chunk.file is not None:
        unit.dumped_documents -= chunk.file.documents
        unit.dumped_bytes -= chunk.file.bytes
    _add_verified(unit, chunk, -1)
    _forget_progress(state, chunk)


def _chunk_dropped(state: State, event: ChunkDropped) -> None:
    chunk = _chunk(state, event.chunk, event)
    unit = state.units[chunk.unit]
    stages = state.stages
    open_ones = [s for s in stages if not _is(state, TaskKey(s, chunk.id), Status.COMPLETED)]
    unit.weight_done += max(1, chunk.documents) * len(open_ones)
    carries = any(stage in CARRIES for stage in stages)
    unit.restored -= carries and not any(stage in CARRIES for stage in open_ones)
    unit.dropped += 1
    done = chunk.done._replace(rejected=chunk.done.rejected + event.documents)
    _add(state, chunk, done)
    chunk.done, chunk.dropped = done, True
    _close(state, chunk)
    state.flawed[chunk.id] = chunk
    if carries:
        _open_indexes(state, unit)
    _ripen(state, unit)
    _answered(state, event.request)


def _index_dropped(state: State, event: IndexDropped) -> None:
    key = TaskKey(TaskKind.INDEX, event.entity)
    if not _is(state, key, Status.FAILED):
        raise UnknownEntity(entity=f"a dead letter of {event.entity}", event=event.kind)
    _remove(state, key)
    unit = state.units[UnitId(event.entity.rpartition("@")[0])]
    unit.indexes = tuple(i for i in unit.indexes if index_task(unit.id, i.name) != key)
    state.dropped += 1
    _answered(state, event.request)


def _unit_completed(state: State, event: UnitCompleted) -> None:
    unit = _unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]
    state.ripe.pop(unit.id, None)


def _unit_left(state: State, event: UnitSkipped | UnitExcluded) -> None:
    """Forget the open work of the unit. Its dead letters stay: somebody will ask."""
    unit = _unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]
    state.ripe.pop(unit.id, None)
    kept = isinstance(event, UnitSkipped)
    for chunk in _open_chunks(state, unit):
        del state.chunks[chunk.id]
        if chunk.file is not None:
            state.releasing[chunk.id] = chunk.file.name
        for kind in SIDES:
            _forget(state, TaskKey(kind, chunk.id), kept=kept)
    for kind in (TaskKind.CREATE, TaskKind.PLAN):
        _forget(state, TaskKey(kind, unit.id), kept=kept)
    for index in unit.indexes:
        _forget(state, index_task(unit.id, index.name), kept=kept)
    if isinstance(event, UnitExcluded):
        _answered(state, event.request)


def _forget(state: State, key: TaskKey, *, kept: bool) -> None:
    """Remove the task; `kept`: unless it is a dead letter."""
    if not (kept and _is(state, key, Status.FAILED)):
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
    _enter(state, key, task)


def _remove(state: State, key: TaskKey) -> None:
    task = state.tasks.pop(key, None)
    if task is not None:
        _leave(state, key, task)
        _probed(state, key)


def _enter(state: State, key: TaskKey, task: Task) -> None:
    if task.status is not Status.COMPLETED:
        state.queues.setdefault((key.kind, task.status, task.priority), {})[key] = None


def _leave(state: State, key: TaskKey, task: Task) -> None:
    if task.status is not Status.COMPLETED:
        del state.queues[key.kind, task.status, task.priority][key]


def _is(state: State, key: TaskKey, status: Status) -> bool:
    task = state.tasks.get(key)
    return task is not None and task.status is status


def _ripen(state: State, unit: Unit) -> None:
    """Note whether the unit has no work left: every chunk settled, every index tried."""
    if unit.type == "view":
        key = TaskKey(TaskKind.CREATE, unit.id)
        done = key not in state.tasks or _is(state, key, Status.COMPLETED)
    else:
        whole = unit.settled + unit.dropped == unit.planned
        done = unit.status is UnitStatus.PROCESSING and whole and not unit.indexing
    if done and unit.id in state.open_units:
        state.ripe[unit.id] = None
    else:
        state.ripe.pop(unit.id, None)


def _open_chunks(state: State, unit: Unit) -> list[Chunk]:
    """The unit's chunks with work left: they are numbered, so nothing is searched."""
    numbered = (ChunkId(f"{unit.id}#{number}") for number in range(unit.named))
    return [state.chunks[each] for each in numbered if each in state.chunks]


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
    StopRequested:     _pause_requested,
    JobStopped:        _job_moved_on,
    JobReopened:       _job_reopened,
    JobResumed:        _job_resumed,
    JobCompleted:      _job_moved_on,
    JobFailed:         _job_failed,
    JobExported:       _job_exported,
    JobImported:       _job_imported,
    SettingChanged:    _setting_changed,
    PriorityChanged:   _priority_changed,
    NamespacesAdded:   _namespaces_added,
    RequestRefused:    _request_refused,
    BreakerOpened:     _breaker_opened,
    BreakerClosed:     _breaker_closed,
    AlertRaised:       _alert_raised,
    AlertCleared:      _alert_cleared,
    ResultIgnored:     _told,
    UnitRegistered:    _unit_registered,
    UnitCompleted:     _unit_completed,
    UnitSkipped:       _unit_left,
    UnitExcluded:      _unit_left,
    ConflictForeseen:  _told,
    SplitRequested:    _split_requested,
    ChunkReplaced:     _chunk_replaced,
    ChunkDropped:      _chunk_dropped,
    IndexDropped:      _index_dropped,
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
    SurveyInvalidated: _survey_invalidated,
    RestoreProgressed: _progressed,
    RestoreCompleted:  _carried,
    CopyProgressed:    _progressed,
    CopyCompleted:     _carried,
    SplitCompleted:    _completed,
    IndexCompleted:    _completed,
    VerifyCompleted:   _verify_completed,
}
"""What each event does to a state. A test holds that every event has its arm."""
# fmt: on
