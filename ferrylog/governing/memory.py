"""How much the process may hold, and for whom there is room.

Nothing tells beforehand what a batch takes: what it is read into, cut from, compressed and sent
with are copies of it for a moment. So a worker is let in by an estimate of all of them, and the
process's resident memory, looked at all the time, says what everything else takes.
"""

import os
from pathlib import Path
from typing import Final, Literal

SHARE: Final = 0.8
"""Of the machine's memory, or of the container's: the default limit (F3)."""
FULL: Final = 0.8
"""Of the limit: more is for nobody who would take it; above it an alert is raised (F17)."""
NEAR: Final = 0.9
"""Of the limit: nobody is let in beside the one, and what is free goes back to the system."""
COPIES: Final = {"read": 5, "write": 5}
"""Of a batch, at the worst moment and at most: what is received into, the reply, its blocks, what
they are compressed to, the message they are sent in."""
GROUPS: Final = Path("/sys/fs/cgroup")

Side = Literal["read", "write"]


class Memory:
    """Callers hold a lock."""

    def __init__(self, base: int) -> None:
        """`base`: what the process holds before the first batch."""
        self._base = base
        self._beside = base
        self._near = False
        self._rooms: dict[Side, int] = {"read": 0, "write": 0}
        self._held = 0
        self.resident = base
        """As last looked at."""

    def lets_in(self, side: Side, size: int, limit: int) -> bool:
        """Whether a batch of this size has room beside the others; each side always has room for
        one, or nothing would ever get less."""
        fits = self._beside + self._held + COPIES[side] * size <= FULL * limit
        if self._rooms[side] and (self._near or not fits):
            return False
        self._rooms[side] += 1
        self._held += COPIES[side] * size
        return True

    def holds(self, side: Side, before: int, size: int) -> None:
        """A batch turned out to have another size."""
        self._held += COPIES[side] * (size - before)

    def leaves(self, side: Side, size: int) -> None:
        self._rooms[side] -= 1
        self._held -= COPIES[side] * size

    def look(self, resident: int, limit: int) -> bool:
        """What the process holds now; whether that is so near to the limit that nobody is let in.

        The share of the batches is not known, only what it is at most: so the rest is never less
        than it was at the beginning.
        """
        self.resident = resident
        self._beside = max(self._base, resident - self._held)
        self._near = resident > NEAR * limit
        return self._near


def default_limit() -> int:
    return int(SHARE * machine_bytes())


def machine_bytes() -> int:
    """Of the machine, or of the container that this process lives in."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *group_limits(GROUPS, _own_groups())])


def _own_groups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def group_limits(root: Path, groups: str) -> list[int]:
    """Of the control groups of this process and of those around them: version 2 says them in
    `memory.max`, version 1 in `memory.limit_in_bytes`. A container sees its own as the root."""
    found: list[int] = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        top = root / "memory" if controllers else root
        inner = top / path.strip("/")
        around = [inner, *inner.parents]
        for folder in [each for each in around if each.is_relative_to(top)]:
            found += _number(folder / name)
    return found


def _number(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() and int(text) else []
