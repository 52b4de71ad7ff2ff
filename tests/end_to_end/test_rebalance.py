"""Ranges of a collection on their way between two servers: paused, killed, stopped, written to;
at every rest each document is where the placement file says, and at the end all are."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from ferrylog.opsfile import read_ops
from tests import program
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until
from tests.executors.rebalance.range import NS, Content, content

pytestmark = pytest.mark.server
LOOK_S = 0.25
"""Between two looks; more than the tick of a run."""


class Rebalancing(Terminal):
    """All documents on `a`, and half of them are to go to `b`."""

    def __init__(self, folder: Path, pair: Pair, documents: int, per_range: int) -> None:
        super().__init__(folder, pair)
        self.pair, self.per_range = pair, per_range
        orders = pair.source_client.shop.orders
        for start in range(0, documents, 10_000):
            orders.insert_many(
                [{"_id": n, "t": f"order {n}"} for n in range(start, start + 10_000)]
            )
        pair.target_client.shop.create_collection("orders")
        self.file = folder / "placement.json"
        whole = {"lower": None, "upper": None, "endpoint": "a"}
        named = {"schema": "ferrylog.placement/1", "ns": NS, "ranges": [whole]}
        self.file.write_text(json.dumps(named))
        self.all = content(pair.source_client)
        self.begun: list[subprocess.Popen[str]] = []
        self("jobs")  # what comes later need not wait until the program is loaded

    def words(self, *more: str) -> tuple[str, ...]:
        places = (
            *("--endpoint", f"a={self.pair.source.uri}"),
            *("--endpoint", f"b={self.pair.target.uri}"),
        )
        what = ("--ns", NS, "--placement", str(self.file), "--chunk-docs", str(self.per_range))
        wish = () if {"--move", "--plan"} & set(more) else ("--even",)
        return ("rebalance", *places, *what, *wish, "--tick", "0.2", *more)

    def rebalance(self, *more: str) -> "CompletedProcess[str]":
        return program.ferrylog(*self.words(*more), env=self.environment, timeout_s=300)

    def start(self, *more: str) -> "subprocess.Popen[str]":
        self.begun.append(self.begin(*self.words(*more)))
        return self.begun[-1]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The new place answers nobody: a group is under way, and stays so."""
        os.kill(self.pair.target.pid, signal.SIGSTOP)
        try:
            told = -1
            while told != (told := len(self.kinds())):
                time.sleep(LOOK_S)
            yield
        finally:
            os.kill(self.pair.target.pid, signal.SIGCONT)

    def status(self) -> Any:
        return self.json("rebalance", "--status")

    def places(self) -> tuple[Content, Content]:
        return content(self.pair.source_client), content(self.pair.target_client)

    def must_be_whole(self) -> None:
        """Nothing lost, nothing altered: whatever is half way."""
        a, b = self.places()
        assert a | b == b | a == self.all

    def must_be_placed(self) -> None:
        """Each document once, where the file says."""
        a, b = self.places()
        assert a | b == self.all
        assert not a.keys() & b.keys()
        for each in json.loads(self.file.read_text())["ranges"]:
            lower, upper = each["lower"], each["upper"]
            low = int(lower["$numberInt"]) if lower else 0
            high = int(upper["$numberInt"]) if upper else len(self.all)
            mine = a if each["endpoint"] == "a" else b
            keys = {f'{{"$numberInt":"{n}"}}' for n in range(low, high)} & self.all.keys()
            assert keys <= mine.keys()

    def must_be_told(self, report: Any) -> None:
        """The percentage is that of the documents of ranges that are done."""
        done = [each["documents"] for each in report["moves"] if each["status"] == "done"]
        total = sum(each["documents"] for each in report["moves"])
        assert report["documents_done"] == sum(done)
        assert report["percent"] == pytest.approx(100 * sum(done) / total, abs=0.11)
        counts = dict(report["ranges"])
        assert counts.pop("total") == len(report["moves"]) == sum(counts.values())


@pytest.fixture
def small(tmp_path: Path, pair: Pair) -> Iterator[Rebalancing]:
    yield from _until_ended(Rebalancing(tmp_path, pair, 20_000, 1_000))


def _until_ended(rebalancing: Rebalancing) -> Iterator[Rebalancing]:
    yield rebalancing
    for process in rebalancing.begun:
        if process.poll() is None:
            process.kill()
            process.communicate()
    for client in (rebalancing.pair.source_client, rebalancing.pair.target_client):
        client.admin.command("killAllSessions", [])  # transactions of those that were killed


def happened(terminal: Terminal, kind: str, more: int) -> None:
    """Wait for so many more events of a kind."""
    before = terminal.kinds().count(kind)
    until(lambda: terminal.kinds().count(kind) >= before + more, timeout_s=120)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, error = process.communicate(timeout=120)
    return process.returncode, error


def the_day(it: Rebalancing, *, kills: int) -> None:
    """M2, I12, I40: paused by request and by signal, killed, stopped with rollback, finished."""
    running = it.start()
    happened(it, "operation_completed", 6)
    with it.frozen():
        paused = it("pause")
    assert paused.returncode == 0, paused.stderr
    code, error = ended(running)
    assert code == 5, error
    assert "the same command goes on" in error
    it.must_be_whole()
    it.must_be_told(it.status())
    assert 0 < it.status()["ranges"]["done"] < it.status()["ranges"]["total"]

    lot = random.Random(7)
    for _ in range(kills):
        running = it.start()
        happened(it, "operation_started", lot.randint(1, 6))
        running.kill()
        running.communicate()
        it.must_be_whole()

    running = it.start()
    happened(it, "operation_started", 2)
    running.send_signal(signal.SIGTERM)
    code, error = ended(running)
    assert code == 5, error
    it.must_be_whole()

    running = it.start()
    happened(it, "operation_started", 3)
    with it.frozen():
        stopped = it("stop", "--immediate", "--rollback")
    assert stopped.returncode == 0, stopped.stderr
    code, error = ended(running)
    assert code == 6, error
    it.must_be_placed()
    report = it.status()
    it.must_be_told(report)
    assert report["ranges"]["rolled_back"] == 1

    done = it.rebalance("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["percent"] == 100
    assert report["ranges"]["done"] == report["ranges"]["total"]
    it.must_be_placed()
    assert len(it.places()[1]) == len(it.all) // 2
    assert it("inspect", "check").returncode == 0
    assert it.rebalance().returncode == 0, "nothing is left to do"
    it.must_be_placed()


@pytest.mark.deep
def test_a_day_of_a_rebalance(small: Rebalancing) -> None:
    """M2, I12, I40."""
    the_day(small, kills=2)


@pytest.mark.deep
def test_two_hundred_thousand_documents(tmp_path: Path) -> None:
    """M2, I12, I40: as the small one, with many more kills."""
    with (
        Mongod(tmp_path / "a", name="a") as a,
        Mongod(tmp_path / "b", name="b") as b,
        MongoClient[dict[str, Any]](a.uri) as one,
        MongoClient[dict[str, Any]](b.uri) as two,
    ):
        for it in _until_ended(Rebalancing(tmp_path, Pair(a, b, one, two), 200_000, 5_000)):
            the_day(it, kills=8)


def test_what_is_written_meanwhile_is_moved_later(small: Rebalancing) -> None:
    """A writer at the old place: its range is rolled back, and moved when it is quiet."""
    running = small.start("--retries", "5")
    happened(small, "operation_completed", 2)
    orders = small.pair.source_client.shop.orders
    with small.frozen():  # some range is read, and is not deleted yet
        written = [
            n
            for n in range(10_000, 20_000, 250)
            if orders.update_one({"_id": n}, {"$set": {"t": "later"}}).matched_count
        ]
    code, error = ended(running)
    assert code == 0, error
    assert "EPLACE003" in error
    it = small.places()
    assert all(b"later" in (it[0] | it[1])[f'{{"$numberInt":"{n}"}}'] for n in written)
    small.all |= {key: one for key, one in (it[0] | it[1]).items() if b"later" in one}
    small.must_be_placed()


def test_what_cannot_be_moved_is_reported(small: Rebalancing) -> None:
    """Another document at the new place: its range stays, the others go; exit 3."""
    strange = small.pair.target_client.shop.orders
    strange.insert_one({"_id": 12_500, "of": "b"})
    told = small.rebalance("--json")
    assert told.returncode == 3, told.stderr
    report = json.loads(told.stdout)
    assert (report["ranges"]["done"], report["ranges"]["rolled_back"]) == (9, 1)
    [left] = [each for each in report["moves"] if each["status"] == "rolled_back"]
    assert left["code"] == "EPLACE004"
    assert "12500" in left["why"]
    strange.delete_one({"_id": 12_500, "of": "b"})
    assert small.rebalance().returncode == 0
    small.must_be_placed()


def test_one_range_is_taken_back_after_all(small: Rebalancing) -> None:
    """M6, I40: `rollback` of a group that has ended; the same command moves it again."""
    before = small.file.read_text()
    words = ("--move", "5000:6000:a:b")
    assert small.rebalance(*words).returncode == 0
    job = small.status()["moves"][0]["job"]
    places = small.words()[1:5]
    back = small("rollback", job, *places)
    assert back.returncode == 0, back.stderr
    small.must_be_placed()
    assert json.loads(small.file.read_text()) == json.loads(before)
    assert small.rebalance(*words).returncode == 0
    small.must_be_placed()
    assert len(small.places()[1]) == 1000


def test_what_makes_no_sense_is_refused(small: Rebalancing) -> None:
    """Before anything is written."""
    uri = small.pair.source.uri
    place = ("--ns", NS, "--placement", str(small.file))
    for words, why in (
        (("rebalance",), "--ns"),
        (("rebalance", *place), "in one way"),
        (("rebalance", *place, "--even"), "between two endpoints"),
        (
            ("rebalance", *place, "--even", "--endpoint", f"a={uri}", "--endpoint", f"b={uri}"),
            "one deployment",
        ),
        (small.words("--move", "1:5:a:b", "--move", "4:6:a:b"), "overlap"),
        (small.words("--move", "1:5:a:c"), "endpoint c"),
        (small.words("--placement", str(small.file) + "x"), "cannot be used"),
        (("rebalance", "--status"), ""),
    ):
        told = small(*words)
        assert told.returncode in (1, 2), told.stderr
        assert why in told.stderr
    assert not small.journal.exists()


def test_a_dry_run_writes_nothing(small: Rebalancing) -> None:
    """I46: what would be moved, and as commands for a mongos."""
    told = small.rebalance("--dry-run", "--json")
    assert (told.returncode, json.loads(told.stdout)["documents"]) == (0, 10_000)
    assert "copy_range, taken back by delete_copied" in small.rebalance("--dry-run").stderr
    commands = small.file.with_name("commands.json")
    commands.write_text(small.rebalance("--via-mongos").stdout)
    group = read_ops(commands)
    assert [len(group.operations), group.operations[0].id] == [10, "range-0001"]
    small.must_be_placed()
    assert not small.journal.exists()
