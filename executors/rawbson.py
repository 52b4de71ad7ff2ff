"""Raw BSON: finding one's way in the bytes without decoding them.

Only documents that a MongoDB server sent come here; their structure is taken for granted
except where a lie would lose data, and then `ValueError` is raised.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bson.raw_bson import RawBSONDocument

int32: Callable[[bytes, int], tuple[int]] = struct.Struct("<i").unpack_from
int64: Callable[[bytes, int], tuple[int]] = struct.Struct("<q").unpack_from

_FIXED: Final = {
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
TIMESTAMP: Final = 0x11
_ZERO: Final = bytes(8)
_STRING: Final = (0x02, 0x0D, 0x0E)
_DOCUMENT: Final = (0x03, 0x04, 0x0F)


MALFORMED: Final = (ValueError, IndexError, struct.error)
"""What finding one's way in bytes raises that are no document."""


class Slab(RawBSONDocument):
    """Many whole documents, one after another, sent as if they were one.

    The driver copies `raw` into the message's document sequence as it stands, and the server
    reads documents from it until it ends. That is not documented: a test pins it, and the
    writer checks the server's count against its own.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @property
    def raw(self) -> bytes:
        return self._raw


def element_end(raw: bytes, kind: int, at: int) -> int:
    """The offset behind the value of type `kind` that begins at `at`."""
    if (size := _FIXED.get(kind)) is not None:
        return at + size
    if kind in _STRING:
        return at + 4 + int32(raw, at)[0]
    if kind in _DOCUMENT:
        return at + int32(raw, at)[0]
    if kind == 0x05:  # binary
        return at + 5 + int32(raw, at)[0]
    if kind == 0x0B:  # regular expression
        return raw.index(b"\0", raw.index(b"\0", at) + 1) + 1
    if kind == 0x0C:  # DBPointer
        return at + 4 + int32(raw, at)[0] + 12
    raise ValueError(f"element type 0x{kind:02x} at byte {at} is not BSON")


def elements(
    raw: bytes, begin: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes, int, int]]:
    """Each element of the document in `raw[begin:end]`: its type, its name, where its value
    begins and ends."""
    at, end = begin + 4, (len(raw) if end is None else end) - 1
    while at < end:
        kind = raw[at]
        name_end = raw.index(b"\0", at + 1)
        value = name_end + 1
        after = element_end(raw, kind, value)
        if after < value:  # a length that leads back would lead round for ever
            raise ValueError(f"element at byte {at} has a negative length")
        yield kind, raw[at + 1 : name_end], value, after
        at = after


def id_of(raw: bytes) -> bytes:
    """The document `{_id: <value>}` with the very bytes of the value."""
    for kind, name, begin, end in elements(raw):
        if name == b"_id":
            return wrap(b"%c_id\0%b" % (kind, raw[begin:end]))
    raise ValueError("the document has no _id")


def readable_id(raw: bytes) -> bytes | None:
    """As `id_of`, of what may not be a document."""
    try:
        return id_of(raw)
    except MALFORMED:
        return None


def as_stored(document: bytes) -> bytes:
    """With `_id` in front, where servers put it when they insert."""
    if document[5:9] == b"_id\0":
        return document
    for _, name, begin, end in elements(document):
        if name == b"_id":
            at = begin - 5
            return document[:4] + document[at:end] + document[4:at] + document[end:]
    return document


def equals_query(id_document: bytes) -> RawBSONDocument:
    """`{_id: {$eq: <value>}}`: matches that value even if it looks like an operator."""
    kind, value = id_document[4], id_document[9:-1]
    return RawBSONDocument(wrap(b"\x03_id\0" + wrap(b"%c$eq\0%b" % (kind, value))))


def in_query(id_documents: Sequence[bytes]) -> RawBSONDocument:
    """`{_id: {$in: [<values>]}}`."""
    values = b"".join(
        b"%c%d\0%b" % (each[4], index, each[9:-1]) for index, each in enumerate(id_documents)
    )
    return RawBSONDocument(wrap(b"\x03_id\0" + wrap(b"\x04$in\0" + wrap(values))))


def may_have_empty_timestamp(block: bytes) -> bool:
    """A fast look that misses none and is right almost always: at the bytes that may be the type
    of one. Nothing else is as fast as to look for one byte."""
    find, at = block.find, 0
    while (kind := find(TIMESTAMP, at)) >= 0 and (name_end := find(0, kind)) >= 0:
        at = name_end + 1
        if block[at : at + 8] == _ZERO:
            return True
    return False


def has_empty_timestamp(document: bytes) -> bool:
    """Whether a field (not one inside another) is `Timestamp(0, 0)`, which servers replace by
    the time when they insert; under `_id` they leave it."""
    return any(
        kind == TIMESTAMP and name != b"_id" and document[begin:end] == _ZERO
        for kind, name, begin, end in elements(document)
    )


def equal_but_for_empty_timestamps(document: bytes, found: bytes) -> bool:
    """Whether `found` is `document` with its empty timestamps replaced by others."""
    if len(document) != len(found):
        return False
    copy = bytearray(found)
    for kind, name, begin, end in elements(document):
        if kind == TIMESTAMP and name != b"_id" and document[begin:end] == _ZERO:
            copy[begin:end] = _ZERO
    return copy == document


def wrap(body: bytes) -> bytes:
    """The elements as a document."""
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def last_of(block: bytes) -> bytes:
    """The last of the concatenated documents of `block`."""
    at, end = 0, len(block)
    while (after := at + int32(block, at)[0]) != end:
        if not at < after < end:
            raise ValueError(f"document at byte {at} does not fit its block")
        at = after
    return block[at:]


def documents(block: bytes) -> Iterator[bytes]:
    """The concatenated documents of `block`, one by one."""
    at, end = 0, len(block)
    while at < end:
        after = at + int32(block, at)[0]
        if after <= at or after > end:
            raise ValueError(f"document at byte {at} does not fit its block")
        yield block[at:after]
        at = after
