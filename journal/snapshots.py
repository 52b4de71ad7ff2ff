"""Snapshots: folds of a journal's beginnings, kept in a file of their own to start faster.

A cache and nothing more: each says at which event it was taken and under which rules, and
carries a checksum. One that is missing, damaged, of other rules or of another history counts
as none. Deleting the file changes nothing but time.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from journal.errors import JournalUnreachable
from journal.protocol import Position
from statemachine.words import JobId

BUSY_MS: Final = 200
"""Waiting longer for a cache than folding takes would be no help."""
TABLE: Final = """
CREATE TABLE IF NOT EXISTS snapshots (
    job      TEXT    NOT NULL,
    version  INTEGER NOT NULL,  -- of the last event that was folded
    seq      INTEGER NOT NULL,  -- of that event
    hash     BLOB    NOT NULL,  -- of that event
    rules    TEXT    NOT NULL,  -- fingerprint of the code that folded
    data     BLOB    NOT NULL,  -- opaque here
    checksum BLOB    NOT NULL,  -- SHA-256 over all of the above
    PRIMARY KEY (job, version)
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    position: Position
    data: bytes


class Snapshots:
    """Of all jobs of one journal."""

    def __init__(self, journal: Path, rules: str) -> None:
        self.path = Path(f"{journal}.snapshots")
        self._rules = rules

    def of(self, job: JobId, *, to_seq: int | None = None) -> Iterator[Snapshot]:
        """The usable ones up to that seq, the newest first; none when there is any trouble."""
        limit = to_seq if to_seq is not None else 2**62
        with suppress(apsw.Error, UnicodeDecodeError), self._open(apsw.SQLITE_OPEN_READONLY) as db:
            rows: Any = db.execute(
                "SELECT version, seq, hash, data, checksum FROM snapshots "
                "WHERE job = ? AND rules = ? AND seq <= ? ORDER BY version DESC",
                (job, self._rules, limit),
            )
            for version, seq, hash_, data, checksum in rows:
                position = Position(version, seq, hash_)
                if checksum == self._checksum(job, position, data):
                    yield Snapshot(position, data)

    def save(self, job: JobId, position: Position, data: bytes) -> None:
        """Keep one, thin out the older ones. Raises `JournalUnreachable`: nothing is lost then,
        and the next one may succeed."""
        try:
            try:
                self._write(job, position, data)
            except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError):
                self.path.unlink()  # a kill in the middle of a write
                self._write(job, position, data)
        except (apsw.Error, OSError) as error:
            raise JournalUnreachable(self.path, str(error)) from error

    def _write(self, job: JobId, position: Position, data: bytes) -> None:
        checksum = self._checksum(job, position, data)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)
        os.close(fd)
        with self._open(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) as db:
            db.execute(
                f"PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; {TABLE}"
            ).fetchall()
            with db:
                db.execute("DELETE FROM snapshots WHERE rules <> ?", (self._rules,))
                db.execute(
                    "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (job, *position, self._rules, data, checksum),
                )
                rows: Any = db.execute("SELECT version FROM snapshots WHERE job = ?", (job,))
                for version in thinned([row[0] for row in rows]):
                    db.execute(
                        "DELETE FROM snapshots WHERE job = ? AND version = ?", (job, version)
                    )

    def _checksum(self, job: JobId, position: Position, data: bytes) -> bytes:
        head = struct.pack("<qq", position.version, position.seq)
        parts = (job.encode(), b"\0", self._rules.encode(), head, position.hash, data)
        return hashlib.sha256(b"".join(parts)).digest()

    @contextmanager
    def _open(self, flags: int) -> Iterator[apsw.Connection]:
        db = apsw.Connection(str(self.path), flags=flags)
        try:
            db.set_busy_timeout(BUSY_MS)
            yield db
        finally:
            db.close()


def thinned(versions: list[int]) -> list[int]:
    """Which to drop, so that one stays for each doubling of the distance to the newest."""
    newest = max(versions)
    kept: dict[int, int] = {}
    for version in sorted(versions, reverse=True):
        kept[(newest - version).bit_length()] = version  # the oldest of each distance
    return [version for version in versions if version not in kept.values()]
