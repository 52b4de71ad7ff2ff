"""The export of one chunk: a range of a collection to whole objects of a store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from executors.batches import Block, read_range
from executors.dump import as_called, mean_bytes, must_be_same
from executors.export.files import Files
from executors.export.model import Recipe
from executors.export.names import attempt_at
from executors.export.place import Export, must_be_ours
from executors.export.recipes import recipe_of
from executors.export.writers import writer_of
from executors.folder import folder_name
from executors.pace import Pace
from executors.protocol import StopToken
from executors.rawbson import documents
from executors.source import range_of
from executors.transforms.heldback import HeldBack, Reject, Through
from statemachine.effects import Effect
from statemachine.events import FilePart, JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Dumped


def export_chunk(
    client: MongoClient[Any],
    effect: Effect,
    spec: JobSpec,
    to: Export,
    folder: Path,
    stop: StopToken,
    *,
    pace: Pace,
    through: Through | None,
) -> Dumped:
    """The chunk's documents, or what the user's own code makes of them, are in the store, in files
    that are whole and durable when this returns; so are those that the code holds back, or that the
    form cannot hold, in the job's work folder.

    Raises what `through` and the store raise, `NoConverter`, `PyMongoError`, `OSError`,
    `OtherCollection`, `PlaceTaken` where another job has the place by now, `Stopped`.
    """
    unit, chunk = effect.unit, effect.chunk
    assert unit is not None and chunk is not None
    read = as_called(client, unit, spec)
    recipe = recipe_of(spec, unit)
    attempt = attempt_at(chunk, to.job, effect.epoch, effect.attempt, recipe.suffix)
    blocks = _read(client, read, effect, spec, stop, pace)
    with (
        HeldBack(folder, unit, chunk) as back,
        Files(to.store, attempt, writer_of(recipe, unit.id, to.worker_memory)) as files,
    ):
        if through is not None:
            blocks = through(blocks, back.reject, stop)
        count = _convert(blocks, recipe, to, files, back.reject, stop, pace)
        must_be_same(client, read)  # before anything is put: it may be large
        must_be_ours(to.store, to.job)
        back.sync()
        parts = tuple(files.put(stop))
    return _dumped(chunk, parts, count, back)


def _read(
    client: MongoClient[Any],
    unit: Unit,
    effect: Effect,
    spec: JobSpec,
    stop: StopToken,
    pace: Pace,
) -> Iterator[Block]:
    assert effect.chunk is not None
    what = range_of(
        unit,
        effect.chunk,
        spec,
        read_preference=effect.read_preference,
        cluster_time=effect.cluster_time,
        since=effect.since,
    )
    return read_range(client, what, stop, document_bytes=mean_bytes(unit), pace=pace)


def _convert(
    blocks: Iterator[Block],
    recipe: Recipe,
    to: Export,
    files: Files,
    reject: Reject,
    stop: StopToken,
    pace: Pace,
) -> tuple[int, int]:
    """How many blocks and bytes came."""
    count = size = 0
    for block, converted in to.processes.converted(recipe, blocks, stop):
        if converted.misfits:
            every = [*documents(block.data)]
            for index, code, why in converted.misfits:
                reject(every[index], code, why)
                size -= len(every[index])
        written = sum(piece.documents for piece in converted.pieces)
        if written + len(converted.misfits) != block.documents:
            raise AssertionError(f"{block.documents} documents became {written}")
        for piece in converted.pieces:
            pace.files(len(piece.data), stop)
            files.add(piece)
        count += 1
        size += len(block.data)
    return count, size


def _dumped(
    chunk: Chunk, parts: tuple[FilePart, ...], count: tuple[int, int], back: HeldBack
) -> Dumped:
    """A chunk without documents has no file: only its folder is named."""
    only = parts[0] if len(parts) == 1 else None
    return Dumped(
        file=only.name if only is not None else folder_name(chunk.unit),
        documents=sum(part.documents for part in parts),
        bytes=count[1],
        file_bytes=sum(part.file_bytes for part in parts),
        blocks=count[0],
        sha256=only.sha256 if only is not None else "",
        rejected=back.count,
        rejections=tuple(back.named),
        parts=() if only is not None else parts,
    )
