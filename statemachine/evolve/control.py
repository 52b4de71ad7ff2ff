"""Arms: what operators change while it goes; breakers and alerts."""

from pydantic import ValidationError

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    AlertCleared,
    AlertRaised,
    BreakerClosed,
    BreakerOpened,
    NamespacesAdded,
    PriorityChanged,
    RequestRefused,
    RunSettings,
    SettingChanged,
    SurveyInvalidated,
)
from statemachine.evolve.hands import (
    answered,
    enter,
    leave,
    once_more,
    open_chunks,
    the_chunk,
    told,
)
from statemachine.evolve.tasks import moved
from statemachine.policy import US
from statemachine.state import Breaker, State
from statemachine.words import (
    THE_JOB,
    ChunkId,
    TaskKey,
    TaskKind,
    UnitId,
    index_task,
)


def setting_changed(state: State, event: SettingChanged) -> None:
    if state.settings is None or event.name not in RunSettings.model_fields:
        raise UnknownEntity(entity=event.name, event=event.kind)
    changed = {**state.settings.model_dump(), event.name: event.value}
    try:
        state.settings = RunSettings.model_validate(changed)
    except ValidationError:
        raise ImpossibleTransition(
            entity=event.name, status=str(event.was), event=event.kind
        ) from None
    answered(state, event.request)


def priority_changed(state: State, event: PriorityChanged) -> None:
    """Of a unit with all its open chunks, or of one chunk."""
    if unit := state.units.get(UnitId(event.entity)):
        unit.priority = unit.next_priority = event.priority
        entities = {unit.id, *(chunk.id for chunk in open_chunks(state, unit))}
        entities |= {index_task(unit.id, index.name).entity for index in unit.indexes}
    else:
        entities = {the_chunk(state, event.entity, event).id}
    if event.priority not in state.priorities:
        state.priorities = tuple(sorted({*state.priorities, event.priority}, reverse=True))
    for entity in entities:
        if chunk := state.chunks.get(ChunkId(entity)):
            chunk.priority = event.priority
    for key in [key for key in state.tasks if key.entity in entities]:
        task = state.tasks[key]
        leave(state, key, task)
        task.priority = event.priority
        enter(state, key, task)
    answered(state, event.request)


def namespaces_added(state: State, event: NamespacesAdded) -> None:
    told(state, event)
    state.added += event.include
    state.adding = len(event.include)
    answered(state, event.request)


def survey_invalidated(state: State, event: SurveyInvalidated) -> None:
    moved(state, event)
    state.closed = False
    once_more(state, TaskKey(TaskKind.MANIFEST, THE_JOB))


def request_refused(state: State, event: RequestRefused) -> None:
    """What could not be added after all is forgotten."""
    told(state, event)
    if event.by == US and event.verb == "add":
        state.added = state.added[: len(state.added) - state.adding]
        state.adding = 0
    answered(state, event.request)


def breaker_opened(state: State, event: BreakerOpened) -> None:
    told(state, event)
    breaker = state.breakers[event.pool]
    breaker.opened += 1
    breaker.until_ms = event.until_ms
    breaker.waited_ms += event.open_ms
    breaker.probe = None


def breaker_closed(state: State, event: BreakerClosed) -> None:
    told(state, event)
    state.breakers[event.pool] = Breaker()


def alert_raised(state: State, event: AlertRaised) -> None:
    told(state, event)
    state.alerts[event.alert, event.entity] = None


def alert_cleared(state: State, event: AlertCleared) -> None:
    if (event.alert, event.entity) not in state.alerts:
        raise UnknownEntity(entity=f"alert {event.alert} of {event.entity}", event=event.kind)
    del state.alerts[event.alert, event.entity]
