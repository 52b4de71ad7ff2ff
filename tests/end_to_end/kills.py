"""The crash proof: migrations killed at random and at chosen moments, resumed, and judged.

Each run has its own seed, journal and empty target. `ferrylog start` is killed with SIGKILL one
to five times, resumed each time, and left to finish the last time. A judge that shares no code
with it (`oracle.py`) then compares both servers byte for byte and reads the journal's story.

    python tests/end_to_end/kills.py --runs 50 --seed 1 [--mongod]

Random moments alone hardly ever meet the short phases, so some kills are aimed: the journal is
watched from outside until an event that opens the phase appears, then a small random delay
passes. What a kill really hit is read from the journal afterwards, never from the intention.
With `--mongod` a server dies and comes back instead, while ferrylog runs.
"""

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from bson import Int64, ObjectId
from pymongo import ASCENDING, DESCENDING, HASHED, MongoClient
from pymongo.collation import Collation

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests import program
from tests.end_to_end import oracle

FERRYLOG = (sys.executable, "-m", "ferrylog")
PHASES = ("plan", "dump", "restore", "index", "recovery", "verify")
"""Those that must be hit often enough."""
ENOUGH = 10
"""Counted kills per phase that a long campaign aims for."""
MAX_KILLS = 5
PATIENCE_S = 180.0
"""A process that lives longer hangs (I30): a whole migration takes seconds."""
POLL_S = 0.002
MAX_RESUMES = 10
"""Of a run whose servers die: each may end in a pause."""

SOONER = {"block": "restore"}
"""An aim that is a part of a phase: the moment between two blocks of one chunk."""
OPENS = {
    "plan": ("plan_started",),
    "dump": ("dump_started", "dump_completed"),
    "restore": ("restore_started",),
    "block": ("restore_progressed",),
    "index": ("index_started",),
    "verify": ("verify_started", "verify_completed"),
    "recovery": ("run_started",),
}
SPREAD_S = {
    "plan": 0.03,
    "dump": 0.1,
    "restore": 0.1,
    "block": 0.01,
    "index": 0.2,
    "verify": 0.1,
    "recovery": 0.1,
}
"""Upper bound of the delay behind the opening event."""


class Server(Protocol):
    """What is needed of `ferrylog.embedded.Mongod`."""

    @property
    def uri(self) -> str: ...

    def start(self) -> object: ...

    def kill(self) -> None: ...


# --- the data ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    documents: int = 200_000
    chunk_docs: int = 5_000


FAT_CHUNK_BYTES = 12_000_000
"""Of a chunk of the fat collection: several blocks, so that a kill may fall between two."""


def load(uri: str, seed: int, size: Size) -> None:
    """Fill an empty deployment: four collections with `_id`s of many types, unique and plain
    indexes, a validator that some documents violate, a view. Some documents are fat, so that
    a chunk of them is more than one batch."""
    rng = Random(seed)
    fat = FAT_CHUNK_BYTES // size.chunk_docs
    with MongoClient[dict[str, Any]](uri) as client:
        shop, depot = client["shop"], client["depot"]
        shop.create_collection(
            "customers",
            validator={"$jsonSchema": {"required": ["name"]}},
            validationLevel="moderate",
        )
        count = size.documents
        plan: list[tuple[Any, float, Callable[[Random, int], dict[str, Any]]]] = [
            (shop["orders"], 0.34, _order),
            (shop["customers"], 0.24, _customer),
            (depot["events"], 0.30, _event),
            (depot["parcels"], 0.12, lambda rng, n: _parcel(rng, n, fat)),
        ]
        for collection, share, make in plan:
            _fill(collection, rng, int(count * share * rng.uniform(0.97, 1.03)), make)
        _indexes(shop, depot)
        shop.create_collection(
            "open_orders", viewOn="orders", pipeline=[{"$match": {"status": "open"}}]
        )
        client.admin.command("fsync")  # a killed source comes back with honest counters


def _fill(
    collection: Any, rng: Random, count: int, make: Callable[[Random, int], dict[str, Any]]
) -> None:
    for first in range(0, count, 10_000):
        batch = [make(rng, n) for n in range(first, min(count, first + 10_000))]
        collection.insert_many(batch, ordered=False, bypass_document_validation=True)


def _order(rng: Random, n: int) -> dict[str, Any]:
    number: Any = n * 7 + rng.randrange(7)
    key = number if n % 3 else Int64(number) if n % 2 else float(number) + 0.5
    return {
        "_id": key,
        "number": f"{n:08x}-{rng.getrandbits(32):08x}",
        "customer": rng.randrange(50_000),
        "status": rng.choice(("open", "paid", "sent")),
        "total": rng.random() * 1000,
        "tags": rng.sample(("red", "green", "blue", "gift", "bulk"), 2),
    }


def _customer(rng: Random, n: int) -> dict[str, Any]:
    document: dict[str, Any] = {"_id": ObjectId(rng.randbytes(12)), "city": rng.randrange(900)}
    if n % 10:
        document["name"] = f"Nämé {rng.getrandbits(40):x}"
    return document


def _event(rng: Random, n: int) -> dict[str, Any]:
    return {
        "_id": {"day": n // 1000, "n": rng.getrandbits(48)},
        "kind": rng.choice(("in", "out", "lost")),
        "at": rng.getrandbits(40),
        "by": rng.randrange(300),
    }


def _parcel(rng: Random, n: int, fat: int) -> dict[str, Any]:
    return {
        "_id": f"{rng.getrandbits(32):08x}/{n}",
        "weight": rng.random(),
        "route": rng.randrange(80),
        "body": rng.randbytes(fat),
    }


def _indexes(shop: Any, depot: Any) -> None:
    """Many on few collections: the index phase must last long enough to be hit."""
    shop["orders"].create_index("number", unique=True, name="by number")
    shop["orders"].create_index("customer")
    shop["orders"].create_index([("status", ASCENDING), ("total", DESCENDING)])
    shop["orders"].create_index("total", partialFilterExpression={"status": "open"}, name="p@%")
    shop["orders"].create_index("tags")
    shop["customers"].create_index("name", sparse=True, collation=Collation("de", strength=2))
    shop["customers"].create_index([("city", HASHED)])
    depot["events"].create_index([("kind", ASCENDING), ("at", DESCENDING)])
    depot["events"].create_index("at", unique=False)
    depot["events"].create_index([("by", ASCENDING), ("kind", ASCENDING), ("at", ASCENDING)])
    depot["parcels"].create_index([("route", ASCENDING), ("weight", ASCENDING)])


def litter(uri: str) -> None:
    """What an older migration left under the same names: `--drop` must replace it, once."""
    with MongoClient[dict[str, Any]](uri) as client:
        client["shop"]["orders"].insert_many([{"_id": n, "old": True} for n in range(5_000)])
        client["shop"]["orders"].create_index("old", unique=False)
        client["depot"].create_collection("parcels", capped=True, size=100_000)
        client["depot"]["parcels"].insert_one({"_id": "old"})


def empty(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        for name in client.list_database_names():
            if name not in oracle.OWN:
                client.drop_database(name)
        client.admin.command("fsync")  # what a killed server would drop again, run after run


# --- the journal, from outside ------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    seq: int
    epoch: int
    at_ms: int
    kind: str
    entity: str


class Watch:
    """Reads the events table with plain `sqlite3`, beside the process that writes it."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal

    def rows(self, after: int = 0) -> list[Row]:
        """The events behind `after`; none while there is no journal that can be read."""
        return [Row(*row[:5]) for row in self._select("", after)]

    def data(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Entity and content of all events of a kind."""
        found = self._select(f"AND kind = '{kind}'", 0)
        return [(row[4], json.loads(row[5])) for row in found]

    def job(self) -> str:
        found = self._select("AND seq = 1", 0)
        return str(found[0][6]) if found else ""

    def _select(self, condition: str, after: int) -> list[Any]:
        # A file without its tip is still being laid out: looking then would disturb it.
        if not Path(f"{self._journal}.tip").exists():
            return []
        columns = "seq, epoch, recorded_at_ms, kind, entity, data, job"
        try:
            with closing(sqlite3.connect(f"file:{self._journal}?mode=ro", uri=True)) as db:
                query = f"SELECT {columns} FROM events WHERE seq > ? {condition} ORDER BY seq"
                return db.execute(query, (after,)).fetchall()
        except sqlite3.Error:
            return []

    def holder(self) -> int:
        """Process id in the lease; that of a killed process stays until the next one."""
        try:
            return int(json.loads(Path(f"{self._journal}.lease").read_bytes())["pid"])
        except (OSError, ValueError, KeyError):
            return 0


def in_flight(rows: Sequence[Row]) -> list[str]:
    """Kinds of the tasks that were started and had no outcome, the last started last."""
    running: dict[tuple[str, str], None] = {}
    for row in rows:
        kind, _, verb = row.kind.partition("_")
        if kind not in oracle.TASKS:
            continue
        if verb == "started":
            running[kind, row.entity] = None
        elif verb != "progressed":
            running.pop((kind, row.entity), None)
    return [kind for kind, _ in running]


RECOVERING = ("run_started", "job_resumed", "result_ignored")
RECOVERY_MS = 250
"""What a recovery starts again stands in the commit of its decisions; later than this the
kill counts for that work."""


def phase_hit(rows: Sequence[Row], *, known: int, took_over: bool, at_ms: int) -> str:
    """What a kill at `at_ms` hit. `known`: last seq before the killed process began; `took_over`:
    it had the lease. Recovery lasts from the lease to the commit that holds the decisions, and
    while nothing but that commit belongs to the new epoch."""
    if any(row.kind in ("job_completed", "job_failed") for row in rows):
        return "ended"
    new = [row for row in rows if row.seq > known]
    if not new:
        return "recovery" if known and took_over else "start"
    began = new[0]
    if known and began.kind == "run_started" and at_ms - began.at_ms <= RECOVERY_MS:
        decided = ("_in_doubt", "_resolved", "_requeued", "_dead_lettered")
        if all(
            row.kind in RECOVERING or row.kind.endswith(decided) or row.at_ms == began.at_ms
            for row in new
        ):
            return "recovery"
    running = in_flight(rows)
    return running[-1] if running else "between"


# --- the shots ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """When to kill: within a phase, or, with no phase, some time after the process began.

    `depth`: how far into what is left of the phase, `share`: of the longest delay; both 0..1.
    """

    phase: str
    depth: float
    share: float
    victim: str = FERRYLOG[-1]
    outage_s: float = 0.0
    also_ferrylog: bool = False


def draw(rng: Random, aims: Sequence[str]) -> list[Shot]:
    """One shot per aim, in an order in which a job can meet them."""
    shots = [Shot(phase, rng.random(), rng.random()) for phase in aims if phase != "recovery"]
    shots.sort(key=lambda shot: _place(shot.phase) if shot.phase else rng.random() * 6)
    for _ in range(len(aims) - len(shots)):
        at = rng.randint(min(1, len(shots)), len(shots))
        shots.insert(at, Shot("recovery", rng.random(), rng.random()))
    if shots and shots[0].phase == "recovery":  # there must be something to recover from
        shots.insert(0, Shot("", rng.random(), rng.random()))
    return shots


def draw_outages(rng: Random, aims: Sequence[str]) -> list[Shot]:
    """Servers that die and come back, one per aim."""
    shots = [
        Shot(
            phase,
            rng.random(),
            rng.random(),
            victim=rng.choice(("source", "target")),
            outage_s=rng.uniform(0, 4),
            also_ferrylog=rng.random() < 0.25,
        )
        for phase in aims
    ]
    return sorted(shots, key=lambda shot: _place(shot.phase))


def _place(aim: str) -> int:
    return PHASES.index(SOONER.get(aim, aim))


# --- one run ----------------------------------------------------------------------------------


@dataclass
class Arena:
    """Two servers, the source filled; what a migration must bring over; what one is like."""

    source: Server
    target: Server
    size: Size
    data_seed: int
    expected: oracle.Snapshot
    life_s: float = 0.0
    """Of an undisturbed migration, from the command to its exit."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Its events."""

    def servers(self) -> dict[str, Server]:
        return {"source": self.source, "target": self.target}


@dataclass
class Verdict:
    """What became of a run."""

    seed: int
    folder: Path
    hits: list[str] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    continued: int = 0
    """Restores that went on inside a chunk, behind the last acknowledged block."""
    seconds: float = 0.0
    repeat: str = ""


class Run:
    """One migration under fire."""

    def __init__(self, arena: Arena, folder: Path, seed: int, shots: Sequence[Shot]) -> None:
        self._arena = arena
        self._folder = folder
        self._rng = Random(seed ^ 0xF1DE)
        self._shots = list(shots)
        self._journal = folder / "ferrylog.db"
        self._watch = Watch(self._journal)
        self._verdict = Verdict(seed, folder)
        self._processes = 0
        early = all(shot.outage_s and shot.phase in ("dump", "restore", "block") for shot in shots)
        self._impatient = bool(shots) and early and self._rng.random() < 0.6
        """One failure ends a task: the outage leads to a pause (exit 5) and a resume."""
        self._drop = bool(shots) and self._rng.random() < 0.25
        self._known = 0
        self._past: Counter[str] = Counter()
        """Events before the process that runs now."""
        self.life_s = 0.0

    def __call__(self) -> Verdict:
        began = time.monotonic()
        self._folder.mkdir(parents=True)
        empty(self._arena.target.uri)
        if self._drop:
            litter(self._arena.target.uri)
        try:
            if self._live():
                self._commit()
                self._judge()
        finally:
            self._verdict.seconds = time.monotonic() - began
        return self._verdict

    def _commit(self) -> None:
        """What was replaced is kept until then, and undo logs are."""
        words = ("commit", "--target", self._arena.target.uri, "--journal", str(self._journal))
        done = program.ferrylog(*words)
        if done.returncode:
            self._fail(f"commit: exit {done.returncode}: {done.stderr[-500:]}")

    def _fail(self, what: str) -> None:
        self._verdict.problems.append(what)

    def _live(self) -> bool:
        """Start, kill, resume, to the end; whether it ended well."""
        for _ in range(MAX_RESUMES + len(self._shots)):
            with self._process() as process:
                if self._under_fire(process):
                    continue
                try:
                    code = process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    self._fail(f"still running after {PATIENCE_S:.0f} s: it hangs (I30)")
                    return False
            if code == 0:
                return True
            if code != 5 or not self._verdict.outages:
                self._fail(f"exit {code}: {self._last_words()}")
                return False
        self._fail("resumed again and again, and it never ends (I30)")
        return False

    # --- processes

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        past = self._watch.rows()
        self._known = max((row.seq for row in past), default=0)
        self._past = Counter(row.kind for row in past)
        self._processes += 1
        began = time.monotonic()
        with (self._folder / f"stderr-{self._processes}.log").open("wb") as log:
            process = program.begin(
                *self._arguments(),
                *self._common(),
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "FERRYLOG_RETRY_BASE_MS": "200"},
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                self.life_s = time.monotonic() - began

    def _arguments(self) -> list[str]:
        """`resume`; or `start` where nothing was asked for yet, and sometimes all the same,
        because it must then continue the job. A job that ended has to be named (I13)."""
        if "ended" in self._verdict.hits:
            return ["resume", self._watch.job()]
        if self._known and self._rng.random() < 0.75:
            return ["resume"]
        return [
            "start",
            *("--source", self._arena.source.uri),
            *("--target", self._arena.target.uri),
            *("--chunk-docs", str(self._arena.size.chunk_docs)),
            *(("--drop",) if self._drop else ()),
        ]

    def _common(self) -> list[str]:
        return [
            *("--journal", str(self._journal), "-v"),
            *(("--max-retries", "1") if self._impatient else ()),
        ]

    def _last_words(self) -> str:
        text = (self._folder / f"stderr-{self._processes}.log").read_text(errors="replace")
        return text[-1500:].strip()

    # --- killing

    def _under_fire(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether one of the shots left took this process."""
        while self._shots:
            if self._fire(process, self._shots.pop(0)):
                return True
        return False

    def _fire(self, process: subprocess.Popen[bytes], shot: Shot) -> bool:
        """Wait for the moment, kill; whether the process is gone by our hand."""
        if not self._wait_for(process, shot):
            return False
        if shot.victim != FERRYLOG[-1]:
            return self._outage(process, shot)
        if process.poll() is not None:
            return False
        process.kill()
        at_ms = time.time_ns() // 1_000_000
        process.wait()
        self._verdict.hits.append(self._what_was_hit(process.pid, at_ms))
        if self._verdict.hits[-1] == "ended":
            self._shots.clear()
        self._look_at_the_wreck()
        return True

    def _what_was_hit(self, pid: int, at_ms: int) -> str:
        took_over = self._watch.holder() == pid
        rows = self._watch.rows()
        return phase_hit(rows, known=self._known, took_over=took_over, at_ms=at_ms)

    def _outage(self, process: subprocess.Popen[bytes], shot: Shot) -> bool:
        """A server dies and comes back; in some the same moment takes ferrylog along."""
        server = self._arena.servers()[shot.victim]
        server.kill()
        hit = self._what_was_hit(process.pid, time.time_ns() // 1_000_000)
        if hit != "ended":
            self._verdict.outages.append(f"{shot.victim} {hit}")
        try:
            time.sleep(shot.outage_s / 2)
            if shot.also_ferrylog and process.poll() is None:
                process.kill()
                hit = self._what_was_hit(process.pid, time.time_ns() // 1_000_000)
                self._verdict.hits.append(hit if hit == "ended" else f"{hit}, no {shot.victim}")
            time.sleep(shot.outage_s / 2)
        finally:
            server.start()
        return process.poll() is not None and process.returncode < 0

    def _wait_for(self, process: subprocess.Popen[bytes], shot: Shot) -> bool:
        """Whether the moment came while the process lived."""
        nth = self._nth(shot)
        if nth == 0:
            extra_s = shot.share * max(1.0, self._arena.life_s * self._left())
        elif shot.phase == "recovery" and shot.depth < 0.5:  # before its first commit
            extra_s = shot.share * 0.4
            if not _until(process, lambda: self._watch.holder() == process.pid):
                return False
        else:
            extra_s = shot.share * SPREAD_S[shot.phase]
            if not _until(process, lambda: self._opened(shot.phase) >= nth):
                return False
        time.sleep(extra_s)
        return process.poll() is None

    def _nth(self, shot: Shot) -> int:
        """Which of the opening events of the phase to wait for; 0 when none is left to come."""
        if not shot.phase or shot.phase == "recovery":
            return len(shot.phase) and 1
        left = sum(self._arena.kinds[kind] - self._past[kind] for kind in OPENS[shot.phase])
        return max(0, min(left, 1 + int(shot.depth * 0.8 * left)))

    def _left(self) -> float:
        """The share of the migration that is left, about."""
        return max(0.0, 1 - self._known / max(1, self._arena.kinds.total()))

    def _opened(self, phase: str) -> int:
        new = self._watch.rows(self._known)
        return sum(row.kind in OPENS[phase] for row in new)

    # --- judging

    def _look_at_the_wreck(self) -> None:
        """Before anything repairs it: what the journal calls done is there (I17)."""
        settled = {entity for entity, _ in self._watch.data("verify_completed")}
        settled |= {entity for entity, _ in self._watch.data("split_requested")}  # cut in two
        job = self._watch.job()
        for chunk, done in self._watch.data("dump_completed"):
            if chunk in settled:
                continue
            path = Path(f"{self._journal}.d", job, done["file"])
            raw = path.read_bytes() if path.exists() else b""
            if (len(raw), hashlib.sha256(raw).hexdigest()) != (done["file_bytes"], done["sha256"]):
                self._fail(f"after a kill: {path.name} of {chunk} is not what was dumped (I17)")
        restored: Counter[str] = Counter()
        for chunk, done in self._watch.data("restore_completed"):
            restored[chunk.rpartition("#")[0]] += done["documents"]
        with MongoClient[dict[str, Any]](self._arena.target.uri) as client:
            for unit, documents in restored.items():
                database, _, name = unit.partition(".")
                there = client[database][name].count_documents({})
                if there < documents:
                    self._fail(f"after a kill: {unit} has {there} of {documents} documents (I17)")

    def _judge(self) -> None:
        for command in (("inspect", "check"), ("replay", "--check")):
            done = program.ferrylog(*command, "--journal", self._journal)
            if done.returncode:
                self._fail(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-500:]}")
        target = oracle.snapshot(self._arena.target.uri)
        resolved = self._watch.data("restore_resolved")
        self._verdict.continued = sum(done["decision"] == "continue" for _, done in resolved)
        for what in oracle.judge(self._arena.expected, target, self._journal, FERRYLOG):
            self._fail(what)
        left = [path for path in Path(f"{self._journal}.d").rglob("*") if path.is_file()]
        if left:
            self._fail(f"{len(left)} files stayed in the work folder: {left[0].name}")


def _until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> bool:
    """Whether it happened while the process lived."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(POLL_S)
    return False


# --- many runs --------------------------------------------------------------------------------


@dataclass
class Campaign:
    """Runs and what they hit."""

    mongod: bool
    hits: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.problems]

    @property
    def continued(self) -> int:
        return sum(verdict.continued for verdict in self.verdicts)

    def took(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.hits.update(verdict.hits)
        self.outages.update(verdict.outages)

    def table(self) -> str:
        lines = [f"{'phase':<24} {'kills':>5}"]
        others = sorted(self.hits.keys() - set(PHASES) - {"ended"})
        names = [*others, *PHASES] if not self.mongod else others
        lines += [f"{name:<24} {self.hits[name]:>5}" for name in names]
        counted = sum(count for name, count in self.hits.items() if name != "ended")
        lines.append(f"{'kills of ferrylog':<24} {counted:>5}")
        if self.hits["ended"]:
            lines.append(f"not counted, the job had ended: {self.hits['ended']}")
        if self.mongod:
            lines += [f"{name:<24} {count:>5}" for name, count in sorted(self.outages.items())]
            lines.append(f"{'kills of mongod':<24} {sum(self.outages.values()):>5}")
        lines.append(f"{'restores continued':<24} {self.continued:>5}")
        lines.append(
            f"runs {len(self.verdicts)}, losses {len(self.failures)}, {self.seconds:.0f} s"
        )
        return "\n".join(lines)


def prepare(source: Server, target: Server, seed: int, size: Size, folder: Path) -> Arena:
    """Fill the source, and migrate it once undisturbed: the measure of all random moments."""
    empty(source.uri)
    load(source.uri, seed, size)
    arena = Arena(source, target, size, seed, oracle.snapshot(source.uri))
    undisturbed = Run(arena, folder / "undisturbed", seed, [])
    verdict = undisturbed()
    if verdict.problems:
        raise SystemExit("\n".join(["undisturbed, and yet:", *verdict.problems]))
    rows = Watch(folder / "undisturbed" / "ferrylog.db").rows()
    arena.kinds, arena.life_s = Counter(row.kind for row in rows), undisturbed.life_s
    chunks = arena.kinds["chunk_planned"]
    assert chunks >= 30, f"only {chunks} chunks"
    shutil.rmtree(verdict.folder)
    print(
        f"{arena.expected.documents} documents, {chunks} chunks, {arena.life_s:.1f} s undisturbed"
    )
    return arena


def fight(
    arena: Arena,
    folder: Path,
    *,
    runs: int,
    seed: int,
    mongod: bool = False,
    aims: Sequence[str] = (),
    keep: bool = False,
) -> Campaign:
    """`runs` runs with the seeds from `seed` on; each line is printed as it ends. `aims` repeats
    what one run aimed at; without it, phases that were hit least come first."""
    campaign = Campaign(mongod)
    began = time.monotonic()
    for at in range(seed, seed + runs):
        rng = Random(at)
        wanted = list(aims) or _aims(rng, campaign)
        shots = draw_outages(rng, wanted) if mongod else draw(rng, wanted)
        repeat = _repeat(arena, at, wanted, mongod=mongod)
        try:
            verdict = Run(arena, folder / f"run-{at}", at, shots)()
        except Exception:
            print(f"seed {at} could not be played to its end; again: {repeat}", flush=True)
            raise
        verdict.repeat = repeat
        campaign.took(verdict)
        campaign.seconds = time.monotonic() - began
        _tell(verdict)
        if not (verdict.problems or keep):
            shutil.rmtree(verdict.folder)
    return campaign


def _aims(rng: Random, campaign: Campaign) -> list[str]:
    """Phases to aim at, "" for a random moment: the fewer hits so far, the likelier."""
    if campaign.mongod:
        return rng.sample(
            ("plan", "dump", "restore", "block", "index", "verify"), rng.randint(1, 2)
        )
    weights = [1 + 2 * max(0, ENOUGH - campaign.hits[phase]) for phase in PHASES]
    kills = rng.randint(1, MAX_KILLS)
    aimed = sum(rng.random() < 0.7 for _ in range(kills))
    aims = rng.choices(PHASES, weights, k=aimed) + [""] * (kills - aimed)
    return ["block" if aim == "restore" and rng.random() < 0.6 else aim for aim in aims]


def _repeat(arena: Arena, seed: int, aims: Sequence[str], *, mongod: bool) -> str:
    aimed = ",".join(aim or "random" for aim in aims)
    return (
        f"{sys.executable} {Path(__file__)} --runs 1 --seed {seed} --aims {aimed} "
        f"--data-seed {arena.data_seed} --documents {arena.size.documents} "
        f"--chunk-docs {arena.size.chunk_docs}{' --mongod' if mongod else ''}"
    )


def _tell(verdict: Verdict) -> None:
    hits = ", ".join([*verdict.hits, *verdict.outages]) or "none"
    word = "LOST" if verdict.problems else "ok"
    print(f"seed {verdict.seed}: {word}, killed in: {hits}; {verdict.seconds:.1f} s", flush=True)
    for problem in verdict.problems:
        print(f"  {problem}")
    if verdict.problems:
        print(f"  kept: {verdict.folder}\n  again: {verdict.repeat}", flush=True)


def main() -> None:
    from ferrylog.embedded import Mongod

    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="ferrylog-kills-"))
    size = Size(options.documents, options.chunk_docs)
    with (
        Mongod(folder / "source", name="source") as source,
        Mongod(folder / "target", name="target") as target,
    ):
        arena = prepare(source, target, options.data_seed, size, folder)
        campaign = fight(
            arena,
            folder,
            runs=options.runs,
            seed=options.seed,
            mongod=options.mongod,
            aims=options.aims,
            keep=options.keep,
        )
    print(campaign.table())
    for server in ("source", "target"):
        shutil.rmtree(folder / server)
    if not (campaign.failures or options.keep):
        shutil.rmtree(folder)
    sys.exit(bool(campaign.failures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; then one more each")
    parser.add_argument("--mongod", action="store_true", help="kill servers instead")
    parser.add_argument("--data-seed", type=int, default=None, help="default: the seed")
    parser.add_argument("--documents", type=int, default=Size.documents)
    parser.add_argument("--chunk-docs", type=int, default=Size.chunk_docs)
    parser.add_argument("--aims", default="", help="of one run, as its report names them")
    parser.add_argument("--keep", action="store_true", help="the folders of good runs too")
    options = parser.parse_args()
    named = [aim for aim in options.aims.split(",") if aim]
    options.aims = ["" if aim == "random" else aim for aim in named]
    if options.data_seed is None:
        options.data_seed = options.seed
    return options


if __name__ == "__main__":
    main()
