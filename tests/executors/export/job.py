"""What tests of whole exports share: a place, and a job that exports to there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from executors.export.ending import end_export
from executors.export.manifest import Facts
from executors.export.place import Export
from executors.export.processes import Processes
from executors.export.task import export_chunk
from executors.pace import UNLIMITED
from executors.storage.protocol import Store
from executors.transforms.heldback import Through
from statemachine.effects import Effect
from statemachine.events import ExportSpec, JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.state.entities import Part
from statemachine.stimuli import Dumped, Manifested, Unfiled
from statemachine.words import THE_JOB, TaskKey, TaskKind
from tests.executors.examples import Client, Looks, spec

JOB = "20261122-143000-7f3a"
FACTS = Facts(
    tool="ferrylog 0",
    job=JOB,
    created="2026-11-22T14:30:00.000Z",
    source="mongodb://host/",
    source_id="rs:1",
    server_version="6.0.5",
    format="jsonl",
    compression="none",
)


def asked(**form: Any) -> JobSpec:
    """An export, to JSON lines as they are unless it is said otherwise."""
    wanted = ExportSpec.model_validate({"format": "jsonl", **form})
    return spec(kind="export", compression="none", export=wanted)


class Job:
    """One job's export to a store, step by step."""

    def __init__(
        self, store: Store, processes: Processes, folder: Path, wanted: JobSpec, job: str = JOB
    ) -> None:
        facts = FACTS.model_copy(update={"job": job})
        self.to = Export(job, store, processes, lambda: facts, lambda: 1 << 30)
        self.spec = wanted
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def export(
        self,
        client: Client,
        unit: Unit,
        chunk: Chunk,
        *,
        attempt: int = 1,
        through: Through | None = None,
    ) -> Dumped:
        task = TaskKey(TaskKind.DUMP, chunk.id)
        effect = Effect(task, attempt, 1, unit, chunk)
        how: dict[str, Any] = {"pace": UNLIMITED, "through": through}
        return export_chunk(client, effect, self.spec, self.to, self.folder, Looks(), **how)

    def end(
        self, units: Sequence[Unit], filed: Sequence[Chunk], **more: Any
    ) -> Manifested | Unfiled:
        task = TaskKey(TaskKind.MANIFEST, THE_JOB)
        effect = Effect(task, 1, 1, None, units=tuple(units), filed=tuple(filed), **more)
        return end_export(self.to, self.spec, effect, Looks())


def file_of(done: Dumped) -> ChunkFile:
    """As the state remembers it."""
    return ChunkFile(
        done.file,
        done.documents,
        done.bytes,
        done.file_bytes,
        done.sha256,
        rejected=done.rejected,
        parts=tuple(Part(p.name, p.documents, p.file_bytes, p.sha256) for p in done.parts),
    )
