"""Measure what it costs to be able to take a restore back, and taking it back, in one run.

usage: scripts/bench undo [--rounds N] [--scale F] [--bytes N] [--quick] [--json FILE]

A ferrylog dump of so many documents is restored by the program itself (4 workers, nothing
verified), with `--undo` and with `--no-undo`, and rolled back. Printed are medians of alternating
rounds: seconds, documents a second, CPU seconds and peak memory of the program.

- own: into a collection that was not there
- merge: into one that held other documents; all are inserted
- overwrite: into one that held another document under each `_id`

`--quick`: one round of 20,000 documents. Goals: recording costs at most 3 % of `own` and 40 % of
`overwrite`; a rollback of `merge`, which deletes every document, is half as fast as inserting them.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import CACHE_GB, PROGRAM, SETS, Figures, loaded, measured, options
from pymongo import MongoClient
from results import Results, paired, spread

from ferrylog.embedded import Mongod

NAME = "undone"
GOALS = {"own": 1.03, "overwrite": 1.40}
SLOWEST_ROLLBACK = 0.5
KINDS = {"own": "stop", "merge": "skip", "overwrite": "overwrite"}
ANOTHER = {"$set": {"another": 1}}
Found = dict[tuple[str, str], list[Figures]]


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
    return measured([*PROGRAM, *words, "--quiet"])


def must_hold(target: str, count: int) -> None:
    with MongoClient[dict[str, Any]](target) as client:
        found = client.bench[NAME].count_documents({})
        if found != count:
            sys.exit(f"the target was to hold {count} documents, and holds {found}")


def run(target: str, dump: Path, folder: Path, count: int, rounds: int) -> Found:
    results: Found = {}
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


def median(results: Found, kind: str, what: str) -> float:
    return statistics.median(each.seconds for each in results[kind, what])


def table(results: Results, found: Found, title: str, count: int) -> None:
    rows = []
    for (kind, what), figures in sorted(found.items()):
        took = median(found, kind, what)
        cpu = statistics.median(each.cpu_s for each in figures)
        peak = max(each.peak_mb for each in figures)
        rows.append(
            [kind, what, f"{took:.2f}", f"{count / took:,.0f}", f"{cpu:.2f}", f"{peak:.0f}"]
        )
    results.table(title, ["", "", "s", "documents/s", "client CPU s", "peak MB"], rows, words=2)
    asked = []
    for kind in KINDS:
        goal = f"at most {GOALS[kind]:.2f}" if kind in GOALS else ""
        asked.append(
            [f"recording, {kind}", spread(ratios(found, kind, "--undo", "--no-undo"), 3), goal]
        )
    for kind in KINDS:
        goal = f"at least {SLOWEST_ROLLBACK}" if kind == "merge" else ""
        what = f"rate of the rollback to that of the restore, {kind}"
        asked.append([what, spread(ratios(found, kind, "--undo", "rollback")), goal])
    results.table("", ["", "found", "goal"], asked)


def ratios(found: Found, kind: str, above: str, below: str) -> list[float]:
    return paired(found[kind, above], found[kind, below])


@contextmanager
def dumped(folder: Path, count: int, size: int) -> Iterator[Path]:
    """A dump of so many documents; the server that had them is gone."""
    with Mongod(folder / "a", name="a", cache_gb=CACHE_GB) as source:
        loaded(source.uri, NAME, count, size)
        dump, journal = folder / "dump", folder / "dump.db"
        where = ("--source", source.uri, "--out", str(dump), "--journal", str(journal))
        program("dump", *where, "-d", "bench")
    yield dump


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--bytes", type=int, default=SETS["small"][1])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    count, rounds = int(SETS["small"][0] * asked.scale), asked.rounds
    if asked.quick:
        count, rounds = 20_000, 1
    results = Results.begin("undo")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with (
            dumped(folder, count, asked.bytes) as dump,
            Mongod(folder / "b", name="b", cache_gb=CACHE_GB) as target,
        ):
            found = run(target.uri, dump, folder, count, rounds)
            title = f"{count:,} documents of about {asked.bytes} bytes; rounds: {rounds}"
            table(results, found, title, count)
    results.save(asked.json)


if __name__ == "__main__":
    main()
