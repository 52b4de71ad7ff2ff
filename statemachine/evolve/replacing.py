"""Arms: chunks planned, cut in two, replaced, dropped, and their files."""

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    BatchResized,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    DocumentRejected,
    DocumentsRepaired,
    FileFound,
    SplitRequested,
)
from statemachine.evolve.chunks import (
    CARRIES,
    SIDES,
    close_chunk,
    count,
    let_go,
    open_indexes,
    take_back,
)
from statemachine.evolve.hands import (
    answered,
    once_more,
    put,
    remove,
    ripen,
    stands,
    the_chunk,
    the_unit,
    told,
)
from statemachine.policy import PASSING, US
from statemachine.state import Chunk, ChunkFile, State, Task
from statemachine.transitions import next_unit_status
from statemachine.words import (
    THE_JOB,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
)


def chunk_planned(state: State, event: ChunkPlanned) -> None:
    unit = the_unit(state, event.unit, event)
    if event.chunk in state.chunks:
        raise ImpossibleTransition(entity=event.chunk, status=unit.status, event=event.kind)
    stages = state.stages
    unit.named += 1
    unit.planned += 1
    unit.weight += max(1, event.documents) * len(stages)
    if state.from_dump:  # a dump need not say how many it holds: its files were looked at
        unit.documents_estimate += event.documents
    if not stages:  # a dry run counts it and that is all
        unit.settled += 1
        return
    chunk = Chunk(event.chunk, unit.id, event.lower, event.upper, event.documents, event.natural)
    chunk.priority = unit.next_priority
    chunk.bisected = unit.bisecting
    chunk.again = stands(state, TaskKey(TaskKind.PLAN, unit.id), Status.COMPLETED)
    state.chunks[chunk.id] = chunk
    put(state, TaskKey(stages[0], chunk.id), Task(priority=chunk.priority))
    ripen(state, unit)


def file_found(state: State, event: FileFound) -> None:
    chunk = the_chunk(state, event.chunk, event)
    chunk.file = ChunkFile(
        event.file,
        event.documents,
        event.bytes,
        event.file_bytes,
        event.sha256,
        event.at,
        event.place,
    )
    state.files += event.place != "dump"


def document_rejected(state: State, event: DocumentRejected) -> None:
    told(state, event)
    if event.code == PASSING:
        the_unit(state, event.chunk.rpartition("#")[0], event).passing += 1


def batch_resized(state: State, event: BatchResized) -> None:
    unit = the_unit(state, event.unit, event)
    unit.batch_documents, unit.batch_bytes = event.documents, event.bytes


def documents_repaired(state: State, event: DocumentsRepaired) -> None:
    unit = the_chunk(state, event.chunk, event).unit
    state.units[unit].repaired += event.documents


def split_requested(state: State, event: SplitRequested) -> None:
    """What was done with the chunk is taken back, but for the documents on the target, which will
    be found there."""
    chunk = the_chunk(state, event.chunk, event)
    unit = state.units[chunk.unit]
    take_back(state, chunk, unit)
    for kind in SIDES:
        remove(state, TaskKey(kind, chunk.id))
    let_go(state, chunk)
    chunk.file = None
    unit.weight += max(1, chunk.documents) * len(state.stages)
    unit.planned += 1
    if event.by == US:
        chunk.bisected = True
        state.suspects += 1
    put(state, TaskKey(TaskKind.SPLIT, chunk.id), Task(priority=chunk.priority))
    answered(state, event.request)


def chunk_replaced(state: State, event: ChunkReplaced) -> None:
    """An open chunk that was split, or a settled one: with rejected documents, or whose file is
    lost."""
    flawed, filed = state.flawed.pop(event.chunk, None), state.filed.pop(event.chunk, None)
    if (chunk := flawed or filed) is None:
        chunk = the_chunk(state, event.chunk, event)
        unit = state.units[chunk.unit]
        if not stands(state, TaskKey(TaskKind.SPLIT, chunk.id), Status.COMPLETED):
            raise ImpossibleTransition(entity=chunk.id, status="not split", event=event.kind)
        unit.planned -= 1
        unit.weight -= max(1, chunk.documents) * len(state.stages)
        unit.bisecting, unit.next_priority = chunk.bisected, chunk.priority
        close_chunk(state, chunk)
        ripen(state, unit)
        answered(state, event.request)
        return
    unit = state.units[chunk.unit]
    # What was one document then may be many by now: it is counted again before it is given up.
    unit.bisecting, unit.next_priority = False, chunk.priority
    take_back(state, chunk, unit)
    for key in (TaskKey(TaskKind.FINISH, unit.id), TaskKey(TaskKind.MANIFEST, THE_JOB)):
        once_more(state, key)  # they looked at what comes anew
    if unit.status is UnitStatus.COMPLETED:
        unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
        state.open_units[unit.id] = None
    ripen(state, unit)
    answered(state, event.request)


def chunk_dropped(state: State, event: ChunkDropped) -> None:
    chunk = the_chunk(state, event.chunk, event)
    unit = state.units[chunk.unit]
    stages = state.stages
    open_ones = [s for s in stages if not stands(state, TaskKey(s, chunk.id), Status.COMPLETED)]
    unit.weight_done += max(1, chunk.documents) * len(open_ones)
    carries = any(stage in CARRIES for stage in stages)
    unit.restored -= carries and not any(stage in CARRIES for stage in open_ones)
    unit.dropped += 1
    done = chunk.done._replace(rejected=chunk.done.rejected + event.documents)
    count(state, chunk, done)
    chunk.done, chunk.dropped = done, True
    close_chunk(state, chunk)
    state.flawed[chunk.id] = chunk
    if carries:
        open_indexes(state, unit)
    ripen(state, unit)
    answered(state, event.request)


def file_decided(state: State, event: ChunkReleased | ChunkKept) -> None:
    if event.chunk not in state.releasing:
        raise UnknownEntity(entity=event.chunk, event=event.kind)
    del state.releasing[event.chunk]
    state.files -= 1
    state.kept += isinstance(event, ChunkKept)
