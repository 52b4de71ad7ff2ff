"""The sizes of write commands that earlier jobs ended with (F1)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrylog.learned import LEARNED_FROM, learned_sizes
from journal.sqlite import SqliteJournal
from statemachine.batching import Size
from statemachine.events import BatchResized, JobRequested, UnitRegistered
from statemachine.words import BsonText, JobId, Millis, UnitId
from tests.statemachine.examples import SPEC

NOW = JobId("20261122-150000-now0")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.create(tmp_path / "ferrylog.db") as opened:
        yield opened


def job(
    journal: SqliteJournal, name: str, *sizes: Size, target: str = "shop.c", **spec: str
) -> None:
    """One that resized one unit's commands so often."""
    asked = JobRequested(by="me", spec=SPEC.model_copy(update=spec))
    unit = UnitId("source.c")
    registered = UnitRegistered(
        unit=unit,
        target=target,
        type="collection",
        uuid="",
        options=BsonText("{}"),
        indexes=(),
        documents=0,
        bytes=0,
        expires=False,
    )
    told = [
        BatchResized(
            unit=unit,
            documents=size.documents,
            bytes=size.bytes,
            was_documents=0,
            was_bytes=0,
            cause="slower",
            batch_ms=1,
        )
        for size in sizes
    ]
    events = [asked, registered, *told]
    journal.append(JobId(name), events, expected=0, epoch=0, at_ms=Millis(1))


def test_the_last_size_of_the_newest_job(journal: SqliteJournal) -> None:
    """F1: by the name that a unit has on the target."""
    job(journal, "1", Size(10, 100_000))
    job(journal, "2", Size(500, 100_000), Size(70, 200_000), Size(90, 300_000))
    job(journal, "3", Size(5, 100_000), target="other.c")
    job(journal, "4")
    found = learned_sizes(journal, NOW, SPEC)
    assert found == {"shop.c": Size(90, 300_000), "other.c": Size(5, 100_000)}


def test_other_targets_and_the_job_itself_teach_nothing(journal: SqliteJournal) -> None:
    """F1: another deployment is another server; of itself a job knows more than that."""
    job(journal, "1", Size(10, 100_000), target_id="x:9")
    job(journal, NOW, Size(10, 100_000))
    assert learned_sizes(journal, NOW, SPEC) == {}


def test_a_long_journal_is_not_read(journal: SqliteJournal) -> None:
    """F1: only the newest jobs of a kind teach."""
    for number in range(LEARNED_FROM + 1):
        job(journal, f"{number:02}", Size(10, 100_000), target=f"shop.c{number}")
    found = learned_sizes(journal, NOW, SPEC)
    assert set(found) == {f"shop.c{number}" for number in range(1, LEARNED_FROM + 1)}
