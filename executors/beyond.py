"""What a collection holds beyond the documents of a dump: where the dump knows no ranges, no
chunk's comparison can see it."""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import bson
from pymongo import MongoClient

from executors.batches import Range
from executors.boundaries import to_key
from executors.fingerprint import differences, key_of
from executors.protocol import StopToken
from executors.rejected import shown
from executors.rows import rows
from executors.select import query_of
from executors.sides import InRange, each_of
from executors.source import data_of
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit

NAMED: Final = 10
"""Documents named per unit."""
Again = Callable[[], Iterator[bytes]]
"""Reads the documents of a unit's whole file, anew at each call."""


def beyond_on_target(
    target: MongoClient[Any], unit: Unit, documents: Again | None, stop: StopToken
) -> tuple[MetadataDifference, ...]:
    """Nothing, or the two counts and the first of the documents that are too many by `_id`.

    Without `documents`, only the counts are told. Raises `PyMongoError`, `Stopped`.
    """
    there = InRange(target, Range(*data_of(unit.target, unit.type), keys_only=True), stop)
    count = _count(there)
    if count <= unit.restored_documents - unit.present:
        return ()  # as many as the job inserted itself, each under an `_id` of its own
    found = min(unit.source_documents - unit.rejected, unit.target_documents)
    number, named = _beside(there, documents, count - found)
    counts = MetadataDifference(what="documents", source=str(count - number), target=str(count))
    return (counts, *_named("extra", named)) if number > 0 else ()


def beyond_on_source(
    source: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    documents: Again | None,
    stop: StopToken,
    *,
    read_preference: str = "primary",
) -> tuple[MetadataDifference, ...]:
    """As `beyond_on_target`, of what the job's query wants of the source and its dump does not
    hold."""
    where, query = data_of(unit.id, unit.type), query_of(unit.id, spec.queries)
    here = Range(*where, keys_only=True, read_preference=read_preference, filter=query)
    there = InRange(source, here, stop)
    count = _count(there)
    number, named = _beside(there, documents, count - unit.source_documents)
    counts = MetadataDifference(what="documents", source=str(count), target=str(count - number))
    return (counts, *_named("missing", named)) if number > 0 else ()


def extras(there: InRange, documents: Again, limit: int) -> tuple[int, list[str]]:
    """How many documents lie there under an `_id` that none of the file has, and the first of
    these by `_id`.

    A document without `_id` excuses one, nobody can tell which. A negative number: so many of
    those are missing. Raises `PyMongoError`, `Stopped`.
    """
    number, named = 0, list[str]()
    for key, what in differences(lambda: _keys(documents()), lambda: each_of(there)):
        if what == "extra":
            number += 1
            if len(named) < limit:
                named.append(shown(to_key(key)))
    number -= sum(key_of(each) is None for each in documents())
    return number, named if number > 0 else []


def _beside(there: InRange, documents: Again | None, without: int) -> tuple[int, list[str]]:
    """As `extras`; `without` documents, so many."""
    return (without, []) if documents is None else extras(there, documents, NAMED)


def _count(there: InRange) -> int:
    what = there.range
    if what.filter is not None:  # which an aggregation may not understand as `find` does
        return sum(block.documents for block in there.blocks())
    pipeline = [{"$count": "documents"}]
    command = {"aggregate": what.collection, "pipeline": pipeline, "cursor": {}}
    preferred = what.read_preference
    lines = rows(there.client, what.database, command, there.stop, read_preference=preferred)
    found = [bson.decode(each) for each in lines]
    return int(found[0]["documents"]) if found else 0


def _keys(documents: Iterator[bytes]) -> Iterator[bytes]:
    return (key for key in map(key_of, documents) if key is not None)


def _named(what: Literal["extra", "missing"], keys: list[str]) -> Iterator[MetadataDifference]:
    for key in keys:
        yield MetadataDifference(what=f"{what}: _id {key}", source="", target="")
