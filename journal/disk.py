"""The disk as a journal uses it outside SQL: a port, so that a model can stand in its place."""

import errno
import os
from pathlib import Path
from typing import Final, Protocol

import apsw

BUSY_MS: Final = 10_000
"""How long SQLite waits for another process's lock."""


class Disk(Protocol):
    """Where one journal's files lie.

    Bytes are durable after `sync` of their file, names of new files after `sync_directory`; of
    everything else any part may be gone after a power cut. Raises `OSError`, and `connect` also
    `apsw.Error`.
    """

    def make(self, path: Path) -> None:
        """A new, empty file, mode 0600. Raises `FileExistsError`."""
        ...

    def stat(self, path: Path) -> os.stat_result: ...

    def connect(self, path: Path) -> apsw.Connection:
        """SQLite on an existing file, to read and write."""
        ...

    def read(self, path: Path) -> bytes:
        """The whole file."""
        ...

    def open(self, path: Path) -> int:
        """A descriptor to write with. Makes the file, mode 0600; refuses a symbolic link."""
        ...

    def write(self, fd: int, data: bytes, at: int) -> None: ...

    def sync(self, fd: int) -> None: ...

    def close(self, fd: int) -> None: ...

    def sync_directory(self, path: Path) -> None: ...


class _Kernel:
    """The real one."""

    def make(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def stat(self, path: Path) -> os.stat_result:
        return path.stat()

    def connect(self, path: Path) -> apsw.Connection:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(BUSY_MS)
        return db

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes, at: int) -> None:
        if os.pwrite(fd, data, at) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


DISK: Final[Disk] = _Kernel()
