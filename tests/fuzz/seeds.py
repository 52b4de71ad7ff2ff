"""What fuzzing begins with: one input of each kind, by hand, and the corpus where there is one."""

import gzip
import io
import json
import struct
from collections.abc import Iterator
from typing import Final

import bson
import zstandard
from fastcrc import crc64

from executors.dumps.archive import END, MAGIC
from executors.export.jsonl import lines
from executors.export.jsontext import texts_of
from executors.flaws import Code
from tests.conformance.corpus import bson_files, files, invalid_bson, valid_bson
from tests.executors.bsons import FLAWED, ID, IDS, SOUND, document, text

LARGEST: Final = 1200
"""Bytes of a seed; small ones are changed to more effect."""
_ROW: Final = b"".join(
    document(b"\x10_id\0%c\0\0\0" % n, b"\x02a\0" + text(b"x" * n)) for n in range(7)
)
_METADATA: Final = (
    b"{}",
    json.dumps(
        {
            "options": {"capped": True, "size": {"$numberLong": "4096"}},
            "indexes": [
                {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"},
                {"v": 2, "key": {"a": 1.0, "b": "2dsphere"}, "name": "a_1", "unique": True},
                {
                    "v": 2,
                    "key": {"c": -1},
                    "name": "c",
                    "partialFilterExpression": {"c": {"$gt": 1}},
                },
            ],
            "uuid": "0123456789abcdef0123456789abcdef",
            "collectionName": "c",
            "type": "collection",
        }
    ).encode(),
    b'{"options":{"validator":{"a":{"$regularExpression":{"pattern":"^x","options":"i"}}},'
    b'"viewOn":"c","pipeline":[{"$match":{"d":{"$date":{"$numberLong":"1"}},'
    b'"b":{"$binary":{"base64":"YQ==","subType":"04"}}}}]},"indexes":[],"type":"view"}',
)
_SHA256: Final = "0" * 64
_MANIFEST: Final = (
    '{"ferrylog": "dump/1",\n"checksum": "of all bytes before the last line",\n'
    '"facts": {"tool_version": "1", "consistency": "fuzzy"},\n"namespaces": [\n'
    '{"namespace": "d.c", "type": "collection", "uuid": "", "options": "{}", "indexes": [], '
    '"documents": 2, "bytes": 28, "chunks": [\n'
    f'{{"file": "d.c/0-1.flb", "documents": 2, "bytes": 28, "file_bytes": 48, "sha256": "{_SHA256}"'
    f'}}]}}\n],\n"sha256": "{_SHA256}"}}\n'
).encode()


def seeds(target: str) -> Iterator[bytes]:
    """All seeds of a target that are short enough."""
    yield from (seed for seed in _OF[target]() if len(seed) <= LARGEST)


def _structure() -> Iterator[bytes]:
    yield from (case.document for case in FLAWED.values())
    yield from SOUND.values()
    yield from IDS.values()
    yield from (case.bson for case in (*valid_bson(), *invalid_bson()))


def _bsonfile() -> Iterator[bytes]:
    yield from (b"", _ROW, _ROW[:-5], _ROW[9:], _ROW.replace(b"xx", b"\0x"))
    flat = (case.document for case in FLAWED.values() if case.code is not Code.DEPTH)  # fast
    yield from (_ROW + damaged + _ROW for damaged in flat)
    yield from (data for _, data in bson_files())


def _gzip() -> Iterator[bytes]:
    packed = gzip.compress(_ROW, mtime=0)
    yield from (packed, packed[:-6], packed + packed, packed + b"\0" * 9, packed + b"more")
    named = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=named, mtime=0) as file:
        file.write(_ROW)
    yield named.getvalue()
    yield from (path.read_bytes() for path in files("*.gz"))


def _metadata() -> Iterator[bytes]:
    yield from _METADATA
    yield from (path.read_bytes() for path in files("*.metadata.json"))


def _manifest() -> Iterator[bytes]:
    yield _MANIFEST


def _chunkfile() -> Iterator[bytes]:
    packed = zstandard.ZstdCompressor().compress(_ROW)
    plain = struct.pack("<4sIIII", b"FLB1", 7, len(_ROW), len(_ROW), 0) + _ROW
    squeezed = struct.pack("<4sIIII", b"FLB1", 7, len(_ROW), len(packed), 1) + packed
    yield from (b"", plain, squeezed, plain + squeezed, squeezed[:-3], plain[:30])


def _archive() -> Iterator[bytes]:
    header = {
        "concurrent_collections": 4,
        "version": "0.1",
        "server_version": "6.0.5",
        "tool_version": "100",
    }
    told = {"db": "d", "collection": "c", "metadata": _METADATA[1].decode(), "type": "collection"}
    prelude = MAGIC + bson.encode(header) + bson.encode(told) + END
    lot = document(ID) * 2
    crc = crc64.xz(lot)
    crc -= crc >> 63 << 64  # BSON has signed numbers
    name = {"db": "d", "collection": "c"}
    block = bson.encode({**name, "EOF": False, "CRC": bson.Int64(0)}) + lot + END
    over = bson.encode({**name, "EOF": True, "CRC": bson.Int64(crc)}) + END
    yield from (prelude, prelude + block + over, prelude + block, prelude + over + block)
    yield gzip.compress(prelude + block + over, mtime=0)
    yield from (path.read_bytes() for path in files("*.archive"))


def _jsonlines() -> Iterator[bytes]:
    told = [text for case in valid_bson() for text in texts_of([case.bson], "canonical")]
    yield from (text.encode() for text in told if isinstance(text, str))
    for form in ("canonical", "relaxed"):
        for compression in ("none", "gzip", "zstd"):
            yield lines(_ROW, form, compression).data
    yield b'\xef\xbb\xbf{"_id":1}\r\n\n{"a":{"$date":"2024-01-02T03:04:05Z"}}\n'


_OF: Final = {
    "structure": _structure,
    "bsonfile": _bsonfile,
    "gzip": _gzip,
    "metadata": _metadata,
    "manifest": _manifest,
    "chunkfile": _chunkfile,
    "archive": _archive,
    "jsonlines": _jsonlines,
    "jsontext": _structure,
}
