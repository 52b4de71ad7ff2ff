"""The main job as a story: two servers, real data, a kill in the middle, a resume, a proof.

The data is the Unicode character database that Python carries: about 150,000 characters.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from executors.sample import load_characters
from ferrylog.embedded import Mongod
from journal.sqlite import SqliteJournal

KILL_AT: Final = 40
"""Chunks restored when the process is killed: about half."""
CHUNK_DOCS: Final = 2000


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="ferrylog-quickstart-"))
    journal = folder / "ferrylog.db"
    with (
        Mongod(folder / "source", name="source") as source,
        Mongod(folder / "target", name="target") as target,
    ):
        say(f"two servers are up: {source.uri} and {target.uri}")
        counts = load_characters(source.uri)
        say("loaded " + ", ".join(f"{name} ({count:,})" for name, count in counts.items()))
        servers = {"FERRYLOG_SOURCE": source.uri, "FERRYLOG_TARGET": target.uri}
        return _story(journal, servers)


def _story(journal: Path, servers: dict[str, str]) -> int:
    start = ["start", "--chunk-docs", str(CHUNK_DOCS), "--journal", str(journal)]
    say(f"$ ferrylog {shlex.join(start)}")
    process = subprocess.Popen([*FERRYLOG, *start], env={**os.environ, **servers})
    restored = _wait_for_restores(journal, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    say(f"killed with SIGKILL after {restored} restored chunks; the journal has it all:")
    _run("status", journal, servers)
    say("resume goes on after the last acknowledged batch:")
    if code := _run("resume", journal, servers):
        return code
    say("verify reads both sides again, document by document:")
    if code := _run("verify", journal, servers):
        return code
    say("replay rebuilds the state from the journal alone, and checks every hash:")
    if code := _run("replay", journal, servers, "--check"):
        return code
    say(f"done. The journal lies at {journal}; the servers are gone. Type next:")
    for words in ("jobs", "inspect events", "inspect check", "--help"):
        option = "" if words == "--help" else f" --journal {shlex.quote(str(journal))}"
        print(f"    .venv/bin/ferrylog {words}{option}", file=sys.stderr)
    return 0


FERRYLOG: Final = (sys.executable, "-m", "ferrylog")


def _run(command: str, journal: Path, servers: dict[str, str], *options: str) -> int:
    words = [command, *options, "--journal", str(journal)]
    say(f"$ ferrylog {shlex.join(words)}")
    return subprocess.run(
        [*FERRYLOG, *words], env={**os.environ, **servers}, check=False
    ).returncode


def _wait_for_restores(journal: Path, process: "subprocess.Popen[bytes]") -> int:
    """Follow the journal from outside, as any terminal may, until half the work is done."""
    restored = 0
    while restored < KILL_AT and process.poll() is None:
        time.sleep(0.02)
        if journal.exists() and Path(f"{journal}.tip").exists():
            with SqliteJournal.read_only(journal) as opened:
                restored = sum(
                    recorded.event.kind == "restore_completed"
                    for job in opened.jobs()
                    for recorded in opened.read(job)
                )
    return restored


def say(text: str) -> None:
    print(f"\n── {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
