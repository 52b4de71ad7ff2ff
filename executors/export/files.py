"""The files of one attempt at a chunk: drafts, put into the store when they are whole."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from executors.chunkfile import fresh_file
from executors.export.model import Piece
from executors.export.names import Attempt
from executors.protocol import StopToken
from executors.storage.protocol import Store
from statemachine.events import FilePart


class Writer(Protocol):
    """Writes the pieces of one file into a draft."""

    def add(self, piece: Piece, /) -> None:
        """Raises `OSError`."""
        ...

    def close(self) -> tuple[int, int, str]:
        """Documents, bytes and SHA-256 of the whole file. Raises `OSError`."""
        ...

    def discard(self) -> None: ...


Open = Callable[[Path], Writer]


class Files:
    """One file for each folder of a partition, in the order in which they came. A context manager:
    what was not put at its end is removed."""

    def __init__(self, store: Store, attempt: Attempt, open_writer: Open) -> None:
        self._store = store
        self._attempt = attempt
        self._open = open_writer
        self._files: dict[str, tuple[str, Path, Writer]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for draft, writer in [each[1:] for each in self._files.values()]:
            writer.discard()
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def add(self, piece: Piece) -> None:
        """Raises `OSError`, what the store raises."""
        if piece.folder not in self._files:
            name = self._attempt.name(piece.folder)
            draft = self._store.draft(name)
            self._files[piece.folder] = (name, draft, self._open(draft))
        self._files[piece.folder][2].add(piece)

    def put(self, stop: StopToken) -> Iterator[FilePart]:
        """Each is whole in the store, and durable, when it comes out."""
        for folder in list(self._files):
            name, draft, writer = self._files[folder]
            documents, size, sha256 = writer.close()
            self._store.put_file(name, draft, stop)
            del self._files[folder]
            yield FilePart(name=name, documents=documents, file_bytes=size, sha256=sha256)


class TextWriter:
    """Of lines: pieces one after another."""

    def __init__(self, path: Path, nothing: bytes = b"") -> None:
        """`nothing`: what a file without a line holds."""
        self._file = fresh_file(path)
        self._digest = hashlib.sha256()
        self._documents = self._bytes = 0
        self._nothing = Piece(nothing, 0)

    def add(self, piece: Piece) -> None:
        self._digest.update(piece.data)
        self._file.write(piece.data)
        self._documents += piece.documents
        self._bytes += len(piece.data)

    def close(self) -> tuple[int, int, str]:
        if not self._bytes:
            self.add(self._nothing)
        self._file.close()
        return self._documents, self._bytes, self._digest.hexdigest()

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
