"""The main job as an operator sees it: start, look, pause, resume, verify; on real servers."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests import program
from tests.conftest import Pair

DOCUMENTS = 12_000
FERRYLOG = (sys.executable, "-m", "ferrylog")


def left_by(journal: Path) -> list[Path]:
    """Files of the work folder but for undo logs, which stay until the commit."""
    found = (path for path in Path(f"{journal}.d").rglob("*") if path.is_file())
    return [path for path in found if "undo" not in path.parts]


class Terminal:
    """Runs ferrylog as its own process, beside one journal."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.journal = folder / "ferrylog.db"
        self.environment = {
            **os.environ,
            "FERRYLOG_SOURCE": pair.source.uri,
            "FERRYLOG_TARGET": pair.target.uri,
            "FERRYLOG_JOURNAL": str(self.journal),
            "FERRYLOG_RETRY_BASE_MS": "100",
        }

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return program.ferrylog(*words, env=self.environment)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return program.begin(*words, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        return json.loads(done.stdout)

    def events(self, *words: str) -> list[dict[str, Any]]:
        done = self("inspect", "events", "--json", *words)
        return (
            [json.loads(line) for line in done.stdout.splitlines()] if not done.returncode else []
        )

    def kinds(self) -> list[str]:
        """Of all events so far; read past the program, to be there in time."""
        uri = f"file:{quote(str(self.journal))}?mode=ro"
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(uri, uri=True)) as db:
            return [kind for (kind,) in db.execute("SELECT kind FROM events ORDER BY seq")]
        return []


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    """Three collections, a view, an index, a validator."""
    shop = pair.source_client.get_database("shop")
    for start in range(0, DOCUMENTS, 6_000):
        shop.orders.insert_many(
            [{"_id": n, "n": n % 100, "text": f"order {n}"} for n in range(start, start + 6_000)]
        )
    shop.orders.create_index("n")
    shop.customers.insert_many([{"_id": f"c{n}"} for n in range(500)])
    shop.create_collection("strict", validator={"a": {"$gt": 0}})
    shop.create_collection("big", viewOn="orders", pipeline=[{"$match": {"n": {"$gte": 50}}}])
    return pair


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_from_nothing_to_verified(terminal: Terminal, loaded: Pair) -> None:
    """A25, I22, I29: exit 0, all there; the reports agree with each other and with the servers."""
    done = terminal("start", "--chunk-docs", "400", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "ferrylog.status/1"
    assert (report["status"], report["phase"]) == ("completed", "done")
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS
    assert loaded.target_client.shop.big.count_documents({}) == DOCUMENTS // 2
    assert "n_1" in loaded.target_client.shop.orders.index_information()
    assert set(loaded.target_client.list_database_names()) == {"admin", "config", "local", "shop"}
    orders = next(unit for unit in report["units"] if unit["namespace"] == "shop.orders")
    assert orders["documents"]["restored"] == orders["documents"]["dumped"] == DOCUMENTS
    assert orders["percent"] == 100
    for side in ("dump", "restore", "verify"):
        assert orders["chunks"][side]["completed"] == orders["chunks"]["total"] >= 25
        assert sum(orders["chunks"][side].values()) == orders["chunks"]["total"], "I25"
    assert report["totals"]["documents"]["restored"] == DOCUMENTS + 500
    assert terminal.json("status")["totals"] == report["totals"]
    assert [job["status"] for job in terminal.json("jobs")["jobs"]] == ["completed"]
    assert not left_by(terminal.journal), "chunk files are gone with the job"
    assert terminal("commit").returncode == 0
    assert not Path(f"{terminal.journal}.d").exists(), "undo logs are gone with the commit"


def test_empty_source_is_a_success(terminal: Terminal) -> None:
    """I29: nothing to do, all that was asked for is there."""
    done = terminal("start")
    assert done.returncode == 0, done.stderr


def test_selection(terminal: Terminal, loaded: Pair) -> None:
    """Exclude wins over include; globs are over `db.collection`."""
    done = terminal("start", "--ns-include", "shop.*", "--ns-exclude", "*.orders")
    assert done.returncode == 0, done.stderr
    assert sorted(loaded.target_client.shop.list_collection_names()) == [
        "big",
        "customers",
        "strict",
        "system.views",
    ]


def test_global_options_before_and_after(terminal: Terminal, loaded: Pair) -> None:
    terminal("start", "-d", "shop", "-c", "customers")
    before = terminal("--json", "inspect", "events", "--kind", "job_completed")
    after = terminal("inspect", "events", "--kind", "job_completed", "--json")
    assert before.stdout == after.stdout
    event = json.loads(before.stdout)
    assert set(event) == {"seq", "job", "epoch", "recorded_at", "kind", "entity", "data", "hash"}


def test_settings_from_a_file(terminal: Terminal, loaded: Pair, tmp_path: Path) -> None:
    """Flags before environment before file before default; unknown settings are refused."""
    file = tmp_path / "ferrylog.toml"
    file.write_text('[start]\nchunk-docs = 100\ndb = "shop"\ncollection = "customers"\n')
    assert terminal("--config", str(file), "start").returncode == 0
    assert len(terminal.events("--kind", "chunk_planned")) == 5
    file.write_text("chunk-docz = 100\n")
    refused = terminal("start", "--config", str(file))
    assert refused.returncode == 2
    assert "chunk_docz" in refused.stderr


@pytest.mark.parametrize(
    "how", ["inbox", "SIGINT", pytest.param("SIGTERM", marks=pytest.mark.deep)]
)
def test_pause_and_resume(terminal: Terminal, loaded: Pair, how: str) -> None:
    """A18, A19, A20, I28: exit 5, nothing in doubt, resumed where it left off, nothing twice."""
    running = terminal.begin("start", "--chunk-docs", "120", "--dump-workers", "1")
    until(lambda: "restore_completed" in terminal.kinds())
    if how == "inbox":
        assert terminal("pause").returncode == 0
    else:
        running.send_signal(getattr(signal, how))
    _, error = running.communicate(timeout=60)
    assert running.returncode == 5, error
    assert "ferrylog resume" in error
    kinds = terminal.kinds()
    assert kinds[-1] == "job_paused"
    assert "pause_requested" in kinds
    paused = terminal.json("status")
    assert paused["status"] == "paused"
    for unit in paused["units"]:
        for side in ("dump", "restore", "verify"):
            assert unit["chunks"][side]["processing"] == unit["chunks"][side]["in_doubt"] == 0
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    started = [event["entity"] for event in terminal.events("--kind", "restore_started")]
    assert len(started) == len(set(started)), "I15"
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


def test_a_second_signal_leaves_at_once(terminal: Terminal, loaded: Pair) -> None:
    """128+n, and resumable all the same."""
    running = terminal.begin("start", "--chunk-docs", "300", "--dump-workers", "1")
    until(lambda: "restore_completed" in terminal.kinds())
    running.send_signal(signal.SIGSTOP)  # both signals arrive before it can finish
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    running.communicate(timeout=60)
    assert running.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert terminal("resume").returncode == 0
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


def test_start_continues_an_unfinished_job(terminal: Terminal, loaded: Pair) -> None:
    """The same source, target and selection: the same job; other settings are named."""
    running = terminal.begin("start", "--chunk-docs", "300", "--dump-workers", "1")
    until(lambda: "restore_completed" in terminal.kinds())
    running.kill()
    running.communicate()
    other = terminal("start", "--chunk-docs", "400")
    assert other.returncode == 2
    assert "ERESUME003" in other.stderr
    assert "chunk_docs was 300" in other.stderr
    again = terminal("start", "--chunk-docs", "300")
    assert again.returncode == 0
    assert "continuing the unfinished job" in again.stderr
    assert len(terminal.json("jobs")["jobs"]) == 1


def test_resume_of_a_finished_job_adds_nothing(terminal: Terminal, loaded: Pair) -> None:
    """I13: only `run_started`; exit 0 again."""
    assert terminal("start", "-c", "customers", "-d", "shop").returncode == 0
    job = terminal.json("jobs")["jobs"][0]["job"]
    before = terminal.kinds()
    assert terminal("resume", job).returncode == 0
    assert terminal.kinds() == [*before, "run_started"]
    assert terminal("resume").returncode == 0, "a kill may have come just after the end"


def test_verify_finds_every_kind_of_difference(terminal: Terminal, loaded: Pair) -> None:
    """Exit 4, and each document by its `_id`; equal again when it is repaired."""
    assert terminal("start", "--chunk-docs", "5000").returncode == 0
    orders = loaded.target_client.shop.orders
    orders.update_one({"_id": 77}, {"$set": {"text": "changed"}})
    orders.delete_one({"_id": 11345})
    orders.insert_one({"_id": 11345.5})
    done = terminal("verify", "--json")
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    assert report["equal"] is False
    unit = next(unit for unit in report["units"] if unit["namespace"] == "shop.orders")
    assert unit["equal"] is False
    assert {(each["what"], each["key"]) for each in unit["differing"]} == {
        ("different", '{"$numberInt":"77"}'),
        ("missing", '{"$numberInt":"11345"}'),
        ("extra", '{"$numberDouble":"11345.5"}'),
    }
    orders.delete_one({"_id": 11345.5})
    orders.insert_one({"_id": 11345, "n": 45, "text": "order 11345"})
    orders.update_one({"_id": 77}, {"$set": {"text": "order 77"}})
    assert terminal.json("verify")["equal"] is True


def test_merging_into_what_is_there(terminal: Terminal, loaded: Pair) -> None:
    """`--on-conflict`: others' documents stay, and are no mismatch."""
    customers = loaded.target_client.shop.customers
    customers.insert_many([{"_id": "mine"}, {"_id": "c1", "other": True}])
    where = ("-d", "shop", "-c", "customers")
    refused = terminal("start", *where)
    assert (refused.returncode, "ETARGET001" in refused.stderr) == (1, True)
    assert terminal("start", *where, "--on-conflict", "overwrite").returncode == 0
    assert customers.count_documents({}) == 501
    assert customers.find_one({"_id": "c1"}) == {"_id": "c1"}


def test_drop_replaces_what_is_there(terminal: Terminal, loaded: Pair) -> None:
    loaded.target_client.shop.customers.insert_one({"_id": "mine"})
    assert terminal("start", "-d", "shop", "-c", "customers", "--drop").returncode == 0
    assert loaded.target_client.shop.customers.count_documents({}) == 500


def test_replay_of_every_moment_is_legal(terminal: Terminal, loaded: Pair) -> None:
    """I8, I11: any prefix of the history folds; the whole gives the live state's digest."""
    done = terminal("start", "--chunk-docs", "5000")
    live = [line for line in done.stderr.splitlines() if "state digest" in line][-1]
    report = terminal.json("replay", "--check")
    assert report["digest"] in live
    assert (report["status"], report["checked"]) == ("completed", True)
    for seq in range(1, report["seq"], 7):
        assert terminal.json("replay", "--to", str(seq))["seq"] <= seq


def test_a_flag_beats_the_environment(terminal: Terminal, loaded: Pair, tmp_path: Path) -> None:
    """Flag, environment, file: also when one is the address and the other a file with it."""
    nowhere = tmp_path / "uri"
    nowhere.write_text("mongodb://127.0.0.1:1/")
    terminal.environment["FERRYLOG_SOURCE_URI_FILE"] = str(nowhere)
    twice = terminal("start")
    assert (twice.returncode, "named twice" in twice.stderr) == (2, True)
    done = terminal("start", "--source", loaded.source.uri, "-d", "shop", "-c", "customers")
    assert done.returncode == 0, done.stderr


def test_the_same_deployment_through_another_name(terminal: Terminal, loaded: Pair) -> None:
    """`--drop` must never meet its own source."""
    again = loaded.source.uri.replace("127.0.0.1", "localhost") + "?directConnection=true"
    done = terminal("start", "--target", again, "--drop")
    assert (done.returncode, "ECONN006" in done.stderr) == (1, True)
    assert loaded.source_client.shop.orders.count_documents({}) == DOCUMENTS


def test_verify_wants_the_deployments_of_the_job(terminal: Terminal, loaded: Pair) -> None:
    """An empty stranger is not equal to anything."""
    assert terminal("start", "-d", "shop", "-c", "customers").returncode == 0
    swapped = terminal("verify", "--source", loaded.target.uri, "--target", loaded.source.uri)
    assert (swapped.returncode, "ERESUME001" in swapped.stderr) == (1, True)
    loaded.source_client.shop.customers.drop()
    gone = terminal("verify")
    assert gone.returncode != 0, gone.stdout


def test_resume_keeps_settings_and_work_folder(
    terminal: Terminal, loaded: Pair, tmp_path: Path
) -> None:
    """What `start` was told holds until somebody says otherwise; no chunk is dumped twice."""
    work = tmp_path / "work"
    work.mkdir()
    words = ("--chunk-docs", "300", "--dump-workers", "1", "--work-dir", str(work))
    running = terminal.begin("start", *words)
    until(lambda: "restore_completed" in terminal.kinds())
    running.kill()
    running.communicate()
    assert terminal("resume").returncode == 0
    settings = [event["data"]["settings"] for event in terminal.events("--kind", "run_started")]
    assert settings[0] == settings[1]
    assert "dump_invalidated" not in terminal.kinds()
    assert terminal("commit").returncode == 0
    assert list(work.iterdir()) == [], "the folder is the operator's: emptied, not removed"


def test_a_target_collection_that_was_dropped_meanwhile(terminal: Terminal, loaded: Pair) -> None:
    """What was restored is gone: the job must not go on as if it were there."""
    running = terminal.begin("start", "--chunk-docs", "300", "--dump-workers", "1")
    until(lambda: "restore_completed" in terminal.kinds())
    running.kill()
    running.communicate()
    loaded.target_client.shop.orders.drop()
    done = terminal("resume")
    assert (done.returncode, "ERESUME002" in done.stderr) == (1, True)


def test_connection_strings_are_never_repeated(terminal: Terminal) -> None:
    """I45: not even where they do not belong."""
    secret = "mongodb://ann:tops3cret@127.0.0.1:1/"
    for words in (("check", secret), ("status", secret), ("jobs", f"--nonsense={secret}")):
        done = terminal(*words)
        assert done.returncode == 2 or "EJOURNAL007" in done.stderr
        assert "tops3cret" not in done.stdout + done.stderr
