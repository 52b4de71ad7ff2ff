"""A state as plain data and back, exactly: with the order of every map, because decisions
follow it. Plain data holds lists, texts, numbers and `None` only.

A snapshot is a cache of a fold. What is thawed equals what was frozen and decides the same. Most
of a big state is chunks that wait for their first stage, one behind the other: they are kept as
runs, so that a state of 100,000 chunks is read in a fraction of a second.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from statemachine.events import IndexSpec, JobSpec, RunSettings
from statemachine.state import (
    NOTHING,
    Applied,
    Breaker,
    Chunk,
    ChunkFile,
    Done,
    Link,
    Operation,
    Part,
    Shard,
    State,
    Task,
    Undo,
    Unit,
)
from statemachine.words import (
    Alert,
    ChunkId,
    JobStatus,
    Key,
    Phase,
    Pool,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    undo_task,
)

_task: Final = attrgetter(*Task.__slots__)
_chunk: Final = attrgetter(*Chunk.__slots__)
_unit: Final = attrgetter(*Unit.__slots__)
_shard: Final = attrgetter(*Shard.__slots__)
_operation: Final = attrgetter(*Operation.__slots__)
_undo: Final = attrgetter(*Undo.__slots__)
_breaker: Final = attrgetter(*Breaker.__slots__)
MAPS: Final = (
    "units",
    "chunks",
    "flawed",
    "filed",
    "tasks",
    "queues",
    "breakers",
    "alerts",
    "open_units",
    "ripe",
    "quarantine",
    "releasing",
    "links",
    "shards",
    "operations",
    "undos",
)
PLAIN: Final = tuple(name for name in State.__slots__ if name not in MAPS)
"""Fields of a state that are one value each."""


def freeze(state: State) -> dict[str, Any]:
    """The state as JSON-ready data that shares nothing with it."""
    fields = {name: getattr(state, name) for name in PLAIN}
    places = {key: place for place, key in enumerate(state.tasks)}
    return {
        **fields,
        "spec": state.spec.model_dump(mode="json") if state.spec else None,
        "settings": state.settings.model_dump(mode="json") if state.settings else None,
        "units": [_frozen_unit(unit) for unit in state.units.values()],
        "chunks": list(_frozen_chunks(state.chunks.values())),
        "tasks": list(_frozen_tasks(state)),
        "flawed": [_chunk(chunk) for chunk in state.flawed.values()],
        "filed": [_chunk(chunk) for chunk in state.filed.values()],
        "queues": [
            (kind, status, priority, [places[key] for key in queue])
            for (kind, status, priority), queue in state.queues.items()
        ],
        "breakers": [(pool, *_breaker(breaker)) for pool, breaker in state.breakers.items()],
        "alerts": list(state.alerts),
        "open_units": list(state.open_units),
        "ripe": list(state.ripe),
        "quarantine": [places[key] for key in state.quarantine],
        "releasing": list(state.releasing.items()),
        "links": [list(link) for link in state.links],
        "shards": [_shard(shard) for shard in state.shards.values()],
        "operations": [_operation(each) for each in state.operations.values()],
        "undos": [_undo(each) for each in state.undos.values()],
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
    state.chunks = {chunk.id: chunk for chunk in _thawed_chunks(data["chunks"])}
    state.tasks = dict(_thawed_tasks(data["tasks"], {id_: id_ for id_ in state.chunks}))
    keys = list(state.tasks)
    for kind, status, priority, places in data["queues"]:
        queue = OrderedDict.fromkeys([keys[place] for place in places])
        state.queues[KINDS[kind], STATUSES[status], priority] = queue
    state.priorities = tuple(data["priorities"])
    state.added = tuple(data["added"])
    state.flawed = {chunk.id: chunk for chunk in map(_thawed_chunk, data["flawed"])}
    state.filed = {chunk.id: chunk for chunk in map(_thawed_chunk, data["filed"])}
    for pool, *numbers, probe in data["breakers"]:
        failures, opened, until_ms, waited_ms = numbers
        key = TaskKey(KINDS[probe[0]], probe[1]) if probe is not None else None
        state.breakers[Pool(pool)] = Breaker(failures, opened, until_ms, waited_ms, key)
    state.alerts = {(Alert(alert), entity): None for alert, entity in data["alerts"]}
    state.quarantine = dict.fromkeys(keys[place] for place in data["quarantine"])
    state.ripe = dict.fromkeys(map(UnitId, data["ripe"]))
    state.open_units = dict.fromkeys(map(UnitId, data["open_units"]))
    state.releasing = {ChunkId(chunk): file for chunk, file in data["releasing"]}
    state.phase = Phase(data["phase"]) if data["phase"] is not None else None
    state.links = tuple(Link(*link) for link in data["links"])
    state.shards = {shard.id: shard for shard in map(_thawed_shard, data["shards"])}
    state.operations = {each.id: each for each in map(_thawed_operation, data["operations"])}
    undos = map(_thawed_undo, data["undos"])
    state.undos = {undo_task(each.task, each.entity).entity: each for each in undos}
    return state


KINDS: Final = {str(kind): kind for kind in TaskKind}
STATUSES: Final = {str(status): status for status in Status}


def _frozen_chunks(chunks: Iterable[Chunk]) -> Iterator[list[Any]]:
    """Runs of `[unit, natural, priority, bisected, number, lower, uppers, documents]`, each chunk
    of which begins where the one before it ends; all other chunks as their fields."""
    run: list[Any] = []
    upper: Key | None = None
    for chunk in chunks:
        number = int(chunk.id.rpartition("#")[2])
        head = [chunk.unit, chunk.natural, chunk.priority, chunk.bisected]
        name = ChunkId(f"{chunk.unit}#{number}")
        plain = Chunk(name, chunk.unit, chunk.lower, chunk.upper, chunk.documents, chunk.natural)
        plain.priority, plain.bisected = chunk.priority, chunk.bisected
        fresh = chunk == plain
        goes_on = run[:4] == head and chunk.lower == upper and number == run[4] + len(run[6])
        if fresh and run and goes_on:
            run[6].append(chunk.upper)
            run[7].append(chunk.documents)
            upper = chunk.upper
            continue
        if run:
            yield run
        run = [*head, number, chunk.lower, [chunk.upper], [chunk.documents]] if fresh else []
        upper = chunk.upper
        if not fresh:
            yield list(_chunk(chunk))
    if run:
        yield run


def _thawed_chunks(data: Iterable[list[Any]]) -> Iterator[Chunk]:
    for values in data:
        if len(values) != RUN_FIELDS:
            yield _thawed_chunk(values)
            continue
        unit, natural, priority, bisected, number, lower, uppers, documents = values
        for place, upper in enumerate(uppers):
            count = documents[place]
            id_ = ChunkId(f"{unit}#{number + place}")
            yield Chunk(id_, unit, lower, upper, count, natural, priority, bisected)
            lower = upper


RUN_FIELDS: Final = 8
assert len(Chunk.__slots__) != RUN_FIELDS


def _frozen_tasks(state: State) -> Iterator[tuple[Any, ...]]:
    """Runs of `(kind, priority, entities)` that wait for their first start; all other tasks as
    their kind, entity and fields."""
    run: tuple[Any, ...] = ()
    for key, task in state.tasks.items():
        fresh = task == Task(priority=task.priority)
        if fresh and run[:2] == (key.kind, task.priority):
            run[2].append(key.entity)
            continue
        if run:
            yield run
        run = (key.kind, task.priority, [key.entity]) if fresh else ()
        if not fresh:
            yield (key.kind, key.entity, *_task(task))
    if run:
        yield run


def _thawed_tasks(
    data: Iterable[Sequence[Any]], shared: Mapping[str, str]
) -> Iterator[tuple[TaskKey, Task]]:
    """`shared`: texts that the state holds already."""
    for name, second, *rest in data:
        kind = KINDS[name]
        if len(rest) == 1:
            for entity in rest[0]:
                yield TaskKey(kind, shared.get(entity, entity)), Task(priority=second)
        else:
            status, *fields = rest
            yield TaskKey(kind, shared.get(second, second)), Task(STATUSES[status], *fields)


def _frozen_unit(unit: Unit) -> list[Any]:
    values = list(_unit(unit))
    values[UNIT_INDEXES] = [index.model_dump(mode="json") for index in unit.indexes]
    return values


def _thawed_unit(values: list[Any]) -> Unit:
    unit = Unit(*values)
    unit.status = UnitStatus(unit.status)
    unit.built = tuple(unit.built)
    unit.indexes = tuple(IndexSpec.model_validate(index) for index in unit.indexes)
    return unit


def _thawed_chunk(values: list[Any]) -> Chunk:
    *plain, file, done = values
    chunk = Chunk(*plain)
    chunk.file = _thawed_file(file) if file is not None else None
    chunk.done = Done(*done) if any(done) else NOTHING
    mismatched, source, target = chunk.verified
    chunk.verified = (mismatched, source, target)
    return chunk


def _thawed_file(values: Sequence[Any]) -> ChunkFile:
    file = ChunkFile(*values)
    return file._replace(parts=tuple(Part(*part) for part in file.parts))


def _thawed_shard(values: list[Any]) -> Shard:
    id_, namespace, target, kind, lower, upper, file, done = values
    where = ShardId(id_), namespace, target, kind, lower, upper
    return Shard(*where, _thawed_file(file), Applied(*done))


def _thawed_operation(values: list[Any]) -> Operation:
    id_, forward, compensation, wait_for, rollback_wait_for, *rest = values
    return Operation(id_, forward, compensation, tuple(wait_for), tuple(rollback_wait_for), *rest)


def _thawed_undo(values: list[Any]) -> Undo:
    number, task, *rest = values
    undo = Undo(number, KINDS[task], *rest)
    return replace(undo, file=_thawed_file(undo.file)) if undo.file is not None else undo


UNIT_INDEXES: Final = Unit.__slots__.index("indexes")
assert Chunk.__slots__[-2:] == ("file", "done")
