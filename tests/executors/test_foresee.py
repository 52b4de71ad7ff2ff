"""What is foreseen between two real servers, and that looking writes nothing."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import OperationFailure

from executors import foresee as looks
from executors.classify import classify
from executors.conflicts import KINDS
from executors.foresee import foresee, free_bytes
from executors.metadata import build_index, create
from executors.survey import survey
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import UnitId, index_task
from tests.conftest import Pair
from tests.end_to_end.test_bad_input import guarded
from tests.statemachine.examples import SPEC

READS = {
    "hello", "ismaster", "listCollections", "listDatabases", "listIndexes", "aggregate", "dbStats",
    "endSessions",
}  # fmt: skip


class Commands(monitoring.CommandListener):
    """The names of all commands sent through one client, and whether each was bounded."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def heard() -> Commands:
    return Commands()


@pytest.fixture
def target(pair: Pair, heard: Commands) -> Iterator[MongoClient[Any]]:
    with MongoClient[Any](pair.target.uri, event_listeners=[heard]) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_written(heard: Commands) -> Iterator[None]:
    """I46: of every look of every test in this file."""
    yield
    for command in heard.sent:
        name = next(iter(command))
        assert name in READS, name
        assert not any("$out" in each or "$merge" in each for each in command.get("pipeline", ()))
        assert "maxTimeMS" in command or name in ("endSessions", "hello")


def the_unit(pair: Pair, name: str = "shop.orders") -> Unit:
    """The unit as a survey finds it on the source."""
    (found,) = survey(pair.source_client, spec(include=(name,))).units
    return Unit(
        id=UnitId(name),
        target=found.target,
        type=found.type,
        uuid=found.uuid,
        options=found.options,
        indexes=found.indexes,
        documents_estimate=found.documents,
        bytes_estimate=found.bytes,
    )


def spec(**fields: Any) -> JobSpec:
    return SPEC.model_copy(update={"include": (), "exclude": (), **fields})


def codes(pair: Pair, target: MongoClient[Any], **fields: Any) -> dict[str, str]:
    return dict(foresee(pair.source_client, target, the_unit(pair), spec(**fields)))


def fill(client: MongoClient[Any], count: int = 3, **fields: Any) -> Any:
    orders = client.shop.orders
    orders.insert_many([{"_id": n, **fields} for n in range(count)])
    return orders


def test_nothing_is_foreseen_for_an_empty_target(pair: Pair, target: MongoClient[Any]) -> None:
    fill(pair.source_client).create_index("n", unique=True, sparse=True)
    assert codes(pair, target) == {}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "EPLAN001"),
        ({"on_conflict": "skip"}, "EPLAN002"),
        ({"on_conflict": "overwrite"}, "EPLAN003"),
        ({"drop": True}, "EPLAN003"),
    ],
)
def test_a_target_that_holds_documents(
    pair: Pair, target: MongoClient[Any], fields: dict[str, Any], code: str
) -> None:
    fill(pair.source_client)
    fill(pair.target_client, 7)
    found = codes(pair, target, **fields)
    assert list(found) == [code]
    assert "7 documents" in found[code]
    assert KINDS[code].certain is (code == "EPLAN001")


@pytest.mark.parametrize("fields", [{"drop": True}, {"swap": "k5"}], ids=str)
def test_what_is_replaced_is_kept(
    pair: Pair, target: MongoClient[Any], fields: dict[str, Any]
) -> None:
    """M1: and a job that records nothing says nothing of it."""
    fill(pair.source_client)
    fill(pair.target_client, 7)
    kept = "it is kept for a rollback until the job is committed"
    assert kept in codes(pair, target, **fields, undo=True)["EPLAN003"]
    assert kept not in codes(pair, target, **fields, undo=False)["EPLAN003"]


@pytest.mark.parametrize("drop", [False, True])
def test_a_view_under_the_name(pair: Pair, target: MongoClient[Any], drop: bool) -> None:
    """Both ways: a name that is a collection on one side and a view on the other."""
    fill(pair.source_client)
    pair.source_client.shop.create_collection("seen", viewOn="orders")
    pair.target_client.shop.create_collection("orders", viewOn="x")
    pair.target_client.shop.create_collection("seen")
    assert list(codes(pair, target, drop=drop)) == ["EPLAN003" if drop else "EPLAN004"]
    view = the_unit(pair, "shop.seen")
    found = dict(foresee(pair.source_client, target, view, spec(drop=drop)))
    assert list(found) == ["EPLAN003" if drop else "EPLAN004"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"capped": True, "size": 4096}, "capped, size"),
        ({"collation": {"locale": "de"}}, "collation"),
        ({"validator": {"a": 1}}, "validator"),
    ],
)
def test_other_options(
    pair: Pair, target: MongoClient[Any], options: dict[str, Any], named: str
) -> None:
    """By the same measure as the job itself, which fails there."""
    fill(pair.source_client)
    pair.target_client.shop.create_collection("orders", **options)
    found = codes(pair, target)
    assert named in found["EPLAN005"]
    assert ("EPLAN007" in found) is ("validator" in options)
    with pytest.raises(Exception, match="other options") as error:
        create(pair.target_client, the_unit(pair), spec())
    assert error.value.code in KINDS["EPLAN005"].comes_as  # type: ignore[attr-defined]
    assert "EPLAN005" not in codes(pair, target, drop=True)


def test_a_validator_that_both_have_is_not_asked(pair: Pair, target: MongoClient[Any]) -> None:
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("orders", validator={"a": 1})
    assert list(codes(pair, target)) == ["EPLAN007"]


def test_a_capped_target_that_is_merged_into(pair: Pair, target: MongoClient[Any]) -> None:
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("orders", capped=True, size=4096)
    fill(pair.source_client)
    assert codes(pair, target, on_conflict="skip") == {}
    fill(pair.target_client)
    assert set(codes(pair, target, on_conflict="skip")) == {"EPLAN002", "EPLAN006"}


def test_a_unique_index_of_the_target(pair: Pair, target: MongoClient[Any]) -> None:
    fill(pair.source_client).create_index("n", name="n")
    pair.target_client.shop.orders.create_index("n", unique=True, name="only here")
    found = codes(pair, target)
    assert list(found) == ["EPLAN008"]
    assert "only here" in found["EPLAN008"]


def test_a_unique_index_of_the_source(pair: Pair, target: MongoClient[Any]) -> None:
    """Over a target that holds documents nobody knows whether it can be built."""
    fill(pair.source_client).create_index("n", unique=True, sparse=True)
    fill(pair.target_client)
    assert set(codes(pair, target, on_conflict="skip")) == {"EPLAN002", "EPLAN009"}
    assert set(codes(pair, target, drop=True)) == {"EPLAN003"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"keys": "a", "name": "x"}, {"keys": "b", "name": "x"}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "y"}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "x", "sparse": True}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "y", "expireAfterSeconds": 5}),
        ({"keys": "a", "name": "x"}, {"keys": [("a", 1), ("b", 1)], "name": "x"}),
    ],
)
def test_an_index_in_the_way(
    pair: Pair, target: MongoClient[Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """What is foreseen is what the server then says."""
    fill(pair.source_client).create_index(**ours)
    pair.target_client.shop.orders.create_index(**theirs)
    assert "EPLAN010" in codes(pair, target)
    unit = the_unit(pair)
    with pytest.raises(OperationFailure) as error:
        build_index(pair.target_client, unit, spec(), index_task(unit.id, "x"))
    assert classify(error.value)[1] in KINDS["EPLAN010"].comes_as


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "y", "sparse": True}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "x"}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "x", "hidden": True}),
        ({"keys": "a", "name": "x"}, {"keys": [("a", 1.0)], "name": "x"}),
        ({"keys": "a", "name": "x"}, {"keys": "a", "name": "y", "collation": {"locale": "de"}}),
        ({"keys": [("a", 1), ("b", 1)]}, {"keys": [("b", 1), ("a", 1)]}),
    ],
)
def test_an_index_beside(
    pair: Pair, target: MongoClient[Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """Indexes that a server takes side by side are no conflict."""
    fill(pair.source_client).create_index(**ours)
    keys = theirs.pop("keys")
    key = {keys: 1} if isinstance(keys, str) else dict(keys)
    name = theirs.pop("name", "other")
    command = {"createIndexes": "orders", "indexes": [{"key": key, "name": name, **theirs}]}
    pair.target_client.shop.command(command)
    assert codes(pair, target) == {}
    unit = the_unit(pair)
    build_index(pair.target_client, unit, spec(), index_task(unit.id, unit.indexes[0].name))


def test_too_many_indexes(pair: Pair, target: MongoClient[Any]) -> None:
    for client, first, last in ((pair.source_client, 0, 40), (pair.target_client, 30, 64)):
        for n in range(first, last):
            client.shop.orders.create_index(f"f{n}")
            if client is pair.target_client and n == 62:
                assert codes(pair, target) == {}, "64 with the one over _id"
    assert "65 indexes" in codes(pair, target)["EPLAN011"]


def test_expiry(pair: Pair, target: MongoClient[Any]) -> None:
    """By an index of the source, and by one that only the target has."""
    now = datetime.now(UTC)
    pair.source_client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    try:
        orders = pair.source_client.shop.orders
        orders.insert_many([{"at": now - timedelta(hours=n), "n": n} for n in range(10)])
        orders.create_index("at", expireAfterSeconds=4 * 3600 + 1800)
        found = codes(pair, target)
        assert list(found) == ["EPLAN012"]
        assert "at_1" in found["EPLAN012"]
        assert "5 documents" in found["EPLAN012"]
        orders.drop_indexes()
        pair.target_client.shop.orders.create_index(
            "at", expireAfterSeconds=3600, partialFilterExpression={"n": {"$lt": 4}}
        )
        found = codes(pair, target)
        assert list(found) == ["EPLAN012"]
        assert "target only" in found["EPLAN012"]
        assert "3 documents" in found["EPLAN012"]
    finally:
        pair.source_client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def test_documents_too_large(pair: Pair, target: MongoClient[Any]) -> None:
    """A sample is called a sample. Both servers here take 16 MiB, so the limit is given."""
    fill(pair.source_client, 5, text="x" * 1000)
    case = looks._Case(pair.source_client, target, the_unit(pair), spec())
    ((code, why),) = looks._larger_than(500, case)
    assert code == "EPLAN013"
    assert "5 of a random sample of 5" in why
    assert not list(looks._larger_than(5000, case))
    assert not list(looks._oversize(case))


def test_a_database_that_differs_by_case(pair: Pair, target: MongoClient[Any]) -> None:
    fill(pair.source_client)
    pair.target_client.get_database("Shop").x.insert_one({})
    found = codes(pair, target)
    assert list(found) == ["EPLAN014"]
    with pytest.raises(OperationFailure) as error:
        create(pair.target_client, the_unit(pair), spec())
    assert classify(error.value)[1] in KINDS["EPLAN014"].comes_as


def test_space(pair: Pair, target: MongoClient[Any]) -> None:
    fill(pair.source_client)
    unit = the_unit(pair)
    unit.bytes_estimate = 1 << 60
    found = dict(foresee(pair.source_client, target, unit, spec()))
    assert list(found) == ["EPLAN015"]


def test_what_cannot_be_looked_at_is_said(
    pair: Pair, target: MongoClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server too slow to answer costs the looks, not the plan; those at the source go on."""
    fill(pair.source_client)
    unit = the_unit(pair)
    target.admin.command("hello")
    monkeypatch.setattr(looks, "LOOK_S", 0.2)
    os.kill(pair.target.pid, signal.SIGSTOP)
    os.waitpid(pair.target.pid, os.WUNTRACED)  # each of its threads stands still
    try:
        found = dict(foresee(pair.source_client, target, unit, spec()))
    finally:
        os.kill(pair.target.pid, signal.SIGCONT)
    assert list(found) == ["EPLAN016"]
    assert "what the target holds" in found["EPLAN016"]
    assert "options of the target" in found["EPLAN016"]
    assert "0.2 s" in found["EPLAN016"]


def test_what_may_not_be_looked_at_is_said(tmp_path: Path, pair: Pair) -> None:
    """A user who may list but not look: named look by look, with what the server said."""
    fill(pair.source_client).create_index("n", unique=True, sparse=True)
    unit = the_unit(pair)
    with guarded(tmp_path / "target", "target") as side:
        side.client.shop.orders.insert_one({"_id": 1})
        may = {"resource": {"db": "shop", "collection": ""}, "actions": ["listCollections"]}
        role = {"createRole": "lister", "privileges": [may], "roles": []}
        side.client.admin.command(role)
        roles = [{"role": "lister", "db": "admin"}]
        side.client.admin.command({"createUser": "eve", "pwd": "eve", "roles": roles})
        with MongoClient[Any](side.mongod.uri, username="eve", password="eve") as client:
            found = dict(foresee(pair.source_client, client, unit, spec()))
            assert free_bytes(client) is None
    assert list(found) == ["EPLAN016"]
    assert "what the target holds" in found["EPLAN016"]
    assert "unique indexes of the target" in found["EPLAN016"]
    assert "not authorized" in found["EPLAN016"]
