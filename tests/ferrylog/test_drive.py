"""The drive with hands that hang, with signals, requests and a tick of its own (A5, A18, A33)."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from executors.protocol import Report, StopToken
from ferrylog import clock, signals, workers
from ferrylog import drive as driving
from ferrylog.asking import ask
from ferrylog.drive import Drive
from ferrylog.engine import Engine
from ferrylog.requests import written
from ferrylog.workers import Token
from journal.inbox import Inbox
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from statemachine.effects import Effect
from statemachine.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    JobSpec,
    PauseRequested,
    RetryScheduled,
    RunSettings,
    SettingChanged,
    UnitExcluded,
)
from statemachine.stimuli import (
    ExcludeAsked,
    Failed,
    JobAsked,
    Outcome,
    PauseAsked,
    PriorityAsked,
    RunBegan,
    SetAsked,
    StopAsked,
)
from statemachine.words import Alert, Cause, JobStatus, TaskKind, UnitId
from tests.ferrylog.histories import JOB, succeeded
from tests.statemachine.examples import SETTINGS, SPEC

HOUR_S = 3600.0
QUICK = {"tick_ms": 40, "retry_base_ms": 1, "retry_cap_ms": 1, "hang_ms": int(HOUR_S * 1000)}
"""Nobody hangs because the machine is slow: who is to hang for an hour moves the clock."""


@dataclass
class Hands:
    """All goes well, except for what a test makes of certain tasks."""

    odd: dict[tuple[TaskKind, str], Callable[[Effect, StopToken], Outcome]] = field(
        default_factory=dict
    )
    ran: list[tuple[TaskKind, str, int]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """The test has ended: what hangs may end, too."""

    def run(self, effect: Effect, stop: StopToken, report: Report) -> Outcome:
        self.ran.append((effect.task.kind, effect.task.entity, effect.attempt))
        do = self.odd.get((effect.task.kind, effect.task.entity))
        return do(effect, stop) if do is not None else succeeded(effect)

    def until_stopped(self, effect: Effect, stop: StopToken) -> Outcome:
        """Alive and endless."""
        while not stop.is_set():
            time.sleep(0.005)
        self.stopped.append(effect.task.entity)
        return Failed(effect.task, effect.attempt, effect.epoch, Cause.TRANSIENT, "ESTOP001", "")

    def hang(self, effect: Effect, stop: StopToken) -> Outcome:
        """The first attempt only; nothing wakes it within a test."""
        if effect.attempt == 1:
            assert isinstance(stop, Token)
            stop.seen_s -= 2 * HOUR_S
            self.over.wait()
        return succeeded(effect)


@dataclass
class Bench:
    path: Path
    hands: Hands = field(default_factory=Hands)
    events: list[AnyEvent] = field(default_factory=list)
    wake: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What to do once, when an event of this kind was journaled."""

    def run(self, spec: JobSpec = SPEC, **settings: Any) -> Engine:
        chosen = SETTINGS.model_copy(update={**QUICK, **settings})
        with Lease(self.path, host="h", since="now"), SqliteJournal.create(self.path) as journal:
            engine = Engine(journal, JOB)
            self.drive = Drive(engine, self.hands, Inbox(self.path), [self._observe])
            began = RunBegan("ann", "office", 4711, "0.1.0", RunSettings.model_validate(chosen))
            self.left_by = self.drive.run([JobAsked("ann", spec), began])
        return engine

    def _observe(self, engine: Engine) -> None:
        self.events += engine.news
        for event in engine.news:
            act = self.wake.pop(event.kind, None)
            if act is not None:
                act()

    def of(self, kind: type[AnyEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def looked(self, times: int = 2) -> None:
        """Returns when the drive has looked so often: the first of two may have begun before."""
        for _ in range(times):
            last = self.drive._looked_s
            while self.drive._looked_s == last:
                time.sleep(0.002)

    def leave(self, wish: Any) -> None:
        verb, details = written(wish)
        Inbox(self.path).leave(JOB, verb, wish.by, **details)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(signals, "HURRY_S", HOUR_S)  # else it would end the whole test run
    bench = Bench(tmp_path / "ferrylog.db")
    yield bench
    bench.hands.over.set()


@pytest.fixture
def pass_s(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes so many seconds pass at once."""
    real, passed = clock.monotonic_s, [0.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: real() + sum(passed))
    return passed.append


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    number = logger.add(lambda line: found.append(str(line)), level="INFO", format="{message}")
    yield found
    logger.remove(number)


def test_a_job_runs_to_its_end(bench: Bench, lines: list[str]) -> None:
    """A23: the startup line; A14: the timer stops by itself."""
    assert bench.run().state.status is JobStatus.COMPLETED
    assert "Started coordination timer: every 40 ms\n" in lines
    assert len(bench.hands.ran) == len(set(bench.hands.ran)), "each effect once"


# --- hanging and stopping ---


def test_a_worker_that_shows_no_life_is_given_up(
    bench: Bench, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M3, I30: its attempt fails, the next one goes on, and the end does not wait for it."""
    monkeypatch.setattr(driving, "END_S", 0.1)
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.hang
    assert bench.run().state.status is JobStatus.COMPLETED
    (retry,) = bench.of(RetryScheduled)
    assert (retry.entity, retry.code, retry.cause) == (
        "shop.orders#1",
        "ETASK002",
        Cause.TRANSIENT,
    )
    assert retry.why == f"no sign of life for {2 * HOUR_S:.0f} s"
    assert any("left behind" in line and "dump of shop.orders#1" in line for line in lines)


def test_a_look_at_the_token_is_a_sign_of_life(
    bench: Bench, pass_s: Callable[[float], None]
) -> None:
    def slow(effect: Effect, stop: StopToken) -> Outcome:
        for _ in range(3):
            stop.is_set()
            pass_s(0.9 * HOUR_S)
            bench.looked()
        return succeeded(effect)

    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = slow
    bench.run()
    assert "shop.orders#1" not in [each.entity for each in bench.of(RetryScheduled)]


@pytest.mark.parametrize(
    ("kind", "entity"), [(TaskKind.CREATE, "shop.orders"), (TaskKind.INDEX, "shop.orders@when_1")]
)
def test_what_cannot_show_life_is_waited_for(bench: Bench, kind: TaskKind, entity: str) -> None:
    def slow(effect: Effect, stop: StopToken) -> Outcome:
        assert isinstance(stop, Token)
        stop.seen_s -= 2 * HOUR_S
        bench.looked()
        return succeeded(effect)

    bench.hands.odd[kind, entity] = slow
    bench.run()
    assert not bench.of(RetryScheduled)
    assert (kind, entity, 1) in bench.hands.ran


def test_too_many_that_hang_are_no_matter_of_one_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on everything: threads that do not end hold connections. The job pauses."""
    monkeypatch.setattr(driving, "END_S", 0.1)
    monkeypatch.setattr(workers, "MAX_LET_GO", 1)
    for chunk in ("shop.orders#0", "shop.orders#1"):
        bench.hands.odd[TaskKind.DUMP, chunk] = bench.hands.hang
    assert bench.run().state.status is JobStatus.PAUSED
    (pause,) = bench.of(PauseRequested)
    assert "ETASK002" in pause.why


def test_an_excluded_unit_stops_its_workers_alone(bench: Bench) -> None:
    """What the engine does not want any more is told to stop; the others go on to the end."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped
    bench.wake["dump_started"] = lambda: bench.leave(ExcludeAsked("ben", UnitId("shop.orders")))
    engine = bench.run()
    assert engine.state.status is JobStatus.COMPLETED
    assert bench.of(UnitExcluded)
    assert bench.hands.stopped == ["shop.orders#1"]
    assert engine.state.units[UnitId("shop.customers")].status == "completed"


@pytest.mark.parametrize("wish", [PauseAsked, StopAsked])
def test_an_immediate_end_stops_all(bench: Bench, wish: type[PauseAsked] | type[StopAsked]) -> None:
    """What ran is in doubt, and its workers have ended before the drive returns."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped
    bench.wake["dump_started"] = lambda: bench.leave(wish("ben", "now", immediate=True))
    state = bench.run().state
    assert state.status is (JobStatus.PAUSED if wish is PauseAsked else JobStatus.STOPPED)
    assert bench.kinds().count("dump_in_doubt") >= 1
    assert "shop.orders#1" in bench.hands.stopped


def test_a_controlled_pause_waits_for_what_runs(bench: Bench) -> None:
    """A18, I28: it is completed, nothing starts after the request, nothing is in doubt."""
    asked = threading.Event()

    def until_asked(effect: Effect, stop: StopToken) -> Outcome:
        assert asked.wait(60)
        return succeeded(effect)

    bench.hands.odd[TaskKind.DUMP, "shop.orders#0"] = until_asked
    bench.wake["dump_started"] = lambda: bench.leave(PauseAsked("ben", "lunch"))
    bench.wake["pause_requested"] = asked.set
    assert bench.run().state.status is JobStatus.PAUSED
    after = bench.kinds()[bench.kinds().index("pause_requested") :]
    assert "dump_completed" in after
    assert not [kind for kind in after if kind.endswith(("_started", "_in_doubt"))]


def test_a_bug_of_the_hands_is_raised_here(bench: Bench) -> None:
    def broken(effect: Effect, stop: StopToken) -> Outcome:
        raise ZeroDivisionError

    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = broken
    with pytest.raises(ZeroDivisionError):
        bench.run()


# --- signals ---


def test_the_first_signal_pauses(bench: Bench, lines: list[str]) -> None:
    asked = threading.Event()

    def until_asked(effect: Effect, stop: StopToken) -> Outcome:
        assert asked.wait(60)
        return succeeded(effect)

    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = until_asked
    bench.wake["dump_started"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    bench.wake["pause_requested"] = asked.set
    before = signal.getsignal(signal.SIGTERM)
    assert bench.run().state.status is JobStatus.PAUSED
    (pause,) = bench.of(PauseRequested)
    assert (pause.by, pause.why, pause.immediate) == ("signal", "SIGTERM", False)
    assert (bench.left_by, signal.getsignal(signal.SIGTERM)) == (0, before)
    assert any("a second signal" in line for line in lines), "said before it is needed"


def test_the_second_signal_leaves_what_runs_in_doubt(bench: Bench) -> None:
    """At once, but not without a word in the journal."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped
    bench.wake["dump_started"] = lambda: os.kill(os.getpid(), signal.SIGINT)
    bench.wake["pause_requested"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert bench.run().state.status is JobStatus.PAUSED
    assert [pause.immediate for pause in bench.of(PauseRequested)] == [False, True]
    assert bench.left_by == signal.SIGTERM


# --- the tick ---


def test_requests_are_heard_within_a_tick(bench: Bench) -> None:
    """Also a new tick, and one that nobody understands costs nothing."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped

    def ask_for_much() -> None:
        Inbox(bench.path).leave(JOB, "dance", "ben")
        bench.leave(SetAsked("ben", "tick_ms", 20))
        bench.leave(PauseAsked("ben", "now", immediate=True))

    bench.wake["dump_started"] = ask_for_much
    engine = bench.run(tick_ms=400)
    assert [(each.name, each.value) for each in bench.of(SettingChanged)] == [("tick_ms", 20)]
    assert Inbox(bench.path).waiting(JOB) == []
    assert engine.state.settings is not None
    assert engine.state.settings.tick_ms == 20


def test_outcomes_do_not_wait_for_the_tick(bench: Bench) -> None:
    began = time.monotonic()
    assert bench.run(tick_ms=3_600_000).state.terminal
    assert time.monotonic() - began < 60, "an eighth of an hour is the shortest tick"


def test_retries_do_not_wait_for_the_tick(bench: Bench) -> None:
    def once(effect: Effect, stop: StopToken) -> Outcome:
        if effect.attempt > 1:
            return succeeded(effect)
        cause = Cause.TRANSIENT
        return Failed(effect.task, effect.attempt, effect.epoch, cause, "EMONGO043", "cut")

    bench.hands.odd[TaskKind.RESTORE, "shop.orders#1"] = once
    began = time.monotonic()
    assert bench.run(tick_ms=3_600_000).state.terminal
    assert time.monotonic() - began < 60, "an eighth of an hour is the shortest tick"


@pytest.mark.parametrize("mode", ["coordinated", "direct"])
def test_the_tick_follows_the_work(bench: Bench, mode: str) -> None:
    """A33: shorter while much happens, longer while nothing does; direct mode has none."""
    ticks: list[int] = []
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped

    def observe(engine: Engine) -> None:
        ticks.append(bench.drive._tick_ms)
        if not engine.news and not engine.state.resting and ticks[-1] == QUICK["tick_ms"]:
            bench.leave(PauseAsked("ben", "enough", immediate=True))

    bench._observe = observe  # type: ignore[method-assign]
    bench.run(SPEC.model_copy(update={"mode": mode}))
    assert max(ticks) == QUICK["tick_ms"]
    assert (min(ticks) < QUICK["tick_ms"]) == (mode == "coordinated")


def test_another_terminal_asks_while_it_runs(bench: Bench) -> None:
    """The whole way: the inbox, the drive, the rules, the journal, the answer."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped
    answered: list[str] = []

    def terminal() -> None:
        for wish in (
            SetAsked("ben", "restore_workers", 8),
            PriorityAsked("ben", "shop.orders", 5),
            PauseAsked("ben", "now", immediate=True),
        ):
            answer = ask(bench.path, JOB, wish)
            answered.extend(each.event.kind for each in answer.recorded)

    thread = threading.Thread(target=terminal)
    bench.wake["dump_started"] = thread.start
    bench.run()
    thread.join()
    assert answered == ["setting_changed", "priority_changed", "pause_requested"]


def test_alerts_are_raised_and_end_with_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrylog.gauges.EVERY_S", 0.0)
    monkeypatch.setattr("ferrylog.gauges.RETRY_LIMIT", 0)

    def once(effect: Effect, stop: StopToken) -> Outcome:
        bench.looked()
        if effect.attempt > 1:
            return succeeded(effect)
        cause = Cause.TRANSIENT
        return Failed(effect.task, effect.attempt, effect.epoch, cause, "EMONGO043", "cut")

    bench.hands.odd[TaskKind.RESTORE, "shop.orders#1"] = once
    assert bench.run().state.alerts == {}
    raised = [each.alert for each in bench.events if isinstance(each, AlertRaised)]
    cleared = [each.alert for each in bench.events if isinstance(each, AlertCleared)]
    assert sorted(raised) == sorted(cleared), "each ends, at the latest with the run"
    assert raised.count(Alert.RETRIES) == 1
