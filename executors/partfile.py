"""A part of a plain `.bson` file: whole documents in a range of its bytes, as blocks.

Chunk files are parts, too, and always whole files; what may be either is told apart here and
nowhere else.
"""

import hashlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from executors.batches import BLOCK_BYTES, BLOCK_DOCUMENTS, Block
from executors.chunkfile import READ_BYTES, DamagedFile, check_chunk_file, read_blocks
from executors.dumps.beneath import open_file
from executors.dumps.errors import DamagedDump
from executors.protocol import Stopped, StopToken
from executors.rawbson import int32
from executors.rejected import LARGEST
from statemachine.state import ChunkFile

CHUNK_FILE: Final = ".flb"


def file_blocks(path: Path, file: ChunkFile, position: int = 0) -> Iterator[tuple[Block, int]]:
    """The blocks of a chunk file or of a part of a `.bson`, from `position` on; each with the
    position behind it. Raises `DamagedFile`, `OSError`."""
    if path.suffix == CHUNK_FILE:
        return read_blocks(path, position)
    return part_blocks(path, file.at, file.file_bytes, position)


def check_file(path: Path, file: ChunkFile, stop: StopToken) -> None:
    """Raise `DamagedFile` unless its bytes are those that it was named with."""
    if path.suffix == CHUNK_FILE:
        check_chunk_file(path, file_bytes=file.file_bytes, sha256=file.sha256, stop=stop)
    else:
        check_part(path, at=file.at, file_bytes=file.file_bytes, sha256=file.sha256, stop=stop)


def part_blocks(
    path: Path, at: int, file_bytes: int, position: int = 0
) -> Iterator[tuple[Block, int]]:
    """The documents in `file_bytes` from byte `at` on, as blocks of about `BLOCK_BYTES`.

    `position` counts from `at`: behind which bytes to begin; each block comes with the one
    behind it. From the same position on, blocks are cut the same, wherever reading began.
    Believes no length that the part cannot keep. Raises `DamagedFile`, `OSError`.
    """
    with _opened(path) as file:
        file.seek(at + position)
        buffer, want = b"", BLOCK_BYTES
        while (left := file_bytes - position) > 0:
            goal = min(want, left)
            buffer += file.read(goal - len(buffer))
            if len(buffer) < goal:
                raise DamagedFile(f"{path.name} ends before byte {at + position + goal}")
            documents, end = _whole(buffer, path, at + position)
            if end:
                position += end
                yield Block(buffer[:end], documents), position
                buffer, want = buffer[end:], BLOCK_BYTES
            elif goal == left:
                raise DamagedFile(f"{path.name}: no whole document at byte {at + position}")
            else:
                want = int32(buffer, 0)[0]


def check_part(path: Path, *, at: int, file_bytes: int, sha256: str, stop: StopToken) -> None:
    """Raise `DamagedFile` unless these bytes of the file have that SHA-256."""
    digest = hashlib.sha256()
    with _opened(path) as file:
        file.seek(at)
        left = file_bytes
        while left:
            if stop.is_set():
                raise Stopped
            piece = file.read(min(READ_BYTES, left))
            if not piece:
                raise DamagedFile(f"{path.name} ends {left} bytes too early")
            digest.update(piece)
            left -= len(piece)
    if digest.hexdigest() != sha256:
        last = at + file_bytes - 1
        raise DamagedFile(f"{path.name} has changed between its bytes {at} and {last}")


def _opened(path: Path) -> BufferedReader:
    try:
        return BufferedReader(open_file(path.parent, path.name))  # type: ignore[arg-type]
    except DamagedDump as error:
        raise DamagedFile(str(error)) from None


def _whole(buffer: bytes, path: Path, begin: int) -> tuple[int, int]:
    """How many whole documents the buffer begins with, and where they end."""
    unpack, largest, size = int32, LARGEST, len(buffer)
    documents = at = 0
    last = size - 4
    while at <= last and documents < BLOCK_DOCUMENTS:
        (length,) = unpack(buffer, at)
        if length < 5 or length > largest:
            raise DamagedFile(f"{path.name}: document length {length} at byte {begin + at}")
        if at + length > size:
            break
        at += length
        documents += 1
    return documents, at
