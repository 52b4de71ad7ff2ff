"""Measure dump, restore and migrate against mongodump and mongorestore, in one run, as ratios.

usage: scripts/bench data [--rounds N] [--only small,medium,large] [--scale F]

Two throw-away servers on this machine; generated documents: small (about 230 bytes), medium
(4 KB), large (300 KB). The peers run when they are on PATH. Each round runs every contender once,
in turn; printed are medians: seconds, MB/s of raw BSON, CPU seconds and peak memory of the client,
and how many times the peer's throughput ours is. Both write to page cache and disk alike; both
restores are acknowledged by a majority, with 4 workers. `dump` and `restore` run ferrylog's
executors over its own plan; `migrate` is the whole program with its journal, `--no-verify`, once
coordinated by chunk files (uncompressed, zstd), once direct.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from pymongo import MongoClient

from executors.boundaries import to_text
from executors.clients import connect
from executors.dump import dump
from executors.plan import plan
from executors.restore import restore
from executors.survey import survey
from ferrylog.embedded import Mongod
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.words import ChunkId

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


# --- ferrylog's sides, each in a process of its own --------------------------------------------


def spec(compression: str) -> JobSpec:
    return JobSpec(
        kind="migrate", mode="coordinated", source="", target="", source_id="", target_id="",
        chunk_docs=100_000,
        chunk_bytes=16 << 20, compression=compression, write_concern="majority", drop=False,
        on_conflict="stop", verify=False,
    )  # fmt: skip


def run_dump(uri: str, name: str, compression: str, folder: Path) -> None:
    """Plan and dump with WORKERS readers; leaves a list of the files for `run_restore`."""
    source, asked = connect("source", uri), spec(compression)
    found = survey(source.client, (f"bench.{name}",), ()).units[0]
    unit = Unit(
        found.unit, found.target, "collection", found.uuid, to_text(b"\5\0\0\0\0"), (),
        found.documents, found.bytes,
    )  # fmt: skip
    edges = [None, *plan(source.client, unit, asked, Event(), capped=False).boundaries, None]
    chunks = [
        Chunk(ChunkId(f"{unit.id}#{n}"), unit.id, edges[n], edges[n + 1], 0, natural=False)
        for n in range(len(edges) - 1)
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(
            pool.map(lambda c: dump(source.client, unit, c, asked, folder, 1, Event()), chunks)
        )
    files = [[d.file, d.documents, d.bytes, d.file_bytes, d.sha256] for d in done]
    (folder / "files.json").write_text(json.dumps(files))


def run_restore(uri: str, name: str, folder: Path) -> None:
    target, asked = connect("target", uri), spec("none")
    unit = Unit(f"bench.{name}", f"bench.{name}", "collection", "", "", (), 0, 0)
    files = [ChunkFile(*each) for each in json.loads((folder / "files.json").read_text())]
    target.client.bench.create_collection(name)

    def one(file: ChunkFile) -> None:
        chunk = Chunk(ChunkId("x#0"), unit.id, None, None, 0, natural=False, file=file)
        for _ in restore(target.client, unit, chunk, asked, folder, Event()):
            pass

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, files))


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
    me = [sys.executable, __file__]
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

    def ours(step: str, compression: str) -> Figures:
        if step == "dump":
            words = [*me, "--do", "dump", source.uri, name, compression]
            return measured([*words, str(fresh(f"dump-{compression}"))])
        empty()
        if step == "restore":
            return measured(
                [*me, "--do", "restore", target.uri, name, str(folder / f"dump-{compression}")]
            )
        words = [sys.executable, "-m", "ferrylog", "start", "--no-verify", "--new", "--quiet"]
        mode = "direct" if step == "migrate direct" else "coordinated"
        words += ["-d", "bench", "-c", name, "--compression", compression, "--mode", mode]
        words += ["--journal", str(fresh("migrate") / "j.db"), "--chunk-bytes", str(16 << 20)]
        return measured([*words, "--source", source.uri, "--target", target.uri], cwd=ROOT)

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
    contests += [
        ("ferrylog dump, none", lambda: ours("dump", "none"), "mongodump"),
        ("ferrylog dump, zstd", lambda: ours("dump", "zstd"), "mongodump --gzip"),
        ("ferrylog restore, from none", lambda: ours("restore", "none"), "mongorestore"),
        ("ferrylog restore, from zstd", lambda: ours("restore", "zstd"), "mongorestore"),
        ("ferrylog migrate, none", lambda: ours("migrate", "none"), "mongodump | mongorestore"),
        ("ferrylog migrate, zstd", lambda: ours("migrate", "zstd"), "mongodump | mongorestore"),
        (
            "ferrylog migrate, direct",
            lambda: ours("migrate direct", "none"),
            "mongodump | mongorestore",
        ),
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
        if out.name in ("dump-none", "dump-zstd", "peer", "peer-gz")
    }
    print("on disk: " + ", ".join(f"{k} {v / 1e6:,.0f} MB" for k, v in sorted(sizes.items())))
    with MongoClient(source.uri) as client:
        client.drop_database("bench")


def main() -> None:
    if "--do" in sys.argv:
        step, *words = sys.argv[sys.argv.index("--do") + 1 :]
        if step == "load":
            print(load(words[0], words[1], int(words[2]), int(words[3])))
        elif step == "dump":
            run_dump(words[0], words[1], words[2], Path(words[3]))
        else:
            run_restore(words[0], words[1], Path(words[2]))
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
