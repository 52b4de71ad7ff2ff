"""An operator at two terminals: the running job, and what is asked of it from the other one."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until

pytestmark = pytest.mark.server

UNITS = [f"shop.c{n:02}" for n in range(12)]
DOCUMENTS = 3_000
CHUNK = 75
WORDS = ("start", "--chunk-docs", str(CHUNK), "--dump-workers", "1", "--restore-workers", "1")


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    """Twelve collections, three of which one can do without."""
    for name in UNITS:
        collection = pair.source_client.shop.get_collection(name.partition(".")[2])
        collection.insert_many([{"_id": n, "text": "x" * 50} for n in range(DOCUMENTS)])
    return pair


class Terminals(Terminal):
    """Ends what it began."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        super().__init__(folder, pair)
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        self.begun.append(super().begin(*words))
        return self.begun[-1]


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Iterator[Terminals]:
    terminals = Terminals(tmp_path, pair)
    yield terminals
    for process in terminals.begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, error = process.communicate(timeout=60)
    return process.returncode, error


def restored(terminal: Terminal, more: int) -> None:
    """Wait until so many more chunks are on the target."""
    before = terminal.kinds().count("restore_completed")
    until(lambda: terminal.kinds().count("restore_completed") >= before + more)


def test_a_day_at_two_terminals(terminal: Terminal, loaded: Pair) -> None:
    """A18, A19, A20, A32, I28, M2: pause, set, resume, stop, resume; nothing lost or twice."""
    running = terminal.begin(*WORDS, "--tick", "0.5")
    restored(terminal, 3)

    # While it runs: workers, priorities, a unit less, answers at once.
    answer = terminal.json("set", "dump-workers=2", "priority=shop.c11:9", "exclude=shop.c0[89]")
    assert answer["schema"] == "ferrylog.answer/1"
    assert answer["answered"] is True
    assert [each["events"][0]["kind"] for each in answer["answers"]] == [
        "setting_changed",
        "priority_changed",
        "unit_excluded",
        "unit_excluded",
    ]

    # A controlled pause: what runs ends, nothing starts.
    paused = terminal("pause")
    assert (paused.returncode, "nothing new starts" in paused.stderr) == (0, True), paused.stderr
    code, error = ended(running)
    assert code == 5, error
    kinds = terminal.kinds()
    after = kinds[kinds.index("pause_requested") :]
    assert after[-1] == "job_paused"
    assert not [kind for kind in after if kind.endswith(("_started", "_in_doubt"))], after

    # While nobody runs it.
    changed = terminal("set", "dump-workers=1", "restore-workers=3", "max-retries=7")
    assert changed.returncode == 0, changed.stderr
    assert "dump-workers: 2 → 1" in changed.stderr
    assert "no process runs job" in changed.stderr
    refused = terminal("set", "tick-ms=0", "--json")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["code"] == "EJOB006"
    assert terminal("pause").returncode == 2

    # On with what was set; then an immediate stop.
    running = terminal.begin("resume")
    restored(terminal, 5)
    stopped = terminal("stop", "--immediate")
    assert stopped.returncode == 0, stopped.stderr
    assert ended(running)[0] == 5
    settings = terminal.events("--kind", "run_started")[-1]["data"]["settings"]
    assert (settings["dump_workers"], settings["restore_workers"]) == (1, 3)
    assert (settings["max_retries"], settings["tick_ms"]) == (7, 500)
    assert terminal.json("status")["status"] == "stopped"
    assert "job_stopped" in terminal.kinds()

    # To the end: equal where nothing was left out, and each restore completed once.
    done = terminal("resume", "--dump-workers", "4", "--restore-workers", "4")
    assert done.returncode == 0, done.stderr
    events = terminal.events()
    completed = [each["entity"] for each in events if each["kind"] == "restore_completed"]
    assert len(completed) == len(set(completed)) >= 10 * DOCUMENTS // CHUNK, "I15"
    _priority_was_heard(events)
    _must_be_equal(terminal.json("verify"))


def _priority_was_heard(events: list[dict[str, Any]]) -> None:
    """A32: after the word of the operator the last collection goes before those that waited."""
    kinds = [each["kind"] for each in events]
    after = events[kinds.index("priority_changed") :]
    dumps = [_unit(each) for each in after if each["kind"] == "dump_started"]
    assert "shop.c11" in dumps[:10], dumps[:20]


def _must_be_equal(report: dict[str, Any]) -> None:
    units = {unit["namespace"]: unit for unit in report["units"]}
    for name in sorted({*UNITS} - {"shop.c08", "shop.c09"}):
        assert (units[name]["equal"], units[name]["target_count"]) == (True, DOCUMENTS), name


def _unit(event: dict[str, Any]) -> str:
    return str(event["entity"]).partition("#")[0]
