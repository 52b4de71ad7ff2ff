"""Documents and bytes per second, as a fold of the journal's own times."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from statemachine.state import State

WINDOW_MS: Final = 10_000
"""What counts as now."""
STEP_MS: Final = 100
"""Between two points of the window."""

Point = tuple[int, int, int]
"""Milliseconds, documents, bytes."""


@dataclass(slots=True)
class Rates:
    """Fed with the state after each event, in order; knows current, average and peak."""

    began_ms: int = 0
    last_ms: int = 0
    documents: int = 0
    bytes: int = 0
    peak: float = 0.0
    """Documents per second over the best window."""
    active_ms: int = 0
    window: deque[Point] = field(default_factory=deque)

    def began(self, at_ms: int) -> None:
        """A run starts: the time since the event before it was no time of work."""
        self.began_ms = self.began_ms or at_ms
        self.last_ms = max(self.last_ms, at_ms)
        self.window.clear()

    def seen(self, state: State, at_ms: int) -> None:
        """The work done so far at this moment."""
        if at_ms > self.last_ms:
            if self.began_ms:
                self.active_ms += at_ms - self.last_ms
            self.last_ms = at_ms
        self.documents, self.bytes = state.done_documents, state.done_bytes
        window = self.window
        if not window or at_ms - window[-1][0] >= STEP_MS:
            window.append((at_ms, self.documents, self.bytes))
        while at_ms - window[0][0] > WINDOW_MS:
            window.popleft()
        self.peak = max(self.peak, self.current()[0])

    def current(self) -> tuple[float, float]:
        """Documents and bytes per second over the window."""
        if not self.window:
            return 0.0, 0.0
        at_ms, documents, size = self.window[0]
        span = max(1000, self.last_ms - at_ms) / 1000
        return (self.documents - documents) / span, (self.bytes - size) / span

    def average(self) -> float:
        """Documents per second while a run was active."""
        return self.documents / (self.active_ms / 1000) if self.active_ms else 0.0

    def frozen(self) -> list[Any]:
        """As JSON-ready data, for `thawed`."""
        sums = [self.began_ms, self.last_ms, self.documents, self.bytes, self.peak, self.active_ms]
        return [*sums, list(self.window)]

    @classmethod
    def thawed(cls, data: Sequence[Any]) -> Self:
        *sums, window = data
        rates = cls(*sums)
        rates.window.extend((int(a), int(b), int(c)) for a, b, c in window)
        return rates
