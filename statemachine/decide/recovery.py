"""A process takes the job over: all the recovery there is."""

from typing import Final

from statemachine.decide.increments import CHAIN
from statemachine.decide.isolation import alone, divisible, suspect
from statemachine.decide.operations import TAKING_BACK
from statemachine.decide.outcomes import give_up
from statemachine.events import (
    AnyEvent,
    ChunkDropped,
    DeadLettered,
    InDoubt,
    JobResumed,
    JobSpec,
    Requeued,
    Resolved,
    RollbackContinued,
    RunSettings,
    RunStarted,
)
from statemachine.policy import BISECTED, MAX_DEATHS, MAX_INTERRUPTIONS, MAX_SUSPECTS
from statemachine.state import State, Task
from statemachine.stimuli import RunBegan
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
    unit_of,
)


def run_began(state: State, began: RunBegan) -> list[AnyEvent]:
    """A new epoch: what an older one started is in doubt, and one decision follows for each.

    A job that has left this journal does not run here.
    """
    if state.status is JobStatus.MOVED:
        return []
    events: list[AnyEvent] = [
        RunStarted(
            epoch=state.epoch + 1,
            by=began.by,
            host=began.host,
            pid=began.pid,
            version=began.version,
            settings=began.settings,
        )
    ]
    if state.terminal:
        return events
    for key, task in state.tasks.items():
        if state.status in TAKING_BACK and key.kind is not TaskKind.UNDO:
            continue  # what became of it does not matter any more
        if task.status in (Status.PROCESSING, Status.IN_DOUBT):
            if task.status is Status.PROCESSING:
                events.append(InDoubt.of(key, attempt=task.attempt))
            events += _decided(state, key, died=task.status is Status.PROCESSING)
    if state.status in WAITING:
        events.append(JobResumed(by=began.by))
    if state.status in TAKING_BACK and state.status is not JobStatus.ROLLING_BACK:
        events.append(RollbackContinued(by=began.by))
    events += _requeue(state, began.by)
    letters = [event for event in events if isinstance(event, DeadLettered)]
    dropped = {event.chunk for event in events if isinstance(event, ChunkDropped)}
    left = [letter for letter in letters if letter.entity not in dropped]
    return events + (_give_up(left, began.settings, state.spec) if state.spec else [])


WAITING: Final = (JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.STOPPING, JobStatus.STOPPED)


def _give_up(letters: list[DeadLettered], settings: RunSettings, spec: JobSpec) -> list[AnyEvent]:
    """What several dead letters mean together: each unit skipped once, or one pause, one end."""
    given_up: dict[str, AnyEvent] = {}
    for letter in letters:
        for event in give_up(letter, settings, spec):
            given_up.setdefault(event.about, event)
    return list(given_up.values())


def _decided(state: State, key: TaskKey, *, died: bool) -> list[AnyEvent]:
    """What carries documents goes on after what was last acknowledged: what it wrote beyond that
    is found there, compared and counted as present. Everything else is done again from nothing,
    because nothing of it is trusted before its outcome.

    A chunk with which the process died twice without progress may hold the document that kills
    it: it is cut in two, and a single document is given up.
    """
    task = state.tasks[key]
    deaths = task.interruptions + died
    chunk = state.chunks.get(ChunkId(key.entity)) if key.kind in BISECTED else None
    if chunk is not None and died and deaths >= MAX_DEATHS and divisible(state, chunk):
        why = f"the process died {deaths} times while this was running"
        if chunk.bisected and chunk.documents <= 1:
            return [_killer(key, task, why), *alone(chunk, why)]
        if state.suspects < MAX_SUSPECTS:
            return [_again(state, key), suspect(chunk.id, why)]
    if deaths >= MAX_INTERRUPTIONS:
        return [_killer(key, task, f"the process died {deaths} times while this was running")]
    return [_again(state, key)]


def _killer(key: TaskKey, task: Task, why: str) -> DeadLettered:
    return DeadLettered.of(
        key, attempt=task.attempt, cause=Cause.PERMANENT, code="ETASK001", why=why
    )


def _again(state: State, key: TaskKey) -> Resolved:
    position = 0
    if key.kind in (TaskKind.RESTORE, TaskKind.COPY):
        position = state.chunks[ChunkId(key.entity)].done.position
    elif key.kind is TaskKind.APPLY:
        position = state.shards[ShardId(key.entity)].done.position
    elif key.kind is TaskKind.CAPTURE:
        position = state.changes
    return Resolved.of(key, decision="continue" if position else "discard", position=position)


def _requeue(state: State, by: str) -> list[AnyEvent]:
    """Going on after a pause is the operator's word that the cause is removed: dead letters of
    units that were not given up are tried again. On top of what increments lie on nothing is."""
    return [
        Requeued.of(key, by=by, request=0)
        for key, task in state.tasks.items()
        if task.status is Status.FAILED and not _given_up(state, key)
        if not state.increment or key.kind in CHAIN or key.kind is TaskKind.UNDO
        if (key.kind is TaskKind.UNDO) is (state.status in TAKING_BACK)
    ]


def _given_up(state: State, key: TaskKey) -> bool:
    unit = unit_of(key)
    return unit is not None and state.units[unit].status is UnitStatus.FAILED
