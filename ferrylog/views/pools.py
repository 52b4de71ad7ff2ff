"""Workers and what is left for them: the pools, the breakers, three numbers, the phases."""

from collections.abc import Iterator
from typing import Final

from ferrylog.clock import when
from ferrylog.views.shapes import BreakerReport, ChunkCounts, PhaseReport, PoolReport, Stats
from statemachine.decide.schedule import TERMINAL, is_retry
from statemachine.evolve.chunks import CARRIES
from statemachine.evolve.hands import finishes
from statemachine.policy import POOLS, workers_of
from statemachine.state import Breaker, State, Unit
from statemachine.words import THE_JOB, Pool, Status, TaskKey, TaskKind, UnitStatus

LEFT: Final = (Status.PENDING, Status.WAITING)


def pools(state: State, now_ms: int) -> dict[str, PoolReport]:
    """That of shards only where there are increments."""
    shown = [pool for pool in Pool if pool is not Pool.APPLY or state.phase is not None]
    return {pool: _pool(state, pool, now_ms) for pool in shown}


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
    if state.from_dump:
        yield _planned(state)
    for stage in stages:
        if stage is TaskKind.VERIFY and len(stages) > 1:
            yield _indexes(state)
        side = chunks.dump if stage in (TaskKind.DUMP, TaskKind.COPY) else chunks.restore
        side = chunks.verify if stage is TaskKind.VERIFY else side
        done = side.completed + side.failed
        yield _phase(stage, 100 / len(stages), done, chunks.total, ended=state.terminal)
    if stages and stages[-1] in CARRIES:
        yield _indexes(state)
    yield from _finished(state)
    if TaskKind.DUMP in stages[-1:]:
        manifest = state.tasks.get(TaskKey(TaskKind.MANIFEST, THE_JOB))
        done = manifest is not None and manifest.status is Status.COMPLETED
        yield _beside(state, TaskKind.MANIFEST, int(done), 1)


def _planned(state: State) -> PhaseReport:
    """Of a dump: every file is looked at before anything is written."""
    units = [unit for unit in _wanted(state) if unit.type != "view"]
    pending = sum(unit.status is UnitStatus.PENDING for unit in units)
    return _beside(state, TaskKind.PLAN, len(units) - pending, len(units))


def _indexes(state: State) -> PhaseReport:
    """Those that come after the data."""
    total = done = 0
    for unit in _wanted(state):
        wanted = sum(index.name not in unit.built for index in unit.indexes)
        total += wanted
        data_there = unit.restored + unit.dropped >= unit.planned
        begun = unit.status is UnitStatus.COMPLETED or (
            unit.status is UnitStatus.PROCESSING and data_there
        )
        done += wanted - unit.indexing if begun else 0
    return _beside(state, TaskKind.INDEX, done, total)


def _finished(state: State) -> Iterator[PhaseReport]:
    units = [unit for unit in _wanted(state) if finishes(state, unit)]
    if units:
        tasks = [state.tasks.get(TaskKey(TaskKind.FINISH, unit.id)) for unit in units]
        done = sum(task is not None and task.status in TERMINAL for task in tasks)
        yield _beside(state, TaskKind.FINISH, done, len(units))


def _wanted(state: State) -> Iterator[Unit]:
    """The units that the job goes on with."""
    left = (UnitStatus.EXCLUDED, UnitStatus.FAILED)
    return (unit for unit in state.units.values() if unit.status not in left)


def _beside(state: State, kind: TaskKind, done: int, total: int) -> PhaseReport:
    return _phase(kind, 0, done, total, ended=state.terminal)


def _phase(kind: TaskKind, weight: float, done: int, total: int, *, ended: bool) -> PhaseReport:
    share = 100 * done / total if total else (100 if ended else 0)
    return PhaseReport(
        phase=kind, weight=round(weight, 1), done=done, total=total, percent=round(share, 1)
    )
