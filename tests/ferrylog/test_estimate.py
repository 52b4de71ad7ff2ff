"""What is expected of a job: from the jobs before it, or as a guess that is called one."""

from pathlib import Path

import pytest

from ferrylog.estimate import GUESSED_FAST, GUESSED_SLOW, Learned, Pace, duration, learn
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec
from tests.ferrylog.histories import JOB, Play
from tests.statemachine.examples import SPEC

END = 2**62


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimate") / "ferrylog.db"
    Play(path, {}).run()
    return path


def learned(journal: Path, *, before: int = END, **fields: object) -> Learned:
    wanted: JobSpec = SPEC.model_copy(update={"kind": "plan", **fields})
    with SqliteJournal.read_only(journal) as opened:
        return learn(opened, wanted, before=before)


def test_a_finished_job_teaches_its_pace_and_its_files(journal: Path) -> None:
    """Two collections of three chunks with 10 documents, 1000 bytes, 400 in the file."""
    found = learned(journal)
    ((documents, size, active_s),) = found.paces
    assert (documents, size) == (60, 6000)
    assert active_s > 0
    assert found.size == pytest.approx(0.4)


@pytest.mark.parametrize("fields", [{"source_id": "x:9"}, {"target_id": "x:9"}, {"mode": "direct"}])
def test_other_work_teaches_nothing(journal: Path, fields: dict[str, str]) -> None:
    assert learned(journal, **fields) == Learned()


def test_files_of_another_compression_teach_no_size(journal: Path) -> None:
    found = learned(journal, compression="none")
    assert found.paces
    assert found.size is None


def test_what_comes_later_teaches_nothing(journal: Path) -> None:
    """The same question has the same answer for ever: only what stood there then counts."""
    with SqliteJournal.read_only(journal) as opened:
        last = [recorded.seq for recorded in opened.read(JOB)][-1]
    assert learned(journal, before=last - 1) == Learned(), "it was not finished then"
    assert learned(journal, before=last).paces
    assert learned(journal, before=1) == Learned()


def test_without_history_it_is_a_guess() -> None:
    """By documents where they are small, by bytes where they are large."""
    small = duration(1_000_000, 1_000_000, ())
    assert (small.least_s, small.most_s) == (1e6 / GUESSED_FAST[0], 1e6 / GUESSED_SLOW[0])
    large = duration(10, 10**9, ())
    assert (large.least_s, large.most_s) == (1e9 / GUESSED_FAST[1], 1e9 / GUESSED_SLOW[1])
    assert "guess" in small.origin
    assert small.least_s < small.seconds < small.most_s


def test_with_history_the_interval_holds_every_pace() -> None:
    """Twice the documents of the same size take twice the time, with a margin on both sides."""
    one = duration(200, 2000, (Pace(100, 1000, 10.0),))
    assert one[:3] == pytest.approx((20, 15, 25))
    two = duration(200, 2000, (Pace(100, 1000, 10.0), Pace(100, 1000, 30.0)))
    assert two[:3] == pytest.approx((40, 15, 75))
    assert "2 finished jobs" in two.origin
    assert duration(0, 0, (Pace(1, 1, 1.0),))[:3] == (0, 0, 0)
