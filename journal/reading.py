"""What a journal answers: its events, checked as they are read, and whether it is whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from journal.codec import GENESIS
from journal.disk import Disk
from journal.errors import DamagedJournal, JournalBehind, JournalUnreachable, TipMissing
from journal.opening import reason, tip_path
from journal.protocol import Page, Position, Recorded
from journal.rows import COLUMNS, Row, check, page, recorded
from journal.tip import Tip, read_tip
from statemachine.words import JobId, Millis

READ_ROWS: Final = 1000
JOBS: Final = (
    "WITH RECURSIVE found (job) AS ("
    " SELECT min(job) FROM events UNION"  # not UNION ALL: a damaged index may lead in circles
    " SELECT (SELECT min(job) FROM events WHERE job > found.job)"
    "  FROM found WHERE job IS NOT NULL)"
)
"""Every job, with one lookup for each."""


class Reading:
    """A journal that is open. Every question raises `DamagedJournal`, or `JournalUnreachable`
    when the disk is to blame."""

    def __init__(self, path: Path, connection: apsw.Connection, disk: Disk) -> None:
        self.path = path
        self._db = connection
        self._disk = disk

    def last_seq(self) -> int:
        return int(self.query("SELECT max(seq) FROM events")[0][0] or 0)

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
        """The job's events behind a version, up to a seq, in order, each with its hash checked."""
        for rows in self.rows(job, after=after, to_seq=to_seq):
            yield from recorded(self.path, rows)

    def pages(self, job: JobId, *, after: int = 0, to_seq: int | None = None) -> Iterator[Page]:
        """The same by the thousand, without envelopes: see the protocol."""
        for rows in self.rows(job, after=after, to_seq=to_seq):
            yield page(self.path, rows)

    def rows(self, job: JobId, *, after: int = 0, to_seq: int | None = None) -> Iterator[list[Row]]:
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
        rows = self.query(
            "SELECT seq, hash FROM events WHERE job = ? AND version = ?", (job, position.version)
        )
        return rows == [(position.seq, position.hash)]

    def _hash_at(self, job: JobId, version: int) -> bytes:
        if version == 0:
            return GENESIS
        rows = self.query("SELECT hash FROM events WHERE job = ? AND version = ?", (job, version))
        if not rows:
            raise DamagedJournal(self.path, f"job {job} has no version {version}")
        return bytes(rows[0][0])

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
        """The rows of one statement that only reads."""
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
        last = self.last_seq()
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
