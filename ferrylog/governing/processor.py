"""A ceiling on the processor time of this process."""

from collections import deque
from typing import Final

BURST_S: Final = 0.25
"""Of the ceiling that an idle moment saves up."""
SUSTAINED_S: Final = 30
"""What counts as sustained."""
SAMPLES: Final = 2 * SUSTAINED_S
"""Kept at most, one for each look."""
STILL_S: Final = 5.0
"""After which one batch goes whatever was taken: the process takes something while all wait, and
below that no ceiling is ever reached by waiting."""


class Processor:
    """A budget of processor seconds that fills with time: as long as more was taken than it held,
    whoever asks waits. Callers hold a lock."""

    def __init__(self, cores: int, now_s: float, cpu_s: float) -> None:
        self._cores = cores
        self._at_s = now_s
        self._cpu_s = cpu_s
        self._left_s = 0.0
        self._went_s = now_s
        """When a batch went last."""
        self._samples = deque([(now_s, cpu_s)], maxlen=SAMPLES + 1)

    def has_time(self, percent: int, now_s: float, cpu_s: float) -> bool:
        """`percent`: of all cores; 0: no ceiling. `cpu_s`: what the process took so far."""
        share = (percent or 100) / 100 * self._cores
        since_s, taken_s = now_s - self._at_s, cpu_s - self._cpu_s
        self._at_s, self._cpu_s = now_s, cpu_s
        self._left_s = min(self._left_s + share * since_s - taken_s, share * BURST_S)
        if not percent:
            self._left_s = max(0.0, self._left_s)
        return self._left_s >= 0 or now_s - self._went_s >= STILL_S

    def went(self, now_s: float) -> None:
        """A batch did."""
        self._went_s = now_s

    def look(self, now_s: float, cpu_s: float) -> None:
        """Twice a second."""
        self._samples.append((now_s, cpu_s))

    def sustained(self, now_s: float) -> float:
        """The share of all cores taken over the last half minute; 0 before there was one."""
        before_s, before_cpu_s = self._samples[0]
        last_s, last_cpu_s = self._samples[-1]
        if now_s - before_s < SUSTAINED_S - 1:
            return 0.0
        return (last_cpu_s - before_cpu_s) / max(1e-9, last_s - before_s) / self._cores
