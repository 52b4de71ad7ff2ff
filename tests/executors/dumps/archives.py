"""Archives made by hand, from the description of the format alone."""

import struct
from collections.abc import Iterable
from typing import Any

import bson
from bson import Int64

from executors.chunkfile import read_blocks
from executors.dumps.model import Damage, Dump

MAGIC = bytes.fromhex("6de29981")
END = b"\xff" * 4
_POLYNOMIAL = 0xC96C5795D7870F42


def crc64(data: bytes) -> int:
    """CRC-64/XZ, bit by bit, as signed as BSON has it."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= (1 << 64) - 1
    return int(struct.unpack("<q", struct.pack("<Q", crc))[0])


def document(n: int, **more: Any) -> bytes:
    return bson.encode({"_id": n, "text": f"document {n}", **more})


def entry(namespace: str, metadata: str = "", **more: Any) -> bytes:
    database, _, collection = namespace.partition(".")
    told = {"db": database, "collection": collection, "metadata": metadata, "size": 0}
    return bson.encode(told | {"type": "collection"} | more)


def head(namespace: str, crc: int = 0, *, end: bool = False, **more: Any) -> bytes:
    database, _, collection = namespace.partition(".")
    told = {"db": database, "collection": collection, "EOF": end, "CRC": Int64(crc)}
    return bson.encode(told | more)


def prelude(*entries: bytes, **more: Any) -> bytes:
    header = {
        "concurrent_collections": 4,
        "version": "0.1",
        "server_version": "6.0.5",
        "tool_version": "100.1.0",
    }
    return MAGIC + bson.encode(header | more) + b"".join(entries) + END


def block(namespace: str, *documents: bytes) -> bytes:
    return head(namespace) + b"".join(documents) + END


def end(namespace: str, *documents: bytes) -> bytes:
    """With the CRC of all documents of the namespace."""
    return head(namespace, crc64(b"".join(documents)), end=True) + END


def interleaved() -> bytes:
    """Two collections whose blocks alternate, and an empty one."""
    a = [document(n) for n in range(5)]
    b = [document(n, more=[-1, {"_id": n}]) for n in range(10, 14)]
    return b"".join(
        [
            prelude(entry("shop.a"), entry("shop.b"), entry("shop.none")),
            block("shop.a", *a[:2]),
            block("shop.b", *b[:1]),
            block("shop.a", *a[2:]),
            block("shop.none"),
            end("shop.none"),
            block("shop.b", *b[1:]),
            end("shop.a", *a),
            end("shop.b", *b),
        ]
    )


def held(dump: Dump) -> dict[str, bytes]:
    """All documents of a dump in ferrylog's layout, by namespace."""
    return {
        each.namespace: b"".join(
            block.data for part in each.parts for block, _ in read_blocks(dump.root / part.file)
        )
        for each in dump.namespaces
    }


def ids(documents: bytes) -> list[Any]:
    return [each["_id"] for each in bson.decode_all(documents)]


def reasons(damage: Iterable[Damage]) -> list[str]:
    return [each.code for each in damage]
