"""Time passed: what ends, and what starts in the free slots.

Each call returns the first rule that has something to say; the engine asks again until
nothing is left, so that every rule sees what the one before it brought about.
"""

from collections.abc import Iterator
from itertools import islice

from statemachine.events import (
    AnyEvent,
    JobCompleted,
    JobPaused,
    Started,
    UnitCompleted,
)
from statemachine.policy import DUMP_POOL, RESTORE_POOL, files_limit
from statemachine.state import State, Unit
from statemachine.words import (
    ChunkId,
    JobStatus,
    Millis,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
    unit_of,
)

TERMINAL = (Status.COMPLETED, Status.FAILED)


def tick(state: State, now: Millis) -> list[AnyEvent]:
    """In this order: pause, starts, finished units, the end of the job (A10-A14)."""
    if state.status is JobStatus.PAUSING:
        return _paused(state)
    if state.status is not JobStatus.RUNNING:
        return []
    return _starts(state, now) or _finished_units(state) or _finished_job(state)


def _paused(state: State) -> list[AnyEvent]:
    busy = state.count(Status.PROCESSING) + state.count(Status.IN_DOUBT)
    return [] if busy or state.releasing else [JobPaused()]


def _starts(state: State, now: Millis) -> list[AnyEvent]:
    assert state.settings is not None
    settings = state.settings
    events: list[AnyEvent] = []
    for pool, workers in (
        (DUMP_POOL, settings.dump_workers),
        (RESTORE_POOL, settings.restore_workers),
    ):
        free = workers - sum(len(state.queue(kind, Status.PROCESSING)) for kind in pool)
        for kind in pool:
            room = min(free, _room(state) if kind is TaskKind.DUMP else free)
            for key in islice(_ready(state, kind, now), max(0, room)):
                events.append(_start(state, key))
                free -= 1
    return events


def _ready(state: State, kind: TaskKind, now: Millis) -> Iterator[TaskKey]:
    """Retries that are due, then fresh tasks, each first in first out.

    A retry further away than any delay can be was scheduled by a clock that went back since.
    """
    assert state.settings is not None
    latest = now + state.settings.retry_cap_ms
    for key in state.queue(kind, Status.WAITING):
        if not now < state.tasks[key].not_before_ms <= latest:
            yield key
    for key in state.queue(kind, Status.PENDING):
        lost = kind is TaskKind.RESTORE and state.chunks[ChunkId(key.entity)].file is None
        if not lost:  # a chunk whose file was lost is dumped again first
            yield key


def _room(state: State) -> int:
    """Dumps that may start before the work folder holds its limit of chunk files."""
    assert state.settings is not None
    writing = len(state.queue(TaskKind.DUMP, Status.PROCESSING))
    return files_limit(state.settings) - state.files - writing


def _start(state: State, key: TaskKey) -> AnyEvent:
    attempt = state.tasks[key].attempt + 1
    return Started.of(key, attempt=attempt)


def _finished_units(state: State) -> list[AnyEvent]:
    indexing = {
        unit_of(key)
        for status in Status
        if status not in TERMINAL
        for key in state.queue(TaskKind.INDEX, status)
    }
    return [
        UnitCompleted(unit=unit_id)
        for unit_id in state.open_units
        if _finished(state, state.units[unit_id]) and unit_id not in indexing
    ]


def _finished(state: State, unit: Unit) -> bool:
    if unit.type == "view":
        return TaskKey(TaskKind.CREATE, unit.id) not in state.tasks or _completed(
            state, TaskKey(TaskKind.CREATE, unit.id)
        )
    return unit.status is UnitStatus.PROCESSING and unit.settled == unit.planned


def _completed(state: State, key: TaskKey) -> bool:
    return state.tasks[key].status is Status.COMPLETED


def _finished_job(state: State) -> list[AnyEvent]:
    """Only when registration is closed: a fast empty unit does not end the job (I29)."""
    busy = any(queue for (_, status), queue in state.queues.items() if status not in TERMINAL)
    if not state.closed or state.open_units or state.releasing or busy:
        return []
    return [
        JobCompleted(
            rejected=sum(unit.rejected for unit in state.units.values()),
            dead_letters=state.count(Status.FAILED),
            mismatched=sum(unit.mismatched for unit in state.units.values()),
        )
    ]


def next_wake_ms(state: State) -> Millis | None:
    """When the next retry is due; `None` when nothing waits."""
    waiting = [
        state.tasks[key].not_before_ms
        for (_, status), queue in state.queues.items()
        if status is Status.WAITING
        for key in queue
    ]
    return Millis(min(waiting)) if waiting else None
