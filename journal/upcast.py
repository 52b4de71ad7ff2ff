"""Old shapes of events to today's: history is never rewritten, it is read anew.

The shape of a kind counts up from 1. Events of a later shape carry it as their first field,
`{"shape":2,…`; a step leads from each shape to the next. A golden file of each shape that was
ever released stands in `tests/golden/events`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

Fields = dict[str, Any]
Step = Callable[[Fields], Fields]


def _with(**added: Any) -> Step:
    """A step that gives fields that came later the value that they would have had. Some journals
    hold them already: a shape was not always counted when it changed."""

    def step(fields: Fields) -> Fields:
        return {**added, **fields}

    return step


def _settings(fields: Fields) -> Fields:
    came_later = {
        "work_dir": "",
        "retry": "exponential",
        "jitter": "equal",
        "patience_ms": 120_000,
        "breaker_failures": 10,
        "breaker_ms": 5_000,
        "tick_ms": 500,
        "hang_ms": 300_000,
        "read_preference": "primary",
    }
    return {**fields, "settings": {**came_later, **fields["settings"]}}


def _mode(fields: Fields) -> Fields:
    return {**fields, "spec": {"mode": "coordinated", **fields["spec"]}}


def _formats(fields: Fields) -> Fields:
    came_later = {
        "layout": "chunks",
        "into": "",
        "consistency": "fuzzy",
        "renames": [],
        "queries": [],
        "users": False,
        "metadata": False,
        "objcheck": False,
        "salvage": False,
        "legacy_indexes": False,
    }
    return {**fields, "spec": {**came_later, **fields["spec"]}}


def _increments(fields: Fields) -> Fields:
    came_later = {
        "incremental": False,
        "parent": "",
        "keep_log": False,
        "links": 0,
        "at": "",
        "follow": False,
        "deadline_ms": 0,
        "increment_ms": 0,
        "place": "",
    }
    return {**fields, "spec": {**came_later, **fields["spec"]}}


def _shards(fields: Fields) -> Fields:
    came_later = {"shards_in_flight": 10, "capture_bytes": 256 << 20, "follow_ms": 1000}
    return {**fields, "settings": {**came_later, **fields["settings"]}}


def _undo(fields: Fields) -> Fields:
    came_later = {
        "undo": False,
        "swap": "",
        "title": "",
        "endpoints": [],
        "continue_on_error": False,
    }
    return {**fields, "spec": {**came_later, **fields["spec"]}}


def _transforms(fields: Fields) -> Fields:
    return {**fields, "spec": {"transform": "", "model": "", **fields["spec"]}}


def _export(fields: Fields) -> Fields:
    return {**fields, "spec": {"export": None, **fields["spec"]}}


def _worker_memory(fields: Fields) -> Fields:
    return {**fields, "settings": {"worker_memory": 8 << 30, **fields["settings"]}}


def _limits(fields: Fields) -> Fields:
    came_later = {
        "memory_limit": 0,
        "cpu_limit": 0,
        "disk_reserve": 0,
        "read_docs_per_s": 0,
        "read_bytes_per_s": 0,
        "write_docs_per_s": 0,
        "write_bytes_per_s": 0,
        "batch": "adaptive",
        "batch_ms": 0,
        "batch_docs": 0,
        "transform_workers": 0,
        "transform_ms": 60_000,
        "transform_sha256": "",
    }
    return {**fields, "settings": {**came_later, **fields["settings"]}}


STEPS: Final[Mapping[str, tuple[Step, ...]]] = {
    "job_requested": (_mode, _formats, _increments, _undo, _transforms, _export),
    "job_completed": (_with(damaged=0),),
    "survey_completed": (
        _with(cluster_time="", users=0, roles=0, notes=[]),
        _with(since=""),
    ),
    "unit_registered": (_with(expires=False),),
    "run_started": (_settings, _shards, _limits, _worker_memory),
    "dump_completed": (_with(erased=0), _with(rejected=0), _with(parts=[])),
    "pause_requested": (_with(request=0, immediate=False),),
    "create_completed": (_with(uuid=""), _with(found="")),
    **{
        f"{task}_requeued": (_with(request=0),)
        for task in ("survey", "create", "plan", "dump", "restore", "index", "verify")
    },
}
"""By kind: the first step leads from shape 1 to 2, and so on."""


class NewerShape(ValueError):
    """Written by a later ferrylog."""


def stamp(kind: str, data: bytes) -> bytes:
    """Mark the fields of a kind whose shape has changed with today's shape."""
    shape = b'{"shape":%d' % (len(STEPS[kind]) + 1)
    return shape + (b"}" if data == b"{}" else b"," + data[1:])


def upcast(kind: str, data: bytes) -> bytes:
    """The fields in today's shape, without the mark. Raises `ValueError`."""
    steps = STEPS[kind]
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError(f"{kind} is nested too deep") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{kind} holds no object")  # noqa: TRY004 — of the data, not of a caller
    shape = fields.pop("shape", 1)
    if not isinstance(shape, int) or not 1 <= shape <= len(steps) + 1:
        raise NewerShape(f"{kind} has shape {shape!r}; this ferrylog knows 1 to {len(steps) + 1}")
    for step in steps[shape - 1 :]:
        fields = step(fields)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
