"""What is whole of a chunk file that is not the one the manifest names.

Blocks that can be read are, and of their documents those that are whole; behind damage the next
block is looked for by its magic. A compressed block carries a checksum; in one that is not, as in
a `.bson` file, a value that was altered goes unseen where its document is whole all the same.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from executors.batches import Block
from executors.chunkfile import MAGIC, READ_BYTES, DamagedFile, blocks_of, write_chunk_file
from executors.dumps.beneath import open_file
from executors.dumps.bsonfile import made, salvaged
from executors.dumps.errors import DamagedDump
from executors.dumps.model import Damage, Part, StopToken
from executors.protocol import Stopped

_PATIENCE: Final = 64 << 20
"""Bytes that are read of what only looks like blocks, beyond four times the file."""
_NO_LIMIT: Final = 1 << 62


def salvage_chunk(
    root: Path, part: Part, folder: Path, name: str, stop: StopToken
) -> Iterator[Part | Damage]:
    """The whole documents of the damaged chunk file, as the chunk file `name` of `folder`, durable
    and for the same range, if there are any; then what was passed over.

    The same file makes the same chunk file again. Raises `OSError`, `Stopped`.
    """
    damage: list[Damage] = []
    try:
        with open_file(root, part.file) as file:
            blocks = _Salvage(file, part.file, stop, damage).blocks()
            if first := next(blocks, None):
                made(folder, (folder / name).parent)
                done = write_chunk_file(folder / name, _chained(first, blocks), "zstd")
                yield replace(
                    part,
                    file=name,
                    file_bytes=done.file_bytes,
                    documents=done.documents,
                    bytes=done.bytes,
                    sha256=done.sha256,
                )
    except DamagedDump as error:
        damage.append(Damage(part.file, 0, part.file_bytes, error.detail, error.why))
    yield from damage


def _chained(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


class _Salvage:
    """One file, read once; what is passed over is told in `damage`."""

    def __init__(self, file: BinaryIO, name: str, stop: StopToken, damage: list[Damage]) -> None:
        self._file, self._name, self._stop, self._damage = file, name, stop, damage
        self._size = os.fstat(file.fileno()).st_size
        self._patience = _PATIENCE + 4 * self._size

    def blocks(self) -> Iterator[Block]:
        """What is whole, in order; no block without documents."""
        at = begin = 0
        why = ""
        while at < self._size:
            if self._stop.is_set():
                raise Stopped
            found = self._block(at)
            if isinstance(found, str):
                why, at = why or found, self._next(at + 1)
                continue
            self._passed(begin, at, why)
            block, begin = found
            yield from self._documents(block, at)
            at, why = begin, ""
            if at < self._size and not self._begins(at):
                at, why = self._next(at), "no block begins here"
        self._passed(begin, at, why)

    def _block(self, at: int) -> tuple[Block, int] | str:
        """The block at `at` and where it ends, or why there is none."""
        self._file.seek(at)
        try:
            return next(blocks_of(self._file.read, self._name, at))
        except DamagedFile as error:
            return str(error)
        finally:
            self._patience -= self._file.tell() - at

    def _begins(self, at: int) -> bool:
        self._file.seek(at)
        return self._file.read(len(MAGIC)) == MAGIC

    def _next(self, at: int) -> int:
        """Where the next block may begin; the end when there is none."""
        while at < self._size and self._patience > 0:
            self._file.seek(at)
            piece = self._file.read(READ_BYTES)
            if (found := piece.find(MAGIC)) >= 0:
                return at + found
            at += max(len(piece) - len(MAGIC) + 1, 1)
        return self._size

    def _documents(self, block: Block, at: int) -> Iterator[Block]:
        """Those of one block that are whole."""
        told, documents, most = len(self._damage), 0, _NO_LIMIT
        data = io.BytesIO(block.data)
        for each in salvaged(data, self._name, documents=most, bytes_=most, stop=self._stop):
            if isinstance(each, Part):
                documents += each.documents
                yield Block(block.data[each.at : each.at + each.bytes], each.documents)
            else:
                why = f"byte {each.at} of the documents of the block: {each.why}"
                self._damage.append(replace(each, at=at, why=why))
        if documents != block.documents and told == len(self._damage):
            why = f"the block holds {documents} documents, and its head says {block.documents}"
            self._damage.append(Damage(self._name, at, 0, "EDUMP070", why))

    def _passed(self, begin: int, end: int, why: str) -> None:
        if why:
            self._damage.append(Damage(self._name, begin, end - begin, "EDUMP070", why))
