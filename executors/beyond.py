"""What a collection holds beyond what was restored into it: where a dump knows no ranges, no
chunk's comparison can see it."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import bson
from pymongo import MongoClient

from executors.protocol import StopToken
from executors.rows import rows
from executors.source import data_of
from executors.verify import extras
from statemachine.events import MetadataDifference
from statemachine.state import Unit

NAMED: Final = 10
"""Documents named per unit."""


def beyond(
    target: MongoClient[Any],
    unit: Unit,
    documents: Callable[[], Iterator[bytes]] | None,
    stop: StopToken,
) -> tuple[MetadataDifference, ...]:
    """Nothing, or the two counts and the first of the documents that are too many by `_id`.

    `documents` reads what was restored once more; without it, only the counts are told.
    """
    there, wanted = _count(target, unit, stop), unit.source_documents - unit.rejected
    if there <= wanted:
        return ()
    counts = MetadataDifference(what="documents", source=str(wanted), target=str(there))
    if documents is None:
        return (counts,)
    _, named = extras(target, unit, documents, NAMED, stop)
    return (
        counts,
        *(MetadataDifference(what=f"extra: _id {one.key}", source="", target="") for one in named),
    )


def _count(target: MongoClient[Any], unit: Unit, stop: StopToken) -> int:
    database, collection = data_of(unit.target, unit.type)
    pipeline = [{"$count": "documents"}]
    command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
    found = [bson.decode(each) for each in rows(target, database, command, stop)]
    return int(found[0]["documents"]) if found else 0
