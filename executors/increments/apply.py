"""Chunk file of an increment to target, block by block: for each key, exactly the document as it
was at the increment's end, or nothing.

Nothing is assumed of what lies there, so any part of a file may be applied again, and what was
killed needs no other path than the one it always takes. Readers of the target find each document
as it was or as it is, and never neither.

Measured on mongod 6.0.5 with documents of 230 bytes, sent a block at a time (microseconds of an
otherwise idle machine with 2 cores, a document): insert 3 to 7; a look at which keys are there 2 to
3; replacement 15, as a pipeline 18; upsert of what is not there 33 to 70; deletion by `$in` 9, one
by one 13 to 18; deletion by `$in` and insertion 14. So the target is asked for its keys first: what
is new is inserted, what is there replaced. Transactions, and updates of many documents by one
statement, save nothing worth their trouble.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pymongo import MongoClient, ReadPreference
from pymongo.errors import DocumentTooLarge, OperationFailure

from executors.batches import RAW
from executors.boundaries import from_key, to_key
from executors.chunkfile import DamagedFile
from executors.classify import without_values
from executors.dumps.errors import shown
from executors.increments.ahead import Ahead
from executors.increments.holders import (
    DUPLICATE_KEY,
    OTHER_ID,
    Aside,
    Holders,
    Refused,
    key_queries,
    like_operator,
    reason,
    upsert,
)
from executors.increments.keyorder import order
from executors.increments.places import ERRORS, Crowded, Error
from executors.increments.row import is_erased, key_of
from executors.metadata import acknowledged, concern
from executors.partfile import check_file, file_blocks
from executors.placement import Mine
from executors.protocol import Stopped, StopToken
from executors.rawbson import (
    Slab,
    as_stored,
    documents,
    element_end,
    equals_query,
    has_empty_timestamp,
    last_of,
    may_have_empty_timestamp,
    wrap,
)
from executors.rows import rows as found_rows
from executors.source import data_of
from executors.write import NO_DOCUMENT, CountsDisagree
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import Applied, Shard
from statemachine.stimuli import Applying
from statemachine.words import Key, UnitType

_DOLLAR: Final = re.compile(rb"\$(?<=[\x01-\x13\x7f\xff]\$)")
"""The beginning of a name with `$`, at the top or below, behind its type; finds more than there
are. Put so that what is searched for is one byte, which is fast."""
_WITH_STRINGS: Final = (0x02, 0x03, 0x0E)
"""Types of `_id` for which a collation may take two for one."""
Rows = Sequence[bytes]


class Foreign(OperatorError):
    """What was written is not what lies there."""

    code, exit_code = "EAPPLY002", 4

    def __init__(self, namespace: str, key: bytes, what: str) -> None:
        super().__init__(
            f"{shown(namespace)} holds {what} under _id {shown(to_key(key))}, right after it was "
            "applied",
            remedy="somebody else writes to the target: keep everybody else away from it and begin "
            "anew with --new --drop",
        )


class Counts(NamedTuple):
    documents: int
    erased: int


def apply(
    client: MongoClient[Any],
    shard: Shard,
    spec: JobSpec,
    path: Path,
    stop: StopToken,
    *,
    unique: Collection[str] | None = None,
    mine: Mine | None = None,
    ahead: Ahead | None = None,
    moved: Ahead | None = None,
) -> Iterator[Applying]:
    """Bring the rows of the shard's file, which lies at `path`, to the target, from the journaled
    position on; yield after each block that is acknowledged and, if the job verifies, read back.
    The last yield is the whole. `unique`: see `Holders`. Rows that are not `mine` are passed over.
    `ahead` takes what brings back the documents that change, `moved` those that give way to others.

    Raises `DamagedFile` before anything is written, `Refused`, `Foreign`, `PyMongoError`,
    `OSError`, `Stopped`.
    """
    check_file(path, shard.file, stop)
    target = Target(client, shard.target, shard.type, spec, stop, unique, ahead, moved)
    done = shard.done
    for block, position in file_blocks(path, shard.file, done.position):
        last = key_of(last_of(block.data))
        if not target.collation:  # whole collections with one come in its order
            _must_ascend(path, done.last_key, last)
        rows = [row for row in documents(block.data) if mine is None or mine(key_of(row))]
        counts = target.apply(rows)
        done = _after(done, sum(map(len, rows)), position, to_key(last), counts)
        yield _told(done)
    if shard.done.position == shard.file.file_bytes:
        yield _told(done)


def _after(done: Applied, size: int, position: int, last: Key, counts: Counts) -> Applied:
    return Applied(
        position,
        done.documents + counts.documents,
        done.erased + counts.erased,
        done.bytes + size,
        last,
    )


def _told(done: Applied) -> Applying:
    return Applying(done.position, done.last_key, done.documents, done.erased, done.bytes)


def _must_ascend(path: Path, before: Key | None, last: bytes) -> None:
    """Else what is told of how far it came would not be true."""
    if before is not None and order(last) <= order(bytes(from_key(before).raw)):
        raise DamagedFile(f"{path.name}: rows are not in the order of their keys")


class Target:
    """One collection of the target, to which rows are applied."""

    def __init__(
        self,
        client: MongoClient[Any],
        namespace: str,
        kind: UnitType,
        spec: JobSpec,
        stop: StopToken,
        unique: Collection[str] | None = None,
        ahead: Ahead | None = None,
        moved: Ahead | None = None,
    ) -> None:
        database, self._collection = data_of(namespace, kind)
        self._namespace = namespace
        self._kind: UnitType = kind
        self._ahead = ahead
        self._client = client
        # What a lagging member shows is not what was acknowledged.
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._spec = spec
        self._stop = stop
        aside = Aside(moved, namespace, kind) if moved is not None else None
        self._holders = Holders(client, database, self._collection, spec, stop, unique, aside)
        self.collation = self._has_collation()
        self._new_so_far = False
        """Of the last documents none lay there: the next are inserted before anybody looks."""

    @property
    def removed(self) -> list[bytes]:
        """Documents that stood in the way of others so far; their own rows bring them again."""
        return self._holders.removed

    def apply(self, rows: Rows) -> Counts:
        """Apply rows, no two of one key, and wait for the acknowledgement; any part may be applied
        already. At most a block's worth. Raises `Refused`, `Foreign`, `PyMongoError`, `Stopped`.
        """
        gone = [key_of(row) for row in rows if is_erased(row)]
        whole = [as_stored(row) for row in rows if not is_erased(row)]
        if self._ahead is not None:
            self._write_down(self._ahead, whole, gone)
        else:
            if gone:
                self.erase(gone)
            if whole:
                self._bring(whole)
        if self._spec.verify:
            self._must_be_there(whole, gone)
        return Counts(len(whole), len(gone))

    def _write_down(self, ahead: Ahead, whole: Rows, gone: Rows) -> None:
        """As without a log, but nothing is done before it is known what lies there. What is right
        already, as after a crash, is left alone: what lay there before is written down then."""
        where = (self._namespace, self._kind)
        new, changed, erased = {_id_of(each): each for each in whole}, dict[bytes, bytes](), False
        for before in self._find([*gone, *new], {}):
            key = _id_of(before)
            becomes = new.pop(key, None)
            if becomes is None:  # or written otherwise, as 1.0 for 1: it is replaced, too
                erased = True
                ahead.erased(*where, (before,))
            elif becomes != before:
                changed[key] = becomes
                ahead.replaced(*where, becomes, before)
        ahead.inserted(*where, new.values())
        ahead.sync()
        if gone and erased:
            self.erase(gone)
        every = list(new.values())
        odd = odd_ones([*changed.values(), *every])
        self._holders.settle(self.put(changed, every, odd))

    def lying(self, keys: Rows) -> list[bytes]:
        """What lies under these keys. Raises `PyMongoError`, `Stopped`."""
        return list(self._find(keys, {}))

    def erase(self, keys: Rows) -> None:
        """First of all: what is gone frees unique values."""
        if self.collation and any(key[4] in _WITH_STRINGS for key in keys):
            self._holders.erase(keys)
            return
        deletes = [{"q": query, "limit": 0} for query in key_queries(keys)]
        reply = self._write({"delete": self._collection, "ordered": False, "deletes": deletes})
        for error in reply.get("writeErrors", []):
            raise OperationFailure(reason(error)[1], error["code"])

    def _bring(self, whole: Rows) -> None:
        odd = odd_ones(whole)
        if self._new_so_far:
            plain = [(each, each) for each in whole if each not in odd]
            whole = [*odd, *(each.document for each in self._sent(plain, self._insert))]
            if not whole:
                return
        keyed = [(_id_of(each), each) for each in whole]
        there = self._keys_there([key for key, _ in keyed])
        self._new_so_far = not there
        changed = {key: each for key, each in keyed if key in there}
        new = [each for key, each in keyed if key not in there]
        self._holders.settle(self.put(changed, new, odd))

    def put(self, changed: Mapping[bytes, bytes], new: Rows, odd: set[bytes]) -> list[Crowded]:
        """Send documents by their keys, under which others lie, and such that are new; those whose
        place others hold."""
        there = {**changed, **{_id_of(each): each for each in new if each in odd}}
        updates = [
            (each, (upsert if each in odd else _replacement)(key, each))
            for key, each in there.items()
        ]
        inserts = [(each, each) for each in new if each not in odd]
        return self._sent(updates, self._update) + self._sent(inserts, self._insert)

    def _keys_there(self, keys: Rows) -> set[bytes]:
        """The target's own bytes: equal numbers of different types are one key, and not the same
        document."""
        return {_id_of(each) for each in self._find(keys, {"projection": {"_id": 1}})}

    def _find(self, keys: Rows, options: dict[str, Any]) -> Iterator[bytes]:
        for query in key_queries(keys):
            command = {"find": self._collection, "filter": query, **options}
            yield from found_rows(self._client, self._db.name, command, self._stop)

    def _sent(
        self, pairs: Sequence[tuple[bytes, bytes]], command: Callable[[Slab], dict[str, Any]]
    ) -> list[Crowded]:
        """Send documents, each with its statement; those whose place others hold.

        Where the server refuses the whole for one document, that one is looked for by halves.
        """
        if not pairs:
            return []
        try:
            reply = self._write(command(Slab(b"".join(statement for _, statement in pairs))))
        except (OperationFailure, DocumentTooLarge) as error:
            if not isinstance(error, DocumentTooLarge) and error.code not in NO_DOCUMENT:
                raise
            if len(pairs) == 1:
                raise self._refused(pairs[0][0], without_values(str(error))) from error
            half = len(pairs) // 2
            return self._sent(pairs[:half], command) + self._sent(pairs[half:], command)
        errors = reply.get("writeErrors", [])
        if reply["n"] + len(errors) != len(pairs):
            raise CountsDisagree(f"{len(pairs)} rows sent, {reply['n']} applied, {len(errors)} not")
        return [self._crowded(pairs[error["index"]][0], error) for error in errors]

    def _crowded(self, document: bytes, error: Error) -> Crowded:
        code, why = reason(error)
        if code not in (DUPLICATE_KEY, OTHER_ID):
            raise self._refused(document, why)
        return Crowded(document, error)

    def _refused(self, document: bytes, why: str) -> Refused:
        return Refused(self._namespace, _id_of(document), why)

    def _insert(self, slab: Slab) -> dict[str, Any]:
        return {"insert": self._collection, "documents": [slab]}

    def _update(self, slab: Slab) -> dict[str, Any]:
        return {"update": self._collection, "updates": [slab]}

    def _write(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run a write command, acknowledged with the job's write concern."""
        if self._stop.is_set():
            raise Stopped
        options: dict[str, Any] = {"ordered": False, "writeConcern": concern(self._spec)}
        if "delete" not in command:
            options["bypassDocumentValidation"] = True
        return acknowledged(self._db.command({**command, **options}, codec_options=ERRORS))

    def _must_be_there(self, whole: Rows, gone: Rows) -> None:
        expected: dict[bytes, bytes | None] = {order(key): None for key in gone}
        keys = [*gone, *map(_id_of, whole)]
        expected.update((order(_id_of(each)), each) for each in whole)
        found = {order(_id_of(each)): each for each in self._find(keys, {})}
        for key in keys:
            row, lies = expected[order(key)], found.get(order(key))
            if row != lies:
                what = "another document" if row and lies else "a document" if lies else "nothing"
                raise Foreign(self._namespace, key, what)

    def _has_collation(self) -> bool:
        command = {"listCollections": 1, "filter": {"name": self._collection}}
        found = self._db.command(command, codec_options=RAW)["cursor"]["firstBatch"]
        return any("collation" in each["options"] for each in found)


def _id_of(document: bytes) -> bytes:
    """As `id_of`, of a document that begins with it."""
    return wrap(document[4 : element_end(document, document[4], 9)])


def odd_ones(whole: Rows) -> set[bytes]:
    """Documents that simple commands would refuse or alter, and perhaps others."""
    block = b"".join(whole)
    odd: set[bytes] = set()
    if _DOLLAR.search(block):
        odd.update(each for each in whole if _DOLLAR.search(each))
    if may_have_empty_timestamp(block):
        odd.update(each for each in whole if has_empty_timestamp(each))
    return odd


def _replacement(key: bytes, document: bytes) -> bytes:
    """A statement after which exactly this document lies under the key, if it is not odd."""
    query = equals_query(key).raw if like_operator(key) else key
    return wrap(b"\x03q\0" + query + b"\x03u\0" + document + b"\x08upsert\0\1")
