"""State to wishes: what the world should be asked to do. Derived from the state, never stored."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from statemachine.state import Chunk, State, Unit
from statemachine.words import (
    ChunkId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    index_task,
    unit_of,
)


@dataclass(frozen=True, slots=True)
class Effect:
    """One attempt of one task, with all an executor needs beside its wiring.

    `unit` and `chunk` are copies: the fold goes on while an executor looks at them.
    """

    task: TaskKey
    attempt: int
    epoch: int
    unit: Unit | None
    """`None` for tasks of the job."""
    chunk: Chunk | None = None
    file: str = ""
    """Of a release: the name of the chunk file."""
    include: tuple[str, ...] = ()
    """Of a survey: globs beside those of the job."""
    read_preference: str = "primary"
    """Where the source is read."""
    cluster_time: str = ""
    """As of when; empty: as of now."""
    given_up: tuple[str, ...] = ()
    """Of a last touch: names of the unit's indexes that are dead letters."""
    units: tuple[Unit, ...] = ()
    filed: tuple[Chunk, ...] = ()
    """Of a manifest: all that the dump holds."""
    left: tuple[UnitId, ...] = ()
    """Of a manifest: the units that were given up."""


def wanted_effects(state: State) -> Iterator[Effect]:
    """Everything started in this epoch without an outcome, and the files to remove.

    Nothing while the job rests.
    """
    return (effect(state, key) for key, _ in wanted(state))


def wanted(state: State) -> Iterator[tuple[TaskKey, int]]:
    """The same by task and attempt."""
    if state.resting:
        return
    for (_, status, _), queue in state.queues.items():
        if status is Status.PROCESSING:
            for key in queue:
                yield key, state.tasks[key].attempt
    for chunk_id in state.releasing:
        yield TaskKey(TaskKind.RELEASE, chunk_id), 0


def effect(state: State, key: TaskKey) -> Effect:
    """What a wanted task asks for."""
    if key.kind is TaskKind.RELEASE:
        chunk_id = ChunkId(key.entity)
        released = replace(state.units[UnitId(chunk_id.rpartition("#")[0])])
        file = state.releasing[chunk_id]
        return Effect(key, attempt=0, epoch=state.epoch, unit=released, file=file)
    task = state.tasks[key]
    unit = unit_of(key)
    chunk = state.chunks.get(ChunkId(key.entity))
    return Effect(
        task=key,
        attempt=task.attempt,
        epoch=task.epoch,
        unit=replace(state.units[unit]) if unit is not None else None,
        chunk=replace(chunk) if chunk is not None else None,
        include=state.added,
        read_preference=state.settings.read_preference if state.settings else "primary",
        cluster_time=state.cluster_time,
        given_up=tuple(_given_up(state, unit)) if key.kind is TaskKind.FINISH and unit else (),
        units=tuple(map(replace, _dumped(state))) if key.kind is TaskKind.MANIFEST else (),
        filed=tuple(_filed(state)) if key.kind is TaskKind.MANIFEST else (),
        left=tuple(_left(state)) if key.kind is TaskKind.MANIFEST else (),
    )


def _given_up(state: State, unit: UnitId) -> Iterator[str]:
    for index in state.units[unit].indexes:
        task = state.tasks.get(index_task(unit, index.name))
        if task is not None and task.status is Status.FAILED:
            yield index.name


def _dumped(state: State) -> Iterator[Unit]:
    """The units that the dump holds whole."""
    return (unit for unit in state.units.values() if unit.status is UnitStatus.COMPLETED)


def _filed(state: State) -> Iterator[Chunk]:
    units = {unit.id for unit in _dumped(state)}
    return (chunk for chunk in state.filed.values() if chunk.unit in units)


def _left(state: State) -> Iterator[UnitId]:
    return (unit.id for unit in state.units.values() if unit.status is UnitStatus.FAILED)
