"""The journal in one SQLite file: WAL, `synchronous=FULL`, append-only by trigger.

One process appends, under the lease; any number read meanwhile. Our own process never opens
the file outside SQLite: closing such a descriptor would drop SQLite's POSIX locks.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import apsw

from journal.codec import GENESIS
from journal.disk import DISK, Disk
from journal.errors import (
    DamagedJournal,
    EpochFenced,
    JobElsewhere,
    JournalBehind,
    JournalUnknown,
    JournalUnreachable,
    StalePosition,
    TipMissing,
)
from journal.looking import look
from journal.opening import (
    FORMAT,
    Immediate,
    check_file,
    check_header,
    close,
    drain,
    is_blank,
    is_small,
    lay_out,
    make_file,
    migrate,
    one_row,
    open_tip,
    opening,
    reason,
    set_durability,
    tip_path,
)
from journal.protocol import Position, Recorded
from journal.rows import COLUMNS, Row, check, made, recorded
from journal.tip import Tip, TipFile, read_tip
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

CHECKPOINT_BYTES: Final = 4 << 20
"""Event bytes between two checkpoints: bounds the WAL, keeps commits free of surprises."""
READ_ROWS: Final = 1000
JOBS: Final = (
    "WITH RECURSIVE found (job) AS ("
    " SELECT min(job) FROM events UNION"  # not UNION ALL: a damaged index may lead in circles
    " SELECT (SELECT min(job) FROM events WHERE job > found.job)"
    "  FROM found WHERE job IS NOT NULL)"
)
"""Every job, with one lookup for each."""
BACKUP_PAGES: Final = 1000
"""Copied at a time."""

INSERT: Final = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteJournal:
    """See `journal.protocol.Journal` for the promise.

    `create` makes a new file or opens an existing one for appending; `read_only` opens one to
    look. Both check the header and the tip. Neither trusts a row before its hash is checked.
    """

    def __init__(self, path: Path, connection: apsw.Connection, disk: Disk = DISK) -> None:
        self.path = path
        self._db = connection
        self._disk = disk
        self._leave = ExitStack()
        self._tip: TipFile | None = None
        self._uncheckpointed = 0

    @classmethod
    def create(cls, path: Path, disk: Disk = DISK) -> Self:
        """Open for appending. The caller holds the lease."""
        fresh = make_file(path, disk)
        with opening(path, disk.connect) as db:
            if fresh or is_blank(db):
                lay_out(db)
            check_header(path, db)
            set_durability(db)
            if db.pragma("user_version") < FORMAT:
                migrate(db)
            journal = cls(path, db, disk)
            if is_small(db):
                journal.check_pages()
            journal.check_ends()
            journal.check_tip()
            drain(path, db, disk)
            # What is found now is believed from now on: it counts as acknowledged.
            journal._tip = open_tip(path, disk, journal.end())
        return journal

    @classmethod
    def read_only(cls, path: Path, *, trusted: bool = True) -> Self:
        """Open to look: nothing of the journal is changed, a running process is not disturbed.

        Works on a full disk and on a read-only file system too. `trusted=False` opens a journal
        that does not fit its tip, too: for forensics alone.
        """
        check_file(path, DISK)
        with ExitStack() as leave, opening(path, partial(look, leave=leave)) as db:
            if is_blank(db):
                raise JournalUnreachable(
                    path, "it is empty: its making was interrupted", "`ferrylog start` lays it out"
                )
            check_header(path, db)
            db.pragma("query_only", 1)
            journal = cls(path, db)
            if trusted:
                journal.check_ends()
                journal.check_tip()
            journal._leave = leave.pop_all()
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
            end = self._commit(job, events, expected, epoch, at_ms)
            self._tip.write(Tip(end.seq, end.hash))
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error
        self._checkpoint_sometimes()
        return end

    def _commit(
        self, job: JobId, events: Sequence[AnyEvent], expected: int, epoch: int, at_ms: Millis
    ) -> Position:
        with Immediate(self._db):
            found, last_epoch, before = self._last(job)
            if last_epoch > epoch:
                raise EpochFenced(job, epoch, last_epoch)
            seq = self.last_seq()
            if found != expected:
                before = self._hash_at(job, min(expected, found))
            rows = made(
                events,
                job=job,
                seq=seq,
                version=expected,
                before=before,
                epoch=epoch,
                at_ms=at_ms,
            )
            if found != expected:
                return self._repeated(job, rows) or self._refuse(job, expected, found)
            self._db.executemany(INSERT, rows)
        self._uncheckpointed += sum(len(row[7]) for row in rows)
        seq, _, version, *_, hash_ = rows[-1]
        return Position(version, seq, hash_)

    def _repeated(self, job: JobId, rows: Sequence[Row]) -> Position | None:
        """Where the last of these events stands, if they stand in the journal already.

        An event's hash is its identity: it covers all of it and all before it. So an append
        whose outcome was unknown may be repeated, and nothing is appended twice.
        """
        version, hash_ = rows[-1][2], rows[-1][8]
        row = self._db.execute(
            "SELECT seq FROM events WHERE job = ? AND version = ? AND hash = ?",
            (job, version, hash_),
        ).fetchone()
        return Position(version, row[0], hash_) if row is not None else None

    def _refuse(self, job: JobId, expected: int, found: int) -> NoReturn:
        raise StalePosition(job, expected, found)

    def adopt(self, job: JobId, pages: Iterator[list[Row]]) -> None:
        """Append what another journal holds of a job behind what this one holds of it: all or
        nothing, in one commit, every hash as it was.

        `pages` are the job's whole history, checked. Raises `JobElsewhere` when the two do not
        have the same beginning or this one goes further.
        """
        assert self._tip is not None, "opened to look"
        try:
            with Immediate(self._db):
                tip = self._adopted(job, pages)
            self._tip.write(tip)
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error

    def _adopted(self, job: JobId, pages: Iterator[list[Row]]) -> Tip:
        known, _, last_hash = self._last(job)
        seq, version = self.last_seq(), 0
        for rows in pages:
            new: list[Row] = []
            for row in rows:
                version, hash_ = row[2], row[8]
                if version == known and hash_ != last_hash:
                    raise JobElsewhere(job, self.path, "its history there and here differ")
                if version > known:
                    seq += 1
                    new.append((seq, *row[1:]))
            self._db.executemany(INSERT, new)
        if version < known:
            why = f"it goes on here up to its event {known}, the file ends with {version}"
            raise JobElsewhere(job, self.path, why)
        return self._newest()

    def _newest(self) -> Tip:
        """The last event of the file."""
        row = self._db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return Tip(row[0], row[1]) if row is not None else Tip(0, GENESIS)

    def backup_into(self, db: apsw.Connection) -> None:
        """Copy the whole file as it stands now, while a run goes on writing."""
        with self._db:  # one view of the file for all steps
            self.last_seq()
            with db.backup("main", self._db, "main") as backup:
                while not backup.done:
                    backup.step(BACKUP_PAGES)

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
        return int(one_row(self._db, "SELECT max(seq) FROM events")[0] or 0)

    def jobs(self) -> list[JobId]:
        """In the order in which they were asked for; one lookup for each."""
        rows = self.query(
            f"{JOBS} SELECT job FROM found JOIN events USING (job) WHERE version = 1 ORDER BY seq"
        )
        return [JobId(str(row[0])) for row in rows]

    def latest_job(self) -> JobId | None:
        """The job of the last event: the one that runs, while one runs."""
        rows = self.query("SELECT job FROM events ORDER BY seq DESC LIMIT 1")
        return JobId(str(rows[0][0])) if rows else None

    def read(self, job: JobId, *, after: int = 0, to_seq: int | None = None) -> Iterator[Recorded]:
        """See the protocol; `to_seq` ends the reading after that global position."""
        for rows in self.pages(job, after=after, to_seq=to_seq):
            yield from recorded(self.path, rows)

    def pages(
        self, job: JobId, *, after: int = 0, to_seq: int | None = None
    ) -> Iterator[list[Row]]:
        """The same as rows, checked but not decoded, by the thousand."""
        before, version = self._hash_at(job, after), after
        for rows in self._batches(job, after, to_seq):
            before = check(self.path, rows, job=job, version=version, before=before)
            version += len(rows)
            yield rows

    def last_before(
        self, job: JobId, *, seq: int | None = None, at_ms: Millis | None = None
    ) -> int | None:
        """The seq of the job's last event up to a place or a time; `None` before the first.

        Clocks jump: of events recorded up to that time, the last in order.
        """
        where, limit = ("seq", seq) if seq is not None else ("recorded_at_ms", at_ms)
        (row,) = self.query(
            f"SELECT max(seq) FROM events WHERE job = ? AND {where} <= ?", (job, limit or 0)
        )
        return None if row[0] is None else int(row[0])

    def holds(self, job: JobId, position: Position) -> bool:
        """Whether this very event stands at this place."""
        row = self._db.execute(
            "SELECT seq, hash FROM events WHERE job = ? AND version = ?", (job, position.version)
        ).fetchone()
        return row == (position.seq, position.hash)

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
            # Asked before the rows, of which there are only ever more.
            last = self._last_version(job) if to_seq is None else after
            rows: list[Any] = self.query(
                f"SELECT {COLUMNS} FROM events WHERE job = ? AND version > ? AND seq <= ? "
                "ORDER BY version LIMIT ?",
                (job, after, limit, READ_ROWS),
            )
            if not rows:
                if last > after:
                    why = f"job {job} has version {last}, but nothing is found after {after}"
                    raise DamagedJournal(self.path, why)
                return
            yield rows
            after = rows[-1][2]

    def _last_version(self, job: JobId) -> int:
        ((last,),) = self.query("SELECT max(version) FROM events WHERE job = ?", (job,))
        return int(last or 0)

    def query(self, sql: str, values: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement that only reads: for audits.

        Raises `DamagedJournal`, or `JournalUnreachable` when the disk is to blame.
        """
        try:
            rows: list[Any] = self._db.execute(sql, values).fetchall()
        except (apsw.IOError, apsw.BusyError, apsw.FullError, apsw.CantOpenError) as error:
            raise JournalUnreachable(self.path, str(error)) from error
        except (apsw.Error, UnicodeDecodeError) as error:
            raise DamagedJournal(self.path, f"a row cannot be read: {error}") from error
        return rows

    # --- checking ---

    def check(self) -> int:
        """Everything: pages, gaps, every chain, every event, the tip. Returns the last seq.

        Of a journal that is being written, everything up to the event that is the last now.
        """
        self.check_pages()
        self.check_tip()
        ((count, last),) = self.query("SELECT count(*), max(seq) FROM events")
        if count != (last or 0):
            raise DamagedJournal(self.path, f"{count} events, but the last has seq {last}")
        read = sum(1 for job in self.jobs() for _ in self.read(job, to_seq=last or 0))
        if read != count:
            raise DamagedJournal(self.path, f"{count} events, but only {read} belong to a job")
        return int(last or 0)

    def check_pages(self) -> None:
        """Raises `DamagedJournal` with what SQLite finds wrong first in the file's structure."""
        answer = self.query("PRAGMA integrity_check(1)")
        if answer != [("ok",)]:
            raise DamagedJournal(self.path, str(answer[0][0]))

    def check_ends(self) -> None:
        """Whether the jobs' last versions add up to the last seq, in no time even when a full
        check takes minutes: a damaged index must not hide how a job ended.

        Raises `DamagedJournal`.
        """
        ((last, versions),) = self.query(
            f"{JOBS} SELECT (SELECT max(seq) FROM events), total((SELECT max(version) FROM events "
            "WHERE job = found.job)) FROM found WHERE job IS NOT NULL"
        )
        if (last or 0) != versions:
            why = f"the last event has seq {last}, but the jobs have {versions:.0f} events"
            raise DamagedJournal(self.path, why)

    def check_tip(self) -> None:
        """Raises `TipMissing`, `JournalBehind` or `DamagedJournal`."""
        try:
            # First of all: the journal only ever gets ahead of it.
            tip = read_tip(tip_path(self.path), self._disk)
            lost = "is damaged"
        except FileNotFoundError:
            tip, lost = None, "is missing"
        except OSError as error:
            raise JournalUnreachable(self.path, reason(error)) from None
        last = self.query("SELECT max(seq) FROM events")[0][0] or 0
        if tip is None:
            if last:
                raise TipMissing(self.path, lost)
            return
        if tip.seq > last:
            raise JournalBehind(self.path, last, tip.seq)
        found = self.query("SELECT hash FROM events WHERE seq = ?", (tip.seq,))
        if tip.seq and found != [(tip.hash,)]:
            why = f"event seq {tip.seq} is not the one that was acknowledged"
            raise DamagedJournal(self.path, why)

    def end(self) -> Tip:
        """The last event of the file."""
        rows = self.query("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")
        return Tip(*rows[0]) if rows else Tip(0, GENESIS)

    @staticmethod
    def renew_tip(path: Path, disk: Disk = DISK) -> None:
        """Write a tip for what is there: the operator vouches that nothing is missing."""
        with opening(path, disk.connect) as db:
            check_header(path, db)
            found = SqliteJournal(path, db).end()
            tip = open_tip(path, disk, found)
            tip.write(found)  # into both slots, whatever stood there
            tip.write(found)
            tip.close()
            close(db)

    # --- closing ---

    def close(self) -> None:
        """Nothing is lost by an error in here, so none is raised."""
        close(self._db)
        with suppress(OSError):
            if self._tip is not None:
                self._tip.close()
            self._leave.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
