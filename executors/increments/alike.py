"""A collection or view of the target made like the one of the source, as it is by now.

What is told of is the end, not the way there: done again, or later, it ends alike. Expiry sleeps
until following ends (`executors.expiry`). Indexes that only the target has are left alone, unless
somebody says that the source had them and dropped them.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, cast

import bson
from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW, TOLERANT
from executors.boundaries import to_text
from executors.classify import classify
from executors.compare import accepted, fields, is_index, wanted_index, wanted_options
from executors.errors import TargetDiffers
from executors.expiry import AFTER, FAR, delayed, switched_off
from executors.metadata import NO_SUCH_NAMESPACE, acknowledged, build_index, concern, create
from executors.select import split
from executors.survey import ID_INDEX, Namespace, described, index_spec, namespaces, raw_indexes
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import Cause, UnitId, UnitType, index_task

MAY_CHANGE: Final = {
    "validator": {},
    "validationLevel": "strict",
    "validationAction": "error",
    "changeStreamPreAndPostImages": {"enabled": False},
}
"""Options of a collection that may change while it lives, and what they are when nobody says."""
INDEX_NOT_FOUND: Final = 27
TEMPORARY: Final = "temp"
"""A collection of `$out` before it is renamed; a restart would remove it."""


def at(client: MongoClient[Any], name: str) -> Namespace | None:
    """What bears this name. Raises `PyMongoError`."""
    database, collection = split(name)
    return next(namespaces(client, database, name=collection), None)


def whereabouts(client: MongoClient[Any], database: str, uuid: str) -> str:
    """What the collection is called by now; empty when it is gone. A database's collection never
    leaves it: a rename to another makes another collection. Raises `PyMongoError`."""
    wanted = {"info.uuid": Binary(bytes.fromhex(uuid), UUID_SUBTYPE)}
    reply = client.get_database(database).command(
        {"listCollections": 1, "filter": wanted, "nameOnly": False}, codec_options=TOLERANT
    )
    return "".join(f"{database}.{each['name']}" for each in reply["cursor"]["firstBatch"])


def unit_of(client: MongoClient[Any], entry: Namespace, target: str) -> Unit:
    """The entry of the source's catalogue as what is wanted of the target."""
    raw, whole = described(client, entry)
    built = _built(client, entry) if raw else ()
    options = {name: value for name, value in fields(whole).items() if name != TEMPORARY}
    return Unit(
        id=UnitId(entry.name),
        target=target,
        type=cast("UnitType", entry.type),
        uuid=entry.uuid,
        options=to_text(bson.encode(options, codec_options=RAW)),
        indexes=tuple(index for index in map(index_spec, raw) if index.name in built),
        documents_estimate=0,
        bytes_estimate=0,
    )


def _built(client: MongoClient[Any], entry: Namespace) -> Collection[str]:
    """Names of the indexes whose build is over: of one that fails in the end nobody tells."""
    command = {"listIndexes": entry.collection, "cursor": {}, "includeBuildUUIDs": True}
    reply = client.get_database(entry.database).command(command, codec_options=TOLERANT)
    return [each["name"] for each in reply["cursor"]["firstBatch"] if "buildUUID" not in each]


def make_alike(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Iterator[str]:
    """Changes the target until it has what `unit` says; tells each change. Raises `PyMongoError`,
    `TargetDiffers` where an option differs that nothing can change."""
    there = at(client, unit.target)
    if there is not None and not _may_become(there, unit):
        drop(client, unit.target, spec)
        there = None
    if there is None:
        create(client, unit, spec.model_copy(update={"drop": False, "on_conflict": "overwrite"}))
        yield f"{unit.target} created"
    elif unit.type == "collection":
        yield from _options(client, there, unit, spec)
    if unit.type == "collection":
        yield from _indexes(client, unit, spec)


def _may_become(there: Namespace, unit: Unit) -> bool:
    """A view is nothing but its description: one that differs is made anew."""
    same = there.type == unit.type
    return same and (there.type != "view" or fields(there.options) == wanted_options(unit))


def drop(client: MongoClient[Any], name: str, spec: JobSpec) -> bool:
    """Whether there was anything to drop."""
    database, collection = split(name)
    command = {"drop": collection, "writeConcern": concern(spec)}
    reply = client.get_database(database).command(command, allowable_errors=[NO_SUCH_NAMESPACE])
    return bool(reply["ok"]) and bool(acknowledged(reply))


def _options(
    client: MongoClient[Any], there: Namespace, unit: Unit, spec: JobSpec
) -> Iterator[str]:
    wanted, found = switched_off(wanted_options(unit)), fields(there.options)
    if not accepted(_fixed(wanted), _fixed(found)):
        raise TargetDiffers(unit.target, "with other options")
    changes = {
        name: wanted.get(name, usual)
        for name, usual in MAY_CHANGE.items()
        if wanted.get(name, usual) != found.get(name, usual)
    }
    if changes:
        _modify(client, unit, changes, spec)
        yield f"{unit.target}: {', '.join(changes)} changed"


def _fixed(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in (*MAY_CHANGE, TEMPORARY)}


def _modify(client: MongoClient[Any], unit: Unit, changes: dict[str, Any], spec: JobSpec) -> None:
    database, collection = split(unit.target)
    command = {"collMod": collection, **changes, "writeConcern": concern(spec)}
    acknowledged(client.get_database(database).command(command, codec_options=TOLERANT))


# --- indexes ---


def _indexes(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Iterator[str]:
    """Those that cannot be built over what lies there by now are left out: documents of the
    target are of different times until everything has arrived, and then they are built."""
    there = indexes_of(client, unit.target)
    for index in unit.indexes:
        wanted = wanted_index(index, legacy=spec.legacy_indexes)
        found = there.get(index.name)
        if found is not None:
            if _is_that(wanted, found) or index.name == ID_INDEX:
                continue
            if change := _change(wanted, found):
                _modify(client, unit, {"index": {"name": index.name, **change}}, spec)
                yield f"{unit.target}: index {index.name} changed"
                continue
            drop_indexes(client, unit.target, [index.name], spec)
        try:
            build_index(client, unit, spec, index_task(unit.id, index.name))
        except OperationFailure as error:
            if classify(error)[0] is not Cause.PERMANENT:
                raise
        else:
            yield f"{unit.target}: index {index.name} built"


def indexes_of(client: MongoClient[Any], name: str) -> dict[str, dict[str, Any]]:
    """The indexes of a collection of the target, by name. Raises `PyMongoError`."""
    found = at(client, name)
    if found is None or found.type != "collection":
        return {}
    every = map(fields, raw_indexes(client, found))
    return {str(each["name"]): each for each in every}


def _is_that(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether it is the wanted index, its expiry asleep or awake."""
    return is_index(delayed(wanted), found) or is_index(wanted, found)


def _change(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What to say to make the one the other without building it anew; empty when that cannot be."""
    change: dict[str, Any] = {}
    if bool(wanted.get("hidden")) != bool(found.get("hidden")):
        change["hidden"] = bool(wanted.get("hidden"))
    if AFTER in delayed(wanted) and delayed(wanted)[AFTER] != found.get(AFTER):
        change[AFTER] = FAR
    after = {**found, **change}
    return change if is_index(delayed(wanted), after) else {}


def drop_indexes(
    client: MongoClient[Any], name: str, indexes: Collection[str], spec: JobSpec
) -> list[str]:
    """Returns those that were there."""
    database, collection = split(name)
    gone: list[str] = []
    for index in indexes:
        command = {"dropIndexes": collection, "index": index, "writeConcern": concern(spec)}
        reply = client.get_database(database).command(
            command, allowable_errors=[INDEX_NOT_FOUND, NO_SUCH_NAMESPACE]
        )
        if reply["ok"]:
            acknowledged(reply)
            gone.append(index)
    return gone


def drop_foreign_indexes(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> list[str]:
    """Drops the indexes of the target that the source has not, or not any more, or not so: they
    are in the way of what the source holds. Returns their names."""
    wanted = {index.name: wanted_index(index, legacy=spec.legacy_indexes) for index in unit.indexes}
    foreign = [
        name
        for name, found in indexes_of(client, unit.target).items()
        if name != ID_INDEX and not (name in wanted and _is_that(wanted[name], found))
    ]
    return drop_indexes(client, unit.target, foreign, spec)
