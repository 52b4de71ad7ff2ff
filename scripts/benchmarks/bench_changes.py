"""Measure how far behind a busy source following and increments are.

usage: scripts/bench changes [--seconds S] [--follow-rate N] [--capture-rate N] [--json FILE]

Two throw-away servers on this machine and a writer with its own process: bulk writes of single
documents of about 230 bytes, a third of them inserts, a third updates, a third replacements.

- follow: `ferrylog start --follow` at 1,000 changes a second. Twice a second a mark is written to
  the source, and how long it takes until the target has it. Goal: under 2 s.
- capture: `ferrylog dump --incremental` again and again at 5,000 changes a second. It keeps up when
  an increment takes no longer than the one before it, and its end lies close behind it.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from common import PROGRAM, measured, options
from pymongo import InsertOne, MongoClient, ReplaceOne, UpdateOne
from results import Results

from ferrylog.embedded import Mongod

DOCUMENTS: Final = 100_000
BEATS_S: Final = 20
"""Bulk writes a second."""


def body(number: int) -> dict[str, Any]:
    return {"_id": number, "n": number, "text": "x" * 180}


def write(uri: str, rate: int, seconds: float) -> None:
    """So many changes a second; prints how many there were, and in what time."""
    with MongoClient[dict[str, Any]](uri) as client:
        begun, done = time.monotonic(), 0
        for beat in count():
            spent = time.monotonic() - begun
            if spent >= seconds:
                break
            time.sleep(max(0.0, beat / BEATS_S - spent))
            numbers = range(done, done + rate // BEATS_S)
            client.bench.c.bulk_write([change(n) for n in numbers], ordered=False)
            done += len(numbers)
    print(json.dumps({"changes": done, "seconds": time.monotonic() - begun}))


def change(number: int) -> InsertOne[Any] | UpdateOne | ReplaceOne[Any]:
    known = number * 7919 % DOCUMENTS
    match number % 3:
        case 0:
            return InsertOne(body(DOCUMENTS + number))
        case 1:
            return UpdateOne({"_id": known}, {"$inc": {"n": 1}})
        case _:
            return ReplaceOne({"_id": known}, {**body(known), "text": "y" * 180})


@contextmanager
def writer(uri: str, rate: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, __file__, "--write", uri, str(rate), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        yield process


def fill(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client.drop_database("bench")
        for first in range(0, DOCUMENTS, 10_000):
            client.bench.c.insert_many([body(n) for n in range(first, first + 10_000)])
        client.bench.create_collection("marks")


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    did = json.loads(process.stdout.read())
    return f"{did['changes'] / did['seconds']:,.0f} changes/s"


# --- following ----------------------------------------------------------------------------------


def follow(
    results: Results, source: str, target: str, folder: Path, rate: int, seconds: float
) -> None:
    fill(source)
    journal = ("--journal", str(folder / "follow.db"), "--quiet")
    words = [*PROGRAM, "start", "--source", source, "--target", target, "--follow", *journal]
    with subprocess.Popen(words) as program:
        with (
            MongoClient[dict[str, Any]](source) as here,
            MongoClient[dict[str, Any]](target) as there,
        ):
            seen(here, there, -1)  # the bulk copy is done
            with writer(source, rate, seconds + 2) as load:
                lags = [seen(here, there, n) for n in range(int(2 * seconds))]
                kept = told(load)
        subprocess.run([*PROGRAM, "cutover", *journal], check=True)
        code = program.wait()
    lags.sort()
    often, worst = lags[int(0.95 * len(lags))], lags[-1]
    told_s = [f"{each:.2f}" for each in (statistics.median(lags), often, worst)]
    results.table(
        f"Following a source at {kept}",
        ["marks", "median s", "95 % s", "worst s", "cut over and compared: exit"],
        [[len(lags), *told_s, code]],
    )


def seen(here: MongoClient[Any], there: MongoClient[Any], mark: int) -> float:
    """Seconds until the target has what the source got; at most two a second."""
    here.bench.marks.insert_one({"_id": mark})
    begun = time.monotonic()
    while there.bench.marks.find_one({"_id": mark}) is None:
        time.sleep(0.005)
    lag = time.monotonic() - begun
    time.sleep(max(0.0, 0.5 - lag))
    return lag


# --- capture ------------------------------------------------------------------------------------


def capture(results: Results, source: str, folder: Path, rate: int, seconds: float) -> None:
    fill(source)
    out, journal = folder / "chain", ("--journal", str(folder / "chain.db"), "--quiet")
    dump = [*PROGRAM, "dump", "--source", source, "--out", str(out), *journal]
    subprocess.run(dump, check=True)
    found = []
    with writer(source, rate, seconds) as load:
        end = time.monotonic() + seconds
        for number in count(1):
            if time.monotonic() >= end:
                break
            figures = measured([*dump, "--incremental"])
            manifest = json.loads((out / f"increments/{number:04d}/manifest.json").read_text())
            rows = sum(each["documents"] for each in manifest["namespaces"])
            behind = time.time() - int(manifest["link"]["until"].partition(".")[0])
            took, rate_s = f"{figures.seconds:.2f}", f"{rows / figures.seconds:,.0f}"
            peak = f"{figures.peak_mb:.0f}"
            found.append([number, took, f"{rows:,}", rate_s, f"{behind:.1f}", peak])
        kept = told(load)
    columns = ["increment", "s", "rows", "rows/s", "its end lies behind by s", "peak MB"]
    results.table(f"Increments of a source at {kept}", columns, found)


def main() -> None:
    if "--write" in sys.argv:
        uri, rate, seconds = sys.argv[sys.argv.index("--write") + 1 :]
        write(uri, int(rate), float(seconds))
        return
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--follow-rate", type=int, default=1_000)
    parser.add_argument("--capture-rate", type=int, default=5_000)
    asked = parser.parse_args()
    seconds, results = asked.seconds * asked.scale, Results.begin("changes")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with Mongod(folder / "a", name="a") as source, Mongod(folder / "b", name="b") as target:
            follow(results, source.uri, target.uri, folder, asked.follow_rate, seconds)
            capture(results, source.uri, folder, asked.capture_rate, seconds)
    results.save(asked.json)


if __name__ == "__main__":
    main()
