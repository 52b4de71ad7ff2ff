"""Where to cut a chunk in two: its median `_id`, and how many documents lie on either side."""

from dataclasses import replace
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import read_range
from executors.boundaries import from_key, to_key
from executors.dump import as_called
from executors.plan import ascending
from executors.protocol import StopToken
from executors.rawbson import documents, id_of
from executors.source import range_of
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Split

MAX_HELD: Final = 50_000
"""Keys held at once; of more, every second one is let go, and so on."""
MAX_HELD_BYTES: Final = 48 << 20
"""Two keys are always held: none has more than 16 MiB."""


def split_chunk(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
    *,
    read_preference: str = "primary",
) -> Split:
    """Two halves of the chunk's range, or the whole where there are no two documents.

    Counts are those of one pass over the `_id` index. The cut is the median where the keys could
    be held, otherwise within a ten-thousandth of it. Raises `OtherCollection`, `PyMongoError`.
    """
    what = range_of(as_called(client, unit, spec), chunk, spec, read_preference=read_preference)
    keys = _Keys()
    for block in read_range(client, replace(what, keys_only=True), stop):
        for document in documents(block.data):
            keys.add(document)
    at, median = keys.middle()
    if not at:
        return Split((), (keys.count,))
    edges = [median]
    if chunk.lower is not None:
        edges.insert(0, bytes(from_key(chunk.lower).raw))
    if chunk.upper is not None:
        edges.append(bytes(from_key(chunk.upper).raw))
    db = client.get_database(what.database)
    if len(ascending(db, what.collection, edges, stop)) < len(edges):
        return Split((), (keys.count,))
    return Split((to_key(median),), (at, keys.count - at))


class _Keys:
    """Every `step`-th key of those that came, and how many came."""

    def __init__(self) -> None:
        self.count = 0
        self._step = 1
        self._held: list[bytes] = []
        self._bytes = 0

    def add(self, document: bytes) -> None:
        if self.count % self._step == 0:
            self._held.append(document)
            self._bytes += len(document)
            if len(self._held) > MAX_HELD or self._bytes > MAX_HELD_BYTES:
                self._thin()
        self.count += 1

    def _thin(self) -> None:
        self._held = self._held[::2]
        self._bytes = sum(map(len, self._held))
        self._step *= 2

    def middle(self) -> tuple[int, bytes]:
        """The held key nearest below the middle, with the number of keys before it; 0 when
        none cuts."""
        if self.count < 2:
            return 0, b""
        index = max(1, self.count // 2 // self._step)
        return index * self._step, id_of(self._held[index])
