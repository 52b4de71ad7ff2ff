"""Dumps and restores that are killed with SIGKILL at random moments, in every layout.

I12, I15, I22: resumed, they end as if nothing had happened, and repeat no more than the block
that each worker had under way. A failure names its seed.
"""

import os
import random
import subprocess
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from tests import program
from tests.conftest import OWN, Pair
from tests.end_to_end.test_dump_restore import LAYOUTS, at
from tests.end_to_end.test_main_job import FERRYLOG, Terminal

pytestmark = pytest.mark.server
SEED = 7
WORKERS = 2
CHUNK = 100
"""Documents; a block has no more."""
SMALL = ("--chunk-docs", str(CHUNK))
COUNTS = {"c": 5_000, "d": 2_000}
RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
TO_DUMP = ("dump_started", "dump_completed")
TO_RESTORE = ("plan_completed", "restore_started", "restore_completed")
"""Events behind which a kill comes."""


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    shop = pair.source_client.shop
    for name, count in COUNTS.items():
        shop[name].insert_many([{"_id": n, "x": os.urandom(300)} for n in range(count)])
        shop[name].create_index("x")
    return pair


def content(client: MongoClient[Any]) -> dict[str, str]:
    """A digest of all documents, by namespace."""
    found = {}
    for database in set(client.list_database_names()) - {*OWN}:
        for name in client[database].list_collection_names():
            digest = sha256()
            for row in client[database].get_collection(name, RAW).find().sort("_id", 1):
                digest.update(row.raw)
            found[f"{database}.{name}"] = digest.hexdigest()
    return found


def inserts(pair: Pair) -> int:
    """Documents that the target was sent so far."""
    return int(pair.target_client.admin.command("serverStatus")["opcounters"]["insert"])


def shoot(
    ferrylog: Terminal, words: Sequence[str], aims: Sequence[str], rng: random.Random, stdout: Path
) -> bool:
    """Kill the command a little after the next event of a kind; whether it was still alive."""
    seen = ferrylog.kinds()
    kind = rng.choice([each for each in aims if "plan" not in each or each not in seen])
    goal = seen.count(kind) + rng.randint(1, 5 if "_started" in kind else 1)
    with stdout.open("wb") as out:
        process = program.begin(*words, env=ferrylog.environment, stdout=out)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if ferrylog.kinds().count(kind) >= goal:
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.03))
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def fight(
    ferrylog: Terminal, words: Sequence[str], aims: Sequence[str], kills: int, out: Path
) -> int:
    """So many shots, then a resume that is left alone: it ends with 0. The hits."""
    rng, hits = random.Random(SEED), 0
    for _ in range(kills):
        started = "job_created" in ferrylog.kinds()
        hits += shoot(ferrylog, ("resume",) if started else words, aims, rng, out)
        if ferrylog.kinds()[-1:] == ["job_completed"]:
            return hits
    with out.open("wb") as file:
        resumed = subprocess.run(
            [*FERRYLOG, "resume"],
            env=ferrylog.environment,
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    assert resumed.returncode == 0, resumed.stderr.decode()
    return hits


def every(often: Sequence[str]) -> list[Any]:
    """All layouts with five kills, in the deep lane; these with two, each time."""
    few = [pytest.param(each, 2, id=each) for each in often]
    many = [pytest.param(each, 5, id=f"{each}, often", marks=pytest.mark.deep) for each in LAYOUTS]
    return few + many


@pytest.mark.parametrize(("layout", "kills"), every(["mongodump"]))
def test_a_killed_restore_goes_on_where_it_was(
    layout: str, kills: int, loaded: Pair, tmp_path: Path
) -> None:
    """Nothing lost, nothing twice, and of the writes hardly any again."""
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "dump"
    down, up = LAYOUTS[layout]
    assert ferrylog("dump", *at(down, place), *SMALL).returncode == 0
    before, again = inserts(loaded), Terminal(tmp_path / "again", loaded)
    again.journal.parent.mkdir()
    words = ("restore", *at(up, place), *SMALL, "--restore-workers", str(WORKERS))
    hits = fight(again, words, TO_RESTORE, kills, tmp_path / "out")
    repeated = inserts(loaded) - before - sum(COUNTS.values())
    print(f"{layout}: {hits} kills hit, {repeated} documents were sent again")
    assert hits
    assert content(loaded.target_client) == content(loaded.source_client)
    assert 0 <= repeated <= hits * WORKERS * CHUNK
    assert again("verify", "--metadata").returncode == 0


@pytest.mark.parametrize(("layout", "kills"), every(["chunks"]))
def test_a_killed_dump_goes_on_where_it_was(
    layout: str, kills: int, loaded: Pair, tmp_path: Path
) -> None:
    """What it leaves is a whole dump, and nothing passes for one before."""
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "dump"
    down, up = LAYOUTS[layout]
    words = ("dump", *at(down, place), *SMALL)
    assert fight(ferrylog, words, TO_DUMP, kills, tmp_path / "out")
    _must_hold_all(ferrylog, at(up, place), loaded)


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.deep)])
def test_an_archive_to_standard_output_is_written_anew(
    kills: int, loaded: Pair, tmp_path: Path
) -> None:
    """The documents are not read again; the last run writes the whole archive."""
    ferrylog, out = Terminal(tmp_path, loaded), tmp_path / "out"
    assert fight(ferrylog, ("dump", "--archive", "-", *SMALL), TO_DUMP, kills, out)
    dumped = [each["entity"] for each in ferrylog.events("--kind", "dump_completed")]
    assert len(set(dumped)) == len(dumped) >= sum(COUNTS.values()) // CHUNK
    _must_hold_all(ferrylog, ["--archive", str(out)], loaded)


def _must_hold_all(ferrylog: Terminal, words: Sequence[str], loaded: Pair) -> None:
    back = ferrylog("restore", *words)
    assert back.returncode == 0, back.stderr
    assert content(loaded.target_client) == content(loaded.source_client)
