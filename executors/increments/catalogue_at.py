"""What collections, views and indexes were at a time between two links: those of the link before
it, and what the log tells of them since. Whoever wakes expiry behind a replay, or compares what
stands on the target then, knows it from here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import bson

from executors.batches import RAW
from executors.boundaries import from_text
from executors.compare import fields
from executors.dumps.manifest import file_blocks
from executors.dumps.model import Dumped, Part
from executors.increments.ddl import NOTHING, OF_CLUSTERS, OF_DOCUMENTS, is_timeseries, named
from executors.increments.errors import CannotCarry, UnknownChange
from executors.increments.logfile import time_of
from executors.increments.model import position_of
from executors.protocol import StopToken
from executors.rawbson import documents, elements
from executors.select import split
from executors.survey import index_spec
from statemachine.events import IndexSpec

NO_OPTIONS: Final = ("idIndex", "temp")
"""What an event tells of a new collection beside its options."""
OTHERWISE_CALLED: Final = {"cappedSize": "size", "cappedMax": "max"}
"""Options under the names by which they are changed."""
TRUE_OR_NOTHING: Final = ("hidden", "prepareUnique")
"""Fields of an index that are there only when they are true."""


def catalogue_at(
    before: Iterable[Dumped], folder: Path, log: Sequence[Part], until: str, stop: StopToken
) -> tuple[Dumped, ...]:
    """Of the source at the cluster time `until`, by name, without parts: `before` with the changes
    that the log of the next link, whose folder it is, tells up to then. Expiry is as it was there.

    Raises `CannotCarry` for time series that are made or changed, `UnknownChange`, `DamagedDump`,
    `Stopped`.
    """
    there = {_key(each): replace(each, parts=(), documents=0, bytes=0) for each in before}
    for event in _changes(folder, log, until, stop):
        _tell(there, event)
    return tuple(sorted(there.values(), key=lambda each: each.namespace))


def _key(each: Dumped) -> str:
    """A view has no UUID, and of a time series events tell none."""
    return each.uuid if each.type == "collection" else each.namespace


def _changes(
    folder: Path, log: Sequence[Part], until: str, stop: StopToken
) -> Iterator[dict[str, Any]]:
    """The events that do not change documents."""
    end = position_of(until)
    for part in log:
        for block, _ in file_blocks(folder, part, stop):
            for event in documents(block.data):
                if time_of(event) > end:
                    return
                if _kind(event) not in OF_DOCUMENTS:
                    yield fields(event)


def _kind(event: bytes) -> str:
    """Most are of documents: those are not decoded."""
    for _, name, begin, end in elements(event):
        if name == b"operationType":
            return event[begin + 4 : end - 1].decode()
    raise ValueError("an event without operationType")


def _tell(there: dict[str, Dumped], event: Mapping[str, Any]) -> None:
    kind = str(event["operationType"])
    told = fields(bytes(event.get("operationDescription", NOTHING).raw))
    if kind == "dropDatabase":
        database = str(event["ns"]["db"])
        for key in [key for key, each in there.items() if split(each.namespace)[0] == database]:
            del there[key]
        return
    namespace = named(event["ns"])
    key = bytes(event["collectionUUID"]).hex() if "collectionUUID" in event else namespace
    if kind in ("create", "modify") and is_timeseries(told):
        raise CannotCarry(namespace, "it is a time series, of which change streams tell too little")
    if kind == "create":
        there[key] = _created(namespace, key, told)
    elif kind == "drop":
        there.pop(key, None)
    elif kind == "rename":
        if "dropTarget" in told:
            there.pop(bytes(told["dropTarget"]).hex(), None)
        there[key] = replace(there[key], namespace=named(event["to"]))
    elif kind in _BY_KIND:
        there[key] = _BY_KIND[kind](there[key], told)
    elif kind not in OF_CLUSTERS:
        raise UnknownChange(kind, namespace)


def _created(namespace: str, key: str, told: Mapping[str, Any]) -> Dumped:
    options = {name: value for name, value in told.items() if name not in NO_OPTIONS}
    if "viewOn" in options:
        return Dumped(namespace, "view", _raw(options), ())
    return Dumped(namespace, "collection", _raw(options), (), uuid=key)


def _with_indexes(each: Dumped, told: Mapping[str, Any]) -> Dumped:
    new = tuple(index_spec(bytes(index.raw)) for index in told["indexes"])
    return replace(each, indexes=(*_without(each, new), *new))


def _without_indexes(each: Dumped, told: Mapping[str, Any]) -> Dumped:
    gone = tuple(index_spec(bytes(index.raw)) for index in told["indexes"])
    return replace(each, indexes=_without(each, gone))


def _without(each: Dumped, indexes: Iterable[IndexSpec]) -> tuple[IndexSpec, ...]:
    names = {index.name for index in indexes}
    return tuple(index for index in each.indexes if index.name not in names)


def _modified(each: Dumped, told: Mapping[str, Any]) -> Dumped:
    options = fields(each.options)
    for name, value in told.items():
        if name != "index":
            options[OTHERWISE_CALLED.get(name, name)] = value
    options = {name: value for name, value in options.items() if not _is_off(name, value)}
    indexes = each.indexes
    if (change := told.get("index")) is not None:
        indexes = tuple(
            _modified_index(index, change) if index.name == change["name"] else index
            for index in indexes
        )
    return replace(each, options=_raw(options), indexes=indexes)


def _is_off(name: str, value: Any) -> bool:
    """Whether servers forget the option when it is changed to this."""
    match name:
        case "expireAfterSeconds":
            return bool(value == "off")
        case "changeStreamPreAndPostImages":
            return not value["enabled"]
        case "validator":
            return len(value) == 0
    return False


def _modified_index(index: IndexSpec, change: Mapping[str, Any]) -> IndexSpec:
    changed = {**fields(from_text(index.spec)), **change}
    if change.get("unique"):
        changed.pop("prepareUnique", None)
    for name in TRUE_OR_NOTHING:
        if not changed.get(name):
            changed.pop(name, None)
    return index_spec(_raw(changed))


def _raw(document: Mapping[str, Any]) -> bytes:
    return bson.encode(document, codec_options=RAW)


_BY_KIND: Final[dict[str, Callable[[Dumped, Mapping[str, Any]], Dumped]]] = {
    "createIndexes": _with_indexes,
    "dropIndexes": _without_indexes,
    "modify": _modified,
}
