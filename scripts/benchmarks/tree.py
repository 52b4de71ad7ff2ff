"""What a program takes with all the processes that it starts.

`getrusage` knows the peak of the largest process alone, and Linux hands it on through `exec`: here
the whole tree is looked at while it runs, some times a second. Memory that two processes share
counts in both, so a sum may be too high, never too low but for what came and went in between.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Self

import psutil
from common import Figures, measured

from ferrylog.embedded import Mongod

LOOK_S: Final = 0.02


class Peak:
    """Looks at all descendants of this process but the servers, until the block ends."""

    def __init__(self, servers: Sequence[Mongod]) -> None:
        self._servers = {server.pid for server in servers}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.bytes = max(self.bytes, self._held())

    def _held(self) -> int:
        total = 0
        for each in psutil.Process().children(recursive=True):
            try:
                total += 0 if each.pid in self._servers else each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


def measured_with_all(words: Sequence[str], servers: Sequence[Mongod], **kwargs: Any) -> Figures:
    """As `measured`, with the peak memory of the whole tree."""
    with Peak(servers) as peak:
        figures = measured(words, servers, **kwargs)
    return replace(figures, peak_mb=peak.bytes / (1 << 20))
