"""Writers wait while their server has more to do than it gets done."""

from dataclasses import dataclass
from typing import Final

from executors.pressure import DIRTY_TRIGGER, USED_TRIGGER, Load

FIRST_S: Final = 0.02
LONGEST_S: Final = 1.0
"""Between two write commands of one worker."""
IN_A_ROW: Final = 2
"""Looks that have to agree: the cache of a busy server touches its triggers now and then, and
writes out by itself what is above them."""
OVER: Final = 1.05
"""Times a trigger: WiredTiger itself keeps what a single client writes about there."""
QUEUED: Final = 128
"""Operations that wait for their turn, at least; as many tickets as servers give by default."""


@dataclass(slots=True)
class Backoff:
    """What writers wait before each command: doubled while the server is pressed, halved from the
    first look at which it is not, until it is nothing."""

    pause_s: float = 0.0
    why: str = ""
    _pressed: int = 0

    def look(self, load: Load | None) -> bool:
        """Whether the server is pressed; one that does not say is not."""
        why = _pressed_by(load) if load is not None else ""
        self._pressed = self._pressed + 1 if why else 0
        if self._pressed >= IN_A_ROW:
            self.why = why
            self.pause_s = min(LONGEST_S, max(FIRST_S, 2 * self.pause_s))
            return True
        self.pause_s = self.pause_s / 2 if self.pause_s > FIRST_S else 0.0
        return False


def _pressed_by(load: Load) -> str:
    if load.dirty > OVER * DIRTY_TRIGGER:
        return f"{load.dirty:.0%} of the target's cache is not written out"
    if load.used > USED_TRIGGER:
        return f"{load.used:.0%} of the target's cache is in use"
    if load.lagged:
        return "the target's flow control waits for its members"
    if load.queued >= QUEUED:
        return f"{load.queued} operations wait for the target"
    return ""
