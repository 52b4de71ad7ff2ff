"""A state as plain data, and as a digest."""

import hashlib
import json
from dataclasses import asdict
from typing import Any, Final

from statemachine.state.entities import Chunk, Shard, Undo, Unit
from statemachine.state.job import State


def digest(state: State) -> str:
    """SHA-256 over the canonical JSON of the state: equal states, equal digests, any process."""
    text = json.dumps(plain(state), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plain(state: State) -> dict[str, Any]:
    """The whole state as JSON-ready data; map keys are sorted by `digest`, queues keep order."""
    return {
        **{name: getattr(state, name) for name in SCALARS},
        "spec": state.spec.model_dump(mode="json") if state.spec else None,
        "settings": state.settings.model_dump(mode="json") if state.settings else None,
        "added": list(state.added),
        "priorities": list(state.priorities),
        "units": {unit_id: _unit(unit) for unit_id, unit in state.units.items()},
        "chunks": {chunk.id: _chunk(chunk) for chunk in state.chunks.values()},
        "flawed": {chunk.id: _chunk(chunk) for chunk in state.flawed.values()},
        "filed": {chunk.id: _chunk(chunk) for chunk in state.filed.values()},
        "tasks": {f"{k.kind} {k.entity}": asdict(task) for k, task in state.tasks.items()},
        "queues": {
            f"{kind} {status} {priority}": [key.entity for key in queue]
            for (kind, status, priority), queue in state.queues.items()
            if queue
        },
        "breakers": {pool: asdict(breaker) for pool, breaker in state.breakers.items()},
        "alerts": [list(alert) for alert in state.alerts],
        "open_units": list(state.open_units),
        "ripe": list(state.ripe),
        "quarantine": [list(key) for key in state.quarantine],
        "releasing": state.releasing,
        "links": [list(link) for link in state.links],
        "shards": {shard.id: _shard(shard) for shard in state.shards.values()},
        "operations": [asdict(each) for each in state.operations.values()],
        "undos": [plain_undo(each) for each in state.undos.values()],
    }


def plain_undo(undo: Undo) -> dict[str, Any]:
    return {**asdict(undo), "file": list(undo.file) if undo.file is not None else None}


def _chunk(chunk: Chunk) -> dict[str, Any]:
    file = chunk.file._asdict() if chunk.file is not None else None
    verified = list(chunk.verified)
    return {**asdict(chunk), "file": file, "done": chunk.done._asdict(), "verified": verified}


def _shard(shard: Shard) -> dict[str, Any]:
    return {**asdict(shard), "file": shard.file._asdict(), "done": shard.done._asdict()}


def _unit(unit: Unit) -> dict[str, Any]:
    indexes = [index.model_dump(mode="json") for index in unit.indexes]
    return {**{name: getattr(unit, name) for name in Unit.__slots__}, "indexes": indexes}


SCALARS: Final = (
    "status", "epoch", "closed", "why", "code", "request", "immediate", "rollback", "dropped",
    "suspects", "adding", "damaged", "cluster_time", "users", "roles", "retries", "kept", "files",
    "done_documents", "done_bytes", "since", "token", "reached", "changes", "outdated", "moments",
    "highest", "forgotten", "lag_ms", "cutover", "drained", "differing", "phase", "increment",
    "applied", "deadline_ms", "proposed", "shards_planned", "upserted", "erased",
    "undone", "skipped", "undo_kept", "rolled_to", "forced", "persevering", "committed",
)  # fmt: skip
"""Fields of a state that are one plain value each."""
