"""Health and cleanup beside real servers and real processes: live ones are untouched."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pair
from tests.end_to_end.test_control import Terminals
from tests.end_to_end.test_main_job import until
from tests.program import ferrylog

pytestmark = pytest.mark.server

DOCUMENTS = 8_000
SLOW = ("start", "--chunk-docs", "200", "--dump-workers", "1", "--restore-workers", "1")
OLD = ("--older-than", "staging=0", "--older-than", "files=0", "--older-than", "groups=0")
ROOMY = ("--min-free", "0")
"""These tests are not about the disk that they run on."""


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Iterator[Terminals]:
    terminals = Terminals(tmp_path, pair)
    yield terminals
    for process in terminals.begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    pair.source_client.shop.orders.insert_many(
        [{"_id": n, "text": f"order {n}"} for n in range(DOCUMENTS)]
    )
    return pair


def health(terminal: Terminals, *words: str) -> tuple[int, Any]:
    done = terminal("health", "--json", *ROOMY, *words)
    return done.returncode, json.loads(done.stdout)


def cleanup(terminal: Terminals, *words: str) -> Any:
    done = terminal("cleanup", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def issues(report: Any) -> set[str]:
    return {each["type"] for each in report["issues"]}


def kill_in_the_middle(terminal: Terminals, *words: str) -> None:
    process = terminal.begin(*SLOW, *words)
    until(lambda: terminal.kinds().count("restore_completed") >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "job_completed" not in terminal.kinds()


@contextmanager
def held_up(pair: Pair) -> Iterator[None]:
    """Nobody can drop the collection meanwhile, so no rollback comes to its end."""
    with pair.target_client.start_session() as session:
        session.start_transaction()
        pair.target_client.shop.orders.insert_one({"_id": "held"}, session=session)
        yield
        session.abort_transaction()


def own(pair: Pair) -> set[str]:
    names = pair.target_client.shop.list_collection_names()
    return {name for name in names if name.startswith("ferrylog.")}


def test_a_killed_migration_is_found_and_goes_on(terminal: Terminals, loaded: Pair) -> None:
    """M3: abandoned, with its lease; `--recover` ends it; then all is well."""
    kill_in_the_middle(terminal)
    code, report = health(terminal)
    assert (code, report["overall_status"]) == (4, "critical")
    assert {"abandoned_jobs", "stale_lease"} <= issues(report)
    code, report = health(terminal, "--recover")
    assert (code, report["overall_status"], report["issues"]) == (0, "healthy", [])
    assert [each["type"] for each in report["recovered"]] == ["stale_lease", "abandoned_jobs"]
    assert report["recovered"][1]["status"] == "completed"
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


def test_a_running_migration_is_healthy_and_keeps_all_it_has(
    terminal: Terminals, loaded: Pair
) -> None:
    """I44: cleaning up with every limit at nothing, again and again, while it runs."""
    loaded.target_client.shop.orders.insert_one({"_id": "old"})
    rate = str(DOCUMENTS // 3)  # it shall still run when everything was looked at
    process = terminal.begin(*SLOW, "--swap", "--write-docs-per-s", rate)
    until(lambda: "restore_started" in terminal.kinds())
    cleaned = 0
    while process.poll() is None:
        report = cleanup(terminal, *OLD, "--foreign")
        assert report["removed"] == []
        code, report = health(terminal, "--recover")
        assert report["recovered"] == []
        if report["running"] is not None:
            assert (code, report["issues"]) == (0, []), report
            cleaned += 1
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert cleaned
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


@pytest.mark.parametrize("how", ["--drop", "--swap"])
def test_a_killed_one_keeps_all_it_has(terminal: Terminals, loaded: Pair, how: str) -> None:
    """I44: nobody runs it; what it fills, what it put aside, its logs and its files stay. It goes
    on, under whatever name it fills them."""
    loaded.target_client.shop.orders.insert_one({"_id": "old"})
    kill_in_the_middle(terminal, how)
    files = sorted(each for each in Path(f"{terminal.journal}.d").rglob("*") if each.is_file())
    names = own(loaded)
    assert names
    assert cleanup(terminal, *OLD, "--foreign")["removed"] == []
    assert own(loaded) == names
    assert sorted(each for each in Path(f"{terminal.journal}.d").rglob("*") if each.is_file()) == (
        files
    )
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


def test_what_a_job_kept_stays_until_it_is_committed(terminal: Terminals, loaded: Pair) -> None:
    """M4: a commit that could not free it is made up for; before, age and --foreign do nothing."""
    loaded.target_client.shop.orders.insert_one({"_id": "old"})
    assert terminal("start", "--drop").returncode == 0
    (kept,) = own(loaded)
    assert cleanup(terminal, *OLD, "--foreign")["removed"] == []
    folder = Path(f"{terminal.journal}.d")
    shutil.copytree(folder, folder.with_suffix(".saved"))
    uuid = collection_uuid(loaded, kept)
    done = terminal("commit")
    assert done.returncode == 0, done.stderr
    assert own(loaded) == set()

    # As if the commit had been killed before it freed anything.
    put_back(loaded, kept, uuid)
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".saved").rename(folder)
    assert cleanup(terminal, "--only", "groups")["removed"] == []  # it is not a day old
    without = {**terminal.environment}
    del without["FERRYLOG_TARGET"]
    done = ferrylog("cleanup", "--json", *OLD, env=without)
    assert json.loads(done.stdout)["removed"] == []  # its logs tell where it lies
    report = cleanup(terminal, "--only", "groups", "--older-than", "groups=0")
    assert {each["what"].rpartition("/")[2] for each in report["removed"]} == {
        f"shop.{kept}",
        "undo",
    }
    assert report["freed"]["collections"] == 1 and report["freed"]["bytes"] > 0
    assert own(loaded) == set()


def collection_uuid(pair: Pair, name: str) -> Any:
    (found,) = pair.target_client.shop.list_collections(filter={"name": name})
    return found["info"]["uuid"]


def put_back(pair: Pair, name: str, uuid: Any) -> None:
    """A collection with the UUID that it had before."""
    entry = {"op": "c", "ns": "shop.$cmd", "ui": uuid, "o": {"create": name}}
    pair.target_client.admin.command({"applyOps": [entry]})


def test_what_no_journal_names(terminal: Terminals, loaded: Pair) -> None:
    """M11, M4: told as orphans; gone only by wish; other collections are nobody's business."""
    target = loaded.target_client
    assert terminal("start").returncode == 0
    strange = [f"ferrylog.staging.{n:012x}" for n in range(3)]
    for name in (*strange, "ferrylog", "ferrylog.mine", "staging"):
        target.shop.create_collection(name)
    code, report = health(terminal, "--max-orphans", "2")
    (issue,) = report["issues"]
    assert (code, issue["type"], issue["count"]) == (3, "orphans", 3)
    assert issue["entities"] == [f"shop.{name}" for name in strange]
    assert "--foreign --dry-run" in issue["recommendation"]
    report = cleanup(terminal)
    assert (report["removed"], len(report["left"])) == ([], 3)
    assert len(cleanup(terminal, "--foreign", "--dry-run")["removed"]) == 3
    assert own(loaded) >= set(strange)
    assert cleanup(terminal, "--foreign")["freed"]["collections"] == 3
    assert own(loaded) == {"ferrylog.mine"}
    assert {"ferrylog", "staging", "orders"} <= set(target.shop.list_collection_names())


def test_what_another_journal_names_stays(
    terminal: Terminals, loaded: Pair, tmp_path: Path
) -> None:
    """I44: what its jobs keep or fill on the target, too, whatever is asked for."""
    loaded.target_client.shop.orders.insert_one({"_id": "old"})
    assert terminal("start", "--drop").returncode == 0
    (kept,) = own(loaded)
    loaded.target_client.shop.create_collection("ferrylog.staging.0123456789ab")
    (tmp_path / "other").mkdir()
    other = Terminals(tmp_path / "other", loaded)
    assert other("dump", "--out", str(tmp_path / "dump")).returncode == 0
    cleanup(other, *OLD, "--foreign", "--other-journal", str(terminal.journal))
    assert own(loaded) == {kept}
    assert terminal("rollback").returncode == 0
    assert loaded.target_client.shop.orders.find_one() == {"_id": "old"}


def test_a_rollback_that_was_killed_goes_on(terminal: Terminals, loaded: Pair) -> None:
    """M3: what nobody carries on is carried on, to the target as it was."""
    kill_in_the_middle(terminal)
    with held_up(loaded):
        process = terminal.begin("rollback")
        until(lambda: "undo_completed" in terminal.kinds())
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "job_rolled_back" not in terminal.kinds()
    _, report = health(terminal)
    assert "abandoned_jobs" in issues(report)
    code, report = health(terminal, "--recover")
    assert report["recovered"][-1]["how"] == "its rollback went on", report
    assert report["recovered"][-1]["status"] == "rolled_back"
    assert code == 0, report
    assert loaded.target_client.shop.list_collection_names() == []


def test_a_gap_in_a_chain(terminal: Terminals, loaded: Pair, tmp_path: Path) -> None:
    """M11: the link, and what lies behind it."""
    out = tmp_path / "chain"
    assert terminal("dump", "--out", str(out), "--consistency", "snapshot").returncode == 0
    for number in range(3):
        loaded.source_client.shop.orders.insert_one({"_id": f"new {number}"})
        done = terminal("dump", "--out", str(out), "--incremental")
        assert done.returncode == 0, done.stderr
    assert issues(health(terminal, "--chain", str(out))[1]) == set()
    before = digest_of(out)
    assert cleanup(terminal, *OLD, "--foreign")["removed"] == []
    assert digest_of(out) == before  # no link goes that a later one needs
    shutil.rmtree(out / "increments" / "0002")
    code, report = health(terminal, "--chain", str(out))
    (issue,) = report["issues"]
    assert (code, issue["type"], issue["severity"]) == (4, "chain_gaps", "critical")
    assert issue["entities"] == [f"{out} link 3"]


def digest_of(folder: Path) -> str:
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return hashlib.sha256(b"".join(os.fsencode(f) + f.read_bytes() for f in files)).hexdigest()
