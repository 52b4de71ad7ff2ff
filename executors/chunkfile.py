"""The chunk file: the documents of one chunk on disk, in blocks.

A file is a row of blocks and nothing else; each block is a 20-byte head and its payload:

    4 bytes  magic `FLB1`
    u32      documents in the block
    u32      bytes of the documents
    u32      bytes of the payload
    u32      compression: 0 none, 1 zstd
    payload  the documents, one after another, raw BSON; zstd: one frame, with its checksum

All numbers are little-endian. A file is complete when its length and SHA-256 are the ones that
`dump_completed` names; nothing else makes it so. A block begins where a restore may go on.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import zstandard

from executors.batches import Block
from executors.protocol import Stopped, StopToken

_HEAD: Final = struct.Struct("<4sIIII")
MAGIC: Final = b"FLB1"
_NONE, _ZSTD = 0, 1
LEVEL: Final = 1
"""Of zstd: on documents, 1 is several times faster than 3 and within a few percent in size."""
MAX_BLOCK_BYTES: Final = 24 << 20
"""A block that is not full may take one more document, of 16 MiB and a little."""
READ_BYTES: Final = 1 << 20
Squeeze = Callable[[bytes], bytes]
"""Compresses the documents of one block."""


@dataclass(frozen=True, slots=True)
class Written:
    documents: int
    bytes: int
    file_bytes: int
    blocks: int
    sha256: str


class DamagedFile(Exception):
    """The file is not the one that was written."""


def write_chunk_file(
    path: Path, blocks: Iterator[Block], compression: Literal["none", "zstd"]
) -> Written:
    """Write all blocks to `path`: under another name first, synced, renamed, directory synced.

    When this returns, the file is whole and durable; when it raises, there is none.
    """
    temporary = path.with_name(path.name + ".tmp")
    squeeze = compressor(compression)
    digest = hashlib.sha256()
    documents = size = file_bytes = count = 0
    try:
        with fresh_file(temporary) as file:
            for block in blocks:
                head, payload = framed(block, squeeze)
                for piece in (head, payload):
                    digest.update(piece)
                    file.write(piece)
                documents += block.documents
                size += len(block.data)
                file_bytes += len(head) + len(payload)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    try:
        sync_directory(path.parent)
    except OSError:
        path.unlink(missing_ok=True)  # whole, but its name may not last
        raise
    return Written(documents, size, file_bytes, count, digest.hexdigest())


def compressor(compression: Literal["none", "zstd"]) -> Squeeze | None:
    """Its frames carry a checksum: of a damaged file, a salvage knows which blocks are whole."""
    if compression == "none":
        return None
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress


def framed(block: Block, squeeze: Squeeze | None) -> tuple[bytes, bytes]:
    """The head and the payload of a block in the file."""
    payload = squeeze(block.data) if squeeze else block.data
    kind = _ZSTD if squeeze else _NONE
    return _HEAD.pack(MAGIC, block.documents, len(block.data), len(payload), kind), payload


def check_chunk_file(path: Path, *, file_bytes: int, sha256: str, stop: StopToken) -> None:
    """Raise `DamagedFile` unless the file is, to the byte, the one that was written."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != file_bytes:
                raise DamagedFile(f"{path.name} has {size} bytes, {file_bytes} were written")
            while piece := file.read(READ_BYTES):
                if stop.is_set():
                    raise Stopped
                digest.update(piece)
    except FileNotFoundError:
        raise DamagedFile(f"{path.name} is missing") from None
    except IsADirectoryError:
        raise DamagedFile(f"{path.name} is a directory") from None
    if digest.hexdigest() != sha256:
        raise DamagedFile(f"{path.name} does not have the SHA-256 it was written with")


def read_blocks(path: Path, position: int = 0) -> Iterator[tuple[Block, int]]:
    """The blocks from byte `position` on, each with the offset behind it.

    Raises `DamagedFile`. The caller has checked the file as a whole; this reader still
    believes no length that the file cannot keep.
    """
    with path.open("rb") as file:
        file.seek(position)
        yield from blocks_of(file.read, path.name, position)


def blocks_of(
    read: Callable[[int], bytes], name: str, position: int = 0
) -> Iterator[tuple[Block, int]]:
    """As `read_blocks`, from where an open file stands; `name` is for what is said about it."""
    stretch = zstandard.ZstdDecompressor().decompress
    while head := read(_HEAD.size):
        if len(head) < _HEAD.size or head[:4] != MAGIC:
            raise DamagedFile(f"{name}: no block begins at byte {position}")
        _, documents, size, payload_size, compression = _HEAD.unpack(head)
        if size > MAX_BLOCK_BYTES or payload_size > MAX_BLOCK_BYTES:
            raise DamagedFile(f"{name}: the block at byte {position} is too long")
        payload = read(payload_size)
        if len(payload) < payload_size:
            raise DamagedFile(f"{name} ends inside the block at byte {position}")
        try:
            data = _stretched(payload, size, stretch) if compression == _ZSTD else payload
        except zstandard.ZstdError as error:
            raise DamagedFile(f"{name}: block at byte {position}: {error}") from None
        if len(data) != size or compression not in (_NONE, _ZSTD):
            raise DamagedFile(f"{name}: the block at byte {position} lies about its size")
        position += _HEAD.size + payload_size
        yield Block(data, documents), position


def _stretched(payload: bytes, size: int, stretch: Callable[[bytes], bytes]) -> bytes:
    """The library sets aside what the frame says it holds: that must be what the head says."""
    return stretch(payload) if zstandard.frame_content_size(payload) == size else b""


def fresh_file(path: Path) -> BinaryIO:
    """A new file of ours; what a killed attempt left under the name is thrown away."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "wb", buffering=1 << 16)


def sync_directory(path: Path) -> None:
    """Make names in the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
