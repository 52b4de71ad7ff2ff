"""Signals of the terminal and the system, as requests.

They are heard by a thread of their own, through the descriptor that Python's handler writes to:
so they are heard while the engine's thread is inside a commit, too.
"""

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

from statemachine.stimuli import PauseAsked

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY_S: Final = 2.0
"""After the second signal: what is not journaled by then is left to the next run."""


class Signals:
    """The first asks for a pause, the second for an immediate one, the third leaves at once.

    A context manager, for the main thread.
    """

    def __init__(self, put: Callable[[PauseAsked], None]) -> None:
        self._put = put
        self._heard = 0
        self.second = 0
        """The number of the second signal."""

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        wanted = [each for each in NUMBERS if signal.getsignal(each) is not signal.SIG_IGN]
        self._before = {each: signal.signal(each, _handle) for each in wanted}  # nohup stays nohup
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._write)  # the thread reads an end, and ends

    def _watch(self) -> None:
        while True:
            patience_s = HURRY_S if self.second else None
            if not select.select([self._read], [], [], patience_s)[0]:
                _leave(self.second)
            numbers = os.read(self._read, 16)
            if not numbers:
                os.close(self._read)
                return
            for number in numbers:
                if number in self._before:
                    self._hear(number)

    def _hear(self, number: int) -> None:
        self._heard += 1
        why = signal.Signals(number).name
        match self._heard:
            case 1:
                self._put(PauseAsked(by="signal", why=why))
            case 2:
                self.second = number
                self._put(PauseAsked(by="signal", why=why, immediate=True))
            case _:
                _leave(number)


def _handle(_number: int, _frame: FrameType | None) -> None:
    """Python has written the number to the descriptor: that is all."""


def _leave(number: int) -> None:
    """At once, as if killed: the journal needs no farewell. Only the terminal gets its cursor."""
    if os.isatty(2):
        os.write(2, b"\x1b[?25h\n")
    os._exit(128 + number)
