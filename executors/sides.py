"""The sides of a comparison: where documents are read from, as often as it takes.

A side is a range of a deployment or a part of a dump; `fingerprint` compares any two. Documents
that a part holds in no known order are looked up on the other side instead, batch by batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import Block, Range, read_range
from executors.classify import classify
from executors.fingerprint import digest_of
from executors.identity import with_ids
from executors.partfile import check_file, file_blocks
from executors.placement import Mine, kept
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents, equals_query, id_of, in_query
from executors.rows import rows
from statemachine.state import ChunkFile
from statemachine.words import Cause

LOOKED_UP_AT_ONCE: Final = 1000
"""Documents in one query."""


class Side(Protocol):
    def blocks(self) -> Iterator[Block]:
        """All documents, from the beginning, at each call. Raises `Stopped`, and what the reader
        of the side raises: `PyMongoError`, `DamagedFile`, `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class InRange:
    """A range of a deployment."""

    client: MongoClient[Any]
    range: Range
    stop: StopToken
    document_bytes: int = 0
    """The mean, a hint."""

    def blocks(self) -> Iterator[Block]:
        return read_range(self.client, self.range, self.stop, document_bytes=self.document_bytes)


@dataclass(frozen=True, slots=True)
class InFile:
    """A chunk file, or a part of a `.bson`; documents without `_id` have the one that a restore
    gives them."""

    path: Path
    file: ChunkFile
    stop: StopToken
    mine: Mine | None = None
    """Which of them are meant; `None`: all."""

    def check(self) -> None:
        """Raises `DamagedFile` unless the bytes are those that the journal names."""
        check_file(self.path, self.file, self.stop)

    def blocks(self) -> Iterator[Block]:
        for block, position in file_blocks(self.path, self.file):
            if self.stop.is_set():
                raise Stopped
            yield kept(with_ids(block, self.file, position), self.mine)


def each_of(side: Side) -> Iterator[bytes]:
    """The documents of a side, one by one."""
    for block in side.blocks():
        yield from documents(block.data)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds documents of one collection by `_id`."""

    client: MongoClient[Any]
    database: str
    collection: str
    stop: StopToken
    filter: bytes | None = None
    """Which documents of the collection, as raw BSON; `None`: all."""
    read_preference: str = ""
    """As of `rows`."""

    def find(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """The digest of what lies there under each of these `{_id}`s. Raises `PyMongoError`,
        `Stopped`."""
        try:
            return dict(self._find(in_query(keys)))
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
        # A value among them that looks like an operator, or is no BSON.
        return {key: digest for each in keys for key, digest in self._find_one(each)}

    def _find_one(self, key: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return list(self._find(equals_query(key)))
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
            return []  # what a server refuses to look for, it does not hold

    def _find(self, query: RawBSONDocument) -> Iterator[tuple[bytes, bytes]]:
        wanted = [query] if self.filter is None else [query, RawBSONDocument(self.filter)]
        command = {"find": self.collection, "filter": {"$and": wanted}}
        preferred = self.read_preference
        for document in rows(
            self.client, self.database, command, self.stop, read_preference=preferred
        ):
            yield id_of(document), digest_of(document)


def lots_of(side: Side) -> Iterator[list[bytes]]:
    """The documents of a side, as many at a time as one query may ask for."""
    for block in side.blocks():
        every = documents(block.data)
        while lot := list(islice(every, LOOKED_UP_AT_ONCE)):
            yield lot
