"""Fuzz what reads files of unknown origin.

usage: scripts/fuzz [TARGET ...] [--seconds N] [--folder DIR]

Each target has a process of its own, which coverage guides (atheris, `pip install
'ferrylog[fuzz]'`); without atheris changes are drawn by lot. What is found is kept in the
folder and told; the exit code is 1 then.
"""

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.fuzz.changes import changed
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

SECONDS = 60
LONGEST = 8192
"""Bytes of an input."""
SLOW_S = 20
"""One input that takes longer is a finding."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz readers of files.")
    parser.add_argument("target", nargs="*", help=f"one of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="corpus and findings")
    asked = parser.parse_args()
    if unknown := set(asked.target) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        print("atheris is not installed (pip install 'ferrylog[fuzz]'): changes by lot instead")
    found = 0
    for target in asked.target or TARGETS:
        folder = prepared(asked.folder, target)
        found += (guide if guided else draw)(target, asked.seconds, folder)
    return 1 if found else 0


def prepared(folder: Path, target: str) -> Path:
    """The target's folder with its seeds in it; what earlier runs learned is there already."""
    corpus = folder / target / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (folder / target / "findings").mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    for seed in seeds(target):
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    return folder / target


def guide(target: str, seconds: int, folder: Path) -> int:
    """One process under libFuzzer, which ends at its first finding."""
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOW_S}",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={folder / 'findings'}/",
        str(folder / "corpus"),
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", target, *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    (folder / "log").write_text(done.stdout + done.stderr)
    executions = _number(r"number_of_executed_units:\s*(\d+)", done.stderr)
    each_second = _number(r"average_exec_per_sec:\s*(\d+)", done.stderr)
    _tell(target, executions, each_second, folder, failed=done.returncode != 0)
    if done.returncode:
        print("\n".join((done.stdout + done.stderr).splitlines()[-30:]))
    return int(done.returncode != 0)


def draw(target: str, seconds: int, folder: Path) -> int:
    """Changes of seeds by lot, in this process, to its first finding."""
    begun, chance, executions = time.monotonic(), Random(target), 0
    inputs = [path.read_bytes() for path in sorted((folder / "corpus").iterdir())]
    failed = False
    while not failed and time.monotonic() < begun + seconds:
        data = changed(chance.choice(inputs), chance)
        executions += 1
        try:
            TARGETS[target](data)
        except Exception:  # noqa: BLE001 — whatever it is, it is what we look for
            traceback.print_exc()
            name = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            (folder / "findings" / f"crash-{name}").write_bytes(data)
            failed = True
    each_second = int(executions / max(time.monotonic() - begun, 0.001))
    _tell(target, executions, each_second, folder, failed=failed)
    return int(failed)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _tell(target: str, executions: int, each_second: int, folder: Path, *, failed: bool) -> None:
    kept = len(list((folder / "corpus").iterdir()))
    result = (
        f"A FINDING, see {folder / 'findings'} and {folder / 'log'}" if failed else "0 findings"
    )
    print(f"{target}: {executions:,} executions, {each_second:,}/s, corpus {kept:,}, {result}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
