"""Options and environment to the settings of a run."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from ferrylog.cli.options import Batch, Jitter, OnExhausted, ReadPreference, Retry, whole_number
from ferrylog.errors import Usage
from statemachine.events import RunSettings

DEFAULTS: Final = RunSettings(
    dump_workers=4,
    restore_workers=4,
    max_retries=3,
    on_exhausted="pause",
    retry_base_ms=1_000,
    retry_cap_ms=60_000,
    files_ahead=64,
    work_dir="",
    retry="exponential",
    jitter="equal",
    patience_ms=120_000,
    breaker_failures=10,
    breaker_ms=30_000,
    tick_ms=2_000,
    hang_ms=300_000,
    read_preference="primary",
)


def run_settings(
    before: RunSettings | None = None,
    *,
    dump_workers: int | None = None,
    restore_workers: int | None = None,
    max_retries: int | None = None,
    on_exhausted: OnExhausted | None = None,
    work_dir: Path | None = None,
    retry: Retry | None = None,
    jitter: Jitter | None = None,
    retry_base: float | None = None,
    retry_cap: float | None = None,
    patience: float | None = None,
    breaker_failures: int | None = None,
    breaker_wait: float | None = None,
    tick: float | None = None,
    read_preference: ReadPreference | None = None,
    shards_in_flight: int | None = None,
    capture_bytes: int | None = None,
    limits: Mapping[str, int | None] | None = None,
    batch: Batch | None = None,
    batch_ms: int | None = None,
    batch_docs: int | None = None,
    transform_workers: int | None = None,
    transform_ms: int | None = None,
    worker_memory: int | None = None,
) -> RunSettings:
    """What was given; else what the run before had at its end; else the defaults."""
    given = {
        "dump_workers": dump_workers,
        "restore_workers": restore_workers,
        "max_retries": max_retries,
        "on_exhausted": on_exhausted,
        "work_dir": str(work_dir.absolute()) if work_dir else None,
        "retry": retry,
        "jitter": jitter,
        "retry_base_ms": _from_environment("FERRYLOG_RETRY_BASE_MS", _ms(retry_base)),
        "retry_cap_ms": _ms(retry_cap),
        "patience_ms": _ms(patience),
        "breaker_failures": breaker_failures,
        "breaker_ms": _ms(breaker_wait),
        "tick_ms": _ms(tick),
        "read_preference": read_preference,
        "shards_in_flight": shards_in_flight,
        "capture_bytes": capture_bytes,
        **(limits or {}),
        "batch": batch or _batch_from_environment(),
        "batch_ms": batch_ms,
        "batch_docs": batch_docs,
        "transform_workers": transform_workers,
        "transform_ms": transform_ms,
        "worker_memory": worker_memory,
    }
    known = (before or DEFAULTS).model_dump()
    known |= {name: value for name, value in given.items() if value is not None}
    if dump_workers or restore_workers:
        workers = known["dump_workers"] + known["restore_workers"]
        known["files_ahead"] = max(DEFAULTS.files_ahead, 4 * workers)
    return RunSettings.model_validate(known)


def _ms(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if math.isnan(seconds):
        raise Usage("nan is no number of seconds")
    return round(seconds * 1000)


def defaults(source_uri: str) -> RunSettings:
    """Those of a new job: its source is read where the connection string says."""
    options = {name.lower(): value for name, value in parse_qsl(source_uri.partition("?")[2])}
    preference = options.get("readpreference")
    if preference not in tuple(ReadPreference):  # what it cannot be, connecting refuses
        return DEFAULTS
    return RunSettings.model_validate({**DEFAULTS.model_dump(), "read_preference": preference})


def digest_every() -> int:
    """Events between two state digests in the log; one costs with the open chunks."""
    return max(1, _from_environment("FERRYLOG_DIGEST_EVERY", None) or 10_000)


def _batch_from_environment() -> Batch | None:
    text = os.environ.get("BATCH_SIZE_ADAPTIVE")
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise Usage(f"BATCH_SIZE_ADAPTIVE is {text!r}", remedy="true, or false for a fixed size")
    return Batch.ADAPTIVE if text.lower() == "true" else Batch.FIXED


def _from_environment(name: str, nearer: int | None) -> int | None:
    """The number of that name, where a flag has not given one."""
    text = os.environ.get(name)
    if nearer is not None or text is None:
        return nearer
    if not whole_number(text):
        raise Usage(f"{name} is {text!r}", remedy="give a whole number")
    return int(text)
