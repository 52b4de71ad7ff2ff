"""Time passed: what ends, and what starts in the free slots.

Each call returns the first rule that has something to say; the engine asks again until
nothing is left, so that every rule sees what the one before it brought about.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from statemachine.decide.increments import captured_again, next_increment, overdue
from statemachine.decide.operations import left_behind, next_undo, taken_back, waits_for
from statemachine.events import (
    AnyEvent,
    JobCompleted,
    JobPaused,
    JobStopped,
    PauseRequested,
    Started,
    UnitCompleted,
)
from statemachine.policy import (
    BISECTED,
    LEAST_WAIT_MS,
    POOL_OF,
    POOLS,
    US,
    files_limit,
    retries_of,
    workers_of,
)
from statemachine.state import State, Task, is_stored
from statemachine.words import (
    ChunkId,
    JobStatus,
    Millis,
    Phase,
    Pool,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)

STARTS: Final = (Status.PENDING, Status.WAITING)
TERMINAL: Final = (Status.COMPLETED, Status.FAILED)
OPEN: Final = tuple(each for each in Status if each not in TERMINAL)
LONGEST_OPEN_MS: Final = 86_400_000
"""A breaker that stays open longer was opened by a clock that went back since."""
LOOKED_AT: Final = 1000
"""Waiting tasks of one kind that are asked when they are due: they came in that order, nearly."""


def tick(state: State, now: Millis) -> list[AnyEvent]:
    """In this order: pause, deadlines, starts, finished units, the next increment, the end of the
    job (A10-A14)."""
    if state.status in (JobStatus.PAUSING, JobStatus.STOPPING):
        return _paused(state)
    if state.status is JobStatus.ROLLING_BACK:
        return _undoing(state, now)
    if state.status is not JobStatus.RUNNING:
        return []
    return (
        overdue(state, now)
        or captured_again(state)
        or _starts(state, now)
        or _finished_units(state)
        or next_increment(state, now)
        or left_behind(state)
        or _finished_job(state)
        or _blocked(state)
    )


def _paused(state: State) -> list[AnyEvent]:
    busy = state.count(Status.PROCESSING) + state.count(Status.IN_DOUBT)
    if busy or state.releasing:
        return []
    return [JobPaused() if state.status is JobStatus.PAUSING else JobStopped()]


def _undoing(state: State, now: Millis) -> list[AnyEvent]:
    """One undo at a time, with the delays and behind the breaker of every task."""
    if state.size(TaskKind.UNDO, Status.PROCESSING):
        return []
    key = next_undo(state)
    if key is None:
        return [taken_back(state)]
    task = state.tasks[key]
    shut = task.status is Status.WAITING and now < task.not_before_ms <= _latest(state, now)
    if shut or _free(state, POOL_OF[key.kind], now) <= 0:
        return []
    return [_start(state, key)]


def _starts(state: State, now: Millis) -> list[AnyEvent]:
    """Of both pools. With a suspect at work, or waiting for those before it to end, nothing starts
    that carries documents: the next death shall tell who kills."""
    held = held_back(state)
    suspect = _suspect(state, now, held)
    if suspect is not None:
        held = (*held, *BISECTED)
        if not state.busy(BISECTED):
            return [_start(state, suspect)]
    return [_start(state, key) for pool in Pool for key in _chosen(state, pool, now, held)]


def held_back(state: State) -> tuple[TaskKind, ...]:
    """Kinds whose turn has not come: nothing is written to a target before the whole dump was
    looked at, and no manifest before everything it names is there."""
    assert state.spec is not None
    if state.outdated:
        return tuple(TaskKind)
    match state.spec.kind:
        case "migrate" if not state.closed or state.open_units:
            return (TaskKind.FOLLOW,)
        case "dump" | "export" if not state.closed or state.open_units:
            return (TaskKind.MANIFEST,)
        case "restore" if not state.closed or _unplanned(state):
            return (TaskKind.CREATE, TaskKind.RESTORE)
        case "restore" if _unfinished(state, TaskKind.CREATE):
            return (TaskKind.RESTORE,)
        case "restore" if state.phase not in (None, Phase.WAITING):
            return (TaskKind.APPLY, TaskKind.SETTLE)
    return ()


def _unplanned(state: State) -> bool:
    given_up = state.queue(TaskKind.PLAN, Status.FAILED)
    return _unfinished(state, TaskKind.PLAN) or any(k.entity in state.open_units for k in given_up)


def _unfinished(state: State, kind: TaskKind) -> bool:
    return any(state.size(kind, status) for status in OPEN)


def _suspect(state: State, now: Millis, held: tuple[TaskKind, ...]) -> TaskKey | None:
    """The task that is, or is to be, alone: one with which the process died."""
    for kind in BISECTED:
        for key in state.queue(kind, Status.PROCESSING):
            if state.tasks[key].interruptions:
                return key
    for key in state.quarantine:
        ready = key.kind not in held and _ready(state, key)
        if ready and _Room(state).takes(key.kind) and _free(state, POOL_OF[key.kind], now) > 0:
            return key
    return None


def _free(state: State, pool: Pool, now: Millis) -> int:
    """Workers that may take something on. Behind an open breaker nobody goes; behind one whose
    time is up, one alone (I43)."""
    assert state.settings is not None
    free = workers_of(pool, state.settings) - state.busy(POOLS[pool])
    breaker = state.breakers[pool]
    if breaker.opened:
        shut = now < breaker.until_ms <= now + LONGEST_OPEN_MS  # else the clock went back
        free = min(free, 0 if shut or breaker.probe is not None else 1)
    return free


def _chosen(state: State, pool: Pool, now: Millis, held: tuple[TaskKind, ...]) -> list[TaskKey]:
    """The tasks of one pool that start now, at most as many as it has free workers.

    Retries go first, as many as their share allows; then what is fresh; then the other retries
    (I27).
    """
    assert state.settings is not None
    kinds = tuple(kind for kind in POOLS[pool] if kind not in held)
    workers = workers_of(pool, state.settings)
    free = _free(state, pool, now)
    if free <= 0:
        return []
    room = _Room(state)
    due = _due(state, kinds, now, room)
    allowed = max(0, retries_of(workers) - _retrying(state, POOLS[pool]))
    chosen = list(islice(due, min(free, allowed)))
    chosen += islice(_fresh(state, kinds, room), free - len(chosen))
    chosen += islice(due, free - len(chosen))
    return chosen


def _retrying(state: State, kinds: tuple[TaskKind, ...]) -> int:
    """Retries at work."""
    working = (key for kind in kinds for key in state.queue(kind, Status.PROCESSING))
    return sum(1 for key in working if is_retry(state.tasks[key]))


def is_retry(task: Task) -> bool:
    return task.failures + task.waits > 0


def _due(
    state: State, kinds: tuple[TaskKind, ...], now: Millis, room: "_Room"
) -> Iterator[TaskKey]:
    """Retries whose time has come, by priority, by urgency of their kind, first in first out."""
    latest = _latest(state, now)
    for priority in state.priorities:
        for kind in kinds:
            for key in state.queues.get((kind, Status.WAITING, priority), ()):
                shut = now < state.tasks[key].not_before_ms <= latest
                if not shut and _ready(state, key) and room.takes(kind):
                    yield key


def _latest(state: State, now: Millis) -> int:
    """A retry further away than any delay can be was scheduled by a clock that went back since."""
    assert state.settings is not None
    return now + max(state.settings.retry_cap_ms, LEAST_WAIT_MS)


def _fresh(state: State, kinds: tuple[TaskKind, ...], room: "_Room") -> Iterator[TaskKey]:
    """Pending tasks, by priority, by urgency of their kind, first in first out."""
    for priority in state.priorities:
        for kind in kinds:
            for key in state.queues.get((kind, Status.PENDING, priority), ()):
                if not _ready(state, key):
                    continue
                if not room.takes(kind):
                    break
                yield key


def _ready(state: State, key: TaskKey) -> bool:
    """A chunk whose file was lost is dumped again first; what could not be created takes none.
    The last touch of a unit waits for what was asked for again."""
    if key.kind is TaskKind.RESTORE:
        chunk = state.chunks[ChunkId(key.entity)]
        return chunk.file is not None and state.units[chunk.unit].created
    if key.kind is TaskKind.VERIFY and TaskKind.DUMP in state.stages:
        restore = TaskKey(TaskKind.RESTORE, key.entity)
        return state.tasks[restore].status is Status.COMPLETED
    if key.kind is TaskKind.SETTLE:
        return not state.shards
    if key.kind is TaskKind.OPERATION:
        return waits_for(state, key) == ()
    if key.kind is TaskKind.FINISH:
        unit = state.units[UnitId(key.entity)]
        return unit.settled + unit.dropped == unit.planned and not unit.indexing
    return True


class _Room:
    """Tasks that may start before the work folder holds its limit of chunk files: dumps write
    them, the restore of a dump that lies in a store fetches them, to be compared after it."""

    def __init__(self, state: State) -> None:
        assert state.settings is not None and state.spec is not None
        limit = files_limit(state.settings)
        writing = state.size(TaskKind.DUMP, Status.PROCESSING)
        self._left = {TaskKind.DUMP: limit - state.files - writing}
        if is_stored(state.spec.source):
            self._left[TaskKind.RESTORE] = limit - fetched(state)

    def takes(self, kind: TaskKind) -> bool:
        """Whether a task of this kind may start too."""
        if kind not in self._left:
            return True
        self._left[kind] -= 1
        return self._left[kind] >= 0


def fetched(state: State) -> int:
    """Chunk files of a store that lie in the work folder, at most: being restored, or to be
    compared."""
    compared = sum(state.size(TaskKind.VERIFY, each) for each in OPEN)
    return state.size(TaskKind.RESTORE, Status.PROCESSING) + compared


def _start(state: State, key: TaskKey) -> AnyEvent:
    attempt = max(state.tasks[key].attempt, state.forgotten) + 1
    return Started.of(key, attempt=attempt)


def _finished_units(state: State) -> list[AnyEvent]:
    return [UnitCompleted(unit=unit_id) for unit_id in state.ripe]


def _finished_job(state: State) -> list[AnyEvent]:
    """Only when registration is closed: a fast empty unit does not end the job (I29)."""
    if not state.closed or state.open_units or state.releasing or _busy(state):
        return []
    units = state.units.values()
    dropped = state.dropped + sum(unit.dropped for unit in units)
    return [
        JobCompleted(
            rejected=sum(unit.rejected for unit in units),
            dead_letters=state.count(Status.FAILED) + dropped,
            mismatched=state.differing + sum(unit.mismatched + unit.differing for unit in units),
            damaged=state.damaged + sum(unit.damaged for unit in units),
        )
    ]


def _blocked(state: State) -> list[AnyEvent]:
    """Nothing is left that could start, and dead letters keep the job from its end."""
    letters = state.count(Status.FAILED)
    if not letters or state.releasing or _busy(state):
        return []
    why = f"nothing is left to do but {letters} dead letter{'s' if letters > 1 else ''}"
    return [PauseRequested(by=US, why=why, request=0, immediate=False)]


def _busy(state: State) -> bool:
    """Whether something is at work, or will start by itself."""
    held = held_back(state)
    return any(
        any(_ready(state, key) for key in queue) if status in STARTS else queue
        for (kind, status, _), queue in state.queues.items()
        if status not in TERMINAL and not (status in STARTS and kind in held)
    )


def next_wake_ms(state: State, now: Millis) -> Millis | None:
    """When the next retry or probe comes due after `now`, the time of the last turn; `None` when
    none does. What was due then and did not start waits for an outcome or for the next tick."""
    instants = [
        state.tasks[key].not_before_ms
        for (_, status, _), queue in state.queues.items()
        if status is Status.WAITING
        for key in islice(queue, LOOKED_AT)
    ]
    instants += [each.until_ms for each in state.breakers.values() if each.opened]
    return Millis(min((each for each in instants if each > now), default=0)) or None
