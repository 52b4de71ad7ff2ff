"""Turn after turn: waits for outcomes, requests and the time, and hands all of it to the engine.

One thread turns the engine and is the only one that touches the journal. Executors run in
threads: their time goes to the network, the disk and compression, which run beside each other.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Final

from loguru import logger

from executors.protocol import Executor
from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.redact import redact
from journal.errors import JournalUnreachable
from journal.inbox import Inbox, Request
from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import Effect
from statemachine.stimuli import Failed, Outcome, PauseAsked, Progressed, Stimulus

TICK_S: Final = 0.5
"""Upper bound between two turns and two looks into the inbox; outcomes wake the engine at once."""
SPARE_THREADS: Final = 2
"""For removing files, beside the two pools."""

Observer = Callable[[Engine], None]
"""Called after each turn, in the engine's thread."""


class _Bug:
    """An executor raised: carried into the engine's thread and raised there."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


News = Outcome | Progressed | PauseAsked | _Bug


class Drive:
    """Runs one job until nothing more happens without an operator."""

    def __init__(
        self, engine: Engine, executor: Executor, inbox: Inbox, observers: Sequence[Observer]
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._inbox = inbox
        self._observers = observers
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._handed: list[Request] = []

    def run(self, first: Sequence[Stimulus]) -> None:
        """Begin with these stimuli; return when the job rests.

        Raises `JournalUnknown` and other errors of the journal: the work in flight is stopped
        then, and `resume` goes on from what the journal holds.
        """
        with _signals(self._news.put), self._threads() as pool:
            effects = self._turn(first)
            while True:
                for effect in effects:
                    pool.submit(self._carry_out, effect)
                if self._engine.state.resting:
                    return
                effects = self._turn(self._wait())

    def _turn(self, stimuli: Sequence[Stimulus]) -> tuple[Effect, ...]:
        effects = self._engine.turn(stimuli, now=clock.now_ms())
        if self._handed:
            with suppress(JournalUnreachable):
                self._inbox.remove(self._handed)  # journaled, or no news
            self._handed.clear()
        for observe in self._observers:
            observe(self._engine)
        return effects

    def _wait(self) -> list[Stimulus]:
        """All that arrived, after waiting for something to arrive or to be due."""
        arrived: list[News] = []
        try:
            arrived.append(self._news.get(timeout=self._patience_s()))
            while True:
                arrived.append(self._news.get_nowait())
        except queue.Empty:
            pass
        return [*self._requests(), *(self._stimulus(each) for each in arrived)]

    def _patience_s(self) -> float:
        due = next_wake_ms(self._engine.state)
        wait_s = TICK_S if due is None else max(0.0, (due - clock.now_ms()) / 1000)
        return min(wait_s, TICK_S)

    def _stimulus(self, news: News) -> Stimulus:
        if isinstance(news, _Bug):
            raise news.error
        if isinstance(news, Failed):
            return replace(news, why=redact(news.why), jitter=clock.jitter())
        return news

    def _requests(self) -> Iterator[Stimulus]:
        try:
            waiting = self._inbox.waiting(self._engine.job)
        except JournalUnreachable as error:
            logger.warning("{}", error)  # no reason to end a migration
            return
        for each in waiting:
            self._handed.append(each)
            if each.verb == "pause":
                yield PauseAsked(by=each.by, why="asked for", request=each.id)

    def _carry_out(self, effect: Effect) -> None:
        try:
            self._news.put(self._executor.run(effect, self._stop, self._news.put))
        except BaseException as error:  # ours: it must not die with a thread
            self._news.put(_Bug(error))

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(thread_name_prefix="hand", max_workers=256)
        try:
            yield pool
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals(put: Callable[[PauseAsked], None]) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP asks for a pause, the second leaves at once."""
    asked: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if asked:
            _leave(number)
        asked.append(number)
        put(PauseAsked(by="signal", why=signal.Signals(number).name))

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}  # nohup stays nohup
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """At once, as if killed: the journal needs no farewell. Only the terminal gets its cursor."""
    if os.isatty(2):
        os.write(2, b"\x1b[?25h\n")
    os._exit(128 + number)
