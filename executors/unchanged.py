"""Files that were read to their end and hold what they are named with: as long as nobody has
written to them since, nobody need read them for that again.

A file system gives a file another time of change at every write, and no program can set that one.
It does not tell what a disk forgets: so no more is remembered than the machine's memory is likely
to hold still, where a second reading would not look at the disk either. What is remembered lives no
longer than the process.
"""

import os
from pathlib import Path
from typing import BinaryIO, Final

from statemachine.state import ChunkFile

Mark = tuple[int, ...]
"""What differs once a file was written to, or is another one."""
MOST: Final = 100_000
"""Files that are remembered, some 300 bytes each; those beyond are read once more."""
CACHED: Final = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
"""Bytes of files that are remembered at most; the same of those beyond."""


def mark_of(file: Path | BinaryIO) -> Mark:
    """Of the file at a path or of an open one, to be taken before it is read; empty where there is
    none."""
    try:
        found = file.stat() if isinstance(file, Path) else os.fstat(file.fileno())
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Unchanged:
    """Used by all workers of a process."""

    def __init__(self, most_bytes: int = CACHED) -> None:
        self._room = most_bytes
        self._known: dict[tuple[Path, int], tuple[str, Mark]] = {}

    def holds(self, path: Path, at: int, size: int, sha256: str, mark: Mark) -> None:
        """So many bytes of the file from byte `at` on were read, and have this SHA-256."""
        if mark and len(self._known) < MOST and size <= self._room:
            self._room -= size
            self._known[path, at] = sha256, mark

    def still_holds(self, path: Path, file: ChunkFile) -> bool:
        """Whether the file holds what it is named with, for all that is known; asked once: who
        comes a second time has met trouble, and reads it."""
        known = self._known.pop((path, file.at), None)
        self._room += file.file_bytes if known is not None else 0
        return known == (file.sha256, mark_of(path))
