"""With a snapshot as without: the same past, the same next step."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrylog import recall as module
from ferrylog.engine import Engine
from ferrylog.past import Past
from ferrylog.recall import Keeper, recall, replayed, rules
from journal.errors import WrongSnapshot
from journal.protocol import Page
from journal.snapshots import Snapshots
from journal.sqlite import SqliteJournal
from statemachine.snapshot import freeze
from statemachine.state import digest
from statemachine.stimuli import RunBegan
from statemachine.words import JobId, Millis
from tests.simulation.simulate import Simulation
from tests.statemachine.examples import SETTINGS


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eventful") / "journal.db"
    Simulation(7, path).run()
    return path


@pytest.fixture
def journal(eventful: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.create(eventful) as opened:
        yield opened
    Snapshots(eventful, rules()).path.unlink(missing_ok=True)


def keep(journal: SqliteJournal, past: Past, **changed: object) -> None:
    data = {
        "state": {**freeze(past.state), **changed},
        "rates": past.rates.frozen(),
        "at_ms": past.at_ms,
    }
    job = journal.jobs()[0]
    Snapshots(journal.path, rules()).save(job, past.position, json.dumps(data).encode())


def until(journal: SqliteJournal, seq: int) -> Past:
    return Past().follow(journal.pages(journal.jobs()[0], to_seq=seq))


def test_a_snapshot_anywhere_changes_nothing(journal: SqliteJournal) -> None:
    """I9: with a snapshot at k as without, at every k; state, rates and place."""
    job, last = journal.jobs()[0], journal.last_seq()
    whole = until(journal, last)
    for seq in range(1, last + 1, 3):
        keep(journal, until(journal, seq))
        past = recall(journal, job)
        assert digest(past.state) == digest(whole.state)
        assert past == whole
    assert recall(journal, job, to_seq=last // 2) == until(journal, last // 2)


def test_only_what_follows_is_read(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: a snapshot spares the events before it, also for a moment in the past."""
    job, last = journal.jobs()[0], journal.last_seq()
    keep(journal, until(journal, 20))
    keep(journal, until(journal, last - 5))
    read: list[int] = []
    pages = journal.pages

    def watched(job: JobId, *, after: int = 0, to_seq: int | None = None) -> Iterator[Page]:
        read.append(after)
        return pages(job, after=after, to_seq=to_seq)

    monkeypatch.setattr(journal, "pages", watched)
    recall(journal, job)
    recall(journal, job, to_seq=last - 6)
    assert read == [last - 5, 20]


def test_snapshots_of_another_history_hinder_nobody(journal: SqliteJournal) -> None:
    """I9: left by a journal that was put back from a copy: none, for readers, for the check and
    for who takes the next one."""
    job = journal.jobs()[0]
    past = until(journal, journal.last_seq())
    past.position = past.position._replace(version=10**6, seq=10**6)
    keep(journal, past)
    assert replayed(journal, job, compare=True) == recall(journal, job)
    engine = Engine(journal, job)
    Keeper(journal, job).keep(engine)
    newest = [snapshot.position for snapshot in Snapshots(journal.path, rules()).of(job)]
    assert engine.position in newest


def test_the_next_turn_is_the_same(journal: SqliteJournal, tmp_path: Path) -> None:
    """I9, I13: an engine from a snapshot journals the same bytes as one that read everything."""
    job, middle = journal.jobs()[0], journal.last_seq() // 2
    began = RunBegan("me", "host", 1, "0", SETTINGS)
    written = []
    for name in ("with", "without"):
        part = until(journal, middle)
        if name == "with":
            keep(journal, part)
            part = recall(journal, job, to_seq=middle)
        copy = tmp_path / f"{name}.db"
        with SqliteJournal.create(copy) as other:
            for recorded in journal.read(job, to_seq=middle):
                version = recorded.version - 1
                other.append(
                    job,
                    [recorded.event],
                    expected=version,
                    epoch=recorded.epoch,
                    at_ms=recorded.recorded_at_ms,
                )
            part.position = part.position._replace(seq=other.last_seq())
            Engine(other, job, part).turn([began], now=Millis(10**7))
            written.append([(r.hash, r.event) for r in other.read(job)])
    assert written[0] == written[1]


def test_a_snapshot_of_another_history_is_not_used(journal: SqliteJournal) -> None:
    """I9: it must stand at an event that the journal holds."""
    job = journal.jobs()[0]
    past = until(journal, journal.last_seq())
    past.position = past.position._replace(hash=b"x" * 32)
    keep(journal, past, status="failed")
    assert recall(journal, job).state.status == "completed"


def test_data_of_another_shape_is_not_used(journal: SqliteJournal) -> None:
    job = journal.jobs()[0]
    keep(journal, until(journal, 10), units=7)
    assert recall(journal, job) == until(journal, journal.last_seq())


def test_replay_check_finds_a_wrong_snapshot(journal: SqliteJournal) -> None:
    """I9: `replay --check` folds everything and compares with every snapshot on the way."""
    job = journal.jobs()[0]
    keep(journal, until(journal, 10))
    keep(journal, until(journal, 20))
    assert replayed(journal, job, compare=True) == until(journal, journal.last_seq())
    keep(journal, until(journal, 15), retries=99)
    assert replayed(journal, job) == until(journal, journal.last_seq())
    with pytest.raises(WrongSnapshot, match="seq 15"):
        replayed(journal, job, compare=True)


def test_snapshots_are_taken_as_the_engine_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every so many events, and at the end; a cache that cannot be written stops nothing."""
    monkeypatch.setattr(module, "EVERY", 10)
    monkeypatch.setattr(module, "AT_REST", 1)
    path = tmp_path / "journal.db"
    Simulation(3, path).run()
    with SqliteJournal.create(path) as journal:
        job = journal.jobs()[0]
        engine = Engine(journal, job)
        keeper = Keeper(journal, job)
        keeper(engine)
        (snapshot,) = Snapshots(path, rules()).of(job)
        assert snapshot.position == engine.position
        Snapshots(path, rules()).path.unlink()
        Snapshots(path, rules()).path.mkdir()
        engine.turn([RunBegan("me", "host", 1, "0", SETTINGS)], now=Millis(10**7))
        Keeper(journal, job)(engine)


def test_rules_are_the_code_that_folds() -> None:
    assert len(rules()) == 32
    assert JobId(rules()) == rules()
