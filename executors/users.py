"""Users and roles: laid beside those of the target, and merged by the server itself.

No role but the server's own may write to `admin.system.roles`. `restore` may use the command that
mongorestore uses (`_mergeAuthzCollections`), and may read what it laid down under exactly these
names. A user or role that the target has already stays as it is, whatever the job does with other
conflicts: its own login may be among them.
"""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from executors.batches import RAW
from executors.commands import NO_SUCH_NAMESPACE, acknowledged
from executors.fingerprint import digest_of
from executors.select import STAGED, USERS, carried, split
from executors.undo.aside import CatalogueLog, inverse
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit

PARAMETER: Final = {
    "admin.system.users": ("tempUsersCollection", "user"),
    "admin.system.roles": ("tempRolesCollection", "role"),
}
_NAMED: Final = {"user": "admin.system.users", "role": "admin.system.roles"}
MAJORITY: Final = {"w": "majority"}
UNKNOWN: Final = (11, 31)
"""Codes: no such user, no such role."""


def stage(client: MongoClient[Any], unit: Unit) -> None:
    """An empty place to lay them down. Raises `PyMongoError`."""
    clear_place(client, STAGED[unit.id])
    command = {"create": split(STAGED[unit.id])[1], "writeConcern": MAJORITY}
    acknowledged(client.admin.command(command))


def merge(
    client: MongoClient[Any], unit: Unit, log: CatalogueLog | None = None
) -> tuple[MetadataDifference, ...]:
    """Make what was laid down valid, and remove the place; again, it does nothing.

    What differs from the one of that name on the target is named, without a word of its content.
    With a log, who is new can be taken back. Raises `PyMongoError`, `OSError`.
    """
    place, (parameter, what) = STAGED[unit.id], PARAMETER[unit.id]
    laid = _read(client, place)
    if laid and log is not None:
        standing = {each["_id"] for each in _read(client, unit.id)}
        named = [each for each in laid if what in each and "db" in each]  # others are refused
        new = [each for each in named if each["_id"] not in standing]
        log.note(*(_row(each, what) for each in _in_order(new)))
    if laid:
        wanted = {parameter: place, "drop": False, "db": "", "writeConcern": MAJORITY}
        acknowledged(client.admin.command({"_mergeAuthzCollections": 1, **wanted}))
    merged = {each["_id"]: each for each in _read(client, unit.id)} if laid else {}
    clear_place(client, place)
    return tuple(
        MetadataDifference(what=f"{what} {each['_id']}", source="one", target="another")
        for each in laid
        if merged.get(each["_id"]) != each
    )


def clear(client: MongoClient[Any], spec: JobSpec) -> list[str]:
    """Remove what a job that goes on no more may have laid down and not merged: it holds what
    passwords are proven by. Returns the places that could not be removed, whoever refused it."""
    left: list[str] = []
    for name in USERS:
        if spec.kind in ("migrate", "restore") and carried(name, spec):
            try:
                clear_place(client, STAGED[name])
            except PyMongoError:
                left.append(STAGED[name])
    return left


def now_of(client: MongoClient[Any], what: str, name: str) -> tuple[bytes | None, bool]:
    """The user or role as it stands there, if it does, and whether anybody has that role.

    Raises `PyMongoError`.
    """
    found = next((each for each in _read(client, _NAMED[what]) if each["_id"] == name), None)
    if found is None:
        return None, False
    if what == "user":
        return bytes(found.raw), False
    role = (found["role"], found["db"])
    held = (
        (has["role"], has["db"]) == role
        for namespace in USERS
        for each in _read(client, namespace)
        for has in each.get("roles", ())
    )
    return bytes(found.raw), any(held)


def _row(new: RawBSONDocument, what: str) -> Mapping[str, Any]:
    """Names, and a sum that tells whether it was changed since: of a document with random salts,
    from which nobody learns what passwords are proven by."""
    name, database = str(new[what]), str(new["db"])
    undo = {"dropUser" if what == "user" else "dropRole": name}
    so = {what: new["_id"], "sum": digest_of(bytes(new.raw))}
    return inverse(database, undo, f"dropped {what} {new['_id']}", ok=UNKNOWN, **so)


def _in_order(new: list[RawBSONDocument]) -> Iterator[RawBSONDocument]:
    """Roles before those that inherit from them: they are dropped in the other order, for dropping
    one takes it from all that have it."""
    known = {each["_id"]: each for each in new}
    graph = {
        name: [f"{role['db']}.{role['role']}" for role in each.get("roles", ())]
        for name, each in known.items()
    }
    return (known[name] for name in TopologicalSorter(graph).static_order() if name in known)


def _read(client: MongoClient[Any], namespace: str) -> list[RawBSONDocument]:
    _, collection = split(namespace)
    return list(client.admin.get_collection(collection, codec_options=RAW).find({}))


def clear_place(client: MongoClient[Any], place: str) -> None:
    """Nothing is laid down there when this returns. Raises `PyMongoError`."""
    _, collection = split(place)
    drop = {"drop": collection, "writeConcern": MAJORITY}
    acknowledged(client.admin.command(drop, allowable_errors=[NO_SUCH_NAMESPACE]))
