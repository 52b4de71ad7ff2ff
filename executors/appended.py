"""A file that is only added to: what was synced is whole for ever.

A crash leaves at most a torn tail, which was never acted upon; it is cut off before anything is
added. What a file holds, and where its whole part ends, is its maker's to say.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import BinaryIO, Self

from executors.chunkfile import sync_directory


class Appended(ABC):
    """Takes pieces; the file is made with the first of them. For one thread."""

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

    def sync(self) -> None:
        """What was added is durable when this returns. Raises `OSError`."""
        if not self._new:
            return
        if self._fd is None:
            self._fd = self._opened()
        self._append(self._fd)
        os.fdatasync(self._fd)
        self._new.clear()

    @abstractmethod
    def _whole(self, file: BinaryIO) -> int:
        """Where the whole part of the file ends."""

    def _framed(self, pieces: Sequence[bytes], _at: int, /) -> bytes:
        """What is written of the pieces from that byte on."""
        return b"".join(pieces)

    def _opened(self) -> int:
        """The file, ready to be added to; it and the directories above it have durable names."""
        folder = self._path.parent
        for directory in (folder.parent, folder):
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            sync_directory(folder)
            with _alone(fd), os.fdopen(fd, "rb", closefd=False) as file:
                os.ftruncate(fd, self._whole(file))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _append(self, fd: int) -> None:
        """All of it or nothing: behind what is not whole, nothing is read."""
        with _alone(fd):
            end = os.fstat(fd).st_size
            left = memoryview(self._framed(self._new, end))
            try:
                while left:
                    left = left[os.write(fd, left) :]
            except BaseException:
                os.ftruncate(fd, end)
                raise


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """An attempt that was given up as hanging may still add to the same file."""
    flock(fd, LOCK_EX)
    try:
        yield
    finally:
        flock(fd, LOCK_UN)
