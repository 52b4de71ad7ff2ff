"""The engine alone: what one turn journals, and what it hands out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from ferrylog.engine import Engine
from ferrylog.past import Past
from journal.protocol import Page, Position, Recorded
from statemachine.events import AnyEvent
from statemachine.state import digest
from statemachine.stimuli import Failed, FoundUnit, JobAsked, RunBegan, Succeeded, Surveyed
from statemachine.words import BsonText, Cause, JobId, Millis, Status, TaskKey, TaskKind, UnitId
from tests.statemachine.examples import SETTINGS, SPEC

JOB = JobId("job")
SURVEY = TaskKey(TaskKind.SURVEY, "job")


@dataclass
class Memory:
    """A journal in memory that writes down how it was asked."""

    records: list[Recorded] = field(default_factory=list)
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    broken: bool = False

    def append(
        self, job: JobId, events: Sequence[AnyEvent], *, expected: int, epoch: int, at_ms: Millis
    ) -> Position:
        if self.broken:
            raise OSError("simulated")
        self.asked.append((expected, epoch, at_ms))
        for event in events:
            seq = len(self.records) + 1
            self.records.append(Recorded(seq, job, seq, epoch, at_ms, event, bytes([seq])))
        last = self.records[-1]
        return Position(last.version, last.seq, last.hash)

    def pages(self, job: JobId, *, after: int = 0) -> Iterator[Page]:
        assert job == JOB
        yield from map(page_of, ([each] for each in self.records[after:]))


def page_of(records: list[Recorded]) -> Page:
    last = records[-1]
    events, times = zip(*((each.event, each.recorded_at_ms) for each in records), strict=True)
    return Page(events, times, Position(last.version, last.seq, last.hash))


def begun(**settings: object) -> tuple[Memory, Engine]:
    journal = Memory()
    engine = Engine(journal, JOB)
    began = RunBegan("me", "host", 1, "0", SETTINGS.model_copy(update=settings))
    effects = engine.turn([JobAsked("me", SPEC), began], now=Millis(5))
    assert [effect.task for effect in effects] == [SURVEY]
    return journal, engine


def failure(attempt: int, cause: Cause = Cause.TRANSIENT) -> Failed:
    return Failed(SURVEY, attempt, 1, cause, "E", "bad")


def test_all_news_of_a_turn_is_one_commit() -> None:
    """I3: appended at the place where the history ends, in the epoch that began with it."""
    journal, engine = begun()
    kinds = ["job_requested", "run_started", "survey_started"]
    assert [event.kind for event in engine.news] == kinds
    assert journal.asked == [(0, 1, 5)]
    assert engine.position == Position(3, 3, b"\x03")
    engine.turn([Succeeded(SURVEY, 1, 1, Surveyed(()))], now=Millis(6))
    assert journal.asked[1:] == [(3, 1, 6)]
    assert [event.kind for event in engine.news] == ["survey_completed", "job_completed"]


def test_a_turn_without_news_writes_nothing() -> None:
    journal, engine = begun()
    assert engine.turn([], now=Millis(9)) == ()
    assert (len(journal.asked), engine.news) == (1, ())


def test_an_effect_is_handed_out_once() -> None:
    """I15, I26."""
    _, engine = begun()
    for now in (6, 7):
        assert engine.turn([], now=Millis(now)) == ()


def test_what_starts_again_in_the_same_turn_is_handed_out_again() -> None:
    """I18: with no delay between attempts, the next one is another effect of the same task."""
    _, engine = begun(retry_base_ms=0)
    effects = engine.turn([failure(1)], now=Millis(6))
    assert [(effect.task, effect.attempt) for effect in effects] == [(SURVEY, 2)]


def test_what_starts_again_later_is_handed_out_then() -> None:
    _, engine = begun()
    assert engine.turn([failure(1)], now=Millis(6)) == ()
    assert engine.state.tasks[SURVEY].status is Status.WAITING
    effects = engine.turn([], now=Millis(10_000))
    assert [effect.attempt for effect in effects] == [2]


def test_an_engine_goes_on_from_a_past() -> None:
    """I8, I9: what it was given is not read again, what came after it is."""
    journal, engine = begun()
    past = Past().follow([page_of(journal.records[:2])])
    other = Engine(journal, JOB, past)
    assert other.past is past
    assert digest(other.state) == digest(engine.state)
    assert other.position == engine.position
    assert digest(Engine(journal, JOB).state) == digest(engine.state)


def test_nothing_is_handed_out_when_the_journal_fails() -> None:
    """P2: append, then believe, then act."""
    journal, engine = begun(retry_base_ms=0)
    journal.broken = True
    with pytest.raises(OSError, match="simulated"):
        engine.turn([failure(1)], now=Millis(6))
    assert engine.position.version == len(journal.records)


def test_every_effect_is_handed_out() -> None:
    """I26: two tasks at once are two effects, though both are first attempts."""
    _, engine = begun()
    units = tuple(
        FoundUnit(UnitId(name), name, "collection", "", BsonText("{}"), (), 1, 1)
        for name in ("a.a", "a.b")
    )
    effects = engine.turn([Succeeded(SURVEY, 1, 1, Surveyed(units))], now=Millis(6))
    assert [effect.task.entity for effect in effects] == ["a.a", "a.b"]
