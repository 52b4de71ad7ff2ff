"""Collections, views and indexes on the target, with the very options of the source."""

from typing import Any, Final

import bson
from pymongo import MongoClient
from pymongo.errors import OperationFailure, WriteConcernError

from executors.batches import RAW, TOLERANT
from executors.boundaries import from_text
from executors.classify import classify
from executors.errors import TargetDiffers, TargetNotEmpty
from executors.survey import measure, namespaces
from statemachine.events import IndexSpec, JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Built, Created
from statemachine.words import (
    Cause,
    TaskKey,
    index_task,
)

NAMESPACE_EXISTS: Final = 48
GONE_OPTIONS: Final = ("autoIndexId",)
"""Options that old servers kept and new ones refuse."""
GONE_INDEX_FIELDS: Final = ("ns", "background")


def split(namespace: str) -> tuple[str, str]:
    """`db.collection` in its parts; a collection's name may hold dots, a database's not."""
    database, _, collection = namespace.partition(".")
    return database, collection


def create(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Created:
    """Make the target collection or view, and the unique indexes while it is empty.

    Unique indexes stand before the data so that a conflict shows with its document. One that
    cannot be built now is left for later, where its failure is named. Raises `TargetNotEmpty`,
    `TargetDiffers`, `PyMongoError`.
    """
    database, collection = split(unit.target)
    db = client.get_database(database)
    if spec.drop:
        acknowledged(
            db.command({"drop": collection, "writeConcern": concern(spec)}, allowable_errors=[26])
        )
    options = fields(from_text(unit.options))
    command = {"create": collection, **{k: options[k] for k in options if k not in GONE_OPTIONS}}
    try:
        acknowledged(db.command({**command, "writeConcern": concern(spec)}))
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        _accept_existing(client, unit, spec)
    if unit.type == "view":
        return Created(())
    built = tuple(i.name for i in unit.indexes if i.unique and _try_build(client, unit, i))
    uuids = [found.uuid for found in namespaces(client, database, name=collection)]
    return Created(built, uuids[0] if uuids else "")


def _accept_existing(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> None:
    """What is there already is ours from before a crash, or empty, or to be merged into."""
    database, collection = split(unit.target)
    for found in namespaces(client, database, name=collection):
        if (found.type == "view") != (unit.type == "view"):
            raise TargetDiffers(unit.target, f"a {found.type}")
        ours, theirs = fields(from_text(unit.options)), fields(found.options)
        if {k: v for k, v in ours.items() if k not in GONE_OPTIONS} != theirs:
            raise TargetDiffers(unit.target, "with other options")
    if unit.type == "collection" and spec.on_conflict == "stop":
        documents, _ = measure(client, database, collection)
        if documents:
            raise TargetNotEmpty(unit.target, documents)


def _try_build(client: MongoClient[Any], unit: Unit, index: IndexSpec) -> bool:
    try:
        _build(client, unit, index)
    except OperationFailure as error:
        if classify(error)[0] is not Cause.PERMANENT:
            raise
        return False
    return True


def build_index(client: MongoClient[Any], unit: Unit, task: TaskKey) -> Built:
    """Build the index that the task names; one that stands already is fine."""
    for index in unit.indexes:
        if index_task(unit.id, index.name) == task:
            _build(client, unit, index)
            return Built()
    raise AssertionError(f"{task} names no index of {unit.id}")


def _build(client: MongoClient[Any], unit: Unit, index: IndexSpec) -> None:
    database, collection = split(unit.target)
    spec = fields(from_text(index.spec))
    wanted = {name: value for name, value in spec.items() if name not in GONE_INDEX_FIELDS}
    if "collation" not in wanted and "collation" in fields(from_text(unit.options)):
        wanted["collation"] = {"locale": "simple"}  # else it would inherit the collection's
    reply = client.get_database(database).command(
        {
            "createIndexes": collection,
            "indexes": [wanted],
            "writeConcern": {"w": "majority"},
            "commitQuorum": "majority",
        },
        codec_options=TOLERANT,
    )
    acknowledged(reply)


def acknowledged(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply of a command that writes, if it is acknowledged as asked for.

    Raises `WriteConcernError`, which `command` does not: applied, perhaps not where a failover
    looks.
    """
    if problem := reply.get("writeConcernError"):
        raise WriteConcernError(problem.get("errmsg", ""), problem.get("code"), problem)
    return reply


def fields(raw: bytes) -> dict[str, Any]:
    """The top-level fields in order; documents inside stay raw."""
    return dict(bson.decode(raw, codec_options=RAW).items())


def concern(spec: JobSpec) -> dict[str, Any]:
    w = spec.write_concern
    return {"w": int(w) if w.isdigit() else w}
