"""Whether bytes that nobody vouches for are BSON: no recursion, no decoding, no belief in lengths.

Three looks, each dearer than the one before:

- `walk`, `envelope_flaw`: lengths and ends of documents in a row. Always taken.
- `flaw`: everything inside one document. With `--objcheck`, to verify and to salvage a dump.
- `resync`: where whole documents begin again behind damage. Only to salvage.

A flaw is what servers refuse (measured with mongod 6.0.5) and what drivers refuse to read. What
servers keep although it is odd (invalid UTF-8, dates beyond the year 9999, the same name twice,
`$`, dots or nothing in names, deprecated types) is none.
"""

import re
import struct
from dataclasses import replace
from itertools import count
from typing import Final, NamedTuple

from executors.flaws import WHOLE, Code, Flaw
from executors.rawbson import elements
from executors.values import (
    BINARY,
    KINDS,
    NESTED,
    SCOPE,
    SHORTEST,
    Bytes,
    Wrong,
    int32,
    nested_end,
    no_element,
    old_binary_flaw,
    row_of_plain,
    scope_of,
    value_end,
)

Raw = Bytes | memoryview
LARGEST: Final = (16 << 20) + (16 << 10)
"""Bytes of a document: what servers keep inside (16 MiB for users, and 16 KiB on top)."""
DEEPEST: Final = 180
"""Documents inside one another below the outermost; servers refuse more."""
_LONGEST_PATH, _MOST_NAMES = 200, 50
_PATIENCE: Final = 1 << 26
"""Bytes that `resync` looks through inside candidates beyond four times what it passes: garbage
can be made of beginnings of long documents."""


class Walked(NamedTuple):
    documents: int
    end: int
    """Offset behind the last whole document."""
    flaw: Flaw | None
    """Of the document that begins at `end`; None when there is none, or more bytes are needed."""


def walk(block: Raw, begin: int = 0) -> Walked:
    """Check the envelopes of documents one after another, up to the first that is flawed or that
    the block cuts off; at the end of a file `envelope_flaw` tells what is wrong with the latter.
    """
    unpack, shortest, largest, at = int32, SHORTEST, LARGEST, begin
    documents = 0
    try:
        for documents in count():
            (length,) = unpack(block, at)
            if length < shortest or length > largest or block[at + length - 1]:
                return Walked(documents, at, envelope_flaw(block, at))
            at += length
    except (struct.error, IndexError):  # cheaper than to ask each time whether the block goes on
        pass
    return Walked(documents, at, None)


def envelope_flaw(data: Raw, begin: int = 0, end: int | None = None) -> Flaw | None:
    """What is wrong with length and end of the document that begins at `begin`; others may follow
    it up to `end`."""
    left = (len(data) if end is None else end) - begin
    if left < 4:
        return Flaw(Code.CUT_LENGTH, begin, "", f"4 bytes expected, {left} left")
    length = int32(data, begin)[0]
    if length < SHORTEST:
        return Flaw(Code.TOO_SHORT, begin, "", f"document length {length}, 5 is the least")
    if length > LARGEST:
        return Flaw(Code.TOO_LONG, begin, "", f"document length {length}, {LARGEST} is the most")
    if length > left:
        return Flaw(Code.CUT, begin, "", f"document length {length}, {left} bytes left")
    if last := data[begin + length - 1]:
        why = f"the document of {length} bytes ends with 0x{last:02x}, not with NUL"
        return Flaw(Code.NO_END, begin + length - 1, "", why)
    return None


def flaw(document: Raw, begin: int = 0, end: int | None = None) -> Flaw | None:
    """The first thing wrong in `document[begin:end]`, which should be one document; what leaves
    it whole (see `WHOLE`) comes last. Looks at each byte once, whatever the bytes say."""
    end = len(document) if end is None else end
    if wrong := envelope_flaw(document, begin, end):
        return wrong
    length = int32(document, begin)[0]
    if begin + length < end:
        why = f"{end - begin - length} bytes behind the document of {length} bytes"
        return Flaw(Code.SURPLUS, begin + length, "", why)
    if isinstance(document, memoryview):  # which cannot search
        document = bytes(document[begin:end])
        return _moved(_structure(document, 0, length) or _id_flaw(document, 0, length), begin)
    return _structure(document, begin, end) or _id_flaw(document, begin, end)


def resync(data: Raw, at: int, end: int | None = None) -> int | None:
    """The first offset from `at` on where a whole document with an `_id` begins that is followed
    by what may be another one, or by the end. None when there is none, or when the search would
    take out of all proportion: garbage can be made for that."""
    data = bytes(data) if isinstance(data, memoryview) else data
    return _Search(data, len(data) if end is None else end).first(at)


# Inside a document


def _structure(data: Bytes, begin: int, end: int) -> Flaw | None:
    """Walk all elements of the document, whose envelope is right."""
    at, end = begin + 4, end - 1
    outer: list[tuple[int, int]] = []  # of the documents around this one: element and end
    odd: Flaw | None = None
    try:
        while True:
            if at == end:
                if not outer:
                    return odd
                at, end = end + 1, outer.pop()[1]
                continue
            row = row_of_plain(data, at, end)
            assert row is not None  # it may be empty
            at, value = row.start(1), row.end()
            if at < 0:
                at = value
                if at < end:
                    raise no_element(data, at, end)
                continue
            kind = data[at]
            if kind in NESTED or kind == SCOPE:
                inner = value if kind in NESTED else scope_of(data, value, end)
                last = nested_end(data, inner, end)
                if len(outer) == DEEPEST:
                    raise Wrong(Code.DEPTH, at, f"more than {DEEPEST} documents in one another")
                outer.append((at, end))
                at, end = inner + 4, last
                continue
            after = value_end(data, kind, value, end)
            if kind == BINARY and not odd and (why := old_binary_flaw(data, value, after)):
                odd = Flaw(Code.OLD_BINARY, value, _path(data, outer, at, end), why)
            at = after
    except Wrong as wrong:
        return Flaw(wrong.code, wrong.at, _path(data, outer, at, end), wrong.why)


# The _id


_ID: Final = b"_id\0"
_REFUSED_IDS: Final = {0x04: "an array", 0x06: "undefined", 0x0B: "a regular expression"}


def _id_flaw(data: Bytes, begin: int, end: int) -> Flaw | None:
    """What servers refuse in the `_id` of a document whose structure is sound."""
    if data[begin + 5 : begin + 9] == _ID and not _may_have_id(data, begin + 9, end):
        if data[begin + 4] not in _REFUSED_IDS:
            return None  # what servers and tools write
        ids = [(begin + 4, data[begin + 4])]
    elif _may_have_id(data, begin + 4, end):
        ids = _ids(data, begin, end)
    else:
        return None
    for at, kind in ids:
        if kind in _REFUSED_IDS:
            code = Code.ARRAY_ID if kind == 0x04 else Code.BAD_ID
            return Flaw(code, at, "_id", f"_id is {_REFUSED_IDS[kind]}")
    if len(ids) > 1:
        return Flaw(Code.TWO_IDS, ids[1][0], "_id", f"{len(ids)} fields named _id")
    return None


def _may_have_id(data: Bytes, begin: int, end: int) -> bool:
    """A fast look that misses none: `user_id` has a letter where `_id` has its type."""
    at = data.find(_ID, begin, end)
    while at >= 0 and chr(data[at - 1]).isalpha() and data[at - 1] < 0x7F:
        at = data.find(_ID, at + 1, end)
    return at >= 0


def _ids(data: Bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """Offset and type of each field `_id` of a document whose structure is sound."""
    found = elements(bytes(data[begin:end]))
    return [
        (begin + value - len(_ID) - 1, kind) for kind, name, value, _ in found if name == b"_id"
    ]


# Behind damage

_BEGINNING: Final = re.compile(rb"(?s)[\0\x01](?<=.\0|\0\x01)(?=[%b][^\0])" % re.escape(KINDS))
"""The last byte of a length, the type of a first field and the beginning of its name."""


class _Search:
    """For the first document of a row somewhere in bytes."""

    def __init__(self, data: Bytes, end: int) -> None:
        self._data = data
        self._end = end
        self._patience = 0

    def first(self, at: int) -> int | None:
        """Each place is looked at once, and only where the name `_id` is near enough."""
        find, end = self._data.find, self._end
        self._patience = _PATIENCE + 16 * (end - at)
        found = find(_ID, at, end)
        while found >= 0:
            at = max(at, found - LARGEST)
            for candidate in _BEGINNING.finditer(self._data, at + 3, found + 1):
                begin = candidate.start() - 3
                if (after := self._whole_end(begin)) and self._may_follow(begin, after):
                    return begin
                if self._patience < 0:
                    return None
            at = max(at, found - 4)
            found = find(_ID, found + 1, end)
        return None

    def _whole_end(self, begin: int) -> int:
        """Where the document at `begin` ends; 0 when there is none, or none with an `_id`."""
        self._patience -= 64
        if envelope_flaw(self._data, begin, self._end):
            return 0
        after = begin + int32(self._data, begin)[0]
        wrong = _structure(self._data, begin, after)
        if wrong and not wrong.whole:
            searched = wrong.code in (Code.NAME, Code.REGEX)  # for a NUL, to the end
            self._patience -= (after if searched else wrong.at) - begin
            return 0
        self._patience -= after - begin
        return after if _ids(self._data, begin, after) else 0

    def _may_follow(self, begin: int, after: int) -> bool:
        """Whether what lies at `after` may be a document of the same row as the one at `begin`,
        be it damaged inside or cut: it begins with the same field, or it is whole. With less,
        some that are nested in others would pass for documents of their own."""
        data, end = self._data, self._end
        if end - after < 4:
            return after == end or any(data[after:end])
        if not SHORTEST <= int32(data, after)[0] <= LARGEST:
            return False
        name = data[begin + 5 : data.find(b"\0", begin + 5) + 1]
        same = data[after + 5 : min(after + 5 + len(name), end)]
        return name.startswith(same) or self._whole_end(after) > 0


# For people


def _path(data: Bytes, outer: list[tuple[int, int]], at: int, end: int) -> str:
    """The names from the outermost document down to the element at `at`, printable."""
    heads = [head for head, _ in outer] + ([at] if data[at] else [])  # a NUL is no element
    shown = heads[:_MOST_NAMES]
    path = ".".join(_name(data, head, end) for head in shown)
    cut = len(path) > _LONGEST_PATH or len(shown) < len(heads)
    return f"{path[:_LONGEST_PATH]}…" if cut else path


def _name(data: Bytes, head: int, end: int) -> str:
    """The name of the element at `head`, as much of it as is there."""
    stop = min(end, head + 1 + _LONGEST_PATH)
    found = data.find(b"\0", head + 1, stop)
    name = bytes(data[head + 1 : found if found >= 0 else stop])
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _moved(found: Flaw | None, by: int) -> Flaw | None:
    return found and replace(found, at=found.at + by)


__all__ = [
    "DEEPEST",
    "LARGEST",
    "WHOLE",
    "Code",
    "Flaw",
    "Raw",
    "Walked",
    "envelope_flaw",
    "flaw",
    "resync",
    "walk",
]
