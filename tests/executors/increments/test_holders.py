"""Rows whose place in a unique index another document holds (I33, Y15)."""

import random
import threading
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument

from executors.increments.apply import Target, apply
from executors.increments.holders import Refused
from executors.increments.row import key_of
from tests.conftest import Pair
from tests.executors.examples import fill, there
from tests.executors.increments.applying import (
    CASELESS,
    CHECKED,
    UNCHECKED,
    Bench,
    by_key,
    doc,
    gone,
    unique,
)

pytestmark = pytest.mark.server


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.target_client, tmp_path)


SWAPS: dict[str, tuple[dict[str, Any], list[bytes], list[bytes]]] = {
    "two change places": (
        {"fields": ["e"]},
        [doc(1, e=1), doc(2, e=2)],
        [doc(1, e=2), doc(2, e=1)],
    ),
    "all move on by one": (
        {"fields": ["e"]},
        [doc(n, e=n) for n in range(50)],
        [doc(n, e=n + 1) for n in range(50)],
    ),
    "all move back by one": (
        {"fields": ["e"]},
        [doc(n, e=n) for n in range(50)],
        [doc(n, e=n - 1) for n in range(50)],
    ),
    "the holder is gone": ({"fields": ["e"]}, [doc(2, e=1)], [doc(1, e=1), gone(2)]),
    "a new one takes it": ({"fields": ["e"]}, [doc(2, e=1)], [doc(1, e=1), doc(2)]),
    "of no value": ({"fields": ["e"]}, [doc(2)], [doc(1), doc(2, e=1)]),
    "of no value, sparse": (
        {"fields": ["e"], "sparse": True},
        [doc(0), doc(2, e=None), doc(3)],
        [doc(1, e=None), doc(2, e=1)],
    ),
    "partial": (
        {"fields": ["e"], "partialFilterExpression": {"on": True}},
        [doc(0, e=1), doc(2, e=1, on=True), doc(3, e=1, on=False)],
        [doc(1, e=1, on=True), doc(2, e=1)],
    ),
    "under a collation": (
        {"fields": ["e"], "collation": CASELESS},
        [doc(0, e="b"), doc(2, e="X"), doc(3, e={"y": "Z"})],
        [doc(1, e="x"), doc(2, e={"y": "z"}), gone(3)],
    ),
    "arrays": (
        {"fields": ["e"]},
        [doc(0, e=[7, 8]), doc(2, e=[1, 2]), doc(3, e=3), doc(4, e=[])],
        [doc(1, e=[2, 3, 4]), doc(2, e=1), doc(3, e=[]), doc(4, e=[5])],
    ),
    "an array of documents": (
        {"fields": ["a.x", "a.y"]},
        [doc(0, a=[{"x": 1, "y": 3}, {"x": 4, "y": 2}]), doc(2, a=[{"x": 1, "y": 2}])],
        [doc(1, a=[{"x": 1, "y": 2}]), doc(2, a=[{"x": 9, "y": 9}])],
    ),
    "places in an array": (
        {"fields": ["a.0"]},
        [doc(0, a=[2, 1]), doc(2, a=[1, 2])],
        [doc(1, a=[1]), doc(2, a=[3])],
    ),
    "numbers of other types": (
        {"fields": ["e", "f"]},
        [doc(2, e=1, f=None), doc(3, e=1, f=2)],
        [doc(1, e=1.0), doc(2, e=Int64(2)), doc(3, e=Decimal128("1"), f=3)],
    ),
    "names with dollars": (
        {"fields": ["e"]},
        [doc(2, e={"$gt": 1}), doc(3, e=bson.Regex("a"))],
        [doc(1, e={"$gt": 1}), doc(2, e=bson.Regex("a")), doc(3, e=1)],
    ),
    "as a far date": (
        {"fields": ["e"]},
        [doc(2, e=bson.datetime_ms.DatetimeMS(2**60))],
        [doc(1, e=bson.datetime_ms.DatetimeMS(2**60)), gone(2)],
    ),
    "not of the first index": (
        {"fields": ["e"], "name": "first"},
        [doc(2, e=1, f=1), doc(3, e=2, f=2)],
        [doc(1, e=1, f=2), doc(2, e=3, f=3), doc(3, e=4, f=4)],
    ),
}


@pytest.mark.parametrize("apart", [1, 2, 1000])
@pytest.mark.parametrize("case", SWAPS.values(), ids=SWAPS)
def test_unique_values_change_hands(
    bench: Bench, case: tuple[dict[str, Any], list[bytes], list[bytes]], apart: int
) -> None:
    """I33: in one block, or row by row in any order, as shards side by side would; and again."""
    options, before, rows = case
    unique(bench, *options["fields"], **{k: v for k, v in options.items() if k != "fields"})
    if options.get("name") == "first":
        unique(bench, "f")
    fill(bench.client, [RawBSONDocument(each) for each in before])
    changed = {key_of(row) for row in rows}
    expected = by_key([each for each in before if key_of(each) not in changed] + rows)
    for order_of in (list(rows), rows[::-1]):
        for at in range(0, len(rows), apart):
            bench.send(*order_of[at : at + apart])
        assert bench.there() == expected


def test_whoever_only_looks_like_a_holder_stays(bench: Bench) -> None:
    """A document that a query takes for the holder, and the index does not."""
    unique(bench, "a.x", "a.y")
    alike = doc(0, a=[{"x": 1, "y": 3}, {"x": 4, "y": 2}])
    fill(bench.client, [RawBSONDocument(alike), {"_id": 2, "a": [{"x": 1, "y": 2}]}])
    target = Target(bench.client, "shop.c", "collection", CHECKED, threading.Event())
    target.apply([doc(1, a=[{"x": 1, "y": 2}])])
    assert bench.there() == [alike, doc(1, a=[{"x": 1, "y": 2}])]
    assert len(target.removed) == 1


def test_nobody_is_removed_for_an_index_that_the_source_has_not(bench: Bench) -> None:
    """Its holder need not have changed on the source: it would be lost."""
    unique(bench, "e", name="own")
    fill(bench.client, [{"_id": 2, "e": 1}])
    shard = bench.shard(doc(1, e=1))
    path = bench.folder / "a.flb"
    with pytest.raises(Refused) as caught:
        list(apply(bench.client, shard, CHECKED, path, bench.stop, unique=["other"]))
    assert "own" in str(caught.value)
    assert bench.there() == [doc(2, e=1)]
    list(apply(bench.client, shard, CHECKED, path, bench.stop, unique=["own"]))
    assert bench.there() == [doc(1, e=1)]


def test_permutations_by_many_shards_at_once(pair: Pair, tmp_path: Path) -> None:
    """I33, Y15: unique values in another order, every shard on its own."""
    client, draw = pair.target_client, random.Random(5)
    client.shop.c.create_index("e", unique=True)
    client.shop.c.create_index("f.g", unique=True)
    count = 400
    client.shop.c.insert_many([{"_id": n, "e": n, "f": [{"g": n}]} for n in range(count)])
    places = draw.sample(range(count), count)
    others = draw.sample(range(count), count)
    rows = [doc(n, e=places[n], f=[{"g": others[n]}, {"g": -n - 1}]) for n in range(count)]

    def work(at: int) -> None:
        target = Target(client, "shop.c", "collection", UNCHECKED, threading.Event())
        for begin in range(at, count, 80):
            target.apply(rows[begin : begin + 20])

    threads = [threading.Thread(target=work, args=(at,)) for at in range(0, 80, 20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert there(client) == rows
