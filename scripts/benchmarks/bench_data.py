"""Measure dump, restore and migrate against mongodump and mongorestore, in one run, as ratios.

usage: scripts/bench data [--rounds N] [--only small,medium,large] [--scale F]

Two throw-away servers on this machine; generated documents: small (about 230 bytes), medium
(4 KB), large (300 KB). The peers run when they are on PATH. Each round runs every contender once,
in turn; printed are medians: seconds, MB/s of raw BSON, CPU seconds and peak memory of the client,
and how many times the peer's throughput ours is. Both write to page cache and disk alike; both
restores are acknowledged by a majority, with 4 workers. Ours is always the whole program with its
journal, `--no-verify`: dumps in its own layout and in mongodump's, restores of its own dumps and of
the directory that mongodump left, migrations by chunk files (uncompressed, zstd) and direct.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient

from ferrylog.embedded import Mongod

ROOT = Path(__file__).resolve().parent.parent.parent
WORKERS = 4
SETS = {"small": (1_000_000, 230), "medium": (150_000, 4_000), "large": (2_500, 300_000)}


@dataclass
class Figures:
    seconds: float
    cpu_s: float
    peak_mb: float


def measured(words: list[str], **kwargs: object) -> Figures:
    """Run a command; wall, CPU and peak memory of its whole process."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)
    error = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{words} ended with {process.returncode}: {error.decode()[-2000:]}")
    return Figures(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def load(uri: str, name: str, count: int, size: int) -> int:
    """Fill `bench.<name>` with documents of about `size` bytes; return their bytes."""
    draw = random.Random(name)
    words = [draw.randbytes(4).hex() for _ in range(4000)]
    with MongoClient(uri) as client:
        collection = client.bench[name]
        for start in range(0, count, 5000):
            collection.insert_many(
                [document(draw, words, n, size) for n in range(start, min(count, start + 5000))],
                ordered=False,
            )
        return int(client.bench.command("collStats", name)["size"])


def document(draw: random.Random, words: list[str], n: int, size: int) -> dict:
    text = " ".join(draw.choices(words, k=max(1, (size - 110) // 9)))
    return {"n": n, "x": draw.random(), "tags": draw.choices(words, k=3), "text": text}


# --- the contest ---------------------------------------------------------------------------------


def contest(  # noqa: C901, PLR0915 — one table
    name: str, source: Mongod, target: Mongod, folder: Path, rounds: int
) -> None:
    count, size = SETS[name]
    # In a process of its own: what this one holds would count as its children's peak memory.
    load_words = [sys.executable, __file__, "--do", "load", source.uri, name, str(count), str(size)]
    data = int(subprocess.run(load_words, check=True, capture_output=True, text=True).stdout)
    print(f"\n{name}: {count:,} documents, {data / 1e6:,.0f} MB, {rounds} rounds")
    print(f"{'':34}{'s':>8}{'MB/s':>9}{'CPU s':>8}{'peak MB':>9}   times the peer")
    peers = shutil.which("mongodump") is not None and shutil.which("mongorestore") is not None
    there = ["--uri", source.uri, "-d", "bench", "-c", name]
    here = ["--uri", target.uri, "--numInsertionWorkersPerCollection", str(WORKERS), "--quiet"]

    def fresh(kind: str) -> Path:
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir(parents=True)
        return folder / kind

    def empty() -> None:
        with MongoClient(target.uri) as client:
            client.drop_database("bench")

    def ours(step: str, *options: str, out: str) -> Figures:
        words = [sys.executable, "-m", "ferrylog", step, "--new", "--quiet", *options]
        words += ["-d", "bench", "-c", name, "--chunk-bytes", str(16 << 20)]
        words += ["--journal", str(fresh("journal") / "j.db")]
        if step != "restore":
            words += ["--source", source.uri]
        if step == "dump":
            shutil.rmtree(folder / out, ignore_errors=True)
            return measured([*words, "--out", str(folder / out)], cwd=ROOT)
        empty()
        words += ["--target", target.uri, "--no-verify"]
        if step == "restore":
            words += ["--from", str(folder / out)]
        return measured(words, cwd=ROOT)

    def theirs(step: str, gzip: bool = False) -> Figures:
        zipped = ["--gzip"] if gzip else []
        out = folder / f"peer{'-gz' if gzip else ''}"
        if step == "dump":
            shutil.rmtree(out, ignore_errors=True)
            return measured(["mongodump", *there, "--quiet", "-o", str(out), *zipped])
        empty()
        if step == "restore":
            return measured(["mongorestore", *here, *zipped, str(out)])
        pipe = f"mongodump --archive --quiet {' '.join(there)} | "
        pipe += f"mongorestore --archive {' '.join(here)}"
        return measured(["bash", "-o", "pipefail", "-c", pipe])

    contests: list[tuple[str, Callable[[], Figures], str | None]] = []
    if peers:
        contests += [
            ("mongodump", lambda: theirs("dump"), None),
            ("mongodump --gzip", lambda: theirs("dump", gzip=True), None),
            ("mongorestore", lambda: theirs("restore"), None),
            ("mongodump | mongorestore", lambda: theirs("pipe"), None),
        ]
    none, zstd = ("--compression", "none"), ("--compression", "zstd")
    pipe, packed = "mongodump | mongorestore", ("--layout", "mongodump")
    contests += [
        ("ferrylog dump, none", lambda: ours("dump", *none, out="none"), "mongodump"),
        ("ferrylog dump, zstd", lambda: ours("dump", *zstd, out="zstd"), "mongodump --gzip"),
        ("ferrylog dump, mongodump's", lambda: ours("dump", *packed, out="packed"), "mongodump"),
        ("ferrylog restore, none", lambda: ours("restore", out="none"), "mongorestore"),
        ("ferrylog restore, zstd", lambda: ours("restore", out="zstd"), "mongorestore"),
        (
            "ferrylog restore, mongodump's",
            lambda: ours("restore", out="peer" if peers else "packed"),
            "mongorestore",
        ),
        ("ferrylog migrate, none", lambda: ours("start", *none, out=""), pipe),
        ("ferrylog migrate, zstd", lambda: ours("start", *zstd, out=""), pipe),
        ("ferrylog migrate, direct", lambda: ours("start", "--mode", "direct", out=""), pipe),
    ]
    results: dict[str, list[Figures]] = {label: [] for label, _, _ in contests}
    for _ in range(rounds):
        for label, run, _ in contests:
            results[label].append(run())
    seconds = {k: statistics.median(f.seconds for f in each) for k, each in results.items()}
    if peers:
        seconds["dump then restore"] = seconds["mongodump"] + seconds["mongorestore"]
    for label, _, peer in contests:
        each = results[label]
        cpu = statistics.median(f.cpu_s for f in each)
        peak = max(f.peak_mb for f in each)
        took = seconds[label]
        line = f"{label:34}{took:8.2f}{data / 1e6 / took:9.1f}{cpu:8.2f}{peak:9.0f}"
        if peer in seconds:
            line += f"   {seconds[peer] / seconds[label]:.2f} {peer}"
        if peer is not None and "migrate" in label and peers:
            line += f", {seconds['dump then restore'] / seconds[label]:.2f} dump then restore"
        print(line, flush=True)
    sizes = {
        out.name: sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        for out in folder.iterdir()
        if out.name in ("none", "zstd", "peer", "peer-gz")
    }
    print("on disk: " + ", ".join(f"{k} {v / 1e6:,.0f} MB" for k, v in sorted(sizes.items())))
    with MongoClient(source.uri) as client:
        client.drop_database("bench")


def main() -> None:
    if "--do" in sys.argv:
        _, *words = sys.argv[sys.argv.index("--do") + 1 :]
        print(load(words[0], words[1], int(words[2]), int(words[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="small,medium,large")
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    for name, (count, size) in SETS.items():
        SETS[name] = (max(1, int(count * options.scale)), size)
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with (
            Mongod(folder / "a", name="a", cache_gb=1) as source,
            Mongod(folder / "b", name="b", cache_gb=1) as target,
        ):
            for kind in options.only.split(","):
                contest(kind, source, target, folder / "files", options.rounds)


if __name__ == "__main__":
    main()
