"""What is known of commands by their names: where they run, what they take, whether they may be
sent twice."""

from collections.abc import Mapping
from typing import Any, Final

OF_ADMIN: Final = (
    "renameCollection", "shardCollection", "moveRange", "moveChunk", "moveCollection",
    "refineCollectionShardKey", "reshardCollection", "unshardCollection",
)  # fmt: skip
"""Servers take them on database admin, with the whole name of the collection."""
MAJORITY: Final = {"w": "majority"}
TAKES_CONCERN: Final = frozenset(
    {
        "collMod", "convertToCapped", "create", "createIndexes", "createRole", "delete", "drop",
        "dropDatabase", "dropIndexes", "dropRole", "findAndModify", "grantPrivilegesToRole",
        "grantRolesToRole", "grantRolesToUser", "insert", "renameCollection",
        "revokePrivilegesFromRole", "revokeRolesFromRole", "revokeRolesFromUser", "update",
    }
)  # fmt: skip
"""Commands that wait for a majority when they are told to."""
REPEATABLE: Final = frozenset(
    {
        "addShardToZone", "balancerStart", "balancerStop", "collMod", "create", "createIndexes",
        "drop", "dropDatabase", "dropIndexes", "enableSharding", "grantRolesToUser",
        "grantRolesToRole", "grantPrivilegesToRole", "moveChunk", "moveRange", "profile",
        "refineCollectionShardKey", "removeShardFromZone", "renameCollection",
        "revokeRolesFromUser", "revokeRolesFromRole", "revokePrivilegesFromRole",
        "setDefaultRWConcern", "setFeatureCompatibilityVersion", "setParameter",
        "shardCollection", "updateZoneKeyRange", "validate",
    }
)  # fmt: skip
"""Commands that do no more the second time, or are refused then."""
SETTLED_OPERATORS: Final = frozenset(
    {"$set", "$unset", "$min", "$max", "$addToSet", "$pull", "$pullAll", "$setOnInsert"}
)
"""Of updates: the second time they find what they leave."""
ALREADY: Final[Mapping[str, tuple[int, ...]]] = {"drop": (26,), "dropIndexes": (26, 27)}
"""Codes of refusals that mean: it is so already."""


def name_of(command: Mapping[str, Any]) -> str:
    return next(iter(command))


def database_of(command: Mapping[str, Any], database: str) -> str:
    """Where it runs, of an operation on this database."""
    return "admin" if name_of(command) in OF_ADMIN else database


def as_sent(command: Mapping[str, Any]) -> dict[str, Any]:
    """With the acknowledgement of a majority, where it takes that and asks for no other."""
    if name_of(command) in TAKES_CONCERN and "writeConcern" not in command:
        return {**command, "writeConcern": MAJORITY}
    return dict(command)


def may_repeat(command: Mapping[str, Any]) -> bool:
    """Whether it may be sent again when nobody knows whether it was carried out."""
    name = name_of(command)
    if name == "update":
        return all(_is_settled(each) for each in command["updates"])
    if name == "delete":
        return all(not each.get("limit") or "_id" in each["q"] for each in command["deletes"])
    return name in REPEATABLE


def _is_settled(update: Mapping[str, Any]) -> bool:
    change = update["u"]
    if not isinstance(change, Mapping):  # a pipeline may count on what it finds
        return False
    operators = {name for name in change if name.startswith("$")}
    return operators <= SETTLED_OPERATORS


def shown(command: Mapping[str, Any], database: str) -> str:
    """In a few words: its name, and what it is about."""
    name = name_of(command)
    about = command[name]
    if name in OF_ADMIN:
        return f"{name} {about}" + (f" to {command['to']}" if "to" in command else "")
    return f"{name} {database}.{about}" if isinstance(about, str) else f"{name} on {database}"
