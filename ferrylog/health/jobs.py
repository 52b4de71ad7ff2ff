"""What is wrong with the jobs of a journal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ferrylog.cleanup.standing import Standing
from ferrylog.health.issues import HOUR_MS, RECENT_MS, Issue, Limits, command
from ferrylog.letters import letters
from ferrylog.rollbacks import going_on
from ferrylog.views.spans import span
from journal import audit
from journal.audit import Wanted
from journal.inbox import Inbox
from journal.sqlite import SqliteJournal
from statemachine.state import State
from statemachine.words import JobId, JobStatus, Status

AT_WORK: Final = (
    JobStatus.PENDING,
    JobStatus.RUNNING,
    JobStatus.PAUSING,
    JobStatus.STOPPING,
    JobStatus.ROLLING_BACK,
)
"""Statuses of a job that somebody runs, or whose process is gone."""
FAILURES: Final = ("*_retry_scheduled", "*_dead_lettered")
WAITING: Final = (Status.PENDING, Status.WAITING)


@dataclass(frozen=True)
class Looked:
    """A journal at one time, and the jobs that somebody may have to look at."""

    journal: SqliteJournal
    jobs: Sequence[Standing]
    runs: JobId | None
    """The job that a process runs now."""
    now_ms: int
    limits: Limits

    @property
    def path(self) -> Path:
        return self.journal.path


def looked_at(journal: SqliteJournal, *, held: bool, now_ms: int, limits: Limits) -> Looked:
    """All jobs but those that ended long ago."""
    every = [Standing(journal, job) for job in journal.jobs()]
    jobs = [each for each in every if each.live or each.last_ms >= now_ms - RECENT_MS]
    return Looked(journal, jobs, journal.latest_job() if held else None, now_ms, limits)


def issues_of_jobs(looked: Looked) -> Iterator[Issue]:
    for look in (stuck, abandoned, failed, queued, rollback_rate, rollbacks_failed, dead):
        yield from look(looked)


# --- nothing moves ---


def stuck(looked: Looked) -> Iterator[Issue]:
    """Tasks at work of which nothing was heard for too long; and those that nobody works at."""
    for standing in looked.jobs:
        state, silent_ms = standing.past.state, looked.now_ms - standing.last_ms
        tasks = _processing(state)
        running = standing.job == looked.runs
        if state.resting or not tasks or (running and silent_ms <= looked.limits.stuck_ms):
            continue
        words = ("pause", standing.job, "--immediate") if running else ("resume", standing.job)
        why = f"no event for {span(silent_ms)}" if running else "no process runs the job"
        yield Issue(
            "stuck_operations",
            "degraded",
            len(tasks),
            0 if not running else round(looked.limits.stuck_ms / 1000),
            tasks,
            f"{len(tasks)} tasks of job {standing.job} are at work, and {why}",
            command(looked.path, *words),
        )


def _processing(state: State) -> list[str]:
    return [
        f"{key.kind} {key.entity}"
        for (_, status, _), queue in state.queues.items()
        if status is Status.PROCESSING
        for key in queue
    ]


def is_abandoned(looked: Looked, standing: Standing) -> bool:
    """By its status it is at work, or is to be taken back, and no process runs it."""
    state = standing.past.state
    gone = state.status in AT_WORK or (going_on(state) and state.status not in RESTS)
    return gone and standing.job != looked.runs


RESTS: Final = (JobStatus.ROLLBACK_FAILED, JobStatus.ROLLBACK_PAUSED)


def abandoned(looked: Looked) -> Iterator[Issue]:
    for standing in looked.jobs:
        if is_abandoned(looked, standing):
            state = standing.past.state
            yield Issue(
                "abandoned_jobs",
                "critical",
                1,
                0,
                (standing.job,),
                f"job {standing.job} is {state.status} since its last event, "
                f"{span(looked.now_ms - standing.last_ms)} ago, and no process runs it",
                command(looked.path, goes_on_by(state), standing.job),
            )


def goes_on_by(state: State) -> str:
    """The command that lets a job go on."""
    return "rollback" if going_on(state) else "resume"


# --- things fail ---


def failed(looked: Looked) -> Iterator[Issue]:
    found = [
        f"{standing.job} {recorded.event.about}"
        for standing in looked.jobs
        for kind in FAILURES
        for recorded in audit.find(
            looked.journal,
            Wanted(standing.job, kind=kind, since_ms=looked.now_ms - HOUR_MS),
        )
    ]
    if len(found) > looked.limits.failed:
        yield Issue(
            "failed_operations",
            "degraded",
            len(found),
            looked.limits.failed,
            tuple(dict.fromkeys(found)),
            f"{len(found)} attempts failed in the last hour",
            command(looked.path, "inspect", "timeline", found[-1].partition(" ")[0]),
        )


def rollback_rate(looked: Looked) -> Iterator[Issue]:
    """Undos that were given up, of all that ended."""
    given_up, done = (
        [
            f"{standing.job} {recorded.event.about}"
            for standing in looked.jobs
            for recorded in audit.find(
                looked.journal,
                Wanted(standing.job, kind=kind, since_ms=looked.now_ms - RECENT_MS),
            )
        ]
        for kind in ("undo_dead_lettered", "undo_completed")
    )
    every = len(given_up) + len(done)
    rate = 100 * len(given_up) / every if every else 0.0
    if rate > looked.limits.rollback_failures:
        yield Issue(
            "rollback_failure_rate",
            "critical",
            round(rate, 1),
            looked.limits.rollback_failures,
            tuple(dict.fromkeys(given_up)),
            f"{len(given_up)} of {every} undos were given up, {rate:.1f} %",
            command(looked.path, "inspect", "rollback", given_up[-1].partition(" ")[0]),
        )


def rollbacks_failed(looked: Looked) -> Iterator[Issue]:
    for standing in looked.jobs:
        state = standing.past.state
        if state.status is JobStatus.ROLLBACK_FAILED:
            yield Issue(
                "rollback_failed",
                "critical",
                1,
                0,
                (standing.job,),
                f"the rollback of job {standing.job} stopped: {state.why}",
                command(looked.path, "rollback", standing.job),
            )


def dead(looked: Looked) -> Iterator[Issue]:
    """What was given up, refused or left out, of all jobs that were not taken back."""
    for standing in looked.jobs:
        state = standing.past.state
        if state.status in (JobStatus.ROLLED_BACK, JobStatus.MOVED):
            continue
        found = letters(looked.journal, standing.job, state)
        if len(found) > looked.limits.dead_letters:
            yield Issue(
                "dead_letters",
                "degraded",
                len(found),
                looked.limits.dead_letters,
                [f"{each.id} {each.entity}" for each in found],
                f"job {standing.job} has {len(found)} dead letters",
                command(looked.path, "dead-letters", "list", standing.job),
            )


# --- too much waits ---


def queued(looked: Looked) -> Iterator[Issue]:
    """Tasks that wait for their turn or their time, and requests that wait for an answer."""
    counts = {each.job: _waiting(each.past.state) for each in looked.jobs}
    inbox = Inbox(looked.path)
    requests = sum(len(inbox.waiting(each.job)) for each in looked.jobs)
    depth = sum(counts.values()) + requests
    if depth > looked.limits.queue:
        deepest = max(counts, key=counts.__getitem__)
        told = [f"{job} {count}" for job, count in counts.items() if count]
        yield Issue(
            "queue_depth",
            "degraded",
            depth,
            looked.limits.queue,
            [*told, *([f"inbox {requests}"] if requests else [])],
            f"{depth} tasks and requests wait",
            command(looked.path, "status", deepest),
        )


def _waiting(state: State) -> int:
    if state.terminal or state.status is JobStatus.MOVED:
        return 0
    return sum(map(state.count, WAITING))
