"""Documents that go through code of the user's own on their way, as an operator sees it."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal

USERS = """
import os
from pydantic import BaseModel

class User(BaseModel):
    n: int

def clean(document):
    if document["n"] % 100 == 7:
        raise ValueError("no " + document["secret"])
    document["salt"] = os.urandom(8)
    return document
"""
MENDED = USERS.replace('raise ValueError("no " + document["secret"])', "pass")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "users.py"
    file.write_text(USERS)
    return file


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


def fill(pair: Pair, count: int, **more: Any) -> None:
    pair.source_client.shop.users.insert_many(
        [{"_id": n, "n": n, "secret": "hunter2", **more} for n in range(count)]
    )


def kinds(terminal: Terminal, kind: str) -> list[dict[str, Any]]:
    return [each["data"] for each in terminal.events("--kind", kind)]


@pytest.mark.deep
def test_the_life_of_a_transformed_job(terminal: Terminal, pair: Pair, users: Path) -> None:
    """A15, F8, I24: rejected documents are named and kept, and carried when the code was mended;
    what lies on the target is what the chunk files held, and a rollback leaves nothing."""
    fill(pair, 300)
    named = f"{users}:clean"
    done = terminal(
        "start", "--transform", named, "--validate", f"{users}:User", "--chunk-docs", "100"
    )
    assert done.returncode == 3, done.stderr
    there = pair.target_client.shop.users
    salts = {each["_id"]: each["salt"] for each in there.find()}
    assert set(range(300)) - set(salts) == {7, 107, 207}
    assert all(each["equal"] for each in kinds(terminal, "verify_completed"))
    letters = terminal.json("dead-letters", "list")["letters"]
    assert {each["code"] for each in letters} == {"ETRANSFORM011"}
    shown = terminal("dead-letters", "show", str(letters[0]["id"])).stdout
    assert "ValueError: no … (clean, line " in shown
    assert "hunter2" in shown  # the document, whole, as it was
    assert "hunter2" not in done.stdout + done.stderr + json.dumps(terminal.events())
    users.write_text(MENDED)
    assert terminal("dead-letters", "requeue", str(letters[0]["id"])).returncode == 0
    again = terminal("resume")
    assert again.returncode == 3, again.stderr
    assert "is another than in the run before" in again.stderr
    assert there.count_documents({}) == 298
    assert terminal("dead-letters", "requeue", "--all").returncode == 0
    assert terminal("resume").returncode == 0
    assert there.count_documents({}) == 300
    sums = [each["settings"]["transform_sha256"] for each in kinds(terminal, "run_started")]
    assert len(set(sums)) == 2
    assert terminal("verify").returncode == 2
    back = terminal("rollback")
    assert back.returncode == 0, back.stderr
    assert "shop" not in pair.target_client.list_database_names()


@pytest.mark.deep
def test_what_cannot_be_transformed_is_refused(terminal: Terminal, pair: Pair, users: Path) -> None:
    """A14: before anything is journaled or written."""
    fill(pair, 20)
    named = f"{users}:clean"
    for words, code, status in (
        (("--mode", "direct"), "EUSE001", 2),
        (("--follow",), "EUSE001", 2),
        (("--validate", f"{users}:clean"), "ETRANSFORM003", 2),
        (("--max-malformed", "4"), "ETRANSFORM004", 1),
    ):
        done = terminal("start", "--transform", named, *words)
        assert (done.returncode, code in done.stderr) == (status, True), done.stderr
    assert "shop.users: 1 of 20: 1 × ETRANSFORM011: ValueError: no …" in done.stderr
    dry = terminal("start", "--transform", named, "--dry-run")
    assert dry.returncode == 3
    assert "EPLAN017" in dry.stdout
    assert pair.target_client.list_database_names() == ["admin", "config", "local"]
    pair.source_client.shop.create_collection("t", timeseries={"timeField": "t"})
    done = terminal("start", "--transform", named, "--max-malformed", "50")
    assert "ETRANSFORM006" in done.stderr


@pytest.mark.deep
@pytest.mark.parametrize("verify", ["--verify", "--no-verify"])
def test_a_killed_job_goes_on_and_can_be_taken_back(
    terminal: Terminal, pair: Pair, users: Path, verify: str
) -> None:
    """I5, F8: chance in the code changes nothing that was restored; nothing is lost or doubled, no
    process stays. What was transformed twice is taken back like the rest."""
    users.write_text(
        MENDED.replace("os.urandom(8)", "os.urandom(8); import time; time.sleep(.004)")
    )
    fill(pair, 600)
    words = ("--transform", f"{users}:clean", "--chunk-docs", "50", verify)
    run = terminal.begin("start", *words, "--transform-workers", "2")
    wait_for(terminal, "restore_completed", 2)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = {each["_id"]: each["salt"] for each in pair.target_client.shop.users.find()}
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    after = {each["_id"]: each["salt"] for each in pair.target_client.shop.users.find()}
    assert set(after) == set(range(600))
    assert {key: after[key] for key in before} == before
    assert not [each for each in workers if each.is_running() and each.status() != "zombie"]
    pair.target_client.shop.users.update_one({"_id": 5}, {"$set": {"others": True}})
    assert terminal("rollback").returncode == 3  # what others changed is kept
    assert [each["_id"] for each in pair.target_client.shop.users.find()] == [5]


def wait_for(terminal: Terminal, kind: str, count: int) -> None:
    until = time.monotonic() + 60
    while terminal.kinds().count(kind) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


DEADLY = """
import os, signal, time
def f(document):
    match document["n"]:
        case 11: os.kill(os.getpid(), signal.SIGKILL)
        case 22: time.sleep(1000)
        case 33: os._exit(0)
    document["f"] = 1
    return document
"""


@pytest.mark.deep
def test_a_killed_process_and_documents_that_kill(
    terminal: Terminal, pair: Pair, users: Path
) -> None:
    """A15: each costs itself; the job goes on and ends with 3."""
    users.write_text(DEADLY)
    fill(pair, 100)
    done = terminal(
        "start", "--transform", f"{users}:f", "--transform-timeout", "0.3", "--max-malformed", "50"
    )
    assert done.returncode == 3, done.stderr
    assert pair.target_client.shop.users.count_documents({"f": 1}) == 97
    letters = terminal.json("dead-letters", "list")["letters"]
    found = {int(re.sub(r"\D", "", each["_id"].split(":")[1])): each["why"] for each in letters}
    assert found == {
        11: "its process ended with signal 9 (Killed)",
        22: "took longer than 0.3 s",
        33: "its process ended with exit code 0",
    }


def test_insertion_order_is_kept(terminal: Terminal, pair: Pair, users: Path) -> None:
    """I21: in insertion order, one chunk, compared as a set; what is rejected is named."""
    pair.source_client.shop.create_collection("users", capped=True, size=1 << 20)
    fill(pair, 50)
    done = terminal("start", "--transform", f"{users}:clean", "--no-undo")
    assert done.returncode == 3, done.stderr
    there = [each["_id"] for each in pair.target_client.shop.users.find()]
    assert there == [number for number in range(50) if number != 7]
    assert [each["code"] for each in kinds(terminal, "document_rejected")] == ["ETRANSFORM011"]
    assert all(each["equal"] for each in kinds(terminal, "verify_completed"))
