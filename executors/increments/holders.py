"""Rows of an increment whose place on the target another document holds.

An increment is applied key by key, and by several shards at once, so a document may come before
the one that held its unique value until then has changed. Both were right at their own time: as of
the increment's end the source held what is in the increment and no two documents that one of its
unique indexes would not let live side by side. So who stands in the way of a row has lost its place
by then: its own row is in the increment, too, and puts it where it belongs, whether that came
before (then it does not stand in the way any more) or comes later. It may be removed.

Nobody is removed on suspicion. What a query finds may only look like a holder (arrays, partial and
sparse indexes, collations); a holder is a document that the server itself refuses beside the row.
Each try is one transaction: all of it or nothing, and readers never see anything missing but what
was removed for good.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from executors.batches import RAW, TOLERANT
from executors.boundaries import to_key
from executors.classify import cause_of, without_values
from executors.dumps.errors import shown
from executors.increments.keyorder import order
from executors.increments.row import key_of
from executors.metadata import concern
from executors.protocol import Stopped, StopToken
from executors.rawbson import Slab, elements, equals_query, id_of, in_query, wrap
from executors.rows import rows as found_rows
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.words import Cause

DUPLICATE_KEY: Final = 11000
OTHER_ID: Final = 66
"""A replacement that would change `_id`: one key under a collation, and not the same bytes."""
WRITE_CONFLICT: Final = 112
MOST_CANDIDATES: Final = 1000
"""For one row and one index; more are looked at when those are gone."""
MOST_TRIES: Final = 100
"""Of what another shard came in between: it holds a document for one command at most."""
ALWAYS_ANOTHER: Final = "another shard came in between each time"


class Refused(OperatorError):
    """The target does not take a row. An increment has no rejected documents: without one of them
    nothing later is right."""

    code = "EAPPLY001"

    def __init__(self, namespace: str, key: bytes, why: str) -> None:
        super().__init__(
            f"{shown(namespace)} does not take what changed under _id {shown(to_key(key))}: {why}",
            remedy="remove what the target has and the source has not (a unique index, another "
            "document), or restore to a server of the source's version; then resume",
        )


class Refusal(NamedTuple):
    """Which row the server did not take, and what it says."""

    at: int
    error: dict[str, Any]


class _Moved(Exception):
    """A holder is not any more what it was: another shard was faster."""


def key_queries(keys: Sequence[bytes]) -> list[RawBSONDocument]:
    """Queries that find these keys; one of them all but those that look like operators."""
    plain = [key for key in keys if not like_operator(key)]
    odd = [equals_query(key) for key in keys if like_operator(key)]
    return [in_query(plain), *odd] if plain else odd


def like_operator(key: bytes) -> bool:
    """Whether the value of `{_id: <value>}` is a document whose first name begins with `$`."""
    return key[4] == 0x03 and key[14:15] == b"$"


def upsert(key: bytes, document: bytes) -> bytes:
    """A statement after which exactly this document lies under the key.

    As a pipeline: a plain replacement refuses names with `$` and fills empty timestamps.
    """
    literal = wrap(b"\x03$literal\0" + document)
    pipeline = wrap(b"\x030\0" + wrap(b"\x03$replaceWith\0" + literal))
    query = equals_query(key).raw if like_operator(key) else key
    return wrap(b"\x03q\0" + query + b"\x04u\0" + pipeline + b"\x08upsert\0\1")


def reason(error: dict[str, Any]) -> tuple[int, str]:
    """Code and reason of one row's error. Raises it where not the document is to blame."""
    code, why = int(error["code"]), without_values(str(error.get("errmsg", "")))
    if cause_of(code, why) is not Cause.PERMANENT:
        raise OperationFailure(why, code)
    return code, why


class Holders:
    """Brings rows to one collection for which no simple command will do."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        collection: str,
        spec: JobSpec,
        stop: StopToken,
        unique: Collection[str] | None,
    ) -> None:
        """`unique`: the names of the source's unique indexes. Nobody is removed for the sake of
        another, which only the target has: its documents need not have changed on the source."""
        self._client = client
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._collection = collection
        self._spec = spec
        self._stop = stop
        self._unique = unique
        self.removed: list[bytes] = []
        """`{_id}`s of holders so far."""

    def erase(self, keys: Sequence[bytes]) -> None:
        """Remove what lies under exactly these keys: under a collation a query finds more.

        The reader of the stored `_id`s and who removes them are one transaction: meanwhile
        another shard may put a document under the other spelling.
        """
        wanted = {order(key) for key in keys}
        for _ in range(MOST_TRIES):
            with self._session() as session:
                try:
                    there = self._find(key_queries(keys), session)
                    exact = [key for key in map(id_of, there) if order(key) in wanted]
                    self._delete(exact, session)
                    _commit(session)
                except OperationFailure as error:
                    if error.code != WRITE_CONFLICT:
                        raise
                    continue
            return
        raise OperationFailure(ALWAYS_ANOTHER, WRITE_CONFLICT)

    def settle(self, documents: Sequence[bytes]) -> None:
        """Bring documents that a simple command could not, because others hold their places.

        All at once first: most often they hold one another's. Raises `Refused`, `PyMongoError`,
        `Stopped`.
        """
        todo = deque([documents])
        while todo:
            some = todo.popleft()
            if not some or (refusal := self._try(some)) is None:
                continue
            self._place(some[refusal.at])
            todo.extendleft((some[refusal.at + 1 :], some[: refusal.at]))

    def _place(self, document: bytes) -> None:
        """Bring one document, and remove who stands in its way."""
        holders: list[bytes] = []
        in_vain = False
        for _ in range(MOST_TRIES):
            try:
                if (refusal := self._try([document], holders)) is None:
                    self.removed += map(id_of, holders)
                    return
                holders = self._holders_of(document)
            except _Moved:
                holders = []
                continue
            if not holders and in_vain:  # once, it may just have gone
                raise self._refused(document, refusal.error)
            in_vain = not holders
        raise OperationFailure(ALWAYS_ANOTHER, WRITE_CONFLICT)

    def _holders_of(self, document: bytes) -> list[bytes]:
        """The documents that cannot lie beside this one. The proof of each: with all others that
        may be holders out of the way, it cannot be put back behind the document. As it was there
        with the rest, it is the document that it does not bear with."""
        candidates = self._candidates(document)
        return [
            each
            for each in candidates
            if (refusal := self._try([document, each], candidates, dry=True)) and refusal.at == 1
        ]

    def _candidates(self, document: bytes) -> list[bytes]:
        """What may be holders: documents with one of the row's values under each field of a unique
        index. Not by the values that errors name: under a collation those are sort keys."""
        found: dict[bytes, None] = {}
        for index in self._unique_indexes():
            wanted = [_any_of(name, document) for name in index["key"]]
            if partial := index.get("partialFilterExpression"):
                wanted.append(partial)
            command = {
                "find": self._collection,
                "filter": {"$and": wanted},
                "collation": index.get("collation", {"locale": "simple"}),
                "limit": MOST_CANDIDATES,
            }
            found |= dict.fromkeys(found_rows(self._client, self._db.name, command, self._stop))
        key = order(id_of(document))
        return [each for each in found if order(id_of(each)) != key]

    def _unique_indexes(self) -> Iterator[Any]:
        command = {"listIndexes": self._collection, "cursor": {"batchSize": 1000}}
        for index in self._db.command(command, codec_options=RAW)["cursor"]["firstBatch"]:
            known = self._unique is None or index["name"] in self._unique
            if known and index.get("unique") and not index.get("clustered"):
                yield index

    def _try(
        self, documents: Sequence[bytes], holders: Sequence[bytes] = (), *, dry: bool = False
    ) -> Refusal | None:
        """Remove the holders, which must be as they were, and bring the documents, in one
        transaction; what the server refuses, if it does. `dry`: leave all as it was."""
        for _ in range(MOST_TRIES):
            with self._session() as session:
                try:
                    self._must_be(holders, session)
                    self._delete([id_of(each) for each in (*holders, *documents)], session)
                    refusal = self._bring(documents, session)
                    if refusal is None and not dry:
                        _commit(session)
                except OperationFailure as error:
                    if error.code != WRITE_CONFLICT:
                        raise
                    continue
            return refusal
        raise OperationFailure(ALWAYS_ANOTHER, WRITE_CONFLICT)

    def _session(self) -> ClientSession:
        """With a transaction begun; what is not committed is undone when the session ends."""
        if self._stop.is_set():
            raise Stopped
        session = self._client.start_session(causal_consistency=False)
        session.start_transaction(
            ReadConcern("snapshot"), WriteConcern(**concern(self._spec)), ReadPreference.PRIMARY
        )
        return session

    def _must_be(self, documents: Sequence[bytes], session: ClientSession) -> None:
        if documents:
            there = self._find(key_queries([id_of(each) for each in documents]), session)
            if set(there) != set(documents):
                raise _Moved

    def _find(self, queries: Sequence[RawBSONDocument], session: ClientSession) -> list[bytes]:
        found: list[bytes] = []
        for query in queries:
            asked: dict[str, Any] = {"find": self._collection, "filter": query}
            while asked:
                reply = self._db.command(asked, codec_options=RAW, session=session)["cursor"]
                batch = reply.get("firstBatch") or reply.get("nextBatch") or ()
                found += (bytes(each.raw) for each in batch)
                more = {"getMore": Int64(reply["id"]), "collection": self._collection}
                asked = more if reply["id"] else {}
        return found

    def _delete(self, keys: Sequence[bytes], session: ClientSession) -> None:
        if keys:
            deletes = [{"q": query, "limit": 0} for query in key_queries(keys)]
            self._db.command({"delete": self._collection, "deletes": deletes}, session=session)

    def _bring(self, documents: Sequence[bytes], session: ClientSession) -> Refusal | None:
        statements = [upsert(id_of(each), each) for each in documents]
        command = {
            "update": self._collection,
            "updates": [Slab(b"".join(statements))],
            "bypassDocumentValidation": True,
        }
        reply = self._db.command(command, codec_options=TOLERANT, session=session)
        for error in reply.get("writeErrors", []):
            if reason(error)[0] != DUPLICATE_KEY:
                raise self._refused(documents[error["index"]], error)
            return Refusal(error["index"], error)
        return None

    def _refused(self, document: bytes, error: dict[str, Any]) -> Refused:
        return Refused(f"{self._db.name}.{self._collection}", key_of(document), reason(error)[1])


def _commit(session: ClientSession) -> None:
    """A commit that failed is asked for once more: a transaction that stays open keeps everybody
    else from its documents until the server gives it up, after a minute."""
    try:
        session.commit_transaction()
    except PyMongoError:
        session.commit_transaction()


def _any_of(path: str, document: bytes) -> dict[str, Any]:
    """A condition that every document fulfils which has one of this document's values there."""
    values = list(_values(document, 0, len(document), path.encode().split(b".")))
    return {
        "$or": [
            {path: RawBSONDocument(wrap(b"%c$eq\0%b" % (kind, value)))} for kind, value in values
        ]
    }


def _values(raw: bytes, begin: int, end: int, path: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Type and value of all that an index over the path may hold of a document or an array."""
    name, *below = path
    missing = True
    for kind, found, value, after in elements(raw, begin, end):
        if found == name:
            missing = False
            yield from _beneath(raw, kind, value, after, below)
    if missing:
        yield 0x0A, b""


def _beneath(
    raw: bytes, kind: int, begin: int, end: int, path: list[bytes]
) -> Iterator[tuple[int, bytes]]:
    if not path:
        yield kind, raw[begin:end]
        if kind == 0x04:
            yield from ((inner, raw[at:to]) for inner, _, at, to in elements(raw, begin, end))
    elif kind == 0x03:
        yield from _values(raw, begin, end, path)
    elif kind == 0x04:
        yield from _values(raw, begin, end, path)  # by its place
        for inner, _, at, to in elements(raw, begin, end):
            if inner == 0x03:
                yield from _values(raw, at, to, path)
    else:
        yield 0x0A, b""
