"""Measure verification against the dump of the same data, in one run, as ratios.

usage: scripts/bench verify [--rounds N] [--only small,medium] [--scale F] [--quick] [--json FILE]

Two throw-away servers on this machine with the same documents: small (about 230 bytes), medium
(4 KB). Each contender is a process of its own with 4 workers over ferrylog's own plan; printed are
medians: seconds, MB/s of raw BSON (of one side), CPU seconds and peak memory of the client, and the
speed as a share of the dump's. Everything runs twice, on a tenth of the documents and on all of
them: the last column is the peak memory on the tenth, which should be the same.

- both sides: every range read on source and target, counts and digests
- all differ: the same where every document differs; three looks instead of one, ten named a chunk
- chunk files: a ferrylog dump against the ranges of the target
- look-ups: the parts of a mongodump file, each document looked up on the target
- alone: the dump by itself, every byte of every document, in as many processes

`--quick`: one round of a twentieth of it all. Goal: both sides at a third of the dump's speed.
"""

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from common import CACHE_GB, WORKERS, Figures, loaded, measured, options, sets
from pymongo import MongoClient
from results import Results, paired, seconds, spread

from executors.boundaries import to_text
from executors.chunkfile import read_blocks
from executors.clients import connect
from executors.dump import dump
from executors.dumps.bsonfile import parts
from executors.dumps.manifest import Facts, read_manifest, write_manifest
from executors.dumps.model import Dumped, NeverStops, Part
from executors.examination import examine_dump
from executors.plan import plan
from executors.restore import restore
from executors.survey import survey
from executors.verify import verify, verify_restored
from ferrylog.embedded import Mongod
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.stimuli import Verified
from statemachine.words import BsonText, ChunkId, UnitId

GOAL = 1 / 3
SPEC = JobSpec(
    kind="migrate", mode="coordinated", source="", target="", source_id="", target_id="",
    chunk_docs=100_000, chunk_bytes=4 << 20, compression="none", write_concern="majority",
    drop=False, on_conflict="stop", verify=True,
)  # fmt: skip


@dataclass
class Bench:
    """What a step needs to know."""

    source: str
    target: str
    name: str
    folder: Path

    @property
    def unit(self) -> Unit:
        spec = SPEC.model_copy(update={"include": (f"bench.{self.name}",)})
        found = survey(connect("source", self.source).client, spec).units[0]
        return Unit(
            found.unit, found.target, "collection", found.uuid, to_text(b"\5\0\0\0\0"), (),
            found.documents, found.bytes,
        )  # fmt: skip

    def planned(self, unit: Unit) -> list[Chunk]:
        client = connect("source", self.source).client
        edges = [None, *plan(client, unit, SPEC, Event(), capped=False).boundaries, None]
        return [
            Chunk(ChunkId(f"{unit.id}#{n}"), unit.id, edges[n], edges[n + 1], 0, natural=False)
            for n in range(len(edges) - 1)
        ]


def at_once(do: Callable[[Any], Any], what: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(do, what))


# --- the steps, each in a process of its own ------------------------------------------------------


def do_dump(bench: Bench) -> None:
    unit, client = bench.unit, connect("source", bench.source).client
    planned = bench.planned(unit)
    done = at_once(lambda c: dump(client, unit, c, SPEC, bench.folder, 1, Event()), planned)
    made = tuple(
        Part(d.file, 0, d.file_bytes, d.documents, d.bytes, d.sha256, lower=c.lower, upper=c.upper)
        for c, d in zip(planned, done, strict=True)
    )
    told = Dumped(unit.id, "collection", b"\5\0\0\0\0", (), parts=made)
    write_manifest(bench.folder, Facts(tool_version="bench"), [told])


def do_restore(bench: Bench) -> None:
    """Not measured: what is verified."""
    client, unit = connect("target", bench.target).client, a_unit(bench)
    client.drop_database("bench")
    client.bench.create_collection(bench.name)

    def one(chunk: Chunk) -> None:
        assert chunk.file is not None
        path = bench.folder / chunk.file.name
        for _ in restore(client, unit, chunk, SPEC, path, bench.folder, Event()):
            pass

    at_once(one, dumped(bench))


def do_bson(bench: Bench) -> None:
    """Not measured: the same documents as mongodump writes them."""
    with (bench.folder / "all.bson").open("wb") as file:
        for chunk in dumped(bench):
            assert chunk.file is not None
            for block, _ in read_blocks(bench.folder / chunk.file.name):
                file.write(block.data)


def do_both_sides(bench: Bench) -> None:
    must(verified(bench), equal=True)


def do_all_differ(bench: Bench) -> None:
    found = verified(bench)
    must(found, equal=False)
    assert all(len(each.differing) == min(10, each.source_documents) for each in found)


def verified(bench: Bench) -> list[Verified]:
    source, target = connect("source", bench.source).client, connect("target", bench.target).client
    unit = bench.unit
    return at_once(lambda c: verify(source, target, unit, c, SPEC, Event()), bench.planned(unit))


def do_chunk_files(bench: Bench) -> None:
    must(against_target(bench, dumped(bench)), equal=True)


def do_look_ups(bench: Bench) -> None:
    with (bench.folder / "all.bson").open("rb") as file:
        found = parts(file, "all.bson", documents=100_000, bytes_=4 << 20, stop=NeverStops())
        chunks = [chunk_of(bench, part) for part in found]
    must(against_target(bench, chunks), equal=True)


def do_alone(bench: Bench) -> None:
    if not examine_dump(bench.folder, workers=os.cpu_count() or 1).sound:
        sys.exit("the dump is damaged")


def against_target(bench: Bench, chunks: list[Chunk]) -> list[Verified]:
    client, unit = connect("target", bench.target).client, a_unit(bench)

    def one(chunk: Chunk) -> Verified:
        assert chunk.file is not None
        path = bench.folder / chunk.file.name
        return verify_restored(path, client, unit, chunk, SPEC, Event())

    return at_once(one, chunks)


def dumped(bench: Bench) -> list[Chunk]:
    (told,) = read_manifest(bench.folder, alone=True).namespaces
    return [chunk_of(bench, part) for part in told.parts]


def chunk_of(bench: Bench, part: Part) -> Chunk:
    file = ChunkFile(
        part.file, part.documents, part.bytes, part.file_bytes, part.sha256, part.at, "dump"
    )
    unit = UnitId(f"bench.{bench.name}")
    bare = Chunk(ChunkId(f"{unit}#0"), unit, part.lower, part.upper, 0, natural=False)
    return replace(bare, file=file)


def a_unit(bench: Bench) -> Unit:
    name = f"bench.{bench.name}"
    return Unit(UnitId(name), name, "collection", "", BsonText(""), (), 0, 0)


def must(found: list[Verified], *, equal: bool) -> None:
    if {each.equal for each in found} != {equal}:
        sys.exit(f"equal was to be {equal}")


STEPS: dict[str, Callable[[Bench], None]] = {
    "dump": do_dump,
    "both sides": do_both_sides,
    "chunk files": do_chunk_files,
    "look-ups": do_look_ups,
    "alone": do_alone,
    "all differ": do_all_differ,
}
UNMEASURED: dict[str, Callable[[Bench], None]] = {"restore": do_restore, "bson": do_bson}


# --- the contest ----------------------------------------------------------------------------------


def contest(bench: Bench, count: int, rounds: int) -> tuple[int, dict[str, list[Figures]]]:
    """All steps on so many documents: their bytes, and what each step took."""
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.folder.mkdir()
    data = loaded(bench.source, bench.name, count)
    results: dict[str, list[Figures]] = {step: [] for step in STEPS}
    for _ in range(rounds):
        results["dump"].append(step_of(bench, "dump"))
        step_of(bench, "restore")
        step_of(bench, "bson")
        for step in ("both sides", "chunk files", "look-ups"):
            results[step].append(step_of(bench, step))
        (bench.folder / "all.bson").unlink()
        results["alone"].append(step_of(bench, "alone"))
        with MongoClient[dict[str, Any]](bench.target) as client:
            client.bench[bench.name].update_many({}, {"$set": {"another": 1}})
        results["all differ"].append(step_of(bench, "all differ"))
    with MongoClient[dict[str, Any]](bench.source) as client:
        client.drop_database("bench")
    return data, results


def step_of(bench: Bench, step: str) -> Figures:
    words = [bench.source, bench.target, bench.name, str(bench.folder)]
    return measured([sys.executable, __file__, "--do", step, *words])


def table(results: Results, bench: Bench, count: int, rounds: int) -> None:
    _, tenth = contest(bench, max(1, count // 10), rounds)
    data, whole = contest(bench, count, rounds)
    rows = []
    for step, each in whole.items():
        took = statistics.median(map(seconds, each))
        cpu = statistics.median(f.cpu_s for f in each)
        peak, before = (max(f.peak_mb for f in figures) for figures in (each, tenth[step]))
        share = spread(paired(whole["dump"], each))
        rate = f"{data / 1e6 / took:,.0f}"
        rows.append(
            [step, f"{took:.2f}", rate, f"{cpu:.2f}", f"{peak:.0f}", f"{before:.0f}", share]
        )
    columns = ["", "s", "MB/s", "client CPU s", "peak MB", "on a tenth", "of the dump's speed"]
    title = f"{bench.name}: {count:,} documents, {data / 1e6:,.0f} MB; rounds: {rounds}"
    share = statistics.median(paired(whole["dump"], whole["both sides"]))
    note = f"Both sides at {share:.2f} of the dump's speed (goal: {GOAL:.2f})."
    results.table(title, columns, rows, note)


def main() -> None:
    if "--do" in sys.argv:
        step, *words = sys.argv[sys.argv.index("--do") + 1 :]
        (STEPS | UNMEASURED)[step](Bench(words[0], words[1], words[2], Path(words[3])))
        return
    parser = options(__doc__, rounds=3, only="small,medium")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    rounds, scale = (1, 0.05) if asked.quick else (asked.rounds, asked.scale)
    results = Results.begin("verify")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with (
            Mongod(folder / "a", name="a", cache_gb=CACHE_GB) as source,
            Mongod(folder / "b", name="b", cache_gb=CACHE_GB) as target,
        ):
            for kind, count in sets(asked.only, scale):
                table(results, Bench(source.uri, target.uri, kind, folder / "dump"), count, rounds)
                results.save(asked.json)


if __name__ == "__main__":
    main()
