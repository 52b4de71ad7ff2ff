"""The undo log of an operation: what brings the target back, written before anything is changed.

A file of raw BSON rows, one after another. What was synced is whole for ever; a tail that a crash
tore was never acted upon, and is cut off before anything is added. To undo means to read the rows
from the last to the first.
"""

import os
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import bson
from bson.raw_bson import RawBSONDocument

from executors.batches import RAW
from executors.chunkfile import sync_directory
from executors.folder import UNDO, folder_name, inside
from executors.rawbson import int32
from statemachine.words import TaskKey

__all__ = ["UNDO", "UndoLog", "rows", "rows_backwards", "undo_path"]

LARGEST_ROW: Final = 48 << 20
"""Bytes: a block of keys and sums, or two documents, and a little."""


class UndoLog:
    """Takes the rows of one operation; the file is made with the first of them. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new: list[bytes] = []
        self._fd: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def make(self) -> None:
        """The file is there, durable, when this returns: an operation that has none did nothing.
        Raises `OSError`."""
        if not self._path.is_file():
            self.add({"k": "began"})
            self.sync()

    def add(self, row: Mapping[str, Any] | bytes) -> None:
        """Nothing may be done on its strength before `sync` has returned."""
        self._new.append(row if isinstance(row, bytes) else bson.encode(row))

    def sync(self) -> None:
        """What was added is durable when this returns. Raises `OSError`."""
        if not self._new:
            return
        if self._fd is None:
            self._fd = _opened(self._path)
        _append(self._fd, b"".join(self._new))
        os.fdatasync(self._fd)
        self._new.clear()


def undo_path(folder: Path, task: TaskKey) -> Path:
    """Where the undo log of an operation lies in the job's folder, if it has one."""
    return inside(folder, f"{UNDO}/{task.kind}/{folder_name(task.entity)}.bson")


def rows(path: Path) -> Iterator[RawBSONDocument]:
    """The whole rows in the order of writing; none where there is no file. Raises `OSError`."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for at, size in _offsets(file):
            file.seek(at)
            yield RawBSONDocument(file.read(size), RAW)


def rows_backwards(path: Path) -> Iterator[RawBSONDocument]:
    """The same from the last to the first. Memory: 8 bytes a row."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        offsets = array("Q", (at for at, _ in _offsets(file)))
        for at in reversed(offsets):
            file.seek(at)
            head = file.read(4)
            yield RawBSONDocument(head + file.read(int32(head, 0)[0] - 4), RAW)


def _opened(path: Path) -> int:
    """The file, ready to be added to; it and the directories above it have durable names."""
    for directory in (path.parent.parent, path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        sync_directory(path.parent)
        with _alone(fd), os.fdopen(fd, "rb", closefd=False) as file:
            end = max((at + size for at, size in _offsets(file)), default=0)
            os.ftruncate(fd, end)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """An attempt that was given up as hanging may still add to the same file."""
    flock(fd, LOCK_EX)
    try:
        yield
    finally:
        flock(fd, LOCK_UN)


def _append(fd: int, rows: bytes) -> None:
    """All of it or nothing: behind a row that is not whole, none is read."""
    with _alone(fd):
        end, left = os.fstat(fd).st_size, memoryview(rows)
        try:
            while left:
                left = left[os.write(fd, left) :]
        except BaseException:
            os.ftruncate(fd, end)
            raise


def _offsets(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where each row begins and how many bytes it has, up to what is not whole."""
    at, end = 0, os.fstat(file.fileno()).st_size
    while at + 5 <= end:
        file.seek(at)
        size = int32(file.read(4), 0)[0]
        if not 5 <= size <= min(LARGEST_ROW, end - at):
            return
        file.seek(at + size - 1)
        if file.read(1) != b"\0":
            return
        yield at, size
        at += size
