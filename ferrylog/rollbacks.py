"""What the run of a rollback begins with: the plan, read from the job's history."""

from dataclasses import dataclass
from typing import Final

from ferrylog.engine import Engine
from ferrylog.errors import Refused, Usage
from journal.sqlite import SqliteJournal
from statemachine.decide.asked import refusal
from statemachine.decide.operations import AT_REST, TAKING_BACK, no_rollback, no_undo
from statemachine.state import State, Undo
from statemachine.stimuli import RollbackAsked, Stimulus, StopAsked
from statemachine.undoing import undo_plan
from statemachine.words import JobId, JobStatus

ASKED: Final = "asked for"


@dataclass(frozen=True)
class TakingBack:
    """How somebody wants a job taken back; see `events.RollbackStarted`."""

    by: str
    why: str = ASKED
    to: str = ""
    force: bool = False
    continue_on_error: bool = False


def planned(journal: SqliteJournal, job: JobId, to: str = "") -> tuple[Undo, ...]:
    """What is to be undone, in order. Raises `Usage` for an operation that was never started."""
    try:
        return undo_plan((event for page in journal.pages(job) for event in page.events), to)
    except ValueError as error:
        raise Usage(
            str(error), remedy=f"`ferrylog inspect rollback {job}` lists what was"
        ) from None


def going_on(state: State) -> bool:
    """Whether the job's next run takes it back: somebody asked for that, and it has not ended."""
    stops = (JobStatus.STOPPING, JobStatus.STOPPED)
    asked = state.rollback and not no_undo(state)  # older programs took the wish for any job
    return state.status in TAKING_BACK or (asked and state.status in stops)


def refuse(state: State) -> None:
    """Raise `Refused` for a job that nobody can take back, whoever runs it."""
    busy = (JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.STOPPING)
    if state.status in TAKING_BACK:
        return
    if why := no_undo(state) if state.status in busy else no_rollback(state):
        raise Refused("rollback", why)


def first_stimuli(journal: SqliteJournal, engine: Engine, how: TakingBack) -> list[Stimulus]:
    """Of a job that nobody runs; nothing when its rollback only has to go on.

    Raises `Refused`, `Usage`.
    """
    state = engine.state
    refuse(state)
    if state.status in TAKING_BACK:
        _must_be_as_begun(state, how)
        return []
    stop = StopAsked(how.by, how.why, immediate=True, rollback=True)
    asked = RollbackAsked(
        how.by,
        how.why,
        planned(journal, engine.job, how.to),
        to=how.to,
        force=how.force,
        continue_on_error=how.continue_on_error,
    )
    if state.status not in AT_REST:
        return [stop, asked]
    if why := refusal(state, asked):  # a run that begins without it would go on with the job
        raise Refused("rollback", why)
    return [asked]


def _must_be_as_begun(state: State, how: TakingBack) -> None:
    """What is to be undone, and how, stands in the journal. Raises `Refused`."""
    for asked, began, option in (
        (how.to, state.rolled_to, "--to"),
        (how.force, state.forced, "--force"),
        (how.continue_on_error, state.persevering, "--continue-on-error"),
    ):
        if asked and asked != began:
            raise Refused(
                "rollback", f"it goes on as it was begun, which was not with that {option}"
            )
