"""Increments taken back link by link: the target is as of the link before (I40, M2, M9)."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.batches import RAW, Block
from executors.chunkfile import write_chunk_file
from executors.increments.ahead import Ahead, moved_by
from executors.increments.apply import apply
from executors.increments.catalogue import entries_of
from executors.increments.keyorder import order
from executors.increments.row import erased, key_of
from executors.increments.settling import settle
from executors.increments.shaping import shape
from executors.protocol import Stopped
from executors.rawbson import id_of
from executors.select import KEPT
from executors.source import data_of
from executors.undo.increments import undo_increment
from statemachine.events import JobSpec
from statemachine.state import Applied, ChunkFile, Shard, Undo
from statemachine.stimuli import Undone
from statemachine.words import ShardId, TaskKey, TaskKind, UnitType, link_entity
from tests.conftest import Pair
from tests.executors.examples import Client
from tests.executors.increments.growing import (
    JOB,
    RUN,
    SPEC,
    Growing,
    mark,
    rename,
    restore,
    said,
)

pytestmark = pytest.mark.server

UNDOABLE = SPEC.model_copy(update={"undo": True, "write_concern": "majority", "verify": False})
PARTS = 3
"""Shards of a collection."""


def documents(client: Client) -> dict[str, dict[bytes, bytes]]:
    """All documents of all collections, but for those put aside."""
    found: dict[str, dict[bytes, bytes]] = {}
    for name, (kind, _, _) in said(client).items():
        database, collection = data_of(name, kind)
        if kind != "view" and not collection.startswith(KEPT):
            reply = client[database].command(
                {"find": collection, "batchSize": 100_000}, codec_options=RAW
            )
            every = [bytes(each.raw) for each in reply["cursor"]["firstBatch"]]
            found[name] = {id_of(each): each for each in every}
    return found


def world(client: Client) -> Any:
    """All that can be told of a target: catalogue, documents, and the names of what stands."""
    catalogue = {name: each for name, each in said(client).items() if KEPT not in name}
    return catalogue, documents(client)


@dataclass
class Chained:
    """A source that changes, and a target that follows it link by link."""

    pair: Pair
    folder: Path
    growing: Growing
    spec: JobSpec = UNDOABLE
    known: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    """Documents as of the last link, by the collection's UUID."""
    started: list[TaskKey] = field(default_factory=list)
    worlds: list[Any] = field(default_factory=list)
    """The target before each link."""
    marks: list[Any] = field(default_factory=list)

    @property
    def target(self) -> Client:
        return self.pair.target_client

    def restore(self) -> None:
        """The full dump, with its documents."""
        restore(self.pair, self.growing.chain)
        for name, rows in documents(self.growing.client).items():
            for row in rows.values():
                bring(self.target, name, self._kinds()[name], row)
        self.known = self._by_uuid()

    def _kinds(self) -> dict[str, UnitType]:
        return {name: kind for name, (kind, _, _) in said(self.growing.client).items()}  # type: ignore[misc]

    def _by_uuid(self) -> dict[str, dict[bytes, bytes]]:
        found = documents(self.growing.client)
        last = self.growing.chain
        dump = last.increments[-1].dump if last.increments else last.base
        return {
            each.uuid: found[each.namespace] for each in dump.namespaces if each.namespace in found
        }

    def link(self, stop: Callable[[], Any] | None = None) -> None:
        """What changed on the source, to the target; `stop`: of each attempt, until one is over."""
        self.worlds.append(world(self.target))
        self.marks.append(mark(self.pair))
        number = self.growing.grow()
        self.attempt(TaskKind.SHAPE, link_entity(number), stop, lambda s, a: shape(
            self.target, self.spec, JOB, self.growing.chain, number, s, a[0]
        ))  # fmt: skip
        shards = list(self._shards(number))
        random.Random(number).shuffle(shards)
        for each in shards:
            self.attempt(TaskKind.APPLY, each.id, stop, lambda s, a, each=each: list(apply(
                self.target, each, self.spec, self.folder / each.file.name, s,
                unique=None, ahead=a[0], moved=a[1],
            )))  # fmt: skip
        self.attempt(TaskKind.SETTLE, link_entity(number), stop, lambda s, a: settle(
            self.target, self.spec, JOB, self.growing.chain, number, s, a[0], last=True
        ))  # fmt: skip
        self.known = self._by_uuid()
        assert world(self.target) == world(self.growing.client)

    def attempt(
        self,
        kind: TaskKind,
        entity: str,
        stop: Callable[[], Any] | None,
        act: Callable[[Any, list[Ahead | None]], Any],
    ) -> None:
        task = TaskKey(kind, entity)
        self.started.append(task)
        for _ in range(40):
            with ExitStack() as stack, suppress(Stopped):
                keys = [task, moved_by(ShardId(entity))]
                logs = [self._log(key, stack) for key in keys]
                act(stop() if stop else RUN, logs)
                return
        raise AssertionError("it never ends")

    def _log(self, task: TaskKey, stack: ExitStack) -> Ahead | None:
        return stack.enter_context(Ahead(self.folder, task)) if self.spec.undo else None

    def _shards(self, number: int) -> Iterator[Shard]:
        count = itertools.count()
        now = documents(self.growing.client)
        for each in entries_of(self.growing.chain.increments[-1].dump.namespaces, self.spec):
            if each.is_view:
                continue
            whole = each.dumped.whole
            before = {} if whole else self.known.get(each.dumped.uuid, {})
            after = now[each.dumped.namespace]
            changed = [row for key, row in after.items() if before.get(key) != row]
            rows = [*changed, *(erased(key) for key in before.keys() - after.keys())]
            rows.sort(key=lambda row: order(key_of(row)))
            size = len(rows) // PARTS + 1
            for at in range(0, len(rows), size):
                shard = f"link:{number}#{next(count)}"
                yield self._shard(shard, each.target, each.dumped.type, rows[at : at + size])

    def _shard(self, name: str, target: str, kind: UnitType, rows: list[bytes]) -> Shard:
        path = self.folder / f"{name.replace(':', '-').replace('#', '-')}.flb"
        blocks = (Block(b"".join(rows[at : at + 5]), len(rows[at : at + 5]))
                  for at in range(0, len(rows), 5))  # fmt: skip
        written = write_chunk_file(path, blocks, "zstd")
        sizes = (written.documents, written.bytes, written.file_bytes, written.sha256)
        file = ChunkFile(path.name, *sizes, place="dump")
        return Shard(ShardId(name), target, target, kind, None, None, file, Applied())

    # --- back ---

    def undo(self, task: TaskKey, stop: Any = RUN, *, force: bool = False) -> Undone:
        what = Undo(1, task.kind, task.entity)
        return undo_increment(self.target, self.spec, self.folder, what, stop, force=force)

    def back(self, stop: Callable[[], Any] | None = None) -> list[Undone]:
        """Undo the last link; each undo is stopped and repeated, if `stop` says so."""
        number = len(self.worlds)
        told = []
        while self.started and self.started[-1].entity.partition("#")[0] == link_entity(number):
            task = self.started.pop()
            done = None
            for _ in range(60):
                with suppress(Stopped):
                    done = self.undo(task, stop() if stop else RUN)
                    break
            assert done is not None, task
            told.append(done)
        return told

    def must_be_back(self) -> None:
        before, kept = self.worlds.pop(), self.marks.pop()
        found = world(self.target)
        assert found[0] == before[0]
        assert found[1] == before[1]
        assert mark(self.pair) == kept
        chain = self.growing.chain
        self.growing.chain = replace(chain, increments=chain.increments[:-1])


def bring(client: Client, name: str, kind: str, row: bytes) -> None:
    database, collection = data_of(name, kind)
    client[database].get_collection(collection).insert_one(bson.raw_bson.RawBSONDocument(row))


@pytest.fixture
def chained(pair: Pair, tmp_path: Path) -> Chained:
    db = pair.source_client.shop
    db.a.insert_many([{"_id": n, "e": n, "v": "old"} for n in range(60)])
    db.b.insert_many([{"_id": n, "v": "old"} for n in range(10)])
    db.c.insert_one({"_id": 1, "is": "c"})
    db.a.create_index("e", unique=True)
    db.a.create_index("v", hidden=True)
    db.b.create_index("at", expireAfterSeconds=10**6)
    db.command({"create": "w", "viewOn": "a", "pipeline": []})
    db.command({"create": "x", "viewOn": "b", "pipeline": []})
    folder = tmp_path / JOB
    folder.mkdir()
    chained = Chained(pair, folder, Growing(pair.source_client))
    chained.restore()
    return chained


def first(db: Any) -> None:
    """Documents of every fate, indexes, options, and a collection that is new."""
    db.a.delete_many({"_id": {"$lt": 10}})
    db.a.update_many({"_id": {"$gte": 20, "$lt": 40}}, {"$set": {"v": "new"}})
    db.a.insert_many([{"_id": n, "e": n, "v": "more"} for n in range(100, 130)])
    db.a.drop_index("v_1")
    db.a.create_index("w")
    db.command({"collMod": "b", "validator": {"v": {"$exists": True}}})
    db.command({"collMod": "b", "index": {"name": "at_1", "expireAfterSeconds": 20 * 10**5}})
    db.create_collection("d", collation={"locale": "de"})
    db.d.insert_many([{"_id": n} for n in range(7)])
    db.d.create_index("u", unique=True, sparse=True)


def second(db: Any) -> None:
    """Renames in a circle, a drop, unique values that move on, views."""
    for name, to in (("a", "tmp"), ("b", "a"), ("tmp", "b")):
        rename(db.client, name, to)
    db.c.drop()
    db.drop_collection("w")
    db.command({"collMod": "x", "viewOn": "b", "pipeline": [{"$match": {"v": "new"}}]})
    db.b.update_many({}, {"$inc": {"e": 1000}})
    for each in list(db.b.find({"_id": {"$gte": 20}})):
        db.b.update_one({"_id": each["_id"]}, {"$set": {"e": each["_id"] - 7}})
    db.a.drop_index("at_1")
    db.a.create_index("at", unique=True, sparse=True)


def third(db: Any) -> None:
    """What went comes again, empty or not; a collection is made anew under its old name."""
    db.c.insert_many([{"_id": n, "is": "another"} for n in range(3)])
    db.d.drop()
    db.d.insert_one({"_id": "other"})
    db.b.delete_many({})
    rename(db.client, "b", "z")
    db.command({"collMod": "a", "validator": {}})
    db.command({"create": "w", "viewOn": "c", "pipeline": []})


LINKS = (first, second, third)


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def grown(chained: Chained, stop: Callable[[], Any] | None = None) -> None:
    for change in LINKS:
        change(chained.growing.client.shop)
        chained.link(stop)


def test_link_by_link(chained: Chained) -> None:
    """I40: documents, indexes, options, names, the mark; nothing is reported as others'."""
    grown(chained)
    for _ in LINKS:
        told = chained.back()
        assert sum(each.kept for each in told) == 0, told
        chained.must_be_back()
    assert not [name for name in chained.target.shop.list_collection_names() if KEPT in name]
