"""Whether what a command asks for is so already, seen by a look at the server: what decides after
a crash, where the user gave no check."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import bson
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.operation.actions import CODEC
from executors.select import split

Command = Mapping[str, Any]
Look = Callable[[MongoClient[Any], str, Command], bool | None]
NO_SUCH_NAMESPACE: Final = 26
SIZE_STEP: Final = 256
"""Servers round the size of a capped collection up to a multiple of it."""
NO_OPTIONS: Final = (
    "create",
    "collMod",
    "index",
    "writeConcern",
    "comment",
    "maxTimeMS",
    "idIndex",
)
"""Fields of commands that are no option of a collection."""
DEFAULTS: Final = {"validationLevel": "strict", "validationAction": "error"}
DESCRIBED_FURTHER: Final = (
    "collation", "timeseries", "clusteredIndex", "weights", "wildcardProjection",
)  # fmt: skip
"""Options to which a server adds what was not asked for."""


def is_so(
    client: MongoClient[Any], database: str, command: Command, *, in_doubt: bool = False
) -> bool | None:
    """`None`: no look can tell. `in_doubt`: the command was sent, and nothing that it makes was
    there before. Raises `PyMongoError`."""
    name = next(iter(command))
    look = LOOKS.get(name) if not (in_doubt and name == "createIndexes") else _are_named
    return look(client, database, command) if look is not None else None


def indexes_there(client: MongoClient[Any], database: str, command: Command) -> list[str]:
    """Names of indexes that a `createIndexes` asks for and that are there."""
    found = _indexes(client, database, command["createIndexes"])
    return [each["name"] for each in command["indexes"] if each["name"] in found]


def _create(client: MongoClient[Any], database: str, command: Command) -> bool:
    found = _collection(client, database, command["create"])
    return found is not None and _has_options(found, command)


def _create_indexes(client: MongoClient[Any], database: str, command: Command) -> bool:
    found = _indexes(client, database, command["createIndexes"])
    return all(_is_index(each, found.get(each["name"])) for each in command["indexes"])


def _are_named(client: MongoClient[Any], database: str, command: Command) -> bool:
    """A server makes all of them or none, and may describe them in other words."""
    return len(indexes_there(client, database, command)) == len(command["indexes"])


def _is_index(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> bool:
    return (
        found is not None
        and _same_key(wanted["key"], found["key"])
        and all(
            _same_option(name, value, found.get(name))
            for name, value in wanted.items()
            if name not in ("key", "background")
        )
    )


def _coll_mod(client: MongoClient[Any], database: str, command: Command) -> bool:
    found = _collection(client, database, command["collMod"])
    if found is None or not _has_options(found, command):
        return False
    wanted = command.get("index")
    if wanted is None:
        return True
    return any(
        (each["name"] == wanted.get("name") or each["key"] == wanted.get("keyPattern"))
        and all(
            each.get(name, False) == value
            for name, value in wanted.items()
            if name not in ("name", "keyPattern")
        )
        for each in _indexes(client, database, command["collMod"]).values()
    )


def _rename(client: MongoClient[Any], _: str, command: Command) -> bool:
    old, new = split(command["renameCollection"]), split(command["to"])
    return _collection(client, *old) is None and _collection(client, *new) is not None


def _drop(client: MongoClient[Any], database: str, command: Command) -> bool:
    return _collection(client, database, command["drop"]) is None


def _drop_database(client: MongoClient[Any], database: str, _: Command) -> bool:
    return not client.admin.command(
        {"listDatabases": 1, "nameOnly": True, "filter": {"name": database}}
    )["databases"]


def _drop_indexes(client: MongoClient[Any], database: str, command: Command) -> bool:
    found = _indexes(client, database, command["dropIndexes"])
    wanted = command["index"]
    if wanted == "*":
        return not found.keys() - {"_id_"}
    if isinstance(wanted, Mapping):
        return not any(_same_key(wanted, each["key"]) for each in found.values())
    return not found.keys() & ({wanted} if isinstance(wanted, str) else set(wanted))


def _insert(client: MongoClient[Any], database: str, command: Command) -> bool | None:
    """Documents that bring their `_id` can be told from others."""
    wanted = {bson.encode({"": each.get("_id")}): each for each in command["documents"]}
    if len(wanted) != len(command["documents"]) or any("_id" not in x for x in wanted.values()):
        return None
    ids = [each["_id"] for each in wanted.values()]
    collection = client.get_database(database).get_collection(command["insert"], CODEC)
    found = list(collection.find({"_id": {"$in": ids}}))
    if not found:
        return False
    same = (
        bson.encode(each) == bson.encode(wanted[bson.encode({"": each["_id"]})]) for each in found
    )
    return True if len(found) == len(wanted) and all(same) else None


LOOKS: Final[Mapping[str, Look]] = {
    "create": _create,
    "createIndexes": _create_indexes,
    "collMod": _coll_mod,
    "renameCollection": _rename,
    "drop": _drop,
    "dropDatabase": _drop_database,
    "dropIndexes": _drop_indexes,
    "insert": _insert,
}


def _collection(client: MongoClient[Any], database: str, name: str) -> dict[str, Any] | None:
    db = client.get_database(database)
    reply = db.command({"listCollections": 1, "filter": {"name": name}}, codec_options=CODEC)
    found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
    return found[0] if found else None


def _indexes(client: MongoClient[Any], database: str, name: str) -> dict[str, dict[str, Any]]:
    """By name; none of a collection that is not there. A server has few enough for one batch."""
    try:
        reply = client.get_database(database).command(
            {"listIndexes": name, "cursor": {"batchSize": 1000}}, codec_options=CODEC
        )
    except OperationFailure as error:
        if error.code != NO_SUCH_NAMESPACE:
            raise
        return {}
    return {each["name"]: each for each in reply["cursor"]["firstBatch"]}


def _has_options(found: Mapping[str, Any], command: Command) -> bool:
    options = found["options"]
    return all(
        _same_option(name, wanted, options.get(name, DEFAULTS.get(name)))
        for name, wanted in command.items()
        if name not in NO_OPTIONS
    )


def _same_option(name: str, wanted: Any, found: Any) -> bool:
    if found is None:
        return not wanted or wanted in ("off", {"enabled": False})
    if name in ("size", "cappedSize"):
        return bool(wanted <= found < wanted + SIZE_STEP)
    if name in DESCRIBED_FURTHER and isinstance(wanted, Mapping):
        return all(found.get(key) == value for key, value in wanted.items())
    return bool(wanted == found)


def _same_key(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Of a text index the server shows another key."""
    return "_fts" in found or list(wanted.items()) == list(found.items())
