"""The processes in which the user's own code runs: shared by all dumps of a run, made when the
first piece comes.

They are spawned, not forked: a fork copies the locks that threads hold. A process may die at any
moment, of a signal, of its own accord, for want of memory or of time: what it was at is known, and
nothing of another piece is lost with it.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from ctypes import c_uint32
from multiprocessing import resource_tracker
from pathlib import Path
from signal import SIG_BLOCK, SIG_SETMASK, SIGALRM, SIGINT, pthread_sigmask, strsignal
from threading import Lock, Thread
from typing import Any, Final

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from executors.protocol import Stopped, StopToken
from executors.transforms.code import Names
from executors.transforms.errors import NoProcess, OfCode
from executors.transforms.worker import PER_SLOT, Answer, begin, check, transform

MOST: Final = 8
"""Processes, where nobody said how many."""
SLOTS: Final = 2048
"""Pieces under way: 64 dumps, each with fewer than 32 of them."""
LOOK_S: Final = 0.2
"""Between two looks at the stop token and at whether the process still lives."""
GRACE_S: Final = 10.0
"""Beyond the limit of one document, without a sign of any process: they are replaced."""
MOST_FALSE_STARTS: Final = 5
"""Times in a row that a piece was lost before anything of it was begun."""

ENDED: Final = "ETRANSFORM017"
TOO_LONG: Final = "ETRANSFORM018"
SILENT: Final = "its process did not answer any more"


class Died(Exception):
    """The process of a piece ended, or does not answer."""

    def __init__(self, at: int | None, why: str, code: str = ENDED, *, by_us: bool = False) -> None:
        super().__init__(why)
        self.at = at
        """The place of the document that it was at; `None`: it had begun none."""
        self.code = code
        self.by_us = by_us
        """It was ended for the sake of others: whatever it was at is not to blame."""


class Pool:
    """Threads share it. `workers`: 0 as many as there are cores, at most `MOST`."""

    def __init__(
        self, names: Names, workers: int, limit_ms: int, monotonic_s: Callable[[], float]
    ) -> None:
        self.names = names
        self._lock = Lock()
        self._monotonic_s = monotonic_s
        self._workers = workers
        self.limit_s = limit_ms / 1000
        """For one document."""
        self._running: _Processes | None = None
        self._closed = False

    @property
    def workers(self) -> int:
        return self._workers or min(len(os.sched_getaffinity(0)), MOST)

    def set(self, workers: int, limit_ms: int) -> None:
        """For all that is begun from here on; what is under way goes on as it is."""
        self.limit_s = limit_ms / 1000
        with self._lock:
            if workers != self._workers and self._running is not None:
                self._running.retire()
                self._running = None
            self._workers = workers

    def check(self, stop: StopToken) -> str:
        """The SHA-256 of the files in which the code stands. Raises `CannotLoad`, `NoTransform`,
        `NoModel`, `NoProcess`, `Stopped`."""
        for _ in range(MOST_FALSE_STARTS):
            running = self._processes()
            try:
                return str(running.schedule(check, self.names).wait(stop))
            except Died as error:
                why = str(error)
                self._replace(running)
                if error.code == TOO_LONG:
                    break
        raise NoProcess(why)

    def begin(self, piece: bytes) -> "Piece":
        """Have the documents of the piece looked at; whoever asked waits for the answer. Raises
        `Stopped` when the pool is closed."""
        running = self._processes()
        return running.schedule(transform, self.names, piece)

    def replace(self, piece: "Piece") -> None:
        """The processes of this piece are of no use any more."""
        self._replace(piece.of)

    def _replace(self, running: "_Processes") -> None:
        with self._lock:
            if self._running is running:
                self._running = None
        running.end()

    def close(self) -> None:
        """No process is begun any more, whoever asks for one."""
        with self._lock:
            running, self._running = self._running, None
            self._closed = True
        if running is not None:
            running.end()

    def _processes(self) -> "_Processes":
        with self._lock:
            if self._closed:
                raise Stopped
            if self._running is None:
                self._running = _Processes(self.workers, self)
            return self._running

    def now_s(self) -> float:
        return self._monotonic_s()


class _Processes:
    """One generation of them, and the memory in which they tell what they are at."""

    def __init__(self, workers: int, pool: Pool) -> None:
        self.pool = pool
        spawn = multiprocessing.get_context("spawn")
        self.slots: Any = spawn.RawArray(c_uint32, SLOTS * PER_SLOT)
        self._free = list(range(SLOTS))
        self._executor = ProcessPool(
            workers, initializer=begin, initargs=(self.slots, str(Path.cwd())), context=spawn
        )
        self.ended = self.silent = False
        """`silent`: for want of any sign; whatever they were at took too long."""
        self._sign: tuple[bytes, float] = (b"", 0.0)
        """What the memory held when it last changed, and when that was."""

    def schedule(self, function: Callable[..., Any], *args: Any) -> "Piece":
        slot = self._free.pop()
        self.slots[slot * PER_SLOT] = self.slots[slot * PER_SLOT + 1] = 0
        more = (slot, self.pool.limit_s) if function is transform else ()
        self._sign = (b"", 0.0)
        piece = Piece(self, slot)
        try:
            with _deaf_to_the_terminal():
                piece.future = self._executor.schedule(function, args=(*args, *more))
        except RuntimeError:  # it is broken: whoever waits learns it
            self._free.append(slot)
            return piece
        piece.future.add_done_callback(lambda _: self._done(piece, slot))
        return piece

    def _done(self, piece: "Piece", slot: int) -> None:
        """Another piece may have the slot; what it said of this one is kept."""
        piece.last = int(self.slots[slot * PER_SLOT + 1])
        self._free.append(slot)

    def silent_s(self) -> float:
        """Since any process told that it begins with a document."""
        now, held = self.pool.now_s(), bytes(self.slots)
        if held != self._sign[0]:
            self._sign = (held, now)
        return now - self._sign[1]

    def broken(self) -> bool:
        """Nothing comes back any more, and nobody says so of what was never sent."""
        return not self._executor.active

    def retire(self) -> None:
        """They end when they have done what they were asked for."""
        self._executor.close()  # type: ignore[no-untyped-call]
        Thread(target=self._executor.join, daemon=True).start()

    def end(self) -> None:
        """At once, whatever they are at."""
        self.ended = True
        with suppress(RuntimeError):
            self._executor.stop()  # type: ignore[no-untyped-call]
            self._executor.join()


class Piece:
    """Documents on their way through a process."""

    def __init__(self, of: _Processes, slot: int) -> None:
        self.of = of
        self._at = slot * PER_SLOT
        self.future: ProcessFuture[Any] | None = None
        self.last: int | None = None
        """The number of the document that it was at, when it is done."""

    def wait(self, stop: StopToken) -> Any:
        """The answer. Raises `Died`, `Stopped`, and what is wrong with the code itself."""
        while True:
            if stop.is_set():
                raise Stopped
            try:
                answer = self._result()
            except NotYet:
                self._must_live()
                continue
            if isinstance(answer, OfCode):
                raise answer
            return answer

    def _result(self) -> Answer | str | OfCode:
        if self.future is None:
            raise self._unbegun("it could not be started")
        try:
            error = self.future.exception(timeout=LOOK_S)
        except CancelledError:
            raise self._ended() from None
        if isinstance(error, ProcessExpired):
            raise self._died(error.exitcode)
        if isinstance(error, BrokenProcessPool):
            raise self._unbegun("the pipe of the processes broke")
        if error is not None:  # whatever came back instead of an answer
            raise Died(self._place(), type(error).__name__)
        answer: Answer | str | OfCode = self.future.result()
        return answer

    def _unbegun(self, why: str) -> Died:
        """What befalls a whole generation is told once."""
        return self._ended() if self.of.ended else Died(None, why)

    def _ended(self) -> Died:
        """With all others of its generation."""
        at = self._place()
        if self.of.silent and at is not None:
            return Died(at, SILENT, TOO_LONG)
        return Died(at, "its process was ended", by_us=True)

    def _died(self, exit_code: int | None) -> Died:
        at, number = self._place(), exit_code or 0
        if number == -SIGALRM:
            why = f"took longer than {self.of.pool.limit_s:g} s"
            return Died(at, why, TOO_LONG)
        if number < 0:
            why = f"its process ended with signal {-number} ({strsignal(-number)})"
            return Died(at, why)
        return Died(at, f"its process ended with exit code {number}")

    def _place(self) -> int | None:
        now = int(self.of.slots[self._at + 1])  # before it is asked whose the slot is by now
        number = now if self.last is None else self.last
        return number - 1 if number else None

    def _must_live(self) -> None:
        """A process that ends with 0 ends without a word; one that is stuck does not end."""
        if self.of.ended:
            raise self._ended()
        assert self.future is not None  # else nobody would wait for it
        if self.of.broken() and not self.future.done():
            raise self._unbegun("the pipe of the processes broke")
        pid = int(self.of.slots[self._at])
        if pid and not _lives(pid) and not self.future.done():
            self.future.cancel()  # type: ignore[no-untyped-call]  # nobody else would ever call it done
            raise Died(self._place(), "its process ended with exit code 0")
        if self.of.silent_s() > self.of.pool.limit_s + GRACE_S:
            self.of.silent = True
            self.of.pool.replace(self)
            raise Died(self._place(), SILENT, TOO_LONG)


@contextmanager
def _deaf_to_the_terminal() -> Iterator[None]:
    """The processes, and the thread that begins them, come of the first call: a Ctrl-C is for us
    alone, also before they can say so themselves."""
    resource_tracker.ensure_running()  # else it is begun in between, and takes the mask off
    before = pthread_sigmask(SIG_BLOCK, {SIGINT})
    try:
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
