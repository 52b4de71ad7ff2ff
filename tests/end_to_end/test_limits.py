"""Limits on real servers: held, told, and nothing lost for them (F3, F4, F7, F17)."""

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.end_to_end.test_main_job import FERRYLOG, Terminal, until

pytestmark = pytest.mark.server

LIMIT_MB = 300
Client = MongoClient[Any]


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


def small(client: Client, count: int) -> None:
    client.shop.orders.insert_many([{"_id": n, "text": "x" * 100} for n in range(count)])


def test_a_rate_is_kept_until_it_is_lifted(terminal: Terminal, pair: Pair) -> None:
    """F7: 3,000 documents at 20 a second would take two minutes; `set` reaches who waits."""
    small(pair.source_client, 3000)
    words = ("--chunk-docs", "300", "--restore-workers", "2", "--no-verify", "--tick", "0.1")
    running = terminal.begin("start", "--write-docs-per-s", "20", *words)
    until(lambda: "restore_started" in terminal.kinds())
    time.sleep(0.5)
    assert pair.target_client.shop.orders.count_documents({}) <= 600, "one block of each worker"
    changed = terminal("set", "read-mb-per-s=1.5", "memory-limit=1g", "write-docs-per-s=0")
    assert changed.returncode == 0, changed.stderr
    _, error = running.communicate(timeout=60)
    assert running.returncode == 0, error
    assert pair.target_client.shop.orders.count_documents({}) == 3000
    told = {each["data"]["name"]: each["data"]["value"] for each in settings_changed(terminal)}
    assert told == {"write_docs_per_s": 0, "read_bytes_per_s": 1_500_000, "memory_limit": 1 << 30}


def settings_changed(terminal: Terminal) -> list[dict[str, Any]]:
    return terminal.events("--kind", "setting_changed")


@pytest.mark.deep
def test_a_disk_near_its_reserve_pauses_a_dump(
    terminal: Terminal, pair: Pair, tmp_path: Path
) -> None:
    """EDISK001 before the disk is full; nothing is lost, and `resume` with less goes on."""
    small(pair.source_client, 500)
    out = tmp_path / "dump"
    paused = terminal("dump", "--out", str(out), "--disk-reserve", "4000t")
    assert (paused.returncode, "EDISK001" in paused.stderr) == (5, True), paused.stderr
    assert not list(out.rglob("*.flb*"))
    done = terminal("resume", "--disk-reserve", "1m")
    assert done.returncode == 0, done.stderr
    back = terminal("restore", "--from", str(out), "--cpu-limit", "90", "--memory-limit", "80%")
    assert back.returncode == 0, back.stderr
    assert pair.target_client.shop.orders.count_documents({}) == 500


@pytest.mark.deep
@pytest.mark.parametrize("mode", ["coordinated", "direct"])
def test_300_megabytes_are_enough_for_16_workers(mode: str, terminal: Terminal, pair: Pair) -> None:
    """F3: documents of 300 KB, 8 readers and 8 writers; by the process's own high-water mark."""
    draw = random.Random(1)
    for start in range(0, 600, 100):
        rows = [{"_id": n, "pad": draw.randbytes(300_000)} for n in range(start, start + 100)]
        pair.source_client.big.c.insert_many(rows)
    words = ("start", "--mode", mode, "--memory-limit", f"{LIMIT_MB}m", "--chunk-bytes", "8000000")
    workers = ("--dump-workers", "8", "--restore-workers", "8")
    code, peak_mb = peak([*FERRYLOG, *words, *workers], terminal.environment)
    assert code == 0
    assert pair.target_client.big.c.count_documents({}) == 600
    assert 30 < peak_mb < LIMIT_MB


def peak(words: list[str], environment: dict[str, str]) -> tuple[int, float]:
    """Exit code and VmHWM in MiB of a process of its own: that of a fork begins with its
    parent's."""
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = [line for line in status.splitlines() if line.startswith("VmHWM")]
        most = max([most, *(int(line.split()[1]) for line in found)])
        time.sleep(0.02)
    return process.returncode, most / 1024


# --- a server that is slow -----------------------------------------------------------------------


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Mongod]:
    """A target that can be told to refuse inserts, or to keep them waiting."""
    options = ("--setParameter", "enableTestCommands=1")
    with Mongod(tmp_path / "breakable", name="breakable", options=options) as mongod:
        yield mongod


def inserts(client: Client, mode: Any, **how: Any) -> None:
    data = {"data": {"failCommands": ["insert"], "appName": "ferrylog", **how}} if how else {}
    client.admin.command({"configureFailPoint": "failCommand", "mode": mode, **data})


@contextmanager
def competing(uri: str) -> Iterator[None]:
    """Somebody else at work on the target, all the time."""
    ended = threading.Event()

    def work() -> None:
        with MongoClient[Any](uri) as client:
            mine, n = client.other.rows, 0
            while not ended.is_set():
                mine.insert_many([{"n": n, "pad": "y" * 500} for _ in range(100)])
                mine.update_many({"n": n - 1}, {"$inc": {"n": -1}})
                n += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.deep
def test_a_slow_server_is_told_and_recovers(
    terminal: Terminal, pair: Pair, breakable: Mongod
) -> None:
    """F1, F7, F17: throttled, then slow beside a competing load: both alerts are raised and
    cleared while the job runs, commands become smaller, throughput recovers, nothing is lost."""
    count = 90_000
    small(pair.source_client, count)
    terminal.environment["FERRYLOG_TARGET"] = breakable.uri
    words = ("--chunk-docs", "500", "--write-docs-per-s", "700", "--tick", "0.5", "--no-verify")
    with Client(breakable.uri) as client, competing(breakable.uri):
        inserts(client, {"times": 3}, errorCode=16500)
        running, began_s = terminal.begin("start", *words), time.monotonic()
        try:
            until(lambda: alerts(terminal, "raised", "throttled"))
            time.sleep(max(0.0, 62 - (time.monotonic() - began_s)))  # an average takes a minute
            inserts(client, "alwaysOn", blockConnection=True, blockTimeMS=8000)
            until(lambda: alerts(terminal, "raised", "slow"), 90)
            inserts(client, "off")
            until(lambda: alerts(terminal, "cleared", "throttled"), 60)
            until(lambda: alerts(terminal, "cleared", "slow"), 90)
            terminal("set", "write-docs-per-s=0")
            _, error = running.communicate(timeout=120)
        finally:
            inserts(client, "off")
            if running.poll() is None:
                running.kill()
                running.communicate()
        assert running.returncode == 0, error
        assert client.shop.orders.count_documents({}) == count
    causes = {each["data"]["cause"] for each in terminal.events("--kind", "batch_resized")}
    assert causes & {"slower", "throttled"}


def alerts(terminal: Terminal, verb: str, alert: str) -> bool:
    told = terminal.events("--kind", f"alert_{verb}")
    return any(each["data"]["alert"] == alert for each in told)
