"""Workers and what is left for them: the pools, the breakers, three numbers, the phases."""

from collections.abc import Iterator
from typing import Final

from ferrylog.clock import when
from ferrylog.views.shapes import BreakerReport, ChunkCounts, PhaseReport, PoolReport, Stats
from statemachine.decide.schedule import is_retry
from statemachine.policy import POOLS, workers_of
from statemachine.state import Breaker, State
from statemachine.words import Pool, Status, TaskKind, UnitStatus

LEFT: Final = (Status.PENDING, Status.WAITING)


def pools(state: State, now_ms: int) -> dict[str, PoolReport]:
    return {pool: _pool(state, pool, now_ms) for pool in Pool}


def _pool(state: State, pool: Pool, now_ms: int) -> PoolReport:
    kinds = POOLS[pool]
    workers = workers_of(pool, state.settings) if state.settings is not None else 0
    at_work = [state.tasks[key] for kind in kinds for key in state.queue(kind, Status.PROCESSING)]
    return PoolReport(
        workers=workers,
        busy=len(at_work),
        available=max(0, workers - len(at_work)),
        retrying=sum(1 for task in at_work if is_retry(task)),
        waiting=sum(state.size(kind, Status.WAITING) for kind in kinds),
        pending=sum(state.size(kind, Status.PENDING) for kind in kinds),
        breaker=_breaker(state.breakers[pool], now_ms),
    )


def _breaker(breaker: Breaker, now_ms: int) -> BreakerReport:
    if not breaker.opened:
        return BreakerReport(state="closed", failures=breaker.failures, until=None)
    return BreakerReport(
        state="open" if now_ms < breaker.until_ms else "half-open",
        failures=breaker.failures,
        until=when(breaker.until_ms),
    )


def stats(state: State) -> Stats:
    """A direct job has one kind of work for both."""
    down, up = TaskKind.DUMP, TaskKind.RESTORE
    if TaskKind.COPY in state.stages:
        down = up = TaskKind.COPY
    return Stats(
        pending_downloads=sum(state.size(down, status) for status in LEFT),
        pending_restores=sum(state.size(up, status) for status in LEFT),
        active_units=len(state.open_units),
    )


def phases(state: State, chunks: ChunkCounts) -> tuple[PhaseReport, ...]:
    """In the order of the work: every stage weighs the same in the job's percentage."""
    return tuple(_phases(state, chunks))


def _phases(state: State, chunks: ChunkCounts) -> Iterator[PhaseReport]:
    stages = state.stages
    for stage in stages:
        if stage is TaskKind.VERIFY and len(stages) > 1:
            yield _indexes(state)
        side = chunks.dump if stage in (TaskKind.DUMP, TaskKind.COPY) else chunks.restore
        side = chunks.verify if stage is TaskKind.VERIFY else side
        done = side.completed + side.failed
        yield _phase(stage, 100 / len(stages), done, chunks.total, ended=state.terminal)
    if stages and TaskKind.VERIFY not in stages:
        yield _indexes(state)


def _indexes(state: State) -> PhaseReport:
    total = done = 0
    for unit in state.units.values():
        if unit.status in (UnitStatus.EXCLUDED, UnitStatus.FAILED):
            continue
        total += len(unit.indexes)
        data_there = unit.restored + unit.dropped >= unit.planned
        begun = unit.status is UnitStatus.COMPLETED or (
            unit.status is UnitStatus.PROCESSING and data_there
        )
        done += len(unit.indexes) - unit.indexing if begun else 0
    return _phase(TaskKind.INDEX, 0, done, total, ended=state.terminal)


def _phase(kind: TaskKind, weight: float, done: int, total: int, *, ended: bool) -> PhaseReport:
    share = 100 * done / total if total else (100 if ended else 0)
    return PhaseReport(
        phase=kind, weight=round(weight, 1), done=done, total=total, percent=round(share, 1)
    )
