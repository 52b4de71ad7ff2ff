"""Coordinated and direct mode do the same: judged by bytes, on real servers, also when killed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from pymongo import DESCENDING, HASHED, MongoClient

from tests.conftest import Pair
from tests.end_to_end import oracle
from tests.end_to_end.test_main_job import Terminal, left_by, until

pytestmark = pytest.mark.server

DOCUMENTS = 6_000
KILLED_AFTER = 8
"""Chunks on the target, of about 60."""
WORDS = ("start", "--chunk-docs", "300", "--dump-workers", "1", "--restore-workers", "1")
CARRIED = {"coordinated": "restore_completed", "direct": "copy_completed"}
PROBE = ".writable"
"""Whether the folder can be written is tried before anything begins."""


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    """Collections of every kind: `_id`s of many types, indexes, options, a capped one, a view."""
    shop, depot = pair.source_client.shop, pair.source_client.depot
    shop.mixed.insert_many({"_id": _id(n), "n": n} for n in range(DOCUMENTS))
    shop.orders.insert_many(
        {
            "_id": n,
            "code": f"c{n}",
            "at": n % 97,
            "place": {"type": "Point", "coordinates": [n % 90, 1]},
        }
        for n in range(DOCUMENTS)
    )
    shop.orders.create_index("code", unique=True)
    shop.orders.create_index([("at", DESCENDING), ("code", 1)], sparse=True)
    shop.orders.create_index([("place", "2dsphere")])
    shop.orders.create_index([("code", HASHED)])
    shop.create_collection("log", capped=True, size=1 << 20, max=2_000)
    shop.log.insert_many({"_id": 7 * n % 5_003, "line": f"line {n}"} for n in range(2_500))
    shop.create_collection("late", viewOn="orders", pipeline=[{"$match": {"at": {"$gt": 90}}}])
    depot.create_collection("empty", validator={"a": {"$gt": 0}}, collation={"locale": "de"})
    depot.get_collection("With.Dots and ünïcode").insert_many({} for _ in range(1_000))
    depot.fat.insert_many({"_id": n, "blob": Binary(bytes(20_000))} for n in range(400))
    return pair


def _id(n: int) -> Any:
    """Of each type in turn; no two are the same key."""
    return (
        n,
        Int64(n + 2**40),
        n + 0.5,
        f"{n}",
        ObjectId(f"{n:024x}"),
        Binary(n.to_bytes(4, "big"), 5),
        {"a": n, "b": None},
        Decimal128(f"{n}.25"),
    )[n % 8]


@pytest.mark.parametrize(
    "killed", [pytest.param(False, marks=pytest.mark.deep), True], ids=["undisturbed", "killed"]
)
@pytest.mark.parametrize("mode", CARRIED)
def test_either_mode_leaves_the_same(
    terminal: Terminal, loaded: Pair, mode: str, killed: bool
) -> None:
    """I12, I22: documents, indexes, options and the order of what is capped, to the byte; in
    direct mode no document ever lies in a file."""
    with _looking(terminal) as seen:
        _migrate(terminal, mode, killed=killed)
    source, target = oracle.snapshot(loaded.source.uri), oracle.snapshot(loaded.target.uri)
    assert source.documents > 2 * DOCUMENTS
    assert oracle.differences(source, target) == []
    assert _in_order(loaded.target_client) == _in_order(loaded.source_client)
    kinds = {kind.partition("_")[0] for kind in terminal.kinds()} & {"dump", "restore", "copy"}
    assert kinds == ({"copy"} if mode == "direct" else {"dump", "restore"})
    assert any(name.endswith(".flb") for name in seen) is (mode == "coordinated")
    assert mode == "coordinated" or seen <= {PROBE}, seen
    assert not left_by(terminal.journal)
    verified = terminal("verify")
    assert verified.returncode == 0, verified.stderr


def _migrate(terminal: Terminal, mode: str, *, killed: bool) -> None:
    if not killed:
        done = terminal(*WORDS, "--mode", mode)
        assert done.returncode == 0, done.stderr
        return
    running = terminal.begin(*WORDS, "--mode", mode)
    until(lambda: terminal.kinds().count(CARRIED[mode]) >= KILLED_AFTER)
    running.kill()
    running.communicate()
    assert "job_completed" not in terminal.kinds()
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    completed = [each["entity"] for each in terminal.events("--kind", CARRIED[mode])]
    assert len(completed) == len(set(completed)), "I15"


@contextmanager
def _looking(terminal: Terminal) -> Iterator[set[str]]:
    """Names of all files that are ever seen in the work folder."""
    seen, ended = set[str](), threading.Event()
    folder = Path(f"{terminal.journal}.d")

    def look() -> None:
        while not ended.wait(0.005):
            for place, _, files in os.walk(folder):  # minds nothing that vanishes meanwhile
                if "undo" not in Path(place).parts:  # which hold no document
                    seen.update(files)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _in_order(client: MongoClient[dict[str, Any]]) -> list[bytes]:
    """What is capped, in the order in which it was inserted."""
    log = client.shop.log.with_options(codec_options=oracle.RAW)
    return [bytes(each.raw) for each in log.find(hint={"$natural": 1})]
