"""Documents of a source, as they are by now, onto a target that holds them as they once were.

Each is looked up by key, in the collection of a UUID, and written by key. Where a unique index of
the target does not bear one beside another that is older there, the older one gives way: it is
removed and looked up itself, until all that was asked for and all that gave way is there. On the
source no two documents are in each other's way, so nothing gives way for long, unless an index is
in the way that the source does not have by now: that one is dropped.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import Block, Range, read_range
from executors.increments.alike import at, drop_foreign_indexes, unit_of, whereabouts
from executors.increments.apply import Target
from executors.increments.holders import WRITE_CONFLICT, Refused
from executors.increments.keyorder import order
from executors.increments.lookup import rows_of
from executors.increments.row import is_erased
from executors.protocol import StopToken
from executors.rawbson import documents, id_of
from executors.rows import rows
from executors.select import query_of, split
from executors.survey import Namespace
from statemachine.events import JobSpec

GAVE_WAY_TOO_OFTEN: Final = 3
"""Times that one document gives way before the indexes are looked at instead of the documents."""


class Gone(Exception):
    """The source no longer has the collection."""


class Carrier:
    """Carries documents of one source to one target, and counts them."""

    def __init__(
        self,
        source: MongoClient[Any],
        target: MongoClient[Any],
        spec: JobSpec,
        stop: StopToken,
        *,
        read_preference: str = "primary",
    ) -> None:
        self._source = source
        self._target = target
        self._spec = spec
        self._stop = stop
        self._read = read_preference
        self.documents = self.erased = self.bytes = 0
        self.changes: list[str] = []
        """Words for the indexes that were in the way."""

    def keys(self, uuid: str, namespace: str, name: str, keys: Iterable[bytes]) -> None:
        """The documents under these `{_id}`s, of the collection that once was called `namespace`,
        are in `name` on the target, or are not there as they are not here, nor fit the query. Of
        one that is gone nothing is written.

        Raises `PyMongoError`, `Stopped`.
        """
        onto, waiting, gave_way = self._onto(name), list(keys), Counter[bytes]()
        with suppress(Gone):
            while waiting:
                found = self._looked_up(uuid, namespace, waiting)
                waiting = []
                for block in found:
                    waiting += self._write(uuid, namespace, name, onto, block)
                gave_way.update(waiting)
                self._must_end(uuid, namespace, name, gave_way)

    def whole(self, entry: Namespace, namespace: str, name: str) -> None:
        """Every document of the collection, each as it is when it is reached. Beside them the
        target keeps what it has. Raises `Gone` when the name has another meaning meanwhile,
        `PyMongoError`, `Stopped`."""
        onto, query = self._onto(name), query_of(namespace, self._spec.queries)
        evicted: list[bytes] = []
        what = Range(entry.database, entry.collection, filter=query, read_preference=self._read)
        for block in read_range(self._source, what, self._stop):
            evicted += self._write(entry.uuid, namespace, name, onto, block)
        if whereabouts(self._source, entry.database, entry.uuid) != entry.name:
            raise Gone
        self.keys(entry.uuid, namespace, name, evicted)

    def _looked_up(self, uuid: str, namespace: str, keys: list[bytes]) -> Iterator[Block]:
        """A row for each key, once. Raises `Gone`: of what is gone all documents are, too."""
        database, collection = split(namespace)
        asked = {order(key): key for key in keys}
        for block in rows_of(
            self._source,
            database,
            collection,
            uuid,
            (asked[key] for key in sorted(asked)),
            self._stop,
            cluster_time="",
            filter=query_of(namespace, self._spec.queries),
            read_preference=self._read,
        ):
            none = all(map(is_erased, documents(block.data)))
            if none and not whereabouts(self._source, database, uuid):
                raise Gone
            yield block

    def _write(
        self, uuid: str, namespace: str, name: str, onto: Target, block: Block
    ) -> list[bytes]:
        """Returns the `{_id}`s of documents that gave way."""
        found, before = list(documents(block.data)), len(onto.removed)
        try:
            counts = onto.apply(found)
        except Refused:
            if not self._drop_foreign(uuid, namespace, name):
                raise
            counts = onto.apply(found)
        self.documents += counts.documents
        self.erased += counts.erased
        self.bytes += sum(len(row) for row in found if not is_erased(row))
        return onto.removed[before:]

    def all_keys(self, name: str) -> list[bytes]:
        """Of a small collection of the target."""
        database, collection = split(name)
        command = {"find": collection, "projection": {"_id": 1}}
        return [id_of(each) for each in rows(self._target, database, command, self._stop)]

    def _onto(self, name: str) -> Target:
        """What is read back may have given way to the next document by then."""
        spec = self._spec.model_copy(update={"verify": False})
        return Target(self._target, name, "collection", spec, self._stop)

    def _must_end(self, uuid: str, namespace: str, name: str, gave_way: Counter[bytes]) -> None:
        if not gave_way or gave_way.most_common(1)[0][1] < GAVE_WAY_TOO_OFTEN:
            return
        gave_way.clear()
        if not self._drop_foreign(uuid, namespace, name):
            raise OperationFailure("documents change places faster than one looks", WRITE_CONFLICT)

    def _drop_foreign(self, uuid: str, namespace: str, name: str) -> bool:
        """Whether indexes were in the way that the source does not have. Raises `Gone`."""
        now = whereabouts(self._source, split(namespace)[0], uuid)
        entry = at(self._source, now) if now else None
        if entry is None or entry.uuid != uuid:
            raise Gone
        unit = unit_of(self._source, entry, name)
        dropped = drop_foreign_indexes(self._target, unit, self._spec)
        self.changes += [f"{name}: index {each} dropped, it was in the way" for each in dropped]
        return bool(dropped)
