"""The harness finds what it is there to find: the product is broken on purpose, and noticed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from journal.sqlite import SqliteJournal
from journal.tip import Tip
from tests.counts import count
from tests.faults.damage import damaged, large_journal, shorter_pages
from tests.faults.disk import Build, ModelDisk
from tests.faults.io_errors import Sweep
from tests.faults.power_cut import PowerCuts
from tests.faults.verdict import verdict, verdicts
from tests.faults.workload import record

FULL = "synchronous = FULL"
APPEND = SqliteJournal.append


def without_tip() -> AbstractContextManager[Any]:
    return patch("journal.sqlite.SqliteJournal.check_tip", lambda self: None)


@pytest.mark.parametrize("instead", ["NORMAL", "OFF"])
def test_a_weaker_synchronous_loses_events(instead: str) -> None:
    """I4: `synchronous` of a lesser kind loses acknowledged events. The tip tells; without it
    nobody would notice."""
    build = Build(sql=((FULL, f"synchronous = {instead}"),))
    told = verdicts(record(1, build), 3, 1)
    with without_tip():
        blind = verdicts(record(1, build), 3, 1)
    count(f"harness, synchronous={instead}: losses refused by the tip", told["refused"])
    count(f"harness, synchronous={instead} without the tip: silent losses", blind["silent"])
    assert told["refused"] > 100
    assert blind["silent"] > 100


@pytest.mark.parametrize("every", [3, 5, 7])
def test_without_the_tip_lies_are_silent(every: int) -> None:
    """I4: a lying sync is not to be seen in the journal itself."""
    with without_tip():
        answers = verdicts(record(every, Build(lie_every=every)), 3, every)
    count("harness, lying syncs without the tip: silent losses", answers["silent"])
    assert answers["silent"] > 0


def test_without_the_tip_a_damaged_log_is_silent() -> None:
    """I4: SQLite drops the end of a damaged log without a word."""
    with without_tip():
        answers = [damaged("flip", 1, n) for n in range(1000)]
    silent = sum(where.startswith("-wal") and told == "silent" for where, told in answers)
    count("harness, flips in the log without the tip: silent losses", silent)
    assert silent > 10


def test_without_the_ends_a_damaged_index_is_silent() -> None:
    """I2: in a journal too large for a full check, an index can hide how a job ended."""
    with (
        large_journal(),
        patch("journal.sqlite.SqliteJournal.check_ends", lambda self: None),
        patch("journal.sqlite.SqliteJournal._last_version", lambda self, job: 0),
    ):
        answers = [verdict(*state) for seed in range(1, 6) for state in shorter_pages(seed)]
    silent = answers.count("silent")
    count("harness, damaged indexes without the check of ends: silent losses", silent)
    assert silent > 0


def tip_first(self: SqliteJournal, job: Any, events: Any, **named: Any) -> Any:
    assert self._tip is not None
    self._tip.write(Tip(self.last_seq() + len(events), b"x" * 32))
    end = APPEND(self, job, events, **named)
    self._tip.write(self.end())  # in its place again, as long as nothing interrupts
    return end


BROKEN: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "the tip is not synced": lambda: patch.object(ModelDisk, "sync", lambda self, fd: None),
    "the tip goes first": lambda: patch.object(SqliteJournal, "append", tip_first),
    "the tip's slots share a sector": lambda: patch("journal.tip.SLOT", 512),
    "the old log is not drained": lambda: patch("journal.sqlite.drain", lambda *_: None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_power_cut_finds(name: str) -> None:
    """I4: each of these is seen within one seed."""
    with BROKEN[name](), pytest.raises(Exception) as found:  # noqa: PT011
        PowerCuts().run(2)
    assert any("repeat with: python -m tests.faults power_cut 2/" in note for note in notes(found))


def test_what_a_forgetful_kernel_finds() -> None:
    """I4: with the log not drained, new commits stand behind a hole that a failed sync left."""
    with BROKEN["the old log is not drained"](), pytest.raises(Exception) as found:  # noqa: PT011
        Sweep().run(1, 2)
    assert any("python -m tests.faults io_errors 1/2/" in note for note in notes(found))


def notes(found: pytest.ExceptionInfo[Exception]) -> list[str]:
    return getattr(found.value, "__notes__", [])


def test_the_unbroken_product_passes() -> None:
    """The same lots, nothing broken."""
    assert set(verdicts(record(1, Build()), 3, 1)) == {"whole"}
