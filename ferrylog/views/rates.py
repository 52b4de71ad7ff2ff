"""Documents and bytes per second, as a fold of the journal's own times."""

from collections import deque
from dataclasses import dataclass, field

from statemachine.state import State

WINDOW_MS = 10_000
"""What counts as now."""


@dataclass(slots=True)
class Rates:
    """Fed with the state after events, in order; knows current, average and peak."""

    began_ms: int = 0
    last_ms: int = 0
    documents: int = 0
    bytes: int = 0
    peak: float = 0.0
    active_ms: int = 0
    _window: deque[tuple[int, int, int]] = field(default_factory=deque)

    def seen(self, state: State, at_ms: int, *, began: bool = False) -> None:
        """Work done so far at this moment; `began` marks the start of a run."""
        documents, size = work_done(state)
        if began or not self.began_ms:
            self.began_ms = self.began_ms or at_ms
            self._window.clear()
        elif at_ms > self.last_ms:
            self.active_ms += at_ms - self.last_ms
        self.last_ms = max(self.last_ms, at_ms)
        self.documents, self.bytes = documents, size
        if not self._window or at_ms - self._window[-1][0] >= 100:
            self._window.append((at_ms, documents, size))
        while self._window and at_ms - self._window[0][0] > WINDOW_MS:
            self._window.popleft()
        self.peak = max(self.peak, self.current()[0])

    def current(self) -> tuple[float, float]:
        """Documents and bytes per second over the window."""
        if not self._window:
            return 0.0, 0.0
        at_ms, documents, size = self._window[0]
        span = max(1000, self.last_ms - at_ms) / 1000
        return (self.documents - documents) / span, (self.bytes - size) / span

    def average(self) -> float:
        """Documents per second while a run was active."""
        return self.documents / (self.active_ms / 1000) if self.active_ms else 0.0


def work_done(state: State) -> tuple[int, int]:
    """Documents and bytes that reached their end so far: restored, or verified by a verify job."""
    units = state.units.values()
    if state.spec is not None and state.spec.kind == "verify":
        return sum(unit.source_documents for unit in units), 0
    return (
        sum(unit.restored_documents for unit in units),
        sum(unit.restored_bytes for unit in units),
    )
