"""Opinions as pure functions: how long to wait, when to give up, what shares which workers."""

from collections.abc import Mapping
from typing import Final

from statemachine.events import RunSettings
from statemachine.state import Breaker, Task
from statemachine.words import Cause, Millis, Pool, TaskKind

US: Final = "ferrylog"
"""Who acts when nobody asked."""

MAX_INTERRUPTIONS: Final = 50
"""Deaths of the process that one task may be part of before it is suspected of causing them."""

MAX_DEATHS: Final = 2
"""The same, of a task that carries a chunk's documents: one of them may be what kills."""

MAX_SUSPECTS: Final = 20
"""Chunks cut in two in a row, without a part that could be carried: then not a
document is to blame but the whole."""

MAX_LOST: Final = 20
"""Attempts at a manifest, over all runs, after which the loss of a file pauses the job."""

MAX_MOMENTS: Final = 20
"""Times that an increment goes on to a later cluster time, because the source cannot be read as of
the one before, until the job fails."""

PASSING: Final = "EUNIQUE001"
"""Code of documents of a full dump that are rejected until the first increment brings them."""

MAX_REPORTED: Final = 1000
"""Rejected documents of one chunk that the journal names; all are counted."""

POOLS: Final[Mapping[Pool, tuple[TaskKind, ...]]] = {
    Pool.DUMP: (
        TaskKind.SURVEY,
        TaskKind.CAPTURE,
        TaskKind.CENSUS,
        TaskKind.PLAN,
        TaskKind.SPLIT,
        TaskKind.DUMP,
        TaskKind.VERIFY,
        TaskKind.MANIFEST,
    ),
    Pool.RESTORE: (
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
    ),
    Pool.APPLY: (TaskKind.APPLY,),
}
"""Task kinds that share workers, the most urgent first."""
POOL_OF: Final = {kind: pool for pool, kinds in POOLS.items() for kind in kinds}

RETRY_SHARE: Final = 4
"""One in so many slots of a pool may hold a retry while there is fresh work."""

BISECTED: Final = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.COPY)
"""Tasks that one document can spoil."""
NO_DOCUMENTS_FAULT: Final = frozenset(
    {
        "ECONFLICT001",
        "ESOURCE001",
        "ESOURCE002",
        "ETARGET001",
        "ETARGET002",
        "EMONGO026",
        "EMONGO073",
        "EMONGO024",
        "EMONGO064",
        "EDISK000",
        "ESNAP001",
        "ETASK002",
        "ETRANSFORM001",
        "ETRANSFORM002",
        "ETRANSFORM003",
        "ETRANSFORM005",
        "EEXPORT001",
        "EEXPORT020",
        "EEXPORT021",
    }
)
"""Codes of failures that every part of the chunk would meet again, or none."""

COUNTED: Final = (Cause.TRANSIENT, Cause.UNAVAILABLE)
"""Failures that open a breaker: of a permanent one the next task knows nothing."""
MAX_BREAKER_MS: Final = 60_000
LEAST_WAIT_MS: Final = 100
"""Before an unavailable deployment is asked again, whatever the policy."""


def workers_of(pool: Pool, settings: RunSettings) -> int:
    return {
        Pool.DUMP: settings.dump_workers,
        Pool.RESTORE: settings.restore_workers,
        Pool.APPLY: settings.shards_in_flight,
    }[pool]


def retries_of(workers: int) -> int:
    """Slots that retries may hold while there is fresh work (I27)."""
    return max(1, workers // RETRY_SHARE)


def exhausted(cause: Cause, task: Task, breaker: Breaker, settings: RunSettings) -> bool:
    """Whether one more failure of this cause ends the task (A7, A8).

    What is unavailable is waited out, not held against the task, until patience ends: with the
    delays of the task and with those of its pool's breaker, behind which all others wait.
    """
    if cause is Cause.PERMANENT or settings.retry == "none":
        return True
    if cause is Cause.UNAVAILABLE:
        return task.waited_ms + breaker.waited_ms >= settings.patience_ms
    return task.failures + 1 >= settings.max_retries


def backoff_ms(task: Task, jitter: float, settings: RunSettings) -> Millis:
    """The delay after the next failure of a task (A9, A31): `jitter` in 0..1 places it between
    the bounds of `delay_bounds_ms`; below the cap none is shorter than the one before (I18)."""
    low, high = delay_bounds_ms(task, settings)
    drawn = max(task.delay_ms, int(low + jitter * (high - low)))
    return Millis(min(settings.retry_cap_ms, drawn))


def delay_bounds_ms(task: Task, settings: RunSettings) -> tuple[float, float]:
    """Between which delays the next one is drawn.

    The ceiling grows by the policy up to the cap. Full jitter draws from nothing to the ceiling,
    equal jitter from half of it, decorrelated from the base to three times the last delay (these
    three after "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    base, cap, n = settings.retry_base_ms, settings.retry_cap_ms, task.failures + task.waits
    growth = {"none": 1, "fixed": 1, "linear": n + 1, "exponential": 2 ** min(n, 40)}
    ceiling = min(cap, base * growth[settings.retry])
    bounds: dict[str, tuple[float, float]] = {
        "none": (ceiling, ceiling),
        "full": (0, ceiling),
        "equal": (ceiling / 2, ceiling),
        "decorrelated": (min(base, cap), min(cap, max(base, 3 * task.delay_ms))),
    }
    return bounds[settings.jitter]


def open_ms(opened: int, settings: RunSettings) -> int:
    """How long a breaker stays open that has opened so often in a row."""
    longest = max(settings.breaker_ms, MAX_BREAKER_MS)
    return min(settings.breaker_ms << min(opened, 40), longest)


def next_tick_ms(last_ms: int, *, busy: bool, settings: RunSettings) -> int:
    """The tick by workload (A33): halved by a turn that brought something, down to an eighth;
    doubled by one that did not, up to the whole."""
    if busy:
        return max(settings.tick_ms // 8, last_ms // 2, 1)
    return min(settings.tick_ms, max(1, last_ms * 2))


def files_limit(settings: RunSettings) -> int:
    """Chunk files of the work folder, whole or on their way there, above which nothing starts that
    brings another."""
    return max(settings.files_ahead, settings.dump_workers)
