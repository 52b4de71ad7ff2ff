"""What an operation does to the catalogue: written down first, and so that it can be taken back.

The rows of its log, beside those of documents (`recording`):

    {k: "made", ns, type, options, uuid?}  nothing bore the name; what we make. With its UUID, once
                                           it stands: without one the process died in between
    {k: "unmade", ns}                      we did not, after all: somebody else was faster
    {k: "kept", ns, as, uuid}              what bore the name bears this other one
    {k: "renamed", ns, as, uuid}           what we made bears this other name
    {k: "saved", ns, uuid, options, indexes, file}
                                           a time series, whose buckets lie in this file: servers do
                                           not rename one
    {k: "command", db, undo, ok, said, if?}
                                           the inverse of what is done; codes by which a server says
                                           that nothing is left to undo; words for what it does; and
                                           how it must stand there, or others changed it since
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.chunkfile import sync_directory
from executors.commands import NAMESPACE_EXISTS, drop, listed_indexes, rename, there
from executors.compare import fields
from executors.dumps.model import NeverStops
from executors.errors import OtherCollection
from executors.rows import rows as found_rows
from executors.select import KEPT, STAGING, USERS, split
from executors.source import data_of
from executors.survey import Namespace, measured
from executors.undo.log import UndoLog, rows, undo_path
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import TaskKey

Row = Mapping[str, Any]
KINDS: Final = ("made", "unmade", "kept", "renamed", "saved", "command")
SAVED_BYTES: Final = 1 << 30
"""Of the buckets of a time series that is replaced: more would be no matter of seconds."""
RACES: Final = 5
"""Times that somebody else may take a name that was free a moment ago."""
GONE: Final = (26, 27)
"""Codes: no such collection, no such index."""


class TooLargeToKeep(OperatorError):
    """Nothing was changed yet."""

    code = "EUNDO001"

    def __init__(self, namespace: str, size: int) -> None:
        super().__init__(
            f"{namespace} is a time series of about {size} bytes: no server renames one, and a "
            f"copy for the undo may have {SAVED_BYTES}",
            remedy="drop it by hand if nobody needs it, or run with --no-undo",
        )


class CatalogueLog(UndoLog):
    """The log of an operation on the catalogue, which knows what its earlier attempts wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._there = path
        self.told: list[Row] = [fields(bytes(row.raw)) for row in rows(path) if row["k"] in KINDS]

    def note(self, *new: Row) -> None:
        """They are durable when this returns. Raises `OSError`."""
        for row in new:
            self.add(row)
            self.told.append(row)
        self.sync()

    def says_made(self, found: Namespace) -> bool:
        """Whether it is what an earlier attempt made: between its row and the next one nobody
        else could take the name but in that very moment."""
        told = [row for row in self.told if row.get("ns") == found.name]
        about = [row for row in told if row["k"] in ("made", "unmade")]
        before = [row["uuid"] for row in told if row["k"] in ("kept", "saved")]
        if not about or about[-1]["k"] == "unmade" or (found.uuid and found.uuid in before):
            return False
        return about[-1].get("uuid", "") in ("", found.uuid)

    def other_name(self, found: Namespace) -> str:
        """In the same database, for this one collection, put aside by this job."""
        job = self._there.parents[2].name
        return f"{found.database}.{KEPT}{_hash(job, found.name, found.uuid)}"

    def beside(self, uuid: str) -> Path:
        """For what does not fit into a row."""
        return self._there.with_suffix(f".{uuid}.saved")


@contextmanager
def catalogue_log(
    folder: Path | None, spec: JobSpec, task: TaskKey
) -> Iterator[CatalogueLog | None]:
    """The log of an operation; none where the job records nothing."""
    if folder is None or not spec.undo:
        yield None
        return
    with CatalogueLog(undo_path(folder, task)) as log:
        log.make()
        yield log


def _hash(*parts: str) -> str:
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


# --- rows ---


def inverse(database: str, undo: Row, said: str, *, ok: tuple[int, ...] = GONE, **so: Any) -> Row:
    """The row of a command that undoes; `so`: how it must stand there."""
    row = {"k": "command", "db": database, "undo": undo, "ok": list(ok), "said": said}
    return {**row, "if": so} if so else row


def index_row(found: Namespace, asked: Row) -> Row:
    """Of an index that is built where none has its name."""
    name = asked["name"]
    undo = {"dropIndexes": found.collection, "index": name}
    said = f"dropped index {name} of {found.name}"
    return inverse(found.database, undo, said, ns=found.name, uuid=found.uuid, index=asked)


def view_row(found: Namespace) -> Row:
    """Of a view that is dropped."""
    options = RawBSONDocument(found.options)
    undo = {"create": found.collection, **fields(found.options)}
    said = f"made view {found.name} again"
    return inverse(found.database, undo, said, ok=(), ns=found.name, view=options)


# --- acts ---


def put_aside(
    client: MongoClient[Any], found: Namespace, spec: JobSpec, log: CatalogueLog | None
) -> None:
    """Its name is free when this returns. What bore it can be brought back if there is a log.

    What others write to a time series between its copy and its end goes with it. Raises
    `TooLargeToKeep`, `PyMongoError`, `OSError`.
    """
    if log is None:
        drop(client, found.name, spec)
    elif found.type == "view":
        log.note(view_row(found))
        drop(client, found.name, spec)
    elif found.type == "timeseries":
        _save(client, found, log)
        drop(client, found.name, spec)
    else:
        aside = log.other_name(found)
        log.note({"k": "kept", "ns": found.name, "as": aside, "uuid": found.uuid})
        rename(client, found.name, aside, spec)


def _save(client: MongoClient[Any], found: Namespace, log: CatalogueLog) -> None:
    _, size = measured(client, found)
    if size > SAVED_BYTES:
        raise TooLargeToKeep(found.name, size)
    path = log.beside(found.uuid)
    row = {
        "k": "saved",
        "ns": found.name,
        "uuid": found.uuid,
        "options": RawBSONDocument(found.options),
        "indexes": list(listed_indexes(client, found).values()),
        "file": path.name,
    }
    log.note(row)  # which makes the folder; undone while it stands, it does nothing
    _copy(client, found, path)


def _copy(client: MongoClient[Any], found: Namespace, path: Path) -> None:
    database, collection = data_of(found.name, found.type)
    command = {"find": collection, "hint": {"$natural": 1}}
    being = path.with_suffix(".tmp")
    with being.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        for each in found_rows(client, database, command, NeverStops()):
            file.write(each)
        file.flush()
        os.fsync(file.fileno())
    being.replace(path)
    sync_directory(path.parent)


# --- names between ---


def staged(unit: Unit, spec: JobSpec) -> Unit:
    """The unit as it is while it is filled: with `--swap` under a name between.

    Views, time series and `system.js` are made in their place: the first hold no documents, and no
    server renames the second.
    """
    database, collection = split(unit.target)
    if not spec.swap or unit.type != "collection" or unit.id in USERS:
        return unit
    if collection.startswith("system."):
        return unit
    return replace(unit, target=f"{database}.{STAGING}{_hash(spec.swap, unit.target)}")


def take_name(
    client: MongoClient[Any], unit: Unit, spec: JobSpec, log: CatalogueLog | None
) -> None:
    """What was filled under a name between takes its own; what bore that is put aside. Again, it
    does nothing.

    Between the two nothing has the name: no server changes both at once. Raises
    `OtherCollection`, `TooLargeToKeep`, `PyMongoError`, `OSError`.
    """
    between = staged(unit, spec).target
    for _ in range(RACES):
        found = there(client, unit.target)
        if between == unit.target or (found is not None and found.uuid == unit.target_uuid):
            return
        ours = there(client, between)
        if ours is None or ours.uuid != unit.target_uuid:
            uuid = ours.uuid if ours is not None else ""
            raise OtherCollection("target", between, unit.target_uuid, uuid)
        if found is not None:
            put_aside(client, found, spec, log)
        if log is not None:
            log.note({"k": "renamed", "ns": between, "as": unit.target, "uuid": ours.uuid})
        try:
            rename(client, between, unit.target, spec)
            return
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:  # somebody wrote there in between: that, too
                raise
    raise OtherCollection("target", unit.target, unit.target_uuid, "always a new one")
