"""Collections, views and indexes on the target, with the very options of the source."""

from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure, WriteConcernError

from executors.batches import TOLERANT
from executors.boundaries import from_text
from executors.classify import classify
from executors.compare import accepted, fields, is_index, wanted_index, wanted_options
from executors.errors import TargetDiffers, TargetNotEmpty
from executors.expiry import delayed, expires, switched_off
from executors.select import USERS, split
from executors.survey import ID_INDEX, Namespace, measured, namespaces, raw_indexes
from executors.users import stage
from statemachine.events import IndexSpec, JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Built, Created
from statemachine.words import Cause, TaskKey, index_task

__all__ = [
    "acknowledged", "build", "build_index", "concern", "create", "drop", "expires", "fields",
    "split",
]  # fmt: skip

NAMESPACE_EXISTS: Final = 48
NO_SUCH_NAMESPACE: Final = 26


def create(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Created:
    """Make the target collection or view, without expiry, and the unique indexes while it is empty.

    Unique indexes stand before the data so that a conflict shows with its document. One that
    cannot be built now is left for later, where its failure is named. Users and roles get a place
    beside those of the server. Raises `TargetNotEmpty`, `TargetDiffers`, `PyMongoError`.
    """
    if unit.id in USERS:
        stage(client, unit)
        return Created(())
    _make(client, unit, spec)
    if unit.type == "view":
        return Created(())
    built = [i.name for i in unit.indexes if i.name == ID_INDEX]
    built += [i.name for i in unit.indexes if i.unique and _try_build(client, unit, i, spec)]
    return Created(tuple(built), "".join(found.uuid for found in _there(client, unit)))


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


def _make(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> None:
    database, collection = split(unit.target)
    db = client.get_database(database)
    if spec.drop:
        drop(client, unit.target, spec)
    command = {"create": collection, **switched_off(wanted_options(unit))}
    for index in unit.indexes:
        if index.name == ID_INDEX:
            command["idIndex"] = wanted_index(index, legacy=False)
    try:
        acknowledged(db.command({**command, "writeConcern": concern(spec)}))
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        _accept_existing(client, unit, spec)


def _there(client: MongoClient[Any], unit: Unit) -> list[Namespace]:
    """What bears the unit's name on the target."""
    database, collection = split(unit.target)
    return list(namespaces(client, database, name=collection))


def _accept_existing(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> None:
    """What is there already is ours from before a crash, or empty, or to be merged into."""
    for found in _there(client, unit):
        if found.type != unit.type:
            raise TargetDiffers(unit.target, f"a {found.type}")
        if not accepted(wanted_options(unit), fields(found.options)):
            raise TargetDiffers(unit.target, "with other options")
        documents, _ = measured(client, found)
        if documents and spec.on_conflict == "stop":
            raise TargetNotEmpty(unit.target, documents)


def _try_build(client: MongoClient[Any], unit: Unit, index: IndexSpec, spec: JobSpec) -> bool:
    try:
        build(client, unit, index, spec)
    except OperationFailure as error:
        if classify(error)[0] is not Cause.PERMANENT:
            raise
        return False
    return True


def build_index(client: MongoClient[Any], unit: Unit, spec: JobSpec, task: TaskKey) -> Built:
    """Build the index that the task names, its expiry far away; one that stands already is fine."""
    for index in unit.indexes:
        if index_task(unit.id, index.name) == task:
            build(client, unit, index, spec)
            return Built()
    raise AssertionError(f"{task} names no index of {unit.id}")


def build(client: MongoClient[Any], unit: Unit, index: IndexSpec, spec: JobSpec) -> None:
    """The index on the unit's collection of the target, as `build_index`. Raises `PyMongoError`."""
    database, collection = split(unit.target)
    wanted = wanted_index(index, legacy=spec.legacy_indexes)
    if _stands(client, unit, wanted):
        return
    if "collation" not in wanted and "collation" in fields(from_text(unit.options)):
        wanted["collation"] = {"locale": "simple"}  # else it would inherit the collection's
    reply = client.get_database(database).command(
        {
            "createIndexes": collection,
            "indexes": [delayed(wanted)],
            "writeConcern": {"w": "majority"},
            "commitQuorum": "majority",
        },
        codec_options=TOLERANT,
    )
    acknowledged(reply)


def _stands(client: MongoClient[Any], unit: Unit, wanted: dict[str, Any]) -> bool:
    """Whether the very index is there, its expiry switched on: the server would take the one with
    a far expiry for another."""
    if delayed(wanted) == wanted:
        return False
    there = [fields(raw) for found in _there(client, unit) for raw in raw_indexes(client, found)]
    return any(is_index(wanted, each) for each in there)


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
