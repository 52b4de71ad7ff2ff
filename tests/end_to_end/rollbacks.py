"""The proof of rollbacks: restores killed at random, taken back, killed in the middle of that, and
judged.

    python -m tests.end_to_end.rollbacks [--runs 50] [--collections 12] [--documents 20000]

Each run restores a dump into a target that holds things of its own: some collections do not exist
there, some are empty, some hold foreign documents, documents that equal those of the dump to the
byte, and others that differ under the same `_id`. The restore (with `--on-conflict skip` or
`overwrite`, `--drop` or `--swap`, by turns) is killed with SIGKILL at a random moment, or ends;
then `ferrylog rollback` is killed at random moments, and left to finish. The judge
(`snapshots.py`), which shares no code with the program, compares everything on the target with
what was there before: names, options, indexes, documents to the byte. The journal must tell each
undo once, in the exact reverse order of the starts (`ferrylog inspect rollback`).
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bson import Int64, ObjectId
from pymongo import ASCENDING, MongoClient

from ferrylog.embedded import Mongod
from tests.end_to_end import snapshots
from tests.end_to_end.kills import Server
from tests.end_to_end.trials import PATIENCE_S, Lost, Program, Shot, at_second

MODES = (
    ("--on-conflict", "skip"),
    ("--on-conflict", "overwrite"),
    ("--drop",),
    ("--swap",),
)
"""By turns: how a restore deals with what the target holds."""
IMPATIENT = ("--setParameter", "transactionLifetimeLimitSeconds=3")
"""A killed process leaves a transaction open, for which the next waits: by default a minute."""
OWN = 0, 3, 7
"""Exits of a restore that nothing stopped: documents that differ are rejected with `skip`."""


@dataclass(frozen=True)
class Size:
    collections: int = 12
    documents: int = 20_000


@dataclass
class Tally:
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    undos: int = 0
    documents: int = 0
    """Removed or put back."""
    restored: int = 0
    """Restores that came to their end before they were killed."""
    wrong: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "kills of restores": self.kills["restore"],
            "kills of rollbacks": self.kills["rollback"],
            "restores that ended": self.restored,
            "undos": self.undos,
            "documents": self.documents,
            "wrong": self.wrong,
        }


def fill_source(uri: str, size: Size, seed: int) -> None:
    """The same documents for the same seed; indexes of several kinds."""
    with MongoClient[dict[str, Any]](uri) as client:
        for number in range(size.collections):
            place = client["shop"][f"c{number:02}"]
            place.insert_many(_documents(size.documents, seed, number))
            place.create_index([("code", ASCENDING)], unique=True, name="code")
            place.create_index([("group", ASCENDING), ("text", ASCENDING)], name="plain")
            if number % 3 == 0:
                place.create_index("at", expireAfterSeconds=100_000_000, name="ttl")


def _documents(count: int, seed: int, number: int) -> Iterator[dict[str, Any]]:
    rng = Random(f"{seed} {number}")
    for each in range(count):
        yield {
            "_id": each if number % 2 else ObjectId(rng.randbytes(12)),
            "code": each * 1000 + number,
            "group": rng.randrange(50),
            "text": rng.randbytes(rng.randrange(20, 90)).hex(),
            "long": Int64(rng.getrandbits(40)),
        }


def fill_target(uri: str, size: Size, seed: int) -> None:
    """What a user has there before: by the number of the collection nothing, an empty collection,
    foreign documents with equal ones among them, or also some that differ."""
    with MongoClient[dict[str, Any]](uri) as client:
        client["other"]["untouched"].insert_many([{"_id": n} for n in range(100)])
        for number in range(size.collections):
            place, kind = client["shop"][f"c{number:02}"], number % 4
            if kind == 0:
                continue
            place = client["shop"].create_collection(place.name)
            if kind == 1:
                place.create_index("group", name="own")
                continue
            ours = list(_documents(size.documents, seed, number))
            place.insert_many([{"_id": f"foreign {n}", "code": -n} for n in range(1, 1001)])
            place.insert_many(ours[:: max(1, size.documents // 2000)])
            if kind == 3:
                changed = ours[7 :: max(2, size.documents // 500)]
                for each in changed:
                    found = {"$set": {"text": "mine"}}
                    place.update_one({"_id": each["_id"]}, found, upsert=True)


def clear(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        for name in client.list_database_names():
            if name not in snapshots.OWN:
                client.drop_database(name)


def state_of(uri: str) -> dict[str, Any]:
    """Everything on the server, told so that two moments can be compared."""
    found = {name: each.told() for name, each in snapshots.present(uri).collections.items()}
    with MongoClient[dict[str, Any]](uri) as client:
        databases = sorted(set(client.list_database_names()) - set(snapshots.OWN))
    return {"databases": databases, **found}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = sorted(set(before) | set(after))
    return [
        f"{name}: {json.dumps(before.get(name))[:300]} became {json.dumps(after.get(name))[:300]}"
        for name in names
        if before.get(name) != after.get(name)
    ]


@dataclass
class Trial:
    """One server after another is restored to, and taken back."""

    target: Server
    dump: Path
    folder: Path
    rng: Random
    size: Size
    tally: Tally
    whole_s: float = 0.0
    """How long a restore takes."""

    def run(self, number: int, before: dict[str, Any]) -> None:
        """Raises `Lost`."""
        how = MODES[number % len(MODES)]
        program = Program(self.folder / f"run-{number}")
        words = ("restore", "--from", self.dump, "--target", self.target.uri, *how)
        words = (*words, "--chunk-docs", "5000", "--no-verify" if number % 3 else "--verify")
        self._restore(program, words)
        self._roll_back(program)
        self.tally.runs += 1
        for each in differences(before, state_of(self.target.uri)):
            self.tally.wrong.append(f"run {number} ({' '.join(how)}): {each}")
        self._judge(program, number)

    def _restore(self, program: Program, words: tuple[str | Path, ...]) -> None:
        began = time.monotonic()
        process = program.begin(*words)
        limit = self.rng.uniform(0.1, self.whole_s * 1.05) if self.whole_s else PATIENCE_S
        begun = Shot(lambda passed: passed > limit and program.last_seq() > 0)
        if begun.hits(process, lambda: None):
            self.tally.kills["restore"] += 1
            return
        self.tally.restored += 1
        if process.wait() not in OWN:
            raise Lost(f"restore: exit {process.returncode}: {program.last_words()}")
        self.whole_s = self.whole_s or time.monotonic() - began

    def _roll_back(self, program: Program) -> None:
        words = ("rollback", "--target", self.target.uri)
        for _ in range(self.rng.randrange(3)):
            process = program.begin(*words)
            if at_second(self.rng.uniform(0.1, max(1.0, self.whole_s))).hits(process, lambda: None):
                self.tally.kills["rollback"] += 1
            elif process.wait() == 0:
                return
        done = program.ended(*words)
        if done.returncode:
            refused = "rolled back already" in done.stderr
            if not refused:
                raise Lost(f"rollback: exit {done.returncode}: {done.stderr[-1500:]}")

    def _judge(self, program: Program, number: int) -> None:
        seen = program.ended("inspect", "rollback", "--json")
        report = json.loads(seen.stdout)
        self.tally.undos += report["undone"]
        self.tally.documents += sum(each["documents"] for each in report["undos"])
        if report["status"] != "rolled_back" or report["kept"] or report["skipped"]:
            told = {name: report[name] for name in ("status", "kept", "skipped")}
            self.tally.wrong.append(f"run {number}: {told}")
        self.tally.wrong += [f"run {number}: {each}" for each in report["order"]]


def trial(source: Server, target: Server, folder: Path, size: Size, runs: int, seed: int) -> Tally:
    """Both servers empty. Raises `Lost`."""
    fill_source(source.uri, size, seed)
    dumping = Program(folder / "dump")
    dumping("dump", "--source", source.uri, "--out", folder / "data", "--chunk-docs", "5000")
    fill_target(target.uri, size, seed)
    before = state_of(target.uri)
    tally = Tally()
    one = Trial(target, folder / "data", folder, Random(seed), size, tally)
    for number in range(runs):
        one.run(number, before)
        if tally.wrong:
            break
    return tally


def main() -> int:
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--runs", type=int, default=50)
    ask.add_argument("--collections", type=int, default=12)
    ask.add_argument("--documents", type=int, default=20_000)
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    size = Size(given.collections, given.documents)
    with tempfile.TemporaryDirectory(prefix="ferrylog-rollbacks-") as scratch:
        folder = Path(scratch)
        with (
            Mongod(folder / "a") as source,
            Mongod(folder / "b", name="rs1", options=IMPATIENT) as target,
        ):
            tally = trial(source, target, folder / "work", size, given.runs, given.seed)
    sys.stdout.write(json.dumps(tally.told(), indent=1) + "\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
