"""What a job did is taken back: every kind of collection, with a user's own things among them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import Terminal, until

SMALL = ("--chunk-docs", "100", "--chunk-bytes", "2000000")
WAYS = {
    "into nothing": (),
    "beside": ("--on-conflict", "skip"),
    "over": ("--on-conflict", "overwrite"),
    "instead": ("--drop",),
    "swapped": ("--swap",),
    "direct, beside": ("--on-conflict", "skip", "--mode", "direct"),
    "direct, over": ("--on-conflict", "overwrite", "--mode", "direct"),
    "direct, instead": ("--drop", "--mode", "direct"),
}


def a_users_own(client: MongoClient[Any]) -> None:
    """All that the source has, but: some are missing, some have more, some documents differ."""
    every_kind.load(client)
    client.kinds.drop_collection("plain")
    for name in ("indexed", "collated"):
        place = client.kinds[name]
        ids = [each["_id"] for each in place.find({}, {"_id": 1}, sort=[("_id", 1)])]
        place.delete_many({"_id": {"$in": ids[::3]}})
        place.update_many({"_id": {"$in": ids[1::5]}}, {"$set": {"mine": True}})
        place.insert_many([{"_id": f"own {n}", "a": n} for n in range(20)])
    client.kinds.indexed.create_index("mine", name="mine")
    client.own.things.insert_one({"_id": 1})


SLOWER = ("into nothing", "swapped", "direct, beside", "direct, over", "direct, instead")


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.deep if way in SLOWER else ()) for way in WAYS]
)
def test_every_kind_is_as_it_was(way: str, pair: Pair, tmp_path: Path) -> None:
    """I40, M6, M8: the target after a migration and its rollback is the target before: names,
    options, indexes, documents to the byte; the user's own, and those that equal the source's."""
    every_kind.load(pair.source_client)
    if way != "into nothing":
        a_users_own(pair.target_client)
    before = every_kind.read(pair.target_client)
    ferrylog = Terminal(tmp_path, pair)
    started = ferrylog("start", *WAYS[way], *SMALL)
    assert started.returncode in (0, 3, 4), started.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client))
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []
    seen = ferrylog("inspect", "rollback", "--json")
    report = json.loads(seen.stdout)
    assert seen.returncode == 0
    assert (report["status"], report["kept"], report["order"]) == ("rolled_back", 0, [])


@pytest.mark.parametrize(
    "layout", ["chunks", pytest.param("mongodump", marks=pytest.mark.deep), "archive"]
)
def test_a_restore_is_taken_back(layout: str, pair: Pair, tmp_path: Path) -> None:
    """I40: also of files that know no ranges, and of an archive that is gone since."""
    every_kind.load(pair.source_client)
    pair.target_client.own.things.insert_one({"_id": 1})
    before = every_kind.read(pair.target_client)
    ferrylog, place = Terminal(tmp_path, pair), str(tmp_path / "dump")
    down = ("--archive", place) if layout == "archive" else ("--out", place, "--layout", layout)
    up = ("--archive", place) if layout == "archive" else ("--from", place)
    assert ferrylog("dump", *down, *SMALL).returncode == 0
    restored = ferrylog("restore", *up, *SMALL)
    assert restored.returncode == 0, restored.stderr
    if layout == "archive":
        Path(place).unlink()
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr + ferrylog("inspect", "rollback").stdout
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []


def test_what_others_changed_stays(pair: Pair, tmp_path: Path) -> None:
    """M13: an edited document and a new one in a collection that the job made are kept and named,
    the rest of it is gone, exit 3; by force all of it goes."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": n} for n in range(500)])
    pair.source_client.shop.others.insert_many([{"_id": n} for n in range(500)])
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--no-verify").returncode == 0
    target = pair.target_client.shop
    target.orders.update_one({"_id": 7}, {"$set": {"a": "edited"}})
    target.orders.insert_one({"_id": "theirs"})
    taken = ferrylog("rollback")
    assert taken.returncode == 3, taken.stderr
    assert "2 kept" in taken.stderr
    left = sorted(target.orders.find({}), key=str)
    assert left == [{"_id": "theirs"}, {"_id": 7, "a": "edited"}]
    assert target.list_collection_names() == ["orders"]
    told = ferrylog("inspect", "rollback").stdout
    assert "kept" in told
    again = ferrylog("rollback")
    assert again.returncode == 2
    assert "rolled back already" in again.stderr


def test_force_drops_what_the_job_made(pair: Pair, tmp_path: Path) -> None:
    """The operator's word that nobody's own lies there."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": n} for n in range(500)])
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start").returncode == 0
    pair.target_client.shop.orders.insert_one({"_id": "theirs"})
    taken = ferrylog("rollback", "--force")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.read(pair.target_client) == {}


def test_a_committed_job_stays(pair: Pair, tmp_path: Path) -> None:
    """M4, bad input: `commit` frees what was kept, and nothing takes the job back then."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(500)])
    pair.target_client.shop.orders.insert_one({"_id": "before"})
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--drop").returncode == 0
    kept = [name for name in pair.target_client.shop.list_collection_names() if "kept" in name]
    assert len(kept) == 1
    assert pair.target_client.shop[kept[0]].find_one() == {"_id": "before"}
    committed = ferrylog("commit")
    assert committed.returncode == 0, committed.stderr
    assert pair.target_client.shop.list_collection_names() == ["orders"]
    refused = ferrylog("rollback")
    assert refused.returncode == 2
    assert "committed" in refused.stderr
    assert not list(tmp_path.glob("**/undo"))


def test_jobs_that_change_nothing_are_refused(pair: Pair, tmp_path: Path) -> None:
    """Bad input: a dump is a folder, which its owner deletes."""
    pair.source_client.shop.orders.insert_one({"_id": 1})
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("dump", "--out", str(tmp_path / "dump")).returncode == 0
    refused = ferrylog("rollback")
    assert refused.returncode == 2
    assert "nothing that could be taken back" in refused.stderr


def test_an_undo_that_fails_stops_the_rollback(pair: Pair, tmp_path: Path) -> None:
    """I41, M13: of a damaged undo log no part is believed. Told, its cause removed, gone on with;
    nothing is called rolled back before."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": n} for n in range(500)])
    pair.source_client.shop.orders.create_index("a", name="a")
    pair.target_client.shop.orders.insert_one({"_id": "before"})
    before = every_kind.read(pair.target_client)
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--on-conflict", "skip").returncode == 0
    log = next(path for path in tmp_path.glob("**/undo/restore/*") if path.is_file())
    whole = log.read_bytes()
    log.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    assert "EUNDO003" in ferrylog("rollback", "--dry-run").stderr
    failed = ferrylog("rollback", "--json")
    assert failed.returncode == 1, failed.stderr
    status = json.loads(ferrylog("status", "--json").stdout)
    assert (status["status"], status["code"]) == ("rollback_failed", "EROLLBACK001")
    letters = ferrylog("dead-letters", "list", "--json").stdout
    assert "EUNDO003" in letters
    assert f"{log} is damaged at byte " in letters
    assert pair.target_client.shop.orders.count_documents({}) == 501
    log.write_bytes(whole)
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []
    assert ferrylog("inspect", "rollback").returncode == 0


def test_a_running_job_is_stopped_and_taken_back(pair: Pair, tmp_path: Path) -> None:
    """M2: `stop --immediate --rollback` from another terminal; the process itself ends with 6."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(100_000)])
    ferrylog = Terminal(tmp_path, pair)
    process = ferrylog.begin("start", "--chunk-docs", "1000")
    until(lambda: "restore_completed" in ferrylog.kinds())
    asked = ferrylog("stop", "--immediate", "--rollback")
    assert asked.returncode == 0, asked.stderr
    _, said = process.communicate(timeout=120)
    assert process.returncode == 6, said
    assert every_kind.read(pair.target_client) == {}


def test_the_story_of_a_rollback(pair: Pair, tmp_path: Path) -> None:
    """M14: a chunk's story tells that it was taken back, the timeline how each run ended."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(500)])
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start").returncode == 0
    assert ferrylog("rollback").returncode == 0
    story = ferrylog("inspect", "explain", "shop.orders#0").stdout
    assert "its documents go with their collection" in story
    runs = ferrylog.json("inspect", "timeline")["runs"]
    assert [run["end"] for run in runs] == ["completed", "rolled back"]
    status = ferrylog.json("status")
    assert (status["status"], status["rollback"]["undone"]) == ("rolled_back", 3)
