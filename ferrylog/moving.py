"""A job leaves one journal and goes on in another.

First the leaving is an event, then the file is written: from the event on, this journal's job
cannot run, whatever happens to the file, which can be written again at any time. The file is
evidence (`journal.evidence`) that ends with the leaving.
"""

import platform
from pathlib import Path

from ferrylog import __version__, clock
from ferrylog.engine import Engine
from ferrylog.jobs import operator
from ferrylog.recall import recall, rules
from journal.errors import BadEvidence, JobElsewhere
from journal.evidence import Evidence, Reader, check_place, examine, write
from journal.sqlite import SqliteJournal
from statemachine.decide import decide
from statemachine.errors import FerrylogError, OperatorError
from statemachine.stimuli import ExportAsked, ImportAsked
from statemachine.words import JobId, JobStatus


class JobEnded(OperatorError):
    """There is nothing left to go on with."""

    code, exit_code = "EJOB004", 2

    def __init__(self, job: str, status: str) -> None:
        super().__init__(
            f"job {job} has ended: {status}",
            remedy="`ferrylog inspect export` writes its history as evidence",
        )


def export_job(journal: SqliteJournal, job: JobId, to: Path, key: bytes | None) -> JobId:
    """Fence the job here and write its file; again, if it was fenced before.

    The caller holds the lease. Raises `JobEnded`, and what writing raises.
    """
    check_place(to)  # before the job leaves
    engine = Engine(journal, job, recall(journal, job))
    if engine.state.terminal:
        raise JobEnded(job, engine.state.status)
    engine.turn([ExportAsked(operator(), platform.node())], now=clock.now_ms())
    try:
        write_evidence(journal, job, to, key)
    except FerrylogError as error:
        error.add_note(f"job {job} has left this journal already: export it again to another file")
        raise
    return job


def arriving(file: Path, key: bytes | None) -> Evidence:
    """An exported job, whole. Raises `BadEvidence` for a damaged file or one of another kind."""
    found = examine(file, key)
    if found.state.status is not JobStatus.MOVED:
        why = f"the job was not exported: it is {found.state.status} where this file ends"
        raise BadEvidence(file, found.events + 1, why)
    return found


def import_job(
    journal: SqliteJournal, file: Path, found: Evidence, *, take_back: bool = False
) -> JobId:
    """Take a job in that was found arriving; it is paused then, and `resume` goes on.

    History and arrival are one commit. The caller holds the lease. Raises `JobElsewhere` when the
    journal knows the job otherwise, or knows that it left from here; `take_back` vouches that it
    arrived nowhere else.
    """
    job = found.job
    if job in journal.jobs():
        here = recall(journal, job)
        if here.position.version > found.events:
            raise JobElsewhere(job, journal.path, "it arrived here before")
        if here.position.version == found.events and not take_back:
            why = "it left from here; if it arrived nowhere else, say --take-back"
            raise JobElsewhere(job, journal.path, why)
    now = clock.now_ms()
    events = decide(found.state, ImportAsked(operator(), platform.node()), now)
    history = Reader(file).pages()
    journal.adopt(job, history, events, epoch=found.state.epoch, at_ms=now)
    return job


def write_evidence(journal: SqliteJournal, job: JobId, to: Path, key: bytes | None) -> None:
    """A job's history as a file that stands for itself. Raises what `evidence.write` raises."""
    write(
        to,
        journal.rows(job),
        job=job,
        key=key,
        made_by=operator(),
        made_at=clock.when(clock.now_ms()),
        ferrylog=__version__,
        rules=rules(),
    )
