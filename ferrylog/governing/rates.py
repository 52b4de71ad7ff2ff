"""So much per second, by all workers together."""

from typing import Final

BURST_S: Final = 0.25
"""Of the rate that an idle moment saves up: jitter is made good, a pause is not."""


class Bucket:
    """Fills with time. A batch goes when all before it are paid for, and is paid for after: so one
    that is bigger than a second's worth goes too. Callers hold a lock."""

    def __init__(self) -> None:
        self._given = 0.0
        self._taken = 0.0
        self._at_s = 0.0

    def take(self, amount: int) -> float:
        """The ticket of a batch."""
        ticket, self._taken = self._taken, self._taken + amount
        return ticket

    def is_due(self, ticket: float, rate: int, now_s: float) -> bool:
        """Whether the batch with that ticket may go; `rate` 0: all may, and nothing is owed."""
        since_s, self._at_s = now_s - self._at_s, now_s
        if not rate:
            self._given = self._taken
            return True
        self._given = min(self._given + rate * since_s, self._taken + rate * BURST_S)
        return self._given >= ticket
