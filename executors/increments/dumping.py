"""What changed, to chunk files: of a collection that the chain holds, only the changed keys.

A chunk is a range of changed keys, and its file holds a row for each: the document as of the
increment's cluster time, or one that says that it is gone. The heads of the file's blocks count
rows; everything else counts documents, and beside them the erased.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

from pymongo import MongoClient

from executors.batches import Block
from executors.boundaries import from_key, to_key
from executors.chunkfile import write_chunk_file
from executors.dump import dumped, mean_bytes, prepare_file
from executors.increments.change import told
from executors.increments.keys import Keys
from executors.increments.lookup import rows_of
from executors.increments.model import Making
from executors.plan import MAX_CHUNKS
from executors.protocol import StopToken
from executors.rawbson import int32
from executors.select import query_of, split
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Dumped, Planned, PlannedFiles
from statemachine.words import Key


def is_changed(making: Making, unit: Unit) -> bool:
    """Whether only changed keys of the unit are dumped: the chain holds it already, and the source
    tells what changes in it. All else is dumped whole; views have no documents.

    A collection that was dropped and made again under its own UUID is not the one that the chain
    holds; nor are the documents of one that has moved under another query. Raises `DamagedKeys`,
    `OSError`.
    """
    if unit.uuid not in making.parent.uuids or unit.type != "collection":
        return False
    before = making.parent.names.get(unit.uuid, unit.id)
    same = query_of(before, making.queries) == query_of(unit.id, making.queries)
    return same and told(unit.id, unit.type) and not Keys(making.keys).was_dropped(unit.uuid)


def plan_changed(making: Making, unit: Unit, spec: JobSpec) -> Planned | PlannedFiles:
    """Cut the unit's changed keys into chunks; no chunk at all where nothing changed.

    What the documents weigh is guessed by the mean of all. Raises `DamagedKeys`, `OSError`.
    """
    keys = Keys(making.keys)
    count = keys.count(unit.uuid)
    if not count:
        return PlannedFiles(())
    mean = mean_bytes(unit)
    every = min(spec.chunk_docs, max(1, spec.chunk_bytes // mean)) if mean else spec.chunk_docs
    edges = keys.boundaries(unit.uuid, max(every, ceil(count / MAX_CHUNKS)))
    return Planned(tuple(map(to_key, edges)), count, natural=False)


def dump_changed(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    making: Making,
    attempt: int,
    stop: StopToken,
    *,
    read_preference: str,
    cluster_time: str,
) -> Dumped:
    """Write a row for each changed key of the chunk to a file that is whole, durable and named
    when this returns; one of the same name, of another cluster time, is replaced.

    `documents` of the result counts documents, `erased` the other rows, `bytes` those of all rows.
    Raises as `rows_of`; `DamagedKeys`, `OSError`.
    """
    name, path = prepare_file(making.folder, chunk, attempt, stop)
    database, collection = split(unit.id)
    rows = rows_of(
        client,
        database,
        collection,
        unit.uuid,
        Keys(making.keys).between(unit.uuid, _bound(chunk.lower), _bound(chunk.upper)),
        stop,
        cluster_time=cluster_time,
        filter=query_of(unit.id, spec.queries),
        read_preference=read_preference,
    )
    erased = 0

    def counted() -> Iterator[Block]:
        nonlocal erased
        for block in rows:
            erased += erased_in(block)
            yield block

    written = write_chunk_file(path, counted(), "none" if spec.compression == "none" else "zstd")
    return dumped(name, written, erased=erased)


def _bound(key: Key | None) -> bytes | None:
    return bytes(from_key(key).raw) if key is not None else None


def erased_in(block: Block) -> int:
    """How many rows of the block say that a document is gone."""
    data, at, found = block.data, 0, 0
    for _ in range(block.documents):
        found += data[at + 5] == 0
        at += int32(data, at)[0]
    return found
