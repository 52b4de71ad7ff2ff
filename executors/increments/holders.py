"""Rows of an increment whose place on the target another document holds.

An increment is applied key by key, and by several shards at once, so a document may come before
the one that held its unique value until then has changed. Both were right at their own time: as of
the increment's end the source held what is in the increment and no two documents that one of its
unique indexes would not let live side by side. So who stands in the way of a row has lost its place
by then: its own row is in the increment, too, and puts it where it belongs, whether that came
before (then it does not stand in the way any more) or comes later. It may be removed.

Nobody is removed on suspicion. The server tells which key of which index it does not take twice,
and that index is asked what it holds under exactly this key: what a query would find may only look
like a holder, or not look like one (arrays, missing fields, partial and sparse indexes). Each try
is one transaction: all of it or nothing, and readers never see anything missing but what was
removed for good.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from executors.batches import RAW
from executors.boundaries import to_key
from executors.classify import cause_of, without_values
from executors.dumps.errors import shown
from executors.increments.ahead import Ahead
from executors.increments.keyorder import order
from executors.increments.places import ERRORS, Crowded, Error, Place, comparable, places_of
from executors.increments.row import key_of
from executors.metadata import concern
from executors.protocol import Stopped, StopToken
from executors.rawbson import Slab, equals_query, id_of, in_query, wrap
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.words import Cause, UnitType

DUPLICATE_KEY: Final = 11000
OTHER_ID: Final = 66
"""A replacement that would change `_id`: one key under a collation, and not the same bytes."""
WRITE_CONFLICT: Final = 112
BAD_HINT: Final = 2
"""`BadValue`: there is no such index to look into, or it is hidden."""
LOCK_TIMEOUT: Final = 24
"""A transaction waits for an index that is being hidden or shown for no longer than 5 ms."""
PASSING: Final = (WRITE_CONFLICT, BAD_HINT, LOCK_TIMEOUT)
MOST_AT_ONCE: Final = 200
"""Rows of one transaction: it keeps others waiting, and servers end it after a minute."""
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
            remedy="if a unique index or a document that only the target has is in the way, remove "
            "it and resume; else what the chain says does not go together on this server: begin "
            "anew (--new --drop) with a new full dump, on a server of the source's version",
        )


class Refusal(NamedTuple):
    """Which row of a try the server did not take, and what it says."""

    at: int
    error: Error


class Row(NamedTuple):
    """A document to bring, and those of its places that others are known to have held."""

    document: bytes
    places: list[Place]


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


def reason(error: Error) -> tuple[int, str]:
    """Code and reason of one row's error. Raises it where not the document is to blame."""
    code, why = int(error["code"]), without_values(str(error.get("errmsg", "")))
    if cause_of(code, why) is not Cause.PERMANENT:
        raise OperationFailure(why, code)
    return code, why


@dataclass(frozen=True, slots=True)
class Aside:
    """Writes down what gives way, before it does."""

    ahead: Ahead
    namespace: str
    kind: UnitType

    def removed(self, documents: Sequence[bytes]) -> None:
        self.ahead.erased(self.namespace, self.kind, documents)
        self.ahead.sync()

    def shown(self, index: str) -> None:
        self.ahead.hidden(self.namespace, index)


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
        aside: Aside | None = None,
    ) -> None:
        """`unique`: the names of the source's unique indexes. Nobody is removed for the sake of
        another, which only the target has: its documents need not have changed on the source."""
        self._aside = aside
        self._client = client
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._collection = collection
        self._spec = spec
        self._stop = stop
        self._unique = unique
        self._shown = set[str]()
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

    def settle(self, crowded: Sequence[Crowded]) -> None:
        """Bring documents that a simple command could not, because others hold their places.

        Many at once first: most often they hold one another's. Raises `Refused`, `PyMongoError`,
        `Stopped`.
        """
        if not crowded:
            return
        indexes = self._unique_indexes()
        todo = [Row(each.document, places_of(each, indexes)) for each in _backwards(crowded)]
        try:
            self._settle(todo, indexes)
        finally:
            self._hide_again()

    def _settle(self, todo: list[Row], indexes: Sequence[Any]) -> None:
        many, conflicts = MOST_AT_ONCE, 0
        while todo:
            some = todo[:many]
            try:
                refusal = self._try(some)
            except OperationFailure as error:
                if error.code not in PASSING or conflicts == MOST_TRIES:
                    raise
                if error.code == BAD_HINT:
                    self._show()
                many, conflicts = max(1, len(some) // 2), conflicts + 1
                continue
            if refusal is None:
                todo, many, conflicts = todo[many:], min(2 * many, MOST_AT_ONCE), 0
                continue
            self._learn(some, refusal, indexes)
            many = max(1, min(refusal.at + 1, len(some) // 2))

    def _learn(self, some: Sequence[Row], refusal: Refusal, indexes: Sequence[Any]) -> None:
        """Which other place the refused row needs. Rows that came together may be in the way of
        one another; of one alone that is not so."""
        row = some[refusal.at]
        new = places_of(Crowded(row.document, refusal.error), indexes)
        if len(some) == 1 and (not new or new[0] in row.places):
            raise self._refused(row.document, refusal.error)
        row.places.extend(place for place in new if place not in row.places)

    def _try(self, some: Sequence[Row]) -> Refusal | None:
        """Remove who holds the rows' places, and bring their documents, in one transaction; what
        the server refuses, if it does: then all is as it was."""
        own = [id_of(row.document) for row in some]
        with self._session() as session:
            held = {order(key): key for key in self._all_holders(some, session)}
            holders = [held[key] for key in held.keys() - set(map(order, own))]
            if self._aside is not None and holders:
                self._aside.removed(self._find(key_queries(holders), session))
            self._delete([*own, *holders], session)
            refusal = self._bring([row.document for row in some], session)
            if refusal is None:
                _commit(session)
                self.removed += holders
        return refusal

    def _all_holders(self, some: Sequence[Row], session: ClientSession) -> Iterator[bytes]:
        """Before anything is deleted: what is deleted stays in an index until the transaction
        ends, and each look there would have to step over it."""
        for place in chain.from_iterable(row.places for row in some):
            yield from self._holder(place, session)

    def _holder(self, place: Place, session: ClientSession) -> Iterator[bytes]:
        """`{_id}` of the document that has the place, if one has."""
        for begin in place.begins:
            command = {
                "find": self._collection,
                "hint": place.index,
                "min": RawBSONDocument(begin),
                "collation": place.collation,
                "projection": {"_id": 1, "key": {"$meta": "indexKey"}},
                "limit": 1,
            }
            reply = self._db.command(command, codec_options=RAW, session=session)
            for found in reply["cursor"]["firstBatch"]:
                if comparable(found["key"].raw) == place.key:
                    yield id_of(found.raw)
                    return

    def _unique_indexes(self) -> list[Any]:
        command = {"listIndexes": self._collection, "cursor": {"batchSize": 1000}}
        return [
            index
            for index in self._db.command(command, codec_options=RAW)["cursor"]["firstBatch"]
            if self._unique is None or index["name"] in self._unique
            if index.get("unique") and not index.get("clustered")
        ]

    def _show(self) -> None:
        """Hidden indexes are as unique as others, but cannot be looked into."""
        for index in self._unique_indexes():
            if index.get("hidden"):
                self._shown.add(index["name"])
                if self._aside is not None:
                    self._aside.shown(index["name"])
                self._hide(index["name"], hidden=False)

    def _hide_again(self) -> None:
        """Whoever shows an index hides it, so the last of many shards leaves it hidden. Another
        that still looks into it shows it once more; after a kill, shaping hides it."""
        while self._shown:
            self._hide(self._shown.pop(), hidden=True)

    def _hide(self, index: str, *, hidden: bool) -> None:
        change = {"name": index, "hidden": hidden}
        self._db.command({"collMod": self._collection, "index": change})

    def _session(self) -> ClientSession:
        """With a transaction begun; what is not committed is undone when the session ends."""
        if self._stop.is_set():
            raise Stopped
        session = self._client.start_session(causal_consistency=False)
        session.start_transaction(
            ReadConcern("snapshot"), WriteConcern(**concern(self._spec)), ReadPreference.PRIMARY
        )
        return session

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
        reply = self._db.command(command, codec_options=ERRORS, session=session)
        for error in reply.get("writeErrors", []):
            if reason(error)[0] != DUPLICATE_KEY:
                raise self._refused(documents[error["index"]], error)
            return Refusal(error["index"], error)
        return None

    def _refused(self, document: bytes, error: Error) -> Refused:
        return Refused(f"{self._db.name}.{self._collection}", key_of(document), reason(error)[1])


def _commit(session: ClientSession) -> None:
    """A commit that failed is asked for once more: a transaction that stays open keeps everybody
    else from its documents until the server gives it up, after a minute."""
    try:
        session.commit_transaction()
    except PyMongoError:
        session.commit_transaction()


def _backwards(crowded: Sequence[Crowded]) -> list[Crowded]:
    """From the last key to the first: a server that looks whether a key is there steps over all
    that the transaction deleted behind it, up to what it brought."""
    return sorted(crowded, key=lambda each: order(id_of(each.document)), reverse=True)
