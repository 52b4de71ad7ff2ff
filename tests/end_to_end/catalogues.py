"""Changes of the catalogue of a source, one at a time, and the diary of them."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.end_to_end import snapshots
from tests.end_to_end.stock import Document, document

REFUSED = (11000, 121, 175, 26, 59, 73, 112, 133, 246, 251)
"""What a catalogue that changes, a validator or a unique index does to a writer: duplicate key,
validation, plan killed, no such namespace, invalid namespace, conflict, snapshot, transaction."""


class Catalogue:
    """Changes collections and indexes, one at a time, and keeps the diary."""

    def __init__(
        self, uri: str, every_s: float, seed: int, volatile: threading.Lock, diary: Path | None
    ) -> None:
        self.pause = threading.Lock()
        """Held while a change is under way."""
        self.only_mild = False
        """Whether renames and drops wait."""
        self.counts: Counter[str] = Counter()
        self._client: MongoClient[Document] = MongoClient(uri)
        self._rng = Random(f"{seed}/catalogue")
        self._every_s = every_s
        self._volatile = volatile
        self._diary = diary.open("a") if diary else None
        self._ddl = self._client["ddl"]
        self._shop = self._client["shop"]
        self._note("at first", self._now(), lambda: None)

    def run(self, stop: threading.Event) -> None:
        mild = (self._index, self._index, self._options, self._option_of_small, self._create)
        harsh = (self._rotate, self._again, self._rename_away, self._drop, self._unique)
        while not stop.wait(self._every_s * self._rng.uniform(0.5, 1.5)):
            with self.pause:
                self._change(mild if self.only_mild or self._rng.random() < 0.5 else harsh)

    def _change(self, some: Sequence[Callable[[], None]]) -> None:
        with self._volatile:
            self._rng.choice(some)()

    def close(self) -> None:
        self._client.close()
        if self._diary:
            self._diary.close()

    # --- one by one

    def _index(self) -> None:
        of = self._client["depot"]["parcels"] if self._rng.random() < 0.3 else self._shop["orders"]
        keys = self._rng.choice(("total", "tags", "address.city", "when"))
        name = f"{keys} again"
        if name in of.index_information():
            self._do("drop index", lambda: of.drop_index(name))
        else:
            self._do("create index", lambda: of.create_index(keys, name=name))

    def _options(self) -> None:
        """Documents that were there may violate the new rule."""
        rule = {"state": {"$ne": self._rng.randrange(8)}}
        level = self._rng.choice(("strict", "moderate", "off"))
        self._do(
            "options",
            lambda: self._shop.command(
                "collMod", "customers", validator=rule, validationLevel=level
            ),
        )

    def _option_of_small(self) -> None:
        name = self._some()
        size = self._rng.choice((True, False))
        self._do(
            "options",
            lambda: self._ddl.command(
                "collMod", name, changeStreamPreAndPostImages={"enabled": size}
            ),
        )

    def _create(self) -> None:
        name = f"new{self._rng.randrange(10**6)}"
        if self._rng.random() < 0.3:
            rule = [{"$match": {"state": self._rng.randrange(8)}}]
            self._do(
                "view", lambda: self._ddl.create_collection(name, viewOn="alpha", pipeline=rule)
            )
            return
        collation = self._rng.choice((None, {"locale": "en", "strength": 2}))
        more: dict[str, Any] = {"collation": collation} if collation else {}
        self._do("create", lambda: self._ddl.create_collection(name, **more))
        some = [document("ddl", n, self._rng) for n in range(self._rng.randrange(200))]
        if some:
            self._ddl[name].insert_many(some)
            self._do("create index", lambda: self._ddl[name].create_index("n", unique=True))

    def _rotate(self) -> None:
        """alpha <-> beta, as a chain of renames."""
        for one, other in (("alpha", "spare"), ("beta", "alpha"), ("spare", "beta")):
            self._do("rename", partial(self._ddl[one].rename, other))

    def _again(self) -> None:
        """Dropped, and created again under the same name, sometimes by an insert alone."""
        name = self._rng.choice(("gamma", "delta"))
        self._do("drop", self._ddl[name].drop)
        some = [document("ddl", n, self._rng) for n in range(self._rng.randrange(1, 300))]
        if self._rng.random() < 0.5:
            self._do("create", lambda: self._ddl.create_collection(name))
            self._ddl[name].insert_many(some)
        else:
            self._do("create by insert", lambda: self._ddl[name].insert_many(some))

    def _rename_away(self) -> None:
        """One takes the name of another, which is dropped so."""
        some = [each for each in self._names() if each.startswith("new")]
        if len(some) < 2:
            return self._create()
        one, other = self._rng.sample(some, 2)
        return self._do("rename over", lambda: self._ddl[one].rename(other, dropTarget=True))

    def _drop(self) -> None:
        some = [
            each["name"] for each in self._ddl.list_collections() if each["name"].startswith("new")
        ]
        if len(some) > 6:
            self._do("drop", self._ddl[self._rng.choice(some)].drop)
        else:
            self._create()

    def _unique(self) -> None:
        """What was there twice goes, and what stays is unique from then on; or no longer."""
        of = self._ddl["delta"]
        if "once" in of.index_information():
            self._do("drop index", lambda: of.drop_index("once"))
            of.update_many({}, {"$set": {"once": 7}})
        else:
            for each in of.find({}, {"_id": 1}):
                of.update_one(each, {"$set": {"once": each["_id"]}})
            self._do(
                "create index",
                lambda: of.create_index("once", name="once", unique=True, sparse=True),
            )

    def _some(self) -> str:
        return self._rng.choice(("alpha", "beta"))

    def _names(self) -> list[str]:
        there = self._ddl.list_collections(filter={"type": "collection"})
        return [each["name"] for each in there]

    # --- the diary

    def _do(self, what: str, how: Callable[[], object]) -> None:
        try:
            self._note(what, self._now(), how)
            self.counts[what] += 1
        except OperationFailure as error:
            if error.code not in {*REFUSED, 27, 48}:
                raise
            self.counts[f"{what} refused"] += 1

    def _now(self) -> Timestamp:
        time_: Timestamp = self._client.admin.command("ping")["operationTime"]
        return time_

    def _note(self, what: str, before: Timestamp, how: Callable[[], object]) -> None:
        how()
        if self._diary is None:
            return
        now = self._client.local["oplog.rs"].find(
            {
                "ts": {"$gt": before, "$lte": self._now()},
                "op": "c",
                "o.applyOps": {"$exists": False},
            },
            {"ts": 1},
        )
        times = [each["ts"] for each in now] or [before]
        entry = {
            "what": what,
            "first": f"{times[0].time}.{times[0].inc}",
            "last": f"{times[-1].time}.{times[-1].inc}",
            "catalogue": snapshots.catalogue(self._client),
        }
        self._diary.write(json.dumps(entry) + "\n")
        self._diary.flush()
