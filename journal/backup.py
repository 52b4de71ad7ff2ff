"""A whole copy of a journal, taken while it is in use."""

import os
from pathlib import Path

import apsw

from journal.disk import DISK
from journal.errors import EvidenceExists, JournalUnreachable
from journal.opening import close, open_tip, reason, tip_path
from journal.sqlite import SqliteJournal
from journal.tip import Tip


def backup(journal: Path, to: Path) -> int:
    """Copy the journal to a new file with a tip of its own, check all of it; the last seq.

    The copy is a journal: it can be looked at, and resumed if the original is lost. Nothing
    fences the original: where both may go on, export the job instead. Raises what opening and
    `check` raise, and `EvidenceExists`.
    """
    if to.exists():
        raise EvidenceExists(to)
    part = to.with_name(to.name + ".part")
    try:
        for left in (part, tip_path(to)):  # by a backup that died
            left.unlink(missing_ok=True)
        DISK.make(part)
        with SqliteJournal.read_only(journal) as source:
            db = DISK.connect(part)
            try:
                source.backup_into(db)
                db.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, no log beside it
                row = db.execute(
                    "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1"
                ).fetchone()
            finally:
                close(db)
        _sync(part)
        if row is not None:
            open_tip(to, DISK, Tip(row[0], row[1])).close()
        part.rename(to)
        DISK.sync_directory(to.parent)
    except (apsw.Error, OSError) as error:
        raise JournalUnreachable(to, reason(error)) from error
    with SqliteJournal.read_only(to) as copy:
        return copy.check()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
