"""A change of a collection, a view or an index, as a change stream tells it, made on a target too.

What has become so already is left as it is, so the same event may come again, right after itself.
Expiry sleeps on the target until the end (`executors.expiry`): that it changes is not carried over
here; whoever wakes it knows what it is by then.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW, TOLERANT
from executors.compare import GONE_INDEX_FIELDS, GONE_OPTIONS, accepted, fields, is_index
from executors.dumps.model import NeverStops
from executors.errors import TargetDiffers
from executors.expiry import delayed, switched_off
from executors.increments.ahead import Ahead
from executors.increments.errors import CannotCarry, UnknownChange
from executors.metadata import NAMESPACE_EXISTS, NO_SUCH_NAMESPACE, acknowledged, concern
from executors.protocol import StopToken
from executors.select import NEVER, USERS, BadRename, carried, renamed, split
from executors.source import BUCKETS
from executors.survey import NEWEST, Namespace, namespaces, raw_indexes
from executors.undo.aside import index_row, put_aside
from statemachine.events import JobSpec

OF_DOCUMENTS: Final = frozenset({"insert", "update", "replace", "delete"})
"""Kinds of events that change documents: all others are for `apply_ddl`."""
OF_CLUSTERS: Final = ("shardCollection", "refineCollectionShardKey", "reshardCollection")
"""How a cluster spreads what it holds: a replica set has no counterpart, and misses nothing."""
NO_SUCH_INDEX: Final = 27
NEVER_STOPS: Final = NeverStops()


@dataclass(frozen=True, slots=True)
class _Change:
    client: MongoClient[Any]
    spec: JobSpec
    source: str
    target: str
    told: dict[str, Any]
    """The event's `operationDescription`."""
    stop: StopToken
    ahead: Ahead | None = None

    def run(self, command: dict[str, Any], allowed: tuple[int, ...] = ()) -> dict[str, Any]:
        """In the target's database, acknowledged as the job asks for."""
        db = self.client.get_database(split(self.target)[0])
        whole = {**command, "writeConcern": concern(self.spec)}
        return acknowledged(
            db.command(whole, codec_options=TOLERANT, allowable_errors=list(allowed))
        )

    @property
    def collection(self) -> str:
        return split(self.target)[1]

    def there(self) -> Namespace:
        """What bears the name on the target. Raises `TargetDiffers`."""
        if found := _found(self.client, self.target):
            return found
        raise TargetDiffers(self.target, "or should have: it is gone")


def apply_ddl(
    client: MongoClient[Any],
    event: bytes,
    spec: JobSpec,
    stop: StopToken = NEVER_STOPS,
    ahead: Ahead | None = None,
) -> str:
    """Make the change that a raw event tells; returns in words what was done, nothing where
    nothing had to be: it is so already, or is not selected. `ahead` takes what brings back how it
    was.

    `client` should be patient: an index is built. Raises `TargetDiffers` where the target is not
    as the source was, `CannotCarry` for time series (nothing is told of their documents and
    options) and for renames into or out of what is selected, `UnknownChange`, `PyMongoError`.
    """
    event_fields = fields(event)
    kind, ns = str(event_fields["operationType"]), event_fields["ns"]
    if kind == "dropDatabase":
        return _drop_database(client, str(ns["db"]), spec, stop, ahead)
    source = named(ns)
    told = fields(bytes(event_fields.get("operationDescription", NOTHING).raw))
    change = _Change(client, spec, source, renamed(source, spec.renames), told, stop, ahead)
    if kind == "rename":
        return _rename(change, named(event_fields["to"]))
    if not is_carried(source, spec):
        return ""
    if kind in OF_CLUSTERS:
        return f"{source}: {kind} has no counterpart on a replica set"
    if kind not in _BY_KIND:
        raise UnknownChange(kind, source)
    return _BY_KIND[kind](change)


NOTHING: Final = RawBSONDocument(bytes((5, 0, 0, 0, 0)))


def named(ns: Mapping[str, Any]) -> str:
    """The namespace that an event speaks of."""
    return f"{ns['db']}.{ns['coll']}"


def is_carried(namespace: str, spec: JobSpec) -> bool:
    """Whether the job follows changes of it; users and roles are in no change stream."""
    return namespace not in USERS and carried(namespace, spec)


def is_timeseries(told: Mapping[str, Any]) -> bool:
    """Whether this describes the view through which servers show a time series."""
    return str(told.get("viewOn", "")).startswith(BUCKETS)


def _found(client: MongoClient[Any], namespace: str) -> Namespace | None:
    database, collection = split(namespace)
    return next(iter(namespaces(client, database, name=collection)), None)


def _refuse_timeseries(change: _Change) -> None:
    if is_timeseries(change.told):
        raise CannotCarry(
            change.source,
            "it is a time series, of whose documents, indexes and options change streams do not "
            "tell",
        )


def _create(change: _Change) -> str:
    _refuse_timeseries(change)
    # A temporary collection (of $out) is renamed before long; a restart would remove it.
    left_out = (*GONE_OPTIONS, "idIndex", "temp")
    wanted = {name: value for name, value in change.told.items() if name not in left_out}
    command = {"create": change.collection, **switched_off(wanted)}
    if "idIndex" in change.told and change.told["idIndex"]["v"] != NEWEST:
        command["idIndex"] = change.told["idIndex"]
    found, ahead = _found(change.client, change.target), change.ahead
    before = ahead is not None and found is not None and ahead.says_made(found)
    row = _made_row(change, wanted)
    if ahead is not None and found is None:
        ahead.note(row)
    made = _made(change, command)
    if not made:
        _accept_existing(change, wanted)
    if ahead is not None and (made or before):
        ahead.note({**row, "uuid": change.there().uuid})
    elif ahead is not None and found is None:  # somebody was faster
        ahead.note({"k": "unmade", "ns": change.target})
    return f"{change.target} created" if made else ""


def _made(change: _Change, command: dict[str, Any]) -> bool:
    """Make it; `False` where something has the name."""
    try:
        change.run(command)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        return False
    return True


def _made_row(change: _Change, wanted: Mapping[str, Any]) -> dict[str, Any]:
    options = RawBSONDocument(bson.encode(dict(wanted), codec_options=RAW))
    kind = "view" if "viewOn" in wanted else "collection"
    return {"k": "made", "ns": change.target, "type": kind, "options": options}


def _accept_existing(change: _Change, wanted: dict[str, Any]) -> None:
    found, kind = change.there(), "view" if "viewOn" in wanted else "collection"
    if found.type != kind:
        raise TargetDiffers(change.target, f"a {found.type}")
    if not accepted(wanted, fields(found.options)):
        raise TargetDiffers(change.target, "with other options")


def _create_indexes(change: _Change) -> str:
    there = change.there()
    stand = [fields(raw) for raw in raw_indexes(change.client, there)]
    collated = "collation" in fields(there.options)
    wanted = [_wanted(each, collated) for each in change.told["indexes"]]
    missing = [
        delayed(index)
        for index in wanted
        if not any(is_index(index, each) or is_index(delayed(index), each) for each in stand)
    ]
    if not missing:
        return ""
    names = {each["name"] for each in stand}
    if change.ahead is not None:
        new = [index for index in missing if index["name"] not in names]
        change.ahead.note(*(index_row(there, index) for index in new))
    command = {"createIndexes": change.collection, "indexes": missing}
    change.run({**command, "commitQuorum": "majority"})
    return f"{change.target}: {_indexes(missing)} built"


def _wanted(told: RawBSONDocument, collated: bool) -> dict[str, Any]:
    """Without a word an index would inherit the collation of its collection."""
    index = {name: value for name, value in told.items() if name not in GONE_INDEX_FIELDS}
    return {"collation": {"locale": "simple"}, **index} if collated else index


def _drop_indexes(change: _Change) -> str:
    dropped = []
    for index in change.told["indexes"]:
        _note_index(change, index["name"], None)
        command = {"dropIndexes": change.collection, "index": index["name"]}
        reply = change.run(command, (NO_SUCH_INDEX, NO_SUCH_NAMESPACE))
        dropped += [index] if reply["ok"] else []
    return f"{change.target}: {_indexes(dropped)} dropped" if dropped else ""


def _note_index(change: _Change, name: str, becomes: Mapping[str, Any] | None) -> None:
    """What an index is, if it is there, before that changes; `None`: it goes."""
    found = _found(change.client, change.target)
    if change.ahead is None or found is None or found.type == "view":
        return
    for stands in map(fields, raw_indexes(change.client, found)):
        if stands["name"] == name:
            ours = {**stands, **becomes} if becomes is not None else None
            change.ahead.index(found, stands, ours)


def _indexes(indexes: list[Any]) -> str:
    names = ", ".join(str(index["name"]) for index in indexes)
    return f"index {names}" if len(indexes) == 1 else f"indexes {names}"


def _modify(change: _Change) -> str:
    _refuse_timeseries(change)
    wanted = switched_off(change.told)
    if "index" in wanted:
        wanted["index"] = delayed(wanted["index"])
    if not wanted:
        return ""
    there = change.there()
    options = {name: value for name, value in wanted.items() if name != "index"}
    if change.ahead is not None and options:
        change.ahead.options(there, options)
    if "index" in wanted:
        _note_index(change, wanted["index"]["name"], wanted["index"])
    change.run({"collMod": change.collection, **wanted})
    what = f"index {wanted['index']['name']}" if "index" in wanted else ", ".join(wanted)
    return f"{change.target}: {what} changed"


def _rename(change: _Change, becomes: str) -> str:
    ours, spec = is_carried(change.source, change.spec), change.spec
    if ours != is_carried(becomes, spec):
        way = "out of" if ours else "into"
        raise CannotCarry(change.source, f"it was renamed to {becomes}, {way} what is selected")
    target = renamed(becomes, spec.renames)
    if not ours or target == change.target:
        return ""
    _note_rename(change, target)
    command = {"renameCollection": change.target, "to": target, "writeConcern": concern(spec)}
    try:
        reply = change.client.admin.command(
            {**command, "dropTarget": "dropTarget" in change.told}, codec_options=TOLERANT
        )
    except OperationFailure as error:
        if error.code == NAMESPACE_EXISTS:
            raise TargetDiffers(target, f"so {change.target} cannot be renamed to it") from None
        if error.code != NO_SUCH_NAMESPACE or _found(change.client, target) is None:
            raise
        return ""
    acknowledged(reply)
    return f"{change.target} renamed to {target}"


def _note_rename(change: _Change, target: str) -> None:
    """Whoever has the other name, and is to be dropped, is put aside."""
    ours, other = (_found(change.client, name) for name in (change.target, target))
    if change.ahead is None or ours is None:
        return
    if other is not None and "dropTarget" in change.told:
        put_aside(change.client, other, change.spec, change.ahead)
    change.ahead.renamed(ours, target)


def _drop(change: _Change) -> str:
    found = _found(change.client, change.target) if change.ahead is not None else None
    if change.ahead is not None and found is not None:
        if not change.collection.startswith("system."):
            put_aside(change.client, found, change.spec, change.ahead)
            return f"{change.target} dropped"
        change.ahead.emptied(change.client, found, change.stop)
    if change.collection.startswith("system."):  # servers let only its documents go
        change.run({"delete": change.collection, "deletes": [{"q": {}, "limit": 0}]})
        return f"{change.target} emptied"
    reply = change.run({"drop": change.collection}, (NO_SUCH_NAMESPACE,))
    return f"{change.target} dropped" if reply["ok"] else ""


_BY_KIND: Final[dict[str, Callable[[_Change], str]]] = {
    "create": _create,
    "createIndexes": _create_indexes,
    "dropIndexes": _drop_indexes,
    "modify": _modify,
    "drop": _drop,
}


def _drop_database(
    client: MongoClient[Any],
    database: str,
    spec: JobSpec,
    stop: StopToken,
    ahead: Ahead | None,
) -> str:
    """Its collections have gone by events of their own; its views go without a word."""
    dropped = []
    for target in list(_views_of(client, database, spec)):
        _drop(_Change(client, spec, target, target, {}, stop, ahead))
        dropped.append(target)
    return f"{', '.join(dropped)} dropped with {database}" if dropped else ""


def _views_of(client: MongoClient[Any], database: str, spec: JobSpec) -> Iterator[str]:
    """On the target: the views and time series that the job has from a database of the source."""
    places = [database] if not spec.renames else client.list_database_names()
    for place in (each for each in places if each not in (*NEVER, "admin")):
        for found in namespaces(client, place):
            if found.type != "collection" and _is_from(found.name, database, spec):
                yield found.name


def _is_from(target: str, database: str, spec: JobSpec) -> bool:
    """Whether something in that database of the source is called so on the target."""
    return any(
        renamed(source, spec.renames) == target
        for source in _may_be(target, spec)
        if split(source)[0] == database and is_carried(source, spec)
    )


def _may_be(target: str, spec: JobSpec) -> Iterator[str]:
    """What the source may call it: each pair of the renames, the other way round."""
    yield target
    for source, becomes in spec.renames:
        try:
            yield renamed(target, ((becomes, source),))
        except BadRename:
            continue
