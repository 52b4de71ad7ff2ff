"""What the source holds: its collections and views, what they are, how big they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW, UNKNOWN_FIELD
from executors.boundaries import to_text
from executors.errors import CannotMigrate, NoSnapshot, NotExported, QueryOfBuckets
from executors.expiry import expires
from executors.protocol import Stopped, StopToken
from executors.select import (
    NEVER,
    USERS,
    carried,
    is_literal,
    is_servers,
    name_of,
    query_of,
    refuse_servers_own,
    renamed,
    selected,
    split,
    targets_of,
)
from executors.source import BUCKETS, data_of
from statemachine.events import IndexSpec, JobSpec
from statemachine.stimuli import FoundUnit, Surveyed
from statemachine.words import UnitId, UnitType

__all__ = ["Namespace", "catalogue", "is_literal", "measure", "namespaces", "selected", "survey"]

INTERNAL: Final = ("system.profile", "system.views")
"""Of every database: the server makes them anew from what is carried, or writes a log there."""
KINDS: Final = ("collection", "view", "timeseries")
ID_INDEX: Final = "_id_"
LOOKS: Final = 10
"""At the catalogue of a source that is to be followed, until it stands still for one."""
NEWEST: Final = 2
"""Version of indexes that servers make unasked."""
EMPTY: Final = bytes((5, 0, 0, 0, 0))
"""No options."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One entry of the catalogue."""

    database: str
    collection: str
    type: str
    uuid: str
    """Of the collection with its documents: of a time-series collection, its buckets. A view has
    none."""
    options: bytes
    """Raw BSON."""

    @property
    def name(self) -> str:
        return f"{self.database}.{self.collection}"


def survey(
    client: MongoClient[Any],
    spec: JobSpec,
    *,
    added: Sequence[str] = (),
    stop: StopToken | None = None,
) -> Surveyed:
    """Everything a job with this spec has to carry, and what it leaves where it is.

    Raises `CannotMigrate`, `NoSnapshot`, `NotExported`, `QueryOfBuckets` for what would have to be
    left behind without being told to, `OperatorError` for a selection or renames that cannot be,
    `PyMongoError`, `Stopped`.
    """
    notes: list[str] = []
    before = _beginning(client, spec, added)
    found = catalogue(client, spec, added=added, notes=notes)
    targets = targets_of([entry.name for entry in found], spec)
    units: list[FoundUnit] = []
    for entry in found:
        if stop is not None and stop.is_set():
            raise Stopped
        refuse_unsupported(entry, spec)
        units.append(_unit(client, entry, targets[entry.name]))
        notes += _dangling(entry, targets[entry.name], spec)
        if spec.kind == "export" and entry.type == "view":
            notes.append(f"{entry.name} is a view and is not exported")
    since = _now(client) if spec.consistency == "snapshot" else ""
    stays = not spec.users and spec.kind != "export"  # whose readers have no users
    users, roles = _left_behind(client, notes) if stays else (0, 0)
    return Surveyed(tuple(units), since, users, roles, tuple(notes), since=before)


def _beginning(client: MongoClient[Any], spec: JobSpec, added: Sequence[str]) -> str:
    """A cluster time from which all changes are those after what is looked at next. Where they are
    to be followed no name may have moved since: the stream would tell of it once more."""
    for _ in range(LOOKS if spec.follow else 0):
        names = {entry.name: entry.uuid for entry in catalogue(client, spec, added=added)}
        since = _now(client)
        if names == {e.name: e.uuid for e in catalogue(client, spec, added=added)}:
            return since
    return _now(client)


def catalogue(
    client: MongoClient[Any],
    spec: JobSpec,
    *,
    added: Sequence[str] = (),
    notes: list[str] | None = None,
) -> list[Namespace]:
    """What the job carries, by name; what else was selected and is not carried goes into `notes`.

    Raises `ServersOwn`, `PyMongoError`.
    """
    refuse_servers_own(spec.include)
    found: list[Namespace] = []
    for database in databases(client, spec, added):
        entries = _entries(client, database)
        found += [each for each in _paired(database, entries) if carried(each.name, spec, added)]
        if notes is not None:
            notes += _not_carried(database, entries, spec, added)
    return found


def databases(client: MongoClient[Any], spec: JobSpec, added: Sequence[str] = ()) -> list[str]:
    """Those that plain patterns name, or all of them.

    Raises `OperationFailure` (13) where all are wanted and the user may not see all: a list of
    those that happen to be visible would leave the others out in silence.
    """
    named = {split(glob)[0] for glob in (*spec.include, *added)} if spec.include else set()
    if not named or not all(map(is_literal, named)):
        reply = client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=False)
        named = {database["name"] for database in reply["databases"]}
    whole = {split(glob)[0] for glob in spec.exclude if glob == f"{split(glob)[0]}.*"}
    named -= whole - {split(glob)[0] for glob in added}
    return sorted((named | ({"admin"} if spec.users else set())) - set(NEVER))


def namespaces(client: MongoClient[Any], database: str, *, name: str = "") -> Iterator[Namespace]:
    """The catalogue of one database, by name, without what is the server's own; or the one entry
    of a name."""
    only = {"name": {"$in": [name, BUCKETS + name]}} if name else {}
    for entry in _paired(database, _entries(client, database, only)):
        if not name or entry.collection == name:
            yield entry


def _paired(database: str, entries: list[RawBSONDocument]) -> Iterator[Namespace]:
    """Without the server's own; a time-series collection with the UUID of its buckets."""
    uuids = {str(entry["name"]): _uuid(entry) for entry in entries}
    for entry in entries:
        name = str(entry["name"])
        if is_servers(name) and f"{database}.{name}" not in USERS:
            continue
        yield Namespace(
            database=database,
            collection=name,
            type=str(entry["type"]),
            uuid=uuids.get(BUCKETS + name, "") if entry["type"] == "timeseries" else uuids[name],
            options=bytes(entry["options"].raw),
        )


def _uuid(entry: RawBSONDocument) -> str:
    uuid = entry["info"].get("uuid")
    return bytes(uuid).hex() if uuid is not None else ""


def _not_carried(
    database: str, entries: list[RawBSONDocument], spec: JobSpec, added: Sequence[str]
) -> Iterator[str]:
    """What of a database is neither carried nor the server's own affair."""
    names = {str(entry["name"]) for entry in entries}
    for name in sorted(names):
        if not is_servers(name) or name in INTERNAL or database == "admin":
            continue
        if not selected(f"{database}.{name}", spec.include, spec.exclude, added):
            continue
        if not name.startswith(BUCKETS):
            yield f"{database}.{name} is not carried: servers keep that name to themselves"
        elif name.removeprefix(BUCKETS) not in names:
            yield f"{database}.{name} is not carried: buckets whose time-series collection is gone"


def _entries(
    client: MongoClient[Any], database: str, only: dict[str, Any] | None = None
) -> list[RawBSONDocument]:
    """What `listCollections` says, by name."""
    return sorted(_raw_catalogue(client, database, only or {}), key=lambda each: str(each["name"]))


def _raw_catalogue(
    client: MongoClient[Any], database: str, only: dict[str, Any]
) -> Iterator[RawBSONDocument]:
    db = client.get_database(database)
    reply = db.command({"listCollections": 1, "filter": only}, codec_options=RAW)
    while True:
        cursor = reply["cursor"]
        yield from cursor.get("firstBatch") or cursor.get("nextBatch") or []
        if not cursor["id"]:
            return
        more = {"getMore": bson.Int64(cursor["id"]), "collection": "$cmd.listCollections"}
        reply = db.command(more, codec_options=RAW)


def _unit(client: MongoClient[Any], entry: Namespace, target: str) -> FoundUnit:
    documents, size = measured(client, entry)
    raw, options = described(client, entry)
    indexes = tuple(map(index_spec, raw))
    return FoundUnit(
        unit=UnitId(entry.name),
        target=target,
        type=cast("UnitType", entry.type),
        uuid=entry.uuid,
        options=to_text(options),
        indexes=indexes,
        documents=documents,
        bytes=size,
        expires=expires(options, indexes) or entry.name in USERS,
    )


def refuse_unsupported(entry: Namespace, spec: JobSpec) -> None:
    """Raises `CannotMigrate`, `NoSnapshot`, `NotExported`, `QueryOfBuckets`."""
    if entry.type not in KINDS:
        raise CannotMigrate(entry.name, f"a {entry.type} collection")
    if entry.type == "timeseries" and not entry.uuid:
        raise CannotMigrate(entry.name, "a time-series collection without a collection of buckets")
    buckets = entry.type == "timeseries" and spec.kind != "export"
    if buckets and query_of(entry.name, spec.queries) is not None:
        raise QueryOfBuckets(entry.name)
    if spec.kind == "export" and entry.type == "view":
        _refuse_named(entry, spec)
    if spec.consistency == "snapshot" and bson.decode(entry.options, RAW).get("capped"):
        raise NoSnapshot(entry.name)


def _refuse_named(entry: Namespace, spec: JobSpec) -> None:
    """A view that nobody named by its name is left out with a note. Raises `NotExported`."""
    if any(name_of(glob) == entry.name for glob in spec.include):
        raise NotExported(entry.name)


def described(client: MongoClient[Any], entry: Namespace) -> tuple[list[bytes], bytes]:
    """The indexes and options that belong to what is carried. Those of users and roles belong to
    the server."""
    if entry.name in USERS:
        return [], EMPTY
    return raw_indexes(client, entry) if entry.type != "view" else [], entry.options


def measured(client: MongoClient[Any], entry: Namespace) -> tuple[int, int]:
    """Documents and bytes, by the server's counters; of a view nothing."""
    return (0, 0) if entry.type == "view" else measure(client, *data_of(entry.name, entry.type))


def measure(client: MongoClient[Any], database: str, collection: str) -> tuple[int, int]:
    """Documents and bytes as the server's own counters have them: an estimate."""
    stats = client.get_database(database).command(
        {
            "aggregate": collection,
            "pipeline": [{"$collStats": {"storageStats": {}}}],
            "cursor": {},
        }
    )["cursor"]["firstBatch"][0]["storageStats"]
    documents = stats["count"] if "count" in stats else stats["timeseries"]["bucketCount"]
    return int(documents), int(stats["size"])


def raw_indexes(client: MongoClient[Any], entry: Namespace) -> list[bytes]:
    """All but the `_id` index, which comes with the collection; it is among them only if it is
    not as servers make it."""
    return [
        bytes(index.raw)
        for index in _listed_indexes(client, entry)
        if not index.get("clustered") and not (index["name"] == ID_INDEX and index["v"] == NEWEST)
    ]


def _listed_indexes(client: MongoClient[Any], entry: Namespace) -> list[RawBSONDocument]:
    """Those that stand: a build that is under way may be given up yet, and nobody tells."""
    db = client.get_database(entry.database)
    asked = {"listIndexes": entry.collection, "cursor": {"batchSize": 1000}}
    try:
        reply = db.command({**asked, "includeBuildUUIDs": True}, codec_options=RAW)
    except OperationFailure as error:
        if error.code not in UNKNOWN_FIELD:  # of an old server, which lists builds like the rest
            raise
        reply = db.command(asked, codec_options=RAW)
    return [index for index in reply["cursor"]["firstBatch"] if "buildUUID" not in index]


def index_spec(raw: bytes) -> IndexSpec:
    index = bson.decode(raw, RAW)
    return IndexSpec(
        name=str(index["name"]), unique=bool(index.get("unique", False)), spec=to_text(raw)
    )


# --- beside the units ---


def _dangling(entry: Namespace, target: str, spec: JobSpec) -> Iterator[str]:
    """A view is carried as it is: what it reads is looked for under the old name."""
    if entry.type != "view" or not spec.renames:
        return
    on = str(bson.decode(entry.options, RAW)["viewOn"])
    becomes = renamed(f"{entry.database}.{on}", spec.renames)
    reads = f"{split(target)[0]}.{on}"
    if becomes != reads:
        yield (
            f"view {target} reads {reads}, as {entry.name} does of its database: a view is not "
            f"rewritten, and {entry.database}.{on} becomes {becomes}"
        )


def _now(client: MongoClient[Any]) -> str:
    """A time at which all that was seen until now exists; empty of a server without such times."""
    time = client.admin.command("ping").get("operationTime")
    return f"{time.time}.{time.inc}" if time is not None else ""


def _left_behind(client: MongoClient[Any], notes: list[str]) -> tuple[int, int]:
    """How many users and roles the source has."""
    try:
        users, roles = (_count(client, *split(each)) for each in USERS)
    except OperationFailure as error:
        if error.code != 13:  # not authorised
            raise
        notes.append("users and roles are not carried; how many there are may not be seen")
        return 0, 0
    return users, roles


def _count(client: MongoClient[Any], database: str, collection: str) -> int:
    counted: list[dict[str, int]] = client.get_database(database).command(
        {"aggregate": collection, "pipeline": [{"$count": "n"}], "cursor": {}}
    )["cursor"]["firstBatch"]
    return counted[0]["n"] if counted else 0
