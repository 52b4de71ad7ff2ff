"""What a plain command finds: any name, any number of batches, to the byte."""

from typing import Any

import bson
import pytest
from bson import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from executors.protocol import Stopped
from executors.rows import rows
from tests.conftest import Pair
from tests.executors.examples import Client, Looks

pytestmark = pytest.mark.server

NAMES = ("c", "a..b", "a.", "x y", "naïve/ü", "-", "%24", "collection" * 20)


def fill(client: Client, name: str, count: int) -> list[bytes]:
    documents = [bson.encode({"_id": n, "v": n % 3}) for n in range(count)]
    client.shop.command("create", name)
    if documents:
        sent = [RawBSONDocument(each) for each in documents]
        client.shop.command({"insert": name, "documents": sent})
    return documents


def found(client: Client, command: dict[str, Any], stop: Looks, **more: Any) -> list[bytes]:
    return list(rows(client, "shop", command, stop, **more))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preference", ["", "primary", "nearest"])
def test_any_name_over_many_batches(pair: Pair, name: str, preference: str) -> None:
    """I22: the driver refuses some of these names, a server does not."""
    client, stop = pair.source_client, Looks()
    documents = fill(client, name, 300)
    asked = {"find": name, "sort": {"_id": 1}, "batchSize": 100}
    assert found(client, asked, stop, read_preference=preference) == documents
    assert stop.taken >= 2
    pipeline = [{"$match": {"v": 1}}, {"$sort": {"_id": 1}}]
    asked = {"aggregate": name, "pipeline": pipeline, "cursor": {"batchSize": 7}}
    stop = Looks()
    assert found(client, asked, stop, read_preference=preference) == documents[1::3]
    assert stop.taken >= 2


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_the_edges_of_batches(pair: Pair, count: int, batch: int) -> None:
    """An empty first batch is no end; a full last one is none either."""
    documents = fill(pair.source_client, "c", count)
    asked = {"find": "c", "sort": {"_id": 1}, "batchSize": batch}
    assert found(pair.source_client, asked, Looks()) == documents


def test_a_collection_that_is_not_there_holds_nothing(pair: Pair) -> None:
    assert found(pair.source_client, {"find": "nobody"}, Looks()) == []


def test_values_that_python_cannot_show_come_as_they_are(pair: Pair) -> None:
    odd = bson.encode({"_id": 1, "far": DatetimeMS(2**62), "text": "ab"}).replace(
        b"ab", b"\xff\xfe"
    )
    pair.source_client.shop.c.insert_one(RawBSONDocument(odd))
    assert found(pair.source_client, {"find": "c"}, Looks()) == [odd]


@pytest.mark.parametrize("most", [0, 1])
def test_a_stop_is_seen_before_every_batch(pair: Pair, most: int) -> None:
    """And what was asked is not changed: it may be asked again."""
    fill(pair.source_client, "a..b", 50)
    asked = {"find": "a..b", "batchSize": 10}
    before, taken = dict(asked), 0
    with pytest.raises(Stopped):
        for _ in rows(pair.source_client, "shop", asked, Looks(most)):
            taken += 1
    assert taken == most * 10
    assert asked == before
    assert len(found(pair.source_client, asked, Looks())) == 50


def test_an_error_of_the_server_is_raised(pair: Pair) -> None:
    with pytest.raises(OperationFailure):
        found(pair.source_client, {"find": "c", "filter": {"$no": 1}}, Looks())
