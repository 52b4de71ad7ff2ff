"""Whether something is so: a command that only reads, and what of its reply is expected.

A predicate is `{"database", "command", "expect"}`. `expect` names fields of the reply, inner ones
with dots (`cursor.firstBatch.0.name`), and what they are to be: a document fits when each of its
fields does, an array when each of its places does, `{"$exists": false}` what is not there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.classify import classify
from statemachine.words import Cause

READS: Final = frozenset(
    {
        "aggregate", "buildInfo", "collStats", "connectionStatus", "count", "dbHash", "dbStats",
        "distinct", "find", "getCmdLineOpts", "getDefaultRWConcern", "getParameter", "hello",
        "listCollections", "listDatabases", "listIndexes", "listShards", "ping", "replSetGetConfig",
        "replSetGetStatus", "rolesInfo", "serverStatus", "usersInfo",
    }
)  # fmt: skip
"""Commands that a predicate may send."""
WRITING_STAGES: Final = ("$out", "$merge")
_ABSENT: Final = object()


def holds(client: MongoClient[Any], predicate: Mapping[str, Any]) -> bool:
    """What a server refuses is a reply too: its `code` may be expected. Raises `PyMongoError`."""
    try:
        reply = client.get_database(predicate["database"]).command(dict(predicate["command"]))
    except OperationFailure as error:
        if classify(error)[0] is not Cause.PERMANENT:
            raise
        reply = dict(error.details or {})
    return fits(predicate["expect"], reply)


def fits(expected: Mapping[str, Any], reply: Any) -> bool:
    """Whether each of these paths leads to what is expected there."""
    return all(_fits(value, _at(reply, path)) for path, value in expected.items())


def _at(found: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, Sequence) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return _ABSENT
    return found


def _fits(expected: Any, found: Any) -> bool:
    if isinstance(expected, Mapping):
        if expected.keys() == {"$exists"}:
            return bool(expected["$exists"]) == (found is not _ABSENT)
        return isinstance(found, Mapping) and all(
            _fits(value, found.get(name, _ABSENT)) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(map(_fits, expected, found))
        )
    return bool(expected == found)
