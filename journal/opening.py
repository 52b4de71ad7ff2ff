"""Opening a journal's file: made for us alone, laid out once, refused when it is not ours."""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import apsw

from journal.disk import Disk
from journal.errors import DamagedJournal, JournalUnreachable, NewerJournal, NotAJournal
from journal.tip import Tip, TipFile

APPLICATION_ID: Final = 0x0FE44109
FORMAT: Final = 2
"""`user_version` of the file."""
SCHEMA: Final = Path(__file__).with_name("schema.sql")
INTEGRITY_BYTES: Final = 64 << 20
"""Up to this size every opening to append checks all pages, in about 0.2 s; beyond it, it would
take a second per million events, and a resume has to be ready within one."""


def tip_path(path: Path) -> Path:
    return Path(f"{path}.tip")


def log_path(path: Path) -> Path:
    return Path(f"{path}-wal")


def work_path(path: Path) -> Path:
    """The default work folder beside a journal."""
    return Path(f"{path}.d")


def make_file(path: Path, disk: Disk) -> bool:
    """Create the file with mode 0600 before SQLite sees it: its -wal and -shm inherit that."""
    try:
        check_log(path, disk)
        disk.make(path)
    except FileExistsError:
        check_file(path, disk)
        return False
    except OSError as error:
        raise JournalUnreachable(path, error.strerror or str(error)) from None
    return True


def check_file(path: Path, disk: Disk) -> None:
    try:
        found = disk.stat(path)
    except FileNotFoundError:
        raise JournalUnreachable(
            path, "no such file", remedy="name it with --journal; `ferrylog start` makes one"
        ) from None
    except OSError as error:
        raise JournalUnreachable(path, error.strerror or str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise NotAJournal(path, "not a regular file")
    check_log(path, disk)
    if found.st_mode & 0o077:
        raise JournalUnreachable(
            path, f"others may use it (mode {found.st_mode & 0o777:04o})", f"chmod 600 {path}"
        )


def check_log(path: Path, disk: Disk) -> None:
    """SQLite removes the log of an empty database without a word. One is never made before the
    database is laid out durably: what it holds are the events of a journal that is gone."""
    if not size(path, disk) and size(log_path(path), disk):
        raise DamagedJournal(path, "it is missing or empty, but its write-ahead log is there")


def size(path: Path, disk: Disk) -> int:
    """In bytes; 0 when there is no such file."""
    try:
        return disk.stat(path).st_size
    except FileNotFoundError:
        return 0


@contextmanager
def opening(path: Path, connect: Callable[[Path], apsw.Connection]) -> Iterator[apsw.Connection]:
    """A connection that is closed again if it cannot be used, with the reason as ours."""
    db = None
    try:
        db = connect(path)
        yield db
    except BaseException as error:
        if db is not None:
            close(db)
        match error:
            case apsw.CorruptError() | apsw.NotADBError() | UnicodeDecodeError():
                raise DamagedJournal(path, reason(error)) from error
            case apsw.Error() | OSError():
                raise JournalUnreachable(path, reason(error)) from error
        raise


def close(db: apsw.Connection) -> None:
    """What was acknowledged is durable already: an error of closing loses nothing."""
    with suppress(apsw.Error):
        db.close()


def reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error)
    return text or type(error).__name__


def one_row(db: apsw.Connection, sql: str) -> tuple[Any, ...]:
    """The row of a query that always has one."""
    row: Any = db.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def is_small(db: apsw.Connection) -> bool:
    pages, size = one_row(db, "PRAGMA page_count"), one_row(db, "PRAGMA page_size")
    return int(pages[0]) * int(size[0]) <= INTEGRITY_BYTES


def is_blank(db: apsw.Connection) -> bool:
    """A process died between making the file and laying it out."""
    try:
        return one_row(db, "PRAGMA page_count") == (0,)
    except (apsw.CorruptError, apsw.NotADBError):
        return False


def lay_out(db: apsw.Connection) -> None:
    # The new file, and its place in the directory, are durable with the first commit.
    db.execute("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").fetchall()
    with Immediate(db):
        db.execute(SCHEMA.read_text())
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")


MIGRATIONS: Final = {
    1: "CREATE INDEX events_by_time ON events (job, recorded_at_ms, version)",
}
"""By the format that they lead on from. No migration ever changes an event."""


def migrate(db: apsw.Connection) -> None:
    """Bring the file's indexes to today's format; readers manage without."""
    with Immediate(db):
        for version in range(db.pragma("user_version"), FORMAT):
            db.execute(MIGRATIONS[version])
        db.execute(f"PRAGMA user_version = {FORMAT}")


def check_header(path: Path, db: apsw.Connection) -> None:
    try:
        application = db.pragma("application_id")
        version = db.pragma("user_version")
        tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'events'").fetchone()
    except apsw.CorruptError as error:
        raise DamagedJournal(path, str(error)) from error
    except (apsw.NotADBError, apsw.SQLError, UnicodeDecodeError) as error:
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


def drain(path: Path, db: apsw.Connection, disk: Disk) -> None:
    """Move what a run before left in the write-ahead log into the database, durably.

    After a failed sync the kernel may show bytes that are not on the disk and never will be. New
    commits must not come to stand behind such a hole, nor share a sector with the end of a log
    that a power cut left; and a log that ends before the hole must not come back to life after
    the next one and hide what the database has by then: hence the sync of the emptied log.
    """
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log = disk.open(log_path(path))
    try:
        disk.sync(log)
    finally:
        disk.close(log)


def open_tip(path: Path, disk: Disk, end: Tip) -> TipFile:
    """The tip to write: its name is durable, and it says `end`. Raises `OSError`.

    It is written even where it says so already: what is read may not be durable yet.
    """
    tip = TipFile(tip_path(path), disk)
    try:
        disk.sync_directory(path.parent)
        tip.write(end)
    except OSError:
        tip.close()
        raise
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
