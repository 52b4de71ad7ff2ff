"""What documents are now, or were at one cluster time, found by key.

For each key one row, in the order of the keys (see `row`). Which collection is read is sure at
every question: it is asked for by UUID, and a server answers for no other. So a row that says
"gone" speaks of that collection, whatever bears its name by now.

A key is taken to the byte: where a collation makes `a` and `A` one key and the document is now
`A`, `a` is gone. Numbers are one key however they are written: asked for `1`, a document with
`1.0` is its row.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple

from bson import Binary, Int64
from bson.binary import UUID_SUBTYPE
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from executors.batches import (
    BLOCK_BYTES,
    BLOCK_DOCUMENTS,
    OUT_OF_WINDOW,
    RAW,
    WINDOW_OVER,
    Block,
    as_of,
)
from executors.classify import SNAPSHOT_TOO_OLD
from executors.increments.keyorder import order
from executors.increments.row import erased
from executors.members import choose
from executors.protocol import Stopped, StopToken
from executors.rawbson import elements, equals_query, id_of, in_query, int64

PATTERN: Final = 0x0B
MOST_KEYS: Final = 1000
"""In one question."""
MOST_KEY_BYTES: Final = 1 << 20
SMALL_REPLY_BYTES: Final = 4 << 20
"""After a smaller one more is asked for at once; a server never sends more than 16 MiB of it."""
OTHER_UUID: Final = 361
TIME_OVER: Final = 50
CLUSTERED_MS: Final = 5_000
"""A clustered collection is scanned from the first to the last key of a question: for keys that
lie far apart, fewer are asked for at once."""
MOVES: Final = 10
"""Times in a row that a collection may be renamed between asking where it is and reading it."""


def rows_of(
    client: MongoClient[Any],
    database: str,
    collection: str,
    uuid: str,
    keys: Iterable[bytes],
    stop: StopToken,
    *,
    cluster_time: str,
    filter: bytes | None = None,  # noqa: A002 — as in `Range`
    read_preference: str = "primary",
) -> Iterator[Block]:
    """Rows of `keys`, which ascend by `keyorder.order`, one for each: the document under it as of
    the cluster time if it fits the filter, else one that says that it is gone.

    With a cluster time, raises `OperationFailure` 239 (`ESNAP001`) where the collection can no
    more be read as of then, for a rename or a drop since, too. Without one a document is as of when
    it is reached, wherever in its database the collection is by then; of one that is no more, all
    are gone. Raises `PyMongoError`, `Stopped`.
    """
    asked = _Asked(client, database, collection, uuid, stop, cluster_time, filter, read_preference)
    return _packed(asked.rows(iter(keys)))


class _Where(NamedTuple):
    name: str
    clustered: bool
    collated: bool


class _Asked:
    """Questions for documents of one collection, as many keys at once as the answers allow."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        collection: str,
        uuid: str,
        stop: StopToken,
        cluster_time: str,
        wanted: bytes | None,
        preference: str,
    ) -> None:
        self._client = client
        self._db = client.get_database(database)
        self._collection = collection
        self._uuid = Binary(bytes.fromhex(uuid), UUID_SUBTYPE)
        self._stop = stop
        self._wanted = wanted
        self._cluster_time = cluster_time
        self._preference = preference
        self._member: Any = None
        self._concern: dict[str, Any] = {}
        self._most = MOST_KEYS
        self._where: _Where | None = None
        """Where the collection is; `None`: it is no more."""

    def rows(self, keys: Iterator[bytes]) -> Iterator[bytes]:
        self._member, self._concern = choose(self._client, self._preference)
        if self._cluster_time:
            self._concern = as_of(self._cluster_time)
        self._where = self._located()
        waiting: deque[bytes] = deque()
        with self._client.start_session(causal_consistency=False) as session:
            while True:
                waiting.extend(islice(keys, max(0, self._most - len(waiting))))
                if not waiting:
                    return
                lot, upper = self._lot(waiting)
                found = self._found(lot, upper, session)
                if found is None:
                    continue
                for key in lot:
                    waiting.popleft()
                    row = found.get(key)
                    yield erased(key) if row is None else row

    def _lot(self, waiting: deque[bytes]) -> tuple[list[bytes], bytes | None]:
        """The next keys for one question, one that looks like an operator alone; and, where they
        are found by a scan, a key at which it may end."""
        lot: list[bytes] = []
        size = 0
        for key in islice(waiting, self._most):
            size += len(key)
            alone = _looks_like_operator(key)
            if lot and (alone or size > MOST_KEY_BYTES):
                break
            lot.append(key)
            if alone:
                break
        if self._where is None or not self._where.clustered:
            return lot, None
        if self._where.collated:  # its order is not ours: no key is known to lie behind others
            return lot[:1], None
        return (lot[:-1], lot[-1]) if len(lot) > 1 else (lot, None)

    def _found(
        self, lot: list[bytes], upper: bytes | None, session: ClientSession
    ) -> dict[bytes, bytes] | None:
        """Documents by the keys they were asked for; `None`: too many were asked for at once."""
        for _ in range(MOVES):
            if self._stop.is_set():
                raise Stopped
            if self._where is None:
                return {}
            try:
                return self._answer(self._find(lot, upper, self._where), lot, session)
            except OperationFailure as error:
                if error.code == TIME_OVER and len(lot) > 1:
                    self._most = len(lot) // 2
                    return None
                if self._cluster_time and error.code in (*OUT_OF_WINDOW, OTHER_UUID):
                    raise _window_over() from error
                if error.code != OTHER_UUID:
                    raise
            self._where = self._located()
        raise OperationFailure("the collection moved whenever it was to be read", OTHER_UUID)

    def _answer(
        self, find: dict[str, Any], lot: list[bytes], session: ClientSession
    ) -> dict[bytes, bytes] | None:
        reply: RawBSONDocument = self._db.command(
            find, codec_options=RAW, session=session, read_preference=self._member
        )
        documents, cursor, size = _cut(bytes(reply.raw))
        if cursor:
            self._kill(find["find"], cursor, session)
            if len(documents) < len(lot):  # more than one reply holds
                self._most = max(1, min(len(documents), len(lot) - 1))
                return None
        if size < SMALL_REPLY_BYTES:
            self._most = min(MOST_KEYS, 2 * self._most)
        return _by_key(lot, documents)

    def _kill(self, name: str, cursor: int, session: ClientSession) -> None:
        with suppress(PyMongoError):  # a server forgets it by itself, later
            kill = {"killCursors": name, "cursors": [Int64(cursor)]}
            self._db.command(kill, session=session, read_preference=self._member)

    def _find(self, lot: list[bytes], upper: bytes | None, where: _Where) -> dict[str, Any]:
        query = in_query(lot) if len(lot) > 1 else equals_query(lot[0])
        scan: dict[str, Any] = {}
        if upper is not None and len(lot) > 1:
            bounds = {"min": RawBSONDocument(lot[0]), "max": RawBSONDocument(upper)}
            scan = {**bounds, "maxTimeMS": CLUSTERED_MS}
        wanted = [] if self._wanted is None else [RawBSONDocument(self._wanted)]
        return {
            "find": where.name,
            "filter": {"$and": [query, *wanted]} if wanted else query,
            "hint": {"_id": 1},
            **scan,
            "batchSize": len(lot) + 1,  # all in one reply, and its end
            "readConcern": self._concern,
            "collectionUUID": self._uuid,
        }

    def _located(self) -> _Where | None:
        """Where the collection of the UUID is. As of a cluster time it is read under the name it
        had then; what that says of one that has moved since is told by the server."""
        command = {"listCollections": 1, "filter": {"info.uuid": self._uuid}}
        found = self._db.command(command, codec_options=RAW)["cursor"]["firstBatch"]
        if not found:
            if self._cluster_time:
                raise _window_over()
            return None
        entry = found[0]
        options = entry["options"]
        name = self._collection if self._cluster_time else str(entry["name"])
        return _Where(name, bool(options.get("clusteredIndex")), "collation" in options)


def _window_over() -> OperationFailure:
    return OperationFailure(WINDOW_OVER, SNAPSHOT_TOO_OLD)


def _looks_like_operator(key: bytes) -> bool:
    """Whether among others the value would mean something else: a document whose first name begins
    with `$`, a pattern."""
    return (key[4] == 0x03 and key[14:15] == b"$") or key[4] == PATTERN


def _by_key(keys: list[bytes], documents: list[bytes]) -> dict[bytes, bytes]:
    found = {id_of(document): document for document in documents}
    if others := found.keys() - set(keys):
        same = {order(other): found[other] for other in others}
        for key in keys:
            if key not in found and (document := same.get(order(key))) is not None:
                found[key] = document
    return found


def _cut(reply: bytes) -> tuple[list[bytes], int, int]:
    """The documents of a `find` reply, its cursor (0: exhausted), and its size."""
    documents: list[bytes] | None = None
    cursor = 0
    for _, name, begin, end in elements(reply):
        if name != b"cursor":
            continue
        for _, inner, value, after in elements(reply, begin, end):
            if inner == b"firstBatch":
                documents = [reply[at:to] for _, _, at, to in elements(reply, value, after)]
            elif inner == b"id":
                cursor = int64(reply, value)[0]
    if documents is None or (cursor and not documents):
        raise ValueError("a reply without documents")
    return documents, cursor, len(reply)


def _packed(rows: Iterator[bytes]) -> Iterator[Block]:
    pieces: list[bytes] = []
    held = 0
    for row in rows:
        pieces.append(row)
        held += len(row)
        if held >= BLOCK_BYTES or len(pieces) >= BLOCK_DOCUMENTS:
            yield Block(b"".join(pieces), len(pieces))
            pieces, held = [], 0
    if pieces:
        yield Block(b"".join(pieces), len(pieces))
