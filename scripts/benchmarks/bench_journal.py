"""Measure the journal: appends, replays, resumes, audits; in one run, as ratios.

usage: scripts/bench journal [--sizes 10000,100000] [--peer PYTHON] [--events N] [--rounds N]
                             [--json FILE]

The peer is the `eventsourcing` library on SQLite, under any interpreter that has it (`--peer`;
`python -m venv peer && peer/bin/pip install eventsourcing`). Both write with synchronous=FULL on
this disk. Every figure is of a process of its own: seconds of the work alone, peak memory of the
whole process. Rounds alternate the contenders; printed are medians.

The replayed job is generated: chunks of 100,000 documents, 14 events each (7 of them acknowledged
batches), 2,000 chunks open at a time. `resume` is from just before the journal is opened until the
engine is ready, with a snapshot taken 10,000 events before the end (one is taken every 20,000).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import PROGRAM, numbers, options
from results import Results, spread

from ferrylog.engine import Engine
from ferrylog.past import Past
from ferrylog.recall import Keeper, recall
from journal.protocol import Page
from journal.snapshots import Snapshots
from journal.sqlite import SqliteJournal
from statemachine.events import (
    AnyEvent,
    ChunkPlanned,
    ChunkReleased,
    CreateCompleted,
    DumpCompleted,
    JobRequested,
    JobSpec,
    PlanCompleted,
    RestoreCompleted,
    RestoreProgressed,
    RunSettings,
    RunStarted,
    Started,
    SurveyCompleted,
    UnitCompleted,
    UnitRegistered,
    VerifyCompleted,
)
from statemachine.words import BsonText, ChunkId, JobId, Key, Millis, TaskKey, TaskKind, UnitId

JOB = JobId("20261122-143000-7f3a")
OPEN_CHUNKS = 2000
BATCHES = 7
LOOKS = ("inspect events --tail 20", "inspect explain", "inspect timeline")
PER_CHUNK = BATCHES + 8
SPEC = JobSpec(
    kind="migrate", mode="coordinated", source="mongodb://a:27017/",
    target="mongodb://b:27017/", source_id="a",
    target_id="b", chunk_docs=100_000, chunk_bytes=64 << 20, compression="zstd",
    write_concern="majority", drop=False, on_conflict="stop", verify=True,
)  # fmt: skip
SETTINGS = RunSettings(
    dump_workers=4, restore_workers=4, max_retries=3, on_exhausted="pause", retry_base_ms=1000,
    retry_cap_ms=60_000, files_ahead=64, work_dir="",
    retry="exponential", jitter="equal", patience_ms=120_000, breaker_failures=10,
    breaker_ms=5_000, tick_ms=2_000, hang_ms=300_000, read_preference="primary",
)  # fmt: skip


# --- a generated job ------------------------------------------------------------------------------


def history(events: int) -> Iterator[AnyEvent]:
    """About so many events of a job in the middle of its work; unit after unit."""
    units = max(1, -(-events // (OPEN_CHUNKS * PER_CHUNK)))
    yield JobRequested(by="ann@host", spec=SPEC)
    yield RunStarted(epoch=1, by="ann@host", host="host", pid=1, version="0", settings=SETTINGS)
    yield Started.of(TaskKey(TaskKind.SURVEY, "job"), attempt=1)
    names = [UnitId(f"shop.orders{n}") for n in range(units)]
    for name in names:
        yield UnitRegistered(
            unit=name, target=name, type="collection", uuid="00" * 16, options=BsonText("{}"),
            indexes=(), documents=OPEN_CHUNKS * 100_000, bytes=OPEN_CHUNKS * 10**8, expires=False,
        )  # fmt: skip
    yield SurveyCompleted(
        kind="survey_completed", entity="job", units=units, cluster_time="", users=0, roles=0,
        notes=(),
    )  # fmt: skip
    for name in names:
        yield from unit(name)


def unit(name: UnitId) -> Iterator[AnyEvent]:
    for kind in (TaskKind.CREATE, TaskKind.PLAN):
        yield Started.of(TaskKey(kind, name), attempt=1)
        if kind is TaskKind.CREATE:
            yield CreateCompleted(kind="create_completed", entity=name, built=(), uuid="ab" * 16)
    edges = [None, *(Key(f'{{"$oid":"{n:024x}"}}') for n in range(1, OPEN_CHUNKS)), None]
    for n in range(OPEN_CHUNKS):
        yield ChunkPlanned(
            unit=name, chunk=ChunkId(f"{name}#{n}"), lower=edges[n], upper=edges[n + 1],
            documents=100_000, natural=False,
        )  # fmt: skip
    yield PlanCompleted(kind="plan_completed", entity=name, chunks=OPEN_CHUNKS)
    for n in range(OPEN_CHUNKS):
        yield from chunk(ChunkId(f"{name}#{n}"))
    yield UnitCompleted(unit=name)


def chunk(name: ChunkId) -> Iterator[AnyEvent]:
    yield Started(kind="dump_started", entity=name, attempt=1)
    yield DumpCompleted(
        kind="dump_completed", entity=name, file=f"{name}-1.flb", documents=100_000,
        bytes=64 << 20, file_bytes=12 << 20, blocks=32, sha256="ab" * 32,
    )  # fmt: skip
    yield Started(kind="restore_started", entity=name, attempt=1)
    for n in range(1, BATCHES + 1):
        yield batch(name, n)
    yield RestoreCompleted(
        kind="restore_completed",
        entity=name,
        documents=100_000,
        bytes=64 << 20,
        present=0,
        rejected=0,
    )
    yield Started(kind="verify_started", entity=name, attempt=1)
    yield VerifyCompleted(
        kind="verify_completed", entity=name, equal=True, source_documents=100_000,
        target_documents=100_000, source_digest="cd" * 16, target_digest="cd" * 16, rejected=0,
        differing=(),
    )  # fmt: skip
    yield ChunkReleased(chunk=name)


def batch(name: str, n: int) -> RestoreProgressed:
    return RestoreProgressed(
        kind="restore_progressed", entity=name, attempt=1, position=n * 1_500_000,
        documents=n * 12_000, bytes=n * 8_000_000, present=0, rejected=0,
    )  # fmt: skip


def generate(path: Path, events: int) -> int:
    """A journal with about so many events; a second a commit of 100. Returns how many."""
    with SqliteJournal.create(path) as journal:
        done: list[AnyEvent] = []
        version = 0
        for count, event in enumerate(history(events), 1):
            done.append(event)
            if len(done) == 100:
                version = append(journal, done, version)
                done = []
            if count >= events and not done:
                break
        return append(journal, done, version) if done else version


def append(journal: SqliteJournal, events: list[AnyEvent], version: int) -> int:
    at_ms = Millis(1_700_000_000_000 + 10 * version)
    return journal.append(JOB, events, expected=version, epoch=1, at_ms=at_ms).version


# --- what is measured, each in a process of its own ----------------------------------------------


def do_fsync(path: str) -> dict[str, float]:
    count, fd = 500, os.open(path, os.O_RDWR | os.O_CREAT)
    began = time.perf_counter()
    for n in range(count):
        os.pwrite(fd, b"x" * 4096, n * 4096)
        os.fdatasync(fd)
    return {"seconds": time.perf_counter() - began, "count": count}


def do_append(path: str, events: str, per_commit: str) -> dict[str, float]:
    made = [batch(f"shop.orders#{n}", 1) for n in range(int(events))]
    size, version = int(per_commit), 0
    with SqliteJournal.create(Path(path)) as journal:
        began = time.perf_counter()
        for at in range(0, len(made), size):
            version = append(journal, made[at : at + size], version)  # type: ignore[arg-type]
        return {"seconds": time.perf_counter() - began}


def do_generate(path: str, events: str) -> dict[str, float]:
    return {"count": generate(Path(path), int(events))}


def do_resume(path: str) -> dict[str, float]:
    began = time.perf_counter()
    with SqliteJournal.create(Path(path)) as journal:
        engine = Engine(journal, JOB, recall(journal, JOB))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "open": len(engine.state.chunks)}


def do_snapshot(path: str) -> dict[str, float]:
    """Take the snapshot as the engine's keeper would."""
    with SqliteJournal.create(Path(path)) as journal:
        last = journal.last_seq()
        past = Past().follow(journal.pages(JOB, to_seq=max(1, last - 10_000)))
        engine = Engine(NoMore(), JOB, past)  # type: ignore[arg-type]
        began = time.perf_counter()
        keeper = Keeper(journal, JOB)
        keeper.keep(engine)
        seconds = time.perf_counter() - began
        size = Snapshots(journal.path, "").path.stat().st_size
        return {"seconds": seconds, "count": size}


class NoMore:
    """A journal that ends here."""

    def pages(self, job: JobId, *, after: int = 0) -> Iterator[Page]:  # noqa: ARG002
        return iter(())


STEPS: dict[str, Callable[..., dict[str, float]]] = {
    "fsync": do_fsync,
    "append": do_append,
    "generate": do_generate,
    "resume": do_resume,
    "snapshot": do_snapshot,
}


def run(*words: object) -> dict[str, float]:
    return json_of([sys.executable, __file__, "--do", *map(str, words)])


def json_of(words: list[str]) -> dict[str, float]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{words} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- the tables ----------------------------------------------------------------------------------


def appends(results: Results, folder: Path, asked: argparse.Namespace) -> None:
    rate = statistics.median(
        1 / per_item(run("fsync", folder / "fsync")) for _ in range(asked.rounds)
    )
    rows = []
    for size in (1, 10, 100, 1000):
        events = max(size, min(asked.events, size * 2000))
        ours, theirs = [], []
        for n in range(asked.rounds):
            ours.append(events / run("append", folder / f"a{size}-{n}.db", events, size)["seconds"])
            if asked.peer:
                file = folder / f"p{size}-{n}.db"
                done = peer(asked.peer, "append", file, events, size)
                theirs.append(events / done["seconds"])
        mine = statistics.median(ours)
        rows.append([size, f"{mine:,.0f}", f"{mine / rate:.2f}", *versus(ours, theirs)])
        if size == 100 and theirs:
            results.reach("append", "", ratios(ours, theirs))
    columns = ["events a commit", "events/s", "of the fsync rate", "`eventsourcing`", "times it"]
    note = f"fsync of this disk: {rate:,.0f} a second (4 KiB each)."
    results.table("Append", columns, rows, note)


def replays(results: Results, folder: Path, asked: argparse.Namespace) -> None:
    rows, looks = [], []
    for size in asked.sizes:
        path = folder / f"job{size}.db"
        count = int(run("generate", path, size)["count"])
        theirs: list[float] = []
        if asked.peer and size <= 100_000:  # it would take minutes beyond
            file = folder / f"peer{size}.db"
            peer(asked.peer, "append", file, size, 1000)
            theirs = [
                size / peer(asked.peer, "replay", file, size, 1000)["seconds"]
                for _ in range(asked.rounds)
            ]
        rounds = [run("resume", path) for _ in range(asked.rounds)]
        ours = [count / each["seconds"] for each in rounds]
        rows.append([f"{count:,}, no snapshot", *resumed(count, rounds), *versus(ours, theirs)])
        if theirs and size == max(each for each in asked.sizes if each <= 100_000):
            results.reach("replay", "", ratios(ours, theirs))
        kept = run("snapshot", path)
        rounds = [run("resume", path) for _ in range(asked.rounds)]
        note = f"{count:,}, snapshot of {kept['count'] / 1e3:,.0f} kB"
        rows.append([note, *resumed(count, rounds), "", ""])
        if size >= 1_000_000:
            results.reach("ready", "", [each["seconds"] for each in rounds])
        looks.append([f"{count:,}", *audits(path, count)])
    columns = ["events", "events/s", "s", "peak MB", "open chunks", "`eventsourcing`", "times it"]
    results.table("Replay: open a journal and be ready to work", columns, rows)
    results.table("Looks, the whole command, seconds", ["events", *LOOKS], looks)


def resumed(count: int, rounds: list[dict[str, float]]) -> list[str]:
    took = statistics.median(each["seconds"] for each in rounds)
    peak = max(each["peak_mb"] for each in rounds)
    return [f"{count / took:,.0f}", f"{took:.2f}", f"{peak:.0f}", f"{rounds[0]['open']:,.0f}"]


def audits(path: Path, count: int) -> Iterator[str]:
    """Seconds from the shell and back."""
    entity = f"shop.orders0#{min(OPEN_CHUNKS, count // PER_CHUNK) // 3}"
    for words in (["events", "--tail", "20"], ["explain", entity], ["timeline"]):
        began = time.perf_counter()
        done = subprocess.run(
            [*PROGRAM, "inspect", *words, "--journal", str(path)], capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr.decode()[-2000:])
        yield f"{time.perf_counter() - began:.2f}"


def peer(python: str, step: str, file: Path, events: int, size: int) -> dict[str, float]:
    script = Path(__file__).with_name("peer_eventsourcing.py")
    return json_of([python, str(script), step, str(file), str(events), str(size)])


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def versus(ours: list[float], theirs: list[float]) -> list[str]:
    if not theirs:
        return ["", ""]
    return [f"{statistics.median(theirs):,.0f}", spread(ratios(ours, theirs), 1)]


def per_item(done: dict[str, float]) -> float:
    return done["seconds"] / done["count"]


def main() -> None:
    if "--do" in sys.argv:
        step, *words = sys.argv[sys.argv.index("--do") + 1 :]
        found: dict[str, Any] = STEPS[step](*words)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    parser = options(__doc__, rounds=3)
    parser.add_argument("--sizes", type=numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--events", type=int, default=200_000, help="appended at most, per row")
    parser.add_argument("--peer", default="", metavar="PYTHON", help="with `eventsourcing`")
    asked = parser.parse_args()
    asked.sizes = [max(1000, int(size * asked.scale)) for size in asked.sizes]
    if not asked.peer:
        print("eventsourcing: not compared (see --help, --peer)\n")
    results = Results.begin("journal")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-", dir=Path.cwd()) as name:
        appends(results, Path(name), asked)
        replays(results, Path(name), asked)
    results.save(asked.json)


if __name__ == "__main__":
    main()
