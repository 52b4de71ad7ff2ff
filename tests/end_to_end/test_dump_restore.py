"""Dumps in every layout, restored: every kind of collection, every document, to the byte."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import FERRYLOG, Terminal, until

LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "chunks": (("--out", "D"), ("--from", "D")),
    "chunks, plain": (("--out", "D", "--compression", "none"), ("--from", "D")),
    "mongodump": (("--out", "D", "--layout", "mongodump"), ("--from", "D")),
    "mongodump, gzip": (("--out", "D", "--layout", "mongodump", "--gzip"), ("--from", "D")),
    "archive": (("--archive", "D"), ("--archive", "D")),
    "archive, gzip": (("--archive", "D", "--gzip"), ("--archive", "D")),
}


def at(words: tuple[str, ...], place: Path) -> list[str]:
    return [str(place) if word == "D" else word for word in words]


SLOWER = ("chunks, plain", "mongodump", "archive, gzip")


@pytest.mark.parametrize(
    "layout",
    [pytest.param(name, marks=pytest.mark.deep if name in SLOWER else ()) for name in LAYOUTS],
)
def test_every_kind_survives(layout: str, pair: Pair, tmp_path: Path) -> None:
    """I22, faults.md 26: dump, restore: nothing is missing, extra, or different by a byte; the
    metadata is the same; the job's own verification says so, and a verification after it."""
    every_kind.load(pair.source_client)
    ferrylog, place = Terminal(tmp_path, pair), tmp_path / "dump"
    down, up = LAYOUTS[layout]
    small = ("--chunk-docs", "100", "--chunk-bytes", "2000000")
    dumped = ferrylog("dump", *at(down, place), *small)
    assert dumped.returncode == 0, dumped.stderr
    restored = ferrylog("restore", *at(up, place), *small)
    assert restored.returncode == 0, restored.stderr
    found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    assert every_kind.differences(*found) == []
    verified = ferrylog("verify", "--metadata", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_every_kind_is_migrated(pair: Pair, tmp_path: Path) -> None:
    """I22: `start` carries the same."""
    every_kind.load(pair.source_client)
    ferrylog = Terminal(tmp_path, pair)
    started = ferrylog("start", "--chunk-docs", "100")
    assert started.returncode == 0, started.stderr
    found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    assert every_kind.differences(*found) == []
    verified = ferrylog("verify", "--metadata")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _set_index(db: Any, name: str, **options: Any) -> None:
    db.command("collMod", "indexed", index={"name": name, **options})


PLANTED: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "document changed": (
        lambda db: db.indexed.update_one({"_id": 7}, {"$set": {"a": "else"}}),
        "kinds.indexed",
        "different",
    ),
    "document missing": (lambda db: db.indexed.delete_one({"_id": 8}), "kinds.indexed", "missing"),
    "document extra": (lambda db: db.indexed.insert_one({"_id": "x"}), "kinds.indexed", "extra"),
    "measurement extra": (
        lambda db: db.weather.insert_one({"at": datetime(2030, 1, 1, tzinfo=UTC), "where": 9}),
        "kinds.weather",
        "extra",
    ),
    "index option": (
        lambda db: _set_index(db, "expires", expireAfterSeconds=7200),
        "kinds.indexed",
        "index expires",
    ),
    "index hidden": (
        lambda db: _set_index(db, "compound", hidden=True),
        "kinds.indexed",
        "index compound",
    ),
    "index missing": (lambda db: db.indexed.drop_index("flat"), "kinds.indexed", "index flat"),
    "index extra": (lambda db: db.wild.create_index("new"), "kinds.wild", "index new_1"),
    "validator": (
        lambda db: db.command("collMod", "valid", validator={"a": {"$type": "long"}}),
        "kinds.valid",
        "option validator",
    ),
    "validation action": (
        lambda db: db.command("collMod", "valid", validationAction="warn"),
        "kinds.valid",
        "option validationAction",
    ),
    "view pipeline": (
        lambda db: db.command("collMod", "view", viewOn="indexed", pipeline=[{"$match": {"a": 1}}]),
        "kinds.view",
        "option pipeline",
    ),
    "pre-images": (
        lambda db: db.command("collMod", "images", changeStreamPreAndPostImages={"enabled": False}),
        "kinds.images",
        "option changeStreamPreAndPostImages",
    ),
}


def test_every_planted_difference_is_found_and_named(pair: Pair, tmp_path: Path) -> None:
    """One difference of each kind on a target that was equal: exit 4, and its name."""
    every_kind.load(pair.source_client)
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--ns-include", "kinds.*").returncode == 0
    target = pair.target_client.kinds
    for plant, _, _ in PLANTED.values():
        plant(target)
    verified = ferrylog("verify", "--metadata", "--json")
    assert verified.returncode == 4, verified.stderr
    report = ferrylog.json("verify", "--metadata")
    units = {unit["namespace"]: unit for unit in report["units"]}
    assert not report["equal"]
    for what, (_, namespace, named) in PLANTED.items():
        unit = units[namespace]
        told = [each["what"] for each in (*unit["differing"], *unit["metadata"])]
        assert any(each.startswith(named) for each in told), (what, told)
        assert not unit["equal"]
    untouched = set(units) - {namespace for _, namespace, _ in PLANTED.values()}
    assert untouched and all(units[each]["equal"] for each in untouched)


def test_users_and_roles(pair: Pair, tmp_path: Path) -> None:
    """They travel when asked for; else the report says how many were left."""
    source, target = pair.source_client, pair.target_client
    source.shop.c.insert_one({"_id": 1})
    source.admin.command("createRole", "reader", privileges=[], roles=["read"])
    source.shop.command("createUser", "ann", pwd="secret", roles=["read"])
    try:
        ferrylog = Terminal(tmp_path, pair)
        left = ferrylog("dump", "--out", str(tmp_path / "without"))
        assert left.returncode == 0, left.stderr
        assert "1 user and 1 role" in left.stderr
        took = ferrylog("dump", "--out", str(tmp_path / "with"), "--users-and-roles")
        assert took.returncode == 0, took.stderr
        back = ferrylog("restore", "--from", str(tmp_path / "with"), "--users-and-roles")
        assert back.returncode == 0, back.stderr
        assert _accounts(source) == _accounts(target) != ([], [])
        assert "tempusers" not in target.admin.list_collection_names()
        target.admin.tempusers.insert_one({"_id": "of another job that is at work"})
        assert ferrylog("resume").returncode == 0
        assert target.admin.tempusers.count_documents({}) == 1
        target.admin.tempusers.drop()
        assert "secret" not in left.stderr + took.stderr + back.stderr
    finally:
        for client in (source, target):
            client.shop.command("dropAllUsersFromDatabase")
            client.admin.command("dropAllRolesFromDatabase")


def _accounts(client: MongoClient[Any]) -> tuple[list[Any], list[Any]]:
    return list(client.admin["system.users"].find()), list(client.admin["system.roles"].find())


@pytest.mark.parametrize("gzip", [(), ("--gzip",)], ids=["plain", "gzip"])
def test_what_lies_beside_a_restored_file_is_named(
    gzip: tuple[str, ...], pair: Pair, tmp_path: Path
) -> None:
    """A file of mongodump knows no ranges: an extra document is found all the same."""
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(1000)])
    ferrylog, place = Terminal(tmp_path, pair), str(tmp_path / "dump")
    assert ferrylog("dump", "--out", place, "--layout", "mongodump", *gzip).returncode == 0
    assert ferrylog("restore", "--from", place).returncode == 0
    pair.target_client.shop.c.insert_one({"_id": "planted"})
    pair.target_client.shop.c.update_one({"_id": 5}, {"$set": {"x": 1}})
    pair.target_client.shop.c.delete_one({"_id": 6})
    verified = ferrylog.json("verify", "--metadata")
    [unit] = verified["units"]
    assert {(each["what"], each["key"]) for each in unit["differing"]} == {
        ("different", '{"$numberInt":"5"}'),
        ("missing", '{"$numberInt":"6"}'),
        ("extra", '"planted"'),
    }
    assert not unit["equal"]
    assert (unit["source_count"], unit["target_count"]) == (1000, 1000)


def test_selection_renames_and_queries(pair: Pair, tmp_path: Path) -> None:
    """Several collections, a query each, names with captures; what is left out is not there."""
    source, target = pair.source_client, pair.target_client
    for name in ("eu_orders", "us_orders", "log"):
        source.shop[name].insert_many([{"_id": n, "n": n} for n in range(100)])
    ferrylog = Terminal(tmp_path, pair)
    both = ("-d", "shop", "-c", "eu_orders", "-c", "us_orders")
    chosen = ("--query", 'shop.eu_orders={"n": {"$lt": 10}}', "--query", '{"n": {"$gte": 50}}')
    renamed = ("--ns-from", "shop.$region$_orders", "--ns-to", "$region$.orders")
    done = ferrylog("start", *both, *chosen, *renamed)
    assert done.returncode == 0, done.stderr
    counts = {
        name: target[name].orders.count_documents({})
        for name in target.list_database_names()
        if name not in every_kind.OWN
    }
    assert counts == {"eu": 10, "us": 50}
    place = str(tmp_path / "dump")
    assert ferrylog("dump", "--out", place, *both, "--query", '{"n": 7}').returncode == 0
    pair.target_client.drop_database("eu")
    pair.target_client.drop_database("us")
    back = ferrylog("restore", "--from", place, "--ns-exclude", "*.us_*", *renamed)
    assert back.returncode == 0, back.stderr
    assert [each["_id"] for each in target.eu.orders.find()] == [7]
    assert "us" not in target.list_database_names()


def test_a_snapshot_is_one_moment(pair: Pair, tmp_path: Path) -> None:
    """All chunks are read as of one cluster time, which stands in the manifest, the journal and
    the report, whatever is written meanwhile; a window that is over is named."""
    source = pair.source_client
    source.shop.c.insert_many([{"_id": n, "pad": "x" * 1000} for n in range(8_000)])
    ferrylog, place = Terminal(tmp_path, pair), tmp_path / "dump"
    words = ("dump", "--out", str(place), "--consistency", "snapshot", "--chunk-docs", "200")
    running = ferrylog.begin(*words, "--dump-workers", "1")
    until(lambda: "survey_completed" in ferrylog.kinds())
    source.shop.c.delete_many({"_id": {"$gte": 4_000}})
    source.shop.c.update_many({}, {"$set": {"late": True}})
    _, told = running.communicate(timeout=60)
    assert running.returncode == 0, told
    assert "snapshot" in told
    assert ferrylog("restore", "--from", str(place)).returncode == 0
    rows = list(pair.target_client.shop.c.find())
    assert len(rows) == 8_000 and not any("late" in row for row in rows)
    manifest = json.loads((place / "manifest.json").read_text())
    surveyed = ferrylog.events("--kind", "survey_completed")[0]
    assert manifest["facts"]["consistency"] == "snapshot"
    assert manifest["facts"]["cluster_time"] == surveyed["data"]["cluster_time"] != ""


@pytest.mark.parametrize("layout", ["chunks", "mongodump, gzip", "archive"])
def test_a_dry_run_of_a_restore_writes_nothing(layout: str, pair: Pair, tmp_path: Path) -> None:
    """I46: all of the dump is looked at, what is there is told, the target is untouched."""
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(1000)])
    pair.source_client.shop.create_collection("v", viewOn="c", pipeline=[])
    ferrylog, place = Terminal(tmp_path, pair), tmp_path / "dump"
    down, up = LAYOUTS[layout]
    assert ferrylog("dump", *at(down, place)).returncode == 0
    tried = ferrylog("restore", *at(up, place), "--dry-run", "--json")
    assert tried.returncode == 0, tried.stderr
    report = json.loads(tried.stdout)
    told = {unit["namespace"]: unit["documents"] for unit in report["units"]}
    assert told == {"shop.c": 1000, "shop.v": 0}
    assert "shop" not in pair.target_client.list_database_names()
    pair.target_client.shop.c.insert_one({"_id": 1})
    warned = ferrylog("restore", *at(up, place), "--dry-run", "--new")
    assert warned.returncode in (1, 3), warned.stderr
    assert pair.target_client.shop.c.count_documents({}) == 1


def test_drop_replaces_every_kind(pair: Pair, tmp_path: Path) -> None:
    """--drop replaces what lies there, functions of `system.js` too."""
    every_kind.load(pair.source_client)
    ferrylog, place = Terminal(tmp_path, pair), str(tmp_path / "dump")
    assert ferrylog("dump", "--out", place).returncode == 0
    assert ferrylog("restore", "--from", place).returncode == 0
    pair.target_client.kinds.indexed.insert_one({"_id": "theirs"})
    pair.target_client.kinds["system.js"].insert_one({"_id": "theirs", "value": 1})
    again = ferrylog("restore", "--from", place, "--drop", "--new")
    assert again.returncode == 0, again.stderr
    assert ferrylog("commit").returncode == 0  # what was replaced is kept until then
    found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    assert every_kind.differences(*found) == []


def test_archives_through_a_pipe(pair: Pair, tmp_path: Path) -> None:
    """Standard streams, in either spelling, from one program into another."""
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(3000)])
    one, two = Terminal(tmp_path / "a", pair), Terminal(tmp_path / "b", pair)
    for each in (one, two):
        each.journal.parent.mkdir()
    with one.begin("dump", "--archive", "--gzip", "--quiet") as out:
        into = subprocess.run(
            [*FERRYLOG, "restore", "--archive", "-"],
            env=two.environment,
            stdin=out.stdout,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert out.returncode == 0
    assert into.returncode == 0, into.stderr
    assert pair.target_client.shop.c.count_documents({}) == 3000


def test_an_archive_whose_reader_goes(pair: Pair, tmp_path: Path) -> None:
    """Half an archive is not followed by another one: the job pauses, a resume writes it whole."""
    rows = [{"_id": n, "pad": os.urandom(500)} for n in range(20_000)]
    pair.source_client.shop.c.insert_many(rows)
    ferrylog = Terminal(tmp_path, pair)
    with ferrylog.begin("dump", "--archive", "-") as running:
        assert running.stdout is not None
        running.stdout.buffer.read(1000)
        running.stdout.close()
        told = running.stderr.read() if running.stderr else ""
    assert running.returncode == 5, told
    assert "EDUMP005" in told
    whole = subprocess.run(
        [*FERRYLOG, "resume"], env=ferrylog.environment, capture_output=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "archive").write_bytes(whole.stdout)
    back = ferrylog("restore", "--archive", str(tmp_path / "archive"))
    assert back.returncode == 0, back.stderr
    assert pair.target_client.shop.c.count_documents({}) == 20_000
