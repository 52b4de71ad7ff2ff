"""What carrying changes takes: named before a job begins, and no more than that (P10)."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.end_to_end.test_bad_input import Side, guarded
from tests.program import ferrylog

pytestmark = pytest.mark.server
EVERYTHING = (("readWrite", "shop"), ("dbAdmin", "shop"))


@dataclass
class Guarded:
    source: Side
    target: Side
    chain: Path
    """Its second link drops, renames, creates, alters, changes and erases."""
    folder: Path

    def run(self, *words: str | Path) -> "CompletedProcess[str]":
        return ferrylog(*words, "--journal", self.folder / "ferrylog.db")

    def restore(self, *roles: tuple[str, str]) -> "CompletedProcess[str]":
        uri = self.target.may_only(*roles)
        return self.run("restore", "--from", self.chain, "--target", uri, "--to-increment", "1")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side, Path]]:
    folder = tmp_path_factory.mktemp("guarded")
    with guarded(folder / "source", "source") as source, guarded(folder / "t", "t") as target:
        shop = source.client["shop"]
        fill(source)
        reader = source.may_only(("read", "shop"))
        dump = ("dump", "--source", reader, "--out", folder / "chain")
        own = ("--journal", folder / "dump.db")
        done = ferrylog(*dump, "-d", "shop", "--consistency", "snapshot", *own)
        assert done.returncode == 0, done.stderr
        change(source)
        done = ferrylog(*dump, "--incremental", *own)
        assert done.returncode == 0, done.stderr
        shop["orders"].insert_one({"_id": -1})
        yield source, target, folder / "chain"


def fill(source: Side) -> None:
    source.client.drop_database("shop")
    shop = source.client["shop"]
    shop["orders"].insert_many([{"_id": n, "u": n} for n in range(200)])
    shop["orders"].create_index("u", unique=True)
    shop["orders"].create_index("x", name="gone")
    shop["first"].insert_one({"_id": 1})
    shop["dropped"].insert_one({"_id": 1})


def change(source: Side) -> None:
    shop = source.client["shop"]
    shop["orders"].delete_many({"_id": {"$gte": 100}})
    for key, value in ((1, -1), (2, 1), (1, 2)):  # they exchange what is unique
        shop["orders"].update_one({"_id": key}, {"$set": {"u": value}})
    shop["orders"].drop_index("gone")
    shop["orders"].create_index("y", expireAfterSeconds=10_000)
    shop.command("collMod", "orders", validator={"x": {"$exists": False}})
    shop["first"].rename("second")
    shop["dropped"].drop()
    shop["new"].insert_one({"_id": 1})


@pytest.fixture
def place(both: tuple[Side, Side, Path], tmp_path: Path) -> Guarded:
    source, target, chain = both
    for name in ("shop", "ferrylog"):
        target.client.drop_database(name)
    return Guarded(source, target, chain, tmp_path)


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        ((("restore", "admin"), ("read", "shop")), ("update, remove", "database shop")),
        (EVERYTHING, ("find, insert, update, remove, dropCollection", "database ferrylog")),
        ((("readWrite", "shop"), ("readWrite", "ferrylog")), ("collMod", "database shop")),
    ],
    ids=["restore only", "no place for its mark", "no dbAdmin"],
)
def test_a_chain_is_not_begun_without_its_rights(
    roles: tuple[tuple[str, str], ...], named: tuple[str, ...], place: Guarded
) -> None:
    done = place.restore(*roles)
    assert done.returncode == 1, done.stderr
    assert "[ECONN004]" in done.stderr
    for each in named:
        assert each in done.stderr
    assert not place.target.content()


def test_a_chain_with_just_its_rights(place: Guarded) -> None:
    done = place.restore(*EVERYTHING, ("readWrite", "ferrylog"))
    assert done.returncode == 0, done.stderr
    shop = place.target.client["shop"]
    assert set(shop.list_collection_names()) == {"orders", "second", "new"}
    assert shop["orders"].find_one({"_id": 1}) == {"_id": 1, "u": 2}
    assert set(shop["orders"].index_information()) == {"_id_", "u_1", "y_1"}
    assert "ferrylog" not in place.target.client.list_database_names()


def test_an_increment_needs_the_stream(place: Guarded) -> None:
    """`backup` reads everything but changes."""
    uri = place.source.may_only(("backup", "admin"))
    done = place.run("dump", "--source", uri, "--out", place.chain, "--incremental")
    assert done.returncode == 1, done.stderr
    assert "changeStream on database shop" in done.stderr


def test_following_all_needs_the_stream_of_all(place: Guarded) -> None:
    uri = place.source.may_only(("backup", "admin"))
    ends = ("--source", uri, "--target", place.target.uri())
    for words in (("check", "--follow", *ends), ("start", "--follow", *ends)):
        done = ferrylog(*words) if words[0] == "check" else place.run(*words)
        assert done.returncode == 1, done.stderr
        told = done.stdout + done.stderr
        assert "changeStream on every database" in told
        assert "readAnyDatabase" in told


def test_following_needs_to_change_what_is_there(place: Guarded) -> None:
    reader = place.source.may_only(("read", "shop"))
    writer = place.target.may_only(("restore", "admin"), ("read", "shop"))
    done = place.run("start", "--follow", "-d", "shop", "--source", reader, "--target", writer)
    assert done.returncode == 1, done.stderr
    assert "renameCollectionSameDB" in done.stderr
    assert not place.target.content()


def test_following_with_just_its_rights(place: Guarded) -> None:
    fill(place.source)
    reader = place.source.may_only(("read", "shop"))
    writer = place.target.may_only(*EVERYTHING)
    ends = ("--source", reader, "--target", writer)
    ended: list[CompletedProcess[str]] = []

    def follow() -> None:
        ended.append(place.run("start", "--follow", "-d", "shop", *ends))

    thread = threading.Thread(target=follow)
    thread.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and '"phase":"follow"' not in place.run(
        "status", "--json"
    ).stdout.replace(" ", ""):
        time.sleep(0.2)
    change(place.source)
    assert place.run("cutover").returncode == 0
    thread.join(90)
    assert ended[0].returncode == 0, ended[0].stderr
    names = set(place.target.client["shop"].list_collection_names())
    assert names == {"orders", "second", "new"}
