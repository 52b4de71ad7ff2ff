"""Dumps in every layout, restored: every kind of collection, every document, to the byte."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import Terminal

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


@pytest.mark.parametrize("layout", LAYOUTS)
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
        assert "secret" not in left.stderr + took.stderr + back.stderr
    finally:
        for client in (source, target):
            client.shop.command("dropAllUsersFromDatabase")
            client.admin.command("dropAllRolesFromDatabase")


def _accounts(client: MongoClient[Any]) -> tuple[list[Any], list[Any]]:
    return list(client.admin["system.users"].find()), list(client.admin["system.roles"].find())
