"""Turn after turn: waits for outcomes, requests and the time, and hands all of it to the engine.

One thread turns the engine and is the only one that touches the journal. Executors run in
threads of their own (`workers`): their time goes to the network, the disk and compression, which
run beside each other.
"""

import gc
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from loguru import logger

from executors.protocol import Executor
from ferrylog import clock, requests
from ferrylog.engine import Engine
from ferrylog.gauges import Gauges
from ferrylog.redact import redact
from ferrylog.signals import Signals
from ferrylog.workers import Bug, News, Workers
from journal.errors import JournalUnreachable
from journal.inbox import Inbox, Request
from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import Effect
from statemachine.events import RunSettings
from statemachine.policy import next_tick_ms
from statemachine.stimuli import Failed, Gauge, Measured, PauseAsked, Progressed, Resized, Stimulus

END_S: Final = 10.0
"""What workers get to end in when the job rests; those of a controlled pause have ended."""
HURRIED_END_S: Final = 1.0
"""The same after a second signal."""
GATHER_S: Final = 0.02
"""How long progress may wait for more of it; outcomes and requests never wait."""
MANY_EVENTS: Final = 1000
"""Of one turn: their objects stay, and the collector need not look at them again and again."""

Observer = Callable[[Engine], None]
"""Called after each turn, in the engine's thread."""


class Drive:
    """Runs one job until nothing more happens without an operator."""

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        inbox: Inbox,
        observers: Sequence[Observer],
        gauges: Callable[[], Iterable[Gauge]] = tuple,
    ) -> None:
        """`gauges`: what is measured elsewhere, for alerts."""
        self._engine = engine
        self._inbox = inbox
        self._observers = observers
        self._news: queue.SimpleQueue[News | PauseAsked] = queue.SimpleQueue()
        self._workers = Workers(executor, self._news.put)
        self._gauges = Gauges(clock.monotonic_s(), gauges)
        self._handed: list[Request] = []
        self._looked_s = clock.monotonic_s()
        self._tick_ms = 0
        self._turned_ms = clock.now_ms()

    def run(self, first: Sequence[Stimulus]) -> int:
        """Begin with these stimuli; return when the job rests: 0, or the number of the second
        signal, which asked to leave at once.

        Raises `JournalUnknown` and other errors of the journal: the work in flight is stopped
        then, and `resume` goes on from what the journal holds.
        """
        with Signals(self._news.put) as signals:
            try:
                self._to_the_rest(first)
            finally:
                self._workers.end(HURRIED_END_S if signals.second else END_S)
        return 0 if self._engine.state.terminal else signals.second

    def join(self) -> None:
        """After `run`: when this returns, nothing of the job writes to its target any more."""
        self._workers.join()

    def _to_the_rest(self, first: Sequence[Stimulus]) -> None:
        effects = self._turn(first)
        if self._coordinated:
            logger.info("Started coordination timer: every {} ms", self._settings.tick_ms)
        while not self._engine.state.resting:
            for effect in effects:
                self._workers.start(effect)
            effects = self._turn(self._wait())
        if self._engine.state.alerts:
            self._turn([Measured(())])

    def _turn(self, stimuli: Sequence[Stimulus]) -> tuple[Effect, ...]:
        self._turned_ms = clock.now_ms()
        effects = self._engine.turn(stimuli, now=self._turned_ms)
        if self._handed:
            with suppress(JournalUnreachable):
                self._inbox.remove(self._handed)  # journaled, or no news
            self._handed.clear()
        if len(self._engine.news) >= MANY_EVENTS:
            gc.freeze()
        self._workers.keep(self._engine.wanted)
        self._gauges.seen(self._engine.news, self._engine.state, clock.monotonic_s())
        self._tick_ms = self._next_tick_ms()
        for observe in self._observers:
            observe(self._engine)
        return effects

    @property
    def _settings(self) -> RunSettings:
        assert self._engine.state.settings is not None
        return self._engine.state.settings

    @property
    def _coordinated(self) -> bool:
        spec = self._engine.state.spec
        return spec is not None and spec.mode == "coordinated"

    def _next_tick_ms(self) -> int:
        """Direct mode has no coordinator: it only looks for requests, now and then."""
        if not self._coordinated:
            return self._settings.tick_ms
        busy, last = bool(self._engine.news), self._tick_ms or self._settings.tick_ms
        return next_tick_ms(last, busy=busy, settings=self._settings)

    # --- what arrives ---

    def _wait(self) -> list[Stimulus]:
        """All that arrived, after waiting for something to arrive or to be due."""
        arrived: list[News | PauseAsked] = []
        with suppress(queue.Empty):
            arrived.append(self._news.get(timeout=self._patience_s()))
            enough_s = clock.monotonic_s() + GATHER_S
            while True:
                # Progress starts nothing: more of it in one commit costs less than each its own.
                hurry = not isinstance(arrived[-1], Progressed | Resized)
                left_s = 0.0 if hurry else max(0.0, enough_s - clock.monotonic_s())
                arrived.append(
                    self._news.get(timeout=left_s) if left_s else self._news.get_nowait()
                )
        stimuli = [self._stimulus(each) for each in arrived]
        return [*stimuli, *self._look()] if self._left_s() <= 0 else stimuli

    def _left_s(self) -> float:
        """Until the next look."""
        return self._looked_s + self._tick_ms / 1000 - clock.monotonic_s()

    def _patience_s(self) -> float:
        due = next_wake_ms(self._engine.state, self._turned_ms)
        left_s = self._left_s()
        if due is not None:
            left_s = min(left_s, (due - clock.now_ms()) / 1000)
        return max(0.0, left_s)

    def _stimulus(self, news: News | PauseAsked) -> Stimulus:
        match news:
            case Bug():
                raise news.error
            case Failed():
                return replace(news, why=redact(news.why), jitter=clock.jitter())
            case PauseAsked(immediate=False):
                logger.warning(
                    "{}: what runs goes on to its end; a second signal leaves it in doubt and ends "
                    "at once, a third does not even say so in the journal",
                    news.why,
                )
        return news

    def _look(self) -> Iterator[Stimulus]:
        """Once per tick, beside outcomes: the inbox, the workers' lives, the gauges."""
        self._looked_s = clock.monotonic_s()
        logger.debug("tick after {} ms", self._tick_ms)
        yield from self._requests()
        yield from self._workers.give_up(self._settings.hang_ms)
        yield from self._gauges.news(
            self._engine.past, self._workers.silences(), clock.monotonic_s()
        )

    def _requests(self) -> Iterator[Stimulus]:
        try:
            waiting = self._inbox.waiting(self._engine.job)
        except JournalUnreachable as error:
            logger.warning("{}", error)  # no reason to end a migration
            return
        for each in waiting:
            self._handed.append(each)
            try:
                yield requests.read(each)
            except requests.Unreadable as why:
                logger.warning("request {} of {} is refused: {}", each.id, each.by, why)
