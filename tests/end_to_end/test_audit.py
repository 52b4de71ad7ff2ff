"""The acceptance case of audits on real servers: two failures, a kill, a success, one story."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests import program
from tests.conftest import Pair
from tests.end_to_end.test_main_job import FERRYLOG, until

pytestmark = pytest.mark.server

ENTITY = "shop.orders#0"
CANARY = "c4n4ry-of-the-mine"


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Mongod]:
    """A target that can be told to refuse inserts, or to keep them waiting."""
    options = ("--setParameter", "enableTestCommands=1")
    with Mongod(tmp_path / "breakable", name="breakable", options=options) as mongod:
        yield mongod


def inserts(target: Mongod, mode: Any, **how: Any) -> None:
    data = {"failCommands": ["insert"], "appName": "ferrylog", **how}
    command = {"configureFailPoint": "failCommand", "mode": mode}
    with MongoClient[Any](target.uri) as client:
        client.admin.command({**command, **({"data": data} if how else {})})


def with_password(target: Mongod) -> str:
    """Its connection string for a user with a password."""
    user = {"createUser": "ann", "pwd": CANARY, "roles": ["root"]}
    with MongoClient[Any](target.uri) as client:
        client.admin.command(user)
    return target.uri.replace("mongodb://", f"mongodb://ann:{CANARY}@")


@pytest.mark.deep
def test_failed_twice_killed_once_then_succeeded(
    pair: Pair, breakable: Mongod, tmp_path: Path
) -> None:
    """I45: asked afterwards, the journal alone tells who, when and why, attempt by attempt; and
    never the password, not even to somebody who has none to hide."""
    pad = "x" * 20_000
    pair.source_client.shop.orders.insert_many([{"_id": n, "pad": pad} for n in range(500)])
    journal = tmp_path / "ferrylog.db"
    environment = {
        **os.environ,
        "FERRYLOG_SOURCE": pair.source.uri,
        "FERRYLOG_TARGET": with_password(breakable),
        "FERRYLOG_JOURNAL": str(journal),
        "FERRYLOG_RETRY_BASE_MS": "2000",
    }

    def ask(*words: str) -> "subprocess.CompletedProcess[str]":
        known = environment if words[0] == "resume" else {**environment, "FERRYLOG_TARGET": ""}
        said = program.ferrylog(*words, env=known)
        assert CANARY not in said.stdout + said.stderr
        return said

    def happened(kind: str) -> int:
        said = ask("inspect", "events", "--entity", ENTITY, "--kind", kind, "--json")
        return said.stdout.count(f'"kind": "{kind}"')

    inserts(breakable, {"times": 2}, errorCode=50)
    with subprocess.Popen([*FERRYLOG, "start", "--quiet"], env=environment) as process:
        until(lambda: happened("restore_retry_scheduled") == 2)
        inserts(breakable, {"skip": 1}, blockConnection=True, blockTimeMS=5_000)
        until(lambda: happened("restore_progressed") == 1)
        process.send_signal(signal.SIGKILL)
    inserts(breakable, "off")
    resumed = ask("resume")
    assert resumed.returncode == 0, resumed.stderr

    report = ask("inspect", "explain", ENTITY, "--json")
    attempts = [each for each in json.loads(report.stdout)["history"] if each["type"] == "attempt"]
    restores = [each for each in attempts if each["stage"] == "restore"]
    assert [each["outcome"] for each in restores] == ["failed", "failed", "lost", "completed"]
    assert [each["decision"] for each in restores] == ["retry", "retry", "continue", ""]
    assert restores[0]["cause"] == "transient"
    assert restores[2]["run"]["pid"] == process.pid
    assert restores[3]["run"]["epoch"] == restores[2]["decided_in_run"] == 2
    told = " ".join(ask("inspect", "explain", ENTITY).stdout.split())
    for said in (
        "because of a failure that may pass:",
        "Decided: try again after",
        "The process was gone before it told how this ended.",
        "Run 2 found it in doubt and decided to go on after byte",
        "source and target hold the same 500 documents",
        "It is finished: dumped, restored and verified. The job is completed.",
    ):
        assert said in told, told
    line = json.loads(ask("inspect", "timeline", "--json").stdout)
    assert [run["end"] for run in line["runs"]] == ["gone", "completed"]
    assert ask("inspect", "check").returncode == 0
    job = line["job"]
    for words in (("events",), ("events", "--forensic"), ("diff", job, job), ("explain", "job")):
        assert ask("inspect", *words).returncode == 0
        assert ask("inspect", *words, "--json").returncode == 0
