"""The journal in one SQLite file: WAL, `synchronous=FULL`, append-only by trigger.

One process appends, under the lease; any number read meanwhile. Our own process never opens
the file outside SQLite: closing such a descriptor would drop SQLite's POSIX locks.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw

from journal.codec import GENESIS, chain, decode, encode
from journal.disk import DISK, Disk
from journal.errors import (
    DamagedJournal,
    EpochFenced,
    JournalBehind,
    JournalUnknown,
    JournalUnreachable,
    StalePosition,
    TipMissing,
)
from journal.looking import look
from journal.opening import (
    Immediate,
    check_file,
    check_header,
    close,
    is_blank,
    is_small,
    lay_out,
    make_file,
    one_row,
    open_tip,
    opening,
    set_durability,
    settle,
    tip_path,
)
from journal.protocol import Position, Recorded
from journal.tip import Tip, TipFile, read_tip
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

CHECKPOINT_BYTES: Final = 4 << 20
"""Event bytes between two checkpoints: bounds the WAL, keeps commits free of surprises."""
READ_ROWS: Final = 1000

Row = tuple[int, str, int, int, int, str, str, bytes, bytes]
COLUMNS: Final = "seq, job, version, epoch, recorded_at_ms, kind, entity, data, hash"


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
            journal = cls(path, db, disk)
            if is_small(db):
                journal.check_pages()
            journal.check_tip()
            settle(db)
            first = None if journal.last_seq() else Tip(0, GENESIS)
            journal._tip = open_tip(path, disk, first)
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
            tip = self._commit(job, events, expected, epoch, at_ms)
            self._tip.write(tip)
        except (apsw.Error, OSError) as error:
            raise JournalUnknown(self.path, str(error) or type(error).__name__) from error
        self._checkpoint_sometimes()
        return Position(expected + len(events), tip.seq)

    def _commit(
        self, job: JobId, events: Sequence[AnyEvent], expected: int, epoch: int, at_ms: Millis
    ) -> Tip:
        with Immediate(self._db):
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
        return int(one_row(self._db, "SELECT max(seq) FROM events")[0] or 0)

    def jobs(self) -> list[JobId]:
        """In the order in which they were asked for."""
        try:
            rows: list[Any] = self._db.execute(
                "SELECT job FROM events WHERE version = 1 ORDER BY seq"
            ).fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise DamagedJournal(self.path, str(error)) from error
        return [JobId(str(row[0])) for row in rows]

    def latest_job(self) -> JobId | None:
        """The job of the last event: the one that runs, while one runs."""
        row = self._db.execute("SELECT job FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return JobId(str(row[0])) if row is not None else None

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

    def query(self, sql: str, values: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement that only reads: for audits. Raises `DamagedJournal`."""
        try:
            rows: list[Any] = self._db.execute(sql, values).fetchall()
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
        count, last = one_row(self._db, "SELECT count(*), max(seq) FROM events")
        if count != (last or 0):
            raise DamagedJournal(self.path, f"{count} events, but the last has seq {last}")
        read = sum(1 for job in self.jobs() for _ in self.read(job, to_seq=last or 0))
        if read != count:
            raise DamagedJournal(self.path, f"{count} events, but only {read} belong to a job")
        return int(last or 0)

    def check_pages(self) -> None:
        """Raises `DamagedJournal` with what SQLite finds wrong first in the file's structure."""
        try:
            answer = self._db.execute("PRAGMA integrity_check(1)").fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise DamagedJournal(self.path, str(error)) from error
        if answer != [("ok",)]:
            raise DamagedJournal(self.path, str(answer[0][0]))

    def check_tip(self) -> None:
        """Raises `TipMissing`, `JournalBehind` or `DamagedJournal`."""
        try:
            # First of all: the journal only ever gets ahead of it.
            tip = read_tip(tip_path(self.path), self._disk)
            lost = "is damaged"
        except FileNotFoundError:
            tip, lost = None, "is missing"
        last = self.last_seq()
        if tip is None:
            if last:
                raise TipMissing(self.path, lost)
            return
        if tip.seq > last:
            raise JournalBehind(self.path, last, tip.seq)
        row = self._db.execute("SELECT hash FROM events WHERE seq = ?", (tip.seq,)).fetchone()
        if tip.seq and (row is None or bytes(row[0]) != tip.hash):
            why = f"event seq {tip.seq} is not the one that was acknowledged"
            raise DamagedJournal(self.path, why)

    @staticmethod
    def renew_tip(path: Path, disk: Disk = DISK) -> None:
        """Write a tip for what is there: the operator vouches that nothing is missing."""
        with opening(path, disk.connect) as db:
            check_header(path, db)
            row = db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            found = Tip(row[0], bytes(row[1])) if row is not None else Tip(0, GENESIS)
            tip = open_tip(path, disk, found)
            tip.write(found)  # into the second slot, whatever stood there
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
