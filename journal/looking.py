"""Opening a journal to look at it, also where SQLite's usual way finds no place to work.

To read a journal SQLite makes a -shm file beside it. A full disk, a read-only file system and a
directory that is not ours to write have no room for that; then, if no run holds the journal:

- without a write-ahead log, the file alone is the journal: it is read as immutable;
- with one, it is read under an exclusive lock, the index of the log kept in memory;
- and if there is no right to lock, a copy in a temporary directory is read.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from journal.disk import DISK
from journal.lease import held
from journal.opening import close, log_path, size

NO_ROOM: Final = (apsw.CantOpenError, apsw.IOError, apsw.FullError, apsw.ReadOnlyError)


def look(path: Path, leave: ExitStack) -> apsw.Connection:
    """A connection that reads. What is to be done after closing it is left to `leave`.

    Raises the `apsw.Error` of the usual way when no way works, and `OSError`.
    """
    first = None
    for db in _ways(path, leave):
        try:
            _touch(db)
        except NO_ROOM as error:
            close(db)
            first = first or error
        else:
            return db
    assert first is not None
    raise first


def _ways(path: Path, leave: ExitStack) -> Iterator[apsw.Connection]:
    yield _keeping_the_log(DISK.connect(path))
    if held(path):
        return
    if not size(log_path(path), DISK):
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        yield apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        return
    alone = _keeping_the_log(DISK.connect(path))
    alone.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    yield alone
    yield DISK.connect(_copy(path, leave))


def _keeping_the_log(db: apsw.Connection) -> apsw.Connection:
    """What a killed process left in the write-ahead log stays there: looking changes no file."""
    if size(log_path(Path(db.db_filename("main"))), DISK):
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return db


def _copy(path: Path, leave: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ferrylog-"))
    leave.callback(shutil.rmtree, folder)
    copy = folder / path.name
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def _touch(db: apsw.Connection) -> None:
    """Read the first page, as every query does. What else may be wrong is told by who asks."""
    try:
        db.pragma("schema_version")
    except NO_ROOM:
        raise
    except (apsw.Error, UnicodeDecodeError):
        return
