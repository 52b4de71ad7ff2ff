"""The inbox: requests of other terminals, in a SQLite file of its own.

The journal keeps exactly one writing process; whoever else wants something leaves it here and
the engine turns it into a stimulus. A request is removed once the journal holds its event;
its number keeps a second delivery from counting.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from journal.errors import JournalUnreachable


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    job: str
    verb: str
    by: str
    details: dict[str, str]


class Inbox:
    """Requests in the order in which they were left."""

    def __init__(self, journal: Path) -> None:
        self.path = Path(f"{journal}.inbox")

    def leave(self, job: str, verb: str, by: str, *, above: int = 0, **details: str) -> int:
        """Durable when it returns; the number of the request.

        It is greater than `above`: the highest number that the job has answered. The job may have
        come from another journal, and numbers below count as answered.
        """
        with self._open() as db:
            row = db.execute(
                "INSERT INTO requests (id, job, verb, by, details) VALUES (1 + max(?, coalesce("
                "(SELECT seq FROM sqlite_sequence WHERE name = 'requests'), 0)), ?, ?, ?, ?) "
                "RETURNING id",
                (above, job, verb, by, json.dumps(details)),
            ).fetchone()
        assert row is not None
        return int(row[0])

    def waiting(self, job: str) -> list[Request]:
        if not self.path.exists():
            return []
        with self._open() as db:
            rows: list[Any] = db.execute(
                "SELECT id, job, verb, by, details FROM requests WHERE job = ? ORDER BY id", (job,)
            ).fetchall()
            return [
                Request(id_, of, verb, by, json.loads(details))
                for id_, of, verb, by, details in rows
            ]

    def clear(self) -> None:
        """What was left for a run that is over is not meant for the next."""
        if self.path.exists():
            with self._open() as db:
                db.execute("DELETE FROM requests")

    def remove(self, requests: list[Request]) -> None:
        if not requests:
            return
        with self._open() as db:
            db.executemany("DELETE FROM requests WHERE id = ?", [(each.id,) for each in requests])

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = apsw.Connection(str(self.path))
            db.set_busy_timeout(10_000)
            db.execute(
                "CREATE TABLE IF NOT EXISTS requests ("
                " id INTEGER PRIMARY KEY AUTOINCREMENT,"  # never given twice
                " job TEXT NOT NULL, verb TEXT NOT NULL, by TEXT NOT NULL,"
                " details TEXT NOT NULL) STRICT"
            )
        except (apsw.Error, OSError) as error:
            raise JournalUnreachable(self.path, str(error)) from error
        try:
            with db:
                yield db
        except (apsw.Error, ValueError) as error:
            raise JournalUnreachable(self.path, str(error)) from error
        finally:
            db.close()
