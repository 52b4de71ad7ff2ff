"""The trial of chains: a full dump and increments under load and SIGKILL, and each of their states.

    python -m tests.end_to_end.chains --links 5 --rate 1000 --kills 3 --seed 1

1. A writer changes the source, documents and catalogue (`workload.py`), while a full dump and
   then one increment after another are made, each killed at random moments and resumed. As of the
   cluster time of each link a reference is taken (`snapshots.py`). Between a link's end and its
   reference the writer holds renames and drops back, and nothing else: behind one of them no
   server could tell any more what lay there before. The first renames and drops behind a capture
   are let through in half of the links: then the increment has to go on to a later time.
2. The chain is restored up to each of its links, and up to times within a link that has a log.
3. The last restore once more: ferrylog is killed again and again, most often while it applies, and
   the target's server dies twice. The table of shards comes from that journal alone (`applied.py`).
4. The source is followed under load, and killed; the writer rests, cut-over, and both are equal.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import OperationFailure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ferrylog.embedded import Mongod
from tests.end_to_end import applied, snapshots
from tests.end_to_end.following import follow
from tests.end_to_end.kills import empty
from tests.end_to_end.snapshots import now
from tests.end_to_end.trials import Load, Lost, Program, Shot, at_second

APPLIED = ("apply_progressed", "apply_completed")
NO_LONGER = (246, 361, 26)
"""What a server says of a collection that was renamed or dropped behind the time of a read."""


# --- a chain ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    documents: int = 200_000
    rate: int = 1_000
    links: int = 5
    changes: int = 160_000
    """Between two links."""
    chunk_docs: int = 10_000
    kills: int = 3
    """Of each link."""
    kill_within_s: float = 5.0
    kills_restoring: int = 22
    ddl_every_s: float = 1.5
    exposed: float = 0.5
    """How often renames and drops go on behind a capture."""


@dataclass
class Trial:
    source: Mongod
    target: Mongod
    folder: Path
    size: Size
    seed: int
    load: Load | None = None
    references: list[snapshots.Reference] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.chain = self.folder / "chain"
        self.dumps = Program(self.folder / "dumps")

    def __enter__(self) -> Self:
        """The source is filled, and the writer at work."""
        snapshots.keep_history(self.source.uri)
        empty(self.source.uri)
        size = self.size
        self.load = Load(
            self.source.uri,
            self.folder,
            *("--load", "--documents", str(size.documents), "--rate", str(size.rate)),
            *("--ddl-every", str(size.ddl_every_s), "--seed", str(self.seed)),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.__exit__()

    @property
    def writer(self) -> Load:
        assert self.load
        return self.load

    def tell(self, what: str) -> None:
        self.facts.append(what)
        print(f"{datetime.now(UTC):%H:%M:%S} {what}", flush=True)

    def judge(self, what: str, expected: snapshots.Reference) -> None:
        wrong = snapshots.judge(self.target.uri, expected)
        self.problems += [f"{what}: {each}" for each in wrong]
        verdict = "exact" if not wrong else f"NOT EXACT, {len(wrong)} differences: {wrong[0]}"
        self.tell(f"{what}: {expected.documents} documents as of {expected.at}, {verdict}")

    # --- links are made

    def full(self) -> None:
        """Renames and drops are held from its beginning."""
        self.writer.say("hold")
        self._make("--consistency", "snapshot")
        self._refer(0)
        self.writer.say("go")

    def increment(self, *more: str) -> None:
        """One more link and its reference; made again where a rename came before the reference."""
        number = len(self.references)
        for attempt in range(5):
            self._make(
                "--incremental",
                *more,
                exposed=not attempt and self.rng.random() < self.size.exposed,
            )
            try:
                self._refer(number)
            except (snapshots.Ambiguous, OperationFailure) as error:
                if isinstance(error, OperationFailure) and error.code not in NO_LONGER:
                    raise
                shutil.rmtree(link(self.chain, number))
                self.tell(f"link {number} is made again: {str(error)[:80]}")
            else:
                return
            finally:
                self.writer.say("go")
        raise Lost(f"no reference for link {number}")

    def _make(self, *more: str, exposed: bool = False) -> None:
        words: list[str | Path] = ["dump", "--source", self.source.uri, "--out", self.chain, *more]
        known, began = self.dumps.last_seq(), time.monotonic()
        hold = Hold(self, known, self.rng.uniform(0.5, 5) if exposed else 0)
        latest = self.size.kill_within_s
        shots = [at_second(self.rng.uniform(0.1, latest)) for _ in range(self.size.kills)]
        before = self.dumps.kills
        chunks = ("--chunk-docs", str(self.size.chunk_docs))
        self.dumps.to_its_end([*words, *chunks], shots, hold)
        self.writer.say("hold")
        rows = [row.kind for row in self.dumps.watch.rows(known)]
        self.tell(
            f"link {len(self.references)}: {time.monotonic() - began:.0f} s,"
            f" {self.dumps.kills - before} kills, {rows.count('capture_invalidated')} later times"
        )

    def _refer(self, number: int) -> None:
        manifest = json.loads((link(self.chain, number) / "manifest.json").read_text())
        until = manifest["link"]["until"] if number else manifest["facts"]["cluster_time"]
        found = snapshots.reference(self.source.uri, until, self.writer.diary())
        self.references.append(found)
        net = sum(each["documents"] for each in manifest["namespaces"] if not each.get("whole"))
        erased = sum(
            chunk.get("erased", 0) for each in manifest["namespaces"] for chunk in each["chunks"]
        )
        chunks = sum(len(each["chunks"]) for each in manifest["namespaces"])
        self.tell(
            f"link {number}: {net} rows, {erased} of them erasures, in {chunks} chunks;"
            f" {found.documents} documents as of {until}"
        )

    def pin(self, *, second: bool = False) -> snapshots.Reference:
        """A moment between two links, with its reference; or the end of a whole second."""
        self.writer.say("hold")
        at = now(self.source.uri)
        if second:
            at = f"{at.partition('.')[0]}.{2**32 - 1}"
            self._pass(at)
        found = snapshots.reference(self.source.uri, at, self.writer.diary())
        self.writer.say("go")
        return found

    def _pass(self, at: str) -> None:
        """Nothing else is written: notes let the source's time go on."""
        with MongoClient[dict[str, Any]](self.source.uri) as client:
            while snapshots.position(now(self.source.uri)) <= snapshots.position(at):
                client.admin.command("appendOplogNote", data={"behind": at})
                time.sleep(0.05)

    # --- links are applied

    def restore(self, number: int, name: str, *more: str) -> Program:
        """To an emptied target, undisturbed."""
        empty(self.target.uri)
        program = Program(self.folder / name)
        began = time.monotonic()
        up_to = more or ("--to-increment", str(number))
        program("restore", "--from", self.chain, "--target", self.target.uri, *up_to)
        self.tell(f"{name}: {time.monotonic() - began:.0f} s")
        return program

    def restore_each(self) -> Program:
        """Up to every link; the last one's program."""
        for number, expected in enumerate(self.references):
            program = self.restore(number, f"restore-{number}")
            self.judge(f"link {number}", expected)
        return program

    def restore_at(self, expected: snapshots.Reference) -> None:
        """A time series is as of the link before: what changes in one no stream tells."""
        before = self.references[-2].collections
        for name in expected.collections:
            if ".system.buckets." in name:
                expected.collections[name] = before[name]
        seconds, _, increment = expected.at.partition(".")
        second = datetime.fromtimestamp(int(seconds), UTC).isoformat()
        at = second if increment == str(2**32 - 1) else expected.at
        program = self.restore(0, f"restore-at-{expected.at}", "--at", at)
        self.judge(f"--at {at}", expected)
        self.audit(program)

    def under_fire(self, undisturbed: Program, *, mongod: int = 2) -> applied.Story:
        """The last restore again: most kills while it applies."""
        empty(self.target.uri)
        program = Program(self.folder / "fire")
        rows = undisturbed.watch.rows()
        events = sum(row.kind in APPLIED for row in rows)
        first = next(row.at_ms for row in rows if row.kind == "increment_started")
        base_s = (first - rows[0].at_ms) / 1000
        many = self.size.kills_restoring
        early = many // 5
        shots = [at_second(0.1 + self.rng.random() * base_s) for _ in range(early)]
        step = max(1, events // (many - early + mongod + 3))
        late = [self._behind(program, step) for _ in range(many - early)]
        for _ in range(mongod):
            outage = self._behind(program, step)
            outage.how = self._outage
            late.insert(self.rng.randrange(len(late)), outage)
        words = ("restore", "--from", self.chain, "--target", self.target.uri)
        up_to = ("--to-increment", str(len(self.references) - 1))
        began = time.monotonic()
        program.to_its_end((*words, *up_to), [*shots, *late], forgiven=(5,) if mongod else ())
        self.tell(f"under fire: {time.monotonic() - began:.0f} s")
        self.judge(f"under fire, {program.kills} kills", self.references[-1])
        self.audit(program)
        story = applied.read(applied.events(program.journal))
        self.problems += story.problems
        return story

    def _behind(self, program: Program, step: int) -> Shot:
        """About so many progress events after the shot before."""
        count = self.rng.randint(max(1, step // 2), max(1, step * 6 // 5))
        seen: list[int] = []

        def reached(_: float) -> bool:
            found = sum(program.saw(kind, 0) for kind in APPLIED)
            seen.append(found)
            return found >= seen[0] + count

        return Shot(reached, self.rng.uniform(0, 0.05))

    def _outage(self, _: "subprocess.Popen[bytes]") -> bool:
        self.target.kill()
        time.sleep(self.rng.uniform(0, 2))
        self.target.start()
        return False

    def audit(self, program: Program) -> None:
        for words in (("inspect", "check"), ("replay", "--check")):
            program(*words)


class Hold:
    """Holds renames and drops so many seconds behind the first capture."""

    def __init__(self, trial: Trial, known: int, after_s: float) -> None:
        self._trial, self._known, self._after_s = trial, known, after_s
        self._looked = 0.0
        self._captured = 0.0
        self._held = False

    def __call__(self) -> None:
        at = time.monotonic()
        if self._held or at < self._looked + 0.05:
            return
        self._looked = at
        if not self._captured and self._trial.dumps.saw("capture_completed", self._known):
            self._captured = at
        if self._captured and at >= self._captured + self._after_s:
            self._trial.writer.say("hold")
            self._held = True


def link(chain: Path, number: int) -> Path:
    return chain / "increments" / f"{number:04d}" if number else chain


def run(trial: Trial, *, follow_s: float) -> applied.Story:
    """All of it, one after the other."""
    size = trial.size
    trial.full()
    for number in range(1, size.links + 1):
        before, began = trial.writer.say("counts").get("changes", 0), time.monotonic()
        trial.writer.await_changes(size.changes)
        trial.increment()
        counts = trial.writer.say("counts")
        rate = (counts["changes"] - before) / (time.monotonic() - began)
        trial.tell(f"link {number} of {size.links}: {rate:.0f} changes a second; so far {counts}")
    trial.writer.say("rest")
    story = trial.under_fire(trial.restore_each())
    print(story.table(), flush=True)
    trial.writer.say("go")
    trial.writer.await_changes(size.changes // 10)
    moments = [trial.pin()]
    trial.writer.await_changes(size.changes // 10)
    moments.append(trial.pin(second=True))
    trial.writer.await_changes(size.changes // 10)
    trial.increment("--keep-log")
    trial.writer.say("rest")
    for moment in moments:
        trial.restore_at(moment)
    trial.writer.say("go")
    follow(trial, follow_s, kills=3)
    return story


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="ferrylog-chains-", dir=options.folder))
    size = Size(
        documents=options.documents,
        rate=options.rate,
        links=options.links,
        changes=options.changes,
        chunk_docs=options.chunk_docs,
        kills=options.kills,
    )
    with (
        Mongod(folder / "source", name="source", cache_gb=1.5) as source,
        Mongod(folder / "target", name="target", cache_gb=1.5) as target,
        Trial(source, target, folder, size, options.seed) as trial,
    ):
        print(f"seed {options.seed}, {folder}", flush=True)
        run(trial, follow_s=options.follow)
    print("\n".join(trial.problems) or "every state exact, and the journal's story holds")
    if not trial.problems and not options.keep:
        shutil.rmtree(folder)
    sys.exit(4 if trial.problems else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=Size.documents)
    parser.add_argument("--rate", type=int, default=Size.rate)
    parser.add_argument("--links", type=int, default=Size.links)
    parser.add_argument("--changes", type=int, default=Size.changes, help="between two links")
    parser.add_argument("--chunk-docs", type=int, default=Size.chunk_docs)
    parser.add_argument("--kills", type=int, default=Size.kills, help="of each link")
    parser.add_argument("--follow", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for everything; must exist")
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
