"""What looking after a journal asks of the files beside it: how much its snapshots take, and that
those of a job go."""

from pathlib import Path
from typing import Any, NamedTuple

import apsw

from journal.errors import JournalUnreachable
from journal.snapshots import BUSY_MS
from statemachine.words import JobId


class Kept(NamedTuple):
    """Snapshots of one job."""

    snapshots: int
    bytes: int


def kept_snapshots(journal: Path) -> dict[JobId, Kept]:
    """By job; none where the file is missing or cannot be read: it is a cache."""
    path = snapshots_path(journal)
    if not path.is_file():
        return {}
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(BUSY_MS)
            rows: Any = db.execute(
                "SELECT job, count(*), total(length(data)) FROM snapshots GROUP BY job"
            ).fetchall()
        finally:
            db.close()
    except (apsw.Error, UnicodeDecodeError):
        return {}
    return {JobId(job): Kept(count, int(size)) for job, count, size in rows}


def forget_snapshots(journal: Path, job: JobId) -> None:
    """Remove all of a job, and give their room back. Raises `JournalUnreachable`."""
    path = snapshots_path(journal)
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(BUSY_MS)
            db.execute("DELETE FROM snapshots WHERE job = ?", (job,)).fetchall()
            db.execute("VACUUM").fetchall()
        finally:
            db.close()
    except apsw.Error as error:
        raise JournalUnreachable(path, str(error)) from error


def snapshots_path(journal: Path) -> Path:
    return Path(f"{journal}.snapshots")
