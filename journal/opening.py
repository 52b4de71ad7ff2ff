"""Opening a journal's file: made for us alone, laid out once, refused when it is not ours."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import apsw

from journal.errors import DamagedJournal, JournalUnreachable, NewerJournal, NotAJournal
from journal.tip import TipFile

APPLICATION_ID: Final = 0x0FE44109
FORMAT: Final = 1
"""`user_version` of the file."""
SCHEMA: Final = Path(__file__).with_name("schema.sql")
BUSY_MS: Final = 10_000
"""How long SQLite waits for another process's lock."""


def tip_path(path: Path) -> Path:
    return Path(f"{path}.tip")


def work_path(path: Path) -> Path:
    """The default work folder beside a journal."""
    return Path(f"{path}.d")


def make_file(path: Path) -> bool:
    """Create the file with mode 0600 before SQLite sees it: its -wal and -shm inherit that."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        check_file(path)
        return False
    except OSError as error:
        raise JournalUnreachable(path, error.strerror or str(error)) from None
    os.close(fd)
    return True


def check_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise JournalUnreachable(
            path, "no such file", remedy="name it with --journal; `ferrylog start` makes one"
        ) from None
    except OSError as error:
        raise JournalUnreachable(path, error.strerror or str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise NotAJournal(path, "not a regular file")
    if found.st_mode & 0o077:
        raise JournalUnreachable(
            path, f"others may use it (mode {found.st_mode & 0o777:04o})", f"chmod 600 {path}"
        )


def connect(path: Path) -> apsw.Connection:
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as error:
        raise JournalUnreachable(path, str(error)) from error
    db.set_busy_timeout(BUSY_MS)
    return db


@contextmanager
def opening(path: Path) -> Iterator[apsw.Connection]:
    """A connection that is closed again if it cannot be used, with the reason as ours."""
    db = connect(path)
    try:
        yield db
    except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError) as error:
        db.close()
        raise DamagedJournal(path, str(error)) from error
    except apsw.Error as error:
        db.close()
        raise JournalUnreachable(path, str(error)) from error
    except BaseException:
        db.close()
        raise


def one_row(db: apsw.Connection, sql: str) -> tuple[Any, ...]:
    """The row of a query that always has one."""
    row: Any = db.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def is_blank(db: apsw.Connection) -> bool:
    """A process died between making the file and laying it out."""
    try:
        return one_row(db, "PRAGMA page_count") == (0,)
    except apsw.Error:
        return False


def lay_out(db: apsw.Connection) -> None:
    # The new file, and its place in the directory, are durable with the first commit.
    db.execute("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").fetchall()
    with Immediate(db):
        db.execute(SCHEMA.read_text())
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")


def check_header(path: Path, db: apsw.Connection) -> None:
    try:
        application = db.pragma("application_id")
        version = db.pragma("user_version")
        tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'events'").fetchone()
    except (apsw.Error, UnicodeDecodeError) as error:
        raise NotAJournal(path, str(error)) from error
    if application != APPLICATION_ID or tables == (0,):
        raise NotAJournal(path, "it belongs to another application")
    if not 1 <= version <= FORMAT:
        raise NewerJournal(path, version, FORMAT)


def set_durability(db: apsw.Connection) -> None:
    """WAL, so that others read while we write; FULL, because NORMAL loses commits at a power
    cut; checkpoints by hand, because an error inside one looks like an error of the commit."""
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0").fetchall()
    assert mode == ("wal",), mode
    assert db.pragma("synchronous") == 2


def open_tip(path: Path) -> TipFile:
    try:
        tip = TipFile(tip_path(path))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise JournalUnreachable(path, f"{tip_path(path)}: {error.strerror}") from None
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return tip


class Immediate:
    """One transaction: all of it or nothing. A failed rollback hides no error."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._db.execute("COMMIT")
            return
        with suppress(apsw.Error):
            self._db.execute("ROLLBACK")
