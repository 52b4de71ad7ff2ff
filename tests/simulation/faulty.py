"""The real journal, in which appends meet their fate."""

import errno
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import apsw

from journal.errors import JournalUnknown
from journal.protocol import Page, Position, Recorded
from journal.sqlite import SqliteJournal
from journal.tip import Tip
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis
from tests.simulation.world import Crash


class Fate(StrEnum):
    """Of one append."""

    FINE = "fine"
    CRASH_BEFORE = "crash_before_commit"
    CRASH_AFTER = "crash_after_commit"
    FAILED = "commit_failed"
    """It raises; nothing was written."""
    UNKNOWN = "commit_unknown"
    """It raises; everything was written."""


class FaultyJournal:
    """The real journal, whose appends meet their fate; `version` is what must be found again."""

    def __init__(self, path: Path, fate: Callable[[], Fate]) -> None:
        self._path = path
        self._fate = fate
        self._inner: SqliteJournal | None = None
        self._unheard: Callable[[], Position] | None = None
        """Repeats the append that nobody was told of."""
        self.version = 0
        self.full = False

    @property
    def inner(self) -> SqliteJournal:
        assert self._inner is not None
        return self._inner

    def open(self) -> None:
        self.close()
        self._inner = SqliteJournal.create(self._path)
        if self._unheard is not None:
            assert self._unheard().version == self.version, "I3: appended twice"
            self._unheard = None

    def kill(self) -> None:
        """What a dead process leaves: no last checkpoint."""
        if self._inner is not None:
            self._inner._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None

    def pages(self, job: JobId, *, after: int = 0) -> Iterator[Page]:
        return self.inner.pages(job, after=after)

    def read(self, job: JobId, *, after: int = 0) -> Iterator[Recorded]:
        return self.inner.read(job, after=after)

    def append(
        self, job: JobId, events: Sequence[AnyEvent], *, expected: int, epoch: int, at_ms: Millis
    ) -> Position:
        fate = self._fate()
        if fate is Fate.CRASH_BEFORE:
            raise Crash
        self._arm(fate)

        def append() -> Position:
            return self.inner.append(job, events, expected=expected, epoch=epoch, at_ms=at_ms)

        try:
            position = append()
        except JournalUnknown as error:
            if isinstance(error.__cause__, OSError):  # of the tip: the commit came before it
                self.version += len(events)
                self._unheard = append
            raise
        self.version = position.version
        if fate is Fate.CRASH_AFTER:
            self._unheard = append
            raise Crash
        return position

    def _arm(self, fate: Fate) -> None:
        """Make the file system or SQLite itself fail, so that the journal's own path is taken."""
        db, tip = self.inner._db, self.inner._tip
        if fate is Fate.FAILED:
            db.set_commit_hook(lambda: True)
        elif fate is Fate.UNKNOWN:
            tip.write = _no_space  # type: ignore[method-assign, union-attr] # after the commit
        elif self.full:
            db.execute(f"PRAGMA max_page_count = {db.pragma('page_count')}")


def _no_space(tip: Tip) -> None:
    raise OSError(errno.ENOSPC, "simulated")
