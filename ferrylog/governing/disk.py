"""What stays free on the disks that take chunk files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

MOST: Final = 1 << 30
SHARE: Final = 0.02
"""Of a disk: what is reserved by default, up to `MOST`."""
PATIENCE_S: Final = 60.0
"""Without a byte being freed, after which waiting is for nothing."""
GRACE_S: Final = 1.0
"""The same when nothing is known that would free any: what has just ended is known in a moment."""


class Level(NamedTuple):
    folder: Path
    free: int
    reserve: int

    @property
    def missing(self) -> int:
        return self.reserve - self.free


class Disks:
    """Of some folders; those that do not exist yet take nothing."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def lowest(self, reserve: int) -> Level | None:
        """The disk that is nearest to its reserve; `reserve` 0: the default."""
        levels = [level for each in self._folders if (level := level_of(each, reserve))]
        return max(levels, key=lambda level: level.missing, default=None)

    def short_of(self, size: int, reserve: int) -> Level | None:
        """The disk on which so many bytes more would take from the reserve."""
        level = self.lowest(reserve)
        return level if level is not None and level.missing + size > 0 else None


def level_of(folder: Path, reserve: int) -> Level | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    default = min(MOST, int(SHARE * disk.f_blocks * disk.f_frsize))
    return Level(folder, disk.f_bavail * disk.f_frsize, reserve or default)


class Patience:
    """Of one wait: ends when nothing was freed for a while."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._free = 0

    def is_over(self, free: int, now_s: float, *, hopeful: bool) -> bool:
        """`hopeful`: something is about to free some."""
        if free > self._free or not self._free:
            self._since_s = now_s
        self._free = free
        return now_s - self._since_s > (PATIENCE_S if hopeful else GRACE_S)
