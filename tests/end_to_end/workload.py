"""A writer against a source: so many changes a second of every kind, and changes of the catalogue.

    python -m tests.end_to_end.workload --uri URI --load 200000 --rate 1000 --seconds 60 --seed 1

Prints what it did as JSON and ends, after so many seconds or with SIGTERM. It is the only one that
changes the catalogue, one change at a time, and keeps a diary of it (`--diary FILE`): each line
holds the change, its place in the oplog and the whole catalogue behind it. With `--control` it
takes words on standard input and answers each with a line: `hold` (renames and drops wait), `rest`
(everything waits), `go`, `counts`, `stop`. An answer to `hold` or `rest` says that nothing of the
kind is under way.

Two at once may write to one source, for more changes: the second with `--no-ddl --share 1`.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from pymongo import DeleteOne, InsertOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from tests.end_to_end.catalogues import REFUSED, Catalogue
from tests.end_to_end.stock import (
    BIG_SHARES,
    SMALL_SHARES,
    VOLATILE,
    Document,
    change,
    counts_of,
    document,
    id_of,
    load,
    reading,
)

TICK_S = 0.05
LARGE = 3_000
"""Documents of a large transaction."""
LARGE_EVERY_S = 15.0
STRIDE = 7_919
"""Coprime to every number of keys: who walks in such steps comes by all of them."""
# --- documents change -------------------------------------------------------------------------


@dataclass
class Range:
    """The numbers of one collection's documents."""

    name: str
    low: int
    count: int
    step: int = 0

    def next(self, rng: Random) -> int:
        """Mostly one that was not touched for long; sometimes one of the hot ones."""
        if rng.random() < 0.1:
            return self.low + rng.randrange(max(1, self.count // 100))
        self.step += 1
        return self.low + self.step * STRIDE % self.count

    def new(self) -> int:
        self.count += 1
        return self.low + self.count - 1


class Writer:
    """Changes documents at a pace, in one thread."""

    def __init__(self, uri: str, rate: int, seed: int, *, share: int, documents: int) -> None:
        """`share`: which of several writers; each has its own new numbers."""
        self.counts: Counter[str] = Counter()
        self.pause = threading.Lock()
        """Held while it writes a batch."""
        self.volatile = threading.Lock()
        """Held while one of those collections changes its name, or its documents are written."""
        self._client: MongoClient[Document] = MongoClient(uri)
        self._rng = Random(f"{seed}/{share}")
        self._rate = rate
        self._share = share
        loaded = counts_of(documents)
        low = share * 10**7
        self._ranges = [Range(name, low, 1 if share else n) for name, n in loaded.items()]
        self._weights = list((BIG_SHARES | SMALL_SHARES).values())
        self._large_at = time.monotonic() + LARGE_EVERY_S / 2
        self._readings = 200

    def run(self, stop: threading.Event) -> None:
        began = time.monotonic()
        while not stop.is_set():
            with self.pause:
                self._batch(max(1, int(self._rate * TICK_S)))
            ahead = began + self.counts["changes"] / self._rate - time.monotonic()
            if ahead < -2:  # held back, or the source is slow: that is not to be caught up with
                began -= ahead
            stop.wait(max(0.0, ahead))

    def _batch(self, size: int) -> None:
        chosen = self._rng.choices(self._ranges, self._weights)[0]
        lot = self._rng.random()
        if time.monotonic() > self._large_at:
            self._large_at = time.monotonic() + LARGE_EVERY_S
            self._transaction(min(LARGE, chosen.count // 2))
        elif lot < 0.06:
            self._swap()
        elif lot < 0.14:
            self._transaction(size)
        elif lot < 0.2 and not self._share:
            self._write_volatile(size)
        elif lot < 0.22 and not self._share:
            self._write_readings()
        else:
            self._bulk(chosen.name, [self._operation(chosen) for _ in range(size)])

    def _operation(self, of: Range) -> Any:
        rng, name = self._rng, of.name
        lot = rng.random()
        if lot < 0.12:
            return InsertOne(document(name, of.new(), rng))
        n = of.next(rng)
        key = {"_id": id_of(name, n, rng)}
        if lot < 0.6:
            return UpdateOne(key, change(n, rng))
        if lot < 0.75:
            new = _without_id(document(name, n, rng))
            if name == "odd.names":  # a plain replacement may not have such names
                return UpdateOne(key, [{"$replaceWith": {"$literal": new | key}}])
            return ReplaceOne(key, new)
        if lot < 0.88:
            return DeleteOne(key)
        new = document(name, n, rng)
        if lot < 0.94 or name == "odd.names":  # its names are none for an operator
            return InsertOne(new)  # again, where it was deleted
        return UpdateOne(key, {"$set": _without_id(new)}, upsert=True)

    def _bulk(self, name: str, operations: Sequence[Any]) -> None:
        try:
            done = self._of(name).bulk_write(operations, ordered=False)
            _took(self.counts, done.bulk_api_result)
        except BulkWriteError as error:
            details: Any = error.details or {}
            _took(self.counts, details)
            wrong = [each["code"] for each in details["writeErrors"]]
            self.counts["refused"] += len(wrong)
            if strange := set(wrong) - {*REFUSED}:
                raise AssertionError(f"refused with {strange}") from error

    def _of(self, name: str) -> Any:
        database, _, collection = name.partition(".")
        return self._client[database][collection]

    def _transaction(self, size: int) -> None:
        """Over three collections; one in ten is aborted."""
        some = self._rng.sample(self._ranges[:4], 3)
        each = max(1, size // 3)
        plan = [(of.name, [self._careful(of) for _ in range(each)]) for of in some]
        found: Counter[str] = Counter(transactions=1)
        with self._client.start_session() as session, _may_be_refused(self.counts):
            session.start_transaction()
            for name, operations in plan:
                done = self._of(name).bulk_write(
                    operations, session=session, bypass_document_validation=True
                )
                _took(found, done.bulk_api_result)
            if self._rng.random() < 0.1:
                session.abort_transaction()
            else:
                session.commit_transaction()
                self.counts += found

    def _careful(self, of: Range) -> Any:
        """An operation that no other one makes impossible."""
        n = of.next(self._rng)
        key = {"_id": id_of(of.name, n, self._rng)}
        lot = self._rng.random()
        if lot < 0.2:
            return DeleteOne(key)
        if lot < 0.4:
            return InsertOne(document(of.name, of.new(), self._rng))
        return UpdateOne(key, change(n, self._rng))

    def _swap(self) -> None:
        """Two or three customers exchange what is unique: at the end, each has another's."""
        customers = self._client["shop"]["customers"]
        rng, of = self._rng, self._ranges[1]
        keys = {id_of(of.name, of.next(rng), rng) for _ in range(rng.choice((2, 2, 3)))}
        found = list(customers.find({"_id": {"$in": [*keys]}}, {"mail": 1}))
        if len(found) < 2:
            return
        with self._client.start_session() as session, _may_be_refused(self.counts):
            with session.start_transaction():
                for one in found:
                    parked = {"$set": {"mail": f"parked {one['_id']}"}}
                    customers.update_one({"_id": one["_id"]}, parked, session=session)
                for one, other in zip(found, [*found[1:], found[0]], strict=True):
                    taken = {"$set": {"mail": other["mail"]}}
                    customers.update_one({"_id": one["_id"]}, taken, session=session)
            self.counts["swaps"] += 1
            self.counts["changes"] += len(found)

    def _write_volatile(self, size: int) -> None:
        rng = self._rng
        with self.volatile:
            there = set(self._client["ddl"].list_collection_names())
            name = rng.choice(VOLATILE)
            if name.partition(".")[2] not in there:
                return
            some: list[Any] = []
            for _ in range(size):
                n = rng.randrange(2_000)
                new = _without_id(document(name, n, rng))
                some += [ReplaceOne({"_id": n}, new, upsert=True)]
                some += [DeleteOne({"_id": rng.randrange(2_000)})] * (rng.random() < 0.4)
            self._bulk(name, some)

    def _write_readings(self) -> None:
        some = [reading(self._readings + n, self._rng) for n in range(5)]
        self._readings += 5
        self._client["depot"]["readings"].insert_many(some)
        self.counts["readings"] += 5

    def close(self) -> None:
        self._client.close()


def _without_id(made: Document) -> Document:
    return {name: value for name, value in made.items() if name != "_id"}


def _took(counts: Counter[str], result: Mapping[str, Any]) -> None:
    names = {"nInserted": "inserted", "nModified": "updated", "nRemoved": "deleted"}
    for theirs, mine in (names | {"nUpserted": "upserted"}).items():
        counts[mine] += result[theirs]
        counts["changes"] += result[theirs]


@contextmanager
def _may_be_refused(counts: Counter[str]) -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:  # `BulkWriteError` too
        codes = {error.code}
        if isinstance(error, BulkWriteError) and error.details:
            codes |= {each["code"] for each in error.details["writeErrors"]}
        if not codes & {*REFUSED} and not error.has_error_label("TransientTransactionError"):
            raise
        counts["transactions refused"] += 1


# --- a process of its own ---------------------------------------------------------------------


class Workload:
    """Both, in threads; an error in one ends the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._writer = Writer(
            options.uri,
            options.rate,
            options.seed,
            share=options.share,
            documents=options.documents,
        )
        self._catalogue: Catalogue | None = None
        if not options.no_ddl:
            self._catalogue = Catalogue(
                options.uri, options.ddl_every, options.seed, self._writer.volatile, options.diary
            )
        self._resting: list[threading.Lock] = []

    def run(self, seconds: float) -> None:
        """Returns after so many seconds, or when it is stopped. Raises what a thread raised."""
        runs = [each.run for each in (self._writer, self._catalogue) if each]
        threads = [threading.Thread(target=self._guard, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        self._stop.wait(seconds)
        self.stop()
        for thread in threads:
            thread.join()
        self._writer.close()
        if self._catalogue:
            self._catalogue.close()
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        self._stop.set()
        self.go()

    def obey(self) -> None:
        """Words on standard input, each answered; its end is a `stop`."""
        words = {"hold": self.hold, "rest": self.rest, "go": self.go, "stop": self.stop}
        for line in sys.stdin:
            words.get(line.strip(), lambda: None)()
            print(json.dumps(self.counts()), flush=True)
            if self._stop.is_set():
                return
        self.stop()

    def hold(self) -> None:
        if self._catalogue:
            self._catalogue.only_mild = True
            with self._catalogue.pause:  # what was under way is over
                pass

    def rest(self) -> None:
        if not self._resting:
            self._resting = [each.pause for each in (self._writer, self._catalogue) if each]
            for lock in self._resting:
                lock.acquire()

    def go(self) -> None:
        while self._resting:
            self._resting.pop().release()
        if self._catalogue:
            self._catalogue.only_mild = False

    def counts(self) -> dict[str, int]:
        return {**self._writer.counts, **(self._catalogue.counts if self._catalogue else {})}

    def _guard(self, run: Callable[[threading.Event], None]) -> None:
        try:
            run(self._stop)
        except Exception as error:  # noqa: BLE001 — raised again in `run`
            self._errors.append(error)
            self._stop.set()


def main() -> None:
    options = _options()
    if options.load:
        load(options.uri, options.documents, options.seed)
    work = Workload(options)
    signal.signal(signal.SIGTERM, lambda *_: work.stop())
    if options.control:
        threading.Thread(target=work.obey, daemon=True).start()
    began = time.monotonic()
    work.run(options.seconds)
    told = {**work.counts(), "seconds": round(time.monotonic() - began, 1)}
    if not options.control:
        print(json.dumps(told))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uri", required=True)
    parser.add_argument("--documents", type=int, default=200_000, help="as many lie there")
    parser.add_argument("--load", action="store_true", help="put them there first")
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--no-ddl", action="store_true")
    parser.add_argument("--ddl-every", type=float, default=1.5)
    parser.add_argument("--diary", type=Path)
    parser.add_argument("--control", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
