"""What is measured, and when it is worth telling (F17, M11, A35)."""

from collections.abc import Sequence

import pytest

from ferrylog import gauges
from ferrylog.gauges import Gauges, Window
from ferrylog.past import Past
from statemachine.effects import Effect
from statemachine.events import AlertRaised, AnyEvent, CreateCompleted, RetryScheduled
from statemachine.state import State
from statemachine.stimuli import Gauge, Measured
from statemachine.words import (
    Alert,
    Cause,
    JobStatus,
    Pool,
    Status,
    TaskKey,
    TaskKind,
)
from tests.statemachine.examples import SETTINGS, SPEC

DUMP = TaskKey(TaskKind.DUMP, "shop.orders#0")
EFFECT = Effect(DUMP, 1, 1, None)


@pytest.fixture
def past() -> Past:
    """A dump is at work, at 100 documents a second on average."""
    found = Past(State(spec=SPEC, settings=SETTINGS, status=JobStatus.RUNNING))
    found.state.queues[TaskKind.DUMP, Status.PROCESSING, 0] = {DUMP: None}
    found.rates.documents, found.rates.active_ms = 10_000, 100_000
    return found


def measured(
    meter: Gauges, past: Past, now_s: float, silences: Sequence[tuple[Effect, float]] = ()
) -> dict[Alert, Gauge]:
    """What is told, by kind."""
    told = meter.news(past, silences, now_s)
    return {each.alert: each for news in told for each in news.gauges if each.value > each.limit}


def failures(count: int) -> list[AnyEvent]:
    why = {"cause": Cause.TRANSIENT, "code": "E", "why": "", "delay_ms": 1, "jitter": 0.5}
    return [RetryScheduled.of(DUMP, attempt=1, not_before_ms=1, **why)] * count


def successes(count: int) -> list[AnyEvent]:
    return [CreateCompleted(entity="shop.orders", built=(), uuid="")] * count


def test_a_window_forgets() -> None:
    window = Window(30)
    for second in (0.2, 0.7, 10, 29.9):
        window.add(second, 5)
    assert [window.sum(at) for at in (29.9, 31, 45, 70)] == [20, 10, 5, 0]
    assert len(window._seconds) == 0


def carry(meter: Gauges, past: Past, documents: int, now_s: float) -> None:
    past.state.done_documents = documents
    meter.seen([], past.state, now_s)


def test_half_as_fast_as_on_average_is_slow(past: Past) -> None:
    """Not before a minute, not with nothing at work, not at exactly half."""
    meter = Gauges(0)
    carry(meter, past, 9_000, 0)
    carry(meter, past, 9_700, 55)
    assert measured(meter, past, 55) == {}, "a minute is not over"
    slow = measured(meter, past, 61)[Alert.SLOW]
    assert (slow.value, slow.limit, slow.entity) == (0.767, 0.5, "job")
    assert slow.why == "23 documents/s, on average 100"
    carry(meter, past, 10_500, 67)
    assert measured(meter, past, 67) == {}, "1,500 in 30 s are half of the average"
    past.state.queues.clear()
    assert measured(meter, past, 200) == {}, "nothing is at work"


def test_a_job_that_pauses_is_not_slow(past: Past) -> None:
    past.state.status = JobStatus.PAUSING
    assert measured(Gauges(0), past, 100) == {}


def test_one_failure_in_twenty_is_the_limit(past: Past) -> None:
    meter = Gauges(0)
    meter.seen([*failures(10), *successes(9)], past.state, 0)
    assert measured(meter, past, 0) == {}, "too few to say something"
    meter.seen(successes(181), past.state, 1)
    assert measured(meter, past, 5) == {}, "10 of 200"
    meter.seen(failures(1), past.state, 6)
    rate = measured(meter, past, 10)[Alert.ERROR_RATE]
    assert (rate.value, rate.why) == (0.055, "11 of 201 outcomes in 5 minutes are failures")
    assert Alert.ERROR_RATE not in measured(meter, past, 400)


def test_more_than_ten_retries_in_an_hour(past: Past) -> None:
    meter = Gauges(0)
    meter.seen(failures(10), past.state, 0)
    assert measured(meter, past, 0) == {}
    meter.seen(failures(1), past.state, 1800)
    assert measured(meter, past, 1800)[Alert.RETRIES].value == 11
    assert Alert.RETRIES not in measured(meter, past, 3600)


def test_silence_is_told_before_it_is_given_up(past: Past) -> None:
    """A quarter of the limit, a minute at least; half an hour for what gives no sign."""
    assert measured(Gauges(0), past, 0, [(EFFECT, 75)]) == {}
    stalled = measured(Gauges(0), past, 0, [(EFFECT, 75.26)])[Alert.STALLED]
    assert (stalled.entity, stalled.value, stalled.limit) == ("shop.orders#0", 75.3, 75)
    assert gauges.stalled(EFFECT, 10, hang_ms=1000).limit == 60
    index = Effect(TaskKey(TaskKind.INDEX, "shop.orders@n_1"), 1, 1, None)
    assert gauges.stalled(index, 10, hang_ms=1000).limit == 1800


def test_an_open_breaker_is_told(past: Past) -> None:
    past.state.breakers[Pool.RESTORE].opened = 2
    told = measured(Gauges(0), past, 0)[Alert.BREAKER]
    assert (told.entity, told.value) == ("restore pool", 2)


def test_a_server_that_asks_for_less_is_told_for_a_minute(past: Past) -> None:
    """F17: by pool; other failures say nothing of the rate."""
    meter = Gauges(0)
    meter.seen(failures(3), past.state, 0)
    why = {"cause": Cause.UNAVAILABLE, "why": "", "delay_ms": 1, "jitter": 0.5}
    asked = RetryScheduled.of(DUMP, attempt=1, not_before_ms=1, code="EMONGO16500", **why)
    meter.seen([asked, asked], past.state, 1)
    told = measured(meter, past, 5)[Alert.THROTTLED]
    assert (told.entity, told.value) == ("dump pool", 2)
    assert Alert.THROTTLED not in measured(meter, past, 62)


def test_what_is_measured_elsewhere_is_told_too(past: Past) -> None:
    full = Gauge(Alert.MEMORY, "job", 0.9, 0.8, "full")
    assert measured(Gauges(0, lambda: [full]), past, 0) == {Alert.MEMORY: full}


def test_nothing_is_told_twice_and_nothing_too_often(past: Past) -> None:
    """The journal is not filled with what it knows."""
    meter = Gauges(0)
    past.state.breakers[Pool.RESTORE].opened = 1
    assert measured(meter, past, 0)
    assert measured(meter, past, 4) == {}, "looked at a moment ago"
    past.state.alerts[Alert.BREAKER, "restore pool"] = None
    assert meter.news(past, [], 10) == [], "it is known"
    past.state.breakers[Pool.RESTORE].opened = 0
    (cleared,) = meter.news(past, [], 15)
    assert isinstance(cleared, Measured)


def test_gauges_fit_their_event() -> None:
    """The event is strict: its numbers may be whole."""
    told = gauges.retries(11)
    event = AlertRaised(
        alert=told.alert, entity=told.entity, value=told.value, limit=told.limit, why=told.why
    )
    assert (event.value, event.limit) == (11.0, 10.0)
