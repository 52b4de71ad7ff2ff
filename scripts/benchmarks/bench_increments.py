"""Measure how increments are applied, against a restore of as many full documents, and captured.

usage: scripts/bench increments [--rounds N] [--only small,medium] [--scale F] [--quick]
                                [--json FILE]

A throw-away server on this machine; documents of about 230 bytes (small) and 4 KB (medium), in
chunk files of 100,000 rows; each contender is a process of its own with 4 workers, acknowledged by
a majority. Printed are medians: seconds, rows a second, CPU seconds and peak memory of the client,
and the rate as a share of the restore's.

- restore: the documents into an empty collection
- new: the same as an increment that the target has nothing of
- changed: a row for each document that is there
- mixed: half of them changed, a quarter gone, and a quarter as many new
- mixed, read back: the same with verification
- gone: all of them

Then the capture of as many changes, half of them new documents: changes a second, and the peak
memory, which should be that of a tenth of them.

`--quick`: one round of a twentieth of it all. Goal: mixed at 60 % of the restore's rate.
"""

import random
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from common import CACHE_GB, SETS, WORKERS, Figures, document, measured, options, sets
from pymongo import MongoClient
from results import Results, paired, seconds, spread

from executors.batches import BLOCK_BYTES, Block
from executors.chunkfile import write_chunk_file
from executors.clients import connect
from executors.increments.apply import apply
from executors.increments.capture import capture
from executors.increments.model import Making, Parent
from executors.increments.row import erased
from executors.increments.stream import now
from executors.rawbson import id_of
from executors.restore import restore
from ferrylog.embedded import Mongod
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Shard, Unit
from statemachine.words import THE_JOB, BsonText, ChunkId, ShardId, TaskKey, TaskKind, UnitId

GOAL: Final = 0.6
CHUNK: Final = 100_000
NAME: Final = "bench.c"
SPEC = JobSpec(
    kind="restore", mode="coordinated", source="", target="", source_id="", target_id="",
    chunk_docs=CHUNK, chunk_bytes=64 << 20, compression="none", write_concern="majority",
    drop=False, on_conflict="stop", verify=False,
)  # fmt: skip
UNIT = Unit(UnitId(NAME), NAME, "collection", "", BsonText(""), (), 0, 0)


@dataclass
class Bench:
    """What a step needs to know."""

    target: str
    folder: Path


# --- files of rows ------------------------------------------------------------------------------


def make(folder: Path, count: int, size: int) -> None:
    """Chunk files of rows: what lies there, and increments of it, each with `count` rows."""
    quarter = count // 4
    written(folder / "old", count, documents("old", 0, count, size))
    written(folder / "changed", count, documents("changed", 0, count, size))
    written(folder / "gone", count, map(gone, documents("old", 0, count, size)))
    written(folder / "mixed", count, mixed(count, size, quarter))


def mixed(count: int, size: int, quarter: int) -> Iterator[bytes]:
    """Of four documents that are there two are changed and one is gone; the new ones come last."""
    for n, each in enumerate(documents("mixed", 0, count, size)):
        if n % 4 < 2:
            yield each
        elif n % 4 == 2:
            yield gone(each)
    yield from documents("mixed", count, quarter, size)


def documents(what: str, first: int, count: int, size: int) -> Iterator[bytes]:
    draw = random.Random(what)
    words = [draw.randbytes(4).hex() for _ in range(4000)]
    for n in range(first, first + count):
        key = bson.ObjectId(struct.pack(">QI", 1 << 40, n))
        yield bson.encode({"_id": key, **document(draw, words, n, size)})


def gone(whole: bytes) -> bytes:
    return erased(id_of(whole))


def written(folder: Path, count: int, rows: Iterator[bytes]) -> None:
    folder.mkdir()
    for number in range(-(-count // CHUNK)):
        name = f"{number}.flb"
        made = write_chunk_file(folder / name, blocks(islice(rows, CHUNK)), "none")
        told = f"{made.documents} {made.bytes} {made.file_bytes} {made.sha256}"
        (folder / f"{number}.told").write_text(told)


def blocks(rows: Iterator[bytes]) -> Iterator[Block]:
    held: list[bytes] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= BLOCK_BYTES:
            yield Block(b"".join(held), len(held))
            held, size = [], 0
    if held:
        yield Block(b"".join(held), len(held))


def files(folder: Path) -> list[ChunkFile]:
    found = []
    for told in sorted(folder.glob("*.told")):
        rows, size, file_bytes, sha256 = told.read_text().split()
        name = told.with_suffix(".flb").name
        found.append(ChunkFile(name, int(rows), int(size), int(file_bytes), sha256))
    return found


# --- the steps, each in a process of its own ----------------------------------------------------


def do_restore(bench: Bench) -> None:
    client = connect("target", bench.target).client

    def one(file: ChunkFile) -> None:
        chunk = Chunk(ChunkId(f"{NAME}#0"), UNIT.id, None, None, 0, natural=False, file=file)
        path = bench.folder / "old" / file.name
        for _ in restore(client, UNIT, chunk, SPEC, path, bench.folder, Event()):
            pass

    at_once(one, files(bench.folder / "old"))


def applied(bench: Bench, what: str, *, verify: bool = False) -> None:
    client = connect("target", bench.target).client
    asked = SPEC.model_copy(update={"verify": verify})

    def one(file: ChunkFile) -> None:
        shard = Shard(ShardId(f"{NAME}#0"), NAME, NAME, "collection", None, None, file)
        for _ in apply(client, shard, asked, bench.folder / what / file.name, Event()):
            pass

    at_once(one, files(bench.folder / what))


def at_once(do: Callable[[ChunkFile], None], what: list[ChunkFile]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(do, what))


STEPS: dict[str, tuple[bool, Callable[[Bench], None]]] = {
    "restore": (False, do_restore),
    "new": (False, lambda bench: applied(bench, "old")),
    "changed": (True, lambda bench: applied(bench, "changed")),
    "mixed": (True, lambda bench: applied(bench, "mixed")),
    "mixed, read back": (True, lambda bench: applied(bench, "mixed", verify=True)),
    "gone": (True, lambda bench: applied(bench, "gone")),
}
"""Whether the old documents lie there before, and what is measured."""


# --- a capture ----------------------------------------------------------------------------------


def do_change(target: str, folder: Path, count: int) -> None:
    """Not measured: the changes, and what the capture has to know."""
    client = connect("source", target).client
    client.drop_database("bench")
    client.bench.create_collection("c")
    found = client.bench.command({"listCollections": 1})["cursor"]["firstBatch"]
    uuid = found[0]["info"]["uuid"].hex()
    folder.mkdir()
    (folder / "told").write_text(f"{now(client)} {uuid}")
    rows = documents("old", 0, count // 2, SETS["small"][1])
    while some := [RawBSONDocument(each) for each in islice(rows, 5000)]:
        client.bench.c.insert_many(some, ordered=False)
    client.bench.c.update_many({}, {"$inc": {"n": 1}})


def do_capture(target: str, folder: Path, count: int) -> None:
    until, uuid = (folder / "told").read_text().split()
    parent = Parent(0, "d" * 64, "d" * 64, until, "", frozenset({uuid}))
    made = Making(parent, folder / "link", folder / "work" / "keys")
    asked = SPEC.model_copy(update={"kind": "dump", "include": ("bench.*",)})
    effect = Effect(TaskKey(TaskKind.CAPTURE, THE_JOB), 1, 1, None, capture_bytes=64 << 20)
    client = connect("source", target).client
    found = capture(client, asked, made, effect, Event(), lambda _: None)
    if found.changes < count // 2 * 2:
        sys.exit(f"{found.changes} changes captured of {count}")


CAPTURE = {"change": do_change, "capture": do_capture}


def captures(results: Results, uri: str, folder: Path, count: int, rounds: int) -> None:
    rows = []
    for changes in (count // 10, count):
        found = []
        for number in range(rounds):
            words = [uri, str(folder / f"capture-{changes}-{number}"), str(changes)]
            for step in CAPTURE:
                figures = measured([sys.executable, __file__, "--do", step, *words])
            found.append(figures)
        took, cpu = (statistics.median(map(of, found)) for of in (seconds, lambda f: f.cpu_s))
        peak = max(f.peak_mb for f in found)
        each = [f"{took:.2f}", f"{changes / took:,.0f}", f"{cpu:.2f}", f"{peak:.0f}"]
        rows.append([f"{changes:,}", *each])
    columns = ["changes", "s", "changes/s", "client CPU s", "peak MB"]
    results.table("Capture of an increment", columns, rows)


# --- the contest --------------------------------------------------------------------------------


def contest(bench: Bench, rounds: int) -> dict[str, list[Figures]]:
    results: dict[str, list[Figures]] = {step: [] for step in STEPS}
    for _ in range(rounds):
        for step, (filled, _) in STEPS.items():
            with MongoClient[dict[str, Any]](bench.target) as client:
                client.drop_database("bench")
                client.bench.create_collection("c")
            if filled:
                step_of(bench, "restore")
            results[step].append(step_of(bench, step))
    return results


def step_of(bench: Bench, step: str) -> Figures:
    words = ["--do", step, bench.target, str(bench.folder)]
    return measured([sys.executable, __file__, *words])


def table(results: Results, bench: Bench, name: str, count: int, rounds: int) -> None:
    bench.folder.mkdir()
    # In a process of its own: what this one holds would count as its children's peak memory.
    words = ["--do", "make", str(bench.folder), str(count), str(SETS[name][1])]
    subprocess.run([sys.executable, __file__, *words], check=True)
    found = contest(bench, rounds)
    rows = []
    for step, each in found.items():
        took, cpu = (statistics.median(map(of, each)) for of in (seconds, lambda f: f.cpu_s))
        peak, share = max(f.peak_mb for f in each), spread(paired(found["restore"], each))
        told = [f"{took:.2f}", f"{count / took:,.0f}", f"{cpu:.2f}", f"{peak:.0f}"]
        rows.append([step, *told, share])
    columns = ["", "s", "rows/s", "client CPU s", "peak MB", "of the restore's rate"]
    share = statistics.median(paired(found["restore"], found["mixed"]))
    note = f"Mixed at {share:.2f} of the restore's rate (goal: {GOAL:.2f})."
    results.table(f"{name}: {count:,} rows; rounds: {rounds}", columns, rows, note)


def main() -> None:
    if "--do" in sys.argv:
        step, *words = sys.argv[sys.argv.index("--do") + 1 :]
        if step == "make":
            make(Path(words[0]), int(words[1]), int(words[2]))
        elif step in CAPTURE:
            CAPTURE[step](words[0], Path(words[1]), int(words[2]))
        else:
            STEPS[step][1](Bench(words[0], Path(words[1])))
        return
    parser = options(__doc__, rounds=3, only="small,medium")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    rounds, scale = (1, 0.05) if asked.quick else (asked.rounds, asked.scale)
    results = Results.begin("increments")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with Mongod(folder / "a", name="a", cache_gb=CACHE_GB) as target:
            for kind, count in sets(asked.only, scale):
                table(results, Bench(target.uri, folder / kind), kind, count, rounds)
            changes = max(20, int(SETS["small"][0] * scale))
            captures(results, target.uri, folder, changes, rounds)
    results.save(asked.json)


if __name__ == "__main__":
    main()
