"""The columns of an export: what stands in the journal between a census and the files."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Kind = Literal[
    "string",
    "bool",
    "int32",
    "int64",
    "double",
    "timestamp",
    "object_id",
    "decimal",
    "uuid",
    "binary",
    "struct",
    "list",
    "json",
]
"""What a column holds. `timestamp`: milliseconds, UTC, years 1 to 9999; `binary`: subtype 0;
`uuid`: subtype 4; `json`: anything, each value as canonical Extended JSON."""
KINDS: Final = get_args(Kind)
Types = Literal["exchange", "native"]
"""Those that every reader knows, or those that keep BSON's own apart."""


@dataclass(frozen=True, slots=True)
class Column:
    field: str
    """Of the document."""
    name: str
    """In the file: unique among its neighbours whatever the case."""
    kind: Kind
    members: tuple["Column", ...] = ()
    """Of a struct, in order."""
    element: "Column | None" = None
    """Of a list."""

    def leaves(self) -> int:
        """Columns of the file that it takes."""
        if self.element is not None:
            return self.element.leaves()
        return sum(member.leaves() for member in self.members) or 1


def to_text(columns: tuple[Column, ...]) -> str:
    return json.dumps([_plain(each) for each in columns], separators=(",", ":"))


def from_text(text: str) -> tuple[Column, ...]:
    """Raises `ValueError` for what `to_text` did not make."""
    try:
        return tuple(map(_column, json.loads(text)))
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no columns: {error!r}") from None


def _plain(column: Column) -> dict[str, Any]:
    plain: dict[str, Any] = {"field": column.field, "name": column.name, "kind": column.kind}
    if column.members:
        plain["members"] = [_plain(each) for each in column.members]
    if column.element is not None:
        plain["element"] = _plain(column.element)
    return plain


def _column(data: dict[str, Any]) -> Column:
    if data["kind"] not in KINDS:
        raise ValueError(f"no kind of column: {data['kind']!r}")
    element = data.get("element")
    return Column(
        field=data["field"],
        name=data["name"],
        kind=data["kind"],
        members=tuple(map(_column, data.get("members", ()))),
        element=_column(element) if element is not None else None,
    )
