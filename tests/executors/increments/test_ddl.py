"""Changes of collections and indexes, heard from a real server and made on another (I12, I33)."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.dumps.model import NeverStops
from executors.errors import TargetDiffers
from executors.increments.ahead import Ahead
from executors.increments.ddl import OF_DOCUMENTS, apply_ddl
from executors.increments.errors import CannotCarry, UnknownChange
from executors.undo.increments import undo_increment
from statemachine.events import JobSpec
from statemachine.state import Undo
from statemachine.words import TaskKey, TaskKind
from tests.conftest import OWN, Pair
from tests.executors.examples import spec as spec_of
from tests.executors.increments.hearing import END, Hearing


def a_spec(**changes: Any) -> JobSpec:
    return spec_of(**{"kind": "restore", "include": (), "exclude": (), **changes})


Doer = Callable[[MongoClient[Any]], Any]
FAR = 2**31 - 1


def _say(*commands: dict[str, Any], database: str = "x") -> Doer:
    return lambda client: [client[database].command(command) for command in commands]


def _admin(**command: Any) -> Doer:
    return lambda client: client.admin.command(command)


def _index(key: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    return {"key": key, "name": name, **options}


GERMAN = {"locale": "de", "strength": 2}
STEPS: dict[str, list[Doer]] = {
    "options": [
        _say({
            "create": "a", "collation": GERMAN, "validator": {"x": {"$gt": 1}},
            "validationLevel": "moderate", "changeStreamPreAndPostImages": {"enabled": True},
        }),
        _say({"collMod": "a", "validator": {"x": {"$gt": 2}}, "validationAction": "warn"}),
        _say({"collMod": "a", "changeStreamPreAndPostImages": {"enabled": False}}),
        _say({"collMod": "a", "validator": {}, "validationLevel": "off"}),
        _say({"createIndexes": "a", "indexes": [
            _index({"x": 1}, "x"),
            _index({"t": "text"}, "t", collation={"locale": "simple"}),
        ]}),
    ],
    "kinds": [
        _say({"create": "capped", "capped": True, "size": 4096, "max": 10}),
        _say({"collMod": "capped", "cappedSize": 8192, "cappedMax": 20}),
        _say({"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": True}}),
        _say({"create": "view", "viewOn": "a", "pipeline": [{"$match": {"x": 1}}]}),
        _say({"collMod": "view", "viewOn": "b", "pipeline": [{"$match": {"x": 2}}]}),
        _say({"create": "gone", "viewOn": "a", "pipeline": []}, {"drop": "gone"}),
    ],
    "indexes": [
        _say({"createIndexes": "a", "indexes": [
            _index({"x": 1}, "x", unique=True), _index({"y": 1}, "y", sparse=True),
            _index({"z": 1, "w": -1}, "z", partialFilterExpression={"x": {"$gt": 1}}),
            _index({"g": "2dsphere"}, "g"), _index({"$**": 1}, "all"),
        ]}),
        _say({"collMod": "a", "index": {"keyPattern": {"y": 1}, "hidden": True}}),
        _say({"collMod": "a", "index": {"name": "y", "prepareUnique": True}}),
        _say({"collMod": "a", "index": {"name": "y", "unique": True}}),
        _say({"dropIndexes": "a", "index": "x"}, {"dropIndexes": "a", "index": ["z", "g"]}),
        _say({"createIndexes": "b", "indexes": [_index({"q": 1}, "q")]}),
        _say({"dropIndexes": "b", "index": "*"}),
    ],
    "names": [
        _say({"create": "a"}, {"create": "b"}, {"create": "c", "capped": True, "size": 4096}),
        _admin(renameCollection="x.a", to="x.d"),
        _admin(renameCollection="x.d", to="x.b", dropTarget=True),
        _admin(renameCollection="x.b", to="y.b"),
        lambda client: list(client.x.c.aggregate([{"$out": "e"}])),
        lambda client: list(client.x.c.aggregate([{"$out": "e"}])),
        _say({"drop": "c"}),
    ],
    "databases": [
        _say({"create": "a"}, {"create": "v", "viewOn": "a", "pipeline": []}, database="y"),
        _say({"create": "a"}, {"create": "v", "viewOn": "a", "pipeline": []}),
        lambda client: client.drop_database("y"),
    ],
}  # fmt: skip


def described(client: MongoClient[Any]) -> dict[str, Any]:
    """What stands there, but for UUIDs."""
    found: dict[str, Any] = {}
    for name in sorted(set(client.list_database_names()) - {*OWN, END, "ferrylog"}):
        for entry in client[name].command("listCollections")["cursor"]["firstBatch"]:
            if entry["name"] == "system.views":
                continue
            entry["info"].pop("uuid", None)
            indexes = []
            if entry["type"] == "collection":
                reply = client[name].command("listIndexes", entry["name"])
                indexes = sorted(reply["cursor"]["firstBatch"], key=lambda each: str(each["name"]))
            found[f"{name}.{entry['name']}"] = (entry, indexes)
    return found


@pytest.fixture
def spec() -> JobSpec:
    return a_spec()


def _replayed(pair: Pair, spec: JobSpec, events: list[bytes]) -> list[str]:
    done = []
    for event in events:
        if bson.decode(event)["operationType"] not in OF_DOCUMENTS:
            done.append(apply_ddl(pair.target_client, event, spec))
            assert apply_ddl(pair.target_client, event, spec) in ("", done[-1])
    return done


@pytest.mark.parametrize("steps", STEPS)
def test_the_target_becomes_what_the_source_is(pair: Pair, spec: JobSpec, steps: str) -> None:
    """Each event, made twice as after a crash, leaves what the source has; each is told in words.
    I12."""
    hearing = Hearing(pair.source_client)
    for step in STEPS[steps]:
        step(pair.source_client)
        assert all(_replayed(pair, spec, hearing.events())[:1])
        assert described(pair.target_client) == described(pair.source_client)


def test_expiry_sleeps(pair: Pair, spec: JobSpec) -> None:
    """What a server would delete meanwhile stays: indexes get the farthest expiry, collections
    none, whatever happens to them on the source."""
    hearing = Hearing(pair.source_client)
    say = pair.source_client.x.command
    by_id = {"key": {"_id": 1}, "unique": True}
    say({"create": "a", "clusteredIndex": by_id, "expireAfterSeconds": 9})
    indexes = [_index({"t": 1}, "t", expireAfterSeconds=5), _index({"u": 1}, "u")]
    say({"createIndexes": "b", "indexes": indexes})
    say({"collMod": "b", "index": {"name": "t", "expireAfterSeconds": 50}})
    say({"collMod": "b", "index": {"name": "u", "expireAfterSeconds": 60}})
    say({"collMod": "a", "expireAfterSeconds": 50})
    _replayed(pair, spec, hearing.events())
    found = described(pair.target_client)
    assert "expireAfterSeconds" not in found["x.a"][0]["options"]
    assert [each.get("expireAfterSeconds") for each in found["x.b"][1]] == [None, FAR, FAR]


def test_a_woken_index_is_left_awake(pair: Pair, spec: JobSpec) -> None:
    hearing = Hearing(pair.source_client)
    index = _index({"t": 1}, "t", expireAfterSeconds=500)
    for client in (pair.source_client, pair.target_client):
        client.x.command({"createIndexes": "b", "indexes": [index]})
    assert _replayed(pair, spec, hearing.events()) == ["", ""]


def test_names_of_the_target(pair: Pair) -> None:
    """Renames of the job hold for every event, and for a database that goes with its views."""
    spec = a_spec(renames=(("x.*", "z.*_new"),))
    hearing = Hearing(pair.source_client)
    say = pair.source_client.x.command
    say({"createIndexes": "a", "indexes": [_index({"t": 1}, "t")]})
    say({"create": "v", "viewOn": "a", "pipeline": []})
    pair.source_client.admin.command("renameCollection", "x.a", to="x.b")
    pair.target_client.x.command({"create": "other", "viewOn": "a", "pipeline": []})
    _replayed(pair, spec, hearing.events())
    assert set(described(pair.target_client)) == {"z.b_new", "z.v_new", "x.other"}
    pair.source_client.drop_database("x")
    assert _replayed(pair, spec, hearing.events()) == ["z.b_new dropped", "z.v_new dropped with x"]
    assert set(described(pair.target_client)) == {"x.other"}


def test_what_is_not_selected_is_left_alone(pair: Pair) -> None:
    spec = a_spec(include=("x.a*",), exclude=("x.ab",))
    hearing = Hearing(pair.source_client)
    for name in ("a", "ab", "b"):
        pair.source_client.x.command({"createIndexes": name, "indexes": [_index({"t": 1}, "t")]})
    pair.source_client.admin.command("renameCollection", "x.b", to="x.c")
    pair.target_client.x.command({"create": "c"})
    pair.source_client.x.command({"drop": "c"})
    _replayed(pair, spec, hearing.events())
    assert set(described(pair.target_client)) == {"x.a", "x.c"}


@pytest.mark.parametrize(("old", "new"), [("a", "b"), ("b", "a")])
def test_a_rename_over_the_border_of_what_is_selected(pair: Pair, old: str, new: str) -> None:
    """What was not followed cannot appear, and nothing disappears without a word."""
    spec = a_spec(include=("x.a",))
    pair.source_client.x.command({"create": old})
    hearing = Hearing(pair.source_client)
    pair.source_client.admin.command("renameCollection", f"x.{old}", to=f"x.{new}")
    with pytest.raises(CannotCarry, match=f"x.{old}.*x.{new}.*what is selected"):
        _replayed(pair, spec, hearing.events())


def test_time_series_are_refused_by_name(pair: Pair, spec: JobSpec) -> None:
    """Nothing is told of their documents; that one goes can be followed."""
    hearing = Hearing(pair.source_client)
    series = {"create": "ts", "timeseries": {"timeField": "t", "metaField": "m"}}
    for client in (pair.source_client, pair.target_client):
        client.x.command(series)
        client.x.ts.insert_one({"t": datetime(2020, 1, 1), "m": 1})  # noqa: DTZ001
    pair.source_client.x.command({"collMod": "ts", "timeseries": {"granularity": "hours"}})
    for event in hearing.events():
        with pytest.raises(CannotCarry, match=r"x\.ts.*time series"):
            apply_ddl(pair.target_client, event, spec)
    pair.source_client.x.command({"drop": "ts"})
    assert _replayed(pair, spec, hearing.events()) == ["x.ts dropped"]


@pytest.mark.parametrize(
    ("there", "then"),
    [
        ({"create": "a", "collation": GERMAN}, {"create": "a"}),
        ({"create": "a", "viewOn": "b", "pipeline": []}, {"create": "a"}),
        ({"create": "b"}, {"createIndexes": "a", "indexes": [_index({"x": 1}, "x")]}),
    ],
)
def test_another_thing_under_the_name(
    pair: Pair, spec: JobSpec, there: dict[str, Any], then: dict[str, Any]
) -> None:
    """Only what is equal is taken for what the event made."""
    pair.target_client.x.command(there)
    if "createIndexes" in then:
        pair.source_client.x.command({"create": "a"})
    hearing = Hearing(pair.source_client)
    pair.source_client.x.command(then)
    with pytest.raises(TargetDiffers, match=r"x\.a"):
        _replayed(pair, spec, hearing.events())


def test_another_index_under_the_name(pair: Pair, spec: JobSpec) -> None:
    pair.target_client.x.a.create_index([("y", 1)], name="x")
    hearing = Hearing(pair.source_client)
    pair.source_client.x.a.create_index([("x", 1)], name="x")
    with pytest.raises(OperationFailure):
        _replayed(pair, spec, hearing.events())


def test_a_rename_that_cannot_be(pair: Pair, spec: JobSpec) -> None:
    """Neither over what stands there, nor of what is not there."""
    for name in ("a", "b"):
        pair.source_client.x.command({"create": name})
    hearing = Hearing(pair.source_client)
    pair.source_client.admin.command("renameCollection", "x.a", to="x.c")
    events = hearing.events()
    with pytest.raises(OperationFailure):
        _replayed(pair, spec, events)
    for name in ("a", "c"):
        pair.target_client.x.command({"create": name})
    with pytest.raises(TargetDiffers, match=r"x\.c"):
        _replayed(pair, spec, events)


class Overtaken(Ahead):
    """Somebody makes the very collection when it is written down that we are about to."""

    def note(self, *new: dict[str, Any]) -> None:
        super().note(*new)
        if [row["k"] for row in new] == ["made"] and "uuid" not in new[0]:
            self.client.x.command({"create": "a"})

    client: MongoClient[Any]


def test_what_others_made_in_that_moment_is_theirs(
    pair: Pair, spec: JobSpec, tmp_path: Path
) -> None:
    """I40: it is carried on into, and stays when all is taken back; so after a crash."""
    hearing = Hearing(pair.source_client)
    pair.source_client.x.command({"create": "a"})
    (event,) = hearing.events()
    task = TaskKey(TaskKind.APPLY, "1#0")
    for kind in (Overtaken, Ahead):
        with kind(tmp_path, task) as ahead:
            ahead.client = pair.target_client  # type: ignore[attr-defined]
            assert apply_ddl(pair.target_client, event, spec, ahead=ahead) == ""
    assert [row["k"] for row in ahead.told] == ["began", "made", "unmade"]
    undo_increment(pair.target_client, spec, tmp_path, Undo(1, *task), NeverStops())
    assert pair.target_client.x.list_collection_names() == ["a"]


def test_kinds_of_events_of_others(spec: JobSpec) -> None:
    def event(kind: str) -> bytes:
        return bson.encode({"operationType": kind, "ns": {"db": "x", "coll": "a"}})

    nobody: Any = None
    assert "replica set" in apply_ddl(nobody, event("shardCollection"), spec)
    with pytest.raises(UnknownChange, match="somethingNew"):
        apply_ddl(nobody, event("somethingNew"), spec)
    assert apply_ddl(nobody, event("somethingNew"), a_spec(include=("y.*",))) == ""
