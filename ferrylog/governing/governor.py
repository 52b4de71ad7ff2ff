"""The governor of a run: every limit in one place, each asked once per batch."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import psutil
from loguru import logger

from executors.pressure import Load, NotAllowed
from executors.protocol import Stopped, StopToken
from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.governing import heap
from ferrylog.governing.backoff import Backoff
from ferrylog.governing.disk import Disks, Patience
from ferrylog.governing.memory import FULL, Memory, Side, default_limit
from ferrylog.governing.processor import Processor
from ferrylog.governing.rates import Bucket
from statemachine.events import RunSettings
from statemachine.state import State
from statemachine.stimuli import Gauge
from statemachine.words import THE_JOB, Alert, BatchCause, Status, TaskKind

LOOK_S: Final = 0.5
"""Between two looks at this process."""
SERVER_S: Final = 2.0
"""Between two looks at the target."""
NAP_S: Final = 0.05
"""Between two looks of somebody who waits, at the token and at what it waits for."""
PRESS_S: Final = 5.0
"""Between two times that write commands are made smaller for one reason."""
SUSTAINED_CPU: Final = 0.85
"""Of the ceiling, or of all cores (F17)."""
LOW_DISK: Final = 0.5
"""The reserve as a share of what is free."""
FREES: Final = (TaskKind.RESTORE, TaskKind.VERIFY)
"""Tasks behind which a chunk file may go: behind verification where there is one."""


class Governor:
    """Keeps the limits of a run; see `executors.pace.Pace`.

    A context manager: what looks around ends with it. Called after each turn of the engine, from
    which it takes the settings as they are now.
    """

    def __init__(
        self,
        settings: RunSettings,
        folders: Sequence[Path],
        load_of: Callable[[], Load | None] | None,
        press: Callable[[BatchCause], None],
    ) -> None:
        """`folders`: where chunk files go. `load_of`: looks at the target. `press`: makes write
        commands smaller."""
        self._settings = settings
        self._load_of = load_of
        self._press = press
        self._lock = threading.Condition()
        self._process = psutil.Process()
        self._default_limit = default_limit()
        self._memory = Memory(self._process.memory_info().rss)
        cores = os.cpu_count() or 1
        self._processor = Processor(cores, clock.monotonic_s(), clock.cpu_s())
        self._buckets = {name: Bucket(clock.monotonic_s()) for name in RATES}
        self._disks = Disks(folders)
        self._frees = False
        self._backoff = Backoff()
        self._pressed_s: dict[BatchCause, float] = {}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        if self._memory.resident > FULL * self.memory_limit:
            logger.warning(
                "the memory limit of {:,} MiB cannot be held: {:,} are taken before a batch is; "
                "one at a time is carried",
                self.memory_limit >> 20,
                self._memory.resident >> 20,
            )
        self._every(LOOK_S, self._look)
        if self._load_of is not None:
            self._every(SERVER_S, self._look_at_target)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(LOOK_S)  # one that waits for the target's answer is left behind

    def __call__(self, engine: Engine) -> None:
        """After each turn."""
        state = engine.state
        if state.settings is not None:
            self._settings = state.settings
        self._frees = frees(state)

    # --- what workers ask ---

    def asks(self, size: int, stop: StopToken) -> "Room":
        return self._room("read", size, stop)

    def loads(self, size: int, stop: StopToken) -> "Room":
        return self._room("write", size, stop)

    def read(self, documents: int, size: int, stop: StopToken) -> None:
        self._metered("read", documents, size, stop)

    def writes(self, documents: int, size: int, stop: StopToken) -> None:
        until_s = clock.monotonic_s() + self._backoff.pause_s
        if self._backoff.pause_s:
            self._wait(lambda: clock.monotonic_s() >= until_s or not self._backoff.pause_s, stop)
        self._metered("write", documents, size, stop)

    def files(self, size: int, stop: StopToken) -> None:
        patience = Patience(clock.monotonic_s())
        while short := self._disks.short_of(size, self._settings.disk_reserve):
            if patience.is_over(short.free, clock.monotonic_s(), hopeful=self._frees):
                full = os.strerror(errno.ENOSPC)
                raise OSError(errno.ENOSPC, full, str(short.folder))
            self._nap(stop)

    def _room(self, side: Side, size: int, stop: StopToken) -> "Room":
        self._wait(lambda: self._memory.lets_in(side, size, self.memory_limit), stop)
        return Room(self, side, size)

    def holds(self, side: Side, before: int, size: int) -> None:
        with self._lock:
            self._memory.holds(side, before, size)

    def leaves(self, side: Side, size: int) -> None:
        with self._lock:
            self._memory.leaves(side, size)
            self._lock.notify_all()

    def _metered(self, side: Side, documents: int, size: int, stop: StopToken) -> None:
        amounts = {f"{side}_docs_per_s": documents, f"{side}_bytes_per_s": size}
        now_s = clock.monotonic_s()
        with self._lock:
            tickets = {
                name: self._buckets[name].take(amount, getattr(self._settings, name), now_s)
                for name, amount in amounts.items()
            }
        self._wait(lambda: self._may_go(tickets), stop)

    def _may_go(self, tickets: dict[str, float]) -> bool:
        now_s, settings = clock.monotonic_s(), self._settings
        due = [
            self._buckets[name].is_due(ticket, getattr(settings, name), now_s)
            for name, ticket in tickets.items()
        ]
        may = self._processor.has_time(settings.cpu_limit, now_s, clock.cpu_s()) and all(due)
        if may:
            self._processor.went(now_s)
        return may

    def _wait(self, may_go: Callable[[], bool], stop: StopToken) -> None:
        """`may_go` is asked with the lock held."""
        with self._lock:
            while not may_go():
                if stop.is_set():
                    raise Stopped
                self._lock.wait(NAP_S)

    def _nap(self, stop: StopToken) -> None:
        if stop.is_set():
            raise Stopped
        clock.sleep_s(NAP_S)

    # --- what is looked at ---

    @property
    def memory_limit(self) -> int:
        return self._settings.memory_limit or self._default_limit

    def _every(self, period_s: float, look: Callable[[], None]) -> None:
        def run() -> None:
            while not self._ended.wait(period_s):
                look()

        self._threads.append(threading.Thread(target=run, name="governor", daemon=True))
        self._threads[-1].start()

    def _look(self) -> None:
        with self._lock:
            self._processor.look(clock.monotonic_s(), clock.cpu_s())
        if self._resident_is_near():
            heap.give_back()
            if self._resident_is_near():
                self._make_smaller("memory")

    def _resident_is_near(self) -> bool:
        resident = self._process.memory_info().rss
        with self._lock:
            near = self._memory.look(resident, self.memory_limit)
            self._lock.notify_all()
        return near

    def _look_at_target(self) -> None:
        assert self._load_of is not None
        try:
            load = self._load_of()
        except NotAllowed as why:
            logger.warning(
                "the target's user may not ask for serverStatus (role clusterMonitor): writers do "
                "not see how busy it is ({})",
                why,
            )
            self._load_of = lambda: None
            return
        if self._backoff.look(load):
            self._make_smaller("cache")

    def _make_smaller(self, cause: BatchCause) -> None:
        now_s = clock.monotonic_s()
        if now_s - self._pressed_s.get(cause, -PRESS_S) >= PRESS_S:
            self._pressed_s[cause] = now_s
            self._press(cause)

    # --- what is told ---

    def gauges(self) -> Iterator[Gauge]:
        """For alerts (F17)."""
        now_s, settings = clock.monotonic_s(), self._settings
        with self._lock:
            resident, taken = self._memory.resident, self._processor.sustained(now_s)
        share = resident / self.memory_limit
        why = f"{resident >> 20:,} of {self.memory_limit >> 20:,} MiB are taken"
        yield Gauge(Alert.MEMORY, THE_JOB, round(share, 3), FULL, why)
        ceiling = (settings.cpu_limit or 100) / 100
        why = f"{taken:.0%} of all cores for half a minute, {ceiling:.0%} are allowed"
        yield Gauge(Alert.CPU, THE_JOB, round(taken / ceiling, 3), SUSTAINED_CPU, why)
        if level := self._disks.lowest(settings.disk_reserve):
            why = f"{level.free >> 20:,} MiB are free, {level.reserve >> 20:,} are reserved"
            share = round(level.reserve / max(1, level.free), 3)
            yield Gauge(Alert.DISK, str(level.folder), share, LOW_DISK, why)
        yield Gauge(Alert.THROTTLED, THE_JOB, self._backoff.pause_s, 0, self._backoff.why)


RATES: Final = ("read_docs_per_s", "read_bytes_per_s", "write_docs_per_s", "write_bytes_per_s")
"""Settings."""


class Room:
    """See `executors.pace.Room`."""

    def __init__(self, governor: Governor, side: Side, size: int) -> None:
        self._governor = governor
        self._side = side
        self._size = size

    def holds(self, size: int) -> None:
        self._governor.holds(self._side, self._size, size)
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._governor.leaves(self._side, self._size)


def frees(state: State) -> bool:
    """Whether chunk files are about to be removed."""
    waiting = (Status.PENDING, Status.WAITING, Status.PROCESSING)
    soon = any(state.size(kind, status) for kind in FREES for status in waiting)
    return soon or bool(state.releasing)
