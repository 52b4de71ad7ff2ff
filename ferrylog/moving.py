"""A job leaves one journal and goes on in another.

First the leaving is an event, then the file is written: from the event on, this journal's job
cannot run, whatever happens to the file, which can be written again at any time. The file is
evidence (`journal.evidence`) that ends with the leaving.
"""

import platform
from collections.abc import Iterator
from pathlib import Path

from ferrylog import __version__, clock
from ferrylog.engine import Engine
from ferrylog.recall import recall, rules
from ferrylog.wiring import operator
from journal.errors import BadEvidence, JobElsewhere
from journal.evidence import Evidence, Reader, examine, write
from journal.rows import Row
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
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
    engine = Engine(journal, job, recall(journal, job))
    if engine.state.terminal:
        raise JobEnded(job, engine.state.status)
    engine.turn([ExportAsked(operator(), platform.node())], now=clock.now_ms())
    write_evidence(journal, job, to, key)
    return job


def import_job(journal: SqliteJournal, file: Path, key: bytes | None) -> JobId:
    """Take a job in; it is paused then, and `resume` goes on.

    The caller holds the lease. Raises `BadEvidence` for a damaged file or one that is no
    exported job, and `JobElsewhere` when the journal knows the job otherwise.
    """
    found = examine(file, key)
    if found.state.status is not JobStatus.MOVED:
        why = f"the job was not exported: it is {found.state.status} where this file ends"
        raise BadEvidence(file, found.events + 1, why)
    if found.job in journal.jobs() and not _ends_before(journal, found):
        raise JobElsewhere(found.job, journal.path, "it arrived here before")
    journal.adopt(found.job, _pages(file))
    engine = Engine(journal, found.job, recall(journal, found.job))
    engine.turn([ImportAsked(operator(), platform.node())], now=clock.now_ms())
    return found.job


def _ends_before(journal: SqliteJournal, found: Evidence) -> bool:
    return recall(journal, found.job).position.version <= found.events


def _pages(file: Path) -> Iterator[list[Row]]:
    return Reader(file).pages()


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
