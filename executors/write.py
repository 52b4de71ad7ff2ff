"""Blocks of documents into a target collection; every document is settled by name.

Each block goes out as one unordered insert, acknowledged with the job's write concern. Where a
document's `_id` is taken, nothing is assumed: what lies there is read back and compared byte by
byte. So a block may be sent again after any doubt, and what was killed needs no other path than
the one it always takes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Self

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.errors import OperationFailure

from executors.batches import TOLERANT, Block
from executors.boundaries import to_key
from executors.classify import cause_of, classify, without_values
from executors.commands import acknowledged, concern
from executors.fingerprint import key_of
from executors.pace import UNLIMITED, Pace
from executors.protocol import Stopped, StopToken
from executors.rawbson import (
    Slab,
    as_stored,
    documents,
    equal_but_for_empty_timestamps,
    equals_query,
    has_empty_timestamp,
    id_of,
    in_query,
    may_have_empty_timestamp,
    wrap,
)
from executors.rejected import Rejects, name_of
from executors.rows import rows
from executors.sizing import WHOLE, Sizer
from executors.source import data_of
from executors.undo.log import UndoLog
from executors.undo.recording import Recorder, comparable
from statemachine.events import JobSpec
from statemachine.policy import MAX_REPORTED, PASSING
from statemachine.state import Done, Unit
from statemachine.stimuli import Rejection
from statemachine.words import Cause

DUPLICATE_KEY: Final = 11000
NO_DOCUMENT: Final = (2, 9, 14, 15, 22, 51, 53, 10334, 17280, 17419, 17420, 40409)
"""Codes by which a server refuses a whole command because of what one document is."""
INDEX_OF: Final = re.compile(r" index: (.+?) dup key")
"""Which index a document is a duplicate for, in the server's words."""
COMPARED_AT_ONCE: Final = 1000
"""Documents read back in one query."""
LOOKED_UP_AT_ONCE: Final = 5000
"""Keys in one query."""
Pair = tuple[bytes, bytes]
"""A document of ours, and what lies under its `_id`."""


class CountsDisagree(Exception):
    """The server did not insert as many documents as were sent and does not say why."""


class Conflict(Exception):
    """Another document lies under the same `_id`, and the job is to stop then."""


@dataclass(slots=True)
class Tally:
    """What became of a chunk's documents, over all attempts."""

    rejects: Rejects
    documents: int
    size: int
    present: int
    rejected: int
    rejections: list[Rejection] = field(default_factory=list)
    repaired: int = 0

    @classmethod
    def after(cls, done: Done, rejects: Rejects) -> Self:
        """Goes on where the journal says the last attempt came."""
        return cls(rejects, done.documents, done.bytes, done.present, done.rejected)

    def news(self) -> tuple[int, int, int, int, tuple[Rejection, ...], int]:
        """Documents, bytes, present and rejected so far; the rejections, whose documents are
        durable, and the number of repairs since the last news."""
        self.rejects.sync()
        new, self.rejections = tuple(self.rejections), []
        repaired, self.repaired = self.repaired, 0
        return self.documents, self.size, self.present, self.rejected, new, repaired

    def reject(self, document: bytes, code: str, why: str) -> None:
        self.rejects.add(document)
        self.rejected += 1
        if len(self.rejections) < MAX_REPORTED:
            self.rejections.append(Rejection(name_of(document), code, why))


class Writer:
    """Inserts blocks into one collection and settles every document it could not insert."""

    def __init__(
        self,
        client: MongoClient[Any],
        unit: Unit,
        spec: JobSpec,
        stop: StopToken,
        log: UndoLog | None = None,
        *,
        pace: Pace = UNLIMITED,
        sizer: Sizer = WHOLE,
    ) -> None:
        """`log`: where it stands, before anything is changed, what brings the collection back."""
        database, self._collection = data_of(unit.target, unit.type)
        self._client = client
        # What a lagging member shows is not what was acknowledged.
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._spec = spec
        self._stop = stop
        self._pace = pace
        self._sizer = sizer
        self._unique = {index.name for index in unit.indexes if index.unique}
        self._recorder = Recorder(log, unit.target, unit.type) if log is not None else None

    def insert(self, block: Block, tally: Tally) -> None:
        """Settle every document of the block. What was said to the tally before an error is not
        the whole: another attempt tells it again.

        A dump may hold what is no document, for which a server refuses all that came with it: it
        is looked for by halves. Raises `PyMongoError`, `Conflict`, `CountsDisagree`, `Stopped`,
        `OSError`.
        """
        if self._recorder is not None:
            self._recorder.inserted(self._absent(block))
            self._recorder.sync()
        for part in self._sizer.parts(block):
            self._pace.writes(part.documents, len(part.data), self._stop)
            with self._sizer.timed(part):
                self._insert(part, tally)

    def _insert(self, block: Block, tally: Tally) -> None:
        try:
            reply = self._sent(block)
        except OperationFailure as error:
            if self._spec.kind != "restore" or error.code not in NO_DOCUMENT:
                raise
            if block.documents > 1:
                for half in halves(block):
                    self._insert(half, tally)
            else:
                tally.reject(block.data, f"EMONGO{error.code:03d}", without_values(str(error)))
        else:
            self._count(block, reply, tally)

    def _absent(self, block: Block) -> Iterator[bytes]:
        """The documents under whose `_id` nothing lies. Those that a killed attempt inserted lie
        there: it has written down that they are ours."""
        every = documents(block.data)
        while lot := list(islice(every, LOOKED_UP_AT_ONCE)):
            keyed = [(key, each) for each in lot if (key := key_of(each)) is not None]
            there = set(map(comparable, self._keys_there([key for key, _ in keyed])))
            yield from (each for key, each in keyed if not there or comparable(key) not in there)

    def _keys_there(self, keys: list[bytes]) -> list[bytes]:
        try:
            return [id_of(each) for each in self._find(in_query(keys), only_ids=True)]
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
            if len(keys) == 1:
                return self._key_there(keys[0])
        half = len(keys) // 2
        return self._keys_there(keys[:half]) + self._keys_there(keys[half:])

    def _key_there(self, key: bytes) -> list[bytes]:
        """Of a value that looks like an operator, or is no BSON."""
        try:
            return [id_of(each) for each in self._find(equals_query(key), only_ids=True)]
        except OperationFailure as error:
            if error.code not in NO_DOCUMENT:
                raise
            return []  # what a server refuses to look for, it does not hold

    def _sent(self, block: Block) -> dict[str, Any]:
        return self._write(
            {
                "insert": self._collection,
                "ordered": False,
                "bypassDocumentValidation": True,
                "documents": [Slab(block.data)],
            }
        )

    def _count(self, block: Block, reply: dict[str, Any], tally: Tally) -> None:
        errors: list[dict[str, Any]] = reply.get("writeErrors", [])
        if reply["n"] + len(errors) != block.documents:
            raise CountsDisagree(
                f"{block.documents} documents sent, {reply['n']} inserted, {len(errors)} refused"
            )
        tally.documents += reply["n"]
        tally.size += len(block.data)
        refused = {error["index"]: error for error in errors}
        if may_have_empty_timestamp(block.data):
            self._repair(block, refused, tally)
        if refused:
            self._settle(block, refused, tally)

    def _repair(self, block: Block, refused: dict[int, Any], tally: Tally) -> None:
        """Put back the empty timestamps that the server filled in while it inserted."""
        stamped = [
            document
            for index, document in enumerate(documents(block.data))
            if index not in refused and has_empty_timestamp(document)
        ]
        self._must_replace(stamped)
        tally.repaired += len(stamped)

    def _settle(self, block: Block, refused: dict[int, Any], tally: Tally) -> None:
        taken: list[tuple[bytes, str]] = []
        for index, document in enumerate(documents(block.data)):
            if index not in refused:
                continue
            code, why = _said(refused[index])
            if code == DUPLICATE_KEY and not self._comes_again(refused[index]):
                taken.append((document, why))
            elif code == DUPLICATE_KEY and self._spec.follow:
                tally.documents += 1
            elif code == DUPLICATE_KEY:
                tally.reject(document, PASSING, why)  # until the first increment is applied
            else:
                tally.reject(document, f"EMONGO{code:03d}", why)
        for at in range(0, len(taken), COMPARED_AT_ONCE):
            self._compare(taken[at : at + COMPARED_AT_ONCE], tally)

    def _comes_again(self, error: dict[str, Any]) -> bool:
        """Whether a unique index of the source's own keeps the document out of a copy that changes
        follow: of two documents with one value, read at different times, one has changed since,
        and what follows brings both as they are."""
        follows = self._spec.follow or (self._spec.kind == "restore" and self._spec.links > 0)
        named = INDEX_OF.search(str(error.get("errmsg", ""))) if follows else None
        return named is not None and named[1] in self._unique

    def _compare(self, taken: list[tuple[bytes, str]], tally: Tally) -> None:
        there = self._read_back([id_of(document) for document, _ in taken])
        unlike: list[Pair] = []
        unrepaired: list[Pair] = []
        for sent, why in taken:
            document = as_stored(sent)
            mine = id_of(document)
            # Equal numbers of different types are one key, but not the same bytes.
            found = there.get(mine) or self._tied(mine)
            if found is None:
                tally.reject(document, f"EMONGO{DUPLICATE_KEY}", why)  # another unique index
            elif found == document:
                tally.documents += 1
                tally.present += 1
            elif has_empty_timestamp(document) and equal_but_for_empty_timestamps(document, found):
                unrepaired.append((document, found))
            else:
                unlike.append((document, found))
        self._finish_repair(unrepaired, tally)
        self._conflict(unlike, tally)

    def _finish_repair(self, pairs: list[Pair], tally: Tally) -> None:
        """Of documents that were inserted before a crash."""
        self._record_before(pairs)
        self._must_replace([document for document, _ in pairs])
        tally.repaired += len(pairs)
        tally.documents += len(pairs)
        tally.present += len(pairs)

    def _read_back(self, ids: list[bytes]) -> dict[bytes, bytes]:
        try:
            found = self._find(in_query(ids))
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
            # A value that looks like an operator.
            found = [document for each in ids for document in self._find(equals_query(each))]
        return {id_of(document): document for document in found}

    def _tied(self, mine: bytes) -> bytes | None:
        """The document whose `_id` is another way to write the same key."""
        return next(iter(self._find(equals_query(mine))), None)

    def _find(self, query: RawBSONDocument, *, only_ids: bool = False) -> list[bytes]:
        self._look()
        only = {"projection": {"_id": 1}} if only_ids else {}
        command = {"find": self._collection, "filter": query, **only}
        return list(rows(self._client, self._db.name, command, self._stop))

    def _conflict(self, pairs: list[Pair], tally: Tally) -> None:
        """Other documents lie under the `_id`s of these."""
        match self._spec.on_conflict if pairs else "":
            case "stop":
                raise Conflict(f"another document lies under _id {to_key(id_of(pairs[0][0]))}")
            case "skip":
                for document, _ in pairs:
                    why = "another document lies under this _id"
                    tally.reject(document, "ECONFLICT001", why)
            case "overwrite":
                self._overwrite(pairs, tally)

    def _overwrite(self, pairs: list[Pair], tally: Tally) -> None:
        self._record_before(pairs)
        refused = self._replace([document for document, _ in pairs])
        tally.documents += len(pairs) - len(refused)
        for index, error in refused.items():
            code, why = _said(error)
            tally.reject(pairs[index][0], f"EMONGO{code:03d}", why)

    def _record_before(self, pairs: list[Pair]) -> None:
        if self._recorder is not None and pairs:
            for document, found in pairs:
                self._recorder.replaced(document, found)
            self._recorder.sync()

    def _must_replace(self, every: list[bytes]) -> None:
        for error in self._replace(every).values():
            raise OperationFailure(str(error.get("errmsg", "")), error["code"])

    def _replace(self, every: list[bytes]) -> dict[int, dict[str, Any]]:
        """Replace what lies under the `_id`s of these documents, to the byte; the server's errors
        by the number of the document that it refuses."""
        if not every:
            return {}
        reply = self._write(
            {
                "update": self._collection,
                "ordered": False,
                "updates": [Slab(b"".join(map(_replacement, every)))],
                "bypassDocumentValidation": True,
            }
        )
        errors: list[dict[str, Any]] = reply.get("writeErrors", [])
        if reply["n"] + len(errors) != len(every):
            raise CountsDisagree(
                f"{len(every)} documents were there, {reply['n']} replaced, {len(errors)} refused"
            )
        return {error["index"]: error for error in errors}

    def _write(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run a write command, acknowledged with the job's write concern."""
        self._look()
        reply = self._db.command(
            {**command, "writeConcern": concern(self._spec)}, codec_options=TOLERANT
        )
        return acknowledged(reply)

    def _look(self) -> None:
        """Before each command: one block may take many of them."""
        if self._stop.is_set():
            raise Stopped


def _replacement(document: bytes) -> bytes:
    """A statement that puts exactly this document in the place of what lies under its `_id`.

    As a pipeline: a plain replacement refuses names with `$` and fills empty timestamps.
    """
    literal = wrap(b"\x03$literal\0" + document)
    pipeline = wrap(b"\x030\0" + wrap(b"\x03$replaceWith\0" + literal))
    return wrap(b"\x03q\0" + equals_query(id_of(document)).raw + b"\x04u\0" + pipeline)


def halves(block: Block) -> tuple[Block, Block]:
    """Of a block with at least two documents."""
    first = block.documents // 2
    at = sum(map(len, islice(documents(block.data), first)))
    return Block(block.data[:at], first), Block(block.data[at:], block.documents - first)


def _said(error: dict[str, Any]) -> tuple[int, str]:
    """Code and reason of one document's error. Raises it where not the document is to blame:
    a failover, a throttled server or a full disk in the middle of a block rejects nobody."""
    code, why = int(error["code"]), without_values(str(error.get("errmsg", "")))
    if cause_of(code, why) is not Cause.PERMANENT:
        raise OperationFailure(why, code)
    return code, why
