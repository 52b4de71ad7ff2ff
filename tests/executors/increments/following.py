"""What tests of following share: a job that follows one server with another, somebody who changes
the source in any way, and what a server holds, read by nothing of the program."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from executors.increments.follow import Follower, settle_followed
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.stimuli import Followed, Settled
from statemachine.words import THE_JOB, TaskKey, TaskKind
from tests.conftest import OWN, Pair
from tests.executors.examples import RAW, spec

ROUND_MS = 200


class Killed(BaseException):
    """The process is gone, in the midst of a round."""


class Bench:
    """Two servers, and a job that follows one with the other."""

    def __init__(self, pair: Pair, **changes: Any) -> None:
        self.source, self.target = pair.source_client, pair.target_client
        asked = {"kind": "migrate", "follow": True, "metadata": True, "include": (), **changes}
        self.spec: JobSpec = spec(**{"exclude": (), "write_concern": "majority", **asked})
        self.stop = threading.Event()
        self.since = time_of(self.source)
        self.token = ""
        self.rounds: list[Followed] = []
        self.follower = self.anew()

    def anew(self) -> Follower:
        """As a process that begins."""
        self.follower = Follower(self.source, self.target, self.spec)
        return self.follower

    def round(self, *, cutover: bool = False, ms: int = ROUND_MS) -> Followed:
        effect = Effect(
            task=TaskKey(TaskKind.FOLLOW, THE_JOB),
            attempt=1,
            epoch=1,
            unit=None,
            since=self.since,
            token=self.token,
            follow_ms=ms,
            cutover=cutover,
        )
        followed = self.follower.round(effect, self.stop)
        self.token = followed.token
        self.rounds.append(followed)
        return followed

    def drain(self) -> list[str]:
        """Until everything is there; what was told."""
        first = len(self.rounds)
        while not self.round(cutover=True).drained:
            assert len(self.rounds) - first < 500
        return [change for each in self.rounds[first:] for change in each.changes]

    def settle(self) -> Settled:
        return settle_followed(self.source, self.target, self.spec, self.stop)

    def must_be_alike(self, rename: Callable[[str], str] = lambda name: name) -> None:
        wanted = {rename(name): what for name, what in held(self.source).items()}
        found = held(self.target)
        assert sorted(found) == sorted(wanted)
        for name, what in wanted.items():
            for one, other in zip(what, found[name], strict=True):
                assert one == other, name


def time_of(client: MongoClient[Any]) -> str:
    time_now = client.admin.command("ping")["operationTime"]
    return f"{time_now.time}.{time_now.inc}"


def held(client: MongoClient[Any]) -> dict[str, tuple[Any, ...]]:
    """Everything of users: type, options, indexes and documents by name."""
    every = {}
    for database in client.list_database_names():
        db = client.get_database(database, codec_options=RAW)
        for entry in client[database].list_collections() if database not in OWN else ():
            name = entry["name"]
            options = {"validationLevel": "strict", "validationAction": "error", **entry["options"]}
            if name.startswith("system.") and name != "system.js":
                continue
            indexes, documents = {}, {}
            if entry["type"] == "collection":
                indexes = {each["name"]: each.to_dict() for each in db[name].list_indexes()}
                documents = {
                    bytes(
                        each["_id"].raw
                        if isinstance(each["_id"], RawBSONDocument)
                        else bson.encode({"_id": each["_id"]})
                    ): bytes(each.raw)
                    for each in db[name].find()
                }
            every[f"{database}.{name}"] = (entry["type"], options, indexes, documents)
    return every


class Writer:
    """Changes a source in any way, one after another, by a seed."""

    def __init__(self, client: MongoClient[Any], seed: int) -> None:
        self.client, self.shop = client, client.shop
        self.random = random.Random(seed)
        self.done: list[str] = []

    def some(self, count: int) -> None:
        every = (
            *[self.insert] * 8, *[self.update] * 8, *[self.delete] * 3, *[self.swap] * 4,
            self.create, self.drop, self.rename, self.again, self.index, self.index,
            self.unindex, self.modify, self.out, self.view, self.transaction,
        )  # fmt: skip
        for _ in range(count):
            act = self.random.choice(every)
            with suppress(PyMongoError):
                act()
                self.done.append(act.__name__)

    def name(self) -> str:
        return self.random.choice("abcd")

    def any(self) -> Any:
        return self.shop[self.name()]

    def insert(self) -> None:
        ids = self.random.sample(range(60), 10)
        documents = [{"_id": n, "x": self.random.randrange(80), "n": n} for n in ids]
        with suppress(PyMongoError):
            self.any().insert_many(documents, ordered=False)

    def update(self) -> None:
        some = {"_id": {"$gte": self.random.randrange(60)}}
        self.any().update_many(some, {"$inc": {"n": 1}, "$set": {"s": self.random.random()}})

    def delete(self) -> None:
        self.any().delete_many({"_id": {"$gte": self.random.randrange(60)}})

    def swap(self) -> None:
        """Unique values change places."""
        one, other = self.random.sample(range(60), 2)
        where = self.any()
        found = {each["_id"]: each for each in where.find({"_id": {"$in": [one, other]}})}
        if len(found) == 2:
            where.update_one({"_id": one}, {"$set": {"x": 1000 + one}})
            where.update_one({"_id": other}, {"$set": {"x": found[one].get("x")}})
            where.update_one({"_id": one}, {"$set": {"x": found[other].get("x")}})

    def create(self) -> None:
        self.shop.create_collection(self.name(), validator={"x": {"$ne": "never"}})

    def drop(self) -> None:
        self.any().drop()

    def rename(self) -> None:
        self.any().rename(self.name(), dropTarget=self.random.random() < 0.5)

    def again(self) -> None:
        where = self.any()
        where.drop()
        where.insert_many([{"_id": n, "again": self.random.random()} for n in range(20)])

    def index(self) -> None:
        way = self.random.choice([{"unique": True}, {}, {"expireAfterSeconds": 10_000}])
        field = "t" if "expireAfterSeconds" in way else self.random.choice(["x", "n"])
        sparse = {"sparse": True} if "unique" in way else {}
        self.any().create_index(field, **way, **sparse)

    def unindex(self) -> None:
        self.any().drop_index(self.random.choice(["x_1", "n_1", "t_1"]))

    def modify(self) -> None:
        level = self.random.choice(["strict", "moderate"])
        self.shop.command("collMod", self.name(), validationLevel=level)

    def out(self) -> None:
        self.any().aggregate([{"$match": {"_id": {"$lt": 30}}}, {"$out": self.name()}])

    def view(self) -> None:
        name = self.random.choice(["v", "w", self.name()])
        if self.random.random() < 0.5:
            self.shop.create_collection(name, viewOn=self.name(), pipeline=[])
        else:
            self.shop.v.drop()

    def transaction(self) -> None:
        with self.client.start_session() as session, session.start_transaction():
            for _ in range(5):
                where, key = self.any(), self.random.randrange(60)
                where.update_one({"_id": key}, {"$inc": {"n": 100}}, session=session, upsert=True)


@contextmanager
def writing(writer: Writer, count: int) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=writer.some, args=(count,))
    thread.start()
    yield thread
    thread.join()


def copied(bench: Bench) -> None:
    """The copy that comes first, of what is there by then."""
    for name, (kind, options, _, documents) in held(bench.source).items():
        if kind == "collection":
            database, _, collection = name.partition(".")
            there = bench.target[database].create_collection(collection, **options)
            for document in documents.values():
                there.insert_one(RawBSONDocument(document))
