"""A migration begun on one host goes on on another, with real servers and real kills."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end.test_main_job import DOCUMENTS, Terminal, loaded, terminal, until

__all__ = ["loaded", "terminal"]
pytestmark = pytest.mark.server


def killed_in_the_middle(terminal: Terminal) -> str:
    running = terminal.begin("start", "--chunk-docs", "100", "--restore-workers", "1")
    until(lambda: terminal.kinds().count("restore_completed") >= 3)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    (job,) = terminal.json("jobs")["jobs"]
    return str(job["job"])


def elsewhere(pair: Pair, tmp_path: Path) -> Terminal:
    folder = tmp_path / "another host"
    folder.mkdir()
    return Terminal(folder, pair)


@pytest.mark.deep
def test_a_job_moves_to_another_host_in_the_middle(
    terminal: Terminal, loaded: Pair, tmp_path: Path
) -> None:
    """P4, I5, I12, I22: killed here, exported, finished there without the chunk files; here it is
    fenced: neither resume nor start goes on with it, whatever became of the file."""
    job = killed_in_the_middle(terminal)
    file, key = tmp_path / "job.ndjson", tmp_path / "key"
    key.write_text("sixteen bytes or more")
    done = terminal("jobs", "export", job, "--out", str(file), "--key-file", str(key))
    assert done.returncode == 0, done.stderr
    for words in (("resume",), ("resume", job), ("start",), ("start", "--drop")):
        refused = terminal(*words)
        assert refused.returncode == 7, refused.stderr
        assert "EJOB005" in refused.stderr, refused.stderr
    assert terminal.json("status")["status"] == "moved"
    shutil.rmtree(f"{terminal.journal}.d", ignore_errors=True)

    there = elsewhere(loaded, tmp_path)
    wrong = tmp_path / "wrong"
    wrong.write_text("another key, as long")
    assert there("jobs", "import", str(file), "--key-file", str(wrong)).returncode == 4
    done = there("jobs", "import", str(file), "--key-file", str(key))
    assert done.returncode == 0, done.stderr
    assert there.json("status")["status"] == "paused"
    done = there("resume", job)
    assert done.returncode == 0, done.stderr
    done = there("verify", job)
    assert done.returncode == 0, done.stderr
    assert there("inspect", "check").returncode == 0
    assert there("replay", job, "--check").returncode == 0
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS
    again = there("jobs", "import", str(file), "--key-file", str(key))
    assert again.returncode == 7, again.stderr
    assert "EJOB003" in again.stderr


def test_a_backup_of_a_running_job_goes_on_when_the_host_is_lost(
    terminal: Terminal, loaded: Pair, tmp_path: Path
) -> None:
    """I12, I22: the journal copied from under the run; the host dies; the copy is resumed."""
    running = terminal.begin("start", "--chunk-docs", "100", "--restore-workers", "1")
    until(lambda: "restore_completed" in terminal.kinds())
    there = elsewhere(loaded, tmp_path)
    done = terminal("jobs", "backup", str(there.journal), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["last_seq"] > 0
    running.send_signal(signal.SIGKILL)
    running.communicate()
    shutil.rmtree(f"{terminal.journal}.d", ignore_errors=True)
    terminal.journal.unlink()
    done = there("resume")
    assert done.returncode == 0, done.stderr
    assert there("verify").returncode == 0
    assert loaded.target_client.shop.orders.count_documents({}) == DOCUMENTS


def test_evidence_of_a_running_job(terminal: Terminal, loaded: Pair, tmp_path: Path) -> None:
    """I45: exported while it runs, checked without the journal; no secret in it."""
    running = terminal.begin("start", "--chunk-docs", "500")
    until(lambda: terminal.kinds().count("restore_completed") >= 1)
    file = tmp_path / "e.ndjson"
    done = terminal("inspect", "export", "--out", str(file))
    running.communicate()
    assert done.returncode == 0, done.stderr
    assert running.returncode == 0
    terminal.journal.unlink()
    done = terminal("inspect", "check", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] == len(file.read_text().splitlines()) - 2
    file.write_bytes(file.read_bytes().replace(b"dump_completed", b"dump_started", 1))
    done = terminal("inspect", "check", str(file))
    assert done.returncode == 4
    assert "EJOURNAL013" in done.stderr
