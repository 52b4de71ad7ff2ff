"""Asking something of a job, from any terminal, whether a process runs it or not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ferrylog import clock, requests
from ferrylog.engine import Engine
from ferrylog.errors import NotRunning, Refused
from ferrylog.jobs import find_job, find_migration, journal_to_write, unfinished
from ferrylog.past import Past
from ferrylog.recall import recall
from journal.inbox import Inbox, Request
from journal.lease import held
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.decide.asked import VERBS, refusal
from statemachine.errors import OperatorError
from statemachine.events import RequestRefused
from statemachine.state import State
from statemachine.stimuli import Asked, PauseAsked, StopAsked
from statemachine.words import JobId, JobStatus

LOOK_S: Final = 0.1
"""Between two looks for an answer."""
TICKS: Final = 2
SPARE_S: Final = 10.0
"""How long an answer is waited for: some ticks of the process, and what a slow disk may take."""
AFTER_S: Final = 1.0
"""How long one more is waited for that was taken back: it may have been read just before."""
ATTEMPTS: Final = 3
"""Processes that may end one after another before they answer."""
AT_REST: Final = (JobStatus.PAUSED, JobStatus.STOPPED, JobStatus.COMPLETED, JobStatus.FAILED)


class NoAnswer(OperatorError):
    """A process holds the journal and does not look into its inbox, or not soon enough."""

    code, exit_code = "EJOB007", 7

    def __init__(self, job: str, verb: str) -> None:
        super().__init__(
            f"{verb}: the process that holds the journal of job {job} does not answer; the request "
            "was taken back",
            remedy="`ferrylog status` shows whether it goes on; ask again, or end that process",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a wish."""

    job: JobId
    wish: Asked
    request: int
    """Its number in the inbox of a running process; 0: nobody ran the job."""
    recorded: tuple[Recorded, ...]
    """What the journal holds of it."""
    refused: str = ""
    """Why nothing was done."""


def wanted_job(path: Path, named: str | None) -> JobId:
    """The job of that name; else the one that runs; else the newest unfinished migration; else
    the newest migration; else the newest.

    Raises `NoSuchJob`, and what opening raises.
    """
    with SqliteJournal.read_only(path) as journal:
        if named is None and held(path):
            return find_job(journal, journal.latest_job())
        if named is None:
            for job, past in unfinished(journal):
                if past.state.spec is not None and past.state.spec.kind == "migrate":
                    return job
        return find_migration(journal, named)


def state_of(path: Path, job: JobId) -> State:
    with SqliteJournal.read_only(path) as journal:
        return recall(journal, job).state


def ask(path: Path, job: JobId, wish: Asked) -> Answer:
    """Have it answered by the process that runs the job; else by the rules, here and now.

    Raises `Refused`, `NoAnswer`, `NotRunning` for what only a process can do, `JournalHeld` while
    the journal runs another job, and what opening raises.
    """
    for _ in range(ATTEMPTS):
        with SqliteJournal.read_only(path) as journal:
            past = recall(journal, job)
            running = held(path) and job == journal.latest_job()
        if not running:
            return _told(path, job, wish)
        answer = _left(path, job, wish, past)
        if answer is not None:
            return _accepted(answer)
    raise Refused(VERBS[type(wish)], "no process has answered; is another version running?")


def _accepted(answer: Answer) -> Answer:
    for each in answer.recorded:
        if isinstance(each.event, RequestRefused):
            raise Refused(each.event.verb, each.event.why)
    return answer


# --- somebody runs the job ---


def _left(path: Path, job: JobId, wish: Asked, past: Past) -> Answer | None:
    """Leave it in the inbox and wait; `None` when the process ended without an answer.

    Raises `NoAnswer`.
    """
    inbox = Inbox(path)
    verb, details = requests.written(wish)
    number = inbox.leave(job, verb, wish.by, above=past.state.request, **details)
    request = Request(number, job, verb, wish.by, details)
    tick_ms = past.state.settings.tick_ms if past.state.settings is not None else 0
    until_s = clock.monotonic_s() + TICKS * tick_ms / 1000 + SPARE_S
    taken_back = False
    while True:
        waits = held(path) and any(each.id == number for each in inbox.waiting(job))
        # Looked at after the inbox, from which a request goes when the journal holds its answer.
        found = _answers(path, job, number, after=past.position.version)
        if found:
            return Answer(job, wish, number, found)
        if not waits and not taken_back:
            inbox.remove([request])
            return None
        if clock.monotonic_s() >= until_s:
            if taken_back:
                raise NoAnswer(job, verb)
            inbox.remove([request])
            taken_back, until_s = True, clock.monotonic_s() + AFTER_S
        clock.sleep_s(LOOK_S)


def _answers(path: Path, job: JobId, number: int, *, after: int) -> tuple[Recorded, ...]:
    with SqliteJournal.read_only(path) as journal:
        return tuple(
            each
            for each in journal.read(job, after=after)
            if getattr(each.event, "request", 0) == number
        )


# --- nobody runs it ---


def _told(path: Path, job: JobId, wish: Asked) -> Answer:
    """Under the lease, as the job's next run would: it begins with what is recorded here."""
    with journal_to_write(path) as journal:
        engine = Engine(journal, job, recall(journal, job))
        status, before = engine.state.status, engine.position.version
        if isinstance(wish, PauseAsked) or (
            isinstance(wish, StopAsked) and status not in AT_REST and status is not JobStatus.MOVED
        ):
            raise NotRunning(job, status, VERBS[type(wish)])
        why = refusal(engine.state, wish)
        if why:
            raise Refused(VERBS[type(wish)], why)
        engine.tell([wish], now=clock.now_ms())
        return Answer(job, wish, 0, tuple(journal.read(job, after=before)))
