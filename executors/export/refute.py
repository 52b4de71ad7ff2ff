"""What a server is asked for: the documents that do not fit the places found so far.

Types and names of fields are `$jsonSchema`, nested ones too. Where it names a field with a schema,
the server seeks that field in each document; the schema of all fields that it does not name is
applied to each as it comes. So many fields of one type, and names that are no paths, are asked for
as those that are not named: a document of hundreds of fields would take a thousand times as long.
Bounds of dates and what a binary is no schema can say: they are conditions of their own, by paths.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson import DatetimeMS
from bson.binary import UUID_SUBTYPE, Binary
from bson.raw_bson import RawBSONDocument

from executors.export.errors import TooManyColumns
from executors.export.places import MAX_COLUMNS, MAX_DATE, MIN_DATE, Place, is_odd
from executors.export.selection import NO as NOT
from executors.export.selection import SWITCHES, Projection
from executors.rawbson import elements

Condition = dict[str, Any]

MAX_FILTER_BYTES: Final = 8 << 20
"""Half of what a command may hold: it has the query too."""
MANY: Final = 4
"""Fields of one schema that are asked for together: that takes as long as to seek four."""
_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "": (),
    "string": ("string",),
    "bool": ("bool",),
    "int32": ("int",),
    "int64": ("long",),
    "double": ("double",),
    "timestamp": ("date",),
    "object_id": ("objectId",),
    "decimal": ("decimal",),
    "uuid": ("binData",),
    "binary": ("binData",),
    "struct": ("object",),
    "list": ("array",),
}
_NUMBERS: Final = ("int64", "double")
_BEYOND: Final[dict[str, tuple[Condition, ...]]] = {
    "timestamp": ({"$lt": DatetimeMS(MIN_DATE)}, {"$gt": DatetimeMS(MAX_DATE)}),
    "uuid": (
        {"$lt": Binary(bytes(16), UUID_SUBTYPE)},
        {"$gt": Binary(b"\xff" * 16, UUID_SUBTYPE)},
    ),
    "binary": ({"$type": "binData", "$not": {"$_internalSchemaBinDataSubType": 0}},),
}
"""Servers compare the lengths of binaries first, then their subtypes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Which fields of a stored document are exported, as they lie there."""

    included: frozenset[str] | None = None
    """`None`: all."""
    excluded: frozenset[str] = frozenset()


def seen_through(projection: Projection) -> Seen | None:
    """`None`: the projection makes other documents than are stored."""
    excluded = {"_id"} if projection.without_id else set()
    included: set[str] = set()
    raw = projection.fields or bson.encode({})
    for kind, name, begin, end in elements(raw):
        text = name.decode()
        if kind not in SWITCHES or is_odd(text):
            return None
        (excluded if raw[begin:end] in NOT else included).add(text)
    if not included:
        return Seen(None, frozenset(excluded))
    return Seen(frozenset(included | {"_id"}) - excluded, frozenset())


def unfit(places: Mapping[str, Place], seen: Seen, types: str) -> Condition:
    """The filter for documents that do not fit. Raises `TooManyColumns`."""
    schema = _top(places, seen, types)
    asked = {"$or": [{"$nor": [{"$jsonSchema": schema}]}, *_beyond(places, "")]}
    if len(bson.encode(asked)) > MAX_FILTER_BYTES:
        raise TooManyColumns("names of fields longer than a server can be asked for", MAX_COLUMNS)
    return asked


def both(query: bytes | None, asked: Condition) -> bytes:
    if query is None:
        return bson.encode(asked)
    return bson.encode({"$and": [RawBSONDocument(query), asked]})


def _top(places: Mapping[str, Place], seen: Seen, types: str) -> Condition:
    if seen.included is None:
        return _struct(places, types, seen.excluded)
    known = {name: _schema(each, types) for name, each in places.items()}
    return {"properties": {name: _of_type(()) for name in seen.included} | known}


def _struct(places: Mapping[str, Place], types: str, excluded: Iterable[str] = ()) -> Condition:
    names = dict.fromkeys((*places, *excluded))
    schema: Condition = {"properties": _any(names), "additionalProperties": False}
    unnamed: list[Condition] = []
    for its, alike in _alike(places, types):
        apart = alike if len(alike) >= MANY else [*filter(is_odd, alike)]
        schema["properties"] |= {name: its for name in alike if name not in apart}
        if apart:
            others = _any(names.keys() - apart)
            unnamed.append({"properties": others, "additionalProperties": its})
    return schema | ({"allOf": unnamed} if unnamed else {})


def _alike(places: Mapping[str, Place], types: str) -> Iterator[tuple[Condition, list[str]]]:
    """Schemas, each with all fields that have it; but for the one that everything fits."""
    found: dict[bytes, tuple[Condition, list[str]]] = {}
    for name, place in places.items():
        if place.kind != "json":
            schema = _schema(place, types)
            found.setdefault(bson.encode(schema), (schema, []))[1].append(name)
    yield from found.values()


def _any(names: Iterable[str]) -> Condition:
    return {name: {} for name in names}


def _schema(place: Place, types: str) -> Condition:
    if place.kind == "json":
        return {}
    known = _TYPES[place.kind]
    if types == "exchange" and place.kind in _NUMBERS:
        known += ("int",)
    schema = _of_type(known)
    if place.kind == "struct":
        schema |= _struct(place.members, types)
    elif place.element is not None:
        schema["items"] = _schema(place.element, types)
    return schema


def _of_type(known: tuple[str, ...]) -> Condition:
    return {"bsonType": [*known, "null"]}


def _beyond(places: Mapping[str, Place], above: str) -> Iterator[Condition]:
    """Of documents with values beyond the bounds of their kind."""
    for name, place in places.items():
        if place.kind == "struct":
            yield from _beyond(place.members, f"{above}{name}.")
        else:
            yield from ({above + name: each} for each in _of_value(place))


def _of_value(place: Place) -> Iterator[Condition]:
    """Of a value, and of the elements of an array."""
    if place.element is None:
        yield from _BEYOND.get(place.kind, ())
    elif place.element.kind == "struct":
        if inside := [*_beyond(place.element.members, "")]:
            yield {"$elemMatch": {"$or": inside}}
    else:
        yield from ({"$elemMatch": each} for each in _of_value(place.element))
