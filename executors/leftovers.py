"""Ferrylog's own collections on a target: which lie there, which a job's undo logs name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from executors.commands import NO_SUCH_NAMESPACE, acknowledged
from executors.folder import UNDO
from executors.select import KEPT, NEVER, STAGING, split
from executors.survey import Namespace
from executors.undo.aside import CatalogueLog, staged
from executors.undo.catalogue import NAMING
from executors.undo.log import rows, undo_path
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import TaskKey, TaskKind

MAJORITY: Final = {"w": "majority"}


class CannotLook(OperatorError):
    """A target does not tell what lies there, or does not let it be removed."""

    code = "ECLEAN001"

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what}: {why}",
            remedy="a user with `listDatabases`, `listCollections`, `collStats` and "
            "`dropCollection` may: grant readWriteAnyDatabase and clusterMonitor",
        )


@dataclass(frozen=True, slots=True)
class Leftover:
    """A collection with one of ferrylog's own names."""

    namespace: str
    kind: Literal["staging", "kept"]
    uuid: str
    bytes: int
    """On disk, with its indexes."""


def leftovers(client: MongoClient[Any]) -> Iterator[Leftover]:
    """All of a deployment, by name. Raises `CannotLook`."""
    try:
        reply = client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=False)
        for database in sorted({str(each["name"]) for each in reply["databases"]} - set(NEVER)):
            own = {"$or": [{"name": {"$regex": f"^{_quoted(each)}"}} for each in (STAGING, KEPT)]}
            found = client[database].list_collections(filter=own)
            for entry in sorted(found, key=lambda each: str(each["name"])):
                name, uuid = str(entry["name"]), entry["info"].get("uuid")
                yield Leftover(
                    f"{database}.{name}",
                    "staging" if name.startswith(STAGING) else "kept",
                    bytes(uuid).hex() if uuid is not None else "",
                    _bytes(client, database, name),
                )
    except PyMongoError as error:
        raise CannotLook("ferrylog's collections cannot be listed", str(error)[:200]) from None


def drop(client: MongoClient[Any], namespace: str) -> None:
    """Remove one of them; that it is gone already is no error. Raises `CannotLook`."""
    database, collection = split(namespace)
    if not collection.startswith((STAGING, KEPT)):
        raise ValueError(f"{namespace} is not ferrylog's")
    try:
        acknowledged(client[database].command({"drop": collection, "writeConcern": MAJORITY}))
    except OperationFailure as error:
        if error.code != NO_SUCH_NAMESPACE:
            raise CannotLook(f"{namespace} cannot be dropped", str(error)[:200]) from None
    except PyMongoError as error:
        raise CannotLook(f"{namespace} cannot be dropped", str(error)[:200]) from None


def named_in_logs(folder: Path) -> frozenset[str]:
    """Collections that the undo logs in a job's folder name. Raises `OSError`."""
    found: set[str] = set()
    for kind in NAMING:
        for path in sorted((folder / UNDO / kind).glob("*.bson")):
            for row in rows(path):
                found |= {str(row[name]) for name in ("ns", "as") if name in row}
    return frozenset(found)


def would_name(job: str, spec: JobSpec, unit: Unit, found: Leftover) -> bool:
    """Whether the job calls a collection so: one that fills its unit, or one that bore the unit's
    name before."""
    if found.kind == "staging":
        return staged(unit, spec).target == found.namespace
    database, collection = split(unit.target)
    before = Namespace(database, collection, "collection", found.uuid, b"")
    log = CatalogueLog(undo_path(Path(job), TaskKey(TaskKind.CREATE, unit.id)))
    return log.other_name(before) == found.namespace


def _bytes(client: MongoClient[Any], database: str, collection: str) -> int:
    stats: list[dict[str, Any]] = [{"$collStats": {"storageStats": {}}}]
    try:
        found = client[database][collection].aggregate(stats)
        each = next(iter(found))["storageStats"]
    except (PyMongoError, StopIteration):
        return 0
    return int(each.get("storageSize", 0)) + int(each.get("totalIndexSize", 0))


def _quoted(name: str) -> str:
    return name.replace(".", r"\.")
