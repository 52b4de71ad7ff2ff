"""Chunk file to target, block by block (see `executors.write`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from executors.batches import BLOCK_BYTES, Block
from executors.identity import came_by_id, with_ids
from executors.pace import UNLIMITED, Pace
from executors.partfile import check_file, file_blocks
from executors.placement import Mine, kept
from executors.protocol import StopToken
from executors.rejected import Rejects, rejected_path
from executors.sizing import WHOLE, Sizer
from executors.unchanged import Unchanged
from executors.undo.recording import log_of
from executors.write import Tally, Writer
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit, transforms
from statemachine.stimuli import Restored
from statemachine.words import TaskKey, TaskKind


def restore(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    path: Path,
    folder: Path,
    stop: StopToken,
    mine: Mine | None = None,
    *,
    pace: Pace = UNLIMITED,
    sizer: Sizer = WHOLE,
    unchanged: Unchanged | None = None,
) -> Iterator[Restored]:
    """Insert the documents of the chunk's file, which lies at `path`, from the journaled position
    on; yield after each acknowledged block. The last yield is the whole. `folder` is the job's
    own, for what is rejected, and the undo log. What is not `mine` is passed over and counts as
    nothing. `unchanged`: files that were looked at a while ago.

    Raises `DamagedFile` before anything is written, `Conflict`, `PyMongoError`, `OSError`.
    """
    assert chunk.file is not None
    if unchanged is None or not unchanged.still_holds(path, chunk.file):
        check_file(path, chunk.file, stop)
    began = chunk.done.position
    task = TaskKey(TaskKind.RESTORE, chunk.id)
    with (
        Rejects(rejected_path(folder, unit.id, chunk.id)) as rejects,
        log_of(folder, unit, task, spec) as log,
    ):
        strange = spec.kind == "restore" and not came_by_id(chunk)
        how = _over_itself(spec, unit, chunk)
        writer = Writer(client, unit, how, stop, log, pace=pace, sizer=sizer)
        tally = Tally.after(chunk.done, rejects)
        for block, position in _paced(file_blocks(path, chunk.file, began), pace, stop):
            whole = with_ids(block, chunk.file, position) if strange else block
            if (wanted := kept(whole, mine)).documents:
                writer.insert(wanted, tally)
            yield Restored(position, *tally.news())
        if began == chunk.file.file_bytes:
            yield Restored(began, *tally.news())


def _paced(
    blocks: Iterator[tuple[Block, int]], pace: Pace, stop: StopToken
) -> Iterator[tuple[Block, int]]:
    """Each is read when there is room for it, as big as the one before it."""
    size = BLOCK_BYTES
    while True:
        with pace.loads(size, stop) as room:
            if (found := next(blocks, None)) is None:
                return
            size = len(found[0].data)
            room.holds(size)
            yield found
            del found


def _over_itself(spec: JobSpec, unit: Unit, chunk: Chunk) -> JobSpec:
    """Code of the user's own may make another document of the same one, when its chunk is dumped
    again: in a collection of the job's own the newer takes the older one's place."""
    if not (chunk.again and transforms(spec)) or unit.found == "documents":
        return spec
    return spec.model_copy(update={"on_conflict": "overwrite"})
