"""What lies beneath an export and is not named by its journal: left by attempts that died, by the
export that it replaces, or by others."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from executors.export.names import CLAIM, MANIFEST, SUCCESS, job_of

OWN = (MANIFEST, SUCCESS, CLAIM)


@dataclass(frozen=True, slots=True)
class Unnamed:
    dead: tuple[str, ...]
    """Files of this job that no event names."""
    replaced: tuple[str, ...]
    """Files of other exports."""
    foreign: tuple[str, ...]


def unnamed(there: Iterable[str], named: Collection[str], job: str) -> Unnamed:
    """Of all names that are there."""
    left = {name: job_of(name) for name in there if name not in named and name not in OWN}
    return Unnamed(
        dead=tuple(name for name, by in left.items() if by == job),
        replaced=tuple(name for name, by in left.items() if by not in (None, job)),
        foreign=tuple(name for name, by in left.items() if by is None),
    )
