"""Documents as what they mean, their bytes, and what a reader of files must find: made here from
nothing but the formats' own rules."""

import base64
import json
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import strategies as st

from executors.export.columns import Column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds: the years 1 to 9999."""


class V(NamedTuple):
    """A value: its type as `$type` names it, and what it is."""

    type: str
    of: Any = None


class NoFit(Exception):
    pass


# --- bytes ----------------------------------------------------------------------------------------

KINDS = {
    "double": 0x01,
    "string": 0x02,
    "object": 0x03,
    "array": 0x04,
    "binData": 0x05,
    "undefined": 0x06,
    "objectId": 0x07,
    "bool": 0x08,
    "date": 0x09,
    "null": 0x0A,
    "regex": 0x0B,
    "dbPointer": 0x0C,
    "javascript": 0x0D,
    "symbol": 0x0E,
    "javascriptWithScope": 0x0F,
    "int": 0x10,
    "timestamp": 0x11,
    "long": 0x12,
    "decimal": 0x13,
    "minKey": 0xFF,
    "maxKey": 0x7F,
}


def raw(fields: list[tuple[str, V]]) -> bytes:
    body = b"".join(
        bytes([KINDS[value.type]]) + name.encode() + b"\0" + _bytes(value) for name, value in fields
    )
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text.encode()) + 1) + text.encode() + b"\0"


def _bytes(value: V) -> bytes:
    return ENCODED[value.type](value.of)


def _binary(of: tuple[int, bytes]) -> bytes:
    return struct.pack("<i", len(of[1])) + bytes([of[0]]) + of[1]


def _scoped(of: tuple[str, list[tuple[str, V]]]) -> bytes:
    body = _text(of[0]) + raw(of[1])
    return struct.pack("<i", len(body) + 4) + body


ENCODED: dict[str, Callable[[Any], bytes]] = {
    "double": lambda of: struct.pack("<d", of),
    "string": _text,
    "object": raw,
    "array": lambda of: raw([(str(n), each) for n, each in enumerate(of)]),
    "binData": _binary,
    "undefined": lambda _: b"",
    "objectId": bytes,
    "bool": lambda of: bytes([of]),
    "date": lambda of: struct.pack("<q", of),
    "null": lambda _: b"",
    "regex": lambda of: b"".join(each.encode() + b"\0" for each in of),
    "dbPointer": lambda of: _text(of[0]) + bytes(of[1]),
    "javascript": _text,
    "symbol": _text,
    "javascriptWithScope": _scoped,
    "int": lambda of: struct.pack("<i", of),
    "timestamp": lambda of: struct.pack("<II", of[1], of[0]),
    "long": lambda of: struct.pack("<q", of),
    "decimal": bytes,
    "minKey": lambda _: b"",
    "maxKey": lambda _: b"",
}


# --- what a reader must find ----------------------------------------------------------------------


def expected(
    fields: list[tuple[str, V]], columns: tuple[Column, ...], types: str
) -> dict[str, Any]:
    """Raises `NoFit`."""
    named = dict(fields)
    if len(named) != len(fields) or named.keys() - {each.field for each in columns}:
        raise NoFit
    return {each.name: cell(named.get(each.field, V("null")), each, types) for each in columns}


def cell(value: V, column: Column, types: str) -> Any:
    if value.type == "null":
        return None
    if column.kind == "json":
        return plain(value)
    if column.kind == "struct" and value.type == "object":
        return expected(value.of, column.members, types)
    if column.element is not None and value.type == "array":
        return [cell(each, column.element, types) for each in value.of]
    atom = _exchanged if types == "exchange" else _native
    return atom(column.kind, value)


def _exchanged(kind: str, value: V) -> Any:
    match kind, value.type:
        case "object_id", "objectId":
            return bytes(value.of).hex()
        case "decimal", "decimal":
            return decimal_text(value.of)
        case "int64", "int":
            return value.of
        case "double", "int":
            return float(value.of)
        case "double", "long" if abs(value.of) <= 2**53:
            return float(value.of)
        case "uuid", "binData" if value.of[0] == 4 and len(value.of[1]) == 16:
            text = value.of[1].hex()
            cuts = [0, 8, 12, 16, 20, 32]
            return "-".join(text[a:b] for a, b in pairwise(cuts))
    return _same(kind, value)


def _native(kind: str, value: V) -> Any:
    match kind, value.type:
        case ("object_id", "objectId") | ("decimal", "decimal"):
            return bytes(value.of)
        case "uuid", "binData" if value.of[0] == 4 and len(value.of[1]) == 16:
            return value.of[1]
    return _same(kind, value)


def _same(kind: str, value: V) -> Any:
    match kind, value.type:
        case ("string", "string") | ("bool", "bool") | ("int32", "int") | ("int64", "long"):
            return value.of
        case "double", "double":
            return value.of
        case "timestamp", "date" if FIRST <= value.of <= LAST:
            return EPOCH + timedelta(milliseconds=value.of)
        case "binary", "binData" if value.of[0] == 0:
            return value.of[1]
    raise NoFit


def decimal_text(bid: bytes) -> str:
    """Of the plain ones that are drawn here."""
    low, high = struct.unpack("<QQ", bid)
    exponent = (high >> 49 & 0x3FFF) - 6176
    digits = tuple(map(int, str((high & (1 << 49) - 1) << 64 | low)))
    return str(Decimal((high >> 63, digits, exponent)))


def plain(value: V) -> Any:
    """A value as canonical Extended JSON says it: pairs for objects."""
    of = value.of
    match value.type:
        case "object":
            return [(name, plain(each)) for name, each in of]
        case "array":
            return {"array": [plain(each) for each in of]}
        case "string" | "bool" | "null":
            return of
        case "double":
            return [("$numberDouble", "NaN" if math.isnan(of) else float(of))]
        case "int":
            return [("$numberInt", str(of))]
        case "long":
            return [("$numberLong", str(of))]
        case "date":
            return [("$date", [("$numberLong", str(of))])]
        case "objectId":
            return [("$oid", bytes(of).hex())]
        case "decimal":
            return [("$numberDecimal", decimal_text(of))]
        case "undefined" | "minKey" | "maxKey":
            return [(f"${value.type}", True if value.type == "undefined" else 1)]
    return _rare(value)


def _rare(value: V) -> Any:
    of = value.of
    match value.type:
        case "binData":
            text = base64.b64encode(of[1]).decode()
            return [("$binary", [("base64", text), ("subType", f"{of[0]:02x}")])]
        case "regex":
            options = "".join(sorted(of[1]))
            return [("$regularExpression", [("pattern", of[0]), ("options", options)])]
        case "dbPointer":
            return [("$dbPointer", [("$ref", of[0]), ("$id", [("$oid", of[1].hex())])])]
        case "javascript":
            return [("$code", of)]
        case "symbol":
            return [("$symbol", of)]
        case "javascriptWithScope":
            return [("$code", of[0]), ("$scope", plain(V("object", of[1])))]
        case "timestamp":
            return [("$timestamp", [("t", of[0]), ("i", of[1])])]
    raise AssertionError(value)


def said(text: str) -> Any:
    """Canonical text read back, to be compared with `plain`."""
    return _read(json.loads(text, object_pairs_hook=_Pairs))


class _Pairs(list[Any]):
    pass


def _read(value: Any) -> Any:
    if isinstance(value, _Pairs):
        if len(value) == 1 and value[0][0] == "$numberDouble":
            number = float(value[0][1])
            return [("$numberDouble", "NaN" if math.isnan(number) else number)]
        return [(name, _read(each)) for name, each in value]
    if isinstance(value, list):
        return {"array": [_read(each) for each in value]}
    return value


def same(found: Any, wanted: Any, column: Column) -> bool:
    if found is None or wanted is None:
        return found is wanted
    if column.kind == "json":
        return bool(said(found) == wanted)
    if column.kind == "struct":
        return all(same(found[m.name], wanted[m.name], m) for m in column.members)
    if column.element is not None:
        return len(found) == len(wanted) and all(
            same(a, b, column.element) for a, b in zip(found, wanted, strict=True)
        )
    if isinstance(found, float):
        return struct.pack("<d", found) == struct.pack("<d", wanted)
    return bool(found == wanted) and type(found) is type(wanted)


# --- by chance ------------------------------------------------------------------------------------

NAMES = ("_id", "a", "b", "A", "a.b", "$x", "é/ü", "")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PATTERNS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
OBJECT_IDS = st.binary(min_size=12, max_size=12)


def _decimal(drawn: tuple[bool, int, int]) -> bytes:
    negative, digits, exponent = drawn
    high = (negative << 63) | (exponent + 6176) << 49 | digits >> 64
    return struct.pack("<QQ", digits & (1 << 64) - 1, high)


ATOMS = {
    "string": TEXTS.map(lambda each: V("string", each)),
    "bool": st.booleans().map(lambda each: V("bool", each)),
    "int32": INTS.map(lambda each: V("int", each)),
    "int64": LONGS.map(lambda each: V("long", each)),
    "double": st.floats().map(lambda each: V("double", each)),
    "timestamp": st.integers(FIRST, LAST).map(lambda each: V("date", each)),
    "object_id": OBJECT_IDS.map(lambda each: V("objectId", each)),
    "decimal": st.tuples(st.booleans(), st.integers(0, 10**34 - 1), st.integers(-6176, 6111)).map(
        lambda each: V("decimal", _decimal(each))
    ),
    "uuid": st.binary(min_size=16, max_size=16).map(lambda each: V("binData", (4, each))),
    "binary": st.binary(max_size=4).map(lambda each: V("binData", (0, each))),
}
ODD = st.one_of(
    st.sampled_from([V("undefined"), V("minKey"), V("maxKey"), V("null")]),
    st.tuples(st.sampled_from([0, 3, 4, 5, 128]), st.binary(max_size=16)).map(
        lambda each: V("binData", each)
    ),
    st.integers(-(2**63), 2**63 - 1).map(lambda each: V("date", each)),
    st.tuples(PATTERNS, st.sampled_from(["", "i", "xi", "msx"])).map(lambda e: V("regex", e)),
    st.tuples(TEXTS, OBJECT_IDS).map(lambda each: V("dbPointer", each)),
    TEXTS.map(lambda each: V("javascript", each)),
    TEXTS.map(lambda each: V("symbol", each)),
    st.tuples(TEXTS, st.just([("n", V("int", 1))])).map(lambda e: V("javascriptWithScope", e)),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)).map(
        lambda each: V("timestamp", each)
    ),
)
DEEP_NAMES = st.sampled_from(["a", "b", "$ref", "$id", "é"])
ANY = st.recursive(
    st.one_of(*ATOMS.values(), ODD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: V("array", each)),
        st.lists(st.tuples(DEEP_NAMES, inner), max_size=3).map(lambda each: V("object", each)),
    ),
    max_leaves=5,
)
KINDS_OF_COLUMNS = st.deferred(
    lambda: st.one_of(
        st.sampled_from([*ATOMS, "json"]).map(lambda kind: (kind, None)),
        shapes(2).map(lambda members: ("struct", members)),
        st.sampled_from([*ATOMS, "json"]).map(lambda kind: ("list", (kind, None))),
        shapes(2).map(lambda members: ("list", ("struct", members))),
    )
)


def shapes(most: int) -> Any:
    return st.lists(
        st.tuples(st.sampled_from(NAMES), KINDS_OF_COLUMNS),
        min_size=1,
        max_size=most,
        unique_by=lambda each: each[0],
    )


def column(field: str, shape: Any, name: str = "c") -> Column:
    kind, inside = shape
    if kind == "struct":
        return Column(field, name, kind, members=columns_of(inside))
    if kind == "list":
        return Column(field, name, kind, element=column("", inside, "element"))
    return Column(field, name, kind)


def columns_of(shape: Any) -> tuple[Column, ...]:
    return tuple(column(field, of, f"c{n}") for n, (field, of) in enumerate(shape))


def values_of(column: Column) -> Any:
    """Values for a column, most of which fit it."""
    return st.one_of(*[_fitting(column)] * 8, st.just(V("null")), ANY)


def _fitting(column: Column) -> Any:
    if column.kind == "json":
        return ANY
    if column.kind == "struct":
        return fields_of(column.members).map(lambda each: V("object", each))
    if column.element is not None:
        return st.lists(values_of(column.element), max_size=3).map(lambda each: V("array", each))
    return ATOMS[column.kind]


def fields_of(columns: tuple[Column, ...]) -> Any:
    """Fields in any order, some of them missing, rarely one twice or one that nobody knows."""
    each = [st.tuples(st.just(column.field), values_of(column)) for column in columns]
    known = st.tuples(
        *[st.one_of(*[pair.map(lambda one: [one])] * 5, st.just([])) for pair in each]
    )
    more = st.one_of(*[st.just([])] * 12, st.tuples(st.sampled_from(NAMES), ANY).map(lambda x: [x]))
    return st.tuples(known, more).flatmap(
        lambda found: st.permutations([*(pair for part in found[0] for pair in part), *found[1]])
    )
