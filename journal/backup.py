"""A whole copy of a journal, taken while it is in use."""

import os
import tempfile
from pathlib import Path

import apsw

from journal.disk import DISK
from journal.errors import EvidenceExists, EvidenceUnreachable
from journal.opening import close, log_path, open_tip, reason, tip_path
from journal.sqlite import SqliteJournal


def backup(journal: Path, to: Path) -> int:
    """Copy the journal to a new file with a tip of its own, check all of it; the last seq.

    The copy is a journal: it can be looked at, and resumed if the original is lost. Nothing
    fences the original: where both may go on, export the job instead. Raises what opening and
    `check` raise, `EvidenceExists` and `EvidenceUnreachable`.
    """
    for taken in (to, tip_path(to), log_path(to)):
        if taken.exists():
            raise EvidenceExists(taken)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{to.name}.", dir=to.parent) as folder:
            part = Path(folder) / to.name
            DISK.make(part)
            with SqliteJournal.read_only(journal) as source:
                _copy(source, part)
            with SqliteJournal.read_only(part) as copy:
                last = copy.check()
            for name in (tip_path, Path):
                os.link(name(part), name(to))  # unlike a rename, it replaces nothing
            DISK.sync_directory(to.parent)
    except FileExistsError:
        raise EvidenceExists(to) from None
    except (apsw.Error, OSError) as error:
        raise EvidenceUnreachable(to, reason(error)) from error
    return last


def _copy(source: SqliteJournal, part: Path) -> None:
    db = DISK.connect(part)
    try:
        source.backup_into(db)
        db.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, no log beside it
        end = SqliteJournal(part, db).end()
    finally:
        close(db)
    fd = os.open(part, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    open_tip(part, DISK, end).close()
