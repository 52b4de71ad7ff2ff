"""A time series that was dropped, made again from its copy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import BLOCK_BYTES, TOLERANT
from executors.commands import NAMESPACE_EXISTS, acknowledged, concern
from executors.compare import fields
from executors.rawbson import Slab, int32
from executors.select import split
from executors.source import data_of
from executors.undo.aside import Row
from statemachine.events import JobSpec

DUPLICATE_KEY: Final = 11000


def bring_back(client: MongoClient[Any], row: Row, file: Path, spec: JobSpec) -> int:
    """Make it as its row says, with the buckets of the file; what is there already stays. Returns
    the number of buckets that were not. Raises `PyMongoError`, `OSError`."""
    database, name = split(row["ns"])
    db = client.get_database(database)
    command = {"create": name, **fields(bytes(row["options"].raw)), "writeConcern": concern(spec)}
    try:
        acknowledged(db.command(command))
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
    brought = 0
    with file.open("rb") as buckets:
        for lot in _lots(buckets):
            brought += _insert(client, row["ns"], lot, spec)
    if indexes := list(row["indexes"]):
        command = {"createIndexes": name, "indexes": indexes, "writeConcern": concern(spec)}
        acknowledged(db.command(command))
    return brought


def _insert(client: MongoClient[Any], namespace: str, lot: list[bytes], spec: JobSpec) -> int:
    database, collection = data_of(namespace, "timeseries")
    command = {
        "insert": collection,
        "ordered": False,
        "bypassDocumentValidation": True,
        "documents": [Slab(b"".join(lot))],
        "writeConcern": concern(spec),
    }
    reply = client.get_database(database).command(command, codec_options=TOLERANT)
    for error in reply.get("writeErrors", []):
        if error["code"] != DUPLICATE_KEY:
            raise OperationFailure(str(error.get("errmsg", "")), int(error["code"]))
    return int(acknowledged(reply)["n"])


def _lots(buckets: BinaryIO) -> Iterator[list[bytes]]:
    lot, held = list[bytes](), 0
    for bucket in _each(buckets):
        lot.append(bucket)
        held += len(bucket)
        if held >= BLOCK_BYTES:
            yield lot
            lot, held = [], 0
    if lot:
        yield lot


def _each(buckets: BinaryIO) -> Iterator[bytes]:
    while head := buckets.read(4):
        yield head + buckets.read(int32(head, 0)[0] - 4)
