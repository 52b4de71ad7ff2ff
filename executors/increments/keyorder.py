"""The order of `_id`s: byte strings that compare as a server's index over `_id` orders the values.

The index of a collection with a collation orders its strings in another way; for its rows this
order serves all the same: it is total, and the same whenever it is asked. Values are one key in
such an index that are several here.

Where a value ends shows in its bytes, so that one may follow another inside a document.
"""

import math
import struct
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Final

from executors.rawbson import elements, int32, int64

_big_double: Final = struct.Struct(">d").pack
_big32: Final = struct.Struct(">I").pack
_big64: Final = struct.Struct(">Q").pack
_double: Final[Callable[[bytes, int], tuple[float]]] = struct.Struct("<d").unpack_from
_two64: Final[Callable[[bytes, int], tuple[int, int]]] = struct.Struct("<QQ").unpack_from

RANK: Final = {
    0xFF: b"\x01",  # MinKey
    0x06: b"\x02",  # undefined
    0x0A: b"\x05",  # null
    0x01: b"\x0a",
    0x10: b"\x0a",
    0x12: b"\x0a",
    0x13: b"\x0a",
    0x02: b"\x0f",
    0x0E: b"\x0f",  # symbol
    0x03: b"\x14",
    0x04: b"\x19",
    0x05: b"\x1e",  # binary
    0x07: b"\x23",  # ObjectId
    0x08: b"\x28",  # boolean
    0x09: b"\x2d",  # date
    0x11: b"\x2f",  # timestamp
    0x0B: b"\x32",  # regular expression
    0x0C: b"\x37",  # DBPointer
    0x0D: b"\x3c",  # code
    0x0F: b"\x41",  # code with scope
    0x7F: b"\x7f",  # MaxKey
}
"""Types in the order of the server (`canonicalizeBSONType`); those of one rank compare by value."""
_END: Final = b"\0"
"""Of a document or an array: below every rank, so that a shorter one comes first."""
_BELOW, _EXACT, _ABOVE = b"\0", b"\1", b"\2"
_NAN: Final = bytes(8) + _EXACT
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_EXACT_INT: Final = 1 << 53
"""Every whole number up to here is a double."""
_EXACTLY: Final = Context(prec=40, Emin=-7000, Emax=7000)
_MAX_COEFFICIENT: Final = 10**34 - 1


def order(id_document: bytes) -> bytes:
    """Of `{_id: <value>}`: less than another's exactly where the server's index has it before the
    other's, and equal exactly where the two are one key."""
    kind = id_document[4]
    if kind == 0x07:
        return b"\x23" + id_document[9:21]
    if kind == 0x02:
        return b"\x0f" + id_document[13:-2]  # nothing follows: its end needs no mark
    if kind == 0x0E:
        return b"\x0f" + id_document[13:-2]
    return RANK[kind] + _VALUES[kind](id_document, 9, len(id_document) - 1)


# --- values, each between two offsets ---


def _nothing(_raw: bytes, _at: int, _end: int) -> bytes:
    return b""


def _as_it_is(raw: bytes, at: int, end: int) -> bytes:
    return raw[at:end]


def _string(raw: bytes, at: int, end: int) -> bytes:
    return _ended(raw[at + 4 : end - 1])


def _ended(text: bytes) -> bytes:
    """Text that may hold zero bytes, before something that begins with less than 0xff."""
    return text.replace(b"\0", b"\0\xff") + _END


def _document(raw: bytes, at: int, end: int) -> bytes:
    pieces: list[bytes] = []
    for kind, name, begin, behind in elements(raw, at, end):
        pieces += (RANK[kind], name, _END, _VALUES[kind](raw, begin, behind))
    return b"".join(pieces) + _END


def _array(raw: bytes, at: int, end: int) -> bytes:
    """Names do not count."""
    pieces: list[bytes] = []
    for kind, _, begin, behind in elements(raw, at, end):
        pieces += (RANK[kind], _VALUES[kind](raw, begin, behind))
    return b"".join(pieces) + _END


def _binary(raw: bytes, at: int, end: int) -> bytes:
    return _big32(int32(raw, at)[0]) + raw[at + 4 : end]


def _signed(raw: bytes, at: int, _end: int) -> bytes:
    return _big64(int64(raw, at)[0] + _SIGN)


def _unsigned(raw: bytes, at: int, end: int) -> bytes:
    return raw[at:end][::-1]


def _dbpointer(raw: bytes, at: int, end: int) -> bytes:
    return _big32(int32(raw, at)[0]) + raw[at + 4 : end]


def _scoped(raw: bytes, at: int, end: int) -> bytes:
    scope = at + 8 + int32(raw, at + 4)[0]
    return _string(raw, at + 4, scope) + _document(raw, scope, end)


# --- numbers: the nearest double, then whether it is above, and what it really is ---


def _of_double(raw: bytes, at: int, _end: int) -> bytes:
    number = _double(raw, at)[0]
    return _ordered(number) + _EXACT if number == number else _NAN  # noqa: PLR0124 — a NaN is not


def _of_int32(raw: bytes, at: int, _end: int) -> bytes:
    return _ordered(int32(raw, at)[0]) + _EXACT


def _of_int64(raw: bytes, at: int, _end: int) -> bytes:
    number = int64(raw, at)[0]
    if -_EXACT_INT <= number <= _EXACT_INT:
        return _ordered(number) + _EXACT
    return _beside(Decimal(number))


def _of_decimal(raw: bytes, at: int, _end: int) -> bytes:
    low, high = _two64(raw, at)
    sign = high >> 63
    top = high >> 58 & 0x1F
    if top == 0x1F:
        return _NAN
    if top == 0x1E:
        return _ordered(-math.inf if sign else math.inf) + _EXACT
    coefficient = low | (high & ((1 << 49) - 1)) << 64
    if top >> 3 == 3 or not 0 < coefficient <= _MAX_COEFFICIENT:
        return _ordered(0.0) + _EXACT  # a form that says too much stands for zero
    exponent = (high >> 49 & 0x3FFF) - 6176
    number = Decimal((sign, tuple(map(int, str(coefficient))), exponent))
    return _beside(number)


def _beside(number: Decimal) -> bytes:
    """Of a number that may be no double."""
    nearest = float(number)  # beyond the greatest: infinite
    if nearest == number:
        return _ordered(nearest) + _EXACT
    return _ordered(nearest) + (_ABOVE if number > nearest else _BELOW) + _digits(number)


def _digits(number: Decimal) -> bytes:
    """A decimal number that is not zero, exactly: its magnitude, then its digits."""
    sign, digits, _ = number.normalize(_EXACTLY).as_tuple()
    text = (number.adjusted() + 0x8000).to_bytes(2, "big") + bytes(digit + 1 for digit in digits)
    ordered = text + _END
    return bytes(0xFF - each for each in ordered) if sign else ordered


def _ordered(number: float) -> bytes:
    """The bits of a double so that they ascend with it; both zeros are one."""
    bits = int.from_bytes(_big_double(number or 0.0), "big")
    return _big64(bits ^ _ALL if bits & _SIGN else bits | _SIGN)


_VALUES: Final[dict[int, Callable[[bytes, int, int], bytes]]] = {
    0xFF: _nothing,
    0x06: _nothing,
    0x0A: _nothing,
    0x01: _of_double,
    0x10: _of_int32,
    0x12: _of_int64,
    0x13: _of_decimal,
    0x02: _string,
    0x0E: _string,
    0x03: _document,
    0x04: _array,
    0x05: _binary,
    0x07: _as_it_is,
    0x08: _as_it_is,
    0x09: _signed,
    0x11: _unsigned,
    0x0B: _as_it_is,
    0x0C: _dbpointer,
    0x0D: _string,
    0x0F: _scoped,
    0x7F: _nothing,
}
