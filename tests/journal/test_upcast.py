"""Old shapes are read anew; newer ones are refused by name."""

from pathlib import Path

import pytest

from journal import codec, upcast
from journal.codec import NoEvent, decode, encode
from journal.errors import UnknownEvent
from journal.sqlite import SqliteJournal
from journal.upcast import Fields
from statemachine.events import JobFailed, JobPaused
from statemachine.words import JobId, Millis

JOB = JobId("j1")


def named(fields: Fields) -> Fields:
    """Shape 1 called the reason otherwise."""
    return {"code": fields["code"], "reason": fields["message"]}


def said(fields: Fields) -> Fields:
    return {"code": fields["code"], "why": fields["reason"]}


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"job_failed": (named, said)}
    monkeypatch.setattr(upcast, "STEPS", steps)
    monkeypatch.setattr(codec, "STEPS", steps)


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize(
    "data",
    [
        b'{"code":"E1","message":"bad"}',
        b'{"shape":2,"code":"E1","reason":"bad"}',
        b'{"shape":3,"code":"E1","why":"bad"}',
    ],
)
def test_every_old_shape_becomes_the_newest(data: bytes) -> None:
    """I6: one step at a time, also between events whose shape never changed."""
    rows = [("job_paused", b"{}"), ("job_failed", data), ("job_paused", b"{}")]
    assert decode(rows) == [JobPaused(), JobFailed(code="E1", why="bad"), JobPaused()]


@pytest.mark.usefixtures("changed")
def test_the_newest_shape_is_marked() -> None:
    """I6: what is written today is known as today's."""
    data = encode(JobFailed(code="E1", why="bad"))
    assert data == b'{"shape":3,"code":"E1","why":"bad"}'
    assert decode([("job_failed", data)]) == [JobFailed(code="E1", why="bad")]
    assert encode(JobPaused()) == b"{}"


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"shape":4,"code":"E1","why":"bad"}', "shape 4; this ferrylog knows 1 to 3"),
        (b'{"shape":0,"code":"E1"}', "shape 0"),
        (b'{"shape":"x"}', "shape 'x'"),
        (b"[]", "no object"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_shape_from_the_future_is_refused(data: bytes, why: str) -> None:
    """P10: never read as something else."""
    with pytest.raises(NoEvent, match=why):
        decode([("job_failed", data)])


def test_an_unknown_kind_is_named_and_placed(tmp_path: Path) -> None:
    """P10: a whole event of a later ferrylog stops the reading where it stands."""
    with SqliteJournal.create(tmp_path / "j.db") as journal:
        for n in range(3):
            strange = JobPaused() if n != 1 else JobPaused.model_construct(kind="job_teleported")
            journal.append(JOB, [strange], expected=n, epoch=1, at_ms=Millis(1))
        with pytest.raises(UnknownEvent, match="seq 2 .'job_teleported'.*unknown kind") as caught:
            list(journal.read(JOB))
        assert caught.value.exit_code == 4


def test_two_events_in_one_row_are_none() -> None:
    """P10: data that closes its object and opens another is no event."""
    spliced = b'{"code":"E1","why":"x"},{"kind":"job_paused"}'
    for rows in ([("job_failed", spliced)], [("job_paused", b"{}"), ("job_failed", spliced)]):
        with pytest.raises(NoEvent, match="more than one") as caught:
            decode(rows)
        assert caught.value.index == len(rows) - 1
