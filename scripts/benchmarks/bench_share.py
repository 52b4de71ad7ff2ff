"""Measure what journal, file digests and rollback records take of a migration, in two ways.

usage: scripts/bench share [--rounds N] [--only small,medium] [--scale F] [--json FILE]

A coordinated migration with 4 + 4 workers, `--no-verify`, uncompressed chunk files: into a
collection that was not there (own: nothing to be recorded), and into one that holds another
document (merge: every insertion is recorded first).

- From inside: each part's own time is taken, by the thread that spends it. Turns are all of the
  engine: decisions, state, events, commits and their syncs. Snapshots are those of the state.
  Digests are the SHA-256 of chunk files, written and checked. Records are those of the undo log,
  with the sums of documents and the syncs. The share judged is that of CPU seconds among those of
  the client and both servers: here CPU is what a migration waits for. Seconds are of all threads
  together, waits for the disk and for other threads included; they pass beside the copying.
- From outside: the same migration without these parts: commits and tip not synced, no snapshots,
  no digests, `--no-undo`. What is left of the journal is the CPU of its turns. The difference is
  what they add; it is smaller than the noise of a few rounds, which the spread shows.
"""

import hashlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bench_data import NONE
from common import (
    WORKERS,
    Contender,
    Figures,
    Place,
    clear,
    compete,
    loaded,
    options,
    sets,
    two_servers,
)
from pymongo import MongoClient
from results import Results, paired, spread

TURNS, COMMITS, SNAPSHOTS = "turns", "turns: commits", "snapshots"
DIGESTS, RECORDS = "digests", "undo records"
PARTS: Final = (TURNS, COMMITS, SNAPSHOTS, DIGESTS, RECORDS)
KINDS: Final = ("own", "merge")


# --- in the process that is measured --------------------------------------------------------------


class Meter:
    """Seconds and CPU seconds by part; what runs inside another part counts as that one's."""

    def __init__(self) -> None:
        self.spent = {part: [0.0, 0.0] for part in PARTS}
        self._lock = threading.Lock()
        self._in = threading.local()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        outer = getattr(self._in, "part", "")
        if outer and part != COMMITS:
            yield
            return
        self._in.part = part
        began, used = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            took, used = time.perf_counter() - began, time.thread_time() - used
            self._in.part = outer
            with self._lock:
                self.spent[part][0] += took
                self.spent[part][1] += used

    def times(self, owner: Any, name: str, part: str) -> None:
        """Every call of it, from now on."""
        whole = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timing(part):
                return whole(*args, **kwargs)

        setattr(owner, name, timed)


def watch(meter: Meter) -> None:
    """Must come before anything imports a function that it replaces."""
    whole = hashlib.sha256

    class Sha256:
        def __init__(self, data: bytes = b"", **kwargs: Any) -> None:
            self._made = whole(**kwargs)
            self.update(data)

        def update(self, data: bytes) -> None:
            with meter.timing(DIGESTS):
                self._made.update(data)

        def digest(self) -> bytes:
            return self._made.digest()

        def hexdigest(self) -> str:
            return self._made.hexdigest()

    hashlib.sha256 = Sha256  # type: ignore[assignment,misc]
    from executors.undo.log import UndoLog  # noqa: PLC0415
    from executors.undo.recording import Recorder  # noqa: PLC0415
    from ferrylog.engine import Engine  # noqa: PLC0415
    from ferrylog.recall import Keeper  # noqa: PLC0415
    from journal.sqlite import SqliteJournal  # noqa: PLC0415

    meter.times(Engine, "turn", TURNS)
    meter.times(SqliteJournal, "append", COMMITS)
    meter.times(Keeper, "__call__", SNAPSHOTS)
    for owner, names in (
        (Recorder, ("inserted", "replaced", "erased", "sync")),
        (UndoLog, ("make", "add", "sync")),
    ):
        for name in names:
            meter.times(owner, name, RECORDS)


def leave_out(_: Meter) -> None:
    """What can be left out of a migration that nobody will have to trust."""
    import journal.sqlite  # noqa: PLC0415
    from journal.disk import DISK  # noqa: PLC0415

    durable = journal.sqlite.set_durability

    def hardly(db: Any) -> None:
        durable(db)
        db.execute("PRAGMA synchronous = OFF").fetchall()

    journal.sqlite.set_durability = hardly
    type(DISK).sync = lambda _self, _fd: None  # type: ignore[method-assign]

    class NoDigest:
        def update(self, data: bytes) -> None: ...

        def hexdigest(self) -> str:
            return "0" * 64

    from executors import chunkfile  # noqa: PLC0415
    from ferrylog.recall import Keeper  # noqa: PLC0415

    chunkfile.hashlib = type("NoHashes", (), {"sha256": NoDigest})  # type: ignore[assignment]
    Keeper.__call__ = lambda _self, _engine: None  # type: ignore[method-assign]


def ferrylog(how: str, told: Path, words: list[str]) -> None:
    """The program in this process; what it spent goes to a file."""
    meter = Meter()
    {"whole": watch, "light": leave_out}[how](meter)
    from ferrylog.cli.main import main as program  # noqa: PLC0415

    sys.argv = ["ferrylog", *words]
    code: object = 0
    with suppress(KeyboardInterrupt):
        try:
            program()
        except SystemExit as end:
            code = end.code
    told.write_text(json.dumps(meter.spent))
    sys.exit(code)  # type: ignore[arg-type]


# --- the contest ----------------------------------------------------------------------------------


class Share:
    """Migrations of one collection, and what each part of them took, a round an item."""

    def __init__(self, place: Place, name: str, kind: str) -> None:
        self.place, self.name, self.kind = place, name, kind
        self.spent: list[dict[str, list[float]]] = []

    def contenders(self) -> Sequence[Contender]:
        light = Contender("without", lambda: self.migrate("light", "--no-undo"))
        return Contender("whole", lambda: self.migrate("whole"), ("without",)), light

    def migrate(self, how: str, *more: str) -> Figures:
        self.place.empty()
        if self.kind == "merge":
            with MongoClient[dict[str, Any]](self.place.target.uri) as client:
                client.bench[self.name].insert_one({"_id": "another"})
            more = (*more, "--on-conflict", "skip")
        folder, workers = self.place.fresh("journal"), str(WORKERS)
        told = folder / "spent.json"
        figures = self.place.run(
            *(sys.executable, __file__, "--do", how, str(told)),
            *("start", "--new", "--quiet", "--journal", str(folder / "j.db")),
            *("--source", self.place.source.uri, "--target", self.place.target.uri),
            *("-d", "bench", "-c", self.name, "--no-verify", "--chunk-bytes", str(16 << 20)),
            *("--dump-workers", workers, "--restore-workers", workers, *NONE, *more),
        )
        if how == "whole":
            self.spent.append(json.loads(told.read_text()))
        return figures


def report(results: Results, share: Share, title: str, found: dict[str, list[Figures]]) -> None:
    whole = found["whole"]
    rows = []
    for part in PARTS:
        seconds, used = ([each[part][n] for each in share.spent] for n in (0, 1))
        of_cpu = shares(used, whole)
        took = f"{statistics.median(seconds):.3f}"
        rows.append([part, took, f"{statistics.median(used):.3f}", spread(of_cpu)])
    together = [sum(s[p][1] for p in PARTS if p != COMMITS) for s in share.spent]
    in_all = shares(together, whole)
    rows.append(["together", "", f"{statistics.median(together):.3f}", spread(in_all)])
    columns = ["", "s, of all threads", "CPU s", "% of the CPU of client and servers"]
    results.table(f"{title}: from inside", columns, rows)
    results.reach("share", f"{share.name}, {share.kind}, of the CPU", in_all)
    more = [100 * (each - 1) for each in paired(whole, found["without"])]
    results.reach("share", f"{share.name}, {share.kind}, by leaving it out", more)


def shares(used: Sequence[float], whole: Sequence[Figures]) -> list[float]:
    """Per cent of all CPU seconds of the same round."""
    return [100 * u / (f.cpu_s + f.server_cpu_s) for u, f in zip(used, whole, strict=True)]


def main() -> None:
    if "--do" in sys.argv:
        _, _, how, told, *words = sys.argv
        ferrylog(how, Path(told), words)
    asked = options(__doc__, only="small,medium").parse_args()
    results = Results.begin("share")
    with two_servers() as place:
        for name, count in sets(asked.only, asked.scale):
            size = loaded(place.source.uri, name, count)
            for kind in KINDS:
                share = Share(place, name, kind)
                contenders = share.contenders()
                found = compete(contenders, asked.rounds)
                title = f"{name}, {kind}: {count:,} documents, rounds: {asked.rounds}"
                results.contest(f"{title}: from outside", contenders, found, amount=size / 1e6)
                report(results, share, title, found)
                results.save(asked.json)
            clear(place.source.uri)


if __name__ == "__main__":
    main()
