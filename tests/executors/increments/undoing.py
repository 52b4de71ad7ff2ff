"""What tests of taking increments back share: a target that follows a source, and goes back."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bson

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
from tests.executors.examples import Client, Looks
from tests.executors.increments.growing import (
    JOB,
    RUN,
    SPEC,
    Growing,
    mark,
    restore,
    said,
)

UNDOABLE = SPEC.model_copy(update={"undo": True, "write_concern": "majority", "verify": False})
Stops = Callable[[int], Any]
"""A stop token for each attempt."""
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

    def link(self, stop: Stops | None = None) -> None:
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
        stop: Stops | None,
        act: Callable[[Any, list[Ahead | None]], Any],
    ) -> None:
        task = TaskKey(kind, entity)
        self.started.append(task)
        for number in range(40):
            with ExitStack() as stack, suppress(Stopped):
                keys = [task, moved_by(ShardId(entity))]
                logs = [self._log(key, stack) for key in keys]
                act(stop(number) if stop else RUN, logs)
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

    def back(self, stop: Stops | None = None) -> list[Undone]:
        """Undo the last link; each undo is stopped and repeated, if `stop` says so."""
        number = len(self.worlds)
        told = []
        while self.started and self.started[-1].entity.partition("#")[0] == link_entity(number):
            task = self.started.pop()
            done = None
            for attempt in range(40):
                with suppress(Stopped):
                    done = self.undo(task, stop(attempt) if stop else RUN)
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


def stops(number: int) -> Looks:
    """Later with each attempt."""
    return Looks(number * number)
