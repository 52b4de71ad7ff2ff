"""Histories as such: the same everywhere, legal at every prefix, deaf to what cannot be."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrylog.engine import Engine
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import AnyEvent, Started
from statemachine.evolve import evolve, fold
from statemachine.state import digest
from tests.counts import count
from tests.simulation import laws
from tests.simulation.simulate import JOB, Simulation
from tests.simulation.valves import POOLS
from tests.statemachine.examples import examples


@dataclass
class History:
    """A journal and what it holds, which is not shown with a failing example."""

    path: Path
    records: list[Recorded] = field(repr=False)


FOLD = """
import sys
from pathlib import Path
from journal.sqlite import SqliteJournal
from statemachine.evolve import fold
from statemachine.state import digest
with SqliteJournal.read_only(Path(sys.argv[1])) as journal:
    print(digest(fold(recorded.event for recorded in journal.read("simulated"))))
"""


EVENTFUL = {
    120: {"dump_retry_scheduled", "restore_in_doubt", "dump_invalidated", "job_paused"},
    74: {"file_found", "restore_in_doubt", "finish_started", "restore_dead_lettered"},
    163: {"dump_in_doubt", "manifest_in_doubt", "manifest_retry_scheduled", "job_paused"},
}
"""What a migration, a restore and a dump went through, and the seed that had it all when this was
written."""


@pytest.fixture(
    scope="module",
    params=[74, 120, pytest.param(163, marks=pytest.mark.deep)],
)
def eventful(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> History:
    """The journal of a seed with crashes, retries, pauses and damage."""
    path = tmp_path_factory.mktemp("eventful") / "journal.db"
    for seed in (request.param, *range(400)):
        simulation = Simulation(seed, path, check_every=50)
        simulation.run()
        with SqliteJournal.read_only(path) as journal:
            records = list(journal.read(JOB))
        kinds = {recorded.event.kind for recorded in records}
        if kinds >= EVENTFUL[request.param]:
            return History(path, records)
        for file in path.parent.iterdir():
            file.unlink()
    raise AssertionError("no seed with all of it")


def test_the_same_in_every_process(eventful: History) -> None:
    """I7: other hash seeds, other time zones, other locales: one digest."""
    path = eventful.path
    digests = {
        subprocess.run(
            [sys.executable, "-c", FOLD, path],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone, locale in (("0", "UTC", "C"), ("1", "Asia/Tokyo", "C.UTF-8"))
    }
    assert len(digests) == 1


def test_every_prefix_is_legal(eventful: History) -> None:
    """I11, I14, I25, I26: the state after any number of events obeys the laws of states."""
    records = eventful.records
    state = fold([])
    for recorded in records:
        evolve(state, recorded.event)
        laws.counters(state)
        if isinstance(recorded.event, Started):
            laws.pool(state, POOLS[recorded.event.task.kind])


@given(place=st.integers(0, 10**6), choice=st.integers(0, 10**6))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    eventful: History, place: int, choice: int
) -> None:
    """I11: any event after any prefix either is allowed by the tables, or raises and leaves the
    state as it was."""
    count("histories: events tried where they may not belong")
    records = eventful.records
    events = [recorded.event for recorded in records]
    at = place % (len(events) + 1)
    candidates: list[AnyEvent] = [*events, *examples()]
    other = candidates[choice % len(candidates)]
    state = fold(events[:at])
    before = digest(state)
    try:
        evolve(state, other)
    except (ImpossibleTransition, UnknownEntity):
        assert digest(state) == before
    else:
        assert digest(fold([*events[:at], other])) == digest(state)


def test_an_engine_begins_where_the_journal_ends(
    eventful: History,
) -> None:
    """I8: reading is all it takes; nothing is kept elsewhere."""
    path, records = eventful.path, eventful.records
    with SqliteJournal.read_only(path) as journal:
        engine = Engine(journal, JOB)
    assert digest(engine.state) == digest(fold(recorded.event for recorded in records))
    assert engine.position.seq == records[-1].seq
