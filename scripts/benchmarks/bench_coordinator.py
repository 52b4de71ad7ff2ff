"""Measure the coordinator alone: the real engine on a real journal, hands that answer at once.

usage: scripts/bench coordinator [--chunks N] [--units N] [--workers N] [--failures SHARE]
                                 [--together N] [--modes M,M] [--chunk-cpu SECONDS] [--json FILE]

No MongoDB: what is left is what coordination costs. Each figure is of a process of its own, on
this disk. Every piece of news gets a turn and a commit of its own, which is the dearest way;
`--together` gives a turn more of them. Time goes on by a millisecond a turn. All of it takes a
quarter of an hour; with `--chunks 10000 --units 100`, two minutes.

- Turns: over ten equal parts of the run; flat, however many chunks are open or behind.
- Memory: of the state while every chunk is open, counted by tracemalloc: as the engine made it,
  folded from the journal, thawed from a snapshot; and in the stage in which a chunk holds most.
- `status --json` while every chunk is open, beyond the start of the interpreter.
- CPU: of engine, journal and snapshots per chunk, as a share of what carrying a chunk of 64 MiB
  costs: 0.55 s in our process by `scripts/bench data`, or what `--chunk-cpu` says.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from common import options
from instant import BLOCKS, JOB, Hands, Run, begun
from results import Results

from ferrylog.past import Past
from ferrylog.recall import thawed
from journal.snapshots import Snapshot
from journal.sqlite import SqliteJournal
from statemachine.snapshot import freeze
from statemachine.state import State
from statemachine.words import Status, TaskKind

CPU_CHUNKS: Final = 2000
PARTS: Final = 10
GOALS: Final = {"bytes": 1024, "status_s": 0.5, "share": 0.02}
ROUNDS: Final = 5


# --- what is measured, each in a process of its own -----------------------------------------------


def do_turns(path: str, mode: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The whole job; a block a chunk, so that every turn is one of scheduling."""
    hands = Hands(asked.units, asked.chunks, asked.blocks, asked.failures)
    with SqliteJournal.create(Path(path)) as journal:
        run = begun(journal, mode, hands, asked.workers)
        run.together = asked.together
        run.until(lambda: run.engine.state.terminal)
        if run.engine.state.status != "completed":
            sys.exit(f"the job ended {run.engine.state.status}: {run.engine.state.why}")
        return {
            "parts": [*map(spread, parts(run.turns_us))],
            "cpu_parts": [*map(statistics.median, parts(run.cpu_us))],
            "turns": len(run.turns_us),
            "events": run.engine.position.version,
            "retries": run.engine.state.retries,
            "seconds": sum(run.turns_us) / 1e6,
            "cpu_s": sum(run.cpu_us) / 1e6,
            "keeping_s": run.keeping_s,
            "wal_mb": Path(f"{path}-wal").stat().st_size / 1e6,  # the most that it ever was
        }


def parts(turns: list[float]) -> Iterator[list[float]]:
    for n in range(PARTS):
        yield turns[len(turns) * n // PARTS : len(turns) * (n + 1) // PARTS]


def spread(turns: list[float]) -> tuple[float, float, float]:
    ordered = sorted(turns)
    return statistics.median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1]


def do_memory(path: str, mode: str, asked: argparse.Namespace) -> dict[str, Any]:
    """What the state of a job holds while every chunk is open; leaves the journal behind."""
    with SqliteJournal.create(Path(path)) as journal, Traced(asked.chunks) as traced:
        run = planned(journal, mode, asked, (TaskKind.DUMP, TaskKind.COPY))
        run.until(lambda: len(run.engine.state.chunks) == asked.chunks)
        found = {"pending": traced.more()}
        past = Past().follow(journal.pages(JOB))
        found["folded"] = traced.more()
        past = through_snapshot(past)
        return {**found, "thawed": traced.more() + found["folded"]}  # instead of the other


def do_heaviest(path: str, mode: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The same with everything carried and nothing verified: no chunk can hold more."""
    asked.failures = 0  # a retry would wait for a worker that waits for it
    with SqliteJournal.create(Path(path)) as journal, Traced(asked.chunks) as traced:
        run = planned(journal, mode, asked, (TaskKind.VERIFY,))
        state = run.engine.state
        run.until(lambda: to_verify(state) == asked.chunks)
        return {"heaviest": traced.more()}


def planned(
    journal: SqliteJournal, mode: str, asked: argparse.Namespace, held: tuple[TaskKind, ...]
) -> Run:
    """A run whose units are all created, so that planning goes before all else from here on."""
    hands = Hands(asked.units, asked.chunks, asked.blocks, asked.failures)
    hands.held = (TaskKind.PLAN,)
    run = begun(journal, mode, hands, asked.workers, ahead=asked.chunks)
    state = run.engine.state
    run.until(lambda: state.size(TaskKind.PLAN, Status.PENDING) == asked.units - asked.workers)
    hands.held = held
    return run


def to_verify(state: State) -> int:
    return sum(state.size(TaskKind.VERIFY, each) for each in (Status.PENDING, Status.PROCESSING))


def through_snapshot(past: Past) -> Past:
    """As the keeper keeps it and a resume finds it."""
    data = {"state": freeze(past.state), "rates": past.rates.frozen(), "at_ms": past.at_ms}
    found = thawed(Snapshot(past.position, json.dumps(data).encode()))
    assert found is not None
    return found


class Traced:
    """Memory per chunk that Python objects took since the last look."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        self._before = 0

    def more(self) -> float:
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
        more, self._before = now - self._before, now
        return more / self._chunks

    def __enter__(self) -> Self:
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()


STEPS: Final = {"turns": do_turns, "memory": do_memory, "heaviest": do_heaviest}


def run_step(step: str, path: Path, mode: str, asked: argparse.Namespace, **other: float) -> Any:
    """The step in a process of its own."""
    words = [sys.executable, __file__, "--do", step, str(path), mode]
    for name in ("chunks", "units", "workers", "blocks", "failures", "together"):
        words += [f"--{name}", str(other.get(name, getattr(asked, name)))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{words} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


# --- the tables -----------------------------------------------------------------------------------


def turns(results: Results, folder: Path, mode: str, asked: argparse.Namespace) -> None:
    found = run_step("turns", folder / f"{mode}.db", mode, asked)
    pairs = zip(found["parts"], found["cpu_parts"], strict=True)
    rows = [
        [f"part {n}", *(f"{us:,.0f}" for us in (*spread, used))]
        for n, (spread, used) in enumerate(pairs, 1)
    ]
    used = found["cpu_parts"]
    columns = ["a turn, microseconds", "median", "99 %", "most", "CPU, median"]
    note = (
        f"{found['turns']:,} turns, {found['events']:,} events, {found['retries']:,} retries, "
        f"{found['seconds']:.0f} s; snapshots took {found['keeping_s']:.1f} s; the WAL grew to "
        f"{found['wal_mb']:,.0f} MB. The dearest part's CPU is {dearest(used):.2f} of the middle."
    )
    results.table(f"{mode}: turns over the run", columns, rows, note)


def dearest(parts: list[float]) -> float:
    return max(parts) / statistics.median(parts)


def cpu(results: Results, folder: Path, mode: str, asked: argparse.Namespace) -> None:
    chunks = min(CPU_CHUNKS, asked.chunks)
    few = {"chunks": chunks, "units": max(1, chunks // 100), "blocks": BLOCKS}
    found = run_step("turns", folder / f"cpu-{mode}.db", mode, asked, **few)
    each = found["cpu_s"] / chunks
    row = [BLOCKS, f"{found['turns'] / chunks:.0f}", f"{each * 1000:.1f}"]
    columns = ["blocks", "turns", "CPU ms", f"of {asked.chunk_cpu} s, assumed", "goal: under"]
    share = [f"{each / asked.chunk_cpu:.1%}", f"{GOALS['share']:.0%}"]
    results.table(f"{mode}: CPU a chunk", columns, [[*row, *share]])


def memory(results: Results, folder: Path, mode: str, asked: argparse.Namespace) -> None:
    path = folder / f"open-{mode}.db"
    found = run_step("memory", path, mode, asked)
    found |= run_step("heaviest", folder / f"heavy-{mode}.db", mode, asked)
    row = [f"{asked.chunks:,}", *(f"{size:,.0f}" for size in found.values())]
    columns = ["open chunks", *found, "goal: at most"]
    results.table(f"{mode}: bytes of state a chunk", columns, [[*row, f"{GOALS['bytes']:,}"]])
    status(results, path, mode)


def status(results: Results, path: Path, mode: str) -> None:
    """The command from the shell and back, against an interpreter that does nothing."""
    words = ["-m", "ferrylog", "status", "--json", "--journal", str(path)]
    bare, libraries, whole = map(
        took, (["-c", ""], ["-c", "import ferrylog.cli.main, ferrylog.cli.status"], words)
    )
    seconds = [f"{each:.2f}" for each in (whole, bare, libraries - bare, whole - bare)]
    columns = ["seconds", "interpreter", "imports", "beyond the interpreter", "goal: at most"]
    results.table(f"{mode}: status --json", columns, [[*seconds, GOALS["status_s"]]])


def took(words: list[str]) -> float:
    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return statistics.median(once() for _ in range(ROUNDS))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4, help="of each pool")
    parser.add_argument("--failures", type=float, default=0.02, help="share of attempts")
    parser.add_argument("--together", type=int, default=1, help="news per turn")
    parser.add_argument("--blocks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--modes", default="coordinated,direct")
    parser.add_argument("--chunk-cpu", type=float, default=0.55, help="seconds of a chunk's own")
    parser.add_argument("--do", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.do:
        step, path, mode = asked.do
        print(json.dumps(STEPS[step](path, mode, asked)))
        return
    asked.chunks = max(asked.units, int(asked.chunks * asked.scale))
    results = Results.begin("coordinator")
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-", dir=Path.cwd()) as name:
        for table in (cpu, memory, turns):
            for mode in asked.modes.split(","):
                table(results, Path(name), mode, asked)
                results.save(asked.json)


if __name__ == "__main__":
    main()
