"""One collection of the target, as an undo looks at it and changes it: by transactions, so that
what was read is what is changed, whoever writes meanwhile.

Capped collections and those of servers take part in no transaction: what somebody else writes
there between the look and the change, a moment later, is not seen.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bson import Int64
from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from executors.batches import RAW
from executors.commands import acknowledged, concern
from executors.increments.holders import key_queries, upsert
from executors.increments.places import ERRORS
from executors.protocol import Stopped, StopToken
from executors.rawbson import Slab, id_of
from executors.source import data_of
from statemachine.events import JobSpec

WRITE_CONFLICT: Final = 112
MOST_TRIES: Final = 100
"""Of what somebody else came in between."""


class There:
    """The collection that holds the documents of a namespace of this type."""

    def __init__(
        self, client: MongoClient[Any], namespace: str, kind: str, spec: JobSpec, stop: StopToken
    ) -> None:
        """Raises `PyMongoError`."""
        database, self.collection = data_of(namespace, kind)
        self.namespace = namespace
        self._client = client
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._concern = concern(spec)
        self._stop = stop
        found = self._entries()
        self.exists = bool(found)
        """Else nothing may be written: it would be made."""
        capped = any(each["options"].get("capped") for each in found)
        self._transactions = not (capped or self.collection.startswith("system."))

    def _entries(self) -> list[Any]:
        command = {
            "listCollections": 1,
            "filter": {"name": self.collection, "type": {"$ne": "view"}},
        }
        reply = self._db.command(command, codec_options=RAW)
        return list(reply["cursor"]["firstBatch"])

    def change(self, work: Callable[[ClientSession], None]) -> None:
        """Do some work: all of it or nothing, where the collection allows it; again, when somebody
        else came in between. Durable when this returns. Raises `PyMongoError`, `Stopped`."""
        for tries in range(MOST_TRIES):
            try:
                with self._client.start_session(causal_consistency=False) as session:
                    if self._transactions:
                        session.start_transaction(write_concern=WriteConcern(**self._concern))
                    work(session)
                    if self._transactions:
                        _commit(session)
            except OperationFailure as error:
                if error.code != WRITE_CONFLICT or tries == MOST_TRIES - 1:
                    raise
            else:
                return

    def find(self, keys: Sequence[bytes], session: ClientSession) -> Iterator[bytes]:
        """What lies under these `{_id}`s. Under a collation that may be more than what was asked
        for."""
        for query in key_queries(keys) if self.exists else ():
            asked: dict[str, Any] = {"find": self.collection, "filter": query}
            while asked:
                reply = self._run(asked, session)["cursor"]
                for each in reply.get("firstBatch") or reply.get("nextBatch") or ():
                    yield bytes(each.raw)
                more = {"getMore": Int64(reply["id"]), "collection": self.collection}
                asked = more if reply["id"] else {}

    def delete(self, keys: Sequence[bytes], session: ClientSession) -> None:
        """What lies under exactly these `{_id}`s, which were found."""
        deletes = [{"q": query, "limit": 0} for query in key_queries(keys)]
        self._write({"delete": self.collection, "deletes": deletes}, session)

    def put(self, documents: Sequence[bytes], session: ClientSession) -> None:
        """Exactly these documents lie under their `_id`s then; in this order, up to the first that
        the server does not take."""
        statements = b"".join([upsert(id_of(each), each) for each in documents])
        command = {"update": self.collection, "updates": [Slab(statements)]}
        self._write({**command, "bypassDocumentValidation": True}, session)

    def _write(self, command: dict[str, Any], session: ClientSession) -> None:
        """Raises `OperationFailure` also for what the server says of one document."""
        own = {} if session.in_transaction else {"writeConcern": self._concern}
        reply = self._run({**command, **own}, session)
        for error in reply.get("writeErrors", []):
            raise OperationFailure(str(error.get("errmsg", "")), int(error["code"]))
        acknowledged(reply)

    def _run(self, command: dict[str, Any], session: ClientSession) -> Any:
        if self._stop.is_set():
            raise Stopped
        return self._db.command(command, codec_options=ERRORS, session=session)


def _commit(session: ClientSession) -> None:
    """A commit that failed is asked for once more: a transaction that stays open keeps everybody
    else from its documents until the server gives it up, after a minute."""
    try:
        session.commit_transaction()
    except PyMongoError:
        session.commit_transaction()
