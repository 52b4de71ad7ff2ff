"""The promise of an executor."""

from collections.abc import Callable
from typing import Protocol

from statemachine.effects import Effect
from statemachine.stimuli import Outcome, Progressed, Resized

Report = Callable[[Progressed | Resized], None]
"""Called from the executor's thread with each part of a restore or a copy that is acknowledged, and
when write commands become bigger or smaller."""


class StopToken(Protocol):
    """Looked at once per batch: that is also the sign of life of what runs long."""

    def is_set(self) -> bool: ...


class Executor(Protocol):
    """Carries out one effect against the outside world.

    The same effect may arrive twice (after a crash it will): running it twice leaves the world
    as running it once. A failure of the world is returned as `Failed`; only our own bugs are
    raised. An outcome is returned only when its effect is durable: a file synced under its
    name, a write acknowledged with the job's write concern.
    """

    def run(self, effect: Effect, stop: StopToken, report: Report) -> Outcome: ...


class Stopped(Exception):
    """The stop token was set; the attempt ends without outcome."""
