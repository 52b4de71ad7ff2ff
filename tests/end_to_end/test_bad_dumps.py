"""Bad dumps, through the command line, on a real target: refused before the first write with
code, file, place, reason and remedy; never a hang, a traceback, or memory without bounds.

The bad inputs 10 to 35 of the list, and the 21 kinds of damage at which others touch the target.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from tests.conftest import OWN, Pair
from tests.end_to_end import bad_cases
from tests.end_to_end import bad_dumps as bad
from tests.end_to_end.bad_cases import all_of_them
from tests.end_to_end.bad_dumps import Case
from tests.end_to_end.zygote import Ended, Zygote

pytestmark = pytest.mark.server
MOST_KIB = 400_000
"""Of memory, whatever a dump says of its sizes."""
CASES = [
    pytest.param(each, id=each.name, marks=[pytest.mark.deep] if each.deep else [])
    for each in all_of_them()
]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


class Here:
    """Runs ferrylog beside one journal, from the source to the target."""

    def __init__(self, zygote: Zygote, pair: Pair, folder: Path) -> None:
        self._zygote = zygote
        self.environment = {
            "PATH": os.environ["PATH"],
            "FERRYLOG_SOURCE": pair.source.uri,
            "FERRYLOG_TARGET": pair.target.uri,
            "FERRYLOG_JOURNAL": str(folder / "ferrylog.db"),
            "FERRYLOG_RETRY_BASE_MS": "100",
        }

    def __call__(self, *words: str, stdin: str = "") -> Ended:
        ended = self._zygote(list(words), self.environment, stdin)
        assert "Traceback" not in ended.err, ended.err
        assert "EBUG" not in ended.err, ended.err
        assert ended.most_kib < MOST_KIB, f"{ended.most_kib} KiB"
        return ended


@pytest.fixture
def here(zygote: Zygote, pair: Pair, tmp_path: Path) -> Here:
    return Here(zygote, pair, tmp_path)


def held(pair: Pair) -> dict[str, int]:
    """Documents on the target, by namespace; a view, or nothing in it, counts too."""
    client = pair.target_client
    return {
        f"{database}.{name}": client[database][name].count_documents({})
        for database in client.list_database_names()
        if database not in OWN
        for name in client[database].list_collection_names()
    }


@pytest.mark.parametrize("case", CASES)
def test_a_bad_dump_ends_as_it_must(case: Case, here: Here, pair: Pair, tmp_path: Path) -> None:
    """I24, I45, bad inputs 10 to 33: nothing is written of what cannot be read as a whole; what
    a server refuses is kept, and all else is there."""
    ended = here("restore", *case.make(tmp_path))
    assert ended.code == case.exit, ended.err
    for word in (case.code, *case.words):
        assert word in ended.err
    assert held(pair) == (case.left or {})
    if case.exit == 3:
        [letter] = here_json(here, "dead-letters", "list")["letters"]
        assert letter["namespace"] == "shop.c"


def here_json(here: Here, *words: str) -> Any:
    return json.loads(here(*words, "--json").out)


@pytest.mark.parametrize("name", bad_cases.SERVER_REFUSES)
def test_metadata_that_the_server_refuses_is_told_in_its_words(
    name: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """What only a server can know: nothing is claimed to be done, and no document is lost."""
    ended = here("restore", *bad.directory(tmp_path, meta=bad_cases.SERVER_REFUSES[name]))
    assert "shop.c" in ended.err
    assert "EMONGO" in ended.err
    if "index" in name or "collation" in name:
        assert (ended.code, held(pair)) == (3, bad.LEFT)
    else:
        assert ended.code == 5
        assert sum(held(pair).values()) == 0
        assert "resume with" in ended.err


# --- ids and what lies on the target --------------------------------------------------------------


def test_documents_of_one_id(here: Here, pair: Pair, tmp_path: Path) -> None:
    """Bad input 25: equal ones are one; of others the second is a conflict, told by its `_id`,
    and kept when conflicts are to be passed over."""
    twice = bad.instead(bad.document(5))
    assert here("restore", *bad.directory(tmp_path / "equal", twice)).code == 0
    assert held(pair)["shop.c"] == bad.COUNT - 1
    pair.empty()
    other = bad.directory(tmp_path / "other", bad.instead(bad.document(5, b"\x08a\0\x01")))
    stopped = here("restore", *other)
    assert (stopped.code, "ECONFLICT001" in stopped.err) == (5, True)
    assert '_id {"$numberInt":"5"}' in stopped.err
    pair.empty()
    assert here("restore", *other, "--new", "--on-conflict", "skip").code == 3
    assert held(pair) == bad.LEFT | {"shop.c": bad.COUNT - 1}
    assert "a" not in (pair.target_client.shop.c.find_one({"_id": 5}) or {"a": 1})


def test_documents_without_an_id_get_one(here: Here, pair: Pair, tmp_path: Path) -> None:
    """Bad input 25: and no second one when the same dump is restored into what is there."""
    words = bad.directory(tmp_path, bad.instead(bson.encode({"t": "none"})))
    assert here("restore", *words).code == 0
    assert here("restore", *words, "--new", "--on-conflict", "skip").code == 0
    assert held(pair) == bad.LEFT


IN_THE_WAY: dict[tuple[str, ...], tuple[int, str, int]] = {
    (): (1, "ETARGET001", 1),
    ("--on-conflict", "skip"): (3, "rejected", bad.COUNT),
    ("--on-conflict", "overwrite"): (0, "", bad.COUNT),
    ("--drop",): (0, "", bad.COUNT),
}


@pytest.mark.parametrize("how", IN_THE_WAY, ids=" ".join)
def test_a_foreign_document_under_the_same_id(
    how: tuple[str, ...], here: Here, pair: Pair, tmp_path: Path
) -> None:
    """Bad input 34: stop, or what was asked for."""
    foreign = {"_id": 5, "foreign": True}
    pair.target_client.shop.c.insert_one(foreign)
    ended = here("restore", *bad.directory(tmp_path), *how)
    code, word, documents = IN_THE_WAY[how]
    assert ended.code == code, ended.err
    assert word in ended.err
    assert held(pair)["shop.c"] == documents
    assert (pair.target_client.shop.c.find_one({"_id": 5}) == foreign) == (code != 0)


def test_a_damaged_dump_drops_nothing(here: Here, pair: Pair, tmp_path: Path) -> None:
    """`--drop` replaces what is there by what is whole, or not at all."""
    pair.target_client.shop.c.insert_one({"_id": "mine"})
    ended = here("restore", *bad.directory(tmp_path, bad.DATA[:-3]), "--drop")
    assert (ended.code, held(pair)) == (4, {"shop.c": 1}), ended.err


# --- where a dump goes, and what it is to hold ----------------------------------------------------

DUMPS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "not empty": (("--out", "{full}"), "EDUMP003", ("full", "not empty")),
    "a file": (("--out", "{file}"), "EDUMP003", ("file", "no directory")),
    "below a file": (("--out", "{file}/x"), "EDUMP004", ("is no directory",)),
    "below nothing": (("--out", "{none}/a/b"), "EDUMP004", ("no directory",)),
    "an archive that exists": (("--archive", "{file}"), "EDUMP003", ("exists already",)),
    "an archive below nothing": (("--archive", "{none}/x"), "EDUMP004", ("no directory",)),
    "nowhere": ((), "EUSE001", ("--out DIR or --archive FILE",)),
    "twice": (("--out", "{none}", "--archive", "{none}"), "EUSE001", ()),
    "no such database": (("--out", "{none}", "-d", "nope"), "ESOURCE001", ("nope.*",)),
    "no such collection": (("--out", "{none}", "-d", "shop", "-c", "x"), "ESOURCE001", ("shop.x",)),
    "a query that is no JSON": (("--out", "{none}", "--query", "{x:"), "EUSE001", ("JSON",)),
    "a query that is an array": (("--out", "{none}", "--query", "[]"), "EUSE001", ()),
    "a query for nobody": (
        ("--out", "{none}", "--query", "shop.x={}"),
        "ESOURCE001",
        ("query for shop.x",),
    ),
    "a query that servers refuse": (
        ("--out", "{none}", "--query", '{"$nope": 1}'),
        "ESOURCE004",
        ("$nope", "find()"),
    ),
    "--oplog": (("--out", "{none}", "--oplog"), "EUSE001", ("--consistency snapshot",)),
    "--host": (("--out", "{none}", "--host", "x"), "EUSE001", ("into the URI",)),
    "-h": (("--out", "{none}", "-h", "x"), "EUSE001", ("into the URI",)),
    "--numParallelCollections": (
        ("--out", "{none}", "--numParallelCollections=4"),
        "EUSE001",
        ("--dump-workers",),
    ),
    "no option": (("--out", "{none}", "--nosuch"), "EUSE001", ("--nosuch",)),
    "--gzip of chunks": (("--out", "{none}", "--gzip"), "EUSE001", ("--layout mongodump",)),
    "--layout of an archive": (("--archive", "{none}", "--layout", "mongodump"), "EUSE001", ()),
    "--json with the archive": (("--archive", "-", "--json"), "EUSE001", ("standard output",)),
}


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_that_cannot_be_made_is_refused(
    name: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """I45: before any work, exit 2; nothing lies anywhere afterwards."""
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(10)])
    places = {each: tmp_path / each for each in ("full", "file", "none")}
    bad.put(places["full"], "x", b"x")
    bad.put(tmp_path, "file", b"x")
    words, code, said = DUMPS[name]
    for each, place in places.items():
        words = tuple(word.replace(f"{{{each}}}", str(place)) for word in words)
    ended = here("dump", *words)
    assert ended.code == 2, ended.err
    for word in (code, *said):
        assert word in ended.err
    assert not places["none"].exists()
    assert [each.name for each in places["full"].iterdir()] == ["x"]


RENAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "one side": (("--ns-from", "shop.*"), "ENS001"),
    "stars that do not fit": (("--ns-from", "*.*", "--ns-to", "x.*"), "ENS001"),
    "two become one": (("--ns-from", "shop.$x$", "--ns-to", "one.name"), "ENS002"),
    "one becomes another": (("--ns-from", "shop.a", "--ns-to", "shop.c"), "ENS002"),
    "an illegal name": (("--ns-from", "shop.a", "--ns-to", "shop.$a"), "ENS"),
    "an illegal database": (("--ns-from", "shop.a", "--ns-to", "sh op.a"), "ENS"),
    "nothing left": (("--ns-include", "nope.*"), "ESOURCE001"),
    "w=0": (("--write-concern", "0"), "EUSE001"),
}


@pytest.mark.parametrize("name", RENAMES)
def test_names_that_do_not_go_together_are_refused(
    name: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """Bad input 33, I45: exit 2, the target untouched."""
    words, code = RENAMES[name]
    ended = here("restore", *bad.directory(tmp_path), *words)
    assert (ended.code, code in ended.err, held(pair)) == (2, True, {}), ended.err


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system with next to no room; not everybody may mount one."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


LAYOUTS = {
    "chunks": ("--out",),
    "mongodump": ("--layout", "mongodump", "--out"),
    "archive": ("--archive",),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_disk_pauses_a_dump_which_goes_on_when_there_is_room(
    layout: str, here: Here, pair: Pair, tiny: Path
) -> None:
    """Bad input 41, M2: exit 5; nothing passes for a dump; `resume` makes it whole."""
    rows = [{"_id": n, "x": os.urandom(2000)} for n in range(500)]
    pair.source_client.shop.c.insert_many(rows)
    place = tiny / "dump"
    full = here("dump", *LAYOUTS[layout], str(place))
    assert (full.code, "EDISK001" in full.err, "resume with" in full.err) == (5, True, True)
    assert not (place / "manifest.json").exists()
    assert layout != "archive" or not place.exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(tiny)], check=True)
    assert here("resume").code == 0
    back = LAYOUTS[layout][-1].replace("--out", "--from")
    assert here("restore", back, str(place)).code == 0
    assert list(pair.target_client.shop.c.find()) == rows


def test_a_read_only_place_is_refused_at_once(here: Here, pair: Pair, tiny: Path) -> None:
    """Bad input 42."""
    pair.source_client.shop.c.insert_one({"_id": 1})
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    for words in LAYOUTS.values():
        ended = here("dump", *words, str(tiny / "dump"))
        assert (ended.code, "EDUMP004" in ended.err) == (2, True), ended.err
