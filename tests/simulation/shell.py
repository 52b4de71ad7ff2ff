"""The shell's part of a rollback: it reads the history, and asks when nobody is at work."""

from collections.abc import Sequence
from dataclasses import dataclass

from journal.protocol import Recorded
from statemachine.decide.operations import no_rollback
from statemachine.events import Started
from statemachine.state import State
from statemachine.stimuli import RollbackAsked, Stimulus, StopAsked
from statemachine.undoing import OPERATIONS, undo_plan
from statemachine.words import JobStatus, TaskKey

BUSY = (JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.STOPPING)


@dataclass(frozen=True)
class How:
    to: str = ""
    force: bool = False
    persevering: bool = False


def taken_back(records: Sequence[Recorded], state: State, how: How) -> list[Stimulus]:
    """Nothing of a job that cannot be taken back."""
    if state.status not in BUSY and no_rollback(state):
        return []
    plan = undo_plan((recorded.event for recorded in records), how.to)
    asked = RollbackAsked(
        "me",
        "simulated",
        plan,
        to=how.to,
        force=how.force,
        continue_on_error=how.persevering,
    )
    if state.status in BUSY:
        return [StopAsked("me", "simulated", immediate=True, rollback=True), asked]
    return [asked]


def is_due(state: State) -> bool:
    """Whether somebody asked for it with a stop."""
    return state.rollback and state.status in (JobStatus.STOPPING, JobStatus.STOPPED)


def began(records: Sequence[Recorded]) -> list[TaskKey]:
    """Operations, in the order of their first start."""
    of_operations = (
        recorded.event.task
        for recorded in records
        if isinstance(recorded.event, Started) and recorded.event.task.kind in OPERATIONS
    )
    return list(dict.fromkeys(of_operations))
