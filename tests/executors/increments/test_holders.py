"""Rows whose place in a unique index another document holds (I33, Y15)."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument

from executors.increments.apply import Target, apply
from executors.increments.holders import Refused
from executors.increments.row import key_of
from executors.rawbson import wrap
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


def together(work: Callable[[int], None], places: Sequence[int]) -> None:
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(work, places))


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

    together(work, range(0, 80, 20))
    assert there(client) == rows


# --- what an index makes of a document ------------------------------------------------------------


def ending(key: int, element: bytes) -> bytes:
    """A document that no driver would write."""
    return wrap(doc(key)[4:-1] + element)


def undefined(key: int) -> bytes:
    return ending(key, b"\x06a\0")


def no_text(key: int) -> bytes:
    return ending(key, b"\x02a\0\x03\0\0\0\xff\xfe\0")


A, AB = {"a": 1}, {"a.b": 1}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], bytes, bytes]] = {
    "null, of numbers in an array": (AB, {}, doc(2, a=[1, 2]), doc(1, a={"b": None})),
    "null, of an empty array": (AB, {}, doc(2, a=[]), doc(1, a={"x": 1})),
    "numbers in an array, of nothing": (AB, {}, doc(2), doc(1, a=[1, 2])),
    "nothing, of a number": (AB, {}, doc(2, a=3), doc(1)),
    "null, of one of many": (AB, {}, doc(2, a=[{"b": 7}, {"c": 7}]), doc(1, a=[{"c": 1}])),
    "an empty array": (A, {}, doc(2, a=[]), doc(1, a=[])),
    "undefined": (A, {}, undefined(2), undefined(1)),
    "undefined, of an empty array": (A, {}, doc(2, a=[]), undefined(1)),
    "an empty array, of undefined": (A, {}, undefined(2), doc(1, a=[])),
    "no text": (A, {}, no_text(2), no_text(1)),
    "an array in an array": (A, {}, doc(2, a=[[1, 2]]), doc(1, a=[3, [1, 2]])),
    "a place or a name": ({"a.0": 1}, {}, doc(2, a={"0": 6}), doc(1, a=[6])),
    "descending": ({"a": -1, "b.c": 1}, {}, doc(2, a=1, b=[]), doc(1, a=[3, 1.0])),
    "shells make doubles": ({"a": 1.0}, {}, doc(2, a=Int64(1)), doc(1, a=Decimal128("1.0"))),
    "sparse": ({"a": 1, "b": 1}, {"sparse": True}, doc(2, a=1), doc(1, a=1, b=None)),
    "nothing, partial": (
        AB,
        {"partialFilterExpression": {"on": {"$gt": 0}}},
        doc(2, on=1),
        doc(1, a=[1], on=2),
    ),
    "collated, nothing": ({"a": 1, "b": 1}, {"collation": CASELESS}, doc(2, a="X"), doc(1, a="x")),
    "collated, in arrays": (
        {"a.x": 1, "a.y": 1},
        {"collation": CASELESS},
        doc(2, a=[{"x": "p", "y": "q"}, "no document", {"x": "R"}]),
        doc(1, a=[{"x": "o", "y": "q"}, "no document", {"x": "r"}]),
    ),
    "collated, by place": ({"a.0": 1}, {"collation": CASELESS}, doc(2, a=["X"]), doc(1, a=["x"])),
    "collated, inside": (
        A,
        {"collation": CASELESS},
        doc(2, a={"k": ["X"]}),
        doc(1, a={"k": ["x"]}),
    ),
    "collated, no string": (AB, {"collation": CASELESS}, doc(2, a=[1]), doc(1)),
    "words": ({"a": "text", "b": 1}, {}, doc(2, a="an apple", b=1), doc(1, a="apples", b=1)),
    "on a globe": ({"a": "2dsphere"}, {}, doc(2, a=[1, 1]), doc(1, a=[1, 1])),
    "on a plane": ({"a": "2d"}, {}, doc(2, a=[1, 1]), doc(1, a=[1, 1])),
    "hidden": (A, {"hidden": True}, doc(2, a=1), doc(1, a=1)),
}


def indexed(bench: Bench, key: dict[str, Any], **options: Any) -> None:
    index = {"key": key, "unique": True, "name": "_".join(key), **options}
    bench.client.shop.command({"createIndexes": "c", "indexes": [index]})


@pytest.mark.parametrize("beside", [doc(1, a={"b": 5}), doc(1, a=5), None], ids=["b", "a", ""])
@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
def test_holders_of_every_shape(
    bench: Bench, case: tuple[dict[str, Any], dict[str, Any], bytes, bytes], beside: bytes | None
) -> None:
    """I33: what an index holds of nothing, of arrays, of texts and places; others stay."""
    key, options, before, row = case
    if "2d" in str(key):
        beside = None
    indexed(bench, key, **options)
    others = [doc(n, a={"b": n}) for n in (10, 11)] if "b" in str(key) else []
    fill(bench.client, [RawBSONDocument(each) for each in (before, beside, *others) if each])
    kept = [each for each in others if each in bench.there()]
    bench.send(row)
    assert bench.there() == [row, *kept]
    bench.send(gone(1))
    bench.send(before)
    assert bench.there() == [before, *kept]


@pytest.mark.parametrize(
    ("key", "name", "other"),
    [(A, "own", A), (A, "own index: other", {"c": 1})],
    ids=["of the same fields", "of a name like its"],
)
def test_only_holders_in_the_index_that_refuses(
    bench: Bench, key: dict[str, Any], name: str, other: dict[str, Any]
) -> None:
    """Another index has the same key of another document, for which the row has no place."""
    indexed(bench, key, name=name, partialFilterExpression={"on": 1})
    indexed(bench, other, name="other", partialFilterExpression={"off": 1})
    fill(bench.client, [{"_id": 2, "a": 1, "on": 1}, {"_id": 3, "a": 1, "off": 1}])
    bench.send(doc(1, a=1, on=1))
    assert bench.there() == [doc(1, a=1, on=1), doc(3, a=1, off=1)]


def test_rows_that_are_in_the_way_of_one_another(bench: Bench) -> None:
    """Looked up one after the other on a source that changes: the last stays; who gave way is
    told."""
    indexed(bench, A)
    fill(bench.client, [{"_id": 3, "a": 1}])
    target = Target(bench.client, "shop.c", "collection", UNCHECKED, threading.Event())
    target.apply([doc(1, a=1), doc(2, a=1), doc(4, a=1)])
    (left,) = bench.there()
    assert sorted([left, *map(doc_of, target.removed)]) == [doc(n, a=1) for n in (1, 2, 3, 4)]


def doc_of(key: bytes) -> bytes:
    return doc(bson.decode(key)["_id"], a=1)


def test_whoever_comes_along_is_not_told_as_removed(bench: Bench) -> None:
    indexed(bench, A)
    fill(bench.client, [{"_id": n, "a": n} for n in range(20)])
    target = Target(bench.client, "shop.c", "collection", CHECKED, threading.Event())
    target.apply([doc(n, a=(n + 1) % 20) for n in range(20)])
    assert target.removed == []


def test_many_rows_do_not_cost_the_square(bench: Bench) -> None:
    """Y15: each has two places, of which a refusal names one at a time."""
    indexed(bench, A)
    indexed(bench, {"b": 1})
    fill(bench.client, [{"_id": n, "a": n, "b": -n} for n in range(400)])
    rows = [doc(n, a=n + 200, b=-n - 200) for n in range(200)]
    before = bench.client.admin.command("serverStatus")["opcounters"]["update"]
    target = Target(bench.client, "shop.c", "collection", CHECKED, threading.Event())
    target.apply(rows)
    after = bench.client.admin.command("serverStatus")["opcounters"]["update"]
    assert after - before < 10 * len(rows)
    assert bench.there()[:200] == rows
    assert len(target.removed) == 200


def test_a_hidden_index_is_hidden_again(bench: Bench) -> None:
    """I33: it cannot be looked into; each shard shows it, and hides it when it is done."""
    indexed(bench, A, hidden=True, name="own")
    fill(bench.client, [{"_id": n, "a": n} for n in range(80)])
    rows = [doc(n, a=(n + 33) % 80) for n in range(80)]

    def work(at: int) -> None:
        target = Target(bench.client, "shop.c", "collection", CHECKED, threading.Event())
        for begin in range(at, 80, 20):
            target.apply(rows[begin : begin + 5])

    together(work, range(0, 20, 5))
    assert bench.there() == rows
    assert bench.client.shop.c.index_information()["own"]["hidden"] is True


VALUES: list[Any] = [1, 1.0, 2, None, "x", "X", [], [1, 2], [[1]], {"b": 1}, {"b": None}, {"c": 1}]
VALUES += [{"b": []}, {"b": ["x", 2]}, [{"b": 1}], [{"b": "X"}, {"b": None}], [{"b": [1]}, 3]]
INDEXES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (A, {}),
    (AB, {}),
    ({"a.b": -1, "e": 1}, {}),
    ({"a": 1, "e.b": 1}, {"sparse": True}),
    ({"a.0": 1}, {"partialFilterExpression": {"e": {"$exists": True}}}),
    (AB, {"collation": CASELESS}),
    ({"e": 1, "a.b": 1}, {"collation": CASELESS}),
    ({"a": 1}, {"collation": CASELESS, "sparse": True}),
]


def state(bench: Bench, draw: random.Random) -> dict[int, bytes]:
    """Documents that the indexes bear with."""
    bench.client.shop.c.delete_many({})
    for n in range(12):
        fields = {name: draw.choice(VALUES) for name in ("a", "e") if draw.random() < 0.7}
        fill(bench.client, [{"_id": n, **fields}])
    return {bson.decode(each)["_id"]: each for each in bench.there()}


@pytest.mark.parametrize("seed", range(40))
def test_from_any_state_to_any_other(bench: Bench, seed: int) -> None:
    """I33: rows one by one or some at once, in any order, under two indexes of any shape."""
    draw = random.Random(seed)
    for number, (key, options) in enumerate(draw.sample(INDEXES, 2)):
        indexed(bench, key, name=str(number), **options)
    after, before = state(bench, draw), state(bench, draw)
    rows = [row for n, row in after.items() if before.get(n) != row]
    rows += [gone(n) for n in before.keys() - after.keys()]
    draw.shuffle(rows)
    some = draw.choice([1, 3, 12])
    for at in range(0, len(rows), some):
        bench.send(*rows[at : at + some])
    assert bench.there() == list(after.values())
