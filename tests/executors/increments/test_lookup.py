"""Documents found by key: each as of one time, or gone; of that collection and no other (I33)."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import bson
import pytest
from bson import Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, OperationFailure

from executors.batches import BLOCK_BYTES
from executors.classify import classify
from executors.increments import lookup
from executors.increments.keyorder import order
from executors.increments.lookup import rows_of
from executors.increments.row import erased, is_erased
from executors.protocol import Stopped
from executors.rawbson import documents, id_of
from statemachine.words import Cause
from tests.conftest import Pair
from tests.executors.examples import RAW, Client, Looks
from tests.executors.increments.test_keyorder import NUMBERS, OTHERS, RAWS
from tests.executors.test_boundaries import EXACT, one

pytestmark = pytest.mark.server
GERMAN = {"locale": "de", "strength": 2}
CLUSTERED = {"key": {"_id": 1}, "unique": True}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "collation": {"collation": GERMAN},
    "clustered": {"clusteredIndex": CLUSTERED},
    "clustered with a collation": {"clusteredIndex": CLUSTERED, "collation": GERMAN},
}


@pytest.fixture
def source(pair: Pair) -> Client:
    return pair.source_client


def now(client: Client) -> str:
    time = client.admin.command("ping")["operationTime"]
    return f"{time.time}.{time.inc}"


def uuid_of(client: Client, name: str = "c", database: str = "shop") -> str:
    (entry,) = client[database].list_collections(filter={"name": name})
    return bytes(entry["info"]["uuid"]).hex()


def keys_of(*ids: Any) -> list[bytes]:
    return sorted({bson.encode({"_id": each}) for each in ids}, key=order)


def asked(client: Client, uuid: str, keys: Iterable[bytes], **how: Any) -> list[bytes]:
    """The rows under the name `shop.c`."""
    given = {"cluster_time": "", **how}
    blocks = rows_of(client, "shop", "c", uuid, keys, threading.Event(), **given)
    return [row for block in blocks for row in documents(block.data)]


def fill(client: Client, ids: Iterable[bytes]) -> dict[bytes, bytes]:
    """What the server takes of documents under these ids."""
    collection = client.shop.get_collection("c", codec_options=RAW)
    wanted = [
        RawBSONDocument(
            each[:-1].replace(each[:4], (len(each) + 7).to_bytes(4, "little"), 1) + MORE
        )
        for each in ids
    ]
    for at in range(0, len(wanted), 50):
        with suppress(BulkWriteError):
            collection.insert_many(wanted[at : at + 50], ordered=False)
    return {id_of(bytes(each.raw)): bytes(each.raw) for each in collection.find()}


MORE = b"\x10v\0\1\0\0\0\0"
"""`v: 1`, and the document's end."""


NO_KEYS = ("odd boolean", "undefined")
"""Servers take no document under them, nor a question for them."""
COUNTS_FROM_7 = b"\x0a7\0"
"""An array whose first name is not 0: a server that is asked for one among others never answers."""
SYMBOL = b"\x0e"
"""A collection with a collation takes none."""


def every_kind(kind: str = "plain") -> list[bytes]:
    odd = [one(element) for name, element in EXACT.items() if name not in NO_KEYS]
    plain = [bson.encode({"_id": value}) for value in (*NUMBERS, *OTHERS)]
    strange = (COUNTS_FROM_7, SYMBOL) if "collation" in kind else (COUNTS_FROM_7,)
    return [
        each
        for each in (*plain, *odd, *map(one, RAWS))
        if not any(pattern in each for pattern in strange)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_is_found_and_every_other_is_gone(source: Client, kind: str) -> None:
    """I33: as of its time, whatever became of them since, in the order that was asked for."""
    source.shop.create_collection("c", **KINDS[kind])
    stored = fill(source, every_kind(kind))
    assert len(stored) > 100
    uuid = uuid_of(source)
    for n, key in enumerate(list(stored)):
        if n % 3 == 0:
            source.shop.c.delete_one(RawBSONDocument(lookup.equals_query(key).raw))
            del stored[key]
    until = now(source)
    source.shop.c.update_many({}, {"$set": {"v": 2}})
    source.shop.c.delete_many({"_id": {"$type": "string"}})
    keys = sorted({order(key): key for key in every_kind(kind)}.values(), key=order)
    rows = asked(source, uuid, keys, cluster_time=until)
    by_order = {order(key): document for key, document in stored.items()}
    assert rows == [by_order.get(order(key), erased(key)) for key in keys]
    assert sum(map(is_erased, rows)) > 40


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_however_many_are_asked_for_at_once(
    source: Client, kind: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_KEYS", most)
    source.shop.create_collection("c", **KINDS[kind])
    source.shop.c.insert_many([{"_id": n, "s": "x" * n} for n in range(0, 60, 2)])
    keys = keys_of(*range(60), MinKey(), MaxKey(), {"$gt": 5}, {"$in": [1]}, {"a": Regex("x")})
    expected = [
        bson.encode({"_id": n, "s": "x" * n})
        if isinstance(n, int) and n % 2 == 0
        else erased(bson.encode({"_id": n}))
        for n in (bson.decode(key)["_id"] for key in keys)
    ]
    for cluster_time in ("", now(source)):
        assert asked(source, uuid_of(source), iter(keys), cluster_time=cluster_time) == expected


def test_one_key_in_two_ways_to_write_it(source: Client) -> None:
    """The row of a number is the document of that number, however either is written."""
    stored = [{"_id": 1.0}, {"_id": Int64(2)}, {"_id": Decimal128("3.0")}, {"_id": {"a": 4.0}}]
    source.shop.c.insert_many(stored)
    keys = keys_of(1, 2, 3, {"a": 4}, 5)
    rows = asked(source, uuid_of(source), keys)
    assert rows == [*map(bson.encode, stored[:3]), erased(keys[3]), bson.encode(stored[3])]


def test_a_key_is_not_another_one_of_its_collation(source: Client) -> None:
    """`a` was removed and `A` came in its place: they are two keys, each with its own row."""
    source.shop.create_collection("c", collation=GERMAN)
    source.shop.c.insert_one({"_id": "a"})
    source.shop.c.delete_one({"_id": "a"})
    source.shop.c.insert_many([{"_id": "A"}, {"_id": {"x": "B"}}])
    keys = keys_of("A", "a", {"x": "b"}, {"x": "B"})
    rows = asked(source, uuid_of(source), keys, cluster_time=now(source))
    assert rows == [
        bson.encode({"_id": "A"}),
        erased(bson.encode({"_id": "a"})),
        bson.encode({"_id": {"x": "B"}}),
        erased(bson.encode({"_id": {"x": "b"}})),
    ]
    assert asked(source, uuid_of(source), keys_of("a")) == [erased(keys[1])]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_in_another_order_than_the_collection_s(source: Client, kind: str) -> None:
    """Under the collation `a` lies before `B`, and so it does where the collection is scanned."""
    source.shop.create_collection("c", **KINDS[kind])
    keys = keys_of("B", "Z", "a", "c", "ä")
    source.shop.c.insert_many([bson.decode(key) for key in keys])
    assert asked(source, uuid_of(source), keys, cluster_time=now(source)) == keys


def test_who_does_not_fit_the_filter_is_gone(source: Client) -> None:
    source.shop.c.insert_many([{"_id": n, "v": n % 2} for n in range(6)])
    wanted = bson.encode({"v": 1})
    rows = asked(source, uuid_of(source), keys_of(*range(6)), filter=wanted)
    assert [is_erased(row) for row in rows] == [True, False] * 3


# --- of that collection and no other ---


def renamed(client: Client) -> None:
    client.shop.c.rename("d")


def replaced(client: Client) -> None:
    client.shop.c.rename("d")
    client.shop.c.insert_one({"_id": 1, "other": True})


def swapped(client: Client) -> None:
    client.shop.other.insert_one({"_id": 2, "other": True})
    client.shop.c.rename("d")
    client.shop.other.rename("c")


def dropped(client: Client) -> None:
    client.shop.c.drop()


def made_again(client: Client) -> None:
    client.shop.c.drop()
    client.shop.c.insert_one({"_id": 1, "other": True})


def moved(client: Client) -> None:
    """Into another database: servers copy it, under another UUID."""
    client.admin.command({"renameCollection": "shop.c", "to": "shelf.c"})


def the_database(client: Client) -> None:
    client.drop_database("shop")


STAYS, GOES = (renamed, replaced, swapped), (dropped, made_again, moved, the_database)


@pytest.mark.parametrize("change", [*STAYS, *GOES])
def test_a_snapshot_before_a_change_of_names_is_over(source: Client, change: Any) -> None:
    """I32: told by its code, never read from what bears the name now, never told as gone."""
    source.shelf.x.insert_one({})
    source.shop.c.insert_many([{"_id": n} for n in range(3)])
    uuid, until = uuid_of(source), now(source)
    change(source)
    with pytest.raises(OperationFailure) as told:
        asked(source, uuid, keys_of(0, 1, 2), cluster_time=until)
    assert classify(told.value)[:2] == (Cause.PERMANENT, "ESNAP001")


@pytest.mark.parametrize("change", [*STAYS, *GOES])
def test_between_two_questions_too(source: Client, change: Any) -> None:
    source.shop.c.insert_many([{"_id": n} for n in range(2500)])
    uuid, until = uuid_of(source), now(source)

    def keys() -> Iterator[bytes]:
        for n in range(2500):
            if n == 1500:
                change(source)
            yield bson.encode({"_id": n})

    with pytest.raises(OperationFailure) as told:
        asked(source, uuid, keys(), cluster_time=until)
    assert classify(told.value)[1] == "ESNAP001"


@pytest.mark.parametrize("change", STAYS)
@pytest.mark.parametrize("between", [False, True])
def test_as_of_now_a_collection_is_read_under_its_new_name(
    source: Client, change: Any, between: bool
) -> None:
    stored = [{"_id": n, "v": n} for n in range(2500)]
    source.shop.c.insert_many(stored)
    uuid = uuid_of(source)

    def keys() -> Iterator[bytes]:
        for n in range(2500):
            if n == (1500 if between else 0):
                change(source)
            yield bson.encode({"_id": n})

    if not between:
        change(source)
        given = keys_of(*range(2500))
        assert asked(source, uuid, given) == list(map(bson.encode, stored))
    else:
        assert asked(source, uuid, keys()) == list(map(bson.encode, stored))


@pytest.mark.parametrize("change", GOES)
def test_as_of_now_nothing_is_left_of_one_that_is_no_more(source: Client, change: Any) -> None:
    """Whatever bears its name."""
    source.shelf.x.insert_one({})
    source.shop.c.insert_many([{"_id": n} for n in range(3)])
    uuid = uuid_of(source)
    change(source)
    keys = keys_of(0, 1, 2)
    assert asked(source, uuid, keys) == list(map(erased, keys))


# --- limits ---


def test_documents_of_16_mib(source: Client) -> None:
    """A16: more than a reply holds are asked for again, fewer at once; a block stays a block."""
    for n in range(5):
        source.shop.c.insert_one({"_id": n, "x": b"x" * (5 << 20)})
    source.shop.c.insert_many([{"_id": n} for n in range(10, 2000)])
    source.shop.c.insert_one({"_id": 3000, "x": b"x" * ((16 << 20) - 100)})
    keys = keys_of(*range(2000), 3000)
    blocks = rows_of(
        source, "shop", "c", uuid_of(source), keys, threading.Event(), cluster_time=now(source)
    )
    rows = 0
    for block in blocks:
        first = bson.decode(block.data[: int.from_bytes(block.data[:4], "little")])
        assert len(block.data) <= BLOCK_BYTES + (16 << 20)
        assert first
        rows += block.documents
    assert rows == len(keys)


def test_large_keys(source: Client) -> None:
    ids = [f"{n:03}" + "x" * 300_000 for n in range(12)]
    source.shop.c.insert_many([{"_id": each} for each in ids[::2]])
    source.shop.c.insert_one({"_id": "z" * (3 << 20)})
    rows = asked(source, uuid_of(source), keys_of(*ids, "z" * (3 << 20)))
    assert [is_erased(row) for row in rows] == [False, True] * 6 + [False]


def test_keys_that_lie_far_apart_in_a_clustered_collection(
    source: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that takes too long becomes several."""
    monkeypatch.setattr(lookup, "CLUSTERED_MS", 1)
    source.shop.create_collection("c", clusteredIndex=CLUSTERED)
    source.shop.c.insert_many([{"_id": n} for n in range(60_000)])
    keys = keys_of(*range(0, 70_000, 5_000))
    rows = asked(source, uuid_of(source), keys, cluster_time=now(source))
    assert [is_erased(row) for row in rows] == [False] * 12 + [True] * 2


def test_it_stops_between_two_questions(source: Client) -> None:
    source.shop.c.insert_many([{"_id": n} for n in range(3000)])
    keys = keys_of(*range(3000))
    blocks = rows_of(source, "shop", "c", uuid_of(source), keys, Looks(1), cluster_time="")
    with pytest.raises(Stopped):
        list(blocks)


def test_no_key_no_row(source: Client) -> None:
    source.shop.c.insert_one({"_id": ObjectId(), "x": Code("f")})
    assert asked(source, uuid_of(source), []) == []
