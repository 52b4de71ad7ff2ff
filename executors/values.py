"""Where the values of BSON end in bytes that nobody vouches for; `executors.structure` walks them.

Offsets are of the whole bytes; `end` is where the document around the value ends: its NUL.
"""

import re
import struct
from collections.abc import Callable
from mmap import mmap
from typing import Final

from executors.flaws import Code

Bytes = bytes | bytearray | mmap
int32: Final[Callable[[Bytes | memoryview, int], tuple[int]]] = struct.Struct("<i").unpack_from
SHORTEST: Final = 5
"""Bytes of a document: its length and its NUL."""


class Wrong(Exception):
    """What a look at a value finds; the walker adds the path."""

    def __init__(self, code: Code, at: int, why: str) -> None:
        self.code, self.at, self.why = code, at, why


_SIZES: Final = {
    0x01: 8,  # double
    0x06: 0,  # undefined
    0x07: 12,  # ObjectId
    0x08: 1,  # boolean
    0x09: 8,  # date
    0x0A: 0,  # null
    0x10: 4,  # int32
    0x11: 8,  # timestamp
    0x12: 8,  # int64
    0x13: 16,  # Decimal128
    0x7F: 0,  # MaxKey
    0xFF: 0,  # MinKey
}
_STRINGS: Final = rb"\x02\x0d\x0e"  # string, code, symbol
_BOOLEAN, BINARY, SCOPE, NESTED = 0x08, 0x05, 0x0F, (0x03, 0x04)


def _row() -> re.Pattern[bytes]:
    """Elements without flaw whose end follows from their first bytes, as many as there are, then
    type and name of the next element as group 1, if there is one. A row is passed in one call,
    three to four times as fast as by a look at each element."""
    short = b"|".join(rb"\x%02x\0{3}.{%d}\0" % (n, n - 1) for n in range(1, 65))
    by_size: dict[int, bytes] = {}
    for kind, size in _SIZES.items():
        if kind != _BOOLEAN:
            by_size[size] = by_size.get(size, b"") + rb"\x%02x" % kind
    kinds = [rb"[%b][^\0]*+\0(?:%b)" % (_STRINGS, short), rb"\x08[^\0]*+\0[\0\1]"]
    kinds += [rb"[%b][^\0]*+\0.{%d}" % (these, size) for size, these in by_size.items()]
    return re.compile(rb"(?s)(?>%b)*+([^\0]++\0)?" % b"|".join(kinds))


row_of_plain: Final = _row().match


def no_element(data: Bytes, at: int, end: int) -> Wrong:
    """Why no element begins at `at`."""
    if not data[at]:
        why = f"the elements end {_count(end - at)} before the document"
        return Wrong(Code.NESTED_END, at, why)
    return Wrong(Code.NAME, at + 1, f"a name without end, {end - at - 1} bytes left")


def value_end(data: Bytes, kind: int, at: int, end: int) -> int:
    """Where the value ends that begins at `at` and has no document inside."""
    if (size := _SIZES.get(kind)) is not None:
        after = _fixed(at, size, end)
        if kind == _BOOLEAN and data[at] > 1:
            raise Wrong(Code.BOOLEAN, at, f"boolean {data[at]}")
        return after
    if (of_kind := _OF_KIND.get(kind)) is None:
        raise Wrong(Code.TYPE, at, f"element type 0x{kind:02x} is unknown")
    return of_kind(data, at, end)


def _fixed(at: int, size: int, end: int) -> int:
    if at + size > end:
        raise Wrong(Code.VALUE, at, f"{_count(size)} expected, {end - at} left")
    return at + size


def _string(data: Bytes, at: int, end: int) -> int:
    begin = _fixed(at, 4, end)
    length = int32(data, at)[0]
    if length < 1:
        raise Wrong(Code.STRING_LENGTH, at, f"string length {length}")
    if length > end - begin:
        raise Wrong(Code.STRING_LENGTH, at, f"string length {length}, {end - begin} bytes left")
    if last := data[begin + length - 1]:
        why = f"the string of {length} bytes ends with 0x{last:02x}, not with NUL"
        raise Wrong(Code.STRING_END, begin + length - 1, why)
    return begin + length


def _binary(data: Bytes, at: int, end: int) -> int:
    begin = _fixed(at, 5, end)
    length = int32(data, at)[0]
    if length < 0:
        raise Wrong(Code.BINARY_LENGTH, at, f"binary length {length}")
    if length > end - begin:
        raise Wrong(Code.BINARY_LENGTH, at, f"binary length {length}, {end - begin} bytes left")
    return begin + length


def old_binary_flaw(data: Bytes, at: int, end: int) -> str:
    """What disagrees in a binary of subtype 2, which has its length once more inside."""
    if data[at + 4] != 2:
        return ""
    outside = end - at - 5
    if outside < 4:
        return f"old binary of {outside} bytes, 4 are the least"
    inside = int32(data, at + 5)[0]
    return "" if inside == outside - 4 else f"old binary length {inside} inside {outside} bytes"


def _regex(data: Bytes, at: int, end: int) -> int:
    options = data.find(b"\0", at, end) + 1
    after = data.find(b"\0", options, end) + 1 if options else 0
    if not after:
        part = "options" if options else "pattern"
        raise Wrong(Code.REGEX, at, f"a regular expression without end of its {part}")
    return after


def _pointer(data: Bytes, at: int, end: int) -> int:
    return _fixed(_string(data, at, end), 12, end)


_OF_KIND: Final[dict[int, Callable[[Bytes, int, int], int]]] = {
    0x02: _string,
    0x05: _binary,
    0x0B: _regex,
    0x0C: _pointer,
    0x0D: _string,
    0x0E: _string,
}


KINDS: Final = bytes([*_SIZES, *_OF_KIND, *NESTED, SCOPE])


def nested_end(data: Bytes, at: int, end: int) -> int:
    """Where the NUL is that ends the document at `at`, inside another one that ends at `end`."""
    if end - at < 4:
        _fixed(at, 4, end)
    length = int32(data, at)[0]
    if not SHORTEST <= length <= end - at:
        why = f"nested document length {length}, {end - at} bytes left"
        raise Wrong(Code.NESTED_LENGTH, at, why)
    if last := data[at + length - 1]:
        why = f"the nested document of {length} bytes ends with 0x{last:02x}, not with NUL"
        raise Wrong(Code.NESTED_END, at + length - 1, why)
    return at + length - 1


def scope_of(data: Bytes, at: int, end: int) -> int:
    """Where the document begins of a code with scope; it ends where the code with scope does."""
    begin = _fixed(at, 4, end)
    length = int32(data, at)[0]
    if not 4 + 5 + SHORTEST <= length <= end - at:
        why = f"code with scope of length {length}, {end - at} bytes left"
        raise Wrong(Code.SCOPE, at, why)
    inner = _string(data, begin, at + length)
    _fixed(inner, 4, at + length)
    if (scope := int32(data, inner)[0]) != at + length - inner:
        why = f"scope of length {scope} in {at + length - inner} bytes of code with scope"
        raise Wrong(Code.SCOPE, inner, why)
    return inner


def _count(size: int) -> str:
    return "1 byte" if size == 1 else f"{size} bytes"
