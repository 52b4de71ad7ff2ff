"""A source is followed round by round (Y2, Y7): behind a drained round the target is alike, byte by
byte, whatever happened in between and however often a round was begun again (I12, I22, I33)."""

import random
import threading
import time
from contextlib import suppress

import bson
import pytest
from pymongo.errors import OperationFailure

from executors.increments.alike import at, unit_of
from executors.increments.apply import Target
from executors.increments.errors import Unfollowable
from executors.increments.follow import refuse_unfollowable
from executors.protocol import Stopped
from executors.select import TwoBecomeOne, renames_of
from tests.conftest import Pair
from tests.executors.increments.following import Bench, Killed, held

pytestmark = pytest.mark.server


@pytest.fixture
def bench(pair: Pair) -> Bench:
    return Bench(pair)


# --- documents ---


def test_what_changes_is_on_the_target_after_a_drained_round(bench: Bench) -> None:
    """I22: inserted, changed, deleted; an idle round writes nothing and goes on (Y7)."""
    things = bench.source.shop.things
    things.insert_many([{"_id": n, "n": n} for n in range(100)])
    followed = bench.round()
    things.update_many({"n": {"$lt": 10}}, {"$set": {"x": "changed"}})
    things.delete_many({"n": {"$gt": 90}})
    bench.drain()
    idle = bench.round()
    bench.must_be_alike()
    assert (followed.documents, followed.erased) == (100, 0)
    assert followed.bytes == sum(len(bson.encode({"_id": n, "n": n})) for n in range(100))
    assert (idle.documents, idle.erased, idle.changes) == (0, 0, ())
    assert idle.token and position(idle.cluster_time) >= position(followed.cluster_time)
    assert sum(each.erased for each in bench.rounds) == 9


def position(cluster_time: str) -> tuple[int, ...]:
    return tuple(map(int, cluster_time.split(".")))


def test_documents_of_every_kind_come_to_the_byte(bench: Bench) -> None:
    """I22: names with `$` and dots, empty timestamps, keys that look like operators, and equal
    numbers of different types."""
    odd = [
        {"_id": 1, "$a": 1, "b.c": {"$set": 2}},
        {"_id": {"a": 1}, "x": bson.Timestamp(0, 0)},
        {"_id": 2.0, "x": float("nan")},
        {"_id": bson.Decimal128("3.0")},
        {"_id": None, "big": "x" * 100_000},
    ]
    for each in odd:
        bench.source.shop.things.insert_one(each)
    bench.drain()
    bench.source.shop.things.delete_one({"_id": 2})
    bench.source.shop.things.insert_one({"_id": bson.Int64(2)})
    bench.drain()
    bench.must_be_alike()


def test_a_collation_makes_one_key_of_two_spellings(bench: Bench) -> None:
    bench.source.shop.create_collection("things", collation={"locale": "en", "strength": 2})
    bench.source.shop.things.insert_one({"_id": "A", "v": 1})
    bench.drain()
    bench.source.shop.things.delete_one({"_id": "A"})
    bench.source.shop.things.insert_one({"_id": "a", "v": 2})
    bench.drain()
    bench.must_be_alike()


def test_unique_values_move_between_documents(bench: Bench) -> None:
    """I33: who holds a value on the target gives way and comes again, in one round or later."""
    things = bench.source.shop.things
    things.create_index([("x", 1), ("y.z", -1)], unique=True)
    things.create_index("w", unique=True, sparse=True, collation={"locale": "en", "strength": 2})
    things.insert_many([{"_id": n, "x": n, "w": f"N{n}"} for n in range(50)])
    bench.drain()
    for _ in range(3):
        numbers = random.Random(1).sample(range(50), 50)
        things.update_many({}, [{"$set": {"x": {"$add": ["$x", 1000]}, "w": "$$REMOVE"}}])
        for n, x in enumerate(numbers):
            things.update_one({"_id": n}, {"$set": {"x": x, "w": f"n{x}"}})
        bench.drain()
        bench.must_be_alike()


def test_a_place_is_taken_before_its_holder_is_looked_up(bench: Bench) -> None:
    """The holder's change comes in a later batch; it is not lost."""
    things = bench.source.shop.things
    things.create_index("x", unique=True)
    things.insert_many([{"_id": 1, "x": "a"}, {"_id": 2, "x": "b"}])
    bench.drain()
    bench.target.shop.things.update_one({"_id": 2}, {"$set": {"x": "c"}})  # as if older there
    things.update_one({"_id": 1}, {"$set": {"x": "c"}})
    bench.drain()
    bench.must_be_alike()


def test_an_index_that_the_source_dropped_is_not_in_the_way(bench: Bench) -> None:
    """Its event comes behind documents that it does not bear: as of now they are there."""
    things = bench.source.shop.things
    things.create_index("x", unique=True)
    things.create_index([("g", "2dsphere")])
    things.insert_many([{"_id": n, "x": n} for n in range(3)])
    bench.drain()
    things.update_one({"_id": 0}, {"$set": {"x": 7}})
    things.drop_indexes()
    things.update_many({}, {"$set": {"x": 7, "g": "nowhere"}})
    changes = bench.drain()
    bench.must_be_alike()
    assert any("in the way" in change for change in changes)


def test_an_index_that_cannot_stand_yet_is_built_at_the_end(bench: Bench) -> None:
    """I22: documents of different times in one collection."""
    things = bench.source.shop.things
    things.insert_many([{"_id": n, "x": 1} for n in range(2)])
    bench.drain()
    things.update_one({"_id": 0}, {"$set": {"x": 2}})
    things.create_index("x", unique=True)
    bench.target.shop.things.insert_one({"_id": 5, "x": 1})
    bench.drain()
    assert "x_1" not in bench.target.shop.things.index_information()
    bench.target.shop.things.delete_one({"_id": 5})
    assert bench.settle().differing == ()
    bench.must_be_alike()


# --- names, options, indexes ---


def test_collections_come_change_and_go(bench: Bench) -> None:
    shop = bench.source.shop
    shop.create_collection("a", validator={"n": {"$gte": 0}})
    shop.a.create_index("n")
    shop.a.create_index("t", expireAfterSeconds=1000)
    shop.a.insert_many([{"_id": n, "n": n} for n in range(10)])
    shop.create_collection("v", viewOn="a", pipeline=[])
    shop.create_collection("w", viewOn="a", pipeline=[])
    bench.drain()
    shop.command("collMod", "a", validator={"n": {"$gte": 1}}, validationLevel="moderate")
    shop.command("collMod", "a", index={"name": "n_1", "hidden": True})
    shop.command("collMod", "a", index={"name": "t_1", "expireAfterSeconds": 500})
    shop.command("collMod", "v", viewOn="a", pipeline=[{"$match": {"n": 1}}])
    shop.w.drop()
    bench.drain()
    assert bench.settle().differing == ()
    bench.must_be_alike()
    bench.source.drop_database("shop")
    bench.drain()
    assert held(bench.target) == {}


def test_a_rename_is_followed_under_both_names(bench: Bench) -> None:
    """Documents before it come by the old name, though looked up under the new one."""
    shop = bench.source.shop
    shop.a.insert_many([{"_id": n, "v": "a"} for n in range(10)])
    shop.b.insert_many([{"_id": n, "v": "b"} for n in range(10)])
    shop.a.rename("c")
    shop.c.update_many({}, {"$set": {"w": 1}})
    shop.b.rename("c", dropTarget=True)
    shop.a.insert_one({"_id": 5, "v": "new"})
    shop.a.rename("d")
    shop.c.aggregate([{"$out": "e"}])
    shop.e.aggregate([{"$out": {"db": "other", "coll": "e"}}])
    bench.drain()
    bench.must_be_alike()


def test_what_is_made_again_under_its_name_keeps_its_documents(bench: Bench) -> None:
    """Events of the one before it erase nothing of it."""
    things = bench.source.shop.things
    things.insert_many([{"_id": n, "v": 1} for n in range(10)])
    bench.drain()
    things.delete_many({})
    things.drop()
    things.insert_many([{"_id": n, "v": 2} for n in range(5)])
    bench.drain()
    bench.must_be_alike()


def test_an_index_that_is_still_being_built_is_not_there_yet(bench: Bench) -> None:
    """Nothing is told of a build that fails in the end."""
    things = bench.source.shop.things
    things.insert_many([{"_id": n, "x": n % 200_000} for n in range(200_001)])

    def build() -> None:
        with suppress(OperationFailure):
            things.create_index("x", unique=True)

    building = threading.Thread(target=build)
    building.start()
    while len(things.index_information()) == 1:
        time.sleep(0.001)
    entry = at(bench.source, "shop.things")
    assert entry is not None
    indexes = unit_of(bench.source, entry, "shop.things").indexes
    assert len(things.index_information()) == 2, "it was too fast for this test"
    building.join()
    assert indexes == ()


def test_what_the_target_lost_comes_whole_or_not_at_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: killed in the midst of it, it is not taken for whole; nothing of ours stays."""
    things = bench.source.shop.things
    things.insert_many([{"_id": n} for n in range(10)])
    bench.drain()
    bench.target.shop.things.drop()
    things.insert_one({"_id": 10})
    monkeypatch.setattr(Target, "apply", killed)
    with pytest.raises(Killed):
        bench.drain()
    assert list(held(bench.target)) == ["shop.ferrylog.aside"]
    monkeypatch.undo()
    bench.anew()
    assert "shop.things carried whole" in bench.drain()
    bench.must_be_alike()


def killed(*_: object) -> None:
    raise Killed


# --- selection ---


def test_renames_and_selection_of_the_job_count(pair: Pair) -> None:
    """A collection that is renamed into what is selected is carried whole; out of it, dropped."""
    pairs = renames_of(["shop.*"], ["store.new_*"])
    bench = Bench(pair, exclude=("*.tmp*", "other.*"), renames=pairs)
    shop = bench.source.shop
    shop.tmp1.insert_many([{"_id": n} for n in range(10)])
    shop.a.insert_many([{"_id": n} for n in range(10)])
    bench.source.other.x.insert_one({"_id": 1})
    bench.drain()
    assert sorted(held(bench.target)) == ["store.new_a"]
    shop.tmp1.create_index("x", unique=True, sparse=True)
    shop.tmp1.rename("b")
    shop.b.insert_one({"_id": 10})
    bench.drain()
    shop.a.rename("tmp2")
    shop.tmp2.insert_one({"_id": 11})
    bench.drain()
    for name in ("tmp1", "tmp2"):
        shop[name].drop()
    bench.source.drop_database("other")
    bench.must_be_alike(lambda name: name.replace("shop.", "store.new_"))
    assert bench.settle().differing == ()


def test_two_that_would_become_one_are_refused(pair: Pair) -> None:
    bench = Bench(pair, renames=renames_of(["shop.a"], ["shop.b"]))
    bench.source.shop.a.insert_one({"_id": 1})
    bench.drain()
    bench.source.shop.b.insert_one({"_id": 1})
    with pytest.raises(TwoBecomeOne):
        bench.drain()


def test_what_does_not_fit_the_query_is_erased(pair: Pair) -> None:
    bench = Bench(pair, queries=(("shop.*", '{"keep":true}'), ("old.*", '{"_id":1}')))
    things = bench.source.shop.things
    things.insert_many([{"_id": n, "keep": n % 2 == 0} for n in range(10)])
    bench.drain()
    assert bench.target.shop.things.count_documents({}) == 5
    things.update_many({"_id": {"$lt": 4}}, {"$set": {"keep": False}})
    bench.drain()
    assert {each["_id"] for each in bench.target.shop.things.find()} == {4, 6, 8}
    things.rename("all")
    bench.drain()
    assert {each["_id"] for each in bench.target.shop.all.find()} == {4, 6, 8}


def test_what_no_stream_tells_is_refused_by_name(bench: Bench) -> None:
    """EFOLLOW001, before and while a source is followed."""
    refuse_unfollowable(bench.source, bench.spec)
    shop = bench.source.shop
    shop.create_collection("ts", timeseries={"timeField": "t"})
    with pytest.raises(Unfollowable, match=r"shop\.ts \(time series\)"):
        bench.drain()
    shop.create_collection("log", capped=True, size=4096)
    with pytest.raises(Unfollowable) as raised:
        refuse_unfollowable(bench.source, bench.spec)
    assert raised.value.code == "EFOLLOW001"
    assert "--ns-exclude 'shop.log'" in str(raised.value.remedy)
    shop.ts.drop()
    with pytest.raises(Unfollowable, match="capped"):
        bench.drain()
    shop.log.drop()
    bench.drain()
    assert held(bench.target) == {}


def test_system_js_is_carried_at_the_end(bench: Bench) -> None:
    """No stream tells of it."""
    functions = bench.source.shop["system.js"]
    functions.insert_many([{"_id": "f", "value": 1}, {"_id": "g", "value": 1}])
    bench.settle()
    bench.must_be_alike()
    functions.delete_one({"_id": "f"})
    functions.update_one({"_id": "g"}, {"$set": {"value": 2}})
    bench.drain()
    bench.settle()
    bench.must_be_alike()


# --- time ---


def test_expiry_sleeps_until_following_ends(bench: Bench) -> None:
    """A target deletes nothing by itself while it is behind."""
    things = bench.source.shop.things
    things.create_index("t", expireAfterSeconds=10)
    bench.drain()
    assert bench.target.shop.things.index_information()["t_1"]["expireAfterSeconds"] > 2**30
    assert bench.settle().differing == ()
    assert bench.target.shop.things.index_information()["t_1"]["expireAfterSeconds"] == 10


def test_a_stop_ends_a_round_and_another_process_goes_on(bench: Bench) -> None:
    bench.source.shop.things.insert_one({"_id": 1})
    bench.stop.set()
    with pytest.raises(Stopped):
        bench.round()
    bench.stop.clear()
    bench.anew()
    bench.drain()
    bench.must_be_alike()


def test_a_round_begins_where_it_is_told(bench: Bench) -> None:
    """Not where the open cursor stands: the record of what it brought may be lost."""
    bench.round()
    token = bench.token
    bench.source.shop.things.insert_one({"_id": 1})
    bench.drain()
    bench.target.shop.things.delete_one({})
    bench.token = token
    bench.drain()
    bench.must_be_alike()


@pytest.mark.deep  # it is timed
def test_the_target_is_less_than_two_seconds_behind(bench: Bench) -> None:
    """At 1,000 changes a second; what is told of it is not less than what is so."""
    things = bench.source.shop.things
    done = threading.Event()

    def write() -> None:
        begin, n = time.monotonic(), 0
        while not done.is_set():
            n += 20
            things.insert_many([{"_id": n - each, "at": time.time()} for each in range(20)])
            done.wait(max(0.0, begin + n / 1000 - time.monotonic()))

    seen: list[float] = []

    def look() -> None:
        while not done.wait(0.05):
            newest = bench.target.shop.things.find_one(sort=[("_id", -1)])
            seen.append(time.time() - newest["at"] if newest else 0.0)

    threads = [threading.Thread(target=write), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        bench.round(ms=1000)
    done.set()
    for thread in threads:
        thread.join()
    bench.drain()
    bench.must_be_alike()
    behind = sorted(seen[5:])
    print(
        f"behind: median {behind[len(behind) // 2]:.3f} s, most {behind[-1]:.3f} s; told "
        f"{[each.lag_ms for each in bench.rounds]} ms; {things.count_documents({})} documents"
    )
    assert behind[-1] < 2
    assert all(each.lag_ms < 2000 for each in bench.rounds)
