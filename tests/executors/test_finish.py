"""Every kind of collection, view and index arrives as it was, and what expires does so only when
everything else is done (P10, I22).

Each kind is surveyed, made, filled, indexed and finished between two real servers; what the servers
say of both is compared to the byte.
"""

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW
from executors.boundaries import from_text, to_text
from executors.classify import classify
from executors.expiry import FAR
from executors.finish import finish
from executors.metadata import build_index, create
from executors.select import STAGED
from executors.source import data_of
from executors.survey import EMPTY, index_spec, namespaces, raw_indexes
from executors.users import clear
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import Cause, index_task
from tests.conftest import Pair
from tests.executors.examples import Client, plain_unit, spec, unit_of
from tests.executors.kinds import EXPIRING, KINDS

pytestmark = pytest.mark.server

NAME = "shop.c1"
SPEC = spec(metadata=True, on_conflict="stop")


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    """The source's own monitor must not change what is to be carried."""
    servers.source_client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    servers.source_client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def said(client: Client, name: str = NAME) -> tuple[str, bytes, list[bytes]]:
    """Type, options and indexes, as the server tells them."""
    database, _, collection = name.partition(".")
    (found,) = namespaces(client, database, name=collection)
    indexes = [] if found.type == "view" else raw_indexes(client, found)
    return found.type, found.options, sorted(indexes)


def documents(client: Client, unit: Unit, name: str) -> list[RawBSONDocument]:
    if unit.type == "view":
        return []
    database, collection = data_of(name, unit.type)
    found = client[database].command({"find": collection, "batchSize": 1000}, codec_options=RAW)
    return list(found["cursor"]["firstBatch"])


def carry(pair: Pair, unit: Unit, spec_: JobSpec = SPEC) -> None:
    """All but the end."""
    built = create(pair.target_client, unit, spec_).built
    there = documents(pair.source_client, unit, unit.id)
    if there:
        database, collection = data_of(unit.target, unit.type)
        command = {"insert": collection, "documents": there, "bypassDocumentValidation": True}
        reply = pair.target_client[database].command(command)
        assert reply["n"] == len(there), reply
    for index in unit.indexes:
        if index.name not in built:
            build_index(pair.target_client, unit, spec_, index_task(unit.id, index.name))


@pytest.mark.parametrize("kind", KINDS)
def test_arrives_as_it_was(pair: Pair, kind: str) -> None:
    KINDS[kind](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    carry(pair, unit)
    assert finish(pair.target_client, unit, SPEC).differing == ()
    assert said(pair.target_client) == said(pair.source_client)
    assert documents(pair.target_client, unit, NAME) == documents(pair.source_client, unit, NAME)


@pytest.mark.parametrize("kind", EXPIRING)
def test_expiry_sleeps_until_the_end(pair: Pair, kind: str) -> None:
    """Nothing is deleted by its age while the job is at work, and everything is after it."""
    EXPIRING[kind](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    assert unit.expires
    carry(pair, unit)
    _, options, indexes = said(pair.target_client)
    assert "expireAfterSeconds" not in RawBSONDocument(options)
    for index in map(RawBSONDocument, indexes):
        assert index.get("expireAfterSeconds", FAR) == FAR
    finish(pair.target_client, unit, SPEC)
    assert said(pair.target_client) == said(pair.source_client)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_twice(pair: Pair, kind: str) -> None:
    """I12: a crash between any two steps repeats some of them."""
    KINDS[kind](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    merging = spec(metadata=True, on_conflict="skip")
    carry(pair, unit, merging)
    for _ in range(2):
        create(pair.target_client, unit, merging)
        for index in unit.indexes:
            if index.name != "_id_":
                build_index(pair.target_client, unit, merging, index_task(unit.id, index.name))
        assert finish(pair.target_client, unit, merging).differing == ()
    assert said(pair.target_client) == said(pair.source_client)


@pytest.mark.parametrize("kind", ["verify", "plan"])
def test_only_what_writes_switches_on(pair: Pair, kind: str) -> None:
    """I46: a job that compares changes nothing."""
    EXPIRING["ttl"](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    carry(pair, unit)
    before = said(pair.target_client)
    looking = SPEC.model_copy(update={"kind": kind})
    (difference,) = finish(pair.target_client, unit, looking).differing
    assert difference.what == "index i0: expireAfterSeconds"
    assert (difference.source, difference.target) == ("1", str(FAR))
    assert said(pair.target_client) == before


def test_an_index_of_the_target_keeps_its_own_expiry(pair: Pair) -> None:
    """One of the same name that this job did not make is left as it is, and named."""
    EXPIRING["ttl"](pair.source_client.shop, "c1")
    index = {"key": {"at": 1}, "name": "i0", "expireAfterSeconds": 10**8}
    pair.target_client.shop.command({"createIndexes": "c1", "indexes": [index]})
    unit = unit_of(pair.source_client, NAME)
    (difference,) = finish(pair.target_client, unit, SPEC).differing
    assert difference.what == "index i0: expireAfterSeconds"
    assert difference.target == str(10**8)


ASKED: dict[str, Any] = {"key": {"at": 1}, "name": "i0", "expireAfterSeconds": 10**8}
SHORT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "index": ({}, ASKED),
    "index with collation": ({}, {**ASKED, "v": 2, "collation": {"locale": "en"}}),
    "collation": ({"collation": {"locale": "en"}}, {**ASKED, "v": 2}),
    "clustered": (
        {"clusteredIndex": {"key": {"_id": 1}, "unique": True}, "expireAfterSeconds": 10**8},
        {},
    ),
    "time series": ({"timeseries": {"timeField": "t"}, "expireAfterSeconds": 10**8}, {}),
}


@pytest.mark.parametrize("which", SHORT)
def test_what_servers_complete_expires_too(pair: Pair, which: str) -> None:
    """A dump may say less than a server keeps: it is the same collection before a crash, between
    two steps and after the end, and its expiry is switched on."""
    options, index = SHORT[which]
    unit = plain_unit(
        NAME,
        type="timeseries" if "timeseries" in options else "collection",
        options=to_text(bson.encode(options)),
        indexes=(index_spec(bson.encode(index)),) if index else (),
    )
    for _ in range(2):
        for _ in range(2):
            create(pair.target_client, unit, SPEC)
            for each in unit.indexes:
                build_index(pair.target_client, unit, SPEC, index_task(unit.id, each.name))
        assert finish(pair.target_client, unit, SPEC).differing == ()
        _, found, indexes = said(pair.target_client)
        told = [bson.decode(each).get("expireAfterSeconds") for each in (found, *indexes)]
        assert told == ([None, 10**8] if index else [10**8])


def test_what_was_made_anew_by_others_is_left(pair: Pair) -> None:
    """It is not the collection that this job made."""
    options = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}, "expireAfterSeconds": 10**8}
    unit = plain_unit(NAME, options=to_text(bson.encode(options)))
    unit.target_uuid = create(pair.target_client, unit, SPEC).uuid
    pair.target_client.shop.c1.drop()
    create(pair.target_client, unit, SPEC)
    (difference,) = finish(pair.target_client, unit, SPEC).differing
    assert difference.what == "option expireAfterSeconds"


def test_without_metadata_nothing_is_compared(pair: Pair) -> None:
    KINDS["plain"](pair.source_client.shop, "c1")
    unit = unit_of(pair.source_client, NAME)
    assert finish(pair.target_client, unit, spec()).differing == ()
    assert [d.what for d in finish(pair.target_client, unit, SPEC).differing] == ["type"]


def test_under_another_name(pair: Pair) -> None:
    """Renamed to another database, time series and view too."""
    for n, kind in enumerate(("ttl", "time series, expiring", "view")):
        KINDS[kind](pair.source_client.shop, f"c{n}")
        unit = unit_of(pair.source_client, f"shop.c{n}")
        unit.target = f"old.new{n}"
        carry(pair, unit)
        assert finish(pair.target_client, unit, SPEC).differing == ()
        assert said(pair.target_client, unit.target) == said(pair.source_client, unit.id)


@pytest.fixture
def known(pair: Pair) -> Iterator[Pair]:
    """Ann and Bob on the source; another Bob, and Carl, on the target."""
    everybody = {pair.source_client: ("ann", "bob"), pair.target_client: ("bob", "carl")}
    for client, names in everybody.items():
        client.admin.command({"createRole": "reader", "privileges": [], "roles": []})
        for name in names:
            client.admin.command({"createUser": name, "pwd": name, "roles": ["reader"]})
    yield pair
    for client in everybody:
        client.admin.command("dropAllUsersFromDatabase")
        client.admin.command("dropAllRolesFromDatabase")


def units_of_users(pair: Pair) -> list[Unit]:
    both = [
        unit_of(pair.source_client, "x.x", users=True, exclude=(left,))
        for left in ("admin.system.roles", "admin.system.users")
    ]
    assert [unit.id for unit in both] == ["admin.system.users", "admin.system.roles"]
    return both


@pytest.mark.parametrize("on_conflict", ["stop", "overwrite"])
def test_users_and_roles_are_merged(known: Pair, on_conflict: str) -> None:
    """New ones arrive to the byte, others stay; nothing of it is told but names, and no place
    beside the server's own remains."""
    there = known.source_client.admin["system.users"]
    here = known.target_client.admin["system.users"]
    ours = {user["_id"]: user for user in here.find()}
    merging = spec(metadata=True, drop=True, on_conflict=on_conflict)
    for unit in units_of_users(known):
        assert (unit.type, unit.indexes, unit.expires) == ("collection", (), True)
        assert from_text(unit.options) == EMPTY
        carry(known, unit, merging)
        for differing in (finish(known.target_client, unit, merging).differing, ()):
            named = [each.what for each in differing]
            assert named == (["user admin.bob"] if "users" in unit.id and differing else [])
            assert "SCRAM" not in str(differing)
    merged = {user["_id"]: user for user in here.find()}
    assert merged.keys() == {"admin.ann", "admin.bob", "admin.carl"}
    assert merged["admin.ann"] == there.find_one({"_id": "admin.ann"})
    assert merged["admin.carl"] == ours["admin.carl"]
    assert merged["admin.bob"] == ours["admin.bob"]
    assert not set(STAGED.values()) & {
        f"admin.{name}" for name in known.target_client.admin.list_collection_names()
    }


def test_users_that_were_laid_down_before_a_crash(known: Pair) -> None:
    """I12: what is laid down again is laid down once, and merged again it is no news."""
    known.target_client.admin.command("dropUser", "bob")
    unit = units_of_users(known)[0]
    known.target_client.admin.tempusers.insert_one({"_id": "left over"})
    carry(known, unit)
    laid = documents(known.target_client, unit, unit.target)
    assert finish(known.target_client, unit, SPEC).differing == ()
    known.target_client.admin.tempusers.insert_many(laid)
    assert finish(known.target_client, unit, SPEC).differing == ()
    assert known.target_client.admin["system.users"].count_documents({}) == 3


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"users": True}, set()),
        ({"users": True, "kind": "restore"}, set()),
        ({"users": True, "exclude": ("*.system.users",)}, {"tempusers"}),
        ({"users": False}, {"tempusers", "temproles"}),
        ({"users": True, "kind": "verify"}, {"tempusers", "temproles"}),
    ],
)
def test_what_was_laid_down_goes_with_the_job(
    known: Pair, fields: dict[str, Any], left: set[str]
) -> None:
    """A job that ends before the merge leaves nobody's credentials behind; again, it is fine. What
    the job cannot have laid down is another's."""
    admin, job = known.target_client.admin, spec(**{"exclude": (), **fields})
    for unit in units_of_users(known):
        carry(known, unit)
    assert clear(known.target_client, job) == clear(known.target_client, job) == []
    assert {"tempusers", "temproles"} & {*admin.list_collection_names()} == left
    for name in left:
        admin[name].drop()


def test_a_merge_that_is_refused_may_be_tried_again(known: Pair) -> None:
    """What was laid down stays for as long as the job may go on: without it, the next attempt
    would merge nobody and call it done."""
    unit = units_of_users(known)[0]
    carry(known, unit)
    places = known.target_client.admin.tempusers
    laid = places.count_documents({})
    places.insert_one({"_id": "shop.eve"})
    with pytest.raises(OperationFailure) as refused:
        finish(known.target_client, unit, SPEC)
    assert classify(refused.value)[0] is Cause.PERMANENT
    assert places.count_documents({}) == laid + 1
    places.delete_one({"_id": "shop.eve"})
    assert [each.what for each in finish(known.target_client, unit, SPEC).differing] == [
        "user admin.bob"
    ]
    assert known.target_client.admin["system.users"].count_documents({"user": "ann"}) == 1


def test_places_that_may_not_be_removed_are_told() -> None:
    """Nobody is there, or may not: the end of a job fails for no such reason."""
    nobody: Client = MongoClient("mongodb://127.0.0.1:1/", serverSelectionTimeoutMS=50)
    with nobody:
        assert clear(nobody, spec(users=True, exclude=())) == ["admin.tempusers", "admin.temproles"]


LEGACY: dict[str, tuple[Any, Any]] = {
    "empty text": ("", 1),
    "nothing": (None, 1),
    "truth": (True, 1),
    "untruth": (False, 1),
    "zero": (0, 1),
    "long zero": (Int64(0), 1),
    "decimal zero": (Decimal128("-0.0"), 1),
    "nearly zero": (1e-10, 1),
    "nearly zero, downwards": (-1e-10, -1),
    "a document": ({"x": 1}, 1),
    "a number": (-2.5, -2.5),
}


@pytest.mark.parametrize("which", LEGACY)
def test_keys_that_old_servers_took(pair: Pair, which: str) -> None:
    """Refused by the server, or made valid as `mongorestore --convertLegacyIndexes` does; the
    comparison knows."""
    value, valid = LEGACY[which]
    pair.source_client.shop.c1.insert_one({"_id": 1})
    unit = unit_of(pair.source_client, NAME)
    old = {"v": 1, "key": {"a": value, "b": -1}, "name": "old", "hashVersion": 0}
    unit.indexes = (index_spec(bson.encode(old)),)
    with pytest.raises(OperationFailure) as refused:
        build_index(pair.target_client, unit, SPEC, index_task(unit.id, "old"))
    assert classify(refused.value)[0] is Cause.PERMANENT
    making_valid = SPEC.model_copy(update={"legacy_indexes": True})
    carry(pair, unit, making_valid)
    found = bson.decode(said(pair.target_client)[2][0])
    assert found == {"v": 1, "key": {"a": valid, "b": -1}, "name": "old"}
    assert finish(pair.target_client, unit, making_valid).differing == ()
    assert finish(pair.target_client, unit, SPEC).differing != ()


def test_text_of_an_unknown_kind_stays_refused(pair: Pair) -> None:
    pair.source_client.shop.c1.insert_one({"_id": 1})
    unit = unit_of(pair.source_client, NAME)
    unit.indexes = (index_spec(bson.encode({"v": 2, "key": {"a": "foo"}, "name": "old"})),)
    with pytest.raises(OperationFailure, match="Unknown index plugin"):
        making_valid = SPEC.model_copy(update={"legacy_indexes": True})
        build_index(pair.target_client, unit, making_valid, index_task(unit.id, "old"))
