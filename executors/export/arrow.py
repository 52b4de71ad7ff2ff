"""Columns as the types that files hold.

Every reader knows the types of `exchange`. Those of `native` hold BSON's own bytes where no reader
has a type for them. Whoever calls has asked `extra.require` whether pyarrow is there.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import pyarrow as pa

from executors.export.columns import Column, Types, to_text

_TEXT: Final = pa.string()
_SAME: Final[dict[str, Any]] = {
    "string": _TEXT,
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "binary": pa.binary(),
    "json": _TEXT,
}
ATOMS: Final[dict[Types, dict[str, Any]]] = {
    "exchange": {**_SAME, "object_id": _TEXT, "decimal": _TEXT, "uuid": _TEXT},
    "native": {
        **_SAME,
        "object_id": pa.binary(12),
        "decimal": pa.binary(16),
        "uuid": pa.binary(16),
    },
}
"""A UUID has no mark of Parquet's: Spark takes bytes of a fixed length only without one."""
ELEMENT: Final = "element"
"""Of a list, by Parquet's convention."""
_SEPARATOR: Final = "."


@lru_cache(maxsize=64)
def schema_of(columns: tuple[Column, ...], types: Types) -> Any:
    """Each field says which of the document's it was, and what kind of column it is."""
    return pa.schema(_fields(columns, types))


def described(schema: Any, columns: tuple[Column, ...], about: Mapping[str, str]) -> Any:
    """The schema of a file, with what it is about."""
    told = {**about, "columns": to_text(columns)}
    return schema.with_metadata({f"ferrylog.{name}": text for name, text in told.items()})


class Leaf(NamedTuple):
    """A column as files have them."""

    path: str
    counted: bool
    """Parquet's statistics tell how many of its values are not null. Of what stands in a struct
    in a list they count nulls of lists as well."""


def leaves(columns: tuple[Column, ...]) -> Iterator[Leaf]:
    """In the order of the file."""
    for column in columns:
        yield from _leaves(column, beneath("", column.name), counted=True, listed=False)


def _leaves(column: Column, path: str, *, counted: bool, listed: bool) -> Iterator[Leaf]:
    if column.element is not None:
        inside = beneath(path, ELEMENT)
        yield from _leaves(column.element, inside, counted=counted, listed=True)
    elif column.members:
        for each in column.members:
            inside = beneath(path, each.name)
            yield from _leaves(each, inside, counted=counted and not listed, listed=listed)
    else:
        yield Leaf(path, counted)


def beneath(above: str, name: str) -> str:
    """A path: names with dots between them, a dot of a name with a backslash before it."""
    own = name.replace("\\", "\\\\").replace(_SEPARATOR, "\\.")
    return f"{above}{_SEPARATOR}{own}" if above else own


def _fields(columns: tuple[Column, ...], types: Types) -> list[Any]:
    return [_field(each, each.name, types) for each in columns]


def _field(column: Column, name: str, types: Types) -> Any:
    marks = {"ferrylog.field": column.field, "ferrylog.bson": column.kind}
    return pa.field(name, _type(column, types), metadata=marks)


def _type(column: Column, types: Types) -> Any:
    if column.element is not None:
        return pa.list_(_field(column.element, ELEMENT, types))
    if column.kind == "struct":
        return pa.struct(_fields(column.members, types))
    return ATOMS[types][column.kind]
