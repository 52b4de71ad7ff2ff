"""Measure what a kill costs: how long until the work goes on, and what is done twice.

usage: scripts/bench resume [--rounds N] [--only small,medium] [--scale F] [--json FILE]

A migration with 4 workers a side, `--no-verify`, by chunk files and direct, is killed (SIGKILL) in
its midst, each round at another place, and resumed; the target must hold every document then.

- works again: from the shell until the journal says that the first task was started, and until the
  first of its batches was acknowledged. `scripts/bench journal` has the same of huge journals.
- repeated: documents that a resumed chunk found on the target already, in batches: a batch is what
  one acknowledgement in the journal stands for, about 2 MiB of documents. Goal: at most one a
  worker; the worst chunk is judged, as a worker has one chunk at a time.
- dumps again: chunk files that were not whole are written from their beginning.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from common import PROGRAM, ROOT, WORKERS, Place, clear, loaded, options, sets, two_servers
from pymongo import MongoClient
from results import Results, spread

from executors.batches import BLOCK_BYTES
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError

Mode = Literal["coordinated", "direct"]
MODES: Final[tuple[Mode, ...]] = ("coordinated", "direct")
CARRIES: Final[dict[Mode, str]] = {"coordinated": "restore", "direct": "copy"}
PATIENCE_S: Final = 120.0


@dataclass(frozen=True)
class Killed:
    """One kill and what came after it."""

    started_s: float
    acknowledged_s: float
    whole_s: float
    """Of the resume, up to its end."""
    repeated: int
    worst: int
    """Documents, in all and of the chunk with most."""
    dumps_again: int


@dataclass(frozen=True)
class Migration:
    place: Place
    name: str
    mode: Mode

    def begun(self, path: Path) -> subprocess.Popen[bytes]:
        self.place.empty()
        workers = str(WORKERS)
        words = [
            *(*PROGRAM, "start", "--quiet", "--new", "--journal", str(path), "--mode", self.mode),
            *("--source", self.place.source.uri, "--target", self.place.target.uri),
            *("-d", "bench", "-c", self.name, "--no-verify", "--chunk-bytes", str(16 << 20)),
            *("--dump-workers", workers, "--restore-workers", workers),
        ]
        return subprocess.Popen(words, cwd=ROOT)

    def whole(self) -> int:
        """Undisturbed: how often a batch was acknowledged."""
        path = self.place.fresh("journal") / "j.db"
        must_end(self.begun(path))
        return acknowledged(path, self.mode)

    def killed(self, after: int) -> Killed:
        """When so many batches are acknowledged."""
        path = self.place.fresh("journal") / "j.db"
        with self.begun(path) as process:
            wait_until(path, self.mode, after, process)
            process.kill()
        began_ms, began = time.time() * 1000, time.monotonic()
        ends = ("--source", self.place.source.uri, "--target", self.place.target.uri)
        words = [*PROGRAM, "resume", "--quiet", "--journal", str(path), *ends]
        must_end(subprocess.Popen(words, cwd=ROOT))
        return self.told(path, began_ms, time.monotonic() - began)

    def told(self, path: Path, began_ms: float, whole_s: float) -> Killed:
        carries = CARRIES[self.mode]
        started = "SELECT min(recorded_at_ms) FROM events WHERE epoch = 2 AND kind LIKE "
        with SqliteJournal.read_only(path) as journal:
            (((first,),), ((batch,),)) = (
                journal.query(f"{started} '{what}'")
                for what in ("%_started", f"{carries}_%ed")  # progressed, or completed
            )
            told = journal.query(f"SELECT data FROM events WHERE kind = '{carries}_completed'")
            again = journal.query(
                "SELECT count(*) FROM events WHERE epoch = 2 AND kind = 'dump_started' AND entity "
                "IN (SELECT entity FROM events WHERE epoch = 1 AND kind = 'dump_started')"
            )
        present = [json.loads(data)["present"] for (data,) in told]
        took = ((each - began_ms) / 1000 for each in (first, batch))
        return Killed(*took, whole_s, sum(present), max(present), again[0][0])


def acknowledged(path: Path, mode: Mode) -> int:
    with SqliteJournal.read_only(path) as journal:
        return count(journal, mode)


def count(journal: SqliteJournal, mode: Mode) -> int:
    found = journal.query(
        f"SELECT count(*) FROM events WHERE kind IN ('{CARRIES[mode]}_progressed', "
        f"'{CARRIES[mode]}_completed')"
    )
    return int(found[0][0])


def wait_until(path: Path, mode: Mode, after: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with SqliteJournal.read_only(path) as journal:
                while process.poll() is None:
                    if count(journal, mode) >= after:
                        return
                    time.sleep(0.005)
        except (FerrylogError, FileNotFoundError):  # it is being made
            time.sleep(0.05)
    sys.exit("the migration ended before it was to be killed")


def must_end(process: subprocess.Popen[bytes]) -> None:
    if code := process.wait():
        sys.exit(f"{process.args!r} ended with {code}")


def must_hold(place: Place, name: str, documents: int) -> None:
    with MongoClient[dict[str, Any]](place.target.uri) as client:
        found = client.bench[name].count_documents({})
    if found != documents:
        sys.exit(f"the target was to hold {documents} documents, and holds {found}")


def main() -> None:
    asked = options(__doc__, only="small,medium").parse_args()
    results = Results.begin("resume")
    with two_servers() as place:
        for name, documents in sets(asked.only, asked.scale):
            size = loaded(place.source.uri, name, documents)
            a_batch = max(1.0, BLOCK_BYTES / (size / documents))
            rows = []
            for mode in MODES:
                migration = Migration(place, name, mode)
                batches = migration.whole()
                kills = []
                for number in range(asked.rounds):
                    kills.append(migration.killed(1 + batches * number // (asked.rounds + 1)))
                    must_hold(place, name, documents)
                rows.append([mode, *row(kills, a_batch)])
                worst = [round(each.worst / a_batch) for each in kills]
                results.reach("repeated", f"{name}, {mode}", worst)
            table(results, f"{name}: {documents:,} documents, kills: {asked.rounds}", rows)
            clear(place.source.uri)
            results.save(asked.json)


def row(kills: list[Killed], a_batch: float) -> list[str]:
    """Medians, with the least and the most."""
    return [
        spread([each.started_s for each in kills]),
        spread([each.acknowledged_s for each in kills]),
        f"{statistics.median(each.whole_s for each in kills):.2f}",
        spread([each.repeated for each in kills], 0),
        spread([each.repeated / a_batch / WORKERS for each in kills]),
        spread([each.worst / a_batch for each in kills]),
        spread([each.dumps_again for each in kills], 0),
    ]


def table(results: Results, title: str, rows: list[list[str]]) -> None:
    columns = [
        *("", "first task s", "first batch s", "whole resume s", "documents repeated"),
        *("batches a worker", "of the worst chunk", "dumps again"),
    ]
    results.table(title, columns, rows)


if __name__ == "__main__":
    main()
