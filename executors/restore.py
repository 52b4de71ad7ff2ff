"""Chunk file to target, block by block (see `executors.write`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from executors.chunkfile import check_chunk_file, read_blocks
from executors.folder import inside
from executors.protocol import StopToken
from executors.rejected import Rejects, rejected_path
from executors.write import Tally, Writer
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Restored


def restore(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    folder: Path,
    stop: StopToken,
) -> Iterator[Restored]:
    """Insert the chunk file's documents from the journaled position on; yield after each
    acknowledged block. The last yield is the whole.

    Raises `DamagedFile` before anything is written, `Conflict`, `PyMongoError`, `OSError`.
    """
    assert chunk.file is not None
    path = inside(folder, chunk.file.name)
    check_chunk_file(path, file_bytes=chunk.file.file_bytes, sha256=chunk.file.sha256, stop=stop)
    began = chunk.done.position
    writer = Writer(client, unit, spec, stop)
    with Rejects(rejected_path(folder, unit.id, chunk.id)) as rejects:
        tally = Tally.after(chunk.done, rejects)
        for block, position in read_blocks(path, began):
            writer.insert(block, tally)
            yield Restored(position, *tally.news())
        if began == chunk.file.file_bytes:
            yield Restored(began, *tally.news())
