"""So much per second, by all workers together."""

from typing import Final

BURST_S: Final = 0.25
"""Of the rate that an idle moment saves up: jitter is made good, a pause is not."""


class Bucket:
    """Fills with time. A batch goes when all before it are paid for, and is paid for after: so one
    that is bigger than a second's worth goes too. Callers hold a lock."""

    def __init__(self, now_s: float) -> None:
        self._given = 0.0
        self._taken = 0.0
        self._at_s = now_s

    def take(self, amount: int, rate: int, now_s: float) -> float:
        """The ticket of a batch. `rate` 0: no limit."""
        self._fill(rate, now_s)
        ticket, self._taken = self._taken, self._taken + amount
        return ticket

    def is_due(self, ticket: float, rate: int, now_s: float) -> bool:
        """Whether the batch with that ticket may go."""
        self._fill(rate, now_s)
        return self._given >= ticket

    def _fill(self, rate: int, now_s: float) -> None:
        since_s, self._at_s = now_s - self._at_s, now_s
        given = self._given + rate * since_s
        self._given = min(given, self._taken + rate * BURST_S) if rate else self._taken
