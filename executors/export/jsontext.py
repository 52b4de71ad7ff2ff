"""Documents as MongoDB's Extended JSON, one a line: canonical, exact to the byte; or relaxed.

Documents are decoded by the lot and said column by column, so that loops run in C: those with
the same names share a template. That is exact for a document which encodes to the same bytes
again. Any other (a symbol, a name twice, a date beyond the year 9999) is said by a walk over its
bytes, and read back: what canonical text cannot say is a misfit, and never another value.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from json.encoder import encode_basestring as quoted
from typing import Any, Final, Literal

import bson
from bson import DBRef, Decimal128, Int64, ObjectId, Timestamp
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.errors import InvalidBSON

from executors.dumps.extjson import (
    RESERVED,
    TEXTS,
    Texts,
    as_bson,
    as_json,
    element_as_json,
    parsed,
)
from executors.rawbson import elements, int32, int64, wrap
from executors.structure import flaw

Form = Literal["canonical", "relaxed"]
OPTIONS: Final = DEFAULT_CODEC_OPTIONS
"""What values are decoded with that are said here."""


LOT: Final = 1000
"""Documents that are decoded at once: Python looks through all there are of them, again and again,
for what nobody needs any more."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A document that the text cannot hold."""

    index: int
    """In its block."""
    code: str
    why: str


def texts_of(raws: Sequence[bytes], form: Form) -> list[str | Misfit]:
    """Each document's text, of one line, whatever is in it."""
    if len(raws) > LOT:
        return _by_pieces(raws, form, LOT)
    try:
        decoded = bson.decode_all(b"".join(raws), OPTIONS)
        texts = _STRICT[form].of(decoded)
        again = [bson.encode(each) for each in decoded]
    except (InvalidBSON, RecursionError):  # of one of them
        if len(raws) > 1:
            return _by_pieces(raws, form, -(-len(raws) // _PIECES))
        return [_walked(raws[0], form, 0)]
    if again == raws and _UNSAYABLE not in "".join(texts):
        return list[str | Misfit](texts)
    return [
        text if same == raw and _UNSAYABLE not in text else _walked(raw, form, index)
        for index, (raw, same, text) in enumerate(zip(raws, again, texts, strict=True))
    ]


def canonical(values: Sequence[Any]) -> list[str]:
    """Each of the values, decoded with `OPTIONS`, as canonical text. An object that looks like
    Extended JSON is said as it is."""
    return _ANY.of(values)


def canonical_element(kind: int, value: bytes) -> str:
    """A value of that BSON type, as it lies in its document, whatever a decoder would make of it.
    Raises `ValueError` for text that is not UTF-8."""
    return _one_line(element_as_json(kind, value, _WALKS["canonical"]))


def _by_pieces(raws: Sequence[bytes], form: Form, step: int) -> list[str | Misfit]:
    return [
        replace(found, index=begin + found.index) if isinstance(found, Misfit) else found
        for begin in range(0, len(raws), step)
        for found in texts_of(raws[begin : begin + step], form)
    ]


def _walked(raw: bytes, form: Form, index: int) -> str | Misfit:
    """The text of one document, by its bytes."""
    if (wrong := flaw(raw)) and not wrong.whole:
        return Misfit(index, str(wrong.code), wrong.why)
    try:
        text = as_json(raw, _WALKS[form])
    except UnicodeDecodeError:
        return Misfit(index, "EJSON010", "text that is not UTF-8")
    if form == "canonical" and not _comes_back(raw, text):
        return Misfit(index, "EJSON011", "its canonical text would be read as another document")
    return _one_line(text)


def _comes_back(raw: bytes, text: str) -> bool:
    try:
        return as_bson(parsed(text.encode())) == _settled(raw)
    except (ValueError, TypeError):
        return False


def _settled(document: bytes, *, array: bool = False) -> bytes:
    """With the usual bytes for what has several encodings: each NaN, decimals that are not in their
    canonical form, options of an expression in any order, whatever names the items of an array
    have."""
    body = []
    for place, (kind, name, begin, end) in enumerate(elements(document)):
        value = document[begin:end]
        if kind in (_DOCUMENT, _ARRAY):
            value = _settled(value, array=kind == _ARRAY)
        elif kind in _USUAL:
            value = _USUAL[kind](value)
        body.append(b"%c%b\0%b" % (kind, b"%d" % place if array else name, value))
    return wrap(b"".join(body))


def _settled_code(value: bytes) -> bytes:
    scope = 8 + int32(value, 4)[0]
    body = value[4:scope] + _settled(value[scope:])
    return struct.pack("<i", len(body) + 4) + body


def _one_line(text: str) -> str:
    """Some readers take these for ends of lines."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")


def _ordered(pattern: bytes, options: bytes) -> bytes:
    return b"%b\0%b\0" % (pattern, bytes(sorted(options)))


_PIECES: Final = 32
REMEMBERED: Final = 1000
SHORT: Final = 8 << 10
"""Templates that are remembered, and characters of one: 8 MiB, whatever names there are."""
_FEW: Final = 8
"""Objects of one shape for which it does not pay to look at their fields one by one."""
_DOCUMENT: Final = 0x03
_ARRAY: Final = 0x04
_UNSAYABLE: Final = "\0"
"""In the place of a text: none holds NUL."""
_NAN: Final = b"\0\0\0\0\0\0\xf8\x7f"
_DOUBLE: Final = b"\x10\0\0\0\x01v\0%b\0"
_USUAL: Final[Mapping[int, Callable[[bytes], bytes]]] = {
    0x01: lambda value: _NAN if math.isnan(_double(value)) else value,
    0x0B: lambda value: _ordered(*value.split(b"\0")[:2]),
    0x0F: _settled_code,
    0x13: lambda value: Decimal128(str(Decimal128.from_bid(value))).bid,
}


# Columns

_Column = Callable[[Sequence[Any]], Iterable[str]]
_AS_THEY_ARE: Final = bytes(set(range(0x20, 0x100)) - set(b'"\\'))
"""Bytes that are themselves in a JSON string."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 — as decoded: without a zone, UTC
_MILLISECOND: Final = timedelta(milliseconds=1)


class _Values:
    """How values are said: many of one type at once."""

    def __init__(
        self, columns: Mapping[type, _Column], walk: Texts, reserved: frozenset[str]
    ) -> None:
        """An object with one of the `reserved` names is left unsaid."""
        self._walk = walk
        self._columns: Mapping[type, _Column] = {
            **columns,
            dict: self._objects,
            list: self._arrays,
            DBRef: self._refs,
        }
        self._reserved = reserved
        self._templates: dict[tuple[str, ...], str] = {}

    def of(self, values: Sequence[Any]) -> list[str]:
        kinds = set(map(type, values))
        if len(kinds) == 1:
            return list(self._columns.get(kinds.pop(), self._rare)(values))
        return _grouped(values, map(type, values), self.of)

    def _objects(self, values: Sequence[dict[str, Any]]) -> list[str]:
        shapes = len(set(map(tuple, values)))
        if shapes == 1:
            return self._alike(values)
        if shapes * _FEW <= len(values):
            return _grouped(values, map(tuple, values), self._alike)
        return self._unlike(values)

    def _alike(self, values: Sequence[dict[str, Any]]) -> list[str]:
        """Objects with the same names in the same order."""
        template = self._template(tuple(values[0]))
        if not values[0]:
            return [template] * len(values)
        columns = map(self.of, zip(*map(dict.values, values), strict=True))
        return list(map(template.__mod__, zip(*columns, strict=True)))

    def _unlike(self, values: Sequence[dict[str, Any]]) -> list[str]:
        """Hardly any has the names of another: all their values are one column."""
        texts = iter(self.of([*chain.from_iterable(map(dict.values, values))]))
        return [self._template(tuple(each)) % tuple(islice(texts, len(each))) for each in values]

    def _arrays(self, values: Sequence[list[Any]]) -> list[str]:
        items = iter(self.of([*chain.from_iterable(values)]))
        return ["[" + ",".join(islice(items, len(each))) + "]" for each in values]

    def _refs(self, values: Sequence[DBRef]) -> list[str]:
        return self._objects([dict(each.as_doc()) for each in values])

    def _template(self, names: tuple[str, ...]) -> str:
        """How objects with these names are said: `%s` for each value."""
        if (known := self._templates.get(names)) is not None:
            return known
        template = _template(names, self._reserved)
        if len(template) <= SHORT:
            if len(self._templates) == REMEMBERED:
                self._templates.clear()
            self._templates[names] = template
        return template

    def _rare(self, values: Sequence[Any]) -> Iterable[str]:
        for each in values:
            raw = bson.encode({"v": each})
            yield _one_line(element_as_json(raw[4], raw[7:-1], self._walk))


def _grouped(
    values: Sequence[Any], by: Iterable[Any], said: Callable[[Sequence[Any]], list[str]]
) -> list[str]:
    """Values said group by group, in their own order."""
    groups: dict[Any, list[int]] = {}
    for place, group in enumerate(by):
        groups.setdefault(group, []).append(place)
    found = [""] * len(values)
    for places in groups.values():
        for place, text in zip(places, said([values[at] for at in places]), strict=True):
            found[place] = text
    return found


def _template(names: tuple[str, ...], reserved: frozenset[str]) -> str:
    if not reserved.isdisjoint(names):
        return _UNSAYABLE + "%s" * len(names)
    said = [_one_line(quoted(name)).replace("%", "%%") for name in names]
    return "{" + ",".join(f"{name}:%s" for name in said) + "}"


def _strings(values: Sequence[str]) -> list[str]:
    """Most texts need quotes alone: one look at all of them is a quarter of saying each."""
    together = "".join(values)
    one_line = together.isascii() or _one_line(together) == together
    if one_line and not together.encode().translate(None, _AS_THEY_ARE):
        return ['"' + each + '"' for each in values]
    texts = list(map(quoted, values))
    return texts if one_line else list(map(_one_line, texts))


def _doubles(values: Sequence[float]) -> Iterable[str]:
    return map('{"$numberDouble":"%s"}'.__mod__, _numbers(values))


def _plain_doubles(values: Sequence[float]) -> Iterable[str]:
    if all(map(math.isfinite, values)):
        return _numbers(values)
    return [next(iter((_numbers if math.isfinite(each) else _doubles)([each]))) for each in values]


def _numbers(values: Sequence[float]) -> list[str]:
    texts = list(map(repr, values))
    together = "".join(texts)
    if "e" in together or "n" in together:
        texts = [each.replace("e", "E").replace("nan", "NaN") for each in texts]
        texts = [each.replace("inf", "Infinity") for each in texts]
    return texts


def _dates(values: Sequence[datetime]) -> Iterable[str]:
    milliseconds = [(each - _EPOCH) // _MILLISECOND for each in values]
    return map('{"$date":{"$numberLong":"%d"}}'.__mod__, milliseconds)


def _plain_dates(values: Sequence[datetime]) -> Iterable[str]:
    for each in values:
        if each < _EPOCH:
            yield from _dates([each])
        else:
            precision = "milliseconds" if each.microsecond else "seconds"
            yield f'{{"$date":"{each.isoformat(timespec=precision)}Z"}}'


def _double(value: bytes) -> float:
    number: float = bson.decode(_DOUBLE % value)["v"]
    return number


_CANONICAL: Final[Mapping[type, _Column]] = {
    str: _strings,
    int: lambda values: map('{"$numberInt":"%d"}'.__mod__, values),
    Int64: lambda values: map('{"$numberLong":"%d"}'.__mod__, values),
    float: _doubles,
    bool: lambda values: ["true" if each else "false" for each in values],
    type(None): lambda values: ["null"] * len(values),
    ObjectId: lambda values: map('{"$oid":"%s"}'.__mod__, values),
    datetime: _dates,
    Decimal128: lambda values: map('{"$numberDecimal":"%s"}'.__mod__, values),
    Timestamp: lambda values: [
        f'{{"$timestamp":{{"t":{each.time},"i":{each.inc}}}}}' for each in values
    ],
}
_RELAXED: Final[Mapping[type, _Column]] = {
    **_CANONICAL,
    int: lambda values: map(str, values),
    Int64: lambda values: map(int.__repr__, values),
    float: _plain_doubles,
    datetime: _plain_dates,
}
# Bytes

_NEVER_AFTER: Final = 253402300800000
"""The year 10000, in milliseconds."""


def _plain_date(value: bytes) -> str:
    milliseconds = int64(value, 0)[0]
    if not 0 <= milliseconds < _NEVER_AFTER:
        return TEXTS[0x09](value)
    return next(iter(_plain_dates([_EPOCH + milliseconds * _MILLISECOND])))


_WALKS: Final[Mapping[Form, Texts]] = {
    "canonical": {
        **TEXTS,
        0x01: lambda value: next(iter(_doubles([_double(value)]))),
    },
    "relaxed": {
        **TEXTS,
        0x01: lambda value: next(iter(_plain_doubles([_double(value)]))),
        0x09: _plain_date,
        0x10: lambda value: str(int.from_bytes(value, "little", signed=True)),
        0x12: lambda value: str(int.from_bytes(value, "little", signed=True)),
    },
}
_ANY: Final = _Values(_CANONICAL, _WALKS["canonical"], frozenset())
_STRICT: Final[Mapping[Form, _Values]] = {
    "canonical": _Values(_CANONICAL, _WALKS["canonical"], RESERVED),
    "relaxed": _Values(_RELAXED, _WALKS["relaxed"], frozenset()),
}
