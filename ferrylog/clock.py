"""The one module that reads a clock or draws lots."""

import random
import secrets
import time
from datetime import UTC, datetime

from statemachine.words import JobId, Millis


def now_ms() -> Millis:
    """Wall clock, milliseconds since the Unix epoch."""
    return Millis(time.time_ns() // 1_000_000)


def monotonic_s() -> float:
    return time.monotonic()


def cpu_s() -> float:
    """Processor seconds that this process took, all of its threads together."""
    return time.process_time()


def sleep_s(duration_s: float) -> None:
    time.sleep(duration_s)


def jitter() -> float:
    """In 0..1."""
    return random.random()


def new_job_id() -> JobId:
    """Sorts by time, is easy to say and to type: `20261122-143000-7f3a`."""
    return JobId(f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")


def when(at_ms: int) -> str:
    """An instant for people and for JSON: ISO 8601, UTC, milliseconds.

    A number that is no instant (a damaged row may hold any) is shown as it is.
    """
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
