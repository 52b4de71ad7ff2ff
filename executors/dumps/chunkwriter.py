"""Chunk files written by several hands at once, a bounded number of them open.

A stream brings the documents of many namespaces in turn. Each has one chunk file in the making;
the one that waited longest is put aside when too many are open, and goes on where it was.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Container
from pathlib import Path
from typing import BinaryIO, Final, Self

from executors.batches import BLOCK_BYTES, BLOCK_DOCUMENTS, Block
from executors.chunkfile import compressor, framed, sync_directory
from executors.dumps.model import Part
from executors.folder import folder_name
from executors.rawbson import int32

MOST_OPEN: Final = 16
"""Files, and blocks in memory, of 2 MiB and one document more; mongodump writes 4 at a time."""


class ChunkWriter:
    """The chunk files of a folder: `<namespace>/<number>-1.flb`, zstd.

    A chunk ends once it has `documents`, or `bytes_` or more; of a namespace that is kept `whole`
    it does not. Nothing lies under its name before it is whole and synced. A context manager:
    what is not whole at its end is removed.
    """

    def __init__(
        self, folder: Path, *, documents: int, bytes_: int, whole: Container[str] = ()
    ) -> None:
        self._folder = folder
        self._documents, self._bytes, self._whole = documents, bytes_, whole
        self._chunks: dict[str, _Chunk] = {}
        self._open: OrderedDict[str, _Chunk] = OrderedDict()
        self._parts: dict[str, list[Part]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for chunk in self._chunks.values():
            chunk.discard()

    def add(self, namespace: str, data: bytes, documents: int) -> None:
        """Whole documents, one after another."""
        whole = namespace in self._whole
        while documents:
            chunk = self._chunk(namespace)
            room = BLOCK_DOCUMENTS if whole else self._documents - chunk.documents
            fit = min(documents, room, BLOCK_DOCUMENTS)
            size = len(data) if fit == documents else _size_of(data, fit)
            chunk.add(data[:size], fit)
            data, documents = data[size:], documents - fit
            full = chunk.documents >= self._documents or chunk.bytes >= self._bytes
            if full and not whole:
                self.end(namespace)

    def end(self, namespace: str) -> None:
        """No more of this namespace, or no more in this chunk."""
        self._open.pop(namespace, None)
        if chunk := self._chunks.pop(namespace, None):
            self._parts.setdefault(namespace, []).append(chunk.complete())

    def finish(self) -> dict[str, tuple[Part, ...]]:
        """All chunks by namespace; they and their names are durable."""
        for namespace in list(self._chunks):
            self.end(namespace)
        for namespace in self._parts:
            sync_directory(self._folder / folder_name(namespace))
        sync_directory(self._folder)
        return {namespace: tuple(parts) for namespace, parts in self._parts.items()}

    def _chunk(self, namespace: str) -> "_Chunk":
        if (chunk := self._chunks.get(namespace)) is None:
            number = len(self._parts.get(namespace, ()))
            name = f"{folder_name(namespace)}/{number}-1.flb"
            chunk = self._chunks[namespace] = _Chunk(self._folder, name)
        self._open[namespace] = chunk
        self._open.move_to_end(namespace)
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].put_aside()
        return chunk


class _Chunk:
    """One chunk file in the making."""

    def __init__(self, folder: Path, name: str) -> None:
        self.documents = self.bytes = 0
        self._name = name
        self._path = folder / name
        self._temporary = folder / (name + ".tmp")
        self._temporary.parent.mkdir(mode=0o700, exist_ok=True)
        self._temporary.unlink(missing_ok=True)
        self._digest = hashlib.sha256()
        self._file_bytes = 0
        self._pending: list[bytes] = []
        self._held = self._count = 0
        self._file: BinaryIO | None = None
        self._squeeze = compressor("zstd")

    def add(self, data: bytes, documents: int) -> None:
        if self._count + documents > BLOCK_DOCUMENTS:
            self._flush()
        self._pending.append(data)
        self._held += len(data)
        self._count += documents
        self.documents += documents
        self.bytes += len(data)
        if self._held >= BLOCK_BYTES:
            self._flush()

    def complete(self) -> Part:
        """The file is whole, synced, under its name; the directory is not synced yet."""
        self._flush()
        assert self._file is not None, "a chunk has documents"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._close()
        self._temporary.rename(self._path)
        return Part(
            file=self._name,
            at=0,
            file_bytes=self._file_bytes,
            documents=self.documents,
            bytes=self.bytes,
            sha256=self._digest.hexdigest(),
        )

    def put_aside(self) -> None:
        """Neither memory nor a descriptor until documents come again."""
        self._flush()
        self._close()

    def discard(self) -> None:
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._file is None:
            self._file = _appending(self._temporary)
        if not self._pending:
            return
        block = Block(b"".join(self._pending), self._count)
        for piece in framed(block, self._squeeze):
            self._digest.update(piece)
            self._file_bytes += len(piece)
            self._file.write(piece)
        self._pending.clear()
        self._held = self._count = 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _appending(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def _size_of(data: bytes, documents: int) -> int:
    """Of the first so many of whole documents."""
    at = 0
    for _ in range(documents):
        at += int32(data, at)[0]
    return at
