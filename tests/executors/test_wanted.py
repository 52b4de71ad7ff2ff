"""Only the documents that are wanted, and all as of one time (I21, I22)."""

import threading
from itertools import pairwise
from typing import Any

import bson
import pytest
from bson import MaxKey, MinKey

from executors.batches import Range, read_range
from executors.boundaries import to_key, to_text
from executors.classify import classify
from executors.errors import NoSnapshot
from executors.plan import plan
from executors.rawbson import documents
from executors.source import data_of, range_of
from executors.split import split_chunk
from executors.survey import survey
from statemachine.words import Cause
from tests.conftest import Pair
from tests.executors.examples import RAW, Client, chunk_of, spec, unit_of
from tests.executors.kinds import AGES_AGO, measured

pytestmark = pytest.mark.server

KEYS = [MinKey(), None, *range(2_000), *map(str, range(500)), {"a": 1}, MaxKey()]
QUERIES: dict[str, dict[str, Any]] = {
    "some": {"n": {"$mod": [7, 3]}},
    "by key": {"_id": {"$gte": 100, "$lt": 200}},
    "the ends": {"_id": {"$in": [MinKey(), MaxKey()]}},
    "all": {},
    "none": {"n": -1},
    "an expression": {"$expr": {"$gt": ["$n", 1_000]}},
    "types": {"_id": {"$type": "string"}},
}
CLUSTERED: dict[str, Any] = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}}
STOP = threading.Event()


@pytest.fixture
def source(pair: Pair) -> Client:
    pair.source_client.shop.c.insert_many([{"_id": k, "n": n} for n, k in enumerate(KEYS)])
    return pair.source_client


def read(client: Client, what: Range) -> list[bytes]:
    return [one for block in read_range(client, what, STOP) for one in documents(block.data)]


def wanted(client: Client, query: dict[str, Any]) -> list[bytes]:
    """What the server says, in `_id` order."""
    found = client.shop.get_collection("c", codec_options=RAW).find(query).sort("_id")
    return [bytes(each.raw) for each in found]


@pytest.mark.parametrize("name", QUERIES)
def test_every_wanted_document_in_exactly_one_chunk(source: Client, name: str) -> None:
    query = QUERIES[name]
    job = spec(chunk_docs=200, queries=(("shop.*", to_text(bson.encode(query))),))
    unit = unit_of(source)
    planned = plan(source, unit, job, STOP, capped=False)
    edges = [None, *planned.boundaries, None]
    assert len(edges) > 8
    found: list[bytes] = []
    for lower, upper in pairwise(edges):
        found += read(source, range_of(unit, chunk_of(unit, lower, upper), job))
    assert found == wanted(source, query)
    assert abs(planned.documents - len(found)) <= len(KEYS) // 10
    whole = chunk_of(unit)
    assert sum(split_chunk(source, unit, whole, job, STOP).documents) == len(found)


def test_a_query_goes_on_behind_a_key(source: Client) -> None:
    query = {"n": {"$mod": [2, 0]}}
    every = wanted(source, query)
    after = to_key(bson.encode({"_id": bson.decode(every[100])["_id"]}))
    blocks = read_range(source, Range("shop", "c", filter=bson.encode(query)), STOP, after=after)
    assert [one for block in blocks for one in documents(block.data)] == every[101:]


def test_a_query_that_no_sample_can_answer(source: Client) -> None:
    """The estimate is all of it; where the server refuses the query, reading says so."""
    text = (("*", to_text(bson.encode({"$text": {"$search": "x"}}))),)
    planned = plan(source, unit_of(source), spec(queries=text), STOP, capped=False)
    assert planned.documents == len(KEYS)


@pytest.mark.parametrize("options", [{}, CLUSTERED, {"collation": {"locale": "sv"}}])
def test_as_of_one_time(pair: Pair, options: dict[str, Any]) -> None:
    """Inserted, changed and removed since: nothing of it is seen, in any chunk."""
    client = pair.source_client
    client.shop.create_collection("c", **options)
    client.shop.c.insert_many([{"_id": n, "n": 0} for n in range(3_000)] + [{"_id": MaxKey()}])
    found = survey(client, spec(include=("shop.*",), exclude=(), consistency="snapshot"))
    before = wanted(client, {})
    client.shop.c.update_many({"_id": {"$lt": 1_000}}, {"$set": {"n": 1}})
    client.shop.c.insert_many([{"_id": n} for n in range(3_000, 3_010)])
    client.shop.c.delete_many({"_id": {"$gt": 2_000, "$lt": 2_500}})
    client.shop.c.delete_one({"_id": MaxKey()})
    unit, time = unit_of(client), found.cluster_time
    edges = [None, *(to_key(bson.encode({"_id": n})) for n in (1_000, 2_222)), None]
    seen: list[bytes] = []
    for lower, upper in pairwise(edges):
        chunk = chunk_of(unit, lower, upper)
        seen += read(client, range_of(unit, chunk, spec(), cluster_time=time))
    assert seen == before
    assert wanted(client, {}) != before
    whole = range_of(unit, chunk_of(unit, natural=True), spec(), cluster_time=time)
    assert sorted(read(client, whole)) == sorted(before)


def test_what_cannot_be_read_as_of_one_time(pair: Pair) -> None:
    """ESNAP002: no server reads a capped collection so; said before any work."""
    pair.source_client.shop.create_collection("log", capped=True, size=4096)
    pair.source_client.shop.c.insert_one({"_id": 1})
    asked = {"include": (), "consistency": "snapshot"}
    with pytest.raises(NoSnapshot, match=r"shop\.log is capped"):
        survey(pair.source_client, spec(**asked, exclude=()))
    assert survey(pair.source_client, spec(**asked, exclude=("*.log",))).cluster_time


def test_time_that_is_over(source: Client) -> None:
    """ESNAP001: no attempt brings it back; both ways out are named."""
    unit = unit_of(source)
    long_ago = range_of(unit, chunk_of(unit), spec(), cluster_time="1000000000.1")
    with pytest.raises(Exception, match="minSnapshotHistoryWindowInSeconds") as gone:
        read(source, long_ago)
    cause, code, why = classify(gone.value)
    assert (cause, code) == (Cause.PERMANENT, "ESNAP001")
    assert "--consistency fuzzy" in why


def test_buckets_are_read_like_documents(pair: Pair) -> None:
    """In ranges, all of them, to the byte."""
    measured(metaField="m")(pair.source_client.shop, "c")
    points = [{"t": AGES_AGO, "m": n} for n in range(500)]
    pair.source_client.shop.c.insert_many(points)
    unit = unit_of(pair.source_client)
    planned = plan(pair.source_client, unit, spec(chunk_docs=100), STOP, capped=False)
    assert planned.boundaries
    edges = [None, *planned.boundaries, None]
    found: list[bytes] = []
    for lower, upper in pairwise(edges):
        found += read(pair.source_client, range_of(unit, chunk_of(unit, lower, upper), spec()))
    database, collection = data_of("shop.c", "timeseries")
    there = pair.source_client[database].get_collection(collection, codec_options=RAW)
    assert sorted(found) == sorted(bytes(each.raw) for each in there.find())
