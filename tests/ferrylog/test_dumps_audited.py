"""What audits, the log and dead letters tell of dumps and restores."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from ferrylog import clock
from ferrylog.cli.inspect.explain import stories
from ferrylog.letters import NotDroppable, letters
from ferrylog.views.answers import Asked, answers
from ferrylog.views.foretold import mishap
from ferrylog.views.logged import log
from ferrylog.views.model import exit_code
from ferrylog.views.telling import stories_text
from ferrylog.views.told import Told
from journal.entities import type_of
from journal.sqlite import SqliteJournal
from statemachine.events import AnyEvent, DamageFound, FinishCompleted, MetadataDifference
from statemachine.words import Cause, JobStatus, Millis, TaskKind, UnitId
from tests.ferrylog.histories import (
    BEGIN,
    CHUNK,
    DUMP,
    JOB,
    RESTORE,
    Play,
    a_dump,
    a_restore,
    failed,
)
from tests.ferrylog.looking import last
from tests.ferrylog.saying import Say, say_with
from tests.statemachine.examples import examples

ORDERS = UnitId("shop.orders")
REFUSED = failed(Cause.PERMANENT, "EMONGO013", "not authorised.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


@pytest.fixture
def say(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setattr(clock, "now_ms", lambda: Millis(BEGIN + 60_000))
    return say_with(path, monkeypatch, capsys)


# --- log lines ---


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level="INFO")
    yield lines
    logger.remove(sink)


def events(path: Path) -> list[AnyEvent]:
    with SqliteJournal.read_only(path) as journal:
        return [recorded.event for recorded in journal.read(JOB)]


def test_what_is_logged_of_a_restore(path: Path, logged: list[str]) -> None:
    """A23: damage warns, what differs is an error and is named; single files are small steps."""
    a_restore(path)
    for event in events(path):
        log(event)
    errors = [each for each in logged if each.startswith("ERROR")]
    assert len(errors) == 2
    assert 'shop.orders differs: option validator: {"n": 1} on the source' in errors[0]
    warnings = [each for each in logged if each.startswith("WARNING")]
    assert sum("shop/orders.bson, offset" in each for each in warnings) == 12
    assert any("oplog.bson is ignored" in each for each in warnings)
    assert not any("file_found" in each for each in logged)


def test_what_is_logged_of_a_dump(path: Path, logged: list[str]) -> None:
    """A23."""
    a_dump(path)
    for event in events(path):
        log(event)
    text = "".join(logged)
    assert "INFO job requested: dump mongodb://a:27017/ → file:/backup/shop (chunks)" in text
    assert "as of cluster time 1795357700.3" in text
    assert "INFO all is whole: 60 documents, 6.0 kB" in text
    assert "ERROR" not in text


# --- audits ---


def words_of(path: Path, entity: str) -> str:
    with SqliteJournal.read_only(path) as journal:
        return " ".join(stories_text(stories(journal, JOB, entity)).split())


def test_the_story_of_a_dump(path: Path) -> None:
    """I45."""
    a_dump(path)
    job = words_of(path, "job")
    for said in (
        "to dump collections of mongodb://a:27017/ to file:/backup/shop",
        "read as of cluster time 1795357700.3. 3 users and 1 role stay on the source",
        "manifest (make the files one whole), attempt 1",
        "60 documents, 6.0 kB, are one whole (manifest: SHA-256 a5a5",
    ):
        assert said in job, job
    assert "Of its 3 chunks 3 were dumped: 30 documents, 3.0 kB;" in words_of(path, "shop.orders")
    assert "It is finished: dumped." in words_of(path, CHUNK)


def test_the_story_of_a_restore(path: Path) -> None:
    """I45: the file of each part; damage that was found together is one note."""
    a_restore(path)
    orders = words_of(path, "shop.orders")
    for said in (
        "Found: a collection of 3.0 kB with 1 indexes",
        "Of its 3 chunks 3 were restored and 3 verified, 0 of these with differences: 30 documents",
        "EBSON013: the bytes end inside; and 11 more such places.",
        'option validator is {"n": 1} on the source and missing on the target',
        "It is finished, and source and target are described differently: option validator, index",
    ):
        assert said in orders, orders
    assert orders.count("damage_found") == 1
    chunk = words_of(path, CHUNK)
    for said in (
        "It is a part of a file of the dump, 10 documents.",
        "Its documents lie in shop/orders.bson from byte 1,000 on: 10 documents, 1.0 kB",
        "2 documents have an empty timestamp",
        "It is finished: restored and verified.",
    ):
        assert said in chunk, chunk
    assert "oplog.bson is ignored." in words_of(path, "job")


def test_the_timeline_draws_the_last_touch(path: Path, say: Say) -> None:
    a_restore(path)
    text = say("inspect", "timeline").out
    assert "f finish" in text
    assert "finish   2026" in text


def test_two_dumps_side_by_side(path: Path, say: Say) -> None:
    """What each has done is what is compared."""
    a_dump(path)
    rows = say("inspect", "diff", JOB, JOB, "--json").document()["rows"]
    result = {row["name"]: row["a"] for row in rows if row["section"] == "result"}
    assert (result["documents"], result["bytes"], result["users_left"]) == (60, 6000, 3)
    assert result["cluster_time"] == "1795357700.3"
    unit = {row["name"]: row["a"] for row in rows if row["section"] == "unit shop.orders"}
    assert (unit["done_documents"], unit["done_bytes"]) == (30, 3000)


def test_differing_metadata_is_a_mishap() -> None:
    """A dry run did not foresee it."""
    each = MetadataDifference(what="index a_1", source="", target="x")
    assert mishap(FinishCompleted(entity=ORDERS, differing=(each,))) == (ORDERS, "metadata")
    assert mishap(FinishCompleted(entity=ORDERS, differing=())) is None


@pytest.mark.parametrize("event", examples(), ids=lambda event: str(event.kind))
def test_every_event_is_about_something(event: AnyEvent) -> None:
    """Audits find it by what it is about; priorities and alerts do not tell by their kind."""
    if not event.kind.startswith(("priority", "alert", "result")):
        assert type_of(event.kind, b"") is not None


def test_damage_of_nobody_is_logged(logged: list[str]) -> None:
    log(DamageFound(unit=UnitId(""), file="-", at=9, bytes=3, code="EDUMP088", why="an odd block"))
    assert logged == ["WARNING -, offset 9: 3 bytes cannot be read and were passed over: EDUMP088: "
                      "an odd block.\n"]  # fmt: skip


# --- dead letters ---


def test_a_last_touch_is_given_up_alone(path: Path) -> None:
    """A34: the job ends; the letter is the unit's; there is nothing to drop."""
    Play(path, {(TaskKind.FINISH, ORDERS, 1): [(10, REFUSED)]}, spec=RESTORE).run()
    state, report = last(path)
    assert (state.status, exit_code(state)) == (JobStatus.COMPLETED, 3)
    assert [each.done for each in report.phases if each.phase == "finish"] == [2]
    with SqliteJournal.read_only(path) as journal:
        (letter,) = letters(journal, JOB, state)
    assert (letter.level, letter.unit, letter.task) == ("unit", ORDERS, TaskKind.FINISH)
    with pytest.raises(NotDroppable, match="goes on without it anyway"):
        letter.drop("ann")


def test_a_manifest_that_was_given_up(path: Path) -> None:
    """A34: the job's; without it there is no dump."""
    Play(path, {(TaskKind.MANIFEST, "job", 1): [(10, REFUSED)]}, spec=DUMP).once()
    state, report = last(path)
    assert (state.status, report.phases[-1].percent) == (JobStatus.PAUSED, 0.0)
    with SqliteJournal.read_only(path) as journal:
        (letter,) = letters(journal, JOB, state)
    assert letter.level == "job"
    with pytest.raises(NotDroppable, match="cannot go on"):
        letter.drop("ann")


def test_answers_of_a_dump_that_rests(path: Path) -> None:
    a_dump(path)
    state, _ = last(path)
    first, *_ = answers(Asked(JOB, state, Told(), running=False, now_ms=BEGIN))
    assert first.answer == "The job is completed."
