"""State to wishes: what the world should be asked to do. Derived from the state, never stored."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from statemachine.state import Chunk, Link, Operation, Shard, State, Task, Undo, Unit
from statemachine.words import (
    ChunkId,
    JobStatus,
    OperationId,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    index_task,
    undo_task,
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
    since: str = ""
    """Of a manifest, or of following: the cluster time before anything of the source was read."""
    token: str = ""
    """Of a capture, following, a manifest: where the stream of changes goes on; empty: at its
    beginning."""
    changes: int = 0
    """Of a capture: events before that."""
    capture_bytes: int = 0
    """Of a capture: memory it may take."""
    follow_ms: int = 0
    """Of following: how long the round collects changes."""
    cutover: bool = False
    """Of following: the round is to reach what is the source's newest change as it begins."""
    link: Link | None = None
    """Of an increment's tasks."""
    last: bool = False
    """The increment is the last one; of a settling, so is the task."""
    shard: Shard | None = None
    operation: Operation | None = None
    """Of an operation of a group, and of its undo."""
    undo: Undo | None = None
    chunks: tuple[Undo, ...] = ()
    """Of the undo of a creation: what was to be undone of the unit's chunks. Of that of a chunk:
    itself, where the creation is not taken back with it."""
    force: bool = False
    """Of an undo: collections that the job made go, whatever others wrote to them since."""


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
    if state.status is not JobStatus.ROLLING_BACK:  # what was there is compared with its file
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
    if key.kind in OF_INCREMENTS:
        return _of_increment(state, key, task)
    if key.kind is TaskKind.OPERATION:
        operation = replace(state.operations[OperationId(key.entity)])
        return Effect(key, task.attempt, task.epoch, unit=None, operation=operation)
    if key.kind is TaskKind.UNDO:
        return _of_undo(state, key, task)
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
        since=state.since,
        token=state.token,
    )


OF_INCREMENTS: Final = (
    TaskKind.CAPTURE,
    TaskKind.SHAPE,
    TaskKind.APPLY,
    TaskKind.SETTLE,
    TaskKind.FOLLOW,
)


def _of_increment(state: State, key: TaskKey, task: Task) -> Effect:
    settings = state.settings
    shard = state.shards.get(ShardId(key.entity))
    links = bool(state.links) and state.increment > 0
    return Effect(
        task=key,
        attempt=task.attempt,
        epoch=task.epoch,
        unit=None,
        read_preference=settings.read_preference if settings else "primary",
        cluster_time=state.cluster_time,
        since=state.since,
        token=state.token,
        changes=state.changes,
        capture_bytes=settings.capture_bytes if settings else 0,
        follow_ms=settings.follow_ms if settings else 0,
        cutover=state.cutover,
        link=state.links[state.increment - 1] if links else None,
        last=state.increment == len(state.links),
        shard=replace(shard) if shard is not None else None,
    )


def _of_undo(state: State, key: TaskKey, task: Task) -> Effect:
    undo = state.undos[key.entity]
    unit = state.units[undo.unit] if undo.unit is not None else None
    operation = state.operations.get(OperationId(undo.entity))
    return Effect(
        key,
        task.attempt,
        task.epoch,
        unit=replace(unit) if unit is not None else None,
        read_preference=state.settings.read_preference if state.settings else "primary",
        cluster_time=state.cluster_time,
        operation=replace(operation) if operation is not None else None,
        undo=undo,
        chunks=tuple(_chunks_of(state, undo)),
        force=state.forced,
    )


def _chunks_of(state: State, undo: Undo) -> Iterator[Undo]:
    if undo.task is TaskKind.CREATE:
        yield from (each for each in state.undos.values() if each.chunk and each.unit == undo.unit)
    elif undo.chunk and undo_task(TaskKind.CREATE, undo.unit or "").entity not in state.undos:
        yield undo


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
