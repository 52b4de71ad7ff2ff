"""Which columns the documents of a collection need, asked of all of them before the first file.

The first few documents propose; from then on the server itself passes over all that fit what was
found so far, range by range, and sends those that do not. They widen it, and the server is asked
anew for what lies behind them: each document is looked at once. Where the server does not hold what
is exported, because a projection or code of the user's own makes it, or has no ranges of it, as of
the measurements of a time series, all documents come here.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise
from threading import Lock
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import Block, Range, read_range
from executors.beside import beside
from executors.boundaries import to_key
from executors.export.columns import to_text
from executors.export.partition import partition_of
from executors.export.places import Places
from executors.export.refute import Seen, both, seen_through, unfit
from executors.export.selection import projection_of
from executors.pace import UNLIMITED, Pace
from executors.plan import plan
from executors.protocol import StopToken
from executors.rawbson import documents, id_of, last_of
from executors.source import gives_measurements, range_of
from executors.transforms.heldback import Through
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Censused
from statemachine.words import ChunkId

RANGE_DOCUMENTS: Final = 250_000
RANGE_BYTES: Final = 256 << 20
"""Of what a server looks through before it answers: seconds, far from any limit of time."""
AT_ONCE: Final = 2
"""Ranges: on the server each keeps one core busy."""
REPLY_DOCUMENT_BYTES: Final = 8 << 10
"""Asks for about 250 documents: enough to tell what many of a kind have in common."""
BAD_VALUE: Final = 2
"""What a server says of an operator that it does not know."""


def census(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    stop: StopToken,
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
    through: Through | None = None,
    pace: Pace = UNLIMITED,
) -> Censused:
    """Columns that every document of the unit fits, as many as there are while it looks.

    Raises `TooManyColumns`, `BadName`, `BadProjection`, `NoPartition`, what `through` raises,
    `PyMongoError`, `Stopped`.
    """
    assert spec.export is not None
    projection = projection_of(spec)
    seen = seen_through(projection)
    hidden = ("_id",) if projection.without_id else ()
    places = Places(spec.export.types, hidden)
    whole = _range(unit, spec, read_preference, cluster_time)
    ranges, count = _ranges(client, unit, spec, whole, stop)
    if through is None and seen is not None and not whole.natural:
        _Sieve(client, places, seen, spec.export.types, stop).look(ranges)
    else:
        count = 0
        for block in _made(client, ranges, through, stop, pace):
            count += block.documents
            _admit(places, block)
    columns = places.columns()
    partition_of(spec.export.partition, columns)  # before the first file
    return Censused(to_text(columns), count)


def _made(
    client: MongoClient[Any],
    ranges: list[Range],
    through: Through | None,
    stop: StopToken,
    pace: Pace,
) -> Iterator[Block]:
    """All documents, as they will be exported."""
    read = chain.from_iterable(read_range(client, each, stop, pace=pace) for each in ranges)
    return read if through is None else through(read, _left_to_the_export, stop)


def _ranges(
    client: MongoClient[Any], unit: Unit, spec: JobSpec, whole: Range, stop: StopToken
) -> tuple[list[Range], int]:
    """The whole in parts, and about how many documents they hold."""
    if whole.natural:
        return [whole], 0
    wide = {"chunk_docs": RANGE_DOCUMENTS, "chunk_bytes": RANGE_BYTES}
    planned = plan(
        client,
        unit,
        spec.model_copy(update=wide),
        stop,
        capped=False,
        read_preference=whole.read_preference,
    )
    edges = (None, *planned.boundaries, None)
    ranges = [replace(whole, lower=lower, upper=upper) for lower, upper in pairwise(edges)]
    return ranges, planned.documents


def _range(unit: Unit, spec: JobSpec, read_preference: str, cluster_time: str) -> Range:
    everything = Chunk(
        ChunkId(f"{unit.id}#0"),
        unit.id,
        lower=None,
        upper=None,
        documents=0,
        natural=gives_measurements(unit, spec),
    )
    return range_of(
        unit, everything, spec, read_preference=read_preference, cluster_time=cluster_time
    )


def _left_to_the_export(document: bytes, code: str, why: str) -> None:
    """What the user's own code holds back has no columns: the export rejects it."""


def _admit(places: Places, block: Block) -> int:
    """How many documents of the block did not fit before."""
    return sum(map(places.admit, documents(block.data)))


class _Sieve:
    """Lets the server pass over documents that fit. Threads share it."""

    def __init__(
        self, client: MongoClient[Any], places: Places, seen: Seen, types: str, stop: StopToken
    ) -> None:
        self._client, self._stop = client, stop
        self._places, self._seen, self._types = places, seen, types
        self._lock = Lock()

    def look(self, ranges: list[Range]) -> None:
        for block in self._read(ranges[0]):
            _admit(self._places, block)
            break
        for _ in beside(self._sift, ranges, AT_ONCE):
            pass

    def _sift(self, what: Range) -> None:
        try:
            self._widen(what)
        except OperationFailure as error:
            if error.code != BAD_VALUE:
                raise
            with self._lock:  # some that speak MongoDB's language know nothing of binaries
                self._places.refuse("binary")
            self._widen(what)

    def _widen(self, what: Range) -> None:
        after = None
        while True:
            for block in self._asked(what, after):
                with self._lock:
                    useful = _admit(self._places, block)
                if 2 * useful < block.documents:
                    after = to_key(id_of(last_of(block.data)))
                    break
            else:
                return

    def _asked(self, what: Range, after: Any) -> Iterator[Block]:
        """Documents behind that key that do not fit what is known when this begins."""
        with self._lock:
            asked = unfit(self._places.top, self._seen, self._types)
        return self._read(replace(what, filter=both(what.filter, asked)), after)

    def _read(self, what: Range, after: Any = None) -> Iterator[Block]:
        return read_range(
            self._client, what, self._stop, document_bytes=REPLY_DOCUMENT_BYTES, after=after
        )
