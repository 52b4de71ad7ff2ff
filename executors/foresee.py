"""What of a unit will not arrive as it was asked for, or may not: seen by reading alone.

Only commands that read are sent, each look bounded in time. What cannot be looked at is said,
never guessed. Nothing here is proof: source and target live on between a dry run and a job.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import isnan
from typing import Any, Final, NamedTuple

import bson
import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.son import SON
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from executors.boundaries import from_text
from executors.classify import classify
from executors.compare import GONE_OPTIONS, fields
from executors.conflicts import MAX_INDEXES
from executors.dumps.model import NeverStops
from executors.rows import rows
from executors.select import USERS, split
from executors.source import data_of
from executors.survey import ID_INDEX, Namespace, measured, namespaces, raw_indexes
from executors.undo.aside import staged
from statemachine.events import JobSpec
from statemachine.state import Unit

LOOK_S: Final = 3.0
"""For one look: a dry run of a hundred collections is to take minutes at worst."""
MAX_COUNTED: Final = 100_000
"""Expired documents that are counted; more are `more than`."""
SAMPLED: Final = 1000
"""Documents whose size is asked for."""
LONGEST_TTL_S: Final = 2**31 - 1
UNAUTHORISED: Final = 13
_ORDERED: Final[CodecOptions[Any]] = CodecOptions(
    document_class=SON,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
)


Conflict = tuple[str, str]
"""Code and why."""


def foresee(
    source: MongoClient[Any] | None, target: MongoClient[Any], unit: Unit, spec: JobSpec
) -> tuple[Conflict, ...]:
    """Every conflict that can be seen from here; without a source, those of a dump.

    Raises `PyMongoError` when a side is out of reach; what it refuses or is too slow to answer
    becomes a conflict.
    """
    if unit.id in USERS:
        return ()  # merged, and described by the server itself
    case = _Case(source, target, unit, spec)
    found: list[Conflict] = []
    unseen: dict[str, list[str]] = {}
    for what, look in LOOKS if source is not None else OF_A_DUMP:
        try:
            with pymongo.timeout(LOOK_S):
                found += look(case)
        except PyMongoError as error:
            if not error.timeout and getattr(error, "code", None) != UNAUTHORISED:
                raise
            unseen.setdefault(_refusal(error), []).append(what)
    found += [("EPLAN016", f"{', '.join(whats)}: {why}") for why, whats in unseen.items()]
    return tuple(found)


def free_bytes(client: MongoClient[Any]) -> int | None:
    """On the disk of the deployment's data; `None` when it does not say."""
    try:
        with pymongo.timeout(LOOK_S):
            stats = client.admin.command("dbStats")
    except PyMongoError:
        return None
    total = int(stats.get("fsTotalSize", 0))
    return total - int(stats["fsUsedSize"]) if total else None


def _refusal(error: PyMongoError) -> str:
    if error.timeout:
        return f"no answer in {LOOK_S:g} s"
    return classify(error)[2].partition(" to execute command")[0][:200]


@dataclass(frozen=True)
class _Case:
    """One unit between its two sides; each side is asked once for what several looks need."""

    there: MongoClient[Any] | None
    """The source; none for a dump."""
    target: MongoClient[Any]
    unit: Unit
    spec: JobSpec

    @property
    def source(self) -> MongoClient[Any]:
        assert self.there is not None
        return self.there

    @cached_property
    def found(self) -> Namespace | None:
        """What bears the name on the target."""
        database, collection = split(self.unit.target)
        return next(namespaces(self.target, database, name=collection), None)

    @cached_property
    def kept(self) -> Namespace | None:
        """The same, if it is still there when the documents come, and is what it should be."""
        found = None if self.spec.drop or self.apart else self.found
        return found if found is not None and found.type == self.unit.type else None

    @property
    def apart(self) -> bool:
        """Whether the unit is filled under a name between."""
        return staged(self.unit, self.spec).target != self.unit.target

    @cached_property
    def documents(self) -> int:
        """That the target holds: an estimate."""
        return measured(self.target, self.found)[0] if self.found is not None else 0

    @cached_property
    def ours(self) -> list["_Index"]:
        found = [_index(from_text(each.spec)) for each in self.unit.indexes]
        return [each for each in found if each.name != ID_INDEX]

    @cached_property
    def theirs(self) -> list["_Index"]:
        """The indexes that stay on the target, without the one over `_id`."""
        if self.kept is None or self.unit.type == "view":
            return []
        found = map(_index, raw_indexes(self.target, self.kept))
        return [each for each in found if each.name != ID_INDEX]


class _Index(NamedTuple):
    """An index, comparable."""

    name: str
    fields: Mapping[str, Any]
    """What a server compares beside the name; what is not set is not there."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a server allows only once in a collection, under whichever name."""
        return {name: self.fields.get(name) for name in IDENTITY}

    @property
    def unique(self) -> bool:
        return bool(self.fields.get("unique"))


IDENTITY: Final = (
    "key", "collation", "partialFilterExpression", "unique", "sparse", "wildcardProjection",
)  # fmt: skip


def _index(raw: bytes) -> _Index:
    spec = dict(bson.decode(raw, codec_options=_ORDERED))
    gone = ("name", "v", "hidden", "ns", "background")
    kept = {k: v for k, v in spec.items() if k not in gone and v is not False}
    if kept.get("collation", {}).get("locale") == "simple":
        del kept["collation"]
    return _Index(str(spec["name"]), kept)


# --- the looks ---


def _presence(case: _Case) -> Iterator[Conflict]:
    """Whether anything lies there, and what becomes of it."""
    found, spec, held = case.found, case.spec, f"about {case.documents} documents"
    if found is None:
        return
    if spec.drop or case.apart:
        holds = "" if found.type == "view" else held
        yield "EPLAN003", f"the {found.type} there {_replaced(case, holds)}"
    elif found.type != case.unit.type:
        yield "EPLAN004", f"a {case.unit.type} on the source, a {found.type} on the target"
    elif not case.documents:
        return
    elif spec.on_conflict == "stop":
        yield "EPLAN001", f"the target holds {held}"
    elif spec.on_conflict == "skip":
        yield "EPLAN002", f"the target holds {held}; they win over those of the source"
    else:
        yield "EPLAN003", f"the target holds {held}; those under an _id of the source are replaced"


def _replaced(case: _Case, held: str) -> str:
    """What becomes of what is there and not merged into."""
    what = f"with {held}" if held else "which holds no documents"
    when = " when the other one is whole" if case.apart else ""
    kept = "; it is kept for a rollback until the job is committed" if case.spec.undo else ""
    return f"is dropped, {what}{when}{kept}"


def _options(case: _Case) -> Iterator[Conflict]:
    """By the measure of `metadata.create`: all options, to the byte."""
    if case.kept is None:
        return
    ours, theirs = fields(from_text(case.unit.options)), fields(case.kept.options)
    names = sorted((ours.keys() | theirs.keys()) - set(GONE_OPTIONS))
    if differing := [name for name in names if ours.get(name) != theirs.get(name)]:
        yield "EPLAN005", f"they differ in {', '.join(differing)}"
    if theirs.get("validator"):
        yield (
            "EPLAN007",
            "documents are carried past the validator of the target, as they are: one that breaks "
            "it arrives, and a later update of it may be refused",
        )
    if theirs.get("capped") and case.documents:
        room = f"{theirs.get('size', '?')} bytes"
        yield "EPLAN006", f"it holds {room} and {case.documents} documents already"


def _database(case: _Case) -> Iterator[Conflict]:
    wanted, _ = split(case.unit.target)
    reply = case.target.admin.command("listDatabases", nameOnly=True)
    for name in (str(each["name"]) for each in reply["databases"]):
        if name != wanted and name.lower() == wanted.lower():
            yield "EPLAN014", f"the target has {name}, this would be {wanted}"


def _unique(case: _Case) -> Iterator[Conflict]:
    """Unique indexes that the documents of the source never had to obey."""
    known = [index.identity for index in case.ours]
    there = [index.identity for index in case.theirs]
    for index in case.theirs:
        if index.unique and index.identity not in known:
            yield (
                "EPLAN008",
                f"index {index.name} of the target: no unique index of the source is like it",
            )
    for index in case.ours:
        if case.kept is not None and case.documents and index.unique:
            made = "stands" if index.identity in there else "is built"
            yield (
                "EPLAN009",
                f"index {index.name} {made} over about {case.documents} documents of the target "
                "and those to come",
            )


def _in_the_way(case: _Case) -> Iterator[Conflict]:
    """Indexes of the target that keep one of the source from being built."""
    for index in case.ours:
        for there in case.theirs:
            if index.fields == there.fields and index.name == there.name:
                continue
            if index.name == there.name:
                yield "EPLAN010", f"index {index.name} is another one on the target"
            elif index.identity == there.identity:
                yield "EPLAN010", f"index {index.name} is called {there.name} on the target"


def _too_many(case: _Case) -> Iterator[Conflict]:
    names = {index.name for index in (*case.ours, *case.theirs)}
    if len(names) + 1 > MAX_INDEXES:
        yield "EPLAN011", f"{len(names) + 1} indexes in all, with the one over _id"


def _expiring(case: _Case) -> Iterator[Conflict]:
    ours = {index.name: index for index in case.ours if _ttl_s(index) is not None}
    theirs = {i.name: i for i in case.theirs if _ttl_s(i) is not None and i.name not in ours}
    for index in (*ours.values(), *theirs.values()):
        where = "source and, when it is built, target" if index.name in ours else "target only"
        yield "EPLAN012", f"index {index.name} ({where}): {_expired(case, index)}"


def _ttl_s(index: _Index) -> float | None:
    """Seconds after which a document expires; what is no number counts as 0, as on the server."""
    seconds = index.fields.get("expireAfterSeconds")
    if seconds is None:
        return None
    return 0.0 if isnan(seconds) else min(max(float(seconds), 0.0), LONGEST_TTL_S)


def _expired(case: _Case, index: _Index) -> str:
    """How many documents of the source the index would delete now, by the source's clock."""
    now = case.source.admin.command("hello")["localTime"]
    field = next(iter(index.fields["key"]))
    query = {field: {"$lt": now - timedelta(seconds=_ttl_s(index) or 0)}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"$and": [query, index.fields.get("partialFilterExpression", {})]}},
        {"$limit": MAX_COUNTED + 1},
        {"$count": "documents"},
    ]
    through = {"hint": index.name} if index in case.ours else {}
    try:
        with pymongo.timeout(LOOK_S / 2):
            counted = _aggregate(case, pipeline, **through)
    except PyMongoError as error:
        if not error.timeout:
            raise
        return "how many expired already could not be counted in time"
    number = int(counted[0]["documents"]) if counted else 0
    shown = f"more than {MAX_COUNTED}" if number > MAX_COUNTED else str(number)
    return f"{shown} documents of the source have expired already"


def _oversize(case: _Case) -> Iterator[Conflict]:
    """Only a target that takes less than the source can meet one."""
    takes, may_be = (
        int(side.admin.command("hello")["maxBsonObjectSize"]) for side in (case.target, case.source)
    )
    if takes < may_be:
        yield from _larger_than(takes, case)


def _larger_than(limit: int, case: _Case) -> Iterator[Conflict]:
    pipeline: list[dict[str, Any]] = [
        {"$sample": {"size": SAMPLED}},
        {"$project": {"_id": 0, "bytes": {"$bsonSize": "$$ROOT"}}},
    ]
    sizes = [int(each["bytes"]) for each in _aggregate(case, pipeline)]
    if large := [size for size in sizes if size > limit]:
        yield (
            "EPLAN013",
            f"{len(large)} of a random sample of {len(sizes)} have more than {limit} bytes, "
            f"the largest {max(large)}",
        )


def _aggregate(case: _Case, pipeline: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """Of the source."""
    database, collection = data_of(case.unit.id, case.unit.type)
    command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}, **options}
    return [bson.decode(each) for each in rows(case.source, database, command, NeverStops())]


def _space(case: _Case) -> Iterator[Conflict]:
    free = free_bytes(case.target)
    if free is not None and case.unit.bytes_estimate > free:
        yield (
            "EPLAN015",
            f"about {case.unit.bytes_estimate} bytes of documents, {free} bytes are free",
        )


Look = Callable[[_Case], Iterator[Conflict]]
LOOKS: Final[tuple[tuple[str, Look], ...]] = (
    ("what the target holds", _presence),
    ("options of the target", _options),
    ("databases of the target", _database),
    ("unique indexes of the target", _unique),
    ("other indexes of the target", _in_the_way),
    ("the number of indexes", _too_many),
    ("expiry", _expiring),
    ("sizes of documents", _oversize),
    ("space on the target", _space),
)
OF_A_DUMP: Final = tuple((what, look) for what, look in LOOKS if look not in (_expiring, _oversize))
"""Those that ask the target only."""
