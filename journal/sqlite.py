"""The journal in one SQLite file: WAL, `synchronous=FULL`, append-only by trigger.

One process appends, under the lease; any number read meanwhile. Our own process never opens
the file outside SQLite: closing such a descriptor would drop SQLite's POSIX locks.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw

from journal.codec import GENESIS, chain, decode, encode
from journal.errors import (
    DamagedJournal,
    EpochFenced,
    JournalBehind,
    JournalUnknown,
    JournalUnreachable,
    NewerJournal,
    NotAJournal,
    StalePosition,
    TipMissing,
)
from journal.protocol import Position, Recorded
from journal.tip import Tip, TipFile, read_tip
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

APPLICATION_ID: Final = 0x0FE44109
FORMAT: Final = 1
"""`user_version` of the file."""
SCHEMA: Final = Path(__file__).with_name("schema.sql")

CHECKPOINT_BYTES: Final = 4 << 20
"""Event bytes between two checkpoints: bounds the WAL, keeps commits free of surprises."""
READ_ROWS: Final = 1000
BUSY_MS: Final = 10_000

Row = tuple[int, str, int, int, int, str, str, bytes, bytes]
COLUMNS: Final = "seq, job, version, epoch, recorded_at_ms, kind, entity, data, hash"


class SqliteJournal:
    """See `journal.protocol.Journal` for the promise.

    `create` makes a new file or opens an existing one for appending; `read_only` opens one to
    look. Both check the header and the tip. Neither trusts a row before its hash is checked.
    """

    def __init__(self, path: Path, connection: apsw.Connection, tip: TipFile | None) -> None:
        self.path = path
        self._db = connection
        self._tip = tip
        self._uncheckpointed = 0

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open for appending. The caller holds the lease."""
        fresh = _make_file(path)
        with _opening(path) as db:
            if fresh or _is_blank(db):
                _lay_out(db)
            _check_header(path, db)
            _settings(db)
            journal = cls(path, db, None)
            journal._check_integrity()
            journal._check_tip()
            journal._tip = _open_tip(path)
        return journal

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open to look: nothing of the journal is changed, a running process is not disturbed."""
        _check_file(path)
        wal = Path(f"{path}-wal")
        with _opening(path) as db:
            if wal.exists() and wal.stat().st_size:
                # What a killed process left in the WAL stays there: looking changes no file.
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            _check_header(path, db)
            db.pragma("query_only", 1)
            journal = cls(path, db, None)
            journal._check_tip()
        return journal

    # --- appending ---

    def append(
        self,
        job: JobId,
        events: Sequence[AnyEvent],
        *,
        expected: int,
        epoch: int,
        at_ms: Millis,
    ) -> Position:
        """See the protocol. One commit, then the tip; both durable when this returns."""
        assert self._tip is not None, "opened to look"
        assert events, "an empty append"
        try:
            tip = self._commit(job, events, expected, epoch, at_ms)
            self._tip.write(tip)
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error
        self._checkpoint_sometimes()
        return Position(expected + len(events), tip.seq)

    def _commit(
        self, job: JobId, events: Sequence[AnyEvent], expected: int, epoch: int, at_ms: Millis
    ) -> Tip:
        with _Immediate(self._db):
            found, last_epoch, last_hash = self._last(job)
            if last_epoch > epoch:
                raise EpochFenced(job, epoch, last_epoch)
            if found != expected:
                raise StalePosition(job, expected, found)
            seq = self.last_seq()
            rows: list[Row] = []
            for version, event in enumerate(events, expected + 1):
                seq += 1
                data = encode(event)
                last_hash = chain(
                    last_hash,
                    job=job,
                    version=version,
                    epoch=epoch,
                    recorded_at_ms=at_ms,
                    kind=event.kind,
                    entity=event.about,
                    data=data,
                )
                self._uncheckpointed += len(data)
                row = (seq, job, version, epoch, at_ms, event.kind, event.about, data, last_hash)
                rows.append(row)
            self._db.executemany(
                f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
        return Tip(seq, last_hash)

    def _last(self, job: JobId) -> tuple[int, int, bytes]:
        row = self._db.execute(
            "SELECT version, epoch, hash FROM events WHERE job = ? ORDER BY version DESC LIMIT 1",
            (job,),
        ).fetchone()
        return tuple(row) if row is not None else (0, 0, GENESIS)

    def _checkpoint_sometimes(self) -> None:
        if self._uncheckpointed < CHECKPOINT_BYTES:
            return
        self._uncheckpointed = 0
        # The commit is durable already. A checkpoint that fails loses nothing and is tried
        # again; if the disk is the reason, the next commit will say so.
        with suppress(apsw.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # --- reading ---

    def last_seq(self) -> int:
        return int(_one(self._db, "SELECT max(seq) FROM events")[0] or 0)

    def jobs(self) -> list[JobId]:
        """In the order in which they were asked for."""
        rows = self._db.execute("SELECT job FROM events WHERE version = 1 ORDER BY seq").fetchall()
        return [JobId(str(row[0])) for row in rows]

    def read(self, job: JobId, *, after: int = 0, to_seq: int | None = None) -> Iterator[Recorded]:
        """See the protocol; `to_seq` ends the reading after that global position."""
        before = self._hash_at(job, after)
        version = after
        for rows in self._batches(job, after, to_seq):
            for row in rows:
                version += 1
                before = self._checked(row, version, before)
            yield from self._decoded(rows)

    def _hash_at(self, job: JobId, version: int) -> bytes:
        if version == 0:
            return GENESIS
        row = self._db.execute(
            "SELECT hash FROM events WHERE job = ? AND version = ?", (job, version)
        ).fetchone()
        if row is None:
            raise DamagedJournal(self.path, f"job {job} has no version {version}")
        return bytes(row[0])

    def _batches(self, job: JobId, after: int, to_seq: int | None) -> Iterator[list[Row]]:
        limit = to_seq if to_seq is not None else 2**62
        while True:
            try:
                rows: list[Any] = self._db.execute(
                    f"SELECT {COLUMNS} FROM events WHERE job = ? AND version > ? AND seq <= ? "
                    "ORDER BY version LIMIT ?",
                    (job, after, limit, READ_ROWS),
                ).fetchall()
            except (apsw.Error, UnicodeDecodeError) as error:
                raise DamagedJournal(self.path, f"a row cannot be read: {error}") from error
            if not rows:
                return
            yield rows
            after = rows[-1][2]

    def _checked(self, row: Row, version: int, before: bytes) -> bytes:
        seq, job, found, epoch, at_ms, kind, entity, data, hash_ = row
        if found != version:
            why = f"job {job} has version {found} at seq {seq} where {version} belongs"
            raise DamagedJournal(self.path, why, good=seq - 1)
        expected = chain(
            before,
            job=job,
            version=found,
            epoch=epoch,
            recorded_at_ms=at_ms,
            kind=kind,
            entity=entity,
            data=data,
        )
        if expected != hash_:
            why = f"event seq {seq} ({kind} of {entity}) does not match its hash"
            raise DamagedJournal(self.path, why, good=seq - 1)
        return expected

    def _decoded(self, rows: list[Row]) -> Iterator[Recorded]:
        try:
            events = decode([(row[5], row[7]) for row in rows])
        except ValueError as error:
            why = f"between seq {rows[0][0]} and {rows[-1][0]} stands an unknown event: {error}"
            raise DamagedJournal(self.path, why) from None
        for row, event in zip(rows, events, strict=True):
            seq, job, version, epoch, at_ms, _, _, _, hash_ = row
            yield Recorded(seq, JobId(job), version, epoch, Millis(at_ms), event, bytes(hash_))

    # --- checking ---

    def check(self) -> int:
        """Everything: pages, gaps, every chain, every event, the tip. Returns the last seq."""
        self._check_integrity()
        self._check_tip()
        count, last = _one(self._db, "SELECT count(*), max(seq) FROM events")
        if count != (last or 0):
            raise DamagedJournal(self.path, f"{count} events, but the last has seq {last}")
        read = sum(1 for job in self.jobs() for _ in self.read(job))
        if read != count:
            raise DamagedJournal(self.path, f"{count} events, but only {read} belong to a job")
        return int(last or 0)

    def _check_integrity(self) -> None:
        try:
            answer = self._db.execute("PRAGMA integrity_check(1)").fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise DamagedJournal(self.path, str(error)) from error
        if answer != [("ok",)]:
            raise DamagedJournal(self.path, str(answer[0][0]))

    def _check_tip(self) -> None:
        last = self.last_seq()
        path = tip_path(self.path)
        try:
            tip = read_tip(path)
        except FileNotFoundError:
            if last:
                raise TipMissing(self.path, "is missing") from None
            return
        if tip is None:
            if last:
                raise TipMissing(self.path, "is damaged")
            return
        if tip.seq > last:
            raise JournalBehind(self.path, last, tip.seq)
        row = self._db.execute("SELECT hash FROM events WHERE seq = ?", (tip.seq,)).fetchone()
        if row is None or bytes(row[0]) != tip.hash:
            why = f"event seq {tip.seq} is not the one that was acknowledged"
            raise DamagedJournal(self.path, why)

    @staticmethod
    def renew_tip(path: Path) -> None:
        """Write a tip for what is there: the operator vouches that nothing is missing."""
        db = _connect(path)
        try:
            _check_header(path, db)
            row = db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        finally:
            db.close()
        if row is not None:
            tip = TipFile(tip_path(path), fresh=True)
            tip.write(Tip(row[0], bytes(row[1])))
            tip.close()

    # --- closing ---

    def close(self) -> None:
        self._db.close()
        if self._tip is not None:
            self._tip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Immediate:
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


def tip_path(path: Path) -> Path:
    return Path(f"{path}.tip")


def work_path(path: Path) -> Path:
    """The default work folder beside a journal."""
    return Path(f"{path}.d")


# --- opening ---


def _make_file(path: Path) -> bool:
    """Create the file with mode 0600 before SQLite sees it: its -wal and -shm inherit that."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        _check_file(path)
        return False
    except OSError as error:
        raise JournalUnreachable(path, error.strerror or str(error)) from None
    os.close(fd)
    return True


def _check_file(path: Path) -> None:
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


def _connect(path: Path) -> apsw.Connection:
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as error:
        raise JournalUnreachable(path, str(error)) from error
    db.set_busy_timeout(BUSY_MS)
    return db


@contextmanager
def _opening(path: Path) -> Iterator[apsw.Connection]:
    """A connection that is closed again if it cannot be used, with the reason as ours."""
    db = _connect(path)
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


def _one(db: apsw.Connection, sql: str) -> tuple[Any, ...]:
    """The row of a query that always has one."""
    row: Any = db.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def _is_blank(db: apsw.Connection) -> bool:
    """A process died between making the file and laying it out."""
    try:
        return _one(db, "PRAGMA page_count") == (0,)
    except apsw.Error:
        return False


def _lay_out(db: apsw.Connection) -> None:
    # The new file, and its place in the directory, are durable with the first commit.
    db.execute("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").fetchall()
    with _Immediate(db):
        db.execute(SCHEMA.read_text())
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")


def _check_header(path: Path, db: apsw.Connection) -> None:
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


def _settings(db: apsw.Connection) -> None:
    """WAL, so that others read while we write; FULL, because NORMAL loses commits at a power
    cut; checkpoints by hand, because an error inside one looks like an error of the commit."""
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0").fetchall()
    assert mode == ("wal",), mode
    assert db.pragma("synchronous") == 2


def _open_tip(path: Path) -> TipFile:
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
