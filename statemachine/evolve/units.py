"""Arms: units."""

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    DamageFound,
    IndexDropped,
    JobSpec,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
)
from statemachine.evolve.chunks import SIDES, let_go
from statemachine.evolve.hands import (
    answered,
    open_chunks,
    put,
    remove,
    ripen,
    stands,
    the_unit,
    told,
)
from statemachine.state import State, Task, Unit, takes_census
from statemachine.transitions import next_unit_status
from statemachine.words import (
    THE_JOB,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    index_task,
)


def unit_registered(state: State, event: UnitRegistered) -> None:
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
        expires=event.expires,
    )
    state.open_units[event.unit] = None
    if first := _first(state.spec, event):
        put(state, TaskKey(first, event.unit), Task())
    ripen(state, state.units[event.unit])


def _first(spec: JobSpec, event: UnitRegistered) -> TaskKind | None:
    """What is done first with a unit. A view holds nothing that could be planned, but a dry run
    tells what will go wrong with it."""
    if spec.kind == "migrate":
        return TaskKind.CREATE
    if takes_census(spec):
        return TaskKind.CENSUS if event.type != "view" else None
    if event.type != "view" or spec.kind == "plan":
        return TaskKind.PLAN
    return TaskKind.CREATE if spec.kind == "restore" else None


def index_dropped(state: State, event: IndexDropped) -> None:
    key = TaskKey(TaskKind.INDEX, event.entity)
    if not stands(state, key, Status.FAILED):
        raise UnknownEntity(entity=f"a dead letter of {event.entity}", event=event.kind)
    remove(state, key)
    unit = state.units[UnitId(event.entity.rpartition("@")[0])]
    unit.indexes = tuple(i for i in unit.indexes if index_task(unit.id, i.name) != key)
    state.dropped += 1
    answered(state, event.request)


def damage_found(state: State, event: DamageFound) -> None:
    if event.unit:
        the_unit(state, event.unit, event).damaged += 1
    else:
        told(state, event)
        state.damaged += 1


def unit_completed(state: State, event: UnitCompleted) -> None:
    unit = the_unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]
    state.ripe.pop(unit.id, None)


def unit_left(state: State, event: UnitSkipped | UnitExcluded) -> None:
    """Forget the open work of the unit. Its dead letters stay: somebody will ask."""
    unit = the_unit(state, event.unit, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    del state.open_units[unit.id]
    state.ripe.pop(unit.id, None)
    kept = isinstance(event, UnitSkipped)
    for chunk in open_chunks(state, unit):
        del state.chunks[chunk.id]
        if chunk.done.rejected:
            state.flawed[chunk.id] = chunk  # what was refused is kept
        let_go(state, chunk)
        for kind in SIDES:
            _forget(state, TaskKey(kind, chunk.id), kept=kept)
    for kind in (TaskKind.CREATE, TaskKind.CENSUS, TaskKind.PLAN, TaskKind.FINISH):
        _forget(state, TaskKey(kind, unit.id), kept=kept)
    for index in unit.indexes:
        _forget(state, index_task(unit.id, index.name), kept=kept)
    if isinstance(event, UnitExcluded):
        answered(state, event.request)


def _forget(state: State, key: TaskKey, *, kept: bool) -> None:
    """Remove the task; `kept`: unless it is a dead letter."""
    if not (kept and stands(state, key, Status.FAILED)):
        remove(state, key)
