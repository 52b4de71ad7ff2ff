"""Source to target without a file (direct mode)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from executors.batches import read_range
from executors.boundaries import to_key
from executors.dump import as_called, mean_bytes, must_be_same
from executors.pace import UNLIMITED, Pace
from executors.protocol import StopToken
from executors.rawbson import id_of, last_of
from executors.rejected import Rejects, rejected_path
from executors.sizing import WHOLE, Sizer
from executors.source import range_of
from executors.undo.recording import log_of
from executors.write import Tally, Writer
from statemachine.events import JobSpec
from statemachine.state import NOTHING, Chunk, Unit
from statemachine.stimuli import Copied
from statemachine.words import TaskKey, TaskKind


def copy(
    source: MongoClient[Any],
    target: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    folder: Path,
    stop: StopToken,
    tell: Callable[[Copied], None],
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
    since: str = "",
    pace: Pace = UNLIMITED,
    sizer: Sizer = WHOLE,
) -> Copied:
    """Insert the chunk's documents from the journaled key on; tell after each acknowledged
    block. The result is the whole.

    What is read in insertion order has no key to go on at: nothing is told of it before the end,
    and it always begins from nothing. Raises `Conflict`, `OtherCollection`, `PyMongoError`,
    `OSError`.
    """
    read = as_called(source, unit, spec)
    done = NOTHING if chunk.natural else chunk.done
    what = range_of(
        read,
        chunk,
        spec,
        read_preference=read_preference,
        cluster_time=cluster_time,
        since=since,
    )
    hint, after = mean_bytes(unit), done.last_key
    blocks = read_range(source, what, stop, document_bytes=hint, after=after, pace=pace)
    position, last_key = done.position, done.last_key
    task = TaskKey(TaskKind.COPY, chunk.id)
    with (
        Rejects(rejected_path(folder, unit.id, chunk.id)) as rejects,
        log_of(folder, unit, task, spec) as log,
    ):
        writer = Writer(target, unit, spec, stop, log, pace=pace, sizer=sizer)
        tally = Tally.after(done, rejects)
        for block in blocks:
            writer.insert(block, tally)
            position += block.documents
            if chunk.natural:
                rejects.sync()
                continue
            last_key = to_key(id_of(block.last or last_of(block.data)))
            tell(Copied(position, last_key, *tally.news()))
        must_be_same(source, read)
        return Copied(position, last_key, *tally.news())
