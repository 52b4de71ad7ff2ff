"""What is run on the modelled disk, and what must be found afterwards."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final
from unittest.mock import patch

from journal.codec import GENESIS, chain, encode
from journal.sqlite import SqliteJournal
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis
from tests.faults.disk import PATH, Build, ModelDisk, Promise, Row, chance
from tests.statemachine.examples import examples

EVENTS: Final = examples()
ROWS: Final = "SELECT seq, job, version, epoch, kind, entity, data, hash FROM events ORDER BY seq"
JOBS: Final = (JobId("job-0"), JobId("job-1"), JobId("job-2"))
CHECKPOINT_BYTES: Final = 4_000
"""In the product 4 MiB: made small, so that a short run has checkpoints."""


class Writer:
    """Appends batches to a few jobs, and writes every promise into the disk's trace."""

    def __init__(self, disk: ModelDisk, draw: Random, promise: Promise) -> None:
        self._disk = disk
        self._draw = draw
        self.promise = promise

    def run(
        self, appends: int, *, most: int = 40, killed: bool = False, orderly: bool = True
    ) -> None:
        """Open, append, close, or be killed instead; unless `orderly`, an error kills too.

        Raises what the journal raises.
        """
        journal = SqliteJournal.create(PATH, self._disk)
        try:
            self.take(journal)
            for _ in range(appends):
                self.append(journal, most)
            if killed:
                self._disk.die()
        except BaseException:
            if not orderly:
                self._disk.die()
            raise
        finally:
            journal.close()

    def take(self, journal: SqliteJournal) -> None:
        """Believe what is there, as the product does."""
        found = rows(journal)
        self.promise.check(found)
        self._promised(Promise(found))

    def append(self, journal: SqliteJournal, most: int = 40) -> None:
        size = min(most, self._draw.choice((1, 1, 1, 2, 3, 8, 40)))
        events = [self._draw.choice(EVENTS) for _ in range(size)]
        job = self._draw.choice(JOBS)
        kept = self.promise.kept
        batch = following(kept, job, events)
        self._promised(Promise(kept, batch))
        journal.append(job, events, expected=batch[0][2] - 1, epoch=1, at_ms=Millis(1))
        self._promised(Promise(kept + batch))

    def one_in_four(self) -> bool:
        return self._draw.random() < 0.25

    def _promised(self, promise: Promise) -> None:
        self.promise = promise
        self._disk.trace.append(promise)


def rows(journal: SqliteJournal) -> tuple[Row, ...]:
    return tuple(journal.query(ROWS))


def following(before: tuple[Row, ...], job: str, events: list[AnyEvent]) -> tuple[Row, ...]:
    """The rows that these events must become."""
    mine = [row for row in before if row[1] == job]
    hash_, batch = (mine[-1][7] if mine else GENESIS), list[Row]()
    for n, event in enumerate(events, 1):
        version, data = len(mine) + n, encode(event)
        hash_ = chain(
            hash_,
            job=job,
            version=version,
            epoch=1,
            recorded_at_ms=1,
            kind=event.kind,
            entity=event.about,
            data=data,
        )
        batch.append((len(before) + n, job, version, 1, event.kind, event.about, data, hash_))
    return tuple(batch)


def record(seed: object, build: Build, *, appends: int = 12, most: int = 40) -> ModelDisk:
    """Three runs on one disk: made and closed, opened and killed, opened and still open."""
    disk = ModelDisk(build=build)
    writer = Writer(disk, Random(f"{seed}"), Promise())
    with chance(seed), small_checkpoints():
        writer.run(appends, most=most)
        writer.run(appends, most=most, killed=True)
        writer.run(appends, most=most)
    return disk


def recover(disk: ModelDisk, promise: Promise, seed: object) -> ModelDisk:
    """Open as the product does, find what was promised, append, close, and find that too."""
    writer = Writer(disk, Random(f"{seed}"), promise)
    with chance(seed):
        writer.run(1, most=3)
        with SqliteJournal.create(PATH, disk) as again:
            writer.take(again)
            if writer.one_in_four():
                again.check()
    return disk


@contextmanager
def small_checkpoints() -> Iterator[None]:
    with patch("journal.sqlite.CHECKPOINT_BYTES", CHECKPOINT_BYTES):
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """SQLite goes on where an error does not matter to it; apsw says so on stderr."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda it: None if "struck" in str(it.exc_value) else before(it)
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def repeatable(what: str, lot: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"repeat with: python -m tests.faults {what} {lot}")
        raise
