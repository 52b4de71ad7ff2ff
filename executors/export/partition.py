"""Folders by the values of a field: `field=value`, as readers of Hive's layout know them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from executors.export.atoms import Unfit, require_types
from executors.export.columns import Column, Kind
from executors.export.errors import NoPartition
from executors.export.places import NO_FIELD

NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""The value of a folder whose documents have none."""
LONGEST: Final = 200
"""Bytes of a folder's name: file systems take 255."""
NOWHERE: Final = "EEXPORT033"
_ESCAPED: Final = re.compile(r"""[\x00-\x1f\x7f"#%'*/:=?\\{}\[\]^]""")
"""What Hive and Spark escape, and every reader takes back."""


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)


_VALUES: Final[dict[Kind, Callable[[Any], str]]] = {
    "string": _escaped,
    "bool": lambda value: "true" if value else "false",
    "int32": str,
    "int64": str,
    "object_id": str,
}
_PERIODS: Final[dict[str, Callable[[datetime], str]]] = {
    "year": lambda when: f"{when.year:04}",
    "month": lambda when: f"{when.year:04}-{when.month:02}",
    "day": lambda when: f"{when.year:04}-{when.month:02}-{when.day:02}",
}


@dataclass(frozen=True, slots=True)
class Partition:
    """A value itself leaves the file: readers take it from the folder. A date stays."""

    column: Column
    period: str = ""
    """Of a date; empty: by the value itself."""

    @property
    def key(self) -> str:
        """What stands before the `=`, not escaped."""
        return f"{self.column.name}_{self.period}" if self.period else self.column.name

    @property
    def leaving(self) -> list[str]:
        """Names of columns that are in no file."""
        return [] if self.period else [self.column.name]

    def folders(
        self, rows: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, list[int]], list[tuple[int, Unfit]]]:
        """The places of the rows by folder, each with a slash at its end; and the rows that no
        folder can hold."""
        folders: dict[str, list[int]] = {}
        nowhere: list[tuple[int, Unfit]] = []
        for place, row in enumerate(rows):
            try:
                folders.setdefault(self._folder(row.get(self.column.field)), []).append(place)
            except Unfit as error:
                nowhere.append((place, error))
        return folders, nowhere

    def _folder(self, value: Any) -> str:
        """Raises `Unfit`."""
        if value is None:
            return f"{_escaped(self.key)}={NULL}/"
        require_types(self.column.name, self.column.kind, "exchange", (type(value),))
        said = _PERIODS[self.period](value) if self.period else _VALUES[self.column.kind](value)
        folder = f"{_escaped(self.key)}={said}/"
        if said in ("", NULL) or len(folder.encode()) > LONGEST:
            raise Unfit(NOWHERE, f"no folder can be called by this value of {self.column.name}")
        return folder


def partition_of(text: str, columns: tuple[Column, ...]) -> Partition | None:
    """`field`, or `field:year`, `field:month`, `field:day` of a date; empty: none. Raises
    `NoPartition`, but for a collection that was empty: it has nothing to tell folders by."""
    if not text or columns == (NO_FIELD,):
        return None
    fields = {each.field: each for each in columns}
    field, _, period = ("", "", "") if text in fields else text.rpartition(":")
    column = fields.get(field or text)
    if column is None or (period and period not in _PERIODS):
        raise NoPartition(text, "no column of that name")
    if period != "" and column.kind != "timestamp":
        raise NoPartition(text, f"{column.name} is {column.kind}, not a date in every document")
    if not period and column.kind not in _VALUES:
        raise NoPartition(text, _other(column))
    found = Partition(column, period)
    if len(columns) == len(found.leaving):
        raise NoPartition(text, "no other column would be left in the files")
    if period and found.key.lower() in {each.name.lower() for each in columns}:
        raise NoPartition(text, f"there is a column {found.key} already")
    return found


def _other(column: Column) -> str:
    if column.kind == "timestamp":
        return f"{column.name} is a date: write {column.field}:day, or month, or year"
    return f"{column.name} is {column.kind}: it takes {', '.join(_VALUES)}, or a part of a date"
