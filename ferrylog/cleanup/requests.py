"""Requests in the inbox that nobody answered."""

from functools import partial

from ferrylog.cleanup.items import Found, Freed, Item
from ferrylog.cleanup.standing import Standing
from journal.inbox import Inbox
from journal.sqlite import SqliteJournal
from statemachine.words import JobId


def lying_requests(
    journal: SqliteJournal, jobs: dict[JobId, Standing], now_ms: int, *, runs: JobId | None
) -> Found:
    """Those of each job; not of the one that a process runs now: it may be about to answer.

    A request does not tell when it was left. None is younger than the last change of the inbox.
    """
    inbox = Inbox(journal.path)
    if not inbox.path.is_file():
        return
    age_ms = now_ms - int(inbox.path.stat().st_mtime * 1000)
    for job in jobs:
        waiting = inbox.waiting(job) if job != runs else []
        if waiting:
            verbs = ", ".join(f"{each.verb} by {each.by}" for each in waiting[:3])
            why = f"nobody answered: {verbs}"
            freed = Freed(requests=len(waiting))
            what = f"requests {job}"
            yield Item("requests", what, age_ms, why, freed, partial(inbox.remove, waiting))
