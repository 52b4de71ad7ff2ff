"""Opinions as pure functions: how long to wait, when to give up, what shares which workers."""

from typing import Final

from statemachine.events import RunSettings
from statemachine.words import Cause, Millis, TaskKind

MAX_INTERRUPTIONS: Final = 50
"""Deaths of the process that one task may be part of before it is suspected of causing them."""

MAX_REPORTED: Final = 1000
"""Rejected documents of one chunk that the journal names; all are counted."""

DUMP_POOL: Final = (TaskKind.SURVEY, TaskKind.PLAN, TaskKind.DUMP, TaskKind.VERIFY)
RESTORE_POOL: Final = (TaskKind.CREATE, TaskKind.RESTORE, TaskKind.INDEX)
"""Task kinds that share workers, the most urgent first."""


def exhausted(cause: Cause, failures: int, settings: RunSettings) -> bool:
    """Whether the failure that made it `failures` ends the task (A7, A8)."""
    return cause is Cause.PERMANENT or failures >= settings.max_retries


def backoff_ms(failures: int, jitter: float, settings: RunSettings) -> Millis:
    """Exponential with equal jitter (A9): half of `base * 2 ** (failures - 1)` is certain.

    The interval of each failure begins where that of the one before ends, so delays never
    shrink below the cap (I18). `jitter` in 0..1.
    """
    ceiling = min(settings.retry_cap_ms, settings.retry_base_ms * 2 ** min(failures - 1, 40))
    return Millis(int(ceiling / 2 + jitter * ceiling / 2))


def files_limit(settings: RunSettings) -> int:
    """Chunk files, finished or being written, above which no dump starts."""
    return max(settings.files_ahead, settings.dump_workers)
