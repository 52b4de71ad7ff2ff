"""Increment to target: for each key exactly the document, or nothing (I31, I33, Y12, Y15)."""

import os
import random
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.raw_bson import RawBSONDocument

from executors.boundaries import from_key
from executors.chunkfile import DamagedFile
from executors.increments.apply import Foreign, Target
from executors.increments.holders import Refused
from executors.increments.keyorder import order
from executors.increments.row import erased
from executors.protocol import Stopped
from executors.rawbson import id_of
from statemachine.state import Applied
from statemachine.stimuli import Applying
from tests.conftest import Pair
from tests.executors.bsons import IDS
from tests.executors.examples import Looks, fill, in_order, there
from tests.executors.increments.applying import (
    CASELESS,
    CHECKED,
    EMPTY,
    UNCHECKED,
    Bench,
    after,
    by_key,
    doc,
    gone,
    unique,
)

pytestmark = pytest.mark.server


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.target_client, tmp_path)


# --- each key becomes what its row says -----------------------------------------------------------


def test_changed_new_and_gone(bench: Bench) -> None:
    """I33: documents that are there, new ones, and keys without one, on both sides; twice."""
    fill(bench.client, [{"_id": n, "v": "old", "kept": n} for n in range(100)])
    rows = [doc(n, v="new") for n in range(50, 150, 2)] + [gone(n) for n in range(51, 151, 2)]
    first = bench.send(*rows)
    expected = [doc(n, v="old", kept=n) for n in range(50)]
    expected += [doc(n, v="new") for n in range(50, 150, 2)]
    assert bench.there() == expected
    assert (first.documents, first.erased) == (50, 50)
    assert first.bytes == sum(map(len, rows))
    assert bench.send(*rows) == first
    assert bench.there() == expected


def test_what_was_new_so_far_may_lie_there_later(bench: Bench) -> None:
    """I33: blocks of new documents, then of changed, odd and tied ones, and such that others stand
    in the way of; twice."""
    unique(bench, "e")
    fill(bench.client, [{"_id": n, "e": n} for n in range(20, 30)])
    rows = [doc(n, e=n) for n in range(20)]
    rows += [doc(float(n), e=n + 1) for n in range(20, 24)]
    rows += [doc(n, e=n + 1, at=EMPTY) for n in range(24, 30)]
    shard = bench.shard(*rows, block=5)
    for _ in range(2):
        list(bench.news(shard))
        assert bench.there() == rows


@pytest.mark.parametrize("kind", IDS)
def test_every_type_of_key(bench: Bench, kind: int) -> None:
    """I22, I33: new, changed, the same again, gone, gone again."""
    key = IDS[kind]
    changed = bson.encode(RawBSONDocument(key))[:-1] + b"\x10v\0\1\0\0\0\0"
    changed = struct.pack("<i", len(changed)) + changed[4:]
    for row in (key, changed, changed):
        bench.send(row)
        assert bench.there() == [row]
    for _ in range(2):
        assert bench.send(erased(key)).erased == 1
        assert bench.there() == []


ODD = {
    "dollars": doc(1, **{"$a": 1, "$set": {"x": 1}}),
    "dollars below": doc(1, a={"$set": 1, "b": {"$id": 1, "$ref": 2}}),
    "a reference at the top": doc(1, **{"$id": 1, "$ref": 2}),
    "dots": doc(1, **{"a.b": 1, "c": {"d.e": 1}, "": 2}),
    "empty timestamps": doc(1, a=EMPTY, b={"c": EMPTY}, d=[EMPTY]),
    "both": doc(1, **{"$a": EMPTY, "b.c": EMPTY}),
    "nothing": doc(1),
    "a name twice": bytes.fromhex("1a000000105f69640001000000106100010000001061000200000000"),
    "no UTF-8": in_order(_id=1, a="xy").replace(b"xy", b"\xff\xfe"),
}
ODD["a name twice"] = struct.pack("<i", len(ODD["a name twice"])) + ODD["a name twice"][4:]


@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
@pytest.mark.parametrize("before", [None, doc(1, v="old"), doc(1.0, a=1)], ids=["", "old", "tied"])
def test_odd_documents_to_the_byte(bench: Bench, row: bytes, before: bytes | None) -> None:
    """I22: as new ones and over others, beside plain ones."""
    if before:
        fill(bench.client, [RawBSONDocument(before)])
    for _ in range(2):
        bench.send(row, doc(0), doc(2))
        assert bench.there() == [doc(0), row, doc(2)]


def test_the_key_may_stand_further_back(bench: Bench) -> None:
    """A server puts it in front, whatever the source holds."""
    fill(bench.client, [{"_id": 1}])
    rows = [in_order(a=n, _id=n, b=2) for n in (1, 2)]
    bench.send(*rows)
    assert bench.there() == [in_order(_id=n, a=n, b=2) for n in (1, 2)]


TIED = [
    (doc(1, v=1), doc(1.0, v=2)),
    (doc(1.0, v=1), doc(Int64(1), v=1)),
    (doc(Decimal128("1.0"), v=1), doc(Decimal128("1.00"), v=1)),
    (doc(0, v=1), doc(-0.0, v=1)),
    (doc(Decimal128("NaN"), v=1), doc(float("nan"), v=1)),
    (doc({"a": 1}, v=1), doc({"a": 1.0}, v=1)),
]


@pytest.mark.parametrize(("before", "row"), TIED)
def test_numbers_of_other_types_are_one_key(bench: Bench, before: bytes, row: bytes) -> None:
    """I22: the new document's very bytes; what is gone is gone whatever its type."""
    fill(bench.client, [RawBSONDocument(before)])
    bench.send(row)
    assert bench.there() == [row]
    bench.send(erased(id_of(before)))
    assert bench.there() == []


@pytest.mark.parametrize("clustered", [False, True])
def test_values_that_look_like_operators(bench: Bench, clustered: bool) -> None:
    """Of documents that servers store; and keys that no server stores are gone already."""
    if clustered:
        key = {"key": {"_id": 1}, "unique": True}
        bench.client.shop.create_collection("c", clusteredIndex=key)
    reference = {"$ref": "a", "$id": 1}
    bench.send(doc(reference, v=1), doc({"a": reference}), gone({"$gt": 0}), doc(5))
    assert len(bench.there()) == 3
    bench.send(doc(reference, v=2), gone({"a": reference}), gone({"$in": [5]}))
    assert bench.there() == [doc(5), doc(reference, v=2)]
    bench.send(gone(reference))
    assert bench.there() == [doc(5)]


def test_validation_is_bypassed(bench: Bench) -> None:
    """Of new documents, changed ones, odd ones, and of those that others stood in the way of."""
    rule = {"$jsonSchema": {"required": ["never"]}}
    bench.client.shop.create_collection("c", validator=rule)
    bench.client.shop.c.create_index("e", unique=True)
    old = [{"_id": n, "e": n} for n in (1, 2, 3)]
    bench.client.shop.c.insert_many(old, bypass_document_validation=True)
    rows = [doc(1, e=2), doc(2, e=1), doc(3, e=EMPTY), doc(4, e=4)]
    bench.send(*rows)
    assert bench.there() == rows


def test_buckets_of_a_time_series(bench: Bench, pair: Pair) -> None:
    """What is dumped whole each time: new, again, other, gone."""
    bench.kind = "timeseries"
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("c", timeseries={"timeField": "t"})
    at = bson.decode(bson.encode({"t": bson.datetime_ms.DatetimeMS(0)}))["t"]
    pair.source_client.shop.c.insert_many([{"t": at, "v": n} for n in range(10)])
    (bucket,) = there(pair.source_client, "shop.system.buckets.c")
    for _ in range(2):
        bench.send(bucket)
        assert bench.there() == [bucket]
    pair.source_client.shop.c.insert_one({"t": at, "v": 11})
    changed = there(pair.source_client, "shop.system.buckets.c")
    bench.send(*changed)
    assert bench.there() == changed
    bench.send(*(erased(id_of(each)) for each in changed))
    assert bench.there() == []


def test_the_largest_documents(bench: Bench) -> None:
    """At the limit of a server: new and over another one."""
    size = (16 << 20) - len(doc(1, p=""))
    for fillers in ("x", "y"):
        rows = [doc(n, p=fillers * size) for n in (1, 2)]
        list(bench.news(bench.shard(*rows, block=1)))
        assert bench.there() == rows


@pytest.mark.parametrize("over", [1, 16_000, 20_000])
@pytest.mark.parametrize("before", [[], [{"_id": 2}]], ids=["new", "changed"])
def test_a_document_above_the_limit_is_named(bench: Bench, over: int, before: list[Any]) -> None:
    """An increment has no rejected documents: it fails for good, and says which."""
    if before:
        fill(bench.client, before)
    size = (16 << 20) + over - len(doc(2, p=""))
    with pytest.raises(Refused) as caught:
        bench.send(doc(1), doc(2, p="x" * size), doc(3))
    assert caught.value.code == "EAPPLY001"
    assert '{"$numberInt":"2"}' in str(caught.value)
    assert "shop.c" in str(caught.value)
    assert len(str(caught.value)) < 1000


# --- one key under a collation --------------------------------------------------------------------


@pytest.fixture
def caseless(bench: Bench) -> Bench:
    bench.client.shop.create_collection("c", collation=CASELESS)
    return bench


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("old", "new"), [("a", "A"), ("A", "a"), ({"x": "a"}, {"x": "A"})])
def test_another_spelling_of_a_key(caseless: Bench, old: Any, new: Any, apart: bool) -> None:
    """One is gone, the other new, in any order: the key that is gone takes nothing else along."""
    fill(caseless.client, [{"_id": old}, {"_id": "b"}])
    rows = [gone(old), doc(new, v=1)]
    for some in ([[row] for row in rows], [[row] for row in reversed(rows)]) if apart else [[rows]]:
        for each in some:
            caseless.send(*(each[0] if isinstance(each[0], list) else each))
    assert sorted(caseless.there()) == sorted([doc("b"), doc(new, v=1)])


def test_many_keys_under_a_collation(caseless: Bench) -> None:
    """I33: strings, numbers and embedded ones; twice."""
    fill(caseless.client, [{"_id": k} for k in ("a", "B", "c", 1, 2, ObjectId(b"o" * 12))])
    rows = [doc("A"), gone("a"), doc("B", v=2), gone("c"), gone("C"), doc(1.0), gone(2.0), doc("é")]
    for _ in range(2):
        caseless.send(*rows)
        kept = [doc(1.0), doc("A"), doc("B", v=2), doc("é"), doc(ObjectId(b"o" * 12))]
        assert caseless.there() == kept


# --- parts, kills, damage -------------------------------------------------------------------------


def mixed(seed: int, keys: int = 60) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """What lies there, rows, and what lies there then; unique values change hands."""
    draw = random.Random(seed)
    before = {n: doc(n, e=n, v="old") for n in range(keys) if draw.random() < 0.7}
    changed = [n for n in range(keys) if draw.random() < 0.7]
    values = draw.sample([n for n in range(keys) if n not in before or n in changed], len(changed))
    rows = [
        gone(n) if draw.random() < 0.3 else doc(n, e=value, v="new", **odd(draw))
        for n, value in zip(changed, values, strict=True)
    ]
    kept = [each for n, each in before.items() if n not in changed]
    return list(before.values()), rows, by_key(kept + rows)


def odd(draw: random.Random) -> dict[str, Any]:
    return draw.choice([{}, {}, {"at": EMPTY}, {"$x": 1}, {"a.b": 2}])


@pytest.mark.parametrize("seed", range(5))
def test_stopped_behind_any_block_it_goes_on(bench: Bench, seed: int) -> None:
    """I31, I33: at each yield a kill; then on from the journaled position, one block repeated."""
    before, rows, expected = mixed(seed)
    unique(bench, "e")
    fill(bench.client, [RawBSONDocument(each) for each in before])
    shard = bench.shard(*rows, block=7)
    told: list[Applying] = []
    while not told or told[-1].position < shard.file.file_bytes:
        parts = bench.news(after(shard, told[-1]) if told else shard)
        told.append(next(parts))
        with suppress(StopIteration):
            next(parts)  # done, and nobody was told
    assert bench.there() == expected
    assert (told[-1].documents, told[-1].erased) == (
        sum(1 for row in rows if row[5]),
        sum(1 for row in rows if not row[5]),
    )
    assert told[-1].bytes == sum(map(len, rows))
    keys = [order(bytes(from_key(each.last_key).raw)) for each in told if each.last_key]
    assert keys == sorted(set(keys))
    list(bench.news(shard))
    assert bench.there() == expected


def test_at_the_end_only_the_sums_are_told(bench: Bench) -> None:
    shard = bench.shard(doc(1), gone(2))
    last = list(bench.news(shard))[-1]
    bench.client.shop.c.drop()
    assert list(bench.news(after(shard, last))) == [last]
    assert bench.there() == []


def test_an_empty_shard_has_an_end_too(bench: Bench) -> None:
    assert list(bench.news(bench.shard())) == [Applying(0, None, 0, 0, 0)]


@pytest.mark.parametrize("looks", range(1, 12))
def test_a_stop_is_seen_inside_a_block(bench: Bench, looks: int) -> None:
    """I33: what was not told is done again."""
    unique(bench, "e")
    fill(bench.client, [{"_id": n, "e": n} for n in range(4)])
    rows = [doc(0, e=1), doc(1, e=0), doc(2, e=9), gone(3), doc(4, e=4, t=EMPTY)]
    shard = bench.shard(*rows)
    bench.stop = Looks(looks)
    with suppress(Stopped):
        list(bench.news(shard))
    bench.stop = threading.Event()
    list(bench.news(shard))
    assert bench.there() == by_key(rows)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=lambda each: each.__name__)
def test_a_damaged_file_is_refused_before_any_write(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    """I24, even where the damage is behind what is written first."""
    shard = bench.shard(*(doc(n, p=os.urandom(50)) for n in range(100)), block=10)
    damage(bench.folder / "a.flb")
    with pytest.raises(DamagedFile):
        next(bench.news(shard))
    assert bench.there() == []


def test_rows_in_another_order_are_damage(bench: Bench) -> None:
    """I31: what is told of last keys would not be true."""
    shard = bench.shard(doc(1), doc(2))
    done = Applied(0, 0, 0, 0, bench.send(doc(3)).last_key)
    shard = bench.shard(doc(1), doc(2))
    with pytest.raises(DamagedFile):
        next(bench.news(replace(shard, done=done)))


# --- read back ------------------------------------------------------------------------------------


class Meddling(Target):
    """Somebody else writes right behind it."""

    def meddle(self, do: Callable[[], object]) -> None:
        self._do = do

    def _bring(self, whole: Sequence[bytes]) -> None:
        super()._bring(whole)
        self._do()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"v": 2}}}]}, "another"),
        ({"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}, "nothing"),
        ({"insert": "c", "documents": [{"_id": 2}]}, "a document"),
    ],
)
def test_what_somebody_else_wrote_is_noticed(
    bench: Bench, change: dict[str, Any], what: str
) -> None:
    """P3: with verification, each block is read back to the byte."""
    for asked, caught in ((CHECKED, True), (UNCHECKED, False)):
        bench.client.shop.c.drop()
        target = Meddling(bench.client, "shop.c", "collection", asked, threading.Event())
        target.meddle(lambda: bench.client.shop.command(change))
        if not caught:
            target.apply([doc(1, v=1), gone(2)])
            continue
        with pytest.raises(Foreign) as error:
            target.apply([doc(1, v=1), gone(2)])
        assert what in str(error.value)
        assert (error.value.code, error.value.exit_code) == ("EAPPLY002", 4)
