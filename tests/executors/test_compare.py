"""Whatever differs in type, options or indexes is found and named, and nothing else is."""

from typing import Any

import bson
import pytest
from bson import Decimal128, Int64

from executors.boundaries import to_text
from executors.compare import MAX_SHOWN, compared, differences
from executors.metadata import build_index, create
from executors.survey import index_spec
from statemachine.events import IndexSpec
from statemachine.state import Unit
from statemachine.words import UnitId, index_task
from tests.conftest import Pair
from tests.executors.examples import spec, unit_of
from tests.executors.kinds import CLUSTERED, KINDS, ZLIB

NAME = "shop.c1"
Planted = list[dict[str, Any]]
"""Commands to the target, after everything was made."""


def index(name: str = "i0", **fields: Any) -> Planted:
    wanted = {"key": {"a": 1}, **fields, "name": name}
    return [
        {"dropIndexes": "c1", "index": name},
        {"createIndexes": "c1", "indexes": [wanted]},
    ]


def anew(**options: Any) -> Planted:
    return [{"drop": "c1"}, {"create": "c1", **options}]


def changed(**options: Any) -> Planted:
    return [{"collMod": "c1", **options}]


PLANTED: dict[str, tuple[str, Planted, set[str]]] = {
    "gone": ("plain", [{"drop": "c1"}], {"type"}),
    "a view": ("plain", anew(viewOn="x", pipeline=[]), {"type"}),
    "a time series": ("plain", anew(timeseries={"timeField": "t"}), {"type"}),
    "a collection for a view": ("view", anew(), {"type"}),
    "validator": ("validator", changed(validator={"a": 1}), {"option validator"}),
    "validator gone": ("validator", anew(), {"option validator"}),
    "validation level": (
        "validator", changed(validationLevel="moderate"), {"option validationLevel"},
    ),
    "validation action": (
        "validator", changed(validationAction="warn"), {"option validationAction"},
    ),
    "collation": ("collation", anew(collation={"locale": "sv"}), {"option collation"}),
    "collation too much": ("empty", anew(collation={"locale": "sv"}), {"option collation"}),
    "capped size": ("capped", anew(capped=True, size=8192, max=100), {"option size"}),
    "capped max": ("capped", anew(capped=True, size=4096, max=99), {"option max"}),
    "capped": ("capped", anew(), {"option capped", "option size", "option max"}),
    "clustered": ("clustered", anew(), {"option clusteredIndex"}),
    "clustered name": (
        "clustered", anew(clusteredIndex={**CLUSTERED, "name": "x"}), {"option clusteredIndex"},
    ),
    "images": (
        "images",
        changed(changeStreamPreAndPostImages={"enabled": False}),
        {"option changeStreamPreAndPostImages"},
    ),
    "storage": (
        "storage engine",
        anew(indexOptionDefaults={"storageEngine": ZLIB}),
        {"option storageEngine"},
    ),
    "viewOn": (
        "view",
        changed(viewOn="other", pipeline=[{"$match": {"a": {"$gt": 1.0}}}]),
        {"option viewOn"},
    ),
    "pipeline": (
        "view", changed(viewOn="c", pipeline=[{"$match": {"a": {"$gt": 1}}}]), {"option pipeline"},
    ),
    "view's collation": (
        "view with collation", anew(viewOn="c", pipeline=[]), {"option collation"},
    ),
    "meta field": (
        "time series with meta",
        anew(timeseries={"timeField": "t", "metaField": "n", "granularity": "hours"}),
        {"option timeseries"},
    ),
    "expiry of a time series": (
        "time series", changed(expireAfterSeconds=5), {"option expireAfterSeconds"},
    ),
    "index of a time series": (
        "time series with indexes",
        [{"dropIndexes": "c1", "index": "i1"}],
        {"index i1"},
    ),
    "old _id index": ("old _id index", anew(), {"index _id_"}),
    "index gone": ("index: sparse", [{"dropIndexes": "c1", "index": "i0"}], {"index i0"}),
    "index too much": ("plain", index("more")[1:], {"index more"}),
    "index key": ("index: hidden", index(key={"a": -1}, hidden=True), {"index i0: key"}),
    "index order": (
        "index: hashed", index("i1", key={"s.x": "hashed", "a": 1}), {"index i1: key"},
    ),
    "hidden": ("index: hidden", index(), {"index i0: hidden"}),
    "unique": ("index: unique", index(), {"index i0: unique"}),
    "unique too much": ("index: hidden", index(hidden=True, unique=True), {"index i0: unique"}),
    "sparse": ("index: sparse", index(), {"index i0: sparse"}),
    "expiry": (
        "ttl", index(key={"at": 1}, expireAfterSeconds=2), {"index i0: expireAfterSeconds"},
    ),
    "expiry gone": ("ttl", index(key={"at": 1}), {"index i0: expireAfterSeconds"}),
    "partial": (
        "index: partial",
        index(partialFilterExpression={"a": {"$gt": 2}}),
        {"index i0: partialFilterExpression"},
    ),
    "index collation": (
        "index: collation of its own", index(collation={"locale": "en"}), {"index i0: collation"},
    ),
    "collation inherited": ("index: no collation", index(), {"index i0: collation"}),
    "projection": (
        "index: wildcard",
        index(key={"$**": 1}, wildcardProjection={"a": 1}),
        {"index i0: wildcardProjection"},
    ),
    "version": ("index: version 1", index(), {"index i0: v"}),
    "language": (
        "index: text",
        index(
            key={"_fts": "text", "_ftsx": 1, "a": 1},
            weights={"t": 1, "u": 2},
            default_language="french",
            language_override="lang",
        ),
        {"index i0: weights", "index i0: default_language", "index i0: textIndexVersion"},
    ),
    "2d": (
        "index: 2d",
        index(key={"p": "2d"}, bits=21, min=-500, max=500),
        {"index i0: bits", "index i0: max"},
    ),
    "sphere": (
        "index: 2dsphere",
        index(key={"g": "2dsphere", "a": 1}),
        {"index i0: 2dsphereIndexVersion"},
    ),
    "index storage": ("index: storage engine", index(), {"index i0: storageEngine"}),
    "prepareUnique": ("index: preparing to be unique", index(), {"index i0: prepareUnique"}),
}  # fmt: skip


@pytest.mark.server
@pytest.mark.parametrize("plant", PLANTED)
def test_each_planted_difference_is_named(pair: Pair, plant: str) -> None:
    """I22: it, and nothing beside it."""
    kind, commands, named = PLANTED[plant]
    KINDS[kind](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    built = create(pair.target_client, unit, spec()).built
    for each in unit.indexes:
        if each.name not in built:
            build_index(pair.target_client, unit, spec(), index_task(unit.id, each.name))
    for command in commands:
        pair.target_client.shop.command(command)
    found = {each.what for each in compared(pair.target_client, unit)}
    assert found == named


def described(*indexes: dict[str, Any], **options: Any) -> Unit:
    return Unit(
        id=UnitId(NAME),
        target=NAME,
        type="collection",
        uuid="",
        options=to_text(bson.encode(options)),
        indexes=of(*indexes),
        documents_estimate=0,
        bytes_estimate=0,
    )


def of(*indexes: dict[str, Any]) -> tuple[IndexSpec, ...]:
    return tuple(
        index_spec(bson.encode({"key": {"a": 1}, "name": "i", **each})) for each in indexes
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"v": 2.0}, {"v": 2}),
        ({"ns": "shop.c1", "dropDups": True}, {"v": 2}),
        ({"unique": 1.0}, {"unique": True}),
        ({"unique": False, "hidden": False}, {}),
        ({"sparse": 1}, {"sparse": True}),
        ({"expireAfterSeconds": 60.7}, {"expireAfterSeconds": 60}),
        ({"expireAfterSeconds": Int64(60)}, {"expireAfterSeconds": 60}),
        ({"expireAfterSeconds": Decimal128("60")}, {"expireAfterSeconds": 60}),
        ({"expireAfterSeconds": float("nan")}, {"expireAfterSeconds": 2**31 - 1}),
        ({"collation": {"locale": "simple"}}, {}),
        ({}, {"v": 2, "textIndexVersion": 3, "weights": {"t": 1}, "default_language": "english"}),
    ],
)
def test_what_servers_change_by_themselves(source: dict[str, Any], target: dict[str, Any]) -> None:
    """Old servers kept more, and dumps of them say less: neither is a difference."""
    assert differences(described(source), bson.encode({}), of(target), "collection") == ()


def test_options_that_are_the_case_anyway() -> None:
    """A `collMod` writes down what went without saying before."""
    said = {"validator": {}, "validationLevel": "strict", "validationAction": "error"}
    unit = described(validator={})
    assert differences(unit, bson.encode(said), (), "collection") == ()


def test_options_that_no_server_takes_any_more() -> None:
    unit = described(autoIndexId=True, capped=True, size=4096.0)
    found = bson.encode({"capped": True, "size": Int64(4096)})
    assert differences(unit, found, (), "collection") == ()


def test_both_sides_are_shown() -> None:
    """Short, in one line, and for people."""
    unit = described({"expireAfterSeconds": 60}, validator={"a\n": ["x" * 500]})
    found = differences(unit, bson.encode({}), of({"name": "other"}), "collection")
    validator, gone, more = found
    assert validator.source.startswith('{"a\\n": ["xxx')
    assert len(validator.source) == MAX_SHOWN
    assert validator.target == more.source == gone.target == ""
    assert gone.what == "index i"
    assert gone.source == '{"key": {"a": 1}, "name": "i", "expireAfterSeconds": 60}'
    assert more.what == "index other"


def test_values_that_cannot_be_said() -> None:
    """Bytes that are no UTF-8 and dates beyond all calendars are shown somehow."""
    odd = bson.encode({"x": "é"}).replace("é".encode(), b"\xff\xfe")
    unit = described(validator=bson.raw_bson.RawBSONDocument(odd))
    (found,) = differences(unit, bson.encode({}), (), "collection")
    assert found.what == "option validator"
    assert found.source


def test_users_are_never_shown() -> None:
    """S: credentials stand in no difference."""
    unit = described(secret="x")
    unit.id = UnitId("admin.system.users")
    assert differences(unit, bson.encode({"other": 1}), (), "view") == ()
