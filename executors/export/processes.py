"""The processes that convert, shared by all chunks of a run; each begun when there is work for it.

A thread here stands for each of them: it hands over a block and waits for what comes back. A
process may die at any moment, for want of memory, or be silent: its block is tried once more in a
new one.
"""

import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Timer, local
from typing import Any, Final, Self

from executors.batches import Block
from executors.export.errors import NoConverter
from executors.export.model import Converted, Recipe
from executors.export.worker import receive, send
from executors.protocol import Stopped, StopToken

AHEAD: Final = 2
"""Blocks of one chunk that are converted or wait for it, while one more is read."""
LOOK_S: Final = 0.2
"""Between two looks at the stop token."""
ANSWER_S: Final = 300.0
"""What a process gets for a block, of which most take less than a second: one that is silent for so
long is ended, as if it had died."""
END_S: Final = 1.0
"""What a process gets to end in whose pipe is closed."""
PIPE_BYTES: Final = 1 << 20
"""What a pipe holds: fewer turns for a block. The most that a system allows without rights."""
HEAP: Final = {"MALLOC_MMAP_THRESHOLD_": f"{32 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}
"""Of glibc: what a block takes comes from the heap, and not page by page from the system again and
again, which is a quarter of what converting large documents costs."""
COMMAND: Final = (sys.executable, "-P", "-m", "executors.export.worker")


class Processes:
    """Threads share it. A context manager: at its end the processes are gone."""

    def __init__(self, workers: int) -> None:
        """`workers`: chunks that are exported at the same time."""
        count = max(1, min(workers, len(os.sched_getaffinity(0))))
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="convert")
        self._own = local()
        self._lock = Lock()
        self._running: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for each in self._running:
                each.kill()
        self._threads.shutdown(cancel_futures=True)
        for each in self._running:  # no thread waits for any of them now
            each.end()

    def converted(
        self, recipe: Recipe, blocks: Iterator[Block], stop: StopToken
    ) -> Iterator[tuple[Block, Converted]]:
        """Each block with what became of it, in order. Raises what the reader of the blocks raises,
        `NoConverter`, `Stopped`."""
        waiting: deque[_Sent] = deque()
        try:
            for block in blocks:
                waiting.append(self._send(recipe, block))
                if len(waiting) > AHEAD:
                    yield _back(waiting.popleft(), stop)
            while waiting:
                yield _back(waiting.popleft(), stop)
        finally:
            for sent in waiting:
                sent.answer.cancel()

    def _send(self, recipe: Recipe, block: Block) -> "_Sent":
        try:
            return _Sent(block, self._threads.submit(self._convert, recipe, block.data))
        except RuntimeError:  # the run has ended
            raise Stopped from None

    def _convert(self, recipe: Recipe, data: bytes) -> Converted:
        """In a thread of ours, with its process."""
        why = ""
        for _ in range(2):
            process = self._process()
            try:
                answer = process.ask(recipe, data)
            except OSError as error:
                answer, why = None, str(error)
            if isinstance(answer, Converted):
                return answer
            if isinstance(answer, Exception):
                raise answer
            why = self._bury(process) or why
        raise NoConverter(why)

    def _process(self) -> "_Process":
        found: _Process | None = getattr(self._own, "process", None)
        if found is None:
            with self._lock:
                if self._closed:
                    raise Stopped
                found = _Process()
                self._running.add(found)
            self._own.process = found
        return found

    def _bury(self, process: "_Process") -> str:
        self._own.process = None
        with self._lock:
            self._running.discard(process)
        return process.end()


@dataclass(frozen=True, slots=True)
class _Sent:
    block: Block
    answer: "Future[Converted]"


def _back(sent: _Sent, stop: StopToken) -> tuple[Block, Converted]:
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return sent.block, sent.answer.result(LOOK_S)
        except NotYet:
            if sent.answer.done():  # what was asked for took too long itself
                raise
        except CancelledError:
            raise Stopped from None


class _Process:
    """One process; for one thread, but that any may kill it."""

    def __init__(self) -> None:
        self._silent = ""
        self._child = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**HEAP, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,  # a Ctrl-C at the terminal is for us alone
        )
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(OSError):  # a system may allow less
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def ask(self, recipe: Recipe, data: bytes) -> Any:
        """What it answers; `None` when it has died. Raises `OSError` as well then."""
        assert self._child.stdin is not None and self._child.stdout is not None
        patience = Timer(ANSWER_S, self._give_up)
        patience.daemon = True
        patience.start()
        try:
            send(self._child.stdin, (recipe, data))
            return receive(self._child.stdout)
        finally:
            patience.cancel()

    def _give_up(self) -> None:
        self._silent = f"gave no answer for {ANSWER_S:.0f} s, and was ended: it "
        self.kill()

    def kill(self) -> None:
        self._child.kill()

    def end(self) -> str:
        """How it ended."""
        try:
            code = self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        how = "signal" if code < 0 else "exit code"
        return f"its process {self._silent}ended with {how} {abs(code)}"
