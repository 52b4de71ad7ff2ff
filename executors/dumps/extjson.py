"""Extended JSON and BSON, exact to the byte: order, repeated names, each number's own type.

What is read: version 2, canonical and relaxed, and the forms that mongodump 3 and the old shell
wrote. `{"$regex": ...}` stays the operator it looks like, as for mongorestore. What is written
is canonical, in the very bytes that mongodump writes.
"""

import base64
import json
import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from bson.decimal128 import Decimal128

from executors.rawbson import elements, int32, int64

MAX_DEPTH: Final = 200
"""Servers refuse documents beyond 180 levels, the driver of mongorestore JSON beyond 200."""
_Object = tuple[tuple[str, Any], ...]
"""A JSON object as it stands there; arrays are lists."""
_Typed = tuple[int, bytes]
"""A value's BSON type and its bytes."""
_INTEGER: Final = re.compile(r"-?\d{1,20}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_DOUBLE: Final = struct.Struct("<d")


class TooDeep(ValueError):
    """More levels than any server takes."""


def parsed(text: bytes) -> _Object:
    """The one JSON object of `text`. Raises `ValueError`, `TooDeep`; `TypeError` where the JSON
    is something else."""
    try:
        value = _DECODER.decode(text.decode("utf-8-sig"))
    except RecursionError:
        raise TooDeep(f"nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(value, tuple):
        raise TypeError("it is JSON, but no object")
    return value


def as_bson(value: _Object, depth: int = 1) -> bytes:
    """The document that a JSON object says. Raises `ValueError`, `TooDeep`."""
    return _document([_element(name, item, depth) for name, item in value])


def as_json(raw: bytes, texts: "Texts | None" = None) -> str:
    """A document as canonical Extended JSON, or in that of the forms in `texts`. Raises
    `ValueError` for what it cannot say: text that is not UTF-8."""
    return _object_text(raw, 0, len(raw), texts or TEXTS)


def element_as_json(kind: int, value: bytes, texts: "Texts | None" = None) -> str:
    """A value of that BSON type. Raises as `as_json`."""
    return _text(value, kind, 0, len(value), texts or TEXTS)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant)


def _element(name: str, value: object, depth: int) -> bytes:
    kind, payload = _typed(value, depth)
    return bytes([kind]) + _cstring(name) + payload


def _typed(value: object, depth: int) -> _Typed:
    if depth > MAX_DEPTH:
        raise TooDeep(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, tuple):
        return _special(value, depth) or (0x03, as_bson(value, depth + 1))
    if isinstance(value, list):
        items = [_element(str(n), item, depth + 1) for n, item in enumerate(value)]
        return 0x04, _document(items)
    return _scalar(value)


def _scalar(value: object) -> _Typed:
    match value:
        case None:
            return 0x0A, b""
        case bool():
            return 0x08, bytes([value])
        case int() if -(1 << 31) <= value < 1 << 31:
            return 0x10, _INT32.pack(value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return 0x12, _INT64.pack(value)
        case int() | float():
            return 0x01, _DOUBLE.pack(_finite(value))
        case str():
            return 0x02, _string(value)
    raise AssertionError(f"{type(value)} is not of JSON")


def _finite(value: float) -> float:
    with suppress(OverflowError):
        if math.isfinite(number := float(value)):
            return number
    raise ValueError("a number beyond all doubles")


def _special(value: _Object, depth: int) -> _Typed | None:
    """What an object with one of the reserved names says; None of any other object."""
    if not value or not value[0][0].startswith("$"):
        return None
    names = frozenset(name for name, _ in value)
    form = _FORMS.get(names)
    if form is None or len(names) != len(value):
        if value[0][0] in RESERVED:
            raise ValueError(f"{{{value[0][0]!r}: ...}} with other names beside it")
        return None
    fields = dict(value)
    try:
        return form(fields, depth)
    except (KeyError, TypeError, ArithmeticError, AttributeError, struct.error) as error:
        raise ValueError(f"{value[0][0]} of the wrong form: {error!r}") from None


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _double(value: object) -> bytes:
    if isinstance(value, str | float):
        return _DOUBLE.pack(float(value))
    return _DOUBLE.pack(_integer(value))


def _date(value: object) -> bytes:
    if isinstance(value, tuple):
        return _INT64.pack(_integer(dict(value)["$numberLong"]))
    if isinstance(value, str):
        when = datetime.fromisoformat(value)
        since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH
        return _INT64.pack(since // timedelta(milliseconds=1))
    return _INT64.pack(_integer(value))


def _binary(data: str, subtype: object) -> bytes:
    number = subtype if isinstance(subtype, int) else int(str(subtype), 16)
    raw = base64.b64decode(data, validate=True)
    if number == 2:  # holds its length once more
        raw = _INT32.pack(len(raw)) + raw
    return _INT32.pack(len(raw)) + bytes([number]) + raw


def _any_binary(fields: dict[str, Any]) -> _Typed:
    if isinstance(fields["$binary"], tuple):
        inner = dict(fields["$binary"])
        return 0x05, _binary(inner["base64"], inner["subType"])
    return 0x05, _binary(fields["$binary"], fields["$type"])


def _timestamp(fields: dict[str, Any]) -> _Typed:
    inner = dict(fields["$timestamp"])
    return 0x11, struct.pack("<II", _integer(inner["i"]), _integer(inner["t"]))


def _regex(fields: dict[str, Any]) -> _Typed:
    inner = dict(fields["$regularExpression"])
    return 0x0B, _cstring(inner["pattern"]) + _cstring("".join(sorted(inner["options"])))


def _code(fields: dict[str, Any], depth: int) -> _Typed:
    body = _string(fields["$code"]) + as_bson(fields["$scope"], depth + 1)
    return 0x0F, _INT32.pack(len(body) + 4) + body


def _pointer(fields: dict[str, Any]) -> _Typed:
    inner = dict(fields["$dbPointer"])
    identity = inner["$id"] if isinstance(inner["$id"], str) else dict(inner["$id"])["$oid"]
    return 0x0C, _string(inner["$ref"]) + _object_id(identity)


def _object_id(value: str) -> bytes:
    raw = bytes.fromhex(value)
    if len(raw) != 12:
        raise ValueError(f"{value!r} is no ObjectId")
    return raw


def _string(value: str) -> bytes:
    raw = value.encode()
    return _INT32.pack(len(raw) + 1) + raw + b"\0"


def _cstring(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("a name or an expression that holds NUL")
    return value.encode() + b"\0"


def _document(items: list[bytes]) -> bytes:
    body = b"".join(items)
    return _INT32.pack(len(body) + 5) + body + b"\0"


_Form = Callable[[dict[str, Any], int], _Typed]
_FORMS: Final[dict[frozenset[str], _Form]] = {
    frozenset({"$oid"}): lambda f, _: (0x07, _object_id(f["$oid"])),
    frozenset({"$numberInt"}): lambda f, _: (0x10, _INT32.pack(_integer(f["$numberInt"]))),
    frozenset({"$numberLong"}): lambda f, _: (0x12, _INT64.pack(_integer(f["$numberLong"]))),
    frozenset({"$numberDouble"}): lambda f, _: (0x01, _double(f["$numberDouble"])),
    frozenset({"$numberDecimal"}): lambda f, _: (0x13, Decimal128(f["$numberDecimal"]).bid),
    frozenset({"$symbol"}): lambda f, _: (0x0E, _string(f["$symbol"])),
    frozenset({"$date"}): lambda f, _: (0x09, _date(f["$date"])),
    frozenset({"$binary"}): lambda f, _: _any_binary(f),
    frozenset({"$binary", "$type"}): lambda f, _: _any_binary(f),
    frozenset({"$uuid"}): lambda f, _: (0x05, b"\x10\0\0\0\x04" + uuid.UUID(f["$uuid"]).bytes),
    frozenset({"$timestamp"}): lambda f, _: _timestamp(f),
    frozenset({"$regularExpression"}): lambda f, _: _regex(f),
    frozenset({"$dbPointer"}): lambda f, _: _pointer(f),
    frozenset({"$code"}): lambda f, _: (0x0D, _string(f["$code"])),
    frozenset({"$code", "$scope"}): _code,
    frozenset({"$undefined"}): lambda _, __: (0x06, b""),
    frozenset({"$minKey"}): lambda _, __: (0xFF, b""),
    frozenset({"$maxKey"}): lambda _, __: (0x7F, b""),
}
RESERVED: Final = frozenset[str]().union(*_FORMS) - {"$type"}
"""First in an object, they make it a value of another type."""


def _object_text(raw: bytes, begin: int, end: int, texts: "Texts") -> str:
    pairs = (
        f"{_quoted(name)}:{_text(raw, kind, at, after, texts)}"
        for kind, name, at, after in elements(raw, begin, end)
    )
    return "{" + ",".join(pairs) + "}"


def _array_text(raw: bytes, begin: int, end: int, texts: "Texts") -> str:
    found = elements(raw, begin, end)
    return "[" + ",".join(_text(raw, kind, at, after, texts) for kind, _, at, after in found) + "]"


def _text(raw: bytes, kind: int, begin: int, end: int, texts: "Texts") -> str:
    if kind == 0x03:
        return _object_text(raw, begin, end, texts)
    if kind == 0x04:
        return _array_text(raw, begin, end, texts)
    if kind == 0x0F:
        scope = begin + 8 + int32(raw, begin + 4)[0]
        code = _quoted(raw[begin + 8 : scope - 1])
        return f'{{"$code":{code},"$scope":{_object_text(raw, scope, end, texts)}}}'
    return texts[kind](raw[begin:end])


def _quoted(text: bytes) -> str:
    plain = json.dumps(text.decode(), ensure_ascii=False)
    return plain.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _double_text(value: bytes) -> str:
    """As Go prints it: digits and exponent of the shortest form, the exponent from 1E+06 on."""
    number: float = _DOUBLE.unpack(value)[0]
    if not math.isfinite(number):
        return str(number).replace("nan", "NaN").replace("inf", "Infinity")
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = exponent + len(digits) - 1
    if number == 0 or -5 < power < 6:
        return repr(number)
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if text[1:] else ""
    return f"{'-' * sign}{text[0]}{fraction}E{power:+03d}"


def _binary_text(value: bytes) -> str:
    subtype, data = value[4], value[9 if value[4] == 2 else 5 :]
    text = base64.b64encode(data).decode()
    return f'{{"$binary":{{"base64":"{text}","subType":"{subtype:02x}"}}}}'


def _regex_text(value: bytes) -> str:
    pattern, options, _ = value.split(b"\0")
    return (
        f'{{"$regularExpression":{{"pattern":{_quoted(pattern)},'
        f'"options":{_quoted(bytes(sorted(options)))}}}}}'
    )


def _timestamp_text(value: bytes) -> str:
    increment, seconds = struct.unpack("<II", value)
    return f'{{"$timestamp":{{"t":{seconds},"i":{increment}}}}}'


def _pointer_text(value: bytes) -> str:
    identity = f'{{"$oid":"{value[-12:].hex()}"}}'
    return f'{{"$dbPointer":{{"$ref":{_quoted(value[4:-13])},"$id":{identity}}}}}'


Texts = Mapping[int, Callable[[bytes], str]]
"""By BSON type, how a value of its bytes is said."""
TEXTS: Final[Texts] = {
    0x01: lambda value: f'{{"$numberDouble":"{_double_text(value)}"}}',
    0x02: lambda value: _quoted(value[4:-1]),
    0x05: _binary_text,
    0x06: lambda _: '{"$undefined":true}',
    0x07: lambda value: f'{{"$oid":"{value.hex()}"}}',
    0x08: lambda value: "true" if value[0] else "false",
    0x09: lambda value: f'{{"$date":{{"$numberLong":"{int64(value, 0)[0]}"}}}}',
    0x0A: lambda _: "null",
    0x0B: _regex_text,
    0x0C: _pointer_text,
    0x0D: lambda value: f'{{"$code":{_quoted(value[4:-1])}}}',
    0x0E: lambda value: f'{{"$symbol":{_quoted(value[4:-1])}}}',
    0x10: lambda value: f'{{"$numberInt":"{int32(value, 0)[0]}"}}',
    0x11: _timestamp_text,
    0x12: lambda value: f'{{"$numberLong":"{int64(value, 0)[0]}"}}',
    0x13: lambda value: f'{{"$numberDecimal":"{Decimal128.from_bid(value)}"}}',
    0x7F: lambda _: '{"$maxKey":1}',
    0xFF: lambda _: '{"$minKey":1}',
}
