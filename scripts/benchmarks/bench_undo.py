"""Measure what it costs to be able to take a restore back, and taking it back, in one run.

usage: scripts/bench undo [--rounds N] [--documents N] [--bytes N] [--quick]

A ferrylog dump of so many documents is restored by the program itself (4 workers, nothing
verified), with `--undo` and with `--no-undo`, and rolled back. Printed are medians of alternating
rounds: seconds, documents a second, CPU seconds and peak memory of the program.

- own: into a collection that was not there
- merge: into one that held other documents; all are inserted
- overwrite: into one that held another document under each `_id`

`--quick`: one round of 20,000 documents. Goals: recording costs at most 3 % of `own` and 40 % of
`overwrite`; a rollback of `merge`, which deletes every document, is half as fast as inserting them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_data import Figures, load, measured
from pymongo import MongoClient

from ferrylog.embedded import Mongod

NAME = "undone"
GOALS = {"own": 1.03, "overwrite": 1.40}
SLOWEST_ROLLBACK = 0.5
KINDS = {"own": "stop", "merge": "skip", "overwrite": "overwrite"}
ANOTHER = {"$set": {"another": 1}}
Results = dict[tuple[str, str], list[Figures]]


def prepare(target: str, kind: str, dump: Path, folder: Path) -> None:
    """What the target holds before a restore of this kind."""
    with MongoClient[dict[str, Any]](target) as client:
        client.drop_database("bench")
        if kind == "overwrite":
            restore(target, dump, folder / "before.db", "own", "--no-undo")
            client.bench[NAME].update_many({}, ANOTHER)
        elif kind == "merge":
            client.bench[NAME].insert_one({"_id": "foreign"})
        client.admin.command("fsync")


def restore(target: str, dump: Path, journal: Path, kind: str, undo: str) -> Figures:
    how = ["--on-conflict", KINDS[kind], "--no-verify", undo, "--new"]
    return program("restore", str(dump), "--target", target, "--journal", str(journal), *how)


def program(*words: str) -> Figures:
    return measured([sys.executable, "-m", "ferrylog", *words, "--quiet"])


def must_hold(target: str, count: int) -> None:
    with MongoClient[dict[str, Any]](target) as client:
        found = client.bench[NAME].count_documents({})
        if found != count:
            sys.exit(f"the target was to hold {count} documents, and holds {found}")


def run(target: str, dump: Path, folder: Path, count: int, rounds: int) -> Results:
    results: Results = {}
    left = {"own": 0, "merge": 1, "overwrite": count}
    for number in range(rounds):
        for kind in KINDS:
            ways = ("--no-undo", "--undo")
            for undo in ways if number % 2 else ways[::-1]:
                prepare(target, kind, dump, folder)
                journal = folder / f"{number}{kind}{undo}.db"
                took = restore(target, dump, journal, kind, undo)
                results.setdefault((kind, undo), []).append(took)
                must_hold(target, count + (kind == "merge"))
                if undo == "--undo":
                    back = program("rollback", "--target", target, "--journal", str(journal))
                    results.setdefault((kind, "rollback"), []).append(back)
                    must_hold(target, left[kind])
    return results


def median(results: Results, kind: str, what: str) -> float:
    return statistics.median(each.seconds for each in results[kind, what])


def table(results: Results, count: int) -> None:
    print("| | | s | documents/s | CPU s | peak MB |")
    print("|---|---|---:|---:|---:|---:|")
    for (kind, what), figures in sorted(results.items()):
        took = median(results, kind, what)
        cpu = statistics.median(each.cpu_s for each in figures)
        peak = max(each.peak_mb for each in figures)
        print(f"| {kind} | {what} | {took:.2f} | {count / took:,.0f} | {cpu:.2f} | {peak:.0f} |")
    print("\n| | found | goal |\n|---|---:|---:|")
    for kind in KINDS:
        ratio = median(results, kind, "--undo") / median(results, kind, "--no-undo")
        goal = f"<= {GOALS[kind]:.2f}" if kind in GOALS else ""
        print(f"| recording, {kind} | {ratio:.3f} | {goal} |")
    for kind in KINDS:
        ratio = median(results, kind, "--undo") / median(results, kind, "rollback")
        goal = f">= {SLOWEST_ROLLBACK}" if kind == "merge" else ""
        print(f"| rate of the rollback to that of the restore, {kind} | {ratio:.2f} | {goal} |")


@contextmanager
def dumped(folder: Path, count: int, size: int) -> Iterator[Path]:
    """A dump of so many documents; the server that had them is gone."""
    with Mongod(folder / "a", name="a", cache_gb=1) as source:
        words = [sys.executable, __file__, "--do", "load", source.uri, str(count), str(size)]
        data = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        print(f"{count:,} documents, {data / 1e6:,.0f} MB\n", flush=True)
        dump, journal = folder / "dump", folder / "dump.db"
        where = ("--source", source.uri, "--out", str(dump), "--journal", str(journal))
        program("dump", *where, "-d", "bench")
    yield dump


def main() -> None:
    if "--do" in sys.argv:
        uri, count, size = sys.argv[sys.argv.index("load") + 1 :]
        print(load(uri, NAME, int(count), int(size)))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=230)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, rounds = options.documents, options.rounds
    if options.quick:
        count, rounds = 20_000, 1
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with (
            dumped(folder, count, options.bytes) as dump,
            Mongod(folder / "b", name="b", cache_gb=1) as target,
        ):
            table(run(target.uri, dump, folder, count, rounds), count)


if __name__ == "__main__":
    main()
