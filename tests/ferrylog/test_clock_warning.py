"""Bad input 47: the clock stands before the last event."""

from pathlib import Path

import pytest
from loguru import logger

from ferrylog import clock
from ferrylog.wiring import warn_of_clock
from journal.sqlite import SqliteJournal
from statemachine.words import Millis
from tests.ferrylog.histories import BEGIN, Play


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clock") / "ferrylog.db"
    Play(path, {}).run()
    return path


@pytest.mark.parametrize(("now", "warned"), [(BEGIN - 60_000, 1), (BEGIN + 60_000, 0), (0, 1)])
def test_it_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, now: int, warned: int
) -> None:
    """A warning, and on it goes."""
    monkeypatch.setattr(clock, "now_ms", lambda: Millis(now))
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    try:
        with SqliteJournal.read_only(path) as journal:
            warn_of_clock(journal)
    finally:
        logger.remove(sink)
    assert len(lines) == warned
    assert all("before the journal's last event" in line for line in lines)


def test_an_empty_journal_has_no_last_event(tmp_path: Path) -> None:
    """The first run of all has nothing to compare with."""
    with SqliteJournal.create(tmp_path / "ferrylog.db") as journal:
        warn_of_clock(journal)
