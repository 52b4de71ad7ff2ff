"""What commands that change a target have in common."""

from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure, WriteConcernError

from executors.batches import RAW
from executors.classify import classify
from executors.select import split
from executors.source import data_of
from executors.survey import Namespace, namespaces
from statemachine.events import JobSpec
from statemachine.words import Cause

NAMESPACE_EXISTS: Final = 48
NO_SUCH_NAMESPACE: Final = 26


def acknowledged(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply of a command that writes, if it is acknowledged as asked for.

    Raises `WriteConcernError`, which `command` does not: applied, perhaps not where a failover
    looks.
    """
    if problem := reply.get("writeConcernError"):
        raise WriteConcernError(problem.get("errmsg", ""), problem.get("code"), problem)
    return reply


def concern(spec: JobSpec) -> dict[str, Any]:
    w = spec.write_concern
    return {"w": int(w) if w.isdigit() else w}


def drop(client: MongoClient[Any], namespace: str, spec: JobSpec) -> None:
    """Remove what lies there, if anything does; of `system.js` servers let only documents go.

    Raises `PyMongoError`.
    """
    database, collection = split(namespace)
    if collection.startswith("system."):
        what: dict[str, Any] = {"delete": collection, "deletes": [{"q": {}, "limit": 0}]}
    else:
        what = {"drop": collection}
    command = {**what, "writeConcern": concern(spec)}
    db = client.get_database(database)
    acknowledged(db.command(command, allowable_errors=[NO_SUCH_NAMESPACE]))


def rename(client: MongoClient[Any], one: str, to: str, spec: JobSpec) -> None:
    """Within its database. Raises `PyMongoError`: code 26 where there is none, 48 where another
    has the name."""
    command = {"renameCollection": one, "to": to, "writeConcern": concern(spec)}
    acknowledged(client.admin.command(command))


def there(client: MongoClient[Any], namespace: str) -> Namespace | None:
    """What bears the name."""
    database, collection = split(namespace)
    return next(namespaces(client, database, name=collection), None)


def holds_documents(client: MongoClient[Any], found: Namespace) -> bool:
    """To the one document, where the server's own counters may be wrong; a view holds none."""
    if found.type == "view":
        return False
    database, collection = data_of(found.name, found.type)
    asked = {"find": collection, "limit": 1, "projection": {"_id": 1}}
    reply = client.get_database(database).command(asked, codec_options=RAW)
    return bool(list(reply["cursor"]["firstBatch"]))


def listed_indexes(client: MongoClient[Any], found: Namespace) -> dict[str, RawBSONDocument]:
    """By name, those that are being built among them: they may yet come to stand."""
    if found.type == "view":
        return {}
    asked = {"listIndexes": found.collection, "cursor": {"batchSize": 1000}}
    reply = client.get_database(found.database).command(asked, codec_options=RAW)
    return {str(each["name"]): each for each in reply["cursor"]["firstBatch"]}


def is_refused(error: OperationFailure) -> bool:
    """Whether the server did not do it and never will."""
    return classify(error)[0] is Cause.PERMANENT
