"""The jobs of a journal, and a journal under its lease: what commands share that ask no server."""

import getpass
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ferrylog import clock
from ferrylog.past import Past
from ferrylog.recall import recall
from journal.disk import DISK
from journal.errors import NoSuchJob
from journal.inbox import Inbox
from journal.lease import Lease
from journal.mounts import refuse_network
from journal.opening import check_file
from journal.sqlite import SqliteJournal
from statemachine.events import JobRequested, JobSpec
from statemachine.words import JobId, JobStatus


def operator() -> str:
    """Who asks, for the journal: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"
    return f"{user}@{platform.node()}"


@contextmanager
def journal_to_write(path: Path) -> Iterator[SqliteJournal]:
    """The journal under its lease. Raises `JournalHeld` and what opening raises."""
    refuse_network(path)
    since = clock.when(clock.now_ms())
    with (
        Lease(path, host=platform.node(), since=since),
        SqliteJournal.create(path) as journal,
    ):
        Inbox(path).clear()
        yield journal


def renew(path: Path) -> None:
    """Write a new tip record, under the lease. Raises what opening raises."""
    check_file(path, DISK)
    with Lease(path, host=platform.node(), since=clock.when(clock.now_ms())):
        SqliteJournal.renew_tip(path)


def find_job(journal: SqliteJournal, wanted: str | None) -> JobId:
    """The job of that name, or the newest. Raises `NoSuchJob`."""
    jobs = journal.jobs()
    if not jobs or (wanted is not None and wanted not in jobs):
        raise NoSuchJob(wanted or "", journal.path)
    return JobId(wanted) if wanted is not None else jobs[-1]


MOVES = ("migrate", "dump", "restore", "export", "group")
"""Kinds of jobs that move data."""


def find_migration(journal: SqliteJournal, wanted: str | None) -> JobId:
    """The job of that name, or the newest that moves data, or the newest. Raises `NoSuchJob`."""
    if wanted is None:
        for job in reversed(journal.jobs()):
            if spec_of(journal, job).kind in MOVES:
                return job
    return find_job(journal, wanted)


def unfinished(journal: SqliteJournal) -> Iterator[tuple[JobId, Past]]:
    """The jobs that may go on here, the newest first."""
    for job, past in without_end(journal):
        if past.state.status is not JobStatus.MOVED:
            yield job, past


def without_end(journal: SqliteJournal) -> Iterator[tuple[JobId, Past]]:
    """The jobs that have not ended, the newest first: also those that left."""
    for job in reversed(journal.jobs()):
        past = recall(journal, job)
        if not past.state.terminal:
            yield job, past


def spec_of(journal: SqliteJournal, job: JobId) -> JobSpec:
    """What the job was asked to do: its first event says so."""
    asked = next(journal.read(job)).event
    assert isinstance(asked, JobRequested)
    return asked.spec
