"""Chunk by chunk: what is left to do with each, and what was left out of it."""

from ferrylog.clock import when
from ferrylog.views.shapes import ChunkReport, ChunkSide
from statemachine.state import Chunk, State, Task
from statemachine.words import Status, TaskKey, TaskKind


def chunk_reports(state: State) -> tuple[ChunkReport, ...]:
    """Every open chunk and every flawed one, by unit and number."""
    order = {unit_id: place for place, unit_id in enumerate(state.units)}
    found = sorted(
        (*state.chunks.values(), *state.flawed.values()),
        key=lambda chunk: (order[chunk.unit], int(chunk.id.rpartition("#")[2])),
    )
    return tuple(_chunk(state, chunk) for chunk in found)


def _chunk(state: State, chunk: Chunk) -> ChunkReport:
    opened = chunk.id in state.chunks
    tasks = {
        kind: state.tasks.get(TaskKey(kind, chunk.id)) for kind in (*state.stages, TaskKind.SPLIT)
    }
    failed = [task for task in tasks.values() if task is not None and task.code]
    return ChunkReport(
        chunk=chunk.id,
        namespace=chunk.unit,
        lower=chunk.lower,
        upper=chunk.upper,
        documents=chunk.documents,
        restored=chunk.done.documents,
        rejected=chunk.done.rejected,
        priority=chunk.priority,
        state="open" if opened else "dropped" if chunk.dropped else "flawed",
        sides={
            kind: _side(task)
            for kind, task in tasks.items()
            if opened and (task is not None or kind is not TaskKind.SPLIT)
        },
        code=failed[-1].code if failed else "",
        why=failed[-1].why if failed else "",
    )


def _side(task: Task | None) -> ChunkSide:
    task = task or Task()
    waits = task.status is Status.WAITING
    return ChunkSide(
        status=task.status,
        attempts=task.attempt,
        failures=task.failures + task.waits,
        not_before=when(task.not_before_ms) if waits else None,
    )
