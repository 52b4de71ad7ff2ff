"""The drive with hands that hang, with signals, requests and a tick of its own (A5, A18, A33)."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from executors.protocol import Report, StopToken
from ferrylog import drive as driving
from ferrylog import workers
from ferrylog.asking import ask
from ferrylog.drive import Drive
from ferrylog.engine import Engine
from ferrylog.requests import written
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

QUICK = {"tick_ms": 40, "retry_base_ms": 1, "retry_cap_ms": 1, "hang_ms": 200}
OTHERS = threading.Event()
"""Never set: what hangs waits for it."""


@dataclass
class Hands:
    """All goes well, except for what a test makes of certain tasks."""

    odd: dict[tuple[TaskKind, str], Callable[[Effect, StopToken], Outcome]] = field(
        default_factory=dict
    )
    ran: list[tuple[TaskKind, str, int]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

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
            OTHERS.wait(20)
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

    def leave(self, wish: Any) -> None:
        verb, details = written(wish)
        Inbox(self.path).leave(JOB, verb, wish.by, **details)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ferrylog.db")


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
    began = time.monotonic()
    assert bench.run().state.status is JobStatus.COMPLETED
    assert time.monotonic() - began < 10
    (retry,) = bench.of(RetryScheduled)
    assert (retry.entity, retry.code, retry.cause) == (
        "shop.orders#1",
        "ETASK002",
        Cause.TRANSIENT,
    )
    assert retry.why.startswith("no sign of life for ")
    assert any("left behind" in line and "dump of shop.orders#1" in line for line in lines)


def test_a_look_at_the_token_is_a_sign_of_life(bench: Bench) -> None:
    def slow(effect: Effect, stop: StopToken) -> Outcome:
        for _ in range(30):
            stop.is_set()
            time.sleep(0.02)
        return succeeded(effect)

    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = slow
    bench.run()
    assert "dump_retry_scheduled" not in bench.kinds()


@pytest.mark.parametrize(
    ("kind", "entity"), [(TaskKind.CREATE, "shop.orders"), (TaskKind.INDEX, "shop.orders@when_1")]
)
def test_what_cannot_show_life_is_waited_for(bench: Bench, kind: TaskKind, entity: str) -> None:
    def slow(effect: Effect, stop: StopToken) -> Outcome:
        time.sleep(0.5)
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
        assert asked.wait(10)
        time.sleep(0.1)
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
    bench.wake["dump_started"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = lambda effect, stop: (
        time.sleep(0.3) or succeeded(effect)
    )
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
    began = time.monotonic()
    assert bench.run().state.status is JobStatus.PAUSED
    assert time.monotonic() - began < 2
    assert [pause.immediate for pause in bench.of(PauseRequested)] == [False, True]
    assert bench.left_by == signal.SIGTERM


@pytest.mark.parametrize("third", [signal.SIGHUP, None])
def test_nobody_waits_for_what_does_not_hear(third: signal.Signals | None) -> None:
    """The third signal leaves at once; so does the second after two seconds."""
    program = (
        "import time; from ferrylog.signals import Signals\n"
        "with Signals(lambda asked: print(asked.why, asked.immediate, flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(1)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for number, immediate in ((signal.SIGINT, False), (signal.SIGTERM, True)):
        child.send_signal(number)
        assert child.stdout.readline() == f"{number.name} {immediate}\n"
    if third is not None:
        child.send_signal(third)
    assert child.wait(10) == 128 + (third or signal.SIGTERM)
    child.stdout.close()


# --- the tick ---


def test_requests_are_heard_within_a_tick(bench: Bench) -> None:
    """Also a new tick, and one that nobody understands costs nothing."""
    bench.hands.odd[TaskKind.DUMP, "shop.orders#1"] = bench.hands.until_stopped

    def ask_for_much() -> None:
        Inbox(bench.path).leave(JOB, "dance", "ben")
        bench.leave(SetAsked("ben", "tick_ms", 20))
        bench.leave(PauseAsked("ben", "now", immediate=True))

    bench.wake["dump_started"] = ask_for_much
    began = time.monotonic()
    engine = bench.run(hang_ms=60_000, tick_ms=400)
    assert time.monotonic() - began < 2
    assert [(each.name, each.value) for each in bench.of(SettingChanged)] == [("tick_ms", 20)]
    assert Inbox(bench.path).waiting(JOB) == []
    assert engine.state.settings is not None
    assert engine.state.settings.tick_ms == 20


def test_outcomes_do_not_wait_for_the_tick(bench: Bench) -> None:
    began = time.monotonic()
    assert bench.run(tick_ms=3_600_000, hang_ms=3_600_000).state.terminal
    assert time.monotonic() - began < 5


def test_retries_do_not_wait_for_the_tick(bench: Bench) -> None:
    def once(effect: Effect, stop: StopToken) -> Outcome:
        if effect.attempt > 1:
            return succeeded(effect)
        cause = Cause.TRANSIENT
        return Failed(effect.task, effect.attempt, effect.epoch, cause, "EMONGO043", "cut")

    bench.hands.odd[TaskKind.RESTORE, "shop.orders#1"] = once
    began = time.monotonic()
    assert bench.run(tick_ms=3_600_000, hang_ms=3_600_000).state.terminal
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("mode", "least"), [("coordinated", 5), ("direct", 40)])
def test_the_tick_follows_the_work(bench: Bench, mode: str, least: int) -> None:
    """A33: shorter while much happens, longer while nothing does; direct mode has none."""
    ticks: list[int] = []
    bench._observe = lambda engine: ticks.append(bench.drive._tick_ms)  # type: ignore[method-assign]

    def slow(effect: Effect, stop: StopToken) -> Outcome:
        for _ in range(20):
            stop.is_set()
            time.sleep(0.02)
        return succeeded(effect)

    bench.hands.odd[TaskKind.SURVEY, "job"] = slow
    bench.hands.odd[TaskKind.PLAN, "shop.orders"] = bench.hands.until_stopped
    timer = threading.Timer(1.0, bench.leave, [PauseAsked("ben", "enough", immediate=True)])
    timer.start()
    bench.run(SPEC.model_copy(update={"mode": mode}))
    timer.join()
    assert (min(ticks), max(ticks)) == (least, 40)


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
    bench.run(hang_ms=60_000)
    thread.join()
    assert answered == ["setting_changed", "priority_changed", "pause_requested"]


def test_alerts_are_raised_and_end_with_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrylog.gauges.EVERY_S", 0.0)
    monkeypatch.setattr("ferrylog.gauges.RETRY_LIMIT", 0)

    def once(effect: Effect, stop: StopToken) -> Outcome:
        time.sleep(0.2)
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
