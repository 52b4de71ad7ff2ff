"""What a user has to be allowed for a job, and what is missing of it.

The least that suffices: to dump, the role `backup`, or `read` on the databases (with time-series
collections `readAnyDatabase`: their buckets are the server's own); to restore, `restore`, and
`read` to look at what was written (with roles `userAdminAnyDatabase`, to look at those). A
change stream takes `readAnyDatabase`, or `read` on the one database that a job carries. Changes
that are carried to a target take `readWrite` and `dbAdmin` there, those of a chain `readWrite` on
database `ferrylog` too, and of its time series `readWriteAnyDatabase`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pymongo.errors import OperationFailure

from executors.clients import Deployment
from executors.errors import NOBODY, NotAuthorised
from executors.increments.position import PLACE
from executors.increments.stream import watched
from executors.select import USERS, split
from executors.source import BUCKETS, data_of
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import restores_chain

Resource = tuple[str, str]
"""Database and collection; without a collection, the database's ordinary ones."""
READ: Final = ("find", "listCollections", "listIndexes", "collStats")
WRITE: Final = ("insert", "createCollection", "createIndex", "bypassDocumentValidation")
BUCKETED: Final = ("insert", "bypassDocumentValidation")
READ_BACK: Final = ("find", "listCollections")
LISTEN: Final = ("find", "changeStream")
CHANGE: Final = (
    "update", "remove", "dropCollection", "dropIndex", "collMod", "renameCollectionSameDB",
    "listIndexes",
)  # fmt: skip
"""What increments and changes that are followed do beside `WRITE`."""
RENAME: Final = ("renameCollectionSameDB",)
"""What is replaced is renamed; the role `restore` may not do that, only drop."""
MARK: Final = ("find", "insert", "update", "remove", "dropCollection")
"""Where the position of a chain is noted."""


class Needed(NamedTuple):
    """One namespace that a job carries."""

    source: str
    target: str
    type: str
    expires: bool = False
    """Expiry has to be switched on at the end, as far as that is known so early."""


Needs = dict[Resource, dict[str, None]]
"""Actions by where, each once."""


def of_source(carried: Iterable[Needed], spec: JobSpec) -> Needs:
    """The actions that reading takes."""
    needs: Needs = {}
    if spec.follow or spec.incremental:
        _add(needs, (watched(spec), ""), *LISTEN)
    for each in carried:
        database, collection = split(each.source)
        if each.source in USERS:
            _add(needs, (database, collection), "find")
            continue
        _add(needs, (database, ""), *READ)
        if each.type == "timeseries":
            _add(needs, data_of(each.source, each.type), "find", "collStats")
        elif collection.startswith("system."):
            _add(needs, (database, collection), "find")
    return needs


def of_target(carried: Iterable[Needed], spec: JobSpec) -> Needs:
    """The actions that the job takes on the target."""
    reading = spec.kind == "verify"
    writes: tuple[str, ...] = () if reading else WRITE
    writes += ("dropCollection",) if spec.drop else ()
    writes += RENAME if spec.undo and spec.drop else ()
    writes += ("update",) if spec.on_conflict == "overwrite" else ()
    chain = restores_chain(spec)
    writes += CHANGE if chain or spec.follow else ()
    needs: Needs = {}
    if chain:
        _add(needs, (split(PLACE)[0], ""), *MARK)
    for each in carried:
        database, _ = split(each.target)
        if each.source in USERS:
            _add(needs, split(each.source), "find")
            _add(needs, ("admin", ""), *WRITE, "dropCollection")
            _add(needs, ("", ""), "createUser", "createRole", "grantRole")
            continue
        _add(needs, (database, ""), *writes, *READ_BACK)
        if each.expires and not reading:
            _add(needs, (database, ""), "collMod")
        if each.type == "timeseries":
            buckets = data_of(each.target, each.type)
            _add(needs, buckets, *([] if reading else BUCKETED), "find")
            if chain:  # what came before a crash is replaced by the same
                _add(needs, buckets, "update")
    return needs


def _add(needs: Needs, where: Resource, *actions: str) -> None:
    needs.setdefault(where, {}).update(dict.fromkeys(actions))


def missing(deployment: Deployment, needs: Needs) -> Iterator[OperatorError]:
    """What the logged-in user may not do; without access control everybody may do all."""
    status = deployment.client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    if not status["authenticatedUsers"]:
        try:
            deployment.client.admin.command("listDatabases", nameOnly=True)
        except OperationFailure as error:
            yield refusal(deployment, error)
        return
    privileges = status["authenticatedUserPrivileges"]
    for (database, collection), actions in sorted(needs.items()):
        lacking = [each for each in actions if not _allowed(privileges, each, database, collection)]
        if lacking:
            where = f"collection {database}.{collection}" if collection else f"database {database}"
            where = where if database else "every database"
            yield NotAuthorised(
                deployment.role, deployment.where, f"{', '.join(lacking)} on {where}"
            )


def refusal(deployment: Deployment, error: OperationFailure) -> OperatorError:
    """What a server's refusal comes down to."""
    if "list all databases" in str(error):
        what = "listDatabases: some could be left out in silence; or name those wanted with --db"
        return NotAuthorised(deployment.role, deployment.where, what)
    said = str((error.details or {}).get("errmsg", error))[:200]
    if "requires authentication" in said:
        return NotAuthorised(deployment.role, deployment.where, NOBODY)
    return NotAuthorised(deployment.role, deployment.where, said)


def _allowed(
    privileges: Sequence[Mapping[str, Any]], action: str, database: str, collection: str
) -> bool:
    return any(
        action in privilege["actions"] and _covers(privilege["resource"], database, collection)
        for privilege in privileges
    )


def _covers(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    """Whether a privilege on this resource holds for a collection, or for all ordinary ones."""
    if resource.get("anyResource"):
        return True
    if "system_buckets" in resource:
        bucket = collection.removeprefix(BUCKETS)
        in_place = resource.get("db", "") in ("", database)
        return bucket != collection and in_place and resource["system_buckets"] in ("", bucket)
    return resource.get("db") in ("", database) and resource.get("collection") == collection
