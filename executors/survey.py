"""What the source holds: its collections and views, what they are, how big they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import RAW
from executors.boundaries import to_text
from executors.errors import CannotMigrate
from executors.protocol import Stopped, StopToken
from statemachine.events import IndexSpec
from statemachine.stimuli import FoundUnit, Surveyed
from statemachine.words import UnitId

SERVERS_OWN: Final = ("admin", "local", "config")
"""Databases that belong to a deployment, not to its users."""
CARRIED_SYSTEM: Final = ("system.js",)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One entry of the catalogue."""

    database: str
    collection: str
    type: str
    uuid: str
    options: bytes
    """Raw BSON."""

    @property
    def name(self) -> str:
        return f"{self.database}.{self.collection}"


def selected(
    name: str, include: Sequence[str], exclude: Sequence[str], added: Sequence[str] = ()
) -> bool:
    """Globs over `db.collection`; exclude wins, no include means all. What was added later joins
    the include; only a whole name among it wins over exclude."""
    if any(is_literal(each) and name == each for each in added):
        return True
    if any(fnmatchcase(name, glob) for glob in exclude):
        return False
    return not include or any(fnmatchcase(name, glob) for glob in (*include, *added))


def is_literal(glob: str) -> bool:
    """Whether it can mean but one name."""
    return not set(glob) & set("*?[")


def catalogue(
    client: MongoClient[Any],
    include: Sequence[str],
    exclude: Sequence[str],
    added: Sequence[str] = (),
) -> list[Namespace]:
    """The selected collections and views, by name; the server's own are never among them."""
    return [
        namespace
        for database in databases(client, (*include, *added) if include else ())
        for namespace in namespaces(client, database)
        if selected(namespace.name, include, exclude, added)
    ]


def databases(client: MongoClient[Any], include: Sequence[str]) -> list[str]:
    """Those that plain patterns name, or all of them.

    Raises `OperationFailure` (13) where all are wanted and the user may not see all: a list of
    those that happen to be visible would leave the others out in silence.
    """
    named = {glob.partition(".")[0] for glob in include}
    if not named or any(set(name) & set("*?[") for name in named):
        reply = client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=False)
        named = {database["name"] for database in reply["databases"]}
    return sorted(named - set(SERVERS_OWN))


def namespaces(client: MongoClient[Any], database: str, **only: Any) -> Iterator[Namespace]:
    """The catalogue of one database, by name. `only` is a filter, such as `name="c"`."""
    found = sorted(_raw_catalogue(client, database, only), key=lambda entry: str(entry["name"]))
    for entry in found:
        name = str(entry["name"])
        if name.startswith("system.") and name not in CARRIED_SYSTEM:
            continue
        uuid = entry["info"].get("uuid")
        options = entry["options"]
        yield Namespace(
            database=database,
            collection=name,
            type=str(entry["type"]),
            uuid=bytes(uuid).hex() if uuid is not None else "",
            options=bytes(options.raw),
        )


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


def survey(
    client: MongoClient[Any],
    include: Sequence[str],
    exclude: Sequence[str],
    *,
    added: Sequence[str] = (),
    stop: StopToken | None = None,
) -> Surveyed:
    """Everything a job with this selection has to carry.

    Raises `CannotMigrate` for what this version would have to leave behind, `Stopped`.
    """
    units: list[FoundUnit] = []
    for entry in catalogue(client, include, exclude, added):
        if stop is not None and stop.is_set():
            raise Stopped
        units.append(_unit(client, entry))
    return Surveyed(tuple(units))


def _unit(client: MongoClient[Any], entry: Namespace) -> FoundUnit:
    refuse_unsupported(entry)
    view = entry.type == "view"
    documents, size = (0, 0) if view else measure(client, entry.database, entry.collection)
    return FoundUnit(
        unit=UnitId(entry.name),
        target=entry.name,
        type="view" if view else "collection",
        uuid=entry.uuid,
        options=to_text(entry.options),
        indexes=() if view else _indexes(client, entry),
        documents=documents,
        bytes=size,
    )


def refuse_unsupported(entry: Namespace) -> None:
    if entry.type not in ("collection", "view"):
        raise CannotMigrate(entry.name, f"a {entry.type} collection")


def measure(client: MongoClient[Any], database: str, collection: str) -> tuple[int, int]:
    """Documents and bytes as the server's own counters have them: an estimate."""
    stats = client.get_database(database).command(
        {
            "aggregate": collection,
            "pipeline": [{"$collStats": {"storageStats": {}}}],
            "cursor": {},
        }
    )["cursor"]["firstBatch"][0]["storageStats"]
    return int(stats["count"]), int(stats["size"])


def _indexes(client: MongoClient[Any], entry: Namespace) -> tuple[IndexSpec, ...]:
    """All but the `_id` index, which comes with the collection."""
    reply = client.get_database(entry.database).command(
        {"listIndexes": entry.collection, "cursor": {"batchSize": 1000}}, codec_options=RAW
    )
    found = []
    for index in reply["cursor"]["firstBatch"]:
        if index["name"] == "_id_" or index.get("clustered"):
            continue
        spec = IndexSpec(
            name=str(index["name"]),
            unique=bool(index.get("unique", False)),
            spec=to_text(bytes(index.raw)),
        )
        found.append(spec)
    return tuple(found)
