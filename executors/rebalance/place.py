"""A range at one of its places: read, looked up, inserted into, and emptied of known documents."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from executors.batches import RAW, TOLERANT, Block, Range, read_range
from executors.classify import classify
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents, equals_query, id_of, in_query
from executors.rebalance.errors import OthersThere
from executors.rebalance.model import Move
from executors.rejected import Rejects
from executors.rows import rows
from executors.select import split
from executors.write import Conflict, Tally, Writer
from statemachine.events import JobSpec
from statemachine.state import Done, Unit
from statemachine.words import BsonText, Cause, UnitId

AT_ONCE: Final = 500
"""Documents of one transaction, which lasts a minute at most."""
Wanted = Callable[[bytes, bytes], bool]
"""Of a `{_id}` and the document under it."""
Erased = tuple[int, list[bytes]]
_SPEC: Final = JobSpec(
    kind="group",
    mode="direct",
    source="",
    target="",
    source_id="",
    target_id="",
    chunk_docs=1,
    chunk_bytes=1,
    compression="none",
    write_concern="majority",
    drop=False,
    on_conflict="stop",
    verify=False,
)


@dataclass(frozen=True, slots=True)
class Place:
    client: MongoClient[Any]
    name: str
    """The endpoint."""
    move: Move
    stop: StopToken

    def blocks(self) -> Iterator[Block]:
        """All documents of the range, in `_id` order."""
        return read_range(self.client, self._range(), self.stop)

    def each_key(self) -> Iterator[bytes]:
        """`{_id}` of each, from the index."""
        for block in read_range(self.client, self._range(keys_only=True), self.stop):
            yield from documents(block.data)

    def lots(self) -> Iterator[list[bytes]]:
        for block in self.blocks():
            every = documents(block.data)
            while lot := list(islice(every, AT_ONCE)):
                yield lot

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What lies under these `{_id}`s."""
        try:
            return dict(self._find(in_query(keys)))
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
        # A value among them that looks like an operator.
        return {key: found for each in keys for key, found in self._find(equals_query(each))}

    def insert(self, lot: Sequence[bytes], folder: Path) -> None:
        """These documents; those that are there to the byte are fine. Raises `OthersThere`."""
        if not lot:
            return
        database, collection = split(self.move.namespace)
        unit = Unit(
            UnitId(self.move.namespace),
            f"{database}.{collection}",
            "collection",
            "",
            BsonText(""),
            (),
            0,
            0,
        )
        with Rejects(folder / "unused") as rejects:  # nothing of it is ever synced
            tally = Tally.after(Done(), rejects)
            try:
                Writer(self.client, unit, _SPEC, self.stop).insert(
                    Block(b"".join(lot), len(lot)), tally
                )
            except Conflict as error:
                raise OthersThere(self.move.what, self.name, str(error)) from None
            if tally.rejections:
                first = tally.rejections[0]
                why = f"{first.key} was refused: {first.code}: {first.why}"
                raise OthersThere(self.move.what, self.name, why)

    def erase(self, keys: Sequence[bytes], wanted: Wanted) -> Erased:
        """Delete what lies under these keys and is wanted, each as it was looked at: a write by
        somebody else comes before or after. How many went, and the keys of what stayed."""
        try:
            return self._alone(in_query(keys), wanted)
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
        each = [self._alone(equals_query(key), wanted) for key in keys]
        return sum(gone for gone, _ in each), [key for _, kept in each for key in kept]

    def _alone(self, query: RawBSONDocument, wanted: Wanted) -> Erased:
        """In a transaction. Raises a write conflict as `PyMongoError`, also when it is that of a
        process that was killed: the server forgets it after a minute."""
        with (
            self.client.start_session() as session,
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority"),
                read_preference=ReadPreference.PRIMARY,
            ),
        ):
            return self._erase(query, wanted, session)

    def _erase(self, query: RawBSONDocument, wanted: Wanted, session: ClientSession) -> Erased:
        if self.stop.is_set():
            raise Stopped
        database, collection = split(self.move.namespace)
        db = self.client.get_database(database)
        ours: list[bytes] = []
        kept: list[bytes] = []
        command: dict[str, Any] = {"find": collection, "filter": query}
        while command:
            cursor = db.command(command, codec_options=RAW, session=session)["cursor"]
            for each in cursor.get("firstBatch") or cursor.get("nextBatch") or ():
                key = id_of(bytes(each.raw))
                (ours if wanted(key, bytes(each.raw)) else kept).append(key)
            more = {"getMore": Int64(cursor["id"]), "collection": collection}
            command = more if cursor["id"] else {}
        if ours:
            deletes = [{"q": equals_query(each), "limit": 1} for each in ours]
            told = {"delete": collection, "deletes": deletes}
            _must_be_written(db.command(told, codec_options=TOLERANT, session=session))
        return len(ours), kept

    def _find(self, query: RawBSONDocument) -> Iterator[tuple[bytes, bytes]]:
        database, collection = split(self.move.namespace)
        command = {"find": collection, "filter": query}
        for document in rows(self.client, database, command, self.stop):
            yield id_of(document), document

    def _range(self, *, keys_only: bool = False) -> Range:
        database, collection = split(self.move.namespace)
        move = self.move
        return Range(database, collection, move.lower, move.upper, keys_only=keys_only)


def _must_be_written(reply: dict[str, Any]) -> None:
    for error in reply.get("writeErrors", ()):
        raise OperationFailure(str(error.get("errmsg", "")), error["code"], reply)
