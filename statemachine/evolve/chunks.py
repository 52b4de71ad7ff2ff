"""What every change of a chunk does to the sums of its unit."""

from typing import Final

from statemachine.events import (
    CopyCompleted,
    CopyProgressed,
    RestoreCompleted,
    RestoreProgressed,
)
from statemachine.evolve.hands import put, remove, ripen, stands
from statemachine.state import NOTHING, Chunk, Done, State, Task, Unit, keeps_files
from statemachine.words import (
    Key,
    Status,
    TaskKey,
    TaskKind,
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


def advance(state: State, chunk: Chunk, unit: Unit, stage: TaskKind) -> None:
    """The chunk has this stage behind it: open the next one, or settle the chunk."""
    unit.weight_done += max(1, chunk.documents)
    if stage in CARRIES:
        open_indexes(state, unit)
    stages = state.stages
    if stage is stages[-1]:
        _settle(state, chunk, unit)
        return
    key = TaskKey(stages[stages.index(stage) + 1], chunk.id)
    if key not in state.tasks:  # there already if the chunk's file was lost
        put(state, key, Task(priority=chunk.priority))


def open_indexes(state: State, unit: Unit) -> None:
    """When the unit's data is on the target; indexes stay when a chunk is carried again."""
    if unit.restored + unit.dropped < unit.planned:
        return
    for index in unit.indexes:
        key = index_task(unit.id, index.name)
        if key not in state.tasks and index.name not in unit.built:
            put(state, key, Task(priority=unit.priority))
            unit.indexing += 1


def _settle(state: State, chunk: Chunk, unit: Unit) -> None:
    if state.spec is not None and keeps_files(state.spec):
        _file_away(state, chunk)
    else:
        close_chunk(state, chunk)
    unit.settled += 1
    if chunk.done.rejected:
        state.flawed[chunk.id] = chunk
    ripen(state, unit)


def _file_away(state: State, chunk: Chunk) -> None:
    """The manifest will name the chunk's file: it stays."""
    del state.chunks[chunk.id]
    remove(state, TaskKey(TaskKind.DUMP, chunk.id))
    state.filed[chunk.id] = chunk
    state.files -= 1


def close_chunk(state: State, chunk: Chunk) -> None:
    """No work is left on the chunk; its file may go, but for one that was unpacked once and that
    somebody may ask for again."""
    del state.chunks[chunk.id]
    for kind in SIDES:
        remove(state, TaskKey(kind, chunk.id))
    place = chunk.file.place if chunk.file is not None else ""
    if state.from_dump and place == "work" and (chunk.dropped or chunk.done.rejected):
        state.files -= 1
    else:
        let_go(state, chunk)


def let_go(state: State, chunk: Chunk) -> None:
    """The chunk's file may go, unless it belongs to a dump."""
    if chunk.file is not None and chunk.file.place != "dump":
        state.releasing[chunk.id] = chunk.file.name


def add_verified(unit: Unit, chunk: Chunk, sign: int) -> None:
    mismatched, source, target = chunk.verified
    unit.mismatched += sign * mismatched
    unit.source_documents += sign * source
    unit.target_documents += sign * target


def restored(
    state: State,
    chunk: Chunk,
    event: RestoreProgressed | RestoreCompleted | CopyProgressed | CopyCompleted,
    *,
    position: int,
    last_key: Key | None = None,
) -> None:
    counts = (event.documents, event.bytes, event.present, event.rejected)
    done = Done(position, *counts, last_key)
    count(state, chunk, done)
    chunk.done = done


def forget_progress(state: State, chunk: Chunk) -> None:
    count(state, chunk, NOTHING)
    chunk.done = NOTHING


def begin_again(state: State, chunk: Chunk) -> None:
    """The chunk's file is carried from its first byte on; what is not in it stays rejected."""
    done = NOTHING._replace(rejected=chunk.file.rejected) if chunk.file is not None else NOTHING
    count(state, chunk, done)
    chunk.done = done


def count(state: State, chunk: Chunk, done: Done) -> None:
    """What lies between the chunk's progress so far and `done` goes into the sums."""
    before, unit = chunk.done, state.units[chunk.unit]
    documents, size = done.documents - before.documents, done.bytes - before.bytes
    unit.restored_documents += documents
    unit.restored_bytes += size
    unit.present += done.present - before.present
    unit.rejected += done.rejected - before.rejected
    state.done_documents += documents
    state.done_bytes += size


def take_back(state: State, chunk: Chunk, unit: Unit) -> None:
    """The chunk out of all sums of its unit; with what it brought so far."""
    settled = chunk.id not in state.chunks
    share = max(1, chunk.documents)
    stages = state.stages
    completed = [
        stage
        for stage in stages
        if settled or stands(state, TaskKey(stage, chunk.id), Status.COMPLETED)
    ]
    unit.planned -= 1
    if state.from_dump:
        unit.documents_estimate -= chunk.documents
    unit.weight -= share * len(stages)
    unit.weight_done -= share * len(completed)
    unit.settled -= settled and not chunk.dropped
    unit.dropped -= chunk.dropped
    carried = not chunk.dropped and any(stage in CARRIES for stage in completed)
    unit.restored -= carried
    if chunk.file is not None and TaskKind.DUMP in stages:
        unit.dumped_documents -= chunk.file.documents
        unit.dumped_bytes -= chunk.file.bytes
    add_verified(unit, chunk, -1)
    forget_progress(state, chunk)
