"""Laws of waiting: within which interval a delay is drawn; what a breaker must do (I18, I43)."""

from dataclasses import dataclass

from statemachine.events import (
    BreakerOpened,
    RunSettings,
)
from statemachine.words import Cause, Pool, TaskKey, TaskKind

UNAVAILABLE = Cause.UNAVAILABLE
WRITERS = (
    TaskKind.CREATE,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.INDEX,
    TaskKind.FINISH,
    TaskKind.SHAPE,
    TaskKind.SETTLE,
    TaskKind.FOLLOW,
    TaskKind.OPERATION,
    TaskKind.UNDO,
)
POOLS = {
    **{kind: Pool.RESTORE if kind in WRITERS else Pool.DUMP for kind in TaskKind},
    TaskKind.APPLY: Pool.APPLY,
}


def workers_of(pool: Pool, settings: RunSettings) -> int:
    """I26, Y17."""
    if pool is Pool.APPLY:
        return settings.shards_in_flight
    return settings.dump_workers if pool is Pool.DUMP else settings.restore_workers


def interval(settings: RunSettings, n: int, last: int) -> tuple[float, float]:
    """Within which the delay after failure number `n + 1` is drawn."""
    base, cap = settings.retry_base_ms, settings.retry_cap_ms
    factor = {"fixed": 1, "linear": n + 1, "exponential": 2**n}[settings.retry]
    ceiling = min(cap, base * factor)
    return {
        "none": (ceiling, ceiling),
        "full": (0, ceiling),
        "equal": (ceiling / 2, ceiling),
        "decorrelated": (min(base, cap), min(cap, max(base, 3 * last))),
    }[settings.jitter]


@dataclass
class Valve:
    """I43: what a breaker must do, told by the failures that the journal holds."""

    failures: int = 0
    until: int | None = None
    probe: TaskKey | None = None

    def fails(self, key: TaskKey, cause: Cause) -> None:
        if cause in (Cause.TRANSIENT, UNAVAILABLE):
            self.failures += 1
        else:
            self.leaves(key)

    def opens(self, event: BreakerOpened, limit: int) -> None:
        if self.until is None:
            assert event.failures == self.failures >= limit, "I43: exactly at the limit"
        else:
            assert self.probe, "I43: opened again without a probe"
        self.until, self.probe = event.until_ms, None

    def closes(self) -> None:
        assert self.until is not None and not self.failures, "I43: closed for nothing"
        self.until, self.probe = None, None

    def leaves(self, key: TaskKey) -> None:
        """The task has ended without a word on the deployment."""
        if self.probe == key:
            self.probe = None

    def starts(self, key: TaskKey, now: int, settings: RunSettings | None) -> None:
        assert settings is not None
        if self.until is None:
            assert self.failures < settings.breaker_failures or self.excused, "I43: not opened"
            return
        went_back = self.until > now + DAY_MS
        assert now >= self.until or went_back, "I43: a call while it is open"
        assert self.probe is None, "I43: more than one probe"
        self.probe = key

    excused: bool = False
    """The limit was lowered by an operator below what had failed already."""


DAY_MS = 86_400_000
