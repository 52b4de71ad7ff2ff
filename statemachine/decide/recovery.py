"""A process takes the job over: all the recovery there is."""

from statemachine.decide.outcomes import give_up
from statemachine.events import (
    AnyEvent,
    DeadLettered,
    InDoubt,
    JobResumed,
    Requeued,
    Resolved,
    RunSettings,
    RunStarted,
)
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import State
from statemachine.stimuli import RunBegan
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
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
    decisions: list[DeadLettered | Resolved] = []
    for key, task in state.tasks.items():
        if task.status is Status.PROCESSING:
            decisions.append(_resolve(state, key))
            events += [InDoubt.of(key, attempt=task.attempt), decisions[-1]]
    if state.status in (JobStatus.PAUSING, JobStatus.PAUSED):
        events.append(JobResumed(by=began.by))
    events += _requeue(state, began.by)
    letters = [decision for decision in decisions if isinstance(decision, DeadLettered)]
    return events + _give_up(letters, began.settings)


def _give_up(letters: list[DeadLettered], settings: RunSettings) -> list[AnyEvent]:
    """What several dead letters mean together: each unit skipped once, or one pause, one end."""
    given_up: dict[str, AnyEvent] = {}
    for letter in letters:
        for event in give_up(letter, settings):
            given_up.setdefault(event.about, event)
    return list(given_up.values())


def _resolve(state: State, key: TaskKey) -> DeadLettered | Resolved:
    """A restore goes on after its last acknowledged block: what it wrote beyond that is found
    there, compared and counted as present. Everything else is done again from nothing, because
    nothing of it is trusted before its outcome."""
    task = state.tasks[key]
    if task.interruptions + 1 >= MAX_INTERRUPTIONS:
        return DeadLettered.of(
            key,
            attempt=task.attempt,
            cause=Cause.PERMANENT,
            code="ETASK001",
            why=f"the process died {task.interruptions + 1} times while this was running",
        )
    position = 0
    if key.kind is TaskKind.RESTORE:
        position = state.chunks[ChunkId(key.entity)].done.position
    return Resolved.of(
        key,
        decision="continue" if position else "discard",
        position=position,
    )


def _requeue(state: State, by: str) -> list[AnyEvent]:
    """Going on after a pause is the operator's word that the cause is removed: dead letters of
    units that were not given up are tried again."""
    return [
        Requeued.of(key, by=by)
        for key, task in state.tasks.items()
        if task.status is Status.FAILED and not _given_up(state, key)
    ]


def _given_up(state: State, key: TaskKey) -> bool:
    unit = unit_of(key)
    return unit is not None and state.units[unit].status is UnitStatus.FAILED
