"""The places of documents in unique indexes, as the server's errors name them.

A place is one key of one unique index; one document at most has it. Errors tell the key as the
index has it: what arrays, missing fields and dotted paths come to is the server's own business.
Only strings under a collation are told as sort keys, from which nothing leads back: there the
refused document's own values are tried, each of which has one sort key.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from executors.batches import RAW
from executors.increments.keyorder import order
from executors.rawbson import elements, wrap

ERRORS: Final = RAW.with_options(unicode_decode_error_handler="replace")
"""For replies that quote values of documents, which may be no UTF-8."""
SIMPLE: Final = {"locale": "simple"}
COLLATED: Final = (0x02, 0x03, 0x04)
"""Types of which an index with a collation holds sort keys."""
Error = Mapping[str, Any]
"""What a server says of a document that it did not take, raw: keys of indexes are exact bytes."""


class Crowded(NamedTuple):
    """A document that the server did not take, because others hold its places."""

    document: bytes
    error: Error


@dataclass(frozen=True, slots=True)
class Place:
    """A key of a unique index, which one document has at most."""

    index: str
    collation: Mapping[str, Any]
    key: bytes
    """As index keys compare."""
    begins: tuple[bytes, ...]
    """Where to look in the index; one of them is the place."""


def places_of(crowded: Crowded, indexes: Sequence[Any]) -> list[Place]:
    """The place that the error names, if it is one of these indexes."""
    error = crowded.error
    before_key = str(error.get("errmsg", "")).partition(" dup key: ")[0]
    named = before_key.partition(" collation: {")[0]
    return [
        _place(index, error, crowded.document)
        for index in indexes
        if error.get("keyPattern") == index["key"] and named.endswith(f" index: {index['name']}")
    ]


def _place(index: Any, error: Error, document: bytes) -> Place:
    key = _key_of_index(error)
    collation = index.get("collation")
    begins = (key,) if collation is None else tuple(_begins(key, document))
    return Place(index["name"], collation or SIMPLE, comparable(key), begins)


def _key_of_index(error: Error) -> bytes:
    """Strings that are no UTF-8, as sort keys of collations, are told in hexadecimal digits."""
    key: bytes = error["keyValue"].raw
    hexadecimal = error.get("hexEncoded") or itertools.repeat(False)  # servers before 5.0: none
    body = bytearray()
    for (kind, name, begin, end), encoded in zip(elements(key), hexadecimal, strict=False):
        value = key[begin:end]
        if encoded:
            text = bytes.fromhex(value[4:-1].decode())
            value = (len(text) + 1).to_bytes(4, "little") + text + b"\0"
        body += b"%c%b\0%b" % (kind, name, value)
    return wrap(bytes(body))


def comparable(key: bytes) -> bytes:
    """Equal for equal keys of an index, as 1 and 1.0 are; the names do not count."""
    return order(wrap(b"\x04_id\0" + key))


def _begins(key: bytes, document: bytes) -> Iterator[bytes]:
    """What may have become this key under a collation: where it holds sort keys, the document's
    own values."""
    fields = [
        [
            b"%c%b\0%b" % (found, name, value)
            for found, value in (
                _values(document, 0, len(document), name.split(b"."))
                if kind in COLLATED
                else [(kind, key[begin:end])]
            )
            if found == kind
        ]
        for kind, name, begin, end in elements(key)
    ]
    return (wrap(b"".join(each)) for each in itertools.product(*fields))


def _values(raw: bytes, begin: int, end: int, path: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Type and value of all that an index over the path may hold of a document or an array, but
    for what stands for nothing."""
    name, *below = path
    for kind, found, value, after in elements(raw, begin, end):
        if found == name:
            yield from _beneath(raw, kind, value, after, below)


def _beneath(
    raw: bytes, kind: int, begin: int, end: int, path: list[bytes]
) -> Iterator[tuple[int, bytes]]:
    if not path:
        yield kind, raw[begin:end]
        if kind == 0x04:
            yield from ((inner, raw[at:to]) for inner, _, at, to in elements(raw, begin, end))
    elif kind == 0x03:
        yield from _values(raw, begin, end, path)
    elif kind == 0x04:
        yield from _values(raw, begin, end, path)  # by its place
        for inner, _, at, to in elements(raw, begin, end):
            if inner == 0x03:
                yield from _values(raw, at, to, path)
