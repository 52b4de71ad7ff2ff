"""Collections, views and indexes on the target, with the very options of the source."""

from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW, TOLERANT
from executors.boundaries import from_text
from executors.commands import (
    NAMESPACE_EXISTS,
    NO_SUCH_NAMESPACE,
    acknowledged,
    concern,
    drop,
    holds_documents,
    is_refused,
    listed_indexes,
    there,
)
from executors.compare import accepted, fields, is_index, wanted_index, wanted_options
from executors.errors import TargetDiffers, TargetNotEmpty
from executors.expiry import delayed, expires, switched_off
from executors.select import USERS, split
from executors.survey import ID_INDEX, Namespace, measured, raw_indexes
from executors.undo.aside import CatalogueLog, catalogue_log, index_row, put_aside
from executors.users import stage
from statemachine.events import IndexSpec, JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Built, Created
from statemachine.words import Found, TaskKey, TaskKind, index_task

__all__ = [
    "NAMESPACE_EXISTS", "NO_SUCH_NAMESPACE", "acknowledged", "build", "build_index", "concern",
    "create", "drop", "expires", "fields", "split",
]  # fmt: skip


def create(
    client: MongoClient[Any], unit: Unit, spec: JobSpec, folder: Path | None = None
) -> Created:
    """Make the target collection or view, without expiry, and the unique indexes while it is empty.

    Unique indexes stand before the data so that a conflict shows with its document. One that
    cannot be built now is left for later, where its failure is named. Users and roles get a place
    beside those of the server. With the job's `folder`, if the job records what it does, all of
    it can be taken back, and what lay there is told. Raises `TargetNotEmpty`, `TargetDiffers`,
    `TooLargeToKeep`, `PyMongoError`, `OSError`.
    """
    if unit.id in USERS:
        stage(client, unit)
        return Created(())
    with catalogue_log(folder, spec, TaskKey(TaskKind.CREATE, unit.id)) as log:
        return create_in(client, unit, spec, log)


def create_in(
    client: MongoClient[Any], unit: Unit, spec: JobSpec, log: CatalogueLog | None
) -> Created:
    """As `create`, of what is no user; written down in this log."""
    lay = _make(client, unit, spec) if log is None else _make_undoably(client, unit, spec, log)
    if unit.type == "view":
        return Created((), found=lay)
    built = [i.name for i in unit.indexes if i.name == ID_INDEX]
    built += [i.name for i in unit.indexes if i.unique and _try_build(client, unit, i, spec, log)]
    found = there(client, unit.target)
    return Created(tuple(built), found.uuid if found is not None else "", lay)


def _make(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Found:
    if spec.drop:
        drop(client, unit.target, spec)
    if not _made(client, unit, spec):
        _accept_existing(client, unit, spec)
    return ""


def _make_undoably(client: MongoClient[Any], unit: Unit, spec: JobSpec, log: CatalogueLog) -> Found:
    found = there(client, unit.target)
    if found is not None and _is_made(client, found, log):
        _accept_existing(client, unit, spec)
        log.note({**_row(unit), "uuid": found.uuid})
        return "nothing"
    if found is not None and spec.drop:
        put_aside(client, found, spec, log)
        found = None
    if found is not None:
        return _accept_existing(client, unit, spec)
    log.note(_row(unit))
    try:
        made = _made(client, unit, spec)
    except OperationFailure as error:
        if is_refused(error):
            log.note({"k": "unmade", "ns": unit.target})
        raise
    if not made:  # somebody was faster
        log.note({"k": "unmade", "ns": unit.target})
        return _accept_existing(client, unit, spec)
    found = there(client, unit.target)
    log.note({**_row(unit), "uuid": found.uuid if found is not None else ""})
    return "nothing"


def _is_made(client: MongoClient[Any], found: Namespace, log: CatalogueLog) -> bool:
    """Whether an earlier attempt made it. One that died before it knew the UUID left it empty: what
    holds documents then is somebody else's, who was faster."""
    if not log.says_made(found):
        return False
    known = any(row["k"] == "made" and row.get("uuid") == found.uuid for row in log.told)
    if known or not holds_documents(client, found):
        return True
    log.note({"k": "unmade", "ns": found.name})
    return False


def _row(unit: Unit) -> dict[str, Any]:
    options = RawBSONDocument(bson.encode(wanted_options(unit), codec_options=RAW))
    return {"k": "made", "ns": unit.target, "type": unit.type, "options": options}


def _made(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> bool:
    """Make it; `False` where something has the name."""
    database, collection = split(unit.target)
    command = {"create": collection, **switched_off(wanted_options(unit))}
    for index in unit.indexes:
        if index.name == ID_INDEX:
            command["idIndex"] = wanted_index(index, legacy=False)
    db = client.get_database(database)
    try:
        acknowledged(db.command({**command, "writeConcern": concern(spec)}))
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        return False
    return True


def _accept_existing(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Found:
    """What is there already is ours from before a crash, or empty, or to be merged into."""
    found = there(client, unit.target)
    if found is None:
        return "nothing"
    if found.type != unit.type:
        raise TargetDiffers(unit.target, f"a {found.type}")
    if not accepted(wanted_options(unit), fields(found.options)):
        raise TargetDiffers(unit.target, "with other options")
    documents, _ = measured(client, found)
    if documents and spec.on_conflict == "stop":
        raise TargetNotEmpty(unit.target, documents)
    return "documents" if holds_documents(client, found) else "empty"


def _try_build(
    client: MongoClient[Any],
    unit: Unit,
    index: IndexSpec,
    spec: JobSpec,
    log: CatalogueLog | None,
) -> bool:
    try:
        build(client, unit, index, spec, log)
    except OperationFailure as error:
        if not is_refused(error):
            raise
        return False
    return True


def build_index(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    task: TaskKey,
    folder: Path | None = None,
) -> Built:
    """Build the index that the task names, its expiry far away; one that stands already is fine.
    With the job's `folder`, one that nobody had can be taken back."""
    for index in unit.indexes:
        if index_task(unit.id, index.name) == task:
            with catalogue_log(folder, spec, task) as log:
                build(client, unit, index, spec, log)
            return Built()
    raise AssertionError(f"{task} names no index of {unit.id}")


def build(
    client: MongoClient[Any],
    unit: Unit,
    index: IndexSpec,
    spec: JobSpec,
    log: CatalogueLog | None = None,
) -> None:
    """The index on the unit's collection of the target, as `build_index`. Raises `PyMongoError`."""
    database, collection = split(unit.target)
    wanted = wanted_index(index, legacy=spec.legacy_indexes)
    if _stands(client, unit, wanted):
        return
    if "collation" not in wanted and "collation" in fields(from_text(unit.options)):
        wanted["collation"] = {"locale": "simple"}  # else it would inherit the collection's
    found = there(client, unit.target) if log is not None else None
    if (
        log is not None
        and found is not None
        and wanted["name"] not in listed_indexes(client, found)
    ):
        log.note(index_row(found, wanted))
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
    found = there(client, unit.target)
    stand = raw_indexes(client, found) if found is not None else []
    return any(is_index(wanted, fields(each)) for each in stand)
