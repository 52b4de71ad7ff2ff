"""The data plane of reading: a key range of a collection as blocks of raw documents.

The server's replies are cut into blocks without decoding a document. A cursor that is cut
(failover, network) goes on at the last key that arrived; the driver does not do that.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bson import Int64, MaxKey, Timestamp
from bson.binary import UUID_SUBTYPE, Binary
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from executors.boundaries import from_key
from executors.classify import SNAPSHOT_TOO_OLD, cursor_was_cut
from executors.members import choose
from executors.pace import UNLIMITED, Pace, Room
from executors.protocol import Stopped, StopToken
from executors.rawbson import elements, id_of, int32, int64
from statemachine.words import Key

RAW: Final[CodecOptions[Any]] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)

TOLERANT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)
"""For replies that quote values of documents: errors of writes and of index builds."""

BLOCK_BYTES: Final = 2 << 20
"""A block ends once it holds this much: bounds memory and what a kill repeats."""
CUT_BYTES: Final = BLOCK_BYTES * 5 // 4
"""Of a reply, for one block: replies are asked for by the mean size of documents, and none shall
end in a block of a few."""
VIEWS_BYTES: Final = 768
"""Documents from this size on are joined from views: one copy less, which costs more than it saves
where they are smaller."""
BLOCK_DOCUMENTS: Final = 50_000
"""Below the server's 100,000 operations a message."""
CUTS_WITHOUT_PROGRESS: Final = 3
"""Cursors in a row that may be cut without bringing a document."""
OUT_OF_WINDOW: Final = (SNAPSHOT_TOO_OLD, 246, 361)
"""What a server says of a time whose history is gone, or whose catalogue was another, and of a
collection that is called otherwise by now."""
UNKNOWN_FIELD: Final = (9, 40415)
"""What servers say of an option that they do not know."""
WINDOW_OVER: Final = (
    "the source can no longer be read as of the snapshot's time: its history is kept for "
    "minSnapshotHistoryWindowInSeconds, and not over changes of a collection's definition; raise "
    "that parameter on the source, or (not of an increment) read with --consistency fuzzy"
)
_MAX_KEY: Final = RawBSONDocument(b"\x0a\0\0\0\x7f_id\0\0")


@dataclass(frozen=True, slots=True)
class Block:
    """Whole documents, one after another."""

    data: bytes
    documents: int
    last: bytes = field(default=b"", compare=False)
    """The last of them, where whoever made the block came by it anyway."""


@dataclass(frozen=True, slots=True)
class Range:
    """What to read: from `lower` (included) to `upper` (not included), `None` = open."""

    database: str
    collection: str
    lower: Key | None = None
    upper: Key | None = None
    natural: bool = False
    """In insertion order, the whole collection; a cut cursor cannot go on then."""
    keys_only: bool = False
    """Documents of nothing but `_id`, from the index."""
    read_preference: str = "primary"
    filter: bytes | None = None
    """Which documents of the range, as raw BSON; `None`: all."""
    projection: bytes | None = None
    """What of each document, `_id` always among it; `None`: all."""
    cluster_time: str = ""
    """`seconds.increment` as of which they are read; empty: as of when they are reached."""
    uuid: str = ""
    """Of the collection, hexadecimal: with a cluster time the server is asked for no other. One
    that had another name then would be found empty, without a word."""
    since: str = ""
    """Without one: a cluster time before which nothing is read; changes after it are read
    elsewhere. What a majority has may be older than what a primary has told."""


def read_range(
    client: MongoClient[Any],
    what: Range,
    stop: StopToken,
    *,
    document_bytes: int = 0,
    after: Key | None = None,
    pace: Pace = UNLIMITED,
) -> Iterator[Block]:
    """The documents of the range as blocks, in `_id` order, each document once.

    `document_bytes` is the mean size, a hint for the size of replies. `after` is a key in the
    range behind which the documents begin. Without a cluster time this is no snapshot: writes
    meanwhile may or may not be seen. Raises `PyMongoError` when the range cannot be finished,
    `Stopped` when the token is set.
    """
    reader = _Reader(client, what, stop, _batch_size(document_bytes), pace)
    reader.last = bytes(from_key(after).raw) if after is not None else None
    cuts = 0
    while True:
        before = reader.last
        try:
            yield from reader.run()
            return
        except PyMongoError as error:
            cuts = 1 if reader.last != before else cuts + 1
            if what.natural or not cursor_was_cut(error) or cuts > CUTS_WITHOUT_PROGRESS:
                raise


def _batch_size(document_bytes: int) -> int:
    if not document_bytes:
        return 1000
    return max(1, min(BLOCK_DOCUMENTS, BLOCK_BYTES // document_bytes + 1))


class _Reader:
    """One range over as many cursors as it takes; `last` is the `{_id}` that arrived last."""

    def __init__(
        self,
        client: MongoClient[Any],
        what: Range,
        stop: StopToken,
        batch_size: int,
        pace: Pace,
    ) -> None:
        self._database = client.get_database(what.database)
        self._client = client
        self._what = what
        self._stop = stop
        self._batch_size = self._most = batch_size
        self._pace = pace
        self._reply_bytes = BLOCK_BYTES
        """Of the last reply; of the first one, what is expected."""
        self._member: Any = None
        self._concern: dict[str, Any] = {}
        self._meant: dict[str, Any] = {}
        if what.uuid and what.cluster_time:
            self._meant = {"collectionUUID": Binary(bytes.fromhex(what.uuid), UUID_SUBTYPE)}
        self.last: bytes | None = None

    def run(self) -> Iterator[Block]:
        """The documents behind `last`, to the end of the range."""
        self._member, self._concern = choose(self._client, self._what.read_preference)
        if self._what.cluster_time:
            self._concern = as_of(self._what.cluster_time)
        elif self._what.since:
            self._concern = {"afterClusterTime": timestamp(self._what.since), **self._concern}
        with self._client.start_session(causal_consistency=False) as session:
            lower = self.last or (from_key(self._what.lower).raw if self._what.lower else None)
            if lower != _MAX_KEY.raw:  # nothing but itself lies behind it
                yield from self._blocks(self._find(lower), session, skip=self.last)
            if lower is not None and self._what.upper is None and self.last != _MAX_KEY.raw:
                # `min` without `max` ends before MaxKey, which may be somebody's `_id`.
                yield from self._blocks(self._find_max_key(), session, skip=None)

    def _find(self, lower: bytes | memoryview | None) -> dict[str, Any]:
        command = self._base()
        command["hint"] = {"$natural": 1} if self._what.natural else {"_id": 1}
        if lower is not None:
            command["min"] = RawBSONDocument(bytes(lower))
        if self._what.upper is not None:
            command["max"] = from_key(self._what.upper)
        return command

    def _find_max_key(self) -> dict[str, Any]:
        command = self._base()
        wanted = [command["filter"]] if "filter" in command else []
        return {**command, "filter": {"$and": [{"_id": MaxKey()}, *wanted]}}

    def _base(self) -> dict[str, Any]:
        only: dict[str, Any] = {"projection": {"_id": 1}} if self._what.keys_only else {}
        if self._what.projection is not None and not self._what.keys_only:
            only["projection"] = RawBSONDocument(self._what.projection)
        if self._what.filter is not None:
            only["filter"] = RawBSONDocument(self._what.filter)
        return {
            "find": self._what.collection,
            **only,
            **self._meant,
            "batchSize": self._batch_size,
            "readConcern": self._concern,
        }

    def _blocks(
        self, command: dict[str, Any], session: ClientSession, skip: bytes | None
    ) -> Iterator[Block]:
        while True:
            if self._stop.is_set():
                raise Stopped
            with self._pace.asks(self._reply_bytes, self._stop) as room:
                blocks, cursor = self._replied(command, session, room)
                while blocks:
                    block, last = blocks.popleft()  # the only reference: memory follows the stream
                    whole = block if skip is None else _without(block, skip)
                    skip = None
                    if whole.documents:
                        yield whole
                        self.last = id_of(last)
                    del block, whole
            if not cursor:
                return
            command = {
                "getMore": Int64(cursor),
                "collection": self._what.collection,
                "batchSize": self._batch_size,
            }

    def _replied(
        self, command: dict[str, Any], session: ClientSession, room: Room
    ) -> tuple[deque[tuple[Block, bytes]], int]:
        """The blocks of the next reply; the one after it is asked for by what this one brought."""
        reply = self._ask(command, session)
        self._reply_bytes = size = len(reply.raw)
        room.holds(size)
        blocks, cursor = _cut_reply(bytes(reply.raw))
        count = sum(block.documents for block, _ in blocks)
        if count:
            self._batch_size = min(self._most, 2 * self._batch_size, _batch_size(size // count))
        self._pace.read(count, size, self._stop)
        return blocks, cursor

    def _ask(self, command: dict[str, Any], session: ClientSession) -> RawBSONDocument:
        try:
            reply: RawBSONDocument = self._database.command(
                command, codec_options=RAW, session=session, read_preference=self._member
            )
        except OperationFailure as error:
            if error.code in UNKNOWN_FIELD and self._meant.keys() & command.keys():
                self._meant = {}  # an old server: whoever asks looks at the name before and after
                older = {k: v for k, v in command.items() if k != "collectionUUID"}
                return self._ask(older, session)
            if self._what.cluster_time and error.code in OUT_OF_WINDOW:
                raise OperationFailure(WINDOW_OVER, SNAPSHOT_TOO_OLD) from error
            raise
        return reply


def as_of(cluster_time: str) -> dict[str, Any]:
    """The read concern for `seconds.increment`."""
    return {"level": "snapshot", "atClusterTime": timestamp(cluster_time)}


def timestamp(cluster_time: str) -> Timestamp:
    """Of `seconds.increment`."""
    seconds, _, increment = cluster_time.partition(".")
    return Timestamp(int(seconds), int(increment))


def _without(block: Block, id_document: bytes) -> Block:
    """`min` is inclusive: the document that arrived last comes again, unless it is gone."""
    size = int32(block.data, 0)[0]
    if id_of(block.data[:size]) != id_document:
        return block
    return Block(block.data[size:], block.documents - 1, block.last)


def _cut_reply(reply: bytes) -> tuple[deque[tuple[Block, bytes]], int]:
    """The batch of a `find` or `getMore` reply as blocks, each with its last document, and the
    cursor's id (0: exhausted)."""
    blocks: deque[tuple[Block, bytes]] = deque()
    cursor_id = None
    for _, name, begin, end in elements(reply):
        if name != b"cursor":
            continue
        for _, inner, value, after in elements(reply, begin, end):
            if inner in (b"firstBatch", b"nextBatch"):
                blocks = _cut_array(reply, value + 4, after - 1)
            elif inner == b"id":
                cursor_id = int64(reply, value)[0]
    if cursor_id is None:
        raise ValueError("a cursor reply without an id")
    return blocks, cursor_id


def _cut_array(raw: bytes, at: int, end: int) -> deque[tuple[Block, bytes]]:
    """The documents of a BSON array, their names ("0", "1", ...) left out.

    The one loop that sees every document of a small collection: nothing is counted in it that can
    be told from where it stands.
    """
    blocks: deque[tuple[Block, bytes]] = deque()
    slices: bytes | memoryview = raw
    if end - at >= VIEWS_BYTES and int32(raw, at + 3)[0] >= VIEWS_BYTES:
        slices = memoryview(raw)
    head, names = 3, 10  # bytes of a type, a name and its end; how many names of that length come
    while at < end:
        pieces: list[bytes | memoryview] = []
        append = pieces.append
        full = min(end, at + CUT_BYTES)
        while at < full and len(pieces) < BLOCK_DOCUMENTS:
            before = len(pieces)
            for _ in range(min(names, BLOCK_DOCUMENTS - before)):
                at += head
                after = at + int32(raw, at)[0]
                append(slices[at:after])
                at = after
                if at >= full:
                    break
            names -= len(pieces) - before
            if not names:
                head += 1
                names = 9 * 10 ** (head - 3)
        last = bytes(pieces[-1])
        blocks.append((Block(b"".join(pieces), len(pieces), last), last))
    if at != end:
        raise ValueError("a batch does not end where it says")
    return blocks
