"""The state: what a future decision needs, and nothing else.

A job's state is the fold of its events (`evolve`). Settled chunks leave the maps and become
counters, so its size follows the open work, not the history. A state and its parts are owned
by one fold and changed in place: effects carry copies.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, NamedTuple

from statemachine.events import IndexSpec, JobSpec, RunSettings
from statemachine.words import (
    BsonText,
    ChunkId,
    JobStatus,
    Key,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)

STAGES: dict[str, tuple[TaskKind, ...]] = {
    "migrate": (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY),
    "verify": (TaskKind.VERIFY,),
}
"""What is done with a chunk, in order, by the kind of its job."""


@dataclass(slots=True)
class Task:
    """One thing to do: where it stands and what is left of its budget."""

    status: Status = Status.PENDING
    attempt: int = 0
    """Of the last start; counts up over all epochs."""
    failures: int = 0
    """Attempts that failed since the last requeue; the retry budget."""
    interruptions: int = 0
    """Attempts whose process died."""
    epoch: int = 0
    """Of the last start."""
    not_before_ms: int = 0
    code: str = ""
    why: str = ""
    """Of the last failure."""


class ChunkFile(NamedTuple):
    """A whole, durable chunk file."""

    name: str
    documents: int
    bytes: int
    file_bytes: int
    sha256: str


class Done(NamedTuple):
    """How far the restore of a chunk came."""

    position: int = 0
    documents: int = 0
    bytes: int = 0
    present: int = 0
    rejected: int = 0


NOTHING: Final = Done()


@dataclass(slots=True)
class Chunk:
    """A key range with work left on it."""

    id: ChunkId
    unit: UnitId
    lower: Key | None
    upper: Key | None
    documents: int
    natural: bool
    file: ChunkFile | None = None
    done: Done = NOTHING


@dataclass(slots=True)
class Unit:
    """A collection or view: what it is, and its counters. Documents and bytes are sums."""

    id: UnitId
    target: str
    type: Literal["collection", "view"]
    uuid: str
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents_estimate: int
    bytes_estimate: int
    target_uuid: str = ""
    status: UnitStatus = UnitStatus.PENDING
    planned: int = 0
    """Chunks."""
    restored: int = 0
    """Chunks whose restore completed."""
    settled: int = 0
    """Chunks with nothing left to do."""
    weight: int = 0
    """Estimated documents over all chunks, at least 1 each, times the stages of each."""
    weight_done: int = 0
    dumped_documents: int = 0
    dumped_bytes: int = 0
    restored_documents: int = 0
    restored_bytes: int = 0
    present: int = 0
    rejected: int = 0
    mismatched: int = 0
    """Chunks on which source and target differ."""
    source_documents: int = 0
    target_documents: int = 0
    """Counted by verification."""


@dataclass(slots=True)
class State:
    """One job."""

    spec: JobSpec | None = None
    status: JobStatus = JobStatus.PENDING
    epoch: int = 0
    settings: RunSettings | None = None
    closed: bool = False
    """Registration is closed: no unit comes any more."""
    why: str = ""
    """Of the last pause or failure."""
    code: str = ""
    retries: int = 0
    kept: int = 0
    """Chunk files that stay."""
    units: dict[UnitId, Unit] = field(default_factory=dict)
    chunks: dict[ChunkId, Chunk] = field(default_factory=dict)
    tasks: dict[TaskKey, Task] = field(default_factory=dict)
    queues: dict[tuple[TaskKind, Status], dict[TaskKey, None]] = field(default_factory=dict)
    """The same tasks by kind and status, first in first out."""
    open_units: dict[UnitId, None] = field(default_factory=dict)
    releasing: dict[ChunkId, str] = field(default_factory=dict)
    """Settled chunks whose file is still there, and the file's name."""
    files: int = 0
    """Chunk files in the work folder that will go again."""
    done_documents: int = 0
    done_bytes: int = 0
    """Over all units: restored, or verified by a verify job; what rates are made of."""

    @property
    def terminal(self) -> bool:
        return self.status in (JobStatus.COMPLETED, JobStatus.FAILED)

    @property
    def resting(self) -> bool:
        """Nothing more happens without an operator."""
        return self.terminal or self.status in (JobStatus.PAUSED, JobStatus.MOVED)

    @property
    def stages(self) -> tuple[TaskKind, ...]:
        assert self.spec is not None
        stages = STAGES[self.spec.kind]
        return stages if self.spec.verify or len(stages) == 1 else stages[:-1]

    def queue(self, kind: TaskKind, status: Status) -> dict[TaskKey, None]:
        """The tasks of one kind and status in the order in which they came there."""
        return self.queues.get((kind, status), {})

    def count(self, status: Status) -> int:
        return sum(len(queue) for (_, s), queue in self.queues.items() if s is status)


def plain(state: State) -> dict[str, Any]:
    """The whole state as JSON-ready data; map keys are sorted by `digest`, queues keep order."""
    return {
        "spec": state.spec.model_dump(mode="json") if state.spec else None,
        "status": state.status,
        "epoch": state.epoch,
        "settings": state.settings.model_dump(mode="json") if state.settings else None,
        "closed": state.closed,
        "why": state.why,
        "code": state.code,
        "retries": state.retries,
        "kept": state.kept,
        "files": state.files,
        "done_documents": state.done_documents,
        "done_bytes": state.done_bytes,
        "units": {unit_id: _unit(unit) for unit_id, unit in state.units.items()},
        "chunks": {chunk.id: _chunk(chunk) for chunk in state.chunks.values()},
        "tasks": {f"{k.kind} {k.entity}": asdict(task) for k, task in state.tasks.items()},
        "queues": {
            f"{kind} {status}": [key.entity for key in queue]
            for (kind, status), queue in state.queues.items()
            if queue
        },
        "open_units": list(state.open_units),
        "releasing": state.releasing,
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    file = chunk.file._asdict() if chunk.file is not None else None
    return {**asdict(chunk), "file": file, "done": chunk.done._asdict()}


def _unit(unit: Unit) -> dict[str, Any]:
    indexes = [index.model_dump(mode="json") for index in unit.indexes]
    return {**{name: getattr(unit, name) for name in Unit.__slots__}, "indexes": indexes}


def digest(state: State) -> str:
    """SHA-256 over the canonical JSON of the state: equal states, equal digests, any process."""
    text = json.dumps(plain(state), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
