"""Increments taken back link by link: the target is as of the link before (I40, M2, M9)."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from executors.increments.position import clear_position
from executors.select import KEPT
from executors.undo.catalogue import free_own
from statemachine.words import TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.increments.growing import (
    JOB,
    SPEC,
    Growing,
    mark,
    rename,
)
from tests.executors.increments.undoing import Chained, Stops, documents, stops

pytestmark = pytest.mark.server


@pytest.fixture
def chained(pair: Pair, tmp_path: Path) -> Chained:
    db = pair.source_client.shop
    db.a.insert_many([{"_id": n, "e": n, "v": "old"} for n in range(60)])
    db.b.insert_many([{"_id": n, "v": "old"} for n in range(10)])
    db.c.insert_one({"_id": 1, "is": "c"})
    db.a.create_index("e", unique=True)
    db.a.create_index("v", hidden=True)
    db.b.create_index("at", expireAfterSeconds=10**6)
    db.command({"create": "w", "viewOn": "a", "pipeline": []})
    db.command({"create": "x", "viewOn": "b", "pipeline": []})
    folder = tmp_path / JOB
    folder.mkdir()
    chained = Chained(pair, folder, Growing(pair.source_client))
    chained.restore()
    return chained


def first(db: Any) -> None:
    """Documents of every fate, indexes, options, and a collection that is new."""
    db.a.delete_many({"_id": {"$lt": 10}})
    db.a.update_many({"_id": {"$gte": 20, "$lt": 40}}, {"$set": {"v": "new"}})
    db.a.insert_many([{"_id": n, "e": n, "v": "more"} for n in range(100, 130)])
    db.a.drop_index("v_1")
    db.a.create_index("w")
    db.command({"collMod": "b", "validator": {"v": {"$exists": True}}})
    db.command({"collMod": "b", "index": {"name": "at_1", "expireAfterSeconds": 20 * 10**5}})
    db.create_collection("d", collation={"locale": "de"})
    db.d.insert_many([{"_id": n} for n in range(7)])
    db.d.create_index("u", unique=True, sparse=True)


def second(db: Any) -> None:
    """Renames in a circle, a drop, unique values that move on, views."""
    for name, to in (("a", "tmp"), ("b", "a"), ("tmp", "b")):
        rename(db.client, name, to)
    db.c.drop()
    db.drop_collection("w")
    db.command({"collMod": "x", "viewOn": "b", "pipeline": [{"$match": {"v": "new"}}]})
    db.b.update_many({}, {"$inc": {"e": 1000}})
    for each in list(db.b.find({"_id": {"$gte": 20}})):
        db.b.update_one({"_id": each["_id"]}, {"$set": {"e": each["_id"] - 7}})
    db.a.drop_index("at_1")
    db.a.create_index("at", unique=True, sparse=True)


def third(db: Any) -> None:
    """What went comes again, empty or not; a collection is made anew under its old name."""
    db.c.insert_many([{"_id": n, "is": "another"} for n in range(3)])
    db.d.drop()
    db.d.insert_one({"_id": "other"})
    db.b.delete_many({})
    rename(db.client, "b", "z")
    db.command({"collMod": "a", "validator": {}})
    db.command({"create": "w", "viewOn": "c", "pipeline": []})


LINKS = (first, second, third)


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def grown(chained: Chained, stop: Stops | None = None) -> None:
    for change in LINKS:
        change(chained.growing.client.shop)
        chained.link(stop)


def test_link_by_link(chained: Chained) -> None:
    """I40: documents, indexes, options, names, the mark; nothing is reported as others'."""
    grown(chained)
    for _ in LINKS:
        told = chained.back()
        assert sum(each.kept for each in told) == 0, told
        chained.must_be_back()
    assert not [name for name in chained.target.shop.list_collection_names() if KEPT in name]


def test_stopped_anywhere(chained: Chained) -> None:
    """I39, I40: what was applied again, and undone again, is as if it were once."""
    grown(chained, stops)
    for _ in LINKS:
        told = chained.back(stops)
        assert sum(each.kept for each in told) == 0, told
        chained.must_be_back()


def test_undone_twice(chained: Chained) -> None:
    """I39: each undo, again."""
    grown(chained)
    for _ in LINKS:
        tasks = [each for each in chained.started if f"link:{len(chained.worlds)}" in each.entity]
        chained.back()
        for task in reversed(tasks):
            if task.kind is TaskKind.SHAPE:
                assert chained.undo(task).kept == 0
        chained.must_be_back()


def test_random_links(pair: Pair, tmp_path: Path) -> None:
    """I40: unique values that wander between documents of several shards, stopped or not."""
    for seed in range(6):
        draw = random.Random(seed)
        pair.empty()
        db = pair.source_client.shop
        db.a.create_index("e", unique=True)
        db.a.insert_many([{"_id": n, "e": n} for n in range(30)])
        folder = tmp_path / str(seed) / JOB
        folder.mkdir(parents=True)
        chained = Chained(pair, folder, Growing(pair.source_client))
        chained.restore()
        for _ in range(3):
            wander(db, draw)
            chained.link(stops if seed % 2 else None)
        for _ in range(3):
            told = chained.back(stops if seed % 3 else None)
            chained.must_be_back()
            assert sum(each.kept for each in told) == 0, (seed, told)


def wander(db: Any, draw: random.Random) -> None:
    every = list(db.a.find({}))
    gone = draw.sample(every, 4)
    db.a.delete_many({"_id": {"$in": [each["_id"] for each in gone]}})
    stay = [each for each in every if each not in gone]
    moving = draw.sample(stay, 15)
    values = [each["e"] for each in moving] + [each["e"] for each in gone]
    draw.shuffle(values)
    db.a.update_many({"_id": {"$in": [each["_id"] for each in moving]}}, [{"$set": {
        "e": {"$add": ["$e", 10_000]}
    }}])  # fmt: skip
    for each, value in zip(moving, values, strict=False):
        db.a.update_one({"_id": each["_id"]}, {"$set": {"e": value, "n": draw.random()}})
    left = values[len(moving) :]
    ids = draw.sample(range(1000, 2000), len(left))
    db.a.insert_many([{"_id": n, "e": value} for n, value in zip(ids, left, strict=True)])


# --- what others did since ---


def test_what_others_changed_stays(chained: Chained) -> None:
    """M7: it is counted, and named."""
    first(chained.growing.client.shop)
    chained.link()
    db = chained.target.shop
    db.a.update_one({"_id": 25}, {"$set": {"mine": 1}})
    db.a.update_one({"_id": 100}, {"$set": {"mine": 1}})
    db.a.insert_one({"_id": 5, "e": 5, "mine": 1})
    db.a.delete_one({"_id": 30})
    db.a.insert_one({"_id": "new", "e": 30, "mine": 1})
    told = chained.back()
    assert sum(each.kept for each in told) == 4
    said_of = " ".join(each for done in told for each in done.changes)
    for key in (25, 100, 5):
        assert f'kept: shop.a {{"$numberInt":"{key}"}}: others changed it' in said_of, said_of
    found = {each["_id"]: each for each in db.a.find({})}
    assert [found[key].get("mine") for key in (25, 100, 5, "new")] == [1, 1, 1, 1]
    assert set(found) == {*range(60), 100, "new"} - {30}


def test_a_value_that_others_took(chained: Chained) -> None:
    """M7: what lay there cannot come back; the rest does."""
    first(chained.growing.client.shop)
    chained.link()
    chained.target.shop.a.insert_one({"_id": "new", "e": 3})
    told = chained.back()
    assert sum(each.kept for each in told) == 1
    assert any("others hold its place" in each for done in told for each in done.changes)
    keys = {each["_id"] for each in chained.target.shop.a.find({})}
    assert keys == set(range(60)) - {3} | {"new"}


def test_another_spelling_of_a_number_is_not_overwritten(chained: Chained) -> None:
    """M7: where a document was erased, others have put one under an equal `_id`."""
    first(chained.growing.client.shop)
    chained.link()
    chained.target.shop.a.insert_one({"_id": 5.0, "e": 5000, "mine": 1})
    told = chained.back()
    assert sum(each.kept for each in told) == 1, told
    found = chained.target.shop.a.find_one({"_id": 5})
    assert found == {"_id": 5.0, "e": 5000, "mine": 1}
    assert isinstance(found["_id"], float)


def test_what_a_chain_ends_with_frees_its_own(chained: Chained) -> None:
    """I40: what lay on the target before stays until somebody commits, whoever put it aside."""
    chained.target.shop.d.insert_one({"_id": "theirs"})
    before = documents(chained.target)
    chained.spec = chained.spec.model_copy(update={"drop": True})
    grown(chained)
    (line,) = free_own(chained.target, chained.folder)
    assert line.endswith("which was shop.d before")
    assert free_own(chained.target, chained.folder) == ()
    for _ in LINKS:
        chained.back()
        chained.worlds.pop()
    assert documents(chained.target)["shop.d"] == before["shop.d"]


def test_a_collection_of_ours_that_others_write_to(chained: Chained) -> None:
    first(chained.growing.client.shop)
    chained.link()
    db = chained.target.shop
    db.d.insert_one({"_id": "mine"})
    told = chained.back()
    assert any("shop.d, which this job made: others wrote to it" in each
               for done in told for each in done.changes)  # fmt: skip
    assert [each["_id"] for each in db.d.find({})] == ["mine"]


def test_options_and_indexes_that_others_changed(chained: Chained) -> None:
    first(chained.growing.client.shop)
    chained.link()
    db = chained.target.shop
    db.command({"collMod": "b", "validator": {"mine": 1}})
    db.a.drop_index("w_1")
    db.a.create_index("w", sparse=True)
    db.command({"collMod": "b", "index": {"name": "at_1", "expireAfterSeconds": 5 * 10**6}})
    told = chained.back()
    assert sum(each.kept for each in told) == 3, told
    assert db.b.options()["validator"] == {"mine": 1}
    assert db.a.index_information()["w_1"]["sparse"] is True
    assert db.b.index_information()["at_1"]["expireAfterSeconds"] == 5 * 10**6
    assert db.a.index_information()["v_1"]["hidden"] is True


def test_the_mark_of_a_job_that_ended(chained: Chained) -> None:
    """None comes back: nobody else is to be kept away."""
    first(chained.growing.client.shop)
    chained.link()
    clear_position(chained.target, JOB)
    chained.back()
    assert mark(chained.pair) is None


# --- what cannot be renamed ---


def test_time_series_and_stored_functions(pair: Pair, tmp_path: Path) -> None:
    db = pair.source_client.shop
    db.command({"create": "ts", "timeseries": {"timeField": "t", "metaField": "m"}})
    db.ts.create_index("m.x")
    db.ts.insert_many([{"t": datetime(2024, 1, n, tzinfo=UTC), "m": {"x": n}} for n in range(1, 9)])
    db["system.js"].insert_one({"_id": "f", "value": "one"})
    folder = tmp_path / JOB
    folder.mkdir()
    chained = Chained(pair, folder, Growing(pair.source_client))
    chained.restore()
    db.ts.insert_one({"t": datetime(2025, 1, 1, tzinfo=UTC), "m": {"x": 1}})
    db["system.js"].update_one({"_id": "f"}, {"$set": {"value": "other"}})
    chained.link()
    db["system.js"].delete_many({})
    db.ts.drop()
    chained.link()
    for _ in range(2):
        chained.back()
        chained.must_be_back()


# --- no log ---


def test_nothing_is_written_down_unless_it_is_wanted(chained: Chained) -> None:
    chained.spec = SPEC.model_copy(update={"undo": False, "verify": False})
    first(chained.growing.client.shop)
    chained.link()
    assert not (chained.folder / "undo").exists()


def test_following_is_not_taken_back(chained: Chained) -> None:
    (told,) = chained.undo(TaskKey(TaskKind.FOLLOW, "job")).changes
    assert "--force" in told
