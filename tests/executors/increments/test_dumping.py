"""What changed, to chunk files: exactly the difference of two states of a source (I33)."""

import random
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from executors.boundaries import from_key, to_text
from executors.chunkfile import read_blocks
from executors.classify import classify
from executors.increments.dumping import dump_changed, is_changed, plan_changed
from executors.increments.errors import DamagedKeys
from executors.increments.keyorder import order
from executors.increments.keys import ChangedKeys
from executors.increments.model import Making, Parent
from executors.increments.row import is_erased, key_of
from executors.rawbson import documents, equals_query, id_of
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Dumped, Planned, PlannedFiles
from statemachine.words import ChunkId
from tests.conftest import Pair
from tests.executors.examples import Client, plain_unit, spec, there, unit_of
from tests.executors.increments.test_lookup import KINDS, every_kind, fill, now

pytestmark = pytest.mark.server
SPEC = spec(chunk_docs=40, compression="zstd")


@dataclass
class Work:
    """A collection whose changes are recorded, and the increment that is made of them."""

    client: Client
    making: Making
    unit: Unit

    def changed(self, *keys: bytes) -> None:
        with ChangedKeys(self.making.keys, 1 << 20) as database:
            database.add((self.unit.uuid, key) for key in keys)
            database.flush()

    def dump(self, until: str, attempt: int = 1, **asked: Any) -> list[Dumped]:
        """All chunks of the plan."""
        wanted = SPEC.model_copy(update=asked)
        planned = plan_changed(self.making, self.unit, wanted)
        if isinstance(planned, PlannedFiles):
            assert planned.files == ()
            return []
        edges = [None, *planned.boundaries, None]
        how: dict[str, Any] = {"read_preference": "primary", "cluster_time": until}
        done = []
        for n in range(len(edges) - 1):
            number = ChunkId(f"{self.unit.id}#{n}")
            chunk = Chunk(number, self.unit.id, edges[n], edges[n + 1], 0, natural=False)
            args = (self.client, self.unit, chunk, wanted, self.making, attempt, threading.Event())
            done.append(dump_changed(*args, **how))
        return done

    def rows(self, done: list[Dumped]) -> list[bytes]:
        """In order, and as many as is said."""
        found: list[bytes] = []
        for each in done:
            blocks = [block for block, _ in read_blocks(self.making.folder / each.file)]
            rows = [row for block in blocks for row in documents(block.data)]
            assert len(rows) == sum(block.documents for block in blocks)
            assert (each.documents, each.erased) == counts(rows)
            assert (each.bytes, each.blocks) == (sum(map(len, rows)), len(blocks))
            found += rows
        keys = [order(key_of(row)) for row in found]
        assert keys == sorted(set(keys))
        return found


def counts(rows: list[bytes]) -> tuple[int, int]:
    erased = sum(map(is_erased, rows))
    return len(rows) - erased, erased


def applied(before: list[bytes], rows: list[bytes]) -> dict[bytes, bytes]:
    """The state after the rows, by key."""
    state = {order(id_of(document)): document for document in before}
    for row in rows:
        state.pop(order(key_of(row)), None)
        if not is_erased(row):
            state[order(key_of(row))] = row
    return state


def by_key(state: list[bytes]) -> dict[bytes, bytes]:
    return {order(id_of(document)): document for document in state}


@pytest.fixture
def work(pair: Pair, tmp_path: Path) -> Work:
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(100)])
    return work_on(pair.source_client, tmp_path)


def work_on(client: Client, folder: Path) -> Work:
    unit = unit_of(client)
    (folder / "0001").mkdir()
    parent = Parent(0, "d", "d", "1.1", "", frozenset([unit.uuid]))
    making = Making(parent, folder / "0001", folder / "keys.db")
    with ChangedKeys(making.keys, 1 << 20) as keys:
        keys.flush()
    return Work(client, making, unit)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_difference_of_two_states(pair: Pair, tmp_path: Path, kind: str) -> None:
    """I33: of every kind of key, with changes of every kind, while others go on: what is applied
    to the state before gives the state at `until`, to the byte."""
    client, chance = pair.source_client, random.Random(kind)
    client.shop.create_collection("c", **KINDS[kind])
    ids = every_kind(kind)
    chance.shuffle(ids)
    fill(client, ids[::2])
    before, work = there(client), work_on(client, tmp_path)
    touched: list[bytes] = []
    for number, document in enumerate(before):
        query = RawBSONDocument(equals_query(id_of(document)).raw)
        if number % 3 == 0:
            client.shop.c.delete_one(query)
        elif number % 3 == 1:
            client.shop.c.update_one(query, {"$set": {"v": number, "more": ["x" * number]}})
        else:
            continue
        touched.append(id_of(document))
    stored = fill(client, ids[1::2])
    touched += [key for key in stored if chance.random() < 0.9 or order(key) not in by_key(before)]
    until, state = now(client), there(client)
    work.changed(*touched)
    client.shop.c.update_many({}, {"$set": {"v": -1}})
    client.shop.c.delete_many({"_id": {"$type": "number"}})
    done = work.dump(until)
    assert len(done) > 2
    rows = work.rows(done)
    assert len(rows) == len({order(key) for key in touched})
    assert applied(before, rows) == by_key(state)
    assert applied(state, rows) == by_key(state)


def test_nothing_changed_nothing_is_planned(work: Work) -> None:
    assert plan_changed(work.making, work.unit, SPEC) == PlannedFiles(())
    assert work.dump(now(work.client)) == []


def test_chunks_are_cut_by_keys_and_by_what_they_weigh(work: Work) -> None:
    """A1: boundaries are keys that changed."""
    work.changed(*(bson.encode({"_id": n}) for n in range(100)))

    def planned(unit: Unit, **asked: Any) -> tuple[int, int]:
        found = plan_changed(work.making, unit, SPEC.model_copy(update=asked))
        assert isinstance(found, Planned)
        assert not found.natural
        assert all(order(bytes(from_key(key).raw)) for key in found.boundaries)
        return found.documents, len(found.boundaries)

    assert planned(work.unit) == (100, 2)
    assert planned(work.unit, chunk_docs=100) == (100, 0)
    heavy = replace(work.unit, documents_estimate=1000, bytes_estimate=1000 * 500)
    assert planned(heavy, chunk_docs=100, chunk_bytes=5000) == (100, 9)
    assert planned(heavy, chunk_docs=100, chunk_bytes=1) == (100, 99)


def test_which_units_are_dumped_by_their_changes(pair: Pair, tmp_path: Path) -> None:
    """All that the chain does not hold, or that no change stream speaks of, is dumped whole."""
    held = frozenset(["aa", "cc"])
    making = Making(Parent(0, "", "", "1.1", "", held), tmp_path, tmp_path / "keys.db")
    with ChangedKeys(making.keys, 1 << 20) as keys:
        keys.dropped("cc")
        keys.flush()
    assert not is_changed(making, plain_unit("shop.c", uuid="cc")), "made again under its UUID"
    assert is_changed(making, plain_unit("shop.c", uuid="aa"))
    assert not is_changed(making, plain_unit("shop.c", uuid="bb"))
    assert not is_changed(making, plain_unit("shop.v", uuid="", type="view"))
    assert not is_changed(making, plain_unit("shop.t", uuid="aa", type="timeseries"))
    for name in ("shop.system.js", "admin.system.users", "admin.c"):
        assert not is_changed(making, plain_unit(name, uuid="aa")), name


def test_a_number_written_in_another_way_is_the_same_key(work: Work) -> None:
    client = work.client
    client.shop.c.delete_many({"_id": {"$in": [1, 2]}})
    client.shop.c.insert_many([{"_id": 1.0}, {"_id": Decimal128("2")}])
    work.changed(*(bson.encode({"_id": each}) for each in (Int64(1), 1.0, 2)))
    rows = work.rows(work.dump(now(client)))
    assert rows == [bson.encode({"_id": 1.0}), bson.encode({"_id": Decimal128("2")})]


def test_of_a_query_what_fits_no_more_is_gone(work: Work) -> None:
    """It may have fitted when the chain began."""
    client = work.client
    client.shop.c.update_many({"_id": {"$lt": 5}}, {"$set": {"v": 1}})
    client.shop.c.update_many({"_id": {"$gte": 5, "$lt": 9}}, {"$set": {"v": 2}})
    work.changed(*(bson.encode({"_id": n}) for n in range(9)))
    done = work.dump(now(client), queries=(("shop.*", to_text(bson.encode({"v": 1}))),))
    assert [(each.documents, each.erased) for each in done] == [(5, 4)]
    assert [is_erased(row) for row in work.rows(done)] == [False] * 5 + [True] * 4


def test_documents_of_16_mib(work: Work) -> None:
    big = {"x": b"x" * ((16 << 20) - 60)}
    work.client.shop.c.delete_many({"_id": {"$lt": 2}})
    for n in range(2):  # a replacement of this size may not fit in a small, busy cache
        work.client.shop.c.insert_one({"_id": n, **big})
    work.changed(*(bson.encode({"_id": n}) for n in range(10)))
    done = work.dump(now(work.client), compression="none")
    assert [(each.documents, each.erased) for each in done] == [(10, 0)]
    assert work.rows(done) == there(work.client)[:10]


@pytest.mark.parametrize("change", ["rename", "drop", "swap"])
def test_a_collection_that_was_renamed_or_dropped_since(work: Work, change: str) -> None:
    """I32: no file, and the code that makes the job go on to a later time."""
    client = work.client
    work.changed(bson.encode({"_id": 1}))
    until = now(client)
    if change == "drop":
        client.shop.c.drop()
    else:
        client.shop.c.rename("d")
    if change == "swap":
        client.shop.c.insert_one({"_id": 1, "other": True})
    with pytest.raises(OperationFailure) as told:
        work.dump(until)
    assert classify(told.value)[1] == "ESNAP001"
    assert not list(work.making.folder.rglob("*.flb*"))


def test_a_later_time_replaces_the_file(work: Work) -> None:
    work.changed(bson.encode({"_id": 1}))
    first = work.dump(now(work.client))
    work.client.shop.c.delete_one({"_id": 1})
    second = work.dump(now(work.client))
    assert first[0].file == second[0].file == "shop.c/0-1.flb"
    assert [(each.documents, each.erased) for each in second] == [(0, 1)]
    assert counts(work.rows(second)) == (0, 1)
    third = work.dump(now(work.client), attempt=2)
    assert [path.name for path in (work.making.folder / "shop.c").iterdir()] == ["0-2.flb"]
    assert third[0].erased == 1


def test_without_the_keys_nothing_is_made_up(work: Work) -> None:
    """I32: an increment without its changes would look whole."""
    work.changed(bson.encode({"_id": 1}))
    work.making.keys.unlink()
    with pytest.raises(DamagedKeys):
        plan_changed(work.making, work.unit, SPEC)
    chunk = Chunk(ChunkId("shop.c#0"), work.unit.id, None, None, 0, natural=False)
    with pytest.raises(DamagedKeys):
        dump_changed(
            work.client,
            work.unit,
            chunk,
            SPEC,
            work.making,
            1,
            threading.Event(),
            read_preference="primary",
            cluster_time=now(work.client),
        )
    assert not list(work.making.folder.rglob("*.flb*"))
