"""Run every bench, one after the other, and compose `docs/performance.md` of what they found.

usage: scripts/bench all [--rounds N] [--scale F] [--only data,share] [--results DIR] [--out FILE]
                         [--peer PYTHON]

A bench that fails is named, and the others go on: the document lacks its part, and the command ends
with 1. Each leaves its results in `--results`, so that it can be run again alone and the document
composed again by `scripts/bench report`.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bench_report import OUT, SUBJECTS, compose
from common import ROOT


def words(subject: str, asked: argparse.Namespace) -> list[str]:
    """Of a subject's own options, those that fit the others."""
    rounds, scale = ["--rounds", str(asked.rounds)], ["--scale", str(asked.scale)]
    match subject:
        case "coordinator":
            return ["--chunks", str(max(400, int(10_000 * asked.scale))), "--units", "100"]
        case "dump":  # it takes next to no time
            return [*rounds, "--scale", str(2 * asked.scale)]
        case "changes":
            return scale
        case "journal":
            return [*rounds, *scale, *(["--peer", asked.peer] if asked.peer else [])]
        case _:
            return [*rounds, *scale]


def run(subject: str, asked: argparse.Namespace) -> Path | None:
    """Where the results are, or None: it failed."""
    path = asked.results / f"{subject}.json"
    program = Path(__file__).with_name(f"bench_{subject}.py")
    began = time.monotonic()
    print(f"--- {subject}", flush=True)
    done = subprocess.run(
        [sys.executable, str(program), *words(subject, asked), "--json", str(path)], check=False
    )
    took = time.monotonic() - began
    print(f"--- {subject}: {took:.0f} s, exit {done.returncode}\n", flush=True)
    return path if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(SUBJECTS))
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--peer", default="", metavar="PYTHON", help="with `eventsourcing`")
    asked = parser.parse_args()
    found = [run(subject, asked) for subject in asked.only.split(",")]
    if there := [path for path in found if path is not None]:
        compose(there, asked.out)
    if None in found:
        sys.exit(1)


if __name__ == "__main__":
    main()
