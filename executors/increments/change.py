"""One event of a change stream, read from its bytes without decoding documents."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from executors.increments.errors import UnknownChange
from executors.rawbson import element_end, elements, id_of
from executors.select import split

KEYED: Final = ("insert", "update", "replace", "delete")
"""Kinds that tell of one document, by its key."""
CATALOGUE: Final = (
    "create",
    "createIndexes",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "modify",
    "refineCollectionShardKey",
    "rename",
    "reshardCollection",
    "shardCollection",
)
"""Kinds that tell of collections, views and indexes."""
INVALIDATE: Final = "invalidate"
"""Ends a cursor, behind a `dropDatabase` of the database that is watched; it changes nothing."""

_KINDS: Final = {kind.encode(): kind for kind in (*KEYED, *CATALOGUE, INVALIDATE)}
_timestamp: Callable[[bytes, int], tuple[int, int]] = struct.Struct("<II").unpack_from
_NOTHING: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One change, as of its time."""

    kind: str
    """The event's `operationType`: one of `KEYED` or `CATALOGUE`."""
    uuid: str
    """Of the collection, hexadecimal; empty of views, time-series collections and databases."""
    namespace: str
    """`db.collection`, or the database alone."""
    key: bytes
    """`{_id: <value>}`; empty of changes of the catalogue."""
    cluster_time: str
    raw: bytes = b""
    """The whole event: of changes of the catalogue, and of all where that was asked for."""

    @property
    def renamed(self) -> str:
        """What the collection is called from here on; empty: as before."""
        found = (raw for _, name, *raw in elements(self.raw) if name == b"to" and self.raw)
        return next((_namespace(self.raw[begin:end]) for begin, end in found), "")


def changes_of(
    raw: bytes, begin: int, end: int, *, whole: bool
) -> Iterator[tuple[Change, int, int]]:
    """Each event of the array in `raw[begin:end]`, and where its resume token lies.

    Raises `UnknownChange`, `ValueError` for what is no event.
    """
    for _, _, event, after in elements(raw, begin, end):
        yield _change(raw, event, after, whole)


def _change(raw: bytes, begin: int, end: int, whole: bool) -> tuple[Change, int, int]:
    at = {name: (value, after) for _, name, value, after in elements(raw, begin, end)}
    token, after_token = at[b"_id"]
    value, after = at[b"operationType"]
    kind = _KINDS.get(raw[value + 4 : after - 1], "")
    value, after = at.get(b"ns", _NOTHING)
    namespace = _namespace(raw[value:after])
    if not kind:
        value, after = at[b"operationType"]
        raise UnknownChange(raw[value + 4 : after - 1].decode(errors="replace"), namespace)
    value, after = at.get(b"collectionUUID", _NOTHING)
    uuid = _uuid(raw[value + 5 : after])
    value, after = at.get(b"documentKey", _NOTHING)
    key = _key(raw[value:after]) if value else b""
    if kind in KEYED and not (uuid and key):
        raise ValueError(f"an event of {namespace} does not say which document changed")
    increment, seconds = _timestamp(raw, at[b"clusterTime"][0])
    kept = raw[begin:end] if whole or not key else b""
    change = Change(kind, uuid, namespace, key, f"{seconds}.{increment}", kept)
    return change, token, after_token


def _key(raw: bytes) -> bytes:
    """Of a `documentKey`, which in a sharded collection holds more than the `_id`."""
    if raw[5:9] == b"_id\0" and element_end(raw, raw[4], 9) == len(raw) - 1:
        return raw
    return id_of(raw)


@lru_cache(maxsize=1024)
def _namespace(raw: bytes) -> str:
    """Of `{db: ..., coll: ...}`, of which the latter may be missing."""
    found = {name: raw[begin + 4 : end - 1] for _, name, begin, end in elements(raw)} if raw else {}
    parts = (found.get(b"db", b""), found.get(b"coll", b""))
    return ".".join(each.decode() for each in parts if each)


@lru_cache(maxsize=1024)
def _uuid(raw: bytes) -> str:
    return raw.hex()


def told(namespace: str, kind: str) -> bool:
    """Whether change streams tell what happens to the documents and indexes of a namespace of this
    type: not of time-series collections, of the servers' own names, of the database `admin`."""
    database, collection = split(namespace)
    return kind != "timeseries" and database != "admin" and not collection.startswith("system.")
