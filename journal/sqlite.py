"""The journal in one SQLite file: WAL, `synchronous=FULL`, append-only by trigger.

One process appends, under the lease; any number read meanwhile. Our own process never opens
the file outside SQLite: closing such a descriptor would drop SQLite's POSIX locks.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw

from journal.codec import GENESIS
from journal.disk import DISK, Disk
from journal.errors import (
    EpochFenced,
    JobElsewhere,
    JournalUnknown,
    JournalUnreachable,
    StalePosition,
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
    open_tip,
    opening,
    set_durability,
)
from journal.protocol import Position
from journal.reading import Reading
from journal.rows import COLUMNS, Row, made
from journal.tip import Tip, TipFile
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

CHECKPOINT_BYTES: Final = 4 << 20
CHECKPOINT_COMMITS: Final = 1000
"""Event bytes and commits between two checkpoints: bound the WAL (a commit writes some 27 KB
into it, however small it is), keep commits free of surprises."""
BACKUP_PAGES: Final = 1000
"""Copied at a time."""

INSERT: Final = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteJournal(Reading):
    """See `journal.protocol.Journal` for the promise.

    `create` makes a new file or opens an existing one for appending; `read_only` opens one to
    look. Both check the header and the tip. Neither trusts a row before its hash is checked.
    """

    def __init__(self, path: Path, connection: apsw.Connection, disk: Disk = DISK) -> None:
        super().__init__(path, connection, disk)
        self._leave = ExitStack()
        self._tip: TipFile | None = None
        self._uncheckpointed = self._commits = 0

    @classmethod
    def create(cls, path: Path, disk: Disk = DISK) -> Self:
        """Open for appending. The caller holds the lease."""
        fresh = make_file(path, disk)
        with opening(path, disk.connect) as db:
            if fresh or is_blank(db):
                lay_out(db)
            check_header(path, db)
            set_durability(db)
            journal = cls(path, db, disk)
            if is_small(db):
                journal.check_pages()
            journal.check_ends()
            journal.check_tip()
            if db.pragma("user_version") < FORMAT:
                migrate(db)
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
            end, tip = self._commit(job, events, expected, epoch, at_ms)
            self._tip.write(tip)
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error
        self._checkpoint_sometimes()
        return end

    def _commit(
        self, job: JobId, events: Sequence[AnyEvent], expected: int, epoch: int, at_ms: Millis
    ) -> tuple[Position, Tip]:
        """Where the events end, and the file; the two differ when the events were there before."""
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
                if (position := self._repeated(job, rows)) is None:
                    raise StalePosition(job, expected, found)
                return position, self.end()
            self._db.executemany(INSERT, rows)
        self._uncheckpointed += sum(len(row[7]) for row in rows)
        seq, _, version, *_, hash_ = rows[-1]
        return Position(version, seq, hash_), Tip(seq, hash_)

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

    def adopt(
        self,
        job: JobId,
        history: Iterator[list[Row]],
        events: Sequence[AnyEvent],
        *,
        epoch: int,
        at_ms: Millis,
    ) -> None:
        """Append what another journal holds of a job behind what this one holds of it, every hash
        as it was, and then these events: all or nothing, in one commit.

        `history` is the job's whole history, checked. Raises `JobElsewhere` when the two do not
        have the same beginning or this one goes further.
        """
        assert self._tip is not None, "opened to look"
        try:
            with Immediate(self._db):
                version, end = self._adopted(job, history)
                rows = made(
                    events,
                    job=job,
                    seq=self.last_seq(),
                    version=version,
                    before=end,
                    epoch=epoch,
                    at_ms=at_ms,
                )
                self._db.executemany(INSERT, rows)
            self._tip.write(self.end())
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error

    def _adopted(self, job: JobId, history: Iterator[list[Row]]) -> tuple[int, bytes]:
        """The job's last version and hash, now that its history is here."""
        known, _, last_hash = self._last(job)
        seq, version, hash_ = self.last_seq(), 0, GENESIS
        for rows in history:
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
        return version, hash_

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
        self._commits += 1
        if self._uncheckpointed < CHECKPOINT_BYTES and self._commits < CHECKPOINT_COMMITS:
            return
        self._uncheckpointed = self._commits = 0
        # The commit is durable already. A checkpoint that fails loses nothing and is tried
        # again; if the disk is the reason, the next commit will say so.
        with suppress(apsw.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

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
