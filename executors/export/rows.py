"""Raw documents as dicts that say exactly what the documents say.

A document that a driver encodes to the same bytes again was decoded exactly, and that is almost
every one. Of any other the bytes are walked: a symbol is no string then, and a name twice is no
name once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson import _dict_to_bson
from bson.codec_options import CodecOptions, DatetimeConversion

from executors.export.arrow import ELEMENT, beneath
from executors.export.atoms import UNFIT, UNREADABLE, Said, Unfit
from executors.export.columns import Column
from executors.export.jsontext import canonical_element
from executors.rawbson import documents, elements, wrap

OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_NULL: Final = 0x0A
_ODD: Final = {0x06: "undefined", 0x0C: "dbPointer", 0x0E: "symbol"}
"""Types that decode as others."""
_TYPES: Final = {
    **_ODD,
    0x01: "double",
    0x02: "string",
    0x03: "object",
    0x04: "array",
    0x05: "binData",
    0x07: "objectId",
    0x08: "bool",
    0x09: "date",
    0x0B: "regex",
    0x0D: "javascript",
    0x0F: "javascriptWithScope",
    0x10: "int",
    0x11: "timestamp",
    0x12: "long",
    0x13: "decimal",
    0x7F: "maxKey",
    0xFF: "minKey",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Of a block."""

    rows: list[dict[str, Any]]
    places: Sequence[int]
    """Of each row in the block."""
    unfit: tuple[tuple[int, Unfit], ...] = ()
    """Places of the other documents."""


def rows_of(block: bytes, columns: tuple[Column, ...]) -> Rows:
    """`columns` say of which fields text is wanted."""
    try:
        rows = bson.decode_all(block, OPTIONS)
        if b"".join(map(_encoded, rows)) == block:
            return Rows(rows, range(len(rows)))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, S110 — one of them is to blame: which one?
        pass
    return _one_by_one(block, columns)


def _one_by_one(block: bytes, columns: tuple[Column, ...]) -> Rows:
    rows, places, unfit = [], [], []
    for place, raw in enumerate(documents(block)):
        try:
            rows.append(_row(raw, columns))
            places.append(place)
        except Unfit as error:
            unfit.append((place, error))
    return Rows(rows, places, tuple(unfit))


def _encoded(document: dict[str, Any]) -> bytes:
    """In the order of its names: `bson.encode` puts `_id` in front."""
    return _dict_to_bson(document, False, OPTIONS, False)


def _row(raw: bytes, columns: tuple[Column, ...]) -> dict[str, Any]:
    try:
        row: dict[str, Any] = bson.decode(raw, OPTIONS)
        return row if _encoded(row) == raw else _walked(raw, columns, "", 0, len(raw))
    except (MemoryError, Unfit):
        raise
    except Exception as error:  # noqa: BLE001 — whatever makes it unreadable
        raise Unfit(UNREADABLE, f"it cannot be decoded: {type(error).__name__}") from None


def _walked(
    raw: bytes, columns: tuple[Column, ...], above: str, begin: int, end: int
) -> dict[str, Any]:
    known = {each.field: each for each in columns}
    row: dict[str, Any] = {}
    for kind, name, at, after in elements(raw, begin, end):
        field = name.decode()
        if field in row:
            raise Unfit(UNFIT, f"it has {field!r} twice{f' in {above}' if above else ''}")
        column = known.get(field)
        if column is None:
            raise Unfit.unknown(above, field)
        row[field] = _value(raw, column, beneath(above, column.name), kind, at, after)
    return row


def _value(raw: bytes, column: Column, path: str, kind: int, at: int, after: int) -> Any:
    if kind == _NULL:
        return None
    if column.kind == "json":
        return Said.of(canonical_element(kind, raw[at:after]), _TYPES[kind])
    if kind == 0x03 and column.kind == "struct":
        return _walked(raw, column.members, path, at, after)
    if kind == 0x04 and column.element is not None:
        item, inside = column.element, beneath(path, ELEMENT)
        return [
            _value(raw, item, inside, of, first, last)
            for of, _, first, last in elements(raw, at, after)
        ]
    if kind in _ODD:
        raise Unfit.value(path, column.kind, _ODD[kind])
    return bson.decode(wrap(b"%cv\0%b" % (kind, raw[at:after])), OPTIONS)["v"]
