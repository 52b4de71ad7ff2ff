"""The judge of chains is judged: it finds every kind of difference, and keys in their order."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from pymongo.errors import OperationFailure

from tests.conftest import Pair
from tests.end_to_end import snapshots
from tests.end_to_end.applied import place, read
from tests.end_to_end.snapshots import now

pytestmark = pytest.mark.server
HARM: dict[str, tuple[Callable[[Any], object], str]] = {
    "a document": (lambda db: db.a.update_one({"_id": 7}, {"$set": {"x": 0}}), "1 documents other"),
    "one too many": (lambda db: db.a.insert_one({"_id": 100}), "1 documents extra"),
    "one lost": (lambda db: db.a.delete_one({"_id": 7}), "1 documents lost"),
    "a type": (lambda db: db.a.replace_one({"_id": 7}, {"x": 7.0}), "1 documents other"),
    "an index": (lambda db: db.a.drop_index("x_1"), "index x_1"),
    "an option": (lambda db: db.command("collMod", "a", validator={}), "options"),
    "a collection": (lambda db: db.a.drop(), "missing"),
    "a name": (lambda db: db.b.insert_one({}), "nobody asked"),
    "a view": (lambda db: db.command("collMod", "v", viewOn="b", pipeline=[]), "options"),
}


def fill(client: Any) -> None:
    client.t.create_collection("a", validator={"x": {"$exists": True}})
    client.t.a.insert_many([{"_id": n, "x": n} for n in range(50)])
    client.t.a.create_index("x")
    client.t.create_collection("v", viewOn="a", pipeline=[])


@pytest.mark.parametrize(("harm", "told"), HARM.values(), ids=HARM)
def test_what_differs_is_found(harm: Callable[[Any], object], told: str, pair: Pair) -> None:
    fill(pair.source_client)
    fill(pair.target_client)
    expected = snapshots.reference(pair.source.uri, now(pair.source.uri))
    assert not snapshots.judge(pair.target.uri, expected)
    target = pair.target_client.t
    if told.startswith("1 documents extra"):
        target.command("collMod", "a", validator={})
    harm(target)
    assert any(told in each for each in snapshots.judge(pair.target.uri, expected))


def test_a_past_moment(pair: Pair) -> None:
    """Documents change behind it; and a rename makes it unreadable, never empty."""
    fill(pair.source_client)
    at, past = now(pair.source.uri), snapshots.present(pair.source.uri)
    pair.source_client.t.a.update_many({}, {"$set": {"x": 1}})
    found = snapshots.reference(pair.source.uri, at)
    assert not snapshots.differences(past, found)
    pair.source_client.t.a.rename("c")
    pair.source_client.t.create_collection("a")
    with pytest.raises((OperationFailure, snapshots.Ambiguous)):
        snapshots.reference(pair.source.uri, at)


def test_the_order_of_keys_is_the_servers(pair: Pair) -> None:
    keys = [
        *(None, -5, Int64(2**40), 2.5, float("-inf"), Decimal128("2.25"), 3, 1e300),
        *("", "a", "Z", "é", "aa", {"a": 1}, {"a": 1, "b": 2}, {"b": 0}, {"a": "x"}),
        *(b"", b"\xff", b"ab", Binary(b"ab", 5), ObjectId(b"a" * 12), ObjectId(b"b" * 12)),
        *(True, False, datetime(1960, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
    ]
    pair.source_client.t.keys.insert_many([{"_id": key} for key in keys])
    served = [each["_id"] for each in pair.source_client.t.keys.find().sort("_id", 1)]
    canonical = json_util.CANONICAL_JSON_OPTIONS
    texts = [json_util.dumps(key, json_options=canonical) for key in served]
    assert sorted(texts, key=place) == texts


def told(*events: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"seq": seq, "kind": kind, "entity": entity, "data": data}
        for seq, (kind, entity, data) in enumerate(events, 1)
    ]


def test_a_journal_that_lies_is_found() -> None:
    """I31, I32: keys that fall, rows that come twice, a link before its turn."""
    shard = {"increment": 1, "shard": "link:1#0", "namespace": "t.a", "documents": 9, "erased": 0}
    start: list[tuple[str, str, dict[str, Any]]] = [
        ("increment_started", "link:1", {"increment": 1}),
        ("shard_planned", "link:1#0", shard),
    ]

    def at(rows: int, key: int, kind: str = "progressed") -> tuple[str, str, dict[str, Any]]:
        text = json.dumps({"$numberInt": str(key)})
        data = {"documents": rows, "erased": 0, "last_key": text, "position": rows}
        return (f"apply_{kind}", "link:1#0", data)

    end: tuple[str, str, dict[str, Any]] = ("increment_completed", "link:1", {"increment": 1})
    doubt: tuple[str, str, dict[str, Any]] = ("apply_in_doubt", "link:1#0", {})
    resolved: tuple[str, str, dict[str, Any]] = ("apply_resolved", "link:1#0", {"position": 3})
    whole = [*start, at(3, 3), doubt, resolved, at(6, 6), at(9, 9, "completed"), end]
    assert not read(told(*whole)).problems
    assert read(told(*whole)).shards["link:1#0"].again == 3
    assert read(told(*start, at(3, 3), at(6, 2))).problems
    assert read(told(*start, at(3, 3), at(3, 4))).problems
    assert read(told(*start, at(3, 3), end)).problems
    assert read(told(*whole[:4], ("apply_resolved", "link:1#0", {"position": 0}))).problems
    assert read(told(("increment_started", "link:2", {"increment": 2}))).problems
