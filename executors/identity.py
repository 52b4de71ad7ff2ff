"""Documents without an `_id`: a dump may hold them, a collection may not.

A server would make up an `_id` at every insert, so that what is sent twice would be there twice.
So they get one before they are sent: made from the file and the document's place in it, it is the
same each time. Two parts of a file may hold the same bytes: their documents are as many.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from executors.batches import Block
from executors.partfile import CHUNK_FILE
from executors.rawbson import MALFORMED, documents, elements, int32
from statemachine.state import Chunk, ChunkFile

_FIRST: Final = b"_id\0"
OBJECT_ID: Final = b"\x07"


def came_by_id(chunk: Chunk) -> bool:
    """Whether its documents were read through an index on `_id`, as dumps of ours are: then each
    of them has one."""
    file = chunk.file
    assert file is not None
    return file.place != "work" and file.name.endswith(CHUNK_FILE) and not chunk.natural


def with_ids(block: Block, file: ChunkFile, position: int) -> Block:
    """The block with an `_id` in each of its documents; `position` is the place behind it."""
    data, at, end = block.data, 0, len(block.data)
    while at < end:
        if data[at + 5 : at + 9] != _FIRST and not _has_id(data, at):
            break
        at += int32(data, at)[0]
    else:
        return block
    seed = f"{file.name!a} {file.at} {file.sha256} {position} ".encode()
    return Block(b"".join(_given(block, seed)), block.documents)


def _given(block: Block, seed: bytes) -> Iterator[bytes]:
    for number, document in enumerate(documents(block.data)):
        if _has_id(document, 0):
            yield document
            continue
        made = blake2b(seed + b"%d" % number, digest_size=12).digest()
        body = OBJECT_ID + _FIRST + made + document[4:]
        yield (len(body) + 4).to_bytes(4, "little") + body


def _has_id(data: bytes, at: int) -> bool:
    """Also of one that cannot be read: the server will say so."""
    try:
        found = elements(data, at, at + int32(data, at)[0])
        return any(name == b"_id" for _, name, _, _ in found)
    except MALFORMED:
        return True
