"""Letting go on what nobody is at work on: as `ferrylog resume` and `rollback` would, in this
process. What was given up stays given up until somebody requeues it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ferrylog.health.issues import IssueType, command
from ferrylog.health.jobs import goes_on_by
from ferrylog.health.places import stale_lease
from ferrylog.jobs import journal_to_write
from ferrylog.past import Past
from ferrylog.recall import recall
from ferrylog.rollbacks import going_on
from journal.errors import JournalHeld
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError
from statemachine.state import DUMP, State
from statemachine.words import JobId, JobStatus

GoOn = Callable[[SqliteJournal, JobId, Past], State]
"""Runs a job to its end or its next rest; how it stands then. Raises `FerrylogError`."""
RECOVERABLE: Final[tuple[IssueType, ...]] = ("abandoned_jobs", "rollback_failed", "stale_lease")
STREAM: Final = f"{DUMP}-"
"""A dump that comes by standard input, or goes by standard output."""


@dataclass(frozen=True, slots=True)
class Recovered:
    type: IssueType
    entity: str
    how: str
    status: str


@dataclass(frozen=True, slots=True)
class NotRecovered:
    type: IssueType
    entity: str
    why: str
    recommendation: str


def recover(path: Path, go_on: GoOn) -> Iterator[Recovered | NotRecovered]:
    """Each job that is at work by the journal and that nobody runs, one after another.

    Nothing while another process holds the journal: it may be about to do the same. Ends early
    when a job comes to rest otherwise than by its end: somebody wants this process to end.
    """
    stale = list(stale_lease(path))
    with suppress(JournalHeld), journal_to_write(path) as journal:
        for issue in stale:
            yield Recovered(issue.type, issue.entities[0], "taken, and given back", "free")
        for job in journal.jobs():
            past = recall(journal, job)
            kind = _kind(past.state)
            if kind is None:
                continue
            became = _recovered(journal, job, past, kind, go_on)
            yield became
            if isinstance(became, Recovered) and became.status in RESTS:
                return


RESTS: Final = (JobStatus.PAUSED, JobStatus.STOPPED, JobStatus.ROLLBACK_PAUSED)


def _kind(state: State) -> IssueType | None:
    """What is wrong with a job that nobody runs, if that can be recovered: what an operator paused
    or stopped is right as it is."""
    if state.status is JobStatus.ROLLBACK_FAILED:
        return "rollback_failed"
    if state.status is JobStatus.ROLLBACK_PAUSED:
        return None
    gone = state.status in (JobStatus.PENDING, JobStatus.RUNNING) or going_on(state)
    return "abandoned_jobs" if gone else None


def _recovered(
    journal: SqliteJournal, job: JobId, past: Past, kind: IssueType, go_on: GoOn
) -> Recovered | NotRecovered:
    verb = goes_on_by(past.state)
    recommendation = command(journal.path, verb, job)
    why = _cannot(past.state)
    if not why:
        try:
            state = go_on(journal, job, past)
        except FerrylogError as error:
            why = f"[{error.code}] {error}"
        else:
            how = "its rollback went on" if verb == "rollback" else "resumed"
            return Recovered(kind, job, how, state.status)
    return NotRecovered(kind, job, why, recommendation)


def _cannot(state: State) -> str:
    """Why it takes a person; empty when it does not."""
    spec = state.spec
    if spec is None or STREAM in (spec.source, spec.target):
        return "its dump comes or goes by a standard stream"
    if spec.kind == "plan":
        return "a dry run is of use only to who waits for its plan"
    return ""
