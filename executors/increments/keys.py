"""Which documents changed: the keys of a capture, on disk, each once.

A scratch database of the job's work folder. Whoever has it damaged begins the capture anew; what
must not happen is that keys are missing from it without a word.
"""

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from executors.chunkfile import sync_directory
from executors.increments.errors import DamagedKeys
from executors.increments.keyorder import order

APPLICATION: Final = 0x464C4B59
"""`FLKY`, in the head of the file: it is one of these."""
PAGE_BYTES: Final = 16 << 10
"""Keys come in no order: fewer pages are touched by as many of them."""
LEAST_CACHE_BYTES: Final = 256 << 10
ENTRY_BYTES: Final = 200
"""What a key takes in memory beside its bytes: two `bytes`, a place in a dict and in a list."""
LOCKED_S: Final = 60
_SCHEMA: Final = f"""
    PRAGMA page_size = {PAGE_BYTES};
    PRAGMA journal_mode = WAL;
    BEGIN IMMEDIATE;
    CREATE TABLE keys (
        uuid BLOB NOT NULL,   -- of the collection
        key  BLOB NOT NULL,   -- what `keyorder.order` makes of the next
        id   BLOB NOT NULL,   -- the document {{_id: <value>}}
        PRIMARY KEY (uuid, key)
    ) WITHOUT ROWID;
    CREATE TABLE reached (token TEXT NOT NULL);  -- one row: the stream up to here is in `keys`
    INSERT INTO reached VALUES ('');
    PRAGMA application_id = {APPLICATION};
    COMMIT;
"""
_FAILURES: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EAGAIN,
    sqlite3.SQLITE_LOCKED: errno.EAGAIN,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
"""What is no fault of the file's."""


DROPPED: Final = b""
"""In the place of a key: the collection was dropped. No value is written so."""


class Keys:
    """The keys that were flushed. Any number of threads may read at once, also while they are
    written: what a call returns is as of its beginning.

    Every method raises `DamagedKeys`, also where there is no such file, and `OSError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """Where the stream of changes goes on: what the last `flush` was told."""
        with self._reading() as db:
            return str(db.execute("SELECT token FROM reached").fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Keys by collection, those that have some."""
        with self._reading() as db:
            found = db.execute("SELECT uuid, count(*) FROM keys GROUP BY uuid")
            return {uuid.hex(): number for uuid, number in found}

    def count(self, uuid: str) -> int:
        with self._reading() as db:
            asked = "SELECT count(*) FROM keys WHERE uuid = ?"
            return int(db.execute(asked, (bytes.fromhex(uuid),)).fetchone()[0])

    def was_dropped(self, uuid: str) -> bool:
        """Whether the collection was dropped: what has its UUID now is another one."""
        with self._reading() as db:
            asked = "SELECT 1 FROM keys WHERE uuid = ? AND key = ?"
            return db.execute(asked, (bytes.fromhex(uuid), DROPPED)).fetchone() is not None

    def boundaries(self, uuid: str, every: int) -> list[bytes]:
        """The id documents at which the second, the third, … `every` keys begin."""
        asked = "SELECT key, id FROM keys WHERE uuid = ? AND key >= ? ORDER BY key LIMIT 1 OFFSET ?"
        found: list[bytes] = []
        key = b""
        with self._reading() as db:
            while row := db.execute(asked, (bytes.fromhex(uuid), key, every)).fetchone():
                key = row[0]
                found.append(row[1])
        return found

    def between(self, uuid: str, lower: bytes | None, upper: bytes | None) -> Iterator[bytes]:
        """Id documents in their order, `lower` included, `upper` not; `None`: open."""
        asked, values = "SELECT id FROM keys WHERE uuid = ?", [bytes.fromhex(uuid)]
        for bound, comparison in ((lower, "key >= ?"), (upper, "key < ?")):
            if bound is not None:
                asked += f" AND {comparison}"
                values.append(order(bound))
        with self._reading() as db:
            for (id_document,) in db.execute(f"{asked} ORDER BY key", values):
                yield id_document

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _told(self._path), closing(_connected(self._path)) as db:
            _must_be_ours(self._path, db)
            db.execute("PRAGMA query_only = ON")
            yield db


class ChangedKeys(Keys):
    """Takes keys; one thread, one writer of a file. As long as it lives it takes `memory_bytes`
    at the most, however many keys there are. A context manager that closes it, without a flush."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        """Makes the file where there is none. Raises `DamagedKeys`, `OSError`."""
        super().__init__(path)
        self._most = memory_bytes // 2
        self._buffer: dict[str, dict[bytes, bytes]] = {}
        self._held = 0
        with _told(path):
            if not path.exists() or not path.stat().st_size:
                _make(path)
            self._db = _connected(path)
            _must_be_ours(path, self._db)
            cache = max(LEAST_CACHE_BYTES, memory_bytes // 2) >> 10
            self._db.execute(f"PRAGMA cache_size = -{cache}")
            self._db.execute("PRAGMA synchronous = FULL")

    def add(self, changes: Iterable[tuple[str, bytes]]) -> None:
        """Collections by UUID, with `{_id: <value>}` of a document of theirs that changed. Of two
        ways to write one key (1, 1.0), the later one stays."""
        for uuid, id_document in changes:
            key = order(id_document)
            keys = self._buffer.get(uuid)
            if keys is None:
                keys = self._buffer[uuid] = {}
            if key not in keys:
                self._held += len(key) + len(id_document) + ENTRY_BYTES
            keys[key] = id_document
            if self._held >= self._most:
                self._write()

    def dropped(self, uuid: str) -> None:
        """The collection is gone; its keys are of no use any more."""
        self._buffer.setdefault(uuid, {})[DROPPED] = b""

    def flush(self, token: str = "") -> None:
        """All that was added is durable when this returns, and with it the token."""
        self._write(token)

    def close(self) -> None:
        """What was added since the last flush may be lost."""
        with _told(self._path):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, token: str = "") -> None:
        """Sorted: neighbours lie on one page."""
        with _told(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for uuid in sorted(self._buffer):
                keys, raw = self._buffer[uuid], bytes.fromhex(uuid)
                rows = ((raw, key, keys[key]) for key in sorted(keys))
                self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", rows)
            if token:
                self._db.execute("UPDATE reached SET token = ?", (token,))
        self._buffer.clear()
        self._held = 0


def discard(path: Path) -> None:
    """Remove the file and what SQLite keeps beside it, for a capture that begins anew."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _make(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(_connected(path)) as db:
        db.executescript(_SCHEMA)
    sync_directory(path.parent)


def _connected(path: Path) -> sqlite3.Connection:
    """Without transactions of the module's own; never makes a file."""
    where = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(where, uri=True, isolation_level=None, timeout=LOCKED_S)


def _must_be_ours(path: Path, db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise DamagedKeys(str(path), "it is no database of changed keys")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as those of a disk, or of a damaged file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FAILURES and path.exists():
            raise OSError(_FAILURES[code], f"changed keys: {error}", str(path)) from error
        why = str(error) if path.exists() else "it is not there"
        raise DamagedKeys(str(path), why) from error
