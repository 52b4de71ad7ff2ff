"""A plan cuts what has to be read, and estimates what is wanted of it (I21)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import bson
import pytest

from executors.batches import Range, read_range
from executors.boundaries import to_text
from executors.plan import COUNTED_BYTES, MAX_COUNTED, _is_counted, plan
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.source import data_of
from statemachine.state import Unit
from statemachine.stimuli import Planned
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, spec, unit_of

pytestmark = pytest.mark.server


def planned(client: Client, unit: Unit, **changes: Any) -> Planned:
    asked = spec(**{"chunk_docs": 100, **changes})
    return plan(client, unit, asked, Looks(), capped=False)


def wanting(query: dict[str, Any]) -> dict[str, Any]:
    return {"queries": (("shop.*", to_text(bson.encode(query))),)}


def read(client: Client, unit: Unit, found: Planned) -> list[int]:
    """How many documents each chunk holds; all of them together are all there are."""
    edges = [None, *found.boundaries, None]
    database, collection = data_of(unit.id, unit.type)
    chunks = [
        [
            each
            for block in read_range(client, Range(database, collection, low, high), Looks())
            for each in documents(block.data)
        ]
        for low, high in pairwise(edges)
    ]
    there = client[database].command("count", collection)["n"]
    assert len({each for chunk in chunks for each in chunk}) == sum(map(len, chunks)) == there
    return list(map(len, chunks))


@pytest.fixture
def filled(pair: Pair) -> Client:
    pair.source_client.shop.c.insert_many([{"_id": n, "n": n % 10} for n in range(2_000)])
    return pair.source_client


def test_a_query_changes_the_estimate_and_not_the_cuts(filled: Client) -> None:
    """What is passed over has to be read as well."""
    unit = unit_of(filled)
    found = planned(filled, unit, **wanting({"n": {"$lt": 5}}))
    assert 800 <= found.documents <= 1_200
    assert 10 <= len(read(filled, unit, found)) <= 40
    assert planned(filled, unit, **wanting({"n": 77})).documents == 0
    assert planned(filled, unit).documents == 2_000


@pytest.mark.parametrize(
    "query", [{"$where": "this.n > 5"}, {"$text": {"$search": "x"}}, {"p": {"$near": [0, 0]}}]
)
def test_a_query_that_a_sample_cannot_be_asked(filled: Client, query: dict[str, Any]) -> None:
    """Then all may be wanted."""
    assert planned(filled, unit_of(filled), **wanting(query)).documents == 2_000


def test_the_query_of_another_collection_changes_nothing(filled: Client) -> None:
    queries = (("blog.*", to_text(bson.encode({"n": 1}))),)
    assert planned(filled, unit_of(filled), queries=queries).documents == 2_000


def test_chunks_of_few_documents_are_cut_evenly(pair: Pair) -> None:
    """I21: a sample of so many would have the server read every document; every `_id` lies in
    the index."""
    client = pair.source_client
    client.shop.c.insert_many([{"_id": n, "x": bytes(10_000)} for n in range(400)])
    found = planned(client, unit_of(client), chunk_docs=100_000, chunk_bytes=200_000)
    chunks = read(client, unit_of(client), found)
    assert chunks == [20] * 20


def test_when_the_index_is_walked() -> None:
    """I21: where that is cheap beside reading, or a sample is not; never without an end."""
    many = MAX_COUNTED
    assert _is_counted(many, many * COUNTED_BYTES, 100)
    assert not _is_counted(many + 1, many * COUNTED_BYTES * 2, 100)
    assert not _is_counted(many, many * COUNTED_BYTES - 1, 100)
    assert _is_counted(1000, 1000, 100), "ten of a chunk"
    assert not _is_counted(0, 1 << 30, 16), "the counters of a server that was killed"


@pytest.mark.parametrize("name", ["a..b", "x y", "naïve/ü"])
def test_names_that_the_driver_refuses(pair: Pair, name: str) -> None:
    """I21."""
    client = pair.source_client
    client.shop.command({"insert": name, "documents": [{"_id": n} for n in range(500)]})
    unit = unit_of(client, f"shop.{name}")
    assert len(read(client, unit, planned(client, unit))) >= 3


def test_of_a_time_series_the_buckets_are_cut(pair: Pair) -> None:
    """I21: by their own `_id`s."""
    client = pair.source_client
    client.shop.create_collection("c", timeseries={"timeField": "t"})
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    readings = [{"t": begin + timedelta(days=n), "v": n} for n in range(300)]
    client.shop.c.insert_many(readings)
    unit = unit_of(client)
    found = planned(client, unit, chunk_docs=50)
    assert found.documents == 300
    assert len(read(client, unit, found)) >= 4


@pytest.mark.parametrize("count", [0, 1, 99])
def test_what_is_small_is_one_chunk(pair: Pair, count: int) -> None:
    client = pair.source_client
    client.shop.create_collection("c")
    if count:
        client.shop.c.insert_many([{"_id": n} for n in range(count)])
    assert planned(client, unit_of(client)) == Planned((), count, natural=False)


def test_insertion_order_is_not_cut(filled: Client) -> None:
    found = plan(filled, unit_of(filled), spec(chunk_docs=10), Looks(), capped=True)
    assert found == Planned((), 2_000, natural=True)


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_plan_can_be_stopped(filled: Client, most: int) -> None:
    with pytest.raises(Stopped):
        plan(filled, unit_of(filled), spec(chunk_docs=100), Looks(most), capped=False)
