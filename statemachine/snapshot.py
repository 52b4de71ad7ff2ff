"""A state as plain data and back, exactly: with the order of every map, because decisions
follow it. Plain data holds lists, texts, numbers and `None` only.

A snapshot is a cache of a fold. What is thawed equals what was frozen and decides the same.
"""

from operator import attrgetter
from typing import Any, Final

from statemachine.events import IndexSpec, JobSpec, RunSettings
from statemachine.state import Breaker, Chunk, ChunkFile, Done, State, Task, Unit
from statemachine.words import (
    Alert,
    ChunkId,
    JobStatus,
    Pool,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)

_task: Final = attrgetter(*Task.__slots__)
_chunk: Final = attrgetter(*Chunk.__slots__)
_unit: Final = attrgetter(*Unit.__slots__)
_breaker: Final = attrgetter(*Breaker.__slots__)
MAPS: Final = (
    "units",
    "chunks",
    "flawed",
    "tasks",
    "queues",
    "breakers",
    "alerts",
    "open_units",
    "ripe",
    "releasing",
)
PLAIN: Final = tuple(name for name in State.__slots__ if name not in MAPS)
"""Fields of a state that are one value each."""


def freeze(state: State) -> dict[str, Any]:
    """The state as JSON-ready data that shares nothing with it."""
    fields = {name: getattr(state, name) for name in PLAIN}
    return {
        **fields,
        "spec": state.spec.model_dump(mode="json") if state.spec else None,
        "settings": state.settings.model_dump(mode="json") if state.settings else None,
        "units": [_frozen_unit(unit) for unit in state.units.values()],
        "chunks": [_chunk(chunk) for chunk in state.chunks.values()],
        "tasks": [(key.kind, key.entity, *_task(task)) for key, task in state.tasks.items()],
        "flawed": [_chunk(chunk) for chunk in state.flawed.values()],
        "queues": [
            (kind, status, priority, [key.entity for key in queue])
            for (kind, status, priority), queue in state.queues.items()
        ],
        "breakers": [(pool, *_breaker(breaker)) for pool, breaker in state.breakers.items()],
        "alerts": list(state.alerts),
        "open_units": list(state.open_units),
        "ripe": list(state.ripe),
        "releasing": list(state.releasing.items()),
    }


def thaw(data: dict[str, Any]) -> State:
    """The state that was frozen. Raises `ValueError`, `KeyError` or `TypeError` for anything
    that `freeze` did not make."""
    state = State(**{name: data[name] for name in PLAIN})
    state.spec = JobSpec.model_validate(data["spec"], strict=False) if data["spec"] else None
    state.settings = (
        RunSettings.model_validate(data["settings"], strict=False) if data["settings"] else None
    )
    state.status = JobStatus(data["status"])
    state.units = {unit.id: unit for unit in map(_thawed_unit, data["units"])}
    state.chunks = {chunk.id: chunk for chunk in map(_thawed_chunk, data["chunks"])}
    for kind, entity, status, *rest in data["tasks"]:
        state.tasks[TaskKey(KINDS[kind], entity)] = Task(STATUSES[status], *rest)
    keys = {key: key for key in state.tasks}
    for name, status, priority, entities in data["queues"]:
        kind = KINDS[name]
        queue = {keys[kind, entity]: None for entity in entities}  # type: ignore[index]
        state.queues[kind, STATUSES[status], priority] = queue
    state.priorities = tuple(data["priorities"])
    state.added = tuple(data["added"])
    state.flawed = {chunk.id: chunk for chunk in map(_thawed_chunk, data["flawed"])}
    for pool, failures, opened, until_ms, probe in data["breakers"]:
        key = TaskKey(KINDS[probe[0]], probe[1]) if probe is not None else None
        state.breakers[Pool(pool)] = Breaker(failures, opened, until_ms, key)
    state.alerts = {(Alert(alert), entity): None for alert, entity in data["alerts"]}
    state.ripe = dict.fromkeys(map(UnitId, data["ripe"]))
    state.open_units = dict.fromkeys(map(UnitId, data["open_units"]))
    state.releasing = {ChunkId(chunk): file for chunk, file in data["releasing"]}
    return state


KINDS: Final = {str(kind): kind for kind in TaskKind}
STATUSES: Final = {str(status): status for status in Status}


def _frozen_unit(unit: Unit) -> list[Any]:
    values = list(_unit(unit))
    values[UNIT_INDEXES] = [index.model_dump(mode="json") for index in unit.indexes]
    return values


def _thawed_unit(values: list[Any]) -> Unit:
    unit = Unit(*values)
    unit.status = UnitStatus(unit.status)
    unit.indexes = tuple(IndexSpec.model_validate(index) for index in unit.indexes)
    return unit


def _thawed_chunk(values: list[Any]) -> Chunk:
    *plain, file, done = values
    chunk = Chunk(*plain)
    chunk.file = ChunkFile(*file) if file is not None else None
    chunk.done = Done(*done)
    mismatched, source, target = chunk.verified
    chunk.verified = (mismatched, source, target)
    return chunk


UNIT_INDEXES: Final = Unit.__slots__.index("indexes")
assert Chunk.__slots__[-2:] == ("file", "done")
