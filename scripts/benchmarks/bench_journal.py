"""Measure the journal: appends, replays, resumes, audits; in one run, as ratios.

usage: scripts/bench journal [--sizes 10000,100000] [--peer PYTHON] [--events N] [--rounds N]

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
            indexes=(), documents=OPEN_CHUNKS * 100_000, bytes=OPEN_CHUNKS * 10**8,
        )  # fmt: skip
    yield SurveyCompleted(kind="survey_completed", entity="job", units=units)
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


def appends(folder: Path, options: argparse.Namespace) -> None:
    rate = median(lambda: 1 / per_item(run("fsync", folder / "fsync")), options.rounds)
    print(f"fsync of this disk: {rate:,.0f} a second (4 KiB each)\n")
    print("append, events/s        ferrylog   of fsync rate   eventsourcing   times the peer")
    for size in (1, 10, 100, 1000):
        events = max(size, min(options.events, size * 2000))
        ours, theirs = [], []
        for n in range(options.rounds):
            ours.append(events / run("append", folder / f"a{size}-{n}.db", events, size)["seconds"])
            if options.peer:
                file = folder / f"p{size}-{n}.db"
                done = peer(options.peer, "append", file, events, size)
                theirs.append(events / done["seconds"])
        mine = statistics.median(ours)
        line = f"{size:5} per commit     {mine:12,.0f}   {mine / rate:12.2f}x"
        print(line + versus(mine, theirs), flush=True)


def replays(folder: Path, options: argparse.Namespace) -> None:
    print("\nreplay, events/s        ferrylog      seconds   peak MB   open chunks   eventsourcing")
    for size in options.sizes:
        path = folder / f"job{size}.db"
        count = int(run("generate", path, size)["count"])
        theirs: list[float] = []
        if options.peer and size <= 100_000:  # it would take minutes beyond
            file = folder / f"peer{size}.db"
            peer(options.peer, "append", file, size, 1000)
            theirs = [
                size / peer(options.peer, "replay", file, size, 1000)["seconds"]
                for _ in range(options.rounds)
            ]
        rounds = [run("resume", path) for _ in range(options.rounds)]
        mine = statistics.median(count / each["seconds"] for each in rounds)
        show_resume(f"{count:11,} without", count, rounds, versus(mine, theirs))
        kept = run("snapshot", path)
        rounds = [run("resume", path) for _ in range(options.rounds)]
        note = f"   snapshot {kept['count'] / 1e3:.0f} kB, taken in {kept['seconds']:.2f} s"
        show_resume(f"{count:11,} with   ", count, rounds, note)
        audits(path, count)


def show_resume(label: str, count: int, rounds: list[dict[str, float]], note: str) -> None:
    seconds = statistics.median(each["seconds"] for each in rounds)
    peak = max(each["peak_mb"] for each in rounds)
    line = (
        f"{label} {count / seconds:12,.0f} {seconds:12.2f} {peak:9.0f} {rounds[0]['open']:13,.0f}"
    )
    print(line + note, flush=True)


def audits(path: Path, count: int) -> None:
    """Whole commands, from the shell and back."""
    program = [sys.executable, "-m", "ferrylog"]
    entity = f"shop.orders0#{min(OPEN_CHUNKS, count // PER_CHUNK) // 3}"
    for words in (["events", "--tail", "20"], ["explain", entity], ["timeline"]):
        began = time.perf_counter()
        done = subprocess.run(
            [*program, "inspect", *words, "--journal", str(path)], capture_output=True, check=False
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(done.stderr.decode()[-2000:])
        print(f"{'':11}   ferrylog inspect {' '.join(words):32} {seconds:8.2f} s", flush=True)


def peer(python: str, step: str, file: Path, events: int, size: int) -> dict[str, float]:
    script = Path(__file__).with_name("peer_eventsourcing.py")
    return json_of([python, str(script), step, str(file), str(events), str(size)])


def versus(mine: float, theirs: list[float]) -> str:
    if not theirs:
        return "               -"
    other = statistics.median(theirs)
    return f"   {other:13,.0f}   {mine / other:.1f}"


def per_item(done: dict[str, float]) -> float:
    return done["seconds"] / done["count"]


def median(once: Callable[[], float], rounds: int) -> float:
    return statistics.median(once() for _ in range(rounds))


def main() -> None:
    if "--do" in sys.argv:
        step, *words = sys.argv[sys.argv.index("--do") + 1 :]
        found: dict[str, Any] = STEPS[step](*words)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--events", type=int, default=200_000, help="appended at most, per row")
    parser.add_argument("--peer", default="", metavar="PYTHON", help="with `eventsourcing`")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    if not options.peer:
        print("eventsourcing: not compared (see --help, --peer)\n")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-", dir=Path.cwd()) as name:
        appends(Path(name), options)
        replays(Path(name), options)


if __name__ == "__main__":
    main()
