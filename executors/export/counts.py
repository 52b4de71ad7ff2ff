"""What a file of columns holds, counted before it was columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """By the path of a column: its name, those above it before it, dots between them."""

    present: dict[str, int] = field(default_factory=dict)
    """Values that are not null."""
    census: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same values by their types of BSON, as `$type` names them."""

    def add(self, other: "Counts") -> None:
        _sum(self.present, other.present)
        for path, types in other.census.items():
            _sum(self.census.setdefault(path, {}), types)


def _sum(into: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count
