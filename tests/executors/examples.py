"""What tests of the hands share: units as a survey finds them, ranges and files as chunks."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from executors.survey import survey
from statemachine.events import JobSpec
from statemachine.state import NOTHING, Chunk, ChunkFile, Done, Unit
from statemachine.words import BsonText, ChunkId, Key, UnitId
from tests.statemachine.examples import SPEC

Client = MongoClient[Any]
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)


def spec(**changes: Any) -> JobSpec:
    return SPEC.model_copy(update=changes)


def unit_of(client: Client, name: str = "shop.c", **fields: Any) -> Unit:
    """The unit as a survey finds it."""
    (found,) = survey(client, spec(**{"include": (name,), "exclude": (), **fields})).units
    return Unit(
        id=found.unit,
        target=found.target,
        type=found.type,
        uuid=found.uuid,
        options=found.options,
        indexes=found.indexes,
        documents_estimate=0,
        bytes_estimate=0,
        expires=found.expires,
    )


def plain_unit(name: str = "shop.c", **fields: Any) -> Unit:
    """A collection without options, which nobody has to ask for."""
    given = {"id": UnitId(name), "target": name, "type": "collection", "uuid": ""}
    described = {"options": BsonText("{}"), "indexes": ()}
    return Unit(**{**given, **described, "documents_estimate": 0, "bytes_estimate": 0, **fields})


def part_of(path: Path, documents: Sequence[bytes], *, at: int = 0) -> ChunkFile:
    """These documents of the `.bson` at `path`, which begin at byte `at` of it, as a part."""
    raw = b"".join(documents)
    digest = hashlib.sha256(raw).hexdigest()
    return ChunkFile(path.name, len(documents), len(raw), len(raw), digest, at, "dump")


def in_order(**fields: Any) -> bytes:
    """A document with its fields in this order; the driver would put `_id` in front."""
    body = b"".join(bson.encode({name: value})[4:-1] for name, value in fields.items())
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


def filed(file: ChunkFile, unit: Unit, done: Done = NOTHING, *, number: int = 0) -> Chunk:
    """A chunk whose documents lie in this file."""
    return Chunk(
        ChunkId(f"{unit.id}#{number}"),
        unit.id,
        lower=None,
        upper=None,
        documents=file.documents,
        natural=False,
        file=file,
        done=done,
    )


class Looks:
    """A stop token that counts the looks at it; set behind so many of them."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.most, self.taken = most, 0

    def is_set(self) -> bool:
        self.taken += 1
        return self.taken > self.most


def chunk_of(
    unit: Unit,
    lower: Key | None = None,
    upper: Key | None = None,
    *,
    natural: bool = False,
    done: Done = NOTHING,
) -> Chunk:
    return Chunk(
        ChunkId(f"{unit.id}#0"), unit.id, lower, upper, documents=0, natural=natural, done=done
    )


def fill(client: Client, documents: list[Any]) -> None:
    """Insert what the collection takes: under a collation some strings are one key."""
    with suppress(BulkWriteError):
        client.shop.c.insert_many(documents, ordered=False)


def there(client: Client, name: str = "shop.c") -> list[bytes]:
    """The documents of a collection in `_id` order."""
    database, _, collection = name.partition(".")
    found = client[database].get_collection(collection, codec_options=RAW).find({}).hint("_id_")
    return [bytes(each.raw) for each in found]
