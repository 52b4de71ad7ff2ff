"""Documents and bytes per second, as a fold of the journal's own times."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
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
    """Fed with the state at every instant at which something happened, in order; knows current,
    average and peak."""

    began_ms: int = 0
    seen_ms: int = 0
    """The last instant; earlier than `last_ms` where the clock went back."""
    last_ms: int = 0
    documents: int = 0
    bytes: int = 0
    best: float = 0.0
    """Documents per second over the best window before the last instant."""
    active_ms: int = 0
    gap_ms: int = 0
    """Of `active_ms`, what the last instant brought."""
    window: deque[Point] = field(default_factory=deque)

    def began(self, at_ms: int) -> None:
        """A run starts: the time since the event before it was no time of work."""
        if at_ms == self.last_ms:
            self.active_ms -= self.gap_ms
        if at_ms != self.seen_ms:
            self.best = self.peak
        self.seen_ms, self.gap_ms = at_ms, 0
        self.began_ms = self.began_ms or at_ms
        self.last_ms = max(self.last_ms, at_ms)
        self.window.clear()

    def seen(self, state: State, at_ms: int) -> None:
        """The work done so far at this moment; once more at the same one replaces what was seen."""
        if not at_ms:
            return  # nothing has happened yet
        if at_ms != self.seen_ms:
            self.best = self.peak
            self.seen_ms = at_ms
        if at_ms > self.last_ms:
            self.gap_ms = at_ms - self.last_ms if self.began_ms else 0
            self.active_ms += self.gap_ms
            self.last_ms = at_ms
        self.documents, self.bytes = state.done_documents, state.done_bytes
        window = self.window
        if window and window[-1][0] == at_ms:
            window.pop()
        if not window or at_ms - window[-1][0] >= STEP_MS:
            window.append((at_ms, self.documents, self.bytes))
        while at_ms - window[0][0] > WINDOW_MS:
            window.popleft()

    @property
    def peak(self) -> float:
        """Documents per second over the best window."""
        return max(self.best, self.current()[0])

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
        *sums, window = _values(self)
        return [*sums, list(window)]

    @classmethod
    def thawed(cls, data: Sequence[Any]) -> Self:
        *sums, window = data
        rates = cls(*sums)
        rates.window.extend((int(a), int(b), int(c)) for a, b, c in window)
        return rates


_values: Final = attrgetter(*Rates.__slots__)
