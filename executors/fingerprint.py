"""What tells sets of documents apart, whatever the order in which they are read.

The digest of a set is the sum of the BLAKE2b-128 digests of its documents modulo 2**128: sums of
parts add up to that of the whole. Where two sets differ, they are read again: once to sum them
in buckets by `_id`, and once or more to hold the documents of buckets that differ, at most
`HELD_BYTES` of them at a time. So memory stays flat, however many documents there are and
however many differ.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from executors.batches import Block
from executors.rawbson import MALFORMED, documents, element_end, id_of

MODULUS: Final = 1 << 128
BUCKETS: Final = 4096
HELD_BYTES: Final = 16 << 20
"""Of documents that are compared one by one: four workers at it take 64 MiB."""
_ENTRY_BYTES: Final = 220
"""What Python takes for one of them, beside its `_id`."""

Documents = Callable[[], Iterable[bytes]]
"""Reads a set of documents, as often as it is called."""
What = Literal["missing", "extra", "different"]
"""On the right, seen from the left."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    documents: int = 0
    bytes: int = 0
    total: int = 0

    @property
    def digest(self) -> str:
        return f"{self.total:032x}"

    def __add__(self, other: "Fingerprint") -> "Fingerprint":
        return Fingerprint(
            self.documents + other.documents,
            self.bytes + other.bytes,
            (self.total + other.total) % MODULUS,
        )


NOTHING: Final = Fingerprint()


def fingerprint(blocks: Iterable[Block]) -> Fingerprint:
    """Of all documents of the blocks, none of which is held."""
    each = (fingerprint_of(documents(block.data), len(block.data)) for block in blocks)
    return sum(each, NOTHING)


def fingerprint_of(documents: Iterable[bytes], size: int) -> Fingerprint:
    """Of these documents, which have so many bytes in all."""
    # One list and its sum: a third less time than statements in a loop.
    digests = [int.from_bytes(blake2b(document, digest_size=16).digest()) for document in documents]
    return Fingerprint(len(digests), size, sum(digests) % MODULUS)


def digest_of(document: bytes) -> bytes:
    return blake2b(document, digest_size=16).digest()


def key_of(document: bytes) -> bytes | None:
    """`{_id: <value>}`, as of `rawbson.id_of`; `None` where the document has none, or nobody can
    tell."""
    try:
        if document[5:9] != b"_id\0":
            return id_of(document)
        end = element_end(document, document[4], 9)
    except MALFORMED:  # a dump may hold anything
        return None
    if not 9 <= end < len(document):
        return None
    return (end + 1).to_bytes(4, "little") + document[4:end] + b"\0"


def differences(left: Documents, right: Documents) -> Iterator[tuple[bytes, What]]:
    """Every `{_id}` under which the two sets do not hold the same, each once.

    In the order of the right side, then of the left; the same sets give the same order. What has
    no `_id` is passed over.
    """
    mine, weights = _in_buckets(left)
    theirs, _ = _in_buckets(right)
    for group in _groups(mine, theirs, weights):
        yield from _within(group, left, right)


def _in_buckets(side: Documents) -> tuple[list[int], list[int]]:
    """The sums of the digests of each bucket, and how many bytes it takes to hold it."""
    sums, weights = [0] * BUCKETS, [0] * BUCKETS
    for document in side():
        if (key := key_of(document)) is not None:
            bucket = _bucket(key)
            sums[bucket] += int.from_bytes(digest_of(document))
            weights[bucket] += len(key) + _ENTRY_BYTES
    return sums, weights


def _groups(mine: list[int], theirs: list[int], weights: list[int]) -> Iterator[frozenset[int]]:
    """The buckets that differ, as many at a time as may be held."""
    group: list[int] = []
    held = 0
    for bucket in range(BUCKETS):
        if mine[bucket] == theirs[bucket]:
            continue
        if group and held + weights[bucket] > HELD_BYTES:
            yield frozenset(group)
            group, held = [], 0
        group.append(bucket)
        held += weights[bucket]
    if group:
        yield frozenset(group)


def _within(
    group: frozenset[int], left: Documents, right: Documents
) -> Iterator[tuple[bytes, What]]:
    mine = {key: digest_of(document) for key, document in _of(group, left)}
    for key, document in _of(group, right):
        expected = mine.pop(key, None)
        if expected is None:
            yield key, "extra"
        elif expected != digest_of(document):
            yield key, "different"
    for key in mine:
        yield key, "missing"


def _of(group: frozenset[int], side: Documents) -> Iterator[tuple[bytes, bytes]]:
    for document in side():
        if (key := key_of(document)) is not None and _bucket(key) in group:
            yield key, document


def _bucket(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=2).digest()) % BUCKETS
