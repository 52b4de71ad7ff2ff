"""What a user has to be allowed for the commands of a group, going and coming back."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import bson
from pymongo import MongoClient

from executors.boundaries import from_text
from executors.operation.actions import CODEC
from executors.operation.errors import BadCommand, MayNot
from executors.operation.traits import OF_ADMIN, name_of, shown
from executors.select import split
from statemachine.errors import OperatorError
from statemachine.stimuli import PlannedOperation

ON_COLLECTION: Final[Mapping[str, tuple[str, ...]]] = {
    "aggregate": ("find",),
    "collMod": ("collMod",),
    "collStats": ("collStats",),
    "convertToCapped": ("convertToCapped",),
    "count": ("find",),
    "create": ("createCollection",),
    "createIndexes": ("createIndex",),
    "delete": ("remove",),
    "distinct": ("find",),
    "drop": ("dropCollection",),
    "dropIndexes": ("dropIndex",),
    "find": ("find",),
    "findAndModify": ("find", "update"),
    "insert": ("insert",),
    "listIndexes": ("listIndexes",),
    "moveChunk": ("moveChunk",),
    "moveRange": ("moveChunk",),
    "shardCollection": ("enableSharding",),
    "update": ("find", "update"),
}
ON_DATABASE: Final[Mapping[str, tuple[str, ...]]] = {
    "createRole": ("createRole",),
    "dbStats": ("dbStats",),
    "dropDatabase": ("dropDatabase",),
    "dropRole": ("dropRole",),
    "dropUser": ("dropUser",),
    "grantRolesToUser": ("grantRole",),
    "listCollections": ("listCollections",),
    "profile": ("enableProfiler",),
    "revokeRolesFromUser": ("revokeRole",),
}
ON_CLUSTER: Final[Mapping[str, tuple[str, ...]]] = {
    "getParameter": ("getParameter",),
    "listDatabases": ("listDatabases",),
    "setParameter": ("setParameter",),
}
"""Actions by command. What a command takes that is in none of them, only the server knows."""
Right = tuple[str, str, str]
"""Action, database, collection; without these, of the cluster or of a whole database."""


def rights_of(command: Mapping[str, Any], database: str) -> Iterator[Right]:
    """What it takes; nothing of a command that is not known."""
    name = name_of(command)
    about = command[name]
    if name == "renameCollection":
        yield from _to_rename(split(about), split(command["to"]))
    elif name in ON_COLLECTION and isinstance(about, str):
        where = split(about) if name in OF_ADMIN else (database, about)
        yield from ((each, *where) for each in ON_COLLECTION[name])
    elif name in ON_DATABASE:
        yield from ((each, database, "") for each in ON_DATABASE[name])
    elif name in ON_CLUSTER:
        yield from ((each, "", "") for each in ON_CLUSTER[name])


def _to_rename(old: tuple[str, str], new: tuple[str, str]) -> Iterator[Right]:
    if old[0] == new[0]:
        yield "renameCollectionSameDB", *old
        return
    yield from ((each, *old) for each in ("find", "dropCollection"))
    yield from ((each, *new) for each in ("insert", "createIndex"))


def objections(client: MongoClient[Any], operation: PlannedOperation) -> Iterator[OperatorError]:
    """Which of its commands the server does not know, or the user may not run, going and coming
    back. Raises `PyMongoError`."""
    rights = Rights(client)
    for part, text in (
        ("forward command", operation.forward),
        ("compensation", operation.compensation),
    ):
        action = bson.decode(from_text(text), CODEC)
        for command in action.get("commands", ()):
            name, words = name_of(command), shown(command, action["database"])
            if name not in rights.commands:
                why = f"the server knows no command {name}"
                yield BadCommand(
                    f"the {part} of {operation.id}", why, remedy="is it spelled right?"
                )
            elif lacking := rights.lacking(command, action["database"]):
                yield MayNot(operation.id, part, f"`{words}` takes {', '.join(lacking)}")


class Rights:
    """What the user that is logged in may do; without access control everybody may do all."""

    def __init__(self, client: MongoClient[Any]) -> None:
        """Raises `PyMongoError`."""
        status = client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
        self._all = not status["authenticatedUsers"]
        self._privileges: list[Mapping[str, Any]] = status["authenticatedUserPrivileges"]
        self.commands: Mapping[str, Any] = client.admin.command("listCommands")["commands"]

    def lacking(self, command: Mapping[str, Any], database: str) -> list[str]:
        """What of the command's rights is missing, in words."""
        return [
            f"{action} on {'.'.join(filter(None, where)) or 'the cluster'}"
            for action, *where in rights_of(command, database)
            if not self._may(action, *where)
        ]

    def _may(self, action: str, database: str, collection: str) -> bool:
        return self._all or any(
            action in each["actions"] and _covers(each["resource"], database, collection)
            for each in self._privileges
        )


def _covers(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    """A privilege on all collections holds for those of the server itself only by name."""
    if resource.get("anyResource"):
        return True
    if not database:
        return bool(resource.get("cluster"))
    if resource.get("db") not in ("", database):
        return False
    ordinary = "" if not collection.startswith("system.") else collection
    return resource.get("collection") in (ordinary, collection)
