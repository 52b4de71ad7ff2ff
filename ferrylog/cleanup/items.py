"""What can go, what has to stay, and how much of it there is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from statemachine.words import JobId

Kind = Literal["staging", "files", "groups", "requests", "jobs"]
KINDS: Final[tuple[Kind, ...]] = ("staging", "files", "groups", "requests", "jobs")
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
OLDER_THAN_MS: Final[dict[Kind, int]] = {
    "staging": HOUR_MS,
    "files": HOUR_MS,
    "groups": DAY_MS,
    "requests": 7 * DAY_MS,
    "jobs": 30 * DAY_MS,
}
"""How old something has to be before it goes (M4)."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What is gone with an item."""

    bytes: int = 0
    files: int = 0
    collections: int = 0
    requests: int = 0
    snapshots: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(
            self.bytes + other.bytes,
            self.files + other.files,
            self.collections + other.collections,
            self.requests + other.requests,
            self.snapshots + other.snapshots,
        )


@dataclass(frozen=True, slots=True)
class Item:
    """Something that nobody needs, and how it is removed."""

    kind: Kind
    what: str
    """A path, a namespace, a request, a job."""
    age_ms: int | None
    """`None` for what nobody can date: it counts as old enough, once it was asked for."""
    why: str
    freed: Freed
    remove: Callable[[], str | None]
    """Returns what else there is to tell. Raises `FerrylogError` or `OSError` when it cannot be
    removed; removing what is gone is no error."""
    job: JobId | None = None
    """The job it is of, where the journal knows it: that must still have ended when it goes."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something of ferrylog's that stays though no job needs it, and why."""

    kind: Kind
    what: str
    why: str
    freed: Freed = Freed()
    """What its removal would free."""


Found = Iterator[Item | Left]
