"""Cutting a collection's `_id` space into chunks of about equal work.

Boundaries are `_id`s in the server's own order, counted off along its index, or of documents it
sampled: that crosses types, knows the collection's collation, and never skips. Ranges are half open
and share their edges, so they are disjoint and cover everything by construction, if the edges
ascend; of sampled ones the server is asked about each with the very bounds that the dump will use.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW
from executors.boundaries import to_key
from executors.classify import classify
from executors.metadata import fields
from executors.protocol import Stopped, StopToken
from executors.rawbson import elements, id_of, int32, int64
from executors.rows import rows
from executors.select import wanted_of
from executors.source import data_of, gives_measurements, read_at
from executors.survey import measure
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Planned
from statemachine.words import Cause

SAMPLES_PER_CHUNK: Final = (8, 64)
SAMPLE_SHARE: Final = 0.04
"""Above 5 % of a collection the server's `$sample` reads all of it."""
COUNTED_BYTES: Final = 1024
"""Of the mean document, from which on counting costs little beside reading."""
EVEN_SAMPLES: Final = 100
EVEN: Final = 4.0
"""Times the mean, either way, that a document may be among even ones."""
MAX_COUNTED: Final = 5_000_000
"""Documents: bounds how long the first chunk waits for the index to be walked."""
MAX_CHUNKS: Final = 100_000
"""Of one unit: bounds the journal's biggest commit."""
MAX_SAMPLES: Final = 500_000
"""Of one unit: bounds the memory of planning to about 100 MB."""
SAMPLED: Final = 1000
"""Documents that tell how many of all a query wants."""
NO_NEW_DOCUMENT: Final = 28799
BOUNDS_DO_NOT_ASCEND: Final = (51175, 6137401)
"""Of an index, of a clustered collection."""
INT32: Final = 0x10


def plan(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    stop: StopToken,
    *,
    capped: bool,
    read_preference: str = "primary",
) -> Planned:
    """Boundaries for the unit. A capped collection stays whole: it keeps its insertion order; so
    does a time series whose measurements are read: they have no index by `_id`.

    Chunks are cut by what has to be read: where only some of the documents are wanted, the others
    are passed over, which takes as long. The estimate is of those wanted. Raises `PyMongoError`,
    `Stopped`.
    """
    database, collection = data_of(unit.id, unit.type)
    documents, size = measure(client, database, collection)
    chunks = max(1, ceil(documents / spec.chunk_docs), ceil(size / spec.chunk_bytes))
    db = client.get_database(database)
    found = _Rows(client, *read_at(unit, spec), read_preference, stop)
    query = wanted_of(unit.id, spec)
    wanted = documents if query is None else round(_wanted(found, query, documents))
    if (whole := capped or gives_measurements(unit, spec)) or chunks == 1:
        return Planned((), wanted, natural=whole)
    chunks = min(chunks, MAX_CHUNKS)
    if _is_counted(documents, size, chunks) and _are_even(found, documents, size):
        edges = _counted(found, ceil(documents / chunks))
    else:
        edges = ascending(db, collection, _sampled(found, chunks, documents, size, spec), stop)
    return Planned(tuple(to_key(edge) for edge in edges), wanted, natural=False)


def _is_counted(documents: int, size: int, chunks: int) -> bool:
    """Whether to walk the index rather than to draw a sample, which the server may draw unevenly:
    where documents are few beside their bytes the walk is cheap, and where a chunk holds but a few
    the server would read the whole collection to draw enough of them."""
    few = chunks * SAMPLES_PER_CHUNK[0] > documents * SAMPLE_SHARE
    return 0 < documents <= MAX_COUNTED and (few or size >= documents * COUNTED_BYTES)


def _are_even(rows: "_Rows", documents: int, size: int) -> bool:
    """Whether documents are about as big as their mean, by a few: as many are as much then."""
    mean = size / documents
    drawn = _drawn(rows, max(1, min(EVEN_SAMPLES, int(documents * SAMPLE_SHARE))))
    low, high = mean / EVEN, mean * EVEN
    return bool(drawn) and all(low <= each <= high for _, each in drawn)


def _counted(rows: "_Rows", documents: int) -> list[bytes]:
    """Every so many `_id`s one, by the index alone: each lies behind the one before it."""
    edges: list[bytes] = []
    while len(edges) < MAX_CHUNKS:
        after = {"min": RawBSONDocument(edges[-1])} if edges else {}
        found = [id_of(raw) for raw in rows.ids(after, skip=documents)]
        if not found:
            break
        edges += found
    return edges


def _sampled(rows: "_Rows", chunks: int, documents: int, size: int, spec: JobSpec) -> list[bytes]:
    least, most = SAMPLES_PER_CHUNK
    per_chunk = min(most, max(least, int(documents * SAMPLE_SHARE / chunks)))
    wanted = min(MAX_SAMPLES, chunks * per_chunk)
    samples = _drawn(rows, wanted)
    if not samples:
        return _buckets(rows, chunks)
    most_documents = max(spec.chunk_docs, documents / chunks)
    most_bytes = max(spec.chunk_bytes, size / chunks)
    return _cut(samples, documents, most_documents, most_bytes)


def is_capped(options: bytes) -> bool:
    return bool(fields(options).get("capped", False))


def _wanted(rows: "_Rows", query: bytes, documents: int) -> float:
    """How many of so many documents a query wants, by a sample; all, where a sample cannot tell:
    some queries can only be asked of the whole collection."""
    pipeline: list[dict[str, Any]] = [
        {"$sample": {"size": SAMPLED}},
        {"$match": RawBSONDocument(query)},
        {"$project": {"_id": 1}},
    ]
    try:
        found = sum(1 for _ in rows.of(pipeline))
    except OperationFailure as error:
        if classify(error)[0] is not Cause.PERMANENT and error.code != NO_NEW_DOCUMENT:
            raise
        return documents
    return found * documents / min(SAMPLED, documents) if found else 0


def _drawn(rows: "_Rows", size: int) -> list[tuple[bytes, int]]:
    """As `_sample`; none where the server cannot draw any."""
    try:
        return _sample(rows, size)
    except OperationFailure as error:
        if error.code != NO_NEW_DOCUMENT:
            raise
        return []


def _sample(rows: "_Rows", size: int) -> list[tuple[bytes, int]]:
    """`({_id}, bytes of the document)` of random documents, in the server's `_id` order."""
    pipeline: list[dict[str, Any]] = [
        {"$sample": {"size": size}},
        {"$project": {"_id": 1, "bytes": {"$bsonSize": "$$ROOT"}}},
        {"$sort": {"_id": 1}},
    ]
    found: list[tuple[bytes, int]] = []
    for raw in rows.of(pipeline):
        edge = id_of(raw)
        if not found or found[-1][0] != edge:  # a random cursor may meet a document twice
            found.append((edge, _size(raw)))
    return found


def _size(raw: bytes) -> int:
    """The number in field `bytes`, read without decoding the `_id` beside it."""
    for kind, name, begin, _ in elements(raw):
        if name == b"bytes":
            return int32(raw, begin)[0] if kind == INT32 else int64(raw, begin)[0]
    return 0


def _cut(
    samples: list[tuple[bytes, int]], documents: int, most_documents: float, most_bytes: float
) -> list[bytes]:
    """Edges where a chunk would hold its documents or its bytes, whichever comes first. Each
    sample stands for its share of all documents, of its own size."""
    share = documents / len(samples)
    edges: list[bytes] = []
    count = size = 0.0
    for edge, document_bytes in samples:
        if count >= most_documents or size >= most_bytes:
            edges.append(edge)
            count = size = 0.0
        count += share
        size += share * document_bytes
    return edges


def _buckets(rows: "_Rows", chunks: int) -> list[bytes]:
    """The slow way for a collection that cannot be sampled: the server sorts all `_id`s."""
    pipeline: list[dict[str, Any]] = [
        {"$project": {"_id": 1}},
        {"$bucketAuto": {"groupBy": "$_id", "buckets": chunks}},
        {"$project": {"_id": "$_id.min"}},
    ]
    return [id_of(each) for each in rows.of(pipeline)][1:]


class _Rows:
    """What an aggregation over the collection finds."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        collection: str,
        preference: str,
        stop: StopToken,
    ) -> None:
        self._client, self._stop = client, stop
        self._database, self._collection = database, collection
        self._preference = preference

    def ids(self, bounds: dict[str, Any], *, skip: int) -> Iterator[bytes]:
        """The one behind so many, within the bounds."""
        command = {
            "find": self._collection,
            "hint": {"_id": 1},
            **bounds,
            "projection": {"_id": 1},
            "skip": skip,
            "limit": 1,
            "singleBatch": True,
        }
        return rows(
            self._client,
            self._database,
            command,
            self._stop,
            read_preference=self._preference,
        )

    def of(self, pipeline: list[dict[str, Any]]) -> Iterator[bytes]:
        command = {
            "aggregate": self._collection,
            "pipeline": pipeline,
            "cursor": {},
            "allowDiskUse": True,
        }
        return rows(
            self._client,
            self._database,
            command,
            self._stop,
            read_preference=self._preference,
        )


def ascending(db: Any, collection: str, edges: list[bytes], stop: StopToken) -> list[bytes]:
    """The edges without those that the index does not place behind the one before them: equal
    numbers of two types, or all NaNs, are one place."""
    kept: list[bytes] = []
    for edge in edges:
        if stop.is_set():
            raise Stopped
        if not kept or _ascends(db, collection, kept[-1], edge):
            kept.append(edge)
    return kept


def _ascends(db: Any, collection: str, lower: bytes, upper: bytes) -> bool:
    try:
        db.command(
            {
                "find": collection,
                "hint": {"_id": 1},
                "min": RawBSONDocument(lower),
                "max": RawBSONDocument(upper),
                "projection": {"_id": 1},
                "limit": 1,
                "singleBatch": True,
            },
            codec_options=RAW,
        )
    except OperationFailure as error:
        if error.code in BOUNDS_DO_NOT_ASCEND:
            return False
        raise
    return True
