"""From where to where a repeated export goes, on a real server."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp

from executors.boundaries import from_json
from executors.export.since import Newest, NotOneCollection, NotOnlyGrowing, newest
from executors.protocol import StopToken
from statemachine.events import ExportSpec, JobSpec
from statemachine.words import BsonText
from tests.conftest import Pair
from tests.statemachine.examples import SPEC

WHEN = datetime(2024, 1, 1, tzinfo=UTC)


class Never(StopToken):
    def is_set(self) -> bool:
        return False


def spec(field: str = "at", above: str = "", query: str = "", **more: Any) -> JobSpec:
    form = ExportSpec(format="jsonl", since=field, above=BsonText(above))
    queries = (("*", from_json(query)),) if query else ()
    named = {"kind": "export", "include": ("shop.orders",), "export": form, "queries": queries}
    return SPEC.model_copy(update={**named, **more})


def found(pair: Pair, asked: JobSpec) -> Newest:
    return newest(pair.source_client, asked, Never(), read_preference="primary")


@pytest.mark.parametrize(
    ("values", "greatest"),
    [
        ([1, 7, 3], '{"at":{"$numberInt":"7"}}'),
        ([1, Int64(1 << 40), 2.5, Decimal128("8")], '{"at":{"$numberLong":"1099511627776"}}'),
        (["a", "c", "b"], '{"at":"c"}'),
        ([WHEN], '{"at":{"$date":{"$numberLong":"1704067200000"}}}'),
        ([ObjectId("0" * 24)], '{"at":{"$oid":"000000000000000000000000"}}'),
        ([Timestamp(2, 1), Timestamp(1, 9)], '{"at":{"$timestamp":{"t":2,"i":1}}}'),
        ([], ""),
    ],
)
def test_the_greatest_value(pair: Pair, values: list[Any], greatest: str) -> None:
    """G4: with its very type, and nothing where nothing is."""
    orders = pair.source_client.shop.orders
    pair.source_client.shop.create_collection("orders")
    if values:
        orders.insert_many([{"at": value} for value in values])
    assert found(pair, spec()) == Newest("shop.orders", BsonText(greatest), indexed=False)
    orders.create_index([("at", -1), ("other", 1)])
    assert found(pair, spec()).indexed
    if greatest:
        again = found(pair, spec(above=greatest))
        assert not again.upto, "nothing is above the greatest"


@pytest.mark.parametrize(
    "odd",
    [{}, {"at": None}, {"at": "text"}, {"at": [1, 2]}, {"at": float("nan")}, {"at": True},
     {"at": Decimal128("NaN")}, {"at": {"x": 1}}],
)  # fmt: skip
def test_a_document_that_no_query_would_find(pair: Pair, odd: dict[str, Any]) -> None:
    """Nothing is passed over without a word: it is left out by name, or nothing is exported."""
    pair.source_client.shop.orders.insert_many([{"at": 5}, {"at": 9}, odd])
    with pytest.raises(NotOnlyGrowing):
        found(pair, spec())
    with pytest.raises(NotOnlyGrowing):
        found(pair, spec(above='{"at":{"$numberInt":"4"}}'))
    told = found(pair, spec(query='{"at": {"$type": "int", "$gte": 5}, "_id": {"$exists": 1}}'))
    if odd.get("at") != [1, 2]:
        assert told.upto == '{"at":{"$numberInt":"9"}}'


def test_fields_within_and_ids(pair: Pair) -> None:
    """G4."""
    orders = pair.source_client.shop.orders
    orders.insert_many([{"_id": n, "meta": {"at": n * 2}} for n in range(5)])
    assert found(pair, spec("meta.at")).upto == '{"meta.at":{"$numberInt":"8"}}'
    assert found(pair, spec("_id")) == Newest(
        "shop.orders", BsonText('{"_id":{"$numberInt":"4"}}'), indexed=True
    )
    orders.create_index("meta.at", sparse=True)
    assert not found(pair, spec("meta.at")).indexed


def test_one_collection(pair: Pair) -> None:
    """The values of one say nothing of another; a view is none."""
    shop = pair.source_client.shop
    shop.orders.insert_one({"at": 1})
    shop.create_collection("v", viewOn="orders", pipeline=[])
    assert found(pair, spec(include=("shop.*",))).namespace == "shop.orders"
    shop.customers.insert_one({"at": 1})
    with pytest.raises(NotOneCollection, match=r"shop.customers, shop.orders"):
        found(pair, spec(include=("shop.*",)))
