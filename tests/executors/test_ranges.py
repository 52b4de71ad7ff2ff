"""Key ranges against a real server: every document in exactly one chunk (I21), target equal (I22).

The oracles are the server itself, asked with plain driver calls, and `bson`; nothing here
trusts ferrylog's own reading of a key.
"""

import base64
import json
import math
import random
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import (
    Binary,
    Code,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Timestamp,
    json_util,
)
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import CursorNotFound, OperationFailure, PyMongoError

from executors.batches import BLOCK_BYTES, CUTS_WITHOUT_PROGRESS, Block, Range, read_range
from executors.boundaries import to_key
from executors.plan import ascending, plan
from executors.protocol import Stopped
from ferrylog.embedded import Mongod
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.words import BsonText, Key, UnitId
from tests.conftest import Pair
from tests.program import ferrylog
from tests.statemachine.examples import SPEC

pytestmark = pytest.mark.server

FERRYLOG = Path(sys.executable).with_name("ferrylog")
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
SERVER_MESSAGE = 16 * 1024 * 1024 + 16 * 1024
"""What a server takes as one document of a command."""
Client = MongoClient[Any]
CLUSTERED: dict[str, Any] = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}}


def raw_id(kind: int, value: bytes) -> RawBSONDocument:
    """A document of nothing but an `_id`, as bytes: for what the driver would not encode."""
    body = bytes([kind]) + b"_id\0" + value
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0")


def bad_utf8(number: int) -> RawBSONDocument:
    text = b"\xff\xfe%05d" % number
    return raw_id(0x02, struct.pack("<i", len(text) + 1) + text + b"\0")


# --- one list of keys per type; none equal to another, across the types too -----------------------


def object_ids(n: int) -> list[Any]:
    return [
        ObjectId(struct.pack(">I", i * 7919) + b"\1" * 4 + struct.pack(">I", i)) for i in range(n)
    ]


def int32s(n: int) -> list[Any]:
    return [-(2**31), 2**31 - 1, *range(1, n - 1)]


def int64s(n: int) -> list[Any]:
    return [Int64(-(2**63)), Int64(2**63 - 1), *(Int64(2**40 + i) for i in range(n - 2))]


def doubles(n: int) -> list[Any]:
    odd = [float("nan"), -0.0, float("inf"), float("-inf"), 5e-324, -5e-324, 1.7976931348623157e308]
    return [
        *odd,
        *(i + 0.5 for i in range((n - 7) // 2)),
        *(-i - 0.25 for i in range((n - 6) // 2)),
    ]


def decimals(n: int) -> list[Any]:
    """Thirds are no doubles, so none is a tie; different exponents, trailing zeros."""
    odd = ["1E+6144", "-1E+6144", "1E-6176", "-1E-6176", "123456789.3000"]
    return [Decimal128(text) for text in [*odd, *(f"{i}.3" for i in range(n - 5))]]


def strings(n: int) -> list[Any]:
    odd = ["", "\0", "\0\0", "a\0b", "a", "ä", "a\u0308", "😀", "\uffff", "\U0010ffff", "$a", "{"]
    return [*odd, *(f"k{i * 7919 % 1_000_003:07d}" for i in range(n - len(odd)))]


def dates(n: int) -> list[Any]:
    odd = [DatetimeMS(2**63 - 1), DatetimeMS(-(2**63)), DatetimeMS(253402300800000), DatetimeMS(-1)]
    return [*odd, *(DatetimeMS((i - n // 2) * 86_400_123) for i in range(n - 4))]


def binaries(n: int) -> list[Any]:
    odd = [Binary(b"", 0), Binary(b"\0", 0), Binary(b"x", 2), Binary(b"short", 4), Binary(b"", 255)]
    subtypes = (0, 1, 3, 4, 5, 6, 128, 200)
    return [
        *odd,
        *(Binary(struct.pack(">QQ", i * 7919, i), subtypes[i % 8]) for i in range(n - 5)),
    ]


def embedded(n: int) -> list[Any]:
    odd = [
        {},
        {"": 1},
        {"a": {"b": [1, {"c": None}]}},
        {"a.b": 1},
        {"b": 1, "a": 2},
        {"a": 2, "b": 1},
    ]
    return [*odd, *({"shard": i % 10, "n": f"x{i}"} for i in range(n - 6))]


def timestamps(n: int) -> list[Any]:
    return [Timestamp(2**32 - 1, 2**32 - 1), *(Timestamp(i + 1, i % 3) for i in range(n - 1))]


def singles(n: int) -> list[Any]:
    return [MinKey(), MaxKey(), None, True, False, Code("f()"), Code("f()", {"x": 1})][:n]


KINDS: dict[str, Callable[[int], list[Any]]] = {
    "objectid": object_ids,
    "int32": int32s,
    "int64": int64s,
    "double": doubles,
    "decimal": decimals,
    "string": strings,
    "date": dates,
    "binary": binaries,
    "embedded": embedded,
    "timestamp": timestamps,
    "single": singles,
}
SHARES = {"single": 7}


def mixed(total: int) -> list[Any]:
    """`total` keys of all types."""
    fixed = sum(SHARES.values())
    each, rest = divmod(total - fixed, len(KINDS) - len(SHARES))
    found: list[Any] = []
    for name, make in KINDS.items():
        n = SHARES.get(name, each + (rest if name == "objectid" else 0))
        made = make(n)
        assert len(made) == n, name
        found += made
    return found


def as_documents(keys: Iterable[Any]) -> list[RawBSONDocument]:
    return [
        RawBSONDocument(bson.encode({"_id": key, "n": n, "pad": "x" * (n % 50)}))
        for n, key in enumerate(keys)
    ]


# --- asking the server ----------------------------------------------------------------------------


def all_of(client: Client, database: str, collection: str) -> list[bytes]:
    """Every document in the order of its `_id` index."""
    found = client[database].get_collection(collection, codec_options=RAW).find({}).hint("_id_")
    return [bytes(document.raw) for document in found]


def ids_between(client: Client, lower: bytes | None, upper: bytes | None) -> list[bytes]:
    """The raw `{_id}` of `shop.mixed` in `[lower, upper)`, by the server's own index bounds."""
    command: dict[str, Any] = {
        "find": "mixed",
        "hint": {"_id": 1},
        "projection": {"_id": 1},
        "batchSize": 1_000_000,
    }
    if lower is not None:
        command["min"] = RawBSONDocument(lower)
    if upper is not None:
        command["max"] = RawBSONDocument(upper)
    cursor = client.shop.command(command, codec_options=RAW)["cursor"]
    assert cursor["id"] == 0
    found = [bytes(each.raw) for each in cursor["firstBatch"]]
    if lower is not None and upper is None:  # `min` alone ends before MaxKey
        plain = client.shop.get_collection("mixed", codec_options=RAW)
        found += [bytes(each.raw) for each in plain.find({"_id": MaxKey()}, {"_id": 1})]
    return found


def events(journal: Path, kind: str) -> list[dict[str, Any]]:
    shown = ferrylog("inspect", "events", "--kind", kind, "--json", "--journal", journal)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line)["data"] for line in shown.stdout.splitlines()]


CANONICAL = JSONOptions(
    json_mode=JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS
)


def as_bson(key: str | None) -> bytes | None:
    """A boundary as it stands in the journal, read without ferrylog's help."""
    if key is None:
        return None
    if key.startswith("bson:"):
        return base64.b64decode(key[5:])
    return bson.encode(json_util.loads(f'{{"_id":{key}}}', json_options=CANONICAL))


def test_a_mixed_collection_is_cut_moved_and_equal(pair: Pair, tmp_path: Path) -> None:
    """I21, I22: 100,000 documents with keys of every type, through the command line."""
    documents = as_documents(mixed(100_000))
    random.Random(7).shuffle(documents)
    pair.source_client.shop.mixed.insert_many(documents, ordered=False)
    journal = tmp_path / "ferrylog.db"

    ended = ferrylog(
        *("start", "--source", pair.source.uri, "--target", pair.target.uri),
        *("--chunk-docs", "3000", "--journal", journal),
    )

    assert ended.returncode == 0, ended.stderr
    source = all_of(pair.source_client, "shop", "mixed")
    assert len(source) == 100_000
    assert all_of(pair.target_client, "shop", "mixed") == source
    _assert_partition(pair.source_client, events(journal, "chunk_planned"), source)


def _assert_partition(
    client: Client, chunks: Sequence[dict[str, Any]], source: Sequence[bytes]
) -> None:
    """The ranges share their edges, ascend, and hold each document exactly once."""
    assert len(chunks) >= 30
    assert chunks[0]["lower"] is None
    assert chunks[-1]["upper"] is None
    assert [c["upper"] for c in chunks[:-1]] == [c["lower"] for c in chunks[1:]]
    assert [c["chunk"] for c in chunks] == [f"shop.mixed#{n}" for n in range(len(chunks))]
    per_chunk = [ids_between(client, as_bson(c["lower"]), as_bson(c["upper"])) for c in chunks]
    assert sum(map(len, per_chunk)) == len(source)
    flat = [each for ids in per_chunk for each in ids]
    assert len(set(flat)) == len(source), "a document lies in two chunks"
    assert flat == [only_id(document) for document in source], "the ranges do not ascend"
    assert max(map(len, per_chunk)) < 3 * 3000


def only_id(document: bytes) -> bytes:
    """`{_id}` of a document whose first element it is, cut out by hand from its end."""
    n_field = document.index(b"\x10n\0", 5)
    body = document[4:n_field]
    return struct.pack("<i", len(body) + 5) + body + b"\0"


# --- planning -------------------------------------------------------------------------------------


def spec(**changes: Any) -> JobSpec:
    return SPEC.model_copy(update=changes)


def unit(name: str) -> Unit:
    return Unit(
        id=UnitId(name),
        target=name,
        type="collection",
        uuid="",
        options=BsonText("{}"),
        indexes=(),
        documents_estimate=0,
        bytes_estimate=0,
    )


def chunks_of(client: Client, collection: str, **changes: Any) -> list[Range]:
    """The planned ranges of `shop.<collection>`."""
    planned = plan(
        client, unit(f"shop.{collection}"), spec(**changes), threading.Event(), capped=False
    )
    edges: list[Key | None] = [None, *planned.boundaries, None]
    return [Range("shop", collection, lower, upper) for lower, upper in pairwise(edges)]


def read(client: Client, what: Range, *, document_bytes: int = 0) -> list[bytes]:
    return split_blocks(read_range(client, what, threading.Event(), document_bytes=document_bytes))


def split_blocks(blocks: Iterable[Block]) -> list[bytes]:
    """The documents of blocks whose counts are right."""
    found: list[bytes] = []
    for block in blocks:
        at, before = 0, len(found)
        while at < len(block.data):
            (size,) = struct.unpack_from("<i", block.data, at)
            found.append(block.data[at : at + size])
            at += size
        assert at == len(block.data)
        assert len(found) - before == block.documents
    return found


def test_skewed_sizes_do_not_make_a_giant_chunk(pair: Pair) -> None:
    """I21 with 1 % of the documents holding 90 % of the bytes, all of them neighbours."""
    client = pair.source_client
    client.shop.skewed.insert_many(
        [{"_id": n, "pad": b"x" * (100_000 if 4_000 <= n < 4_100 else 100)} for n in range(10_000)]
    )
    ranges = chunks_of(client, "skewed", chunk_bytes=1 << 20)

    per_chunk = [read(client, each, document_bytes=1100) for each in ranges]

    assert len(ranges) >= 8
    assert [d for chunk in per_chunk for d in chunk] == all_of(client, "shop", "skewed")
    assert max(sum(map(len, chunk)) for chunk in per_chunk) <= 4 << 20
    assert max(map(len, per_chunk)) <= 6_000


def test_keys_that_are_no_utf8_can_be_planned(pair: Pair) -> None:
    """I21: a server takes strings that are no UTF-8 as `_id`; so must the plan."""
    client = pair.source_client
    client.shop.bad.insert_many([bad_utf8(n) for n in range(2_000)])

    ranges = chunks_of(client, "bad", chunk_docs=200)

    assert len(ranges) >= 8
    assert [d for each in ranges for d in read(client, each)] == all_of(client, "shop", "bad")


def test_references_can_be_boundaries(pair: Pair) -> None:
    """I6, I21: the only names with `$` that a server takes inside an `_id`."""
    client = pair.source_client
    client.shop.tricky.insert_many(
        [{"_id": {"$ref": "a", "$id": Int64(n), "$db": "x"}} for n in range(2_000)]
    )

    ranges = chunks_of(client, "tricky", chunk_docs=100)

    assert len(ranges) >= 15
    assert [d for each in ranges for d in read(client, each)] == all_of(client, "shop", "tricky")


def test_more_chunks_than_documents(pair: Pair) -> None:
    """I21: a chunk may be empty, but no edge comes twice."""
    client = pair.source_client
    keys = [float("nan"), float("-inf"), -0.0, 1, 2.0, Int64(3), Decimal128("4.0"), float("inf")]
    client.shop.few.insert_many([{"_id": key} for key in keys])

    ranges = chunks_of(client, "few", chunk_docs=1)

    assert 1 <= len(ranges) <= len(keys)
    assert [d for each in ranges for d in read(client, each)] == all_of(client, "shop", "few")


@pytest.mark.parametrize(
    "options",
    [{}, {"collation": {"locale": "en", "strength": 2}}, CLUSTERED],
    ids=["plain", "collation", "clustered"],
)
def test_edges_at_one_place_are_one_edge(pair: Pair, options: dict[str, Any]) -> None:
    """I21: between two samples `1` may become `1.0`; the server calls that range upside down."""
    db = pair.source_client.shop
    db.create_collection("c", **options)
    edges = [math.nan, Decimal128("NaN"), 1, 1.0, Int64(1), Decimal128("1.0"), 2, "a", "b"]
    raw_edges = [bson.encode({"_id": edge}) for edge in edges]
    kept = [bson.decode(edge)["_id"] for edge in ascending(db, "c", raw_edges, threading.Event())]
    assert [str(edge) for edge in kept] == ["nan", "1", "2", "a", "b"]


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture
def source(pair: Pair) -> Client:
    return pair.source_client


def key_of(value: Any) -> Key:
    return to_key(bson.encode({"_id": value}))


def test_max_key_at_the_end_and_as_a_boundary(source: Client) -> None:
    """I21: `min` without `max` ends before MaxKey, which may be somebody's `_id`."""
    source.shop.c.insert_many([{"_id": key} for key in (MinKey(), 1, 2, 3, MaxKey())])
    every = all_of(source, "shop", "c")
    assert len(every) == 5

    def part(lower: Any, upper: Any) -> list[bytes]:
        return read(source, Range("shop", "c", lower, upper))

    middle, most, least = key_of(2), key_of(MaxKey()), key_of(MinKey())
    assert part(None, None) == every
    assert part(middle, None) == every[2:]
    assert part(None, middle) == every[:2]
    assert part(most, None) == every[4:]
    assert part(None, most) == every[:4]
    assert part(middle, most) == every[2:4]
    assert part(least, middle) == every[:2]
    assert part(key_of(4), None) == every[4:]


def test_max_key_that_is_not_there(source: Client) -> None:
    source.shop.c.insert_many([{"_id": n} for n in range(3)])
    assert len(read(source, Range("shop", "c", key_of(1), None))) == 2
    assert read(source, Range("shop", "c", key_of(MaxKey()), None)) == []


def test_collation_orders_the_keys(source: Client) -> None:
    """I21: with strength 2 `B` lies between `a` and `c`, and is equal to `b`."""
    source.shop.create_collection("c", collation={"locale": "en", "strength": 2})
    keys = [f"{'Kk'[n % 2]}{'äÄbBzZ'[n % 6]}{n:05d}" for n in range(3_000)]
    source.shop.c.insert_many([{"_id": key} for key in [*keys, 5, None, {"a": "X"}, MaxKey()]])
    every = all_of(source, "shop", "c")

    ranges = chunks_of(source, "c", chunk_docs=250)

    assert len(ranges) >= 8
    assert [d for each in ranges for d in read(source, each)] == every


def test_a_boundary_in_other_letters_means_the_same_place(source: Client) -> None:
    source.shop.create_collection("c", collation={"locale": "en", "strength": 2})
    source.shop.c.insert_many([{"_id": key} for key in ("a", "B", "c")])
    every = all_of(source, "shop", "c")
    assert read(source, Range("shop", "c", key_of("b"), None)) == every[1:]
    assert read(source, Range("shop", "c", None, key_of("b"))) == every[:1]


def test_clustered_collection(source: Client) -> None:
    """I21: there the documents lie in the order of their `_id`, without an index."""
    source.shop.create_collection("c", **CLUSTERED)
    source.shop.c.insert_many([{"_id": key, "n": 1} for key in [*range(3_000), "x", MaxKey()]])
    plain = source.shop.get_collection("c", codec_options=RAW)
    every = [bytes(document.raw) for document in plain.find()]

    ranges = chunks_of(source, "c", chunk_docs=250)

    assert len(ranges) >= 8
    assert [d for each in ranges for d in read(source, each)] == every
    assert read(source, Range("shop", "c", key_of(10), key_of(12))) == every[10:12]
    assert read(source, Range("shop", "c", key_of("x"), None)) == every[-2:]
    assert read(source, Range("shop", "c", key_of(MaxKey()), None)) == every[-1:]


def test_empty_and_missing_and_one(source: Client) -> None:
    source.shop.create_collection("empty")
    source.shop.one.insert_one({"_id": 1})
    assert read(source, Range("shop", "empty")) == []
    assert read(source, Range("shop", "missing")) == []
    assert read(source, Range("shop", "one")) == all_of(source, "shop", "one")
    assert read(source, Range("shop", "one", key_of(1), key_of(2))) != []
    assert read(source, Range("shop", "one", key_of(0), key_of(1))) == []


def largest(key: int) -> dict[str, Any]:
    """A document of exactly 16 MiB, the most a server stores."""
    empty = len(bson.encode({"_id": key, "pad": b""}))
    return {"_id": key, "pad": b"x" * ((16 << 20) - empty)}


def test_the_largest_document(source: Client) -> None:
    source.shop.c.insert_one(largest(1))
    (found,) = read(source, Range("shop", "c"), document_bytes=16 << 20)
    assert len(found) == 16 << 20
    assert [found] == all_of(source, "shop", "c")


def test_no_block_is_larger_than_a_server_takes(source: Client) -> None:
    """I22: a block goes out as one document of a command; small documents before a huge one
    must not swell it beyond that."""
    source.shop.c.insert_many([{"_id": n, "pad": b"x" * 100_000} for n in range(41)])
    source.shop.c.insert_one({"_id": 50, "pad": b"x" * (12 << 20)})
    source.shop.c.insert_one(largest(99))

    blocks = list(read_range(source, Range("shop", "c"), threading.Event()))

    assert split_blocks(blocks) == all_of(source, "shop", "c")
    assert max(len(block.data) for block in blocks) <= SERVER_MESSAGE


def test_natural_order_is_the_order_of_insertion(source: Client) -> None:
    source.shop.create_collection("c", capped=True, size=1 << 20)
    source.shop.c.insert_many([{"_id": n * 7919 % 1009} for n in range(1_000)])
    found = read(source, Range("shop", "c", natural=True))
    assert [bson.decode(d)["_id"] for d in found] == [n * 7919 % 1009 for n in range(1_000)]


def test_a_stop_is_seen_at_the_next_batch(source: Client) -> None:
    source.shop.c.insert_many([{"_id": n} for n in range(5_000)])
    token = threading.Event()
    blocks = read_range(source, Range("shop", "c"), token)
    assert next(blocks).documents == 1000
    token.set()
    with pytest.raises(Stopped):
        list(blocks)


# --- cursors that are cut -------------------------------------------------------------------------


@dataclass
class Faulty:
    """A server that can be told to fail, and a client that it recognises."""

    client: Client
    admin: Client

    def fail(self, commands: Sequence[str], *, times: int | None = None, **how: Any) -> None:
        """From now on each of these commands fails, or so many do, for this client only."""
        self.admin.admin.command(
            {
                "configureFailPoint": "failCommand",
                "mode": {"times": times} if times else "alwaysOn",
                "data": {"failCommands": list(commands), "appName": "reader", **how},
            }
        )

    def heal(self) -> None:
        self.admin.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    options = ("--setParameter", "enableTestCommands=1")
    with Mongod(tmp_path_factory.mktemp("faulty") / "db", options=options) as mongod:
        reader: Client = MongoClient(mongod.uri, appname="reader", heartbeatFrequencyMS=500)
        admin: Client = MongoClient(mongod.uri)
        yield Faulty(reader, admin)
        reader.close()
        admin.close()


@pytest.fixture
def faulty(breakable: Faulty) -> Iterator[Faulty]:
    breakable.admin.drop_database("shop")
    yield breakable
    breakable.heal()


CUTS: dict[str, dict[str, Any]] = {
    "connection closed": {"closeConnection": True},
    "cursor not found": {"errorCode": 43},
    "cursor killed": {"errorCode": 237},
    "stepped down": {"errorCode": 11602},
}
ELEVEN = BLOCK_BYTES // 10
"""A mean size with which replies hold eleven documents."""


@pytest.mark.parametrize("kind", [*KINDS, "bad utf-8", "mixed"])
def test_a_cut_cursor_goes_on_at_the_last_key(faulty: Faulty, kind: str) -> None:
    """I21, I22: no cursor lives longer than one reply; still each document comes once."""
    every = fill(faulty, kind)
    faulty.fail(["getMore"], **CUTS["cursor not found"])
    assert read(faulty.client, Range("shop", "c"), document_bytes=ELEVEN) == every


@pytest.mark.parametrize("kind", [*KINDS, "bad utf-8", "mixed"])
def test_a_cut_connection_goes_on_at_the_last_key(faulty: Faulty, kind: str) -> None:
    every = fill(faulty, kind)
    faulty.fail(["getMore"], times=1, **CUTS["connection closed"])
    assert read(faulty.client, Range("shop", "c"), document_bytes=ELEVEN) == every


def fill(faulty: Faulty, kind: str) -> list[bytes]:
    """A small collection with keys of one kind, as it lies there."""
    if kind == "bad utf-8":
        documents = [bad_utf8(n) for n in range(200)]
    else:
        documents = as_documents(mixed(400) if kind == "mixed" else KINDS[kind](200))
    faulty.admin.shop.c.insert_many(documents)
    return all_of(faulty.admin, "shop", "c")


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_stays_inside_its_range(faulty: Faulty, cut: str) -> None:
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(300)])
    every = all_of(faulty.admin, "shop", "c")
    faulty.fail(["getMore"], times=4, **CUTS[cut])

    whole = Range("shop", "c", key_of(50), key_of(250))
    assert read(faulty.client, whole, document_bytes=ELEVEN) == every[50:250]


@pytest.mark.parametrize("first", [10, 11, 12])
def test_a_cut_right_behind_max_key(faulty: Faulty, first: int) -> None:
    """I21: MaxKey came last, the cursor is cut, and nothing is left to read."""
    faulty.admin.shop.c.insert_many([{"_id": key} for key in (*range(first), MaxKey())])
    every = all_of(faulty.admin, "shop", "c")
    faulty.fail(["getMore"], **CUTS["cursor not found"])

    assert read(faulty.client, Range("shop", "c"), document_bytes=ELEVEN) == every


@pytest.mark.parametrize("options", ["collation", "clustered"])
def test_a_cut_in_special_collections(faulty: Faulty, options: str) -> None:
    if options == "collation":
        faulty.admin.shop.create_collection("c", collation={"locale": "en", "strength": 2})
    else:
        faulty.admin.shop.create_collection("c", **CLUSTERED)
    keys = [*(f"{'aAbB'[n % 4]}{n}" for n in range(200)), MaxKey()]
    faulty.admin.shop.c.insert_many([{"_id": key} for key in keys])
    plain = faulty.admin.shop.get_collection("c", codec_options=RAW).find().sort("_id", 1)
    every = [bytes(document.raw) for document in plain]
    faulty.fail(["getMore"], **CUTS["cursor not found"])

    assert read(faulty.client, Range("shop", "c"), document_bytes=ELEVEN) == every


def test_the_last_document_may_vanish_during_a_cut(faulty: Faulty) -> None:
    """The reader goes on behind a key that is gone, and takes no other document for it."""
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(100)])
    every = all_of(faulty.admin, "shop", "c")
    faulty.fail(["getMore"], **CUTS["cursor not found"])
    blocks = read_range(faulty.client, Range("shop", "c"), threading.Event(), document_bytes=ELEVEN)
    first = next(blocks)
    faulty.admin.shop.c.delete_one({"_id": first.documents - 1})

    assert split_blocks([first, *blocks]) == every


def test_cuts_without_progress_end(faulty: Faulty) -> None:
    """A reader that gets nothing gives up, so that the rules can decide (A7)."""
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(100)])
    faulty.fail(["find", "getMore"], errorCode=43)
    with pytest.raises(CursorNotFound):
        read(faulty.client, Range("shop", "c"))


def test_one_document_a_reply_survives_cuts(faulty: Faulty) -> None:
    """Huge documents come one a reply: going on repeats the last one, which is no progress."""
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(20)])
    every = all_of(faulty.admin, "shop", "c")
    faulty.fail(["getMore"], times=CUTS_WITHOUT_PROGRESS, errorCode=43)
    assert read(faulty.client, Range("shop", "c"), document_bytes=2 * BLOCK_BYTES) == every


@pytest.mark.parametrize("code", [13, 96])
def test_what_time_cannot_heal_is_raised(faulty: Faulty, code: int) -> None:
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(100)])
    faulty.fail(["getMore"], errorCode=code)
    with pytest.raises(OperationFailure) as caught:
        read(faulty.client, Range("shop", "c"), document_bytes=ELEVEN)
    assert caught.value.code == code


def test_insertion_order_cannot_go_on(faulty: Faulty) -> None:
    """A capped collection has no key to go on at: the attempt fails and is done again."""
    faulty.admin.shop.create_collection("c", capped=True, size=1 << 20)
    faulty.admin.shop.c.insert_many([{"_id": n} for n in range(100)])
    faulty.fail(["getMore"], errorCode=43)
    with pytest.raises(PyMongoError):
        read(faulty.client, Range("shop", "c", natural=True), document_bytes=ELEVEN)
