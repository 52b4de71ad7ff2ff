"""What is new by a field that only grows: from which value to which a repeated export goes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import bson
from bson import Decimal128
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import RAW
from executors.boundaries import to_text
from executors.export.manifest import Manifest, standing
from executors.export.names import MANIFEST
from executors.protocol import StopToken
from executors.rawbson import elements, wrap
from executors.rejected import name_of
from executors.rows import rows
from executors.select import query_of, split, wanted_of
from executors.storage.protocol import Store
from executors.survey import Namespace, catalogue, raw_indexes
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.words import BsonText

NUMBERS: Final = (0x01, 0x10, 0x12, 0x13)
"""Doubles, integers and decimals are compared with each other."""
GROWING: Final = (0x02, 0x07, 0x09, 0x11)
"""Other types of which a query finds what is greater: text, ObjectIds, dates, timestamps."""
PLACES: Final = re.compile(r"((?:\d{4}-\d\d-\d\d/)?(\d{8}T\d{6}Z))/" + re.escape(MANIFEST))
"""Of the manifests of repeated exports: each lies in a folder that is called by its time."""


class NotOneCollection(OperatorError):
    code, exit_code = "EEXPORT040", 2

    def __init__(self, names: Sequence[str]) -> None:
        found = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        super().__init__(
            f"--since is for one collection, and {found or 'none'} would be exported: the values "
            "of one say nothing of another",
            remedy="name it with -d and -c; run one export for each, with an --out of its own",
        )


class NotOnlyGrowing(OperatorError):
    """A query for greater values passes over such documents without a word."""

    code, exit_code = "EEXPORT041", 2

    def __init__(self, namespace: str, field: str, key: str) -> None:
        super().__init__(
            f"--since {field}: not every document of {namespace} has it with a value of one type "
            f"that has an order (such as _id {key}); no such export would ever hold these",
            remedy=f'leave them out in so many words, such as --query \'{{"{field}": {{"$type": '
            '"date"}}\', or name another field',
        )


@dataclass(frozen=True, slots=True)
class Newest:
    """How far the field has come."""

    namespace: str
    upto: BsonText
    """A document with the greatest value; empty: there is nothing new."""
    indexed: bool
    """The server finds it, and what is new, without reading all."""


def newest(
    client: MongoClient[Any], spec: JobSpec, stop: StopToken, *, read_preference: str
) -> Newest:
    """Beyond `spec.export.above`; its `upto` is to be found yet, and is empty.

    All documents that are wanted are looked at from both ends, for a query passes over those of
    another type. Raises `NotOneCollection`, `NotOnlyGrowing`, `PyMongoError`, `Stopped`.
    """
    assert spec.export is not None and not spec.export.upto
    entry, field = _the_one(client, spec), spec.export.since

    def end(query: bytes | None, direction: int) -> "_End | None":
        return _end(client, entry, field, query, direction, stop, read_preference)

    indexed = any(_leads(raw, field) for raw in raw_indexes(client, entry)) or field == "_id"
    query = query_of(entry.name, spec.queries)
    first, last = end(query, 1), end(query, -1)
    if first is None or last is None:
        return Newest(entry.name, BsonText(""), indexed)
    for each in (first, last):
        if each.family is None or each.family != last.family:
            raise NotOnlyGrowing(entry.name, field, each.key)
    found = end(wanted_of(entry.name, spec), -1) if spec.export.above else last
    upto = BsonText("") if found is None else to_text(wrap(found.named(field)))
    return Newest(entry.name, upto, indexed)


def export_before(at: Callable[[str], Store], spec: JobSpec) -> Manifest | None:
    """The newest finished export of the same kind beneath the target; `at` opens the store of a
    folder there. Raises `BadManifest`, what the store raises."""
    names = (PLACES.fullmatch(found.name) for found in at("").list())
    places = sorted(((found[2], found[1]) for found in names if found), reverse=True)
    for _, folder in places:
        told = standing(at(folder))
        if told is not None and _is_like(told, spec):
            return told
    return None


def _is_like(told: Manifest, spec: JobSpec) -> bool:
    """Whether together with it the new one is one export."""
    assert spec.export is not None
    return (
        told.since == spec.export.since
        and told.format == spec.export.format
        and told.source_id == spec.source_id
        and (told.include, told.exclude) == (spec.include, spec.exclude)
        and told.queries == spec.queries
    )


@dataclass(frozen=True, slots=True)
class _End:
    """The first or the last document in the order of a field."""

    key: str
    """Its `_id` for people."""
    kind: int
    value: bytes

    @property
    def family(self) -> int | None:
        """Equal for values that are compared with each other; `None` of those that are with none:
        nothing, null, arrays, NaN."""
        if self.kind in NUMBERS:
            return None if _is_nan(self.named("v")) else NUMBERS[0]
        return self.kind if self.kind in GROWING else None

    def named(self, name: str) -> bytes:
        """As the element of a document."""
        return b"%c%b\0%b" % (self.kind, name.encode(), self.value)


def _the_one(client: MongoClient[Any], spec: JobSpec) -> Namespace:
    """Raises `NotOneCollection`: the values of one collection say nothing of another."""
    found = [each for each in catalogue(client, spec) if each.type != "view"]
    if len(found) != 1:
        raise NotOneCollection([each.name for each in found])
    return found[0]


def _end(
    client: MongoClient[Any],
    entry: Namespace,
    field: str,
    query: bytes | None,
    direction: int,
    stop: StopToken,
    read_preference: str,
) -> _End | None:
    """`None` where no document is wanted."""
    database, collection = split(entry.name)
    pipeline: list[dict[str, Any]] = [
        {"$match": RawBSONDocument(query) if query is not None else {}},
        {"$sort": {field: direction}},
        {"$limit": 1},
        {"$project": {"v": f"${field}"}},
    ]
    command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}, "allowDiskUse": True}
    for found in rows(client, database, command, stop, read_preference=read_preference):
        values = {name: (kind, found[a:b]) for kind, name, a, b in elements(found)}
        return _End(name_of(found), *values.get(b"v", (0, b"")))
    return None


def _leads(index: bytes, field: str) -> bool:
    """Whether an index is in the order of the field, and holds every document."""
    described = bson.decode(index, RAW)
    whole = not {"sparse", "partialFilterExpression"} & set(described)
    return whole and next(iter(described["key"])) == field


def _is_nan(element: bytes) -> bool:
    value = bson.decode(wrap(element))["v"]
    return (value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)).is_nan()
