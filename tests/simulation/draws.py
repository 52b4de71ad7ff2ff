"""What a seed decides before anything happens: the kind of a job, its limits, its policies."""

from collections.abc import Sequence
from random import Random
from typing import Any

from statemachine.events import ExportSpec, JobSpec, RunSettings
from tests.statemachine.examples import SETTINGS

RETRIES = ("none", "fixed", "linear", "exponential", "exponential")
KINDS = ("plan", *["verify"] * 3, *["dump"] * 9, *["restore"] * 7, *["migrate"] * 16)
INCREMENTS: dict[str, dict[str, object]] = {
    "chain": {"kind": "restore", "source": "file:/dump"},
    "increment": {"kind": "dump", "incremental": True, "target": "file:/dump", "parent": "00"},
    "follow": {"kind": "migrate", "follow": True},
}
"""What sets jobs of increments apart from others."""
EVERY_KIND = (*KINDS, *["chain"] * 7, *["increment"] * 5, *["follow"] * 6, *["group"] * 8)
BEGIN_MS = 1_000_000
FROM_DUMP = {"restore": 1.0, "verify": 0.6, "plan": 0.3}
"""How often the source is a dump."""
POLICIES = ("pause", "pause", "skip-unit", "fail-job")


def draw_spec(random: Random, kinds: Sequence[str] = EVERY_KIND) -> JobSpec:
    kind: Any = random.choice(kinds)
    mode = "direct" if random.random() < 0.3 else "coordinated"
    dump = random.random() < FROM_DUMP.get(kind, 0)
    spec = JobSpec(
        kind="migrate" if kind in INCREMENTS else kind,
        mode=mode,
        source="file:/dump" if dump else "mongodb://a/",
        target="mongodb://b/",
        source_id="a:1",
        target_id="b:2",
        chunk_docs=5,
        chunk_bytes=1000,
        compression="none",
        write_concern="majority",
        drop=False,
        on_conflict="stop",
        verify=True,
    )
    if kind == "export":
        form = random.choice(("parquet", "jsonl"))
        return spec.model_copy(update={"export": ExportSpec(format=form)})
    if kind == "group":
        return spec.model_copy(update={"undo": True, "continue_on_error": random.random() < 0.3})
    if spec.kind in ("migrate", "restore") and random.random() < 0.5:
        spec = spec.model_copy(update={"undo": True})
    if kind not in INCREMENTS:
        return spec
    return spec.model_copy(update={**INCREMENTS[kind], **_limits(random, kind)})


def _limits(random: Random, kind: str) -> dict[str, object]:
    limits: dict[str, object] = {}
    if kind == "chain":
        limits["links"] = random.randint(1, 4)
        if random.random() < 0.2:
            limits["increment_ms"] = random.randint(200, 5000)
    if random.random() < 0.1:
        limits["deadline_ms"] = BEGIN_MS + random.randint(500, 20_000)
    return limits


def draw_settings(random: Random) -> RunSettings:
    drawn = {
        "dump_workers": random.randint(1, 5),
        "restore_workers": random.randint(1, 5),
        "max_retries": random.randint(1, 4),
        "on_exhausted": random.choice(POLICIES),
        "retry": random.choice(RETRIES),
        "jitter": random.choice(("none", "full", "equal", "decorrelated")),
        "retry_base_ms": random.choice((0, 100, 100)),
        "retry_cap_ms": 1000,
        "patience_ms": random.choice((0, 500, 5000)),
        "breaker_failures": random.randint(1, 6),
        "breaker_ms": random.choice((50, 500)),
        "files_ahead": random.randint(1, 6),
        "shards_in_flight": random.randint(1, 4),
    }
    return SETTINGS.model_copy(update=drawn)
