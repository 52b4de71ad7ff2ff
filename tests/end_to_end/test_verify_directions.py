"""What `verify JOB` says of jobs that dumped and restored, in every layout (I22, A13)."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from tests.conftest import Pair
from tests.end_to_end.test_main_job import FERRYLOG, Terminal, terminal

__all__ = ["terminal"]

pytestmark = pytest.mark.server

PARTS = ("--chunk-docs", "100")
LAYOUTS = {
    "chunks": ("--out", "D"),
    "mongodump": ("--out", "D", "--layout", "mongodump"),
    "mongodump, gzip": ("--out", "D", "--layout", "mongodump", "--gzip"),
    "archive": ("--archive", "D"),
    "archive, gzip": ("--archive", "D", "--gzip"),
}


def some(*often: str, among: Iterable[str] = LAYOUTS) -> list[Any]:
    """These each time, the others in the deep lane."""
    return [each if each in often else pytest.param(each, marks=pytest.mark.deep) for each in among]


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    pair.source_client.shop.c.insert_many([{"_id": n, "n": n % 7} for n in range(450)])
    return pair


def verified(terminal: Terminal, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the one unit that is told of."""
    done = terminal("verify", "--json", *words)
    (unit,) = json.loads(done.stdout)["units"]
    return done.returncode, unit


def said(terminal: Terminal, *words: str) -> tuple[int, int, int, list[str]]:
    code, unit = verified(terminal, *words)
    named = [f"{each['what']} {each['key']}" for each in unit["differing"]]
    assert unit["equal"] == (code == 0), unit
    return code, unit["source_count"], unit["target_count"], named


def dumped(terminal: Terminal, place: Path, layout: str, *words: str) -> None:
    where = [str(place) if word == "D" else word for word in LAYOUTS[layout]]
    done = terminal("dump", *where, *PARTS, *words)
    assert done.returncode == 0, done.stderr


def restored(terminal: Terminal, place: Path, *words: str) -> None:
    done = terminal("restore", "--from" if place.is_dir() else "--archive", str(place), *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", some("chunks", "archive, gzip"))
def test_a_dump_and_its_source(
    loaded: Pair, terminal: Terminal, tmp_path: Path, layout: str
) -> None:
    """A part of a dump that knows no ranges is not the whole collection."""
    dumped(terminal, tmp_path / "dump", layout)
    assert said(terminal) == (0, 450, 450, [])
    loaded.source_client.shop.c.insert_one({"_id": "new"})
    named = [] if "archive" in layout else ['missing "new"']
    assert said(terminal) == (4, 451, 450, named)
    loaded.source_client.shop.c.delete_many({"_id": {"$in": ["new", 3]}})
    assert said(terminal) == (4, 449, 450, ['extra {"$numberInt":"3"}'])
    loaded.source_client.shop.c.insert_one({"_id": 3, "n": "else"})
    assert said(terminal) == (4, 450, 450, ['different {"$numberInt":"3"}'])


@pytest.mark.parametrize("layout", some("chunks", among=("chunks", "mongodump", "archive")))
def test_a_dump_of_a_query(loaded: Pair, terminal: Terminal, tmp_path: Path, layout: str) -> None:
    dumped(terminal, tmp_path / "dump", layout, "--query", '{"_id": {"$lt": 250}}')
    assert said(terminal) == (0, 250, 250, [])
    loaded.source_client.shop.c.insert_one({"_id": -1})
    code, source, target, _ = said(terminal)
    assert (code, source, target) == (4, 251, 250)


@pytest.mark.parametrize("layout", some("mongodump, gzip", "archive"))
@pytest.mark.parametrize("words", [(), ("--metadata",)])
def test_what_lies_beside_what_was_restored(
    loaded: Pair, terminal: Terminal, tmp_path: Path, layout: str, words: tuple[str, ...]
) -> None:
    """Counts are compared, whatever else was asked for."""
    dumped(terminal, tmp_path / "dump", layout)
    restored(terminal, tmp_path / "dump", *PARTS)
    assert said(terminal, *words) == (0, 450, 450, [])
    loaded.target_client.shop.c.insert_one({"_id": "extra"})
    named = [] if "archive" in layout else ['extra "extra"']
    assert said(terminal, *words) == (4, 450, 451, named)
    told = terminal("verify", *words).stdout
    assert "450 documents on the source, 451 on the target" in told
    assert ("extra: _id" in told) == bool(named)


@pytest.mark.parametrize("merge", ["skip", "overwrite"])
def test_a_merge_leaves_what_was_there(
    loaded: Pair, terminal: Terminal, tmp_path: Path, merge: str
) -> None:
    dumped(terminal, tmp_path / "dump", "mongodump")
    loaded.target_client.shop.c.insert_one({"_id": "mine"})
    restored(terminal, tmp_path / "dump", "--on-conflict", merge)
    assert said(terminal)[0] == 0


def test_a_document_that_a_dump_holds_twice(
    loaded: Pair, terminal: Terminal, tmp_path: Path
) -> None:
    """It is one on the target, and hides no other."""
    place = tmp_path / "dump" / "shop"
    place.mkdir(parents=True)
    every = [bson.encode({"_id": n}) for n in range(10)]
    (place / "c.bson").write_bytes(b"".join([*every, every[4]]))
    restored(terminal, tmp_path / "dump")
    assert said(terminal)[0] == 0
    loaded.target_client.shop.c.insert_one({"_id": "extra"})
    code, _, target, named = said(terminal)
    assert (code, target, named) == (4, 11, ['extra "extra"'])


@pytest.fixture
def known(loaded: Pair) -> Iterator[Pair]:
    clients = (loaded.source_client, loaded.target_client)
    clients[0].shop.command({"createUser": "ann", "pwd": "x", "roles": ["read"]})
    clients[1].admin.command({"createUser": "boss", "pwd": "x", "roles": ["root"]})
    yield loaded
    for client in clients:
        for database in ("admin", "shop"):
            client[database].command("dropAllUsersFromDatabase")


@pytest.mark.parametrize("layout", some("chunks", among=("chunks", "mongodump", "archive")))
def test_users_beside_those_that_the_target_has(
    known: Pair, terminal: Terminal, tmp_path: Path, layout: str
) -> None:
    """They were merged: its own login is no difference; one that is gone is."""
    dumped(terminal, tmp_path / "dump", layout, "--users-and-roles")
    assert terminal("verify").returncode == 0
    restored(terminal, tmp_path / "dump", "--users-and-roles")
    found = terminal("verify", "--metadata")
    assert found.returncode == 0, found.stdout + found.stderr
    known.target_client.shop.command("dropUser", "ann")
    assert terminal("verify").returncode == 4


def test_users_that_were_migrated(known: Pair, terminal: Terminal) -> None:
    assert terminal("start", "--users-and-roles").returncode == 0
    found = terminal("verify")
    assert found.returncode == 0, found.stdout + found.stderr


def test_an_archive_that_came_through_a_pipe(
    loaded: Pair, terminal: Terminal, tmp_path: Path
) -> None:
    """Nobody can read it again: it is refused, and standard input left alone."""
    dumped(terminal, tmp_path / "dump", "archive")
    with (tmp_path / "dump").open("rb") as archive:
        words = [*FERRYLOG, "restore", "--archive", "-"]
        env = terminal.environment
        subprocess.run(words, env=env, stdin=archive, check=True, capture_output=True, timeout=60)
    found = terminal("verify")
    assert (found.returncode, found.stdout) == (2, "")
    assert "pipe" in found.stderr
    assert "keep the archive" in found.stderr


def test_metadata_of_a_dump_and_its_source(
    loaded: Pair, terminal: Terminal, tmp_path: Path
) -> None:
    """Each side is called what it is: an index made since is on the source and not in the dump."""
    dumped(terminal, tmp_path / "dump", "chunks")
    loaded.source_client.shop.c.create_index("later")
    code, unit = verified(terminal, "--metadata")
    [difference] = unit["metadata"]
    assert (code, difference["what"], difference["target"]) == (4, "index later_1", "")
    assert "later" in difference["source"]
