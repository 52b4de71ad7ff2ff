"""Gauges: what is measured while a job runs, and when an operator is to be told.

No clock in here: seconds that only ever grow are an argument.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from executors.classify import THROTTLED
from ferrylog.past import Past
from ferrylog.workers import SILENT
from statemachine.decide.measured import measured
from statemachine.effects import Effect
from statemachine.events import AnyEvent, RetryScheduled, TaskEvent
from statemachine.policy import POOL_OF
from statemachine.state import State
from statemachine.stimuli import Gauge, Measured
from statemachine.words import THE_JOB, Alert, JobStatus, Pool, TaskKind, Verb

EVERY_S: Final = 5
"""Between two looks."""

CURRENT_S: Final = 30
"""What counts as now for the rate."""
WARM_UP_S: Final = 60
"""Of activity, before an average says something."""
SLOW_LIMIT: Final = 0.5
"""Of the average that may be missing (F17)."""

ERRORS_S: Final = 300
ERROR_LIMIT: Final = 0.05
"""Failed outcomes among all (F17)."""
FEW: Final = 20
"""Outcomes of which a share says nothing yet."""

RETRIES_S: Final = 3600
RETRY_LIMIT: Final = 10
"""In an hour (M11)."""

STALLED_S: Final = 60
"""Without a sign of life, at least; a quarter of what it takes to be given up."""
STUCK_S: Final = 1800
"""The same for tasks that give no sign of life (M11)."""

THROTTLED_CODES: Final = tuple(f"EMONGO{code:03d}" for code in THROTTLED)
THROTTLED_S: Final = 60
"""What counts as now for a server that asks for less."""

FAILED: Final = (Verb.RETRY_SCHEDULED, Verb.DEAD_LETTERED)
DATA: Final = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.COPY)


class Window:
    """A sum over the last so many seconds."""

    def __init__(self, span_s: int) -> None:
        self._span_s = span_s
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, now_s: float, count: int) -> None:
        second = int(now_s)
        if self._seconds and self._seconds[-1][0] == second:
            count += self._seconds.pop()[1]
        self._seconds.append((second, count))

    def sum(self, now_s: float) -> int:
        while self._seconds and self._seconds[0][0] <= now_s - self._span_s:
            self._seconds.popleft()
        return sum(count for _, count in self._seconds)


class Gauges:
    """Of one run."""

    def __init__(self, now_s: float, more: Callable[[], Iterable[Gauge]] = tuple) -> None:
        """`more`: what is measured elsewhere, asked for at each look."""
        self._more = more
        self._began_s = now_s
        self._next_s = now_s
        self._done: int | None = None
        self._documents = Window(CURRENT_S)
        self._outcomes = Window(ERRORS_S)
        self._failures = Window(ERRORS_S)
        self._retries = Window(RETRIES_S)
        self._throttled = {pool: Window(THROTTLED_S) for pool in Pool}

    def seen(self, events: Iterable[AnyEvent], state: State, now_s: float) -> None:
        """After each turn: what it journaled."""
        verbs = [event.verb for event in events if isinstance(event, TaskEvent)]
        failures = sum(verbs.count(verb) for verb in FAILED)
        self._failures.add(now_s, failures)
        self._outcomes.add(now_s, failures + verbs.count(Verb.COMPLETED))
        self._retries.add(now_s, verbs.count(Verb.RETRY_SCHEDULED))
        for pool, count in Counter(_throttled(events)).items():
            self._throttled[pool].add(now_s, count)
        if self._done is not None:
            self._documents.add(now_s, state.done_documents - self._done)
        self._done = state.done_documents

    def news(
        self, past: Past, silences: Iterable[tuple[Effect, float]], now_s: float
    ) -> list[Measured]:
        """What was measured, if it raises or clears an alert; asked for as often as one likes."""
        if now_s < self._next_s:
            return []
        self._next_s = now_s + EVERY_S
        told = Measured(tuple(self._gauges(past, silences, now_s)))
        return [told] if measured(past.state, told) else []

    def _gauges(
        self, past: Past, silences: Iterable[tuple[Effect, float]], now_s: float
    ) -> Iterator[Gauge]:
        state = past.state
        if now_s - self._began_s >= WARM_UP_S and _carries(state):
            current = self._documents.sum(now_s) / CURRENT_S
            yield from slow(current, past.rates.average())
        yield from error_rate(self._failures.sum(now_s), self._outcomes.sum(now_s))
        yield retries(self._retries.sum(now_s))
        assert state.settings is not None
        for effect, silent_s in silences:
            yield stalled(effect, silent_s, state.settings.hang_ms)
        yield from breakers(state)
        for pool, window in self._throttled.items():
            if count := window.sum(now_s):
                why = f"the server asked for less {count} times in a minute"
                yield Gauge(Alert.THROTTLED, f"{pool} pool", count, 0, why)
        yield from self._more()


def _throttled(events: Iterable[AnyEvent]) -> Iterator[Pool]:
    """The pools of whose tasks a server asked for less."""
    for event in events:
        if isinstance(event, RetryScheduled) and event.code in THROTTLED_CODES:
            yield POOL_OF[event.task.kind]


def _carries(state: State) -> bool:
    """Whether documents are on their way, and workers may start with more."""
    assert state.spec is not None
    kinds = (TaskKind.VERIFY,) if state.spec.kind == "verify" else DATA
    return state.status is JobStatus.RUNNING and state.busy(kinds) > 0


def slow(current: float, average: float) -> Iterator[Gauge]:
    """Documents per second, now and on average."""
    if average > 0:
        missing = round(1 - current / average, 3)
        why = f"{current:,.0f} documents/s, on average {average:,.0f}"
        yield Gauge(Alert.SLOW, THE_JOB, missing, SLOW_LIMIT, why)


def error_rate(failures: int, outcomes: int) -> Iterator[Gauge]:
    if outcomes >= FEW:
        share = round(failures / outcomes, 3)
        why = f"{failures} of {outcomes} outcomes in {ERRORS_S // 60} minutes are failures"
        yield Gauge(Alert.ERROR_RATE, THE_JOB, share, ERROR_LIMIT, why)


def retries(count: int) -> Gauge:
    return Gauge(Alert.RETRIES, THE_JOB, count, RETRY_LIMIT, f"{count} retries in an hour")


def stalled(effect: Effect, silent_s: float, hang_ms: int) -> Gauge:
    kind = effect.task.kind
    limit_s = STUCK_S if kind in SILENT else max(STALLED_S, hang_ms / 4000)
    why = f"{kind} shows no life for {silent_s:.0f} s"
    return Gauge(Alert.STALLED, effect.task.entity, round(silent_s, 1), limit_s, why)


def breakers(state: State) -> Iterator[Gauge]:
    for pool, breaker in state.breakers.items():
        why = f"{breaker.failures} failures in a row"
        yield Gauge(Alert.BREAKER, f"{pool} pool", breaker.opened, 0, why)
