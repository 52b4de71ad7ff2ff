"""Write commands of real jobs: as big as the target takes them in good time, and nothing lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until

pytestmark = pytest.mark.server

UNIT = "shop.orders"
Client = MongoClient[dict[str, Any]]


def fill(pair: Pair, count: int, size: int = 1000) -> None:
    pad = "x" * size
    for begin in range(0, count, 10_000):
        several = [{"_id": n, "pad": pad} for n in range(begin, min(count, begin + 10_000))]
        pair.source_client.shop.orders.insert_many(several)


def is_whole(pair: Pair, count: int) -> bool:
    """Nothing is lost: the program has compared the documents, the server counts them."""
    return pair.target_client.shop.orders.count_documents({}) == count


def resized(terminal: Terminal, *causes: str) -> list[dict[str, Any]]:
    events = terminal.events("--kind", "batch_resized")
    return [each["data"] for each in events if not causes or each["data"]["cause"] in causes]


def sizes(told: list[dict[str, Any]]) -> list[int]:
    """Documents, from the first to the last."""
    return [told[0]["was_documents"], *(each["documents"] for each in told)] if told else []


# --- policies -------------------------------------------------------------------------------------


def test_a_target_that_is_too_slow_gets_less(pair: Pair, tmp_path: Path) -> None:
    """F1, I43: no server answers in no time: the size goes down, within the policy's limits; the
    journal and `status` say so, and the next job to that target begins where this one ended."""
    fill(pair, 4000, 100)
    terminal = Terminal(tmp_path, pair)
    how = ("--batch", "document", "--batch-ms", "1")
    done = terminal("start", "--chunk-docs", "1000", *how)
    assert done.returncode == 0, done.stderr
    assert is_whole(pair, 4000)
    told = resized(terminal, "slower")
    assert told and all(10 <= each["documents"] <= 1000 for each in told)
    assert all(2 * each["documents"] <= (each["was_documents"] or 100) for each in told)
    (unit,) = terminal.json("status")["units"]
    last = resized(terminal)[-1]
    assert unit["batch"] == {"documents": last["documents"], "bytes": last["bytes"]}
    assert "Write commands hold" in terminal("inspect", "explain", UNIT).stdout

    done = terminal("start", "--new", "--drop", "--chunk-docs", "1000", *how)
    assert done.returncode == 0, done.stderr
    (first, *_) = resized(terminal)
    assert (first["cause"], first["documents"]) == ("learned", last["documents"])


def test_a_fixed_size_is_kept(pair: Pair, tmp_path: Path) -> None:
    """F1: nothing is told of what does not change; the environment may say it too."""
    fill(pair, 300, 10)
    terminal = Terminal(tmp_path, pair)
    before = inserts_of(pair)
    terminal.environment["BATCH_SIZE_ADAPTIVE"] = "false"
    done = terminal("start", "--batch-docs", "30")
    assert done.returncode == 0, done.stderr
    assert is_whole(pair, 300)
    assert inserts_of(pair) - before >= 10
    assert resized(terminal) == []
    (started,) = terminal.events("--kind", "run_started")
    settings = started["data"]["settings"]
    assert (settings["batch"], settings["batch_docs"]) == ("fixed", 30)
    terminal.environment["BATCH_SIZE_ADAPTIVE"] = "perhaps"
    wrong = terminal("start")
    assert wrong.returncode == 2 and "BATCH_SIZE_ADAPTIVE" in wrong.stderr


def inserts_of(pair: Pair) -> int:
    """Commands that the target has carried out."""
    found = pair.target_client.admin.command("serverStatus")["metrics"]["commands"]["insert"]
    return int(found["total"])


# --- a target that becomes slow, and recovers -----------------------------------------------------


@pytest.fixture
def slowed(pair: Pair, tmp_path: Path) -> Iterator[Pair]:
    """A target that can be told to keep inserts waiting."""
    options = ("--setParameter", "enableTestCommands=1")
    with (
        Mongod(tmp_path / "slowed", name="slowed", options=options) as mongod,
        Client(mongod.uri) as client,
    ):
        yield replace(pair, target=mongod, target_client=client)


def keep_waiting(target: Mongod, wait_ms: int) -> None:
    """Each insert of ferrylog's; 0: none any more."""
    where = {"failCommands": ["insert"], "appName": "ferrylog"}
    point: dict[str, Any] = {"configureFailPoint": "failCommand", "mode": "off"}
    if wait_ms:
        how = {"blockConnection": True, "blockTimeMS": wait_ms}
        point |= {"mode": "alwaysOn", "data": where | how}
    with Client(target.uri) as client:
        client.admin.command(point)


@contextmanager
def running(terminal: Terminal, *words: str) -> Iterator[Callable[[], int]]:
    """A job that runs meanwhile; gives what waits for its end."""
    process = terminal.begin(*words)

    def code() -> int:
        process.communicate(timeout=240)
        return int(process.returncode)

    try:
        yield code
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.deep
@pytest.mark.parametrize("policy", ["adaptive", "document"])
def test_a_target_that_becomes_slow_and_recovers(slowed: Pair, tmp_path: Path, policy: str) -> None:
    """F1, I43: commands shrink while each takes long, and grow when they do not any more; the
    journal says why, and nothing is lost."""
    count = 60_000
    fill(slowed, count)
    terminal = Terminal(tmp_path, slowed)
    how = ("--batch", policy, "--batch-ms", "200", "--chunk-docs", "5000")
    keep_waiting(slowed.target, 600)
    with running(terminal, "start", *how) as code:
        until(lambda: resized(terminal, "slower"))
        shrunk = len(resized(terminal))
        keep_waiting(slowed.target, 0)
        assert code() == 0
    assert is_whole(slowed, count)
    told = resized(terminal)
    assert told[0]["cause"] == "slower" and told[0]["batch_ms"] >= 600
    assert [each["cause"] for each in told[shrunk:]].count("faster") >= 1
    after = sizes(told)
    assert after[-1] > min(after[1:]), after
    assert after[-1] >= 500, after


@pytest.mark.deep
def test_a_competing_load(pair: Pair, tmp_path: Path) -> None:
    """F1: a target that others keep busy, and leave alone, and keep busy: every document arrives,
    and every size is within the policy's limits."""
    count = 150_000
    fill(pair, count, 300)
    terminal = Terminal(tmp_path, pair)
    busy, ended = threading.Event(), threading.Event()
    others = [threading.Thread(target=compete, args=(pair, busy, ended)) for _ in range(3)]
    for each in others:
        each.start()
    try:
        with running(terminal, "start", "--batch-ms", "40", "--chunk-docs", "10000") as code:
            for _ in range(4):
                busy.set()
                ended.wait(1.5)
                busy.clear()
                ended.wait(1.5)
            assert code() == 0
    finally:
        ended.set()
        for each in others:
            each.join()
    assert is_whole(pair, count)
    told = resized(terminal)
    assert {"slower", "faster"} & {each["cause"] for each in told}, told
    assert all(10 <= each["documents"] <= 50_000 for each in told)
    assert all((64 << 10) <= each["bytes"] <= (2 << 20) for each in told)


def compete(pair: Pair, busy: threading.Event, ended: threading.Event) -> None:
    """Keeps a core of the target's machine, and its storage, at work."""
    sums = {"$group": {"_id": {"$mod": ["$_id", 97]}, "sum": {"$sum": {"$sqrt": "$_id"}}}}
    while not ended.is_set():
        if busy.wait(0.1):
            pair.target_client.shop.orders.aggregate([sums]).to_list()
