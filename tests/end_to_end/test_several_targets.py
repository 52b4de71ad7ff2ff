"""Several targets: what is placed where, that nothing is lost or there twice, and that the end of
one target is not the end of another."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.increments.keyorder import order
from executors.rawbson import id_of
from ferrylog.embedded import Mongod
from tests import program
from tests.conftest import OWN, Pair
from tests.program import ferrylog

pytestmark = pytest.mark.server
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
Client = MongoClient[dict[str, Any]]
Content = dict[str, list[bytes]]
"""Documents by collection, in the order of their bytes."""


class Targets:
    """Three, and the journal of those who restore to them."""

    def __init__(self, servers: list[Mongod], folder: Path) -> None:
        self.servers = servers
        self.folder = folder
        for each in servers:
            with MongoClient[dict[str, Any]](each.uri) as client:
                for name in set(client.list_database_names()) - set(OWN):
                    client.drop_database(name)

    def restore(self, dump: Path, *more: str, of: int = 3) -> "CompletedProcess[str]":
        named = [word for each in self.servers[:of] for word in ("--target", each.uri)]
        words = ("restore", "--from", dump, *named, "--journal", self.journal)
        return ferrylog(*words, "--patience", "0", *more)

    @property
    def journal(self) -> Path:
        return self.folder / "one.db"

    def jobs(self) -> dict[str, str]:
        """By what is placed there."""
        told = ferrylog("jobs", "--json", "--journal", self.journal)
        names = [each["job"] for each in json.loads(told.stdout)["jobs"]]
        return {self._place(job): job for job in names}

    def statuses(self) -> dict[str, str]:
        told = ferrylog("jobs", "--json", "--journal", self.journal)
        found = json.loads(told.stdout)["jobs"]
        return {self._place(each["job"]): each["status"] for each in found}

    def _place(self, job: str) -> str:
        words = ("inspect", "events", job, "--kind", "job_requested", "--json")
        [line] = ferrylog(*words, "--journal", self.journal).stdout.splitlines()
        return str(json.loads(line)["data"]["spec"]["place"])

    def contents(self, of: int = 3) -> list[Content]:
        return [content(each.uri) for each in self.servers[:of]]


def content(uri: str) -> Content:
    with MongoClient[dict[str, Any]](uri) as client:
        return {
            f"{name}.{each}": sorted(
                bytes(found.raw) for found in client[name].get_collection(each, RAW).find()
            )
            for name in set(client.list_database_names()) - set(OWN)
            for each in client[name].list_collection_names(filter={"type": "collection"})
            if each != "system.views"
        }


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Mongod]]:
    folder = tmp_path_factory.mktemp("targets")
    with ExitStack() as stack:
        yield [stack.enter_context(Mongod(folder / f"t{n}", name=f"t{n}")) for n in range(3)]


@pytest.fixture
def targets(three: list[Mongod], tmp_path: Path) -> Targets:
    return Targets(three, tmp_path)


@pytest.fixture(scope="module")
def made(servers: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Content]]:
    """A chain of three links, and the source at each of them."""
    servers.empty()
    chain = tmp_path_factory.mktemp("chain") / "dump"
    shop = servers.source_client["shop"]
    states = []

    def link(*more: str) -> None:
        words = ("dump", "--source", servers.source.uri, "--out", chain, "--chunk-docs", "100")
        done = ferrylog(*words, *more, "--journal", chain.parent / "dump.db")
        assert done.returncode == 0, done.stderr
        states.append(content(servers.source.uri))

    shop["orders"].insert_many([{"_id": n, "u": n, "x": 0} for n in range(3_000)])
    shop["orders"].create_index("u", unique=True)
    shop["odd"].insert_many([{"_id": value, "n": n} for n, value in enumerate(ODD)])
    shop["few"].insert_many([{"_id": n} for n in range(5)])
    shop["gone"].insert_many([{"_id": n} for n in range(500)])
    shop["named"].insert_many([{"_id": f"a{n}"} for n in range(700)])
    shop.command({"create": "view", "viewOn": "orders", "pipeline": []})
    link("--consistency", "snapshot")
    shop["orders"].update_many({"_id": {"$lt": 1_500}}, {"$set": {"x": 1}})
    shop["orders"].delete_many({"_id": {"$gte": 2_500}})
    shop["orders"].insert_many([{"_id": n, "u": n} for n in range(10_000, 10_400)])
    shop["gone"].drop()
    shop["fresh"].insert_many([{"_id": ObjectId(), "n": n} for n in range(900)])
    shop["named"].rename("called")
    link("--incremental")
    for key, value in ((1, -1), (2, 1), (1, 2)):  # they exchange what is unique
        shop["orders"].update_one({"_id": key}, {"$set": {"u": value}})
    shop["called"].delete_many({"_id": {"$regex": "^a1"}})
    shop["called"].insert_many([{"_id": f"b{n}"} for n in range(300)])
    shop["fresh"].update_many({"n": {"$lt": 300}}, {"$set": {"x": 1}})
    shop["odd"].delete_one({"_id": 7})
    shop["odd"].insert_one({"_id": 7.0, "again": True})
    link("--incremental")
    return chain, states


ODD = [
    *range(20),
    *(Int64(n) for n in range(20, 40)),
    *(float(n) for n in range(40, 60)),
    *(Decimal128(str(n)) for n in range(60, 80)),
    *(f"{n}" for n in range(20)),
    *({"a": n} for n in range(20)),
    None, True,
]  # fmt: skip


def union(contents: list[Content]) -> Content:
    """Raises where a document is on two of them."""
    whole: Content = {}
    for each in contents:
        for name, found in each.items():
            whole.setdefault(name, []).extend(found)
    for name, found in whole.items():
        keys = [order(id_of(document)) for document in found]
        assert len(set(keys)) == len(keys), name
    return {name: sorted(found) for name, found in whole.items()}


def hashed(document: bytes, of: int) -> int:
    """As documented: who looks for a document has to find it without ferrylog."""
    return int.from_bytes(sha256(order(id_of(document))).digest()[:8], "big") % of


@pytest.mark.parametrize("of", [pytest.param(2, marks=pytest.mark.deep), 3])
@pytest.mark.parametrize("link", [pytest.param(0, marks=pytest.mark.deep), 2])
def test_by_hash(of: int, link: int, made: tuple[Path, list[Content]], targets: Targets) -> None:
    """I22, I33: a full dump alone, and a chain."""
    chain, states = made
    done = targets.restore(chain, "--to-increment", str(link), of=of)
    assert done.returncode == 0, done.stderr
    contents = targets.contents(of)
    assert union(contents) == states[link]
    for number, each in enumerate(contents):
        for found in each.values():
            assert {hashed(document, of) for document in found} <= {number}
        assert len(each["shop.orders"]) > 600
        assert each.keys() == states[link].keys()
    for server in targets.servers[:of]:
        with MongoClient[dict[str, Any]](server.uri) as client:
            assert client["shop"]["orders"].index_information()["u_1"]["unique"]
            assert client["shop"]["view"].options()["viewOn"] == "orders"
            assert "ferrylog" not in client.list_database_names()


@pytest.mark.parametrize("of", [2, pytest.param(3, marks=pytest.mark.deep)])
@pytest.mark.parametrize("link", [*(pytest.param(n, marks=pytest.mark.deep) for n in (0, 1)), 2])
def test_by_range(of: int, link: int, made: tuple[Path, list[Content]], targets: Targets) -> None:
    """I22, I33: each target has lower keys than the next; a later link moves no boundary."""
    chain, states = made
    done = targets.restore(chain, "--placement", "range", "--to-increment", str(link), of=of)
    assert done.returncode == 0, done.stderr
    contents = targets.contents(of)
    assert union(contents) == states[link]
    for name in states[link]:
        keys = [sorted(order(id_of(each)) for each in found[name]) for found in contents]
        there = [each for each in keys if each]
        assert all(one[-1] < other[0] for one, other in pairwise(there)), name
    assert not contents[1]["shop.few"]
    even = [len(each["shop.orders"]) for each in contents]
    if not link:
        assert max(even) - min(even) <= 400
    if link:
        assert all(each["shop.fresh"] for each in contents)


def test_counts_are_those_of_each_target(
    made: tuple[Path, list[Content]], targets: Targets
) -> None:
    """I25: what belongs elsewhere is neither restored nor rejected, and nobody waits for it."""
    done = targets.restore(made[0], "--to-increment", "0", "--json", of=2)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["schema"] for each in lines] == ["ferrylog.status/1"] * 2
    for told, there in zip(lines, targets.contents(2), strict=True):
        for unit in told["units"]:
            if unit["namespace"] != "shop.view":
                counts = unit["documents"]
                assert counts["restored"] == len(there[unit["namespace"]])
                assert counts["total_estimate"] == counts["restored"]
        assert not told["dead_letters"]
    assert sum(each["totals"]["documents"]["restored"] for each in lines) == sum(
        map(len, made[1][0].values())
    )


def test_a_comparison_of_its_own(made: tuple[Path, list[Content]], targets: Targets) -> None:
    """`verify JOB` compares what belongs there, and finds what does not."""
    assert targets.restore(made[0], "--to-increment", "0", of=2).returncode == 0
    job = targets.jobs()["hash:1/2"]
    words = ("verify", job, "--json", "--journal", targets.journal)
    done = ferrylog(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    with (
        MongoClient[dict[str, Any]](targets.servers[0].uri) as other,
        MongoClient[dict[str, Any]](targets.servers[1].uri) as client,
    ):
        stranger = other["shop"]["orders"].find_one()
        assert stranger
        client["shop"]["orders"].insert_one(stranger)
    done = ferrylog(*words)
    assert done.returncode == 4
    [unit] = [each for each in json.loads(done.stdout)["units"] if not each["equal"]]
    key = json.dumps({"$numberInt": str(stranger["_id"])}, separators=(",", ":"))
    assert unit["differing"] == [{"key": key, "what": "extra"}]


# --- ends of their own ------------------------------------------------------------------------


@pytest.fixture
def large(servers: Pair, tmp_path: Path) -> Path:
    """A chain of two links, which takes a moment to restore."""
    servers.empty()
    shop = servers.source_client["shop"]
    for how in (("--consistency", "snapshot"), ("--incremental",)):
        more = len(how) == 1
        shop["orders"].insert_many([{"_id": n + 0.5 * more, "x": "x" * 500} for n in range(20_000)])
        words = ("dump", "--source", servers.source.uri, "--out", tmp_path / "dump")
        done = ferrylog(*words, "--chunk-docs", "700", *how, "--journal", tmp_path / "dump.db")
        assert done.returncode == 0, done.stderr
    return tmp_path / "dump"


@pytest.mark.deep
@pytest.mark.parametrize(("moment", "placement"), [("full", "hash"), ("increment", "range")])
def test_a_target_that_dies_stops_its_own_job_only(
    moment: str, placement: str, large: Path, targets: Targets, servers: Pair
) -> None:
    """Y9, Y12: the others are completed; the same command goes on with what is left, and only with
    that."""
    killed = Killer(targets.servers[1], moment)
    with killed:
        done = targets.restore(large, "--placement", placement)
    assert killed.hit.is_set()
    assert done.returncode == 5, done.stderr
    places = [f"{placement}:{n}/3" for n in range(3)]
    before = targets.jobs()
    assert [targets.statuses()[each] for each in places] == ["completed", "paused", "completed"]
    targets.servers[1].start()
    done = targets.restore(large, "--placement", placement)
    assert done.returncode == 0, done.stderr
    assert targets.jobs() == before
    for place in (places[0], places[2]):
        assert f"job {before[place]} has done this" in done.stderr
    assert f"continuing the unfinished job {before[places[1]]}" in done.stderr
    assert union(targets.contents()) == content(servers.source.uri)
    done = targets.restore(large, "--placement", placement)
    assert done.returncode == 0
    assert targets.jobs() == before


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.deep), signal.SIGKILL]
)
def test_the_program_ends_in_the_middle(
    how: signal.Signals, large: Path, targets: Targets, servers: Pair
) -> None:
    """I12: an interrupt ends all of it; the same command goes on, whatever ended it."""
    named = [word for each in targets.servers for word in ("--target", each.uri)]
    words = ["restore", "--from", str(large), *named, "--journal", str(targets.journal)]
    process = program.begin(*words, stderr=subprocess.PIPE, text=True)
    with MongoClient[dict[str, Any]](targets.servers[1].uri) as client:
        while not client["shop"]["orders"].find_one():
            time.sleep(0.002)
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (5 if how is signal.SIGINT else -signal.SIGKILL), told
    assert targets.statuses().keys() == {"hash:0/3", "hash:1/3"}
    assert targets.statuses()["hash:0/3"] == "completed"
    done = targets.restore(large)
    assert done.returncode == 0, done.stderr
    assert len(targets.jobs()) == 3
    assert union(targets.contents()) == content(servers.source.uri)


@pytest.mark.deep
def test_a_target_that_cannot_be_reached(
    made: tuple[Path, list[Content]], targets: Targets
) -> None:
    """The others are begun and completed all the same; the worst end is that of the command."""
    targets.servers[0].kill()
    try:
        uri = targets.servers[0].uri + "?serverSelectionTimeoutMS=500"
        more = [word for each in targets.servers[1:] for word in ("--target", each.uri)]
        words = ("restore", "--from", str(made[0]), "--target", uri, *more)
        done = ferrylog(*words, "--journal", targets.journal)
    finally:
        targets.servers[0].start()
    assert done.returncode == 1, done.stderr
    assert "ECONN002" in done.stderr
    assert set(targets.statuses().values()) == {"completed"}
    assert targets.restore(made[0]).returncode == 0
    assert union(targets.contents()) == made[1][-1]


class Killer:
    """Kills a server in the middle of its restore."""

    def __init__(self, server: Mongod, moment: str) -> None:
        self._server = server
        self._moment = moment
        self._over = threading.Event()
        self.hit = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with MongoClient[dict[str, Any]](self._server.uri) as client:
            while not self._over.is_set() and not self._reached(client):
                time.sleep(0.002)
        if not self._over.is_set():
            self._server.kill()
            self.hit.set()

    def _reached(self, client: Client) -> bool:
        database, place = ("shop", "orders") if self._moment == "full" else ("ferrylog", "position")
        return bool(client[database][place].find_one())


def test_what_somebody_replaced_is_not_taken_for_done(
    made: tuple[Path, list[Content]], targets: Targets
) -> None:
    """A later job of the same journal brought something else to that target."""
    assert targets.restore(made[0], "--to-increment", "0", of=2).returncode == 0
    before = targets.jobs()
    assert targets.restore(made[0], "--to-increment", "0", "--drop", of=1).returncode == 0
    done = targets.restore(made[0], "--to-increment", "0", of=2)
    assert done.returncode == 1, done.stderr
    assert "ETARGET001" in done.stderr
    assert f"job {before['hash:1/2']} has done this" in done.stderr
    assert before["hash:0/2"] not in done.stderr


# --- what is refused --------------------------------------------------------------------------


def test_a_target_named_twice(made: tuple[Path, list[Content]], targets: Targets) -> None:
    """With `--drop` the second half would replace the first."""
    twice = targets.servers[0].uri.replace("127.0.0.1", "localhost")
    done = targets.restore(made[0], "--drop", "--target", twice, of=1)
    assert done.returncode == 2
    assert "already" in done.stderr
    assert targets.statuses() == {"hash:0/2": "completed"}


def test_what_cannot_be_placed(made: tuple[Path, list[Content]], targets: Targets) -> None:
    plain = targets.folder / "orders.bson"
    plain.write_bytes(bson.encode({"_id": 1}))
    for dump, more, of, why in (
        (made[0], ("--placement", "range"), 1, "several targets"),
        (plain, ("-d", "shop", "-c", "orders", "--placement", "range"), 2, "ranges"),
    ):
        done = targets.restore(dump, *more, of=of)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr
    assert targets.contents() == [{}, {}, {}]


def test_others_dumps_and_documents_without_ids(targets: Targets) -> None:
    """By hash: a document gets the `_id` that any target would give it, and lies there once."""
    path = targets.folder / "orders.bson"
    path.write_bytes(b"".join(bson.encode({"n": n}) for n in range(500)) + bson.encode({"_id": 1}))
    done = targets.restore(path, "-d", "shop", "-c", "orders", of=2)
    assert done.returncode == 0, done.stderr
    contents = targets.contents(2)
    assert min(len(each["shop.orders"]) for each in contents) > 150
    found = [bson.decode(each) for each in union(contents)["shop.orders"]]
    assert sorted(each.get("n", -1) for each in found) == [-1, *range(500)]
