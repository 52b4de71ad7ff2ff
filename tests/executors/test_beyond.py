"""What lies on the target beside what was restored, where no chunk can see it (P10, I22)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from executors.beyond import NAMED, beyond
from executors.protocol import Stopped
from statemachine.events import MetadataDifference
from statemachine.state import Unit
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, plain_unit

pytestmark = pytest.mark.server

UNIT = plain_unit()


def put(client: Client, sent: Sequence[dict[str, Any]], name: str = "c") -> list[bytes]:
    made = list(map(bson.encode, sent))
    if made:
        client.shop.command({"insert": name, "documents": [RawBSONDocument(each) for each in made]})
    return made


def reading(made: Sequence[bytes]) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(made)


def found(
    pair: Pair, made: Sequence[bytes], unit: Unit = UNIT, *, again: bool = True, rejected: int = 0
) -> tuple[MetadataDifference, ...]:
    wanted = replace(unit, source_documents=len(made), rejected=rejected)
    return beyond(pair.target_client, wanted, reading(made) if again else None, Looks())


def counts(source: int, target: int) -> MetadataDifference:
    return MetadataDifference(what="documents", source=str(source), target=str(target))


def extra(key: str) -> MetadataDifference:
    return MetadataDifference(what=f"extra: _id {key}", source="", target="")


@pytest.mark.parametrize("count", [0, 1, 50])
@pytest.mark.parametrize("again", [True, False])
def test_nothing_beyond(pair: Pair, count: int, *, again: bool) -> None:
    made = put(pair.target_client, [{"_id": n} for n in range(count)])
    assert found(pair, made, again=again) == ()


def test_an_extra_document_is_counted_and_named(pair: Pair) -> None:
    made = put(pair.target_client, [{"_id": n} for n in range(300)])
    put(pair.target_client, [{"_id": "planted"}])
    assert found(pair, made) == (counts(300, 301), extra('"planted"'))


def test_an_archive_cannot_be_read_again(pair: Pair) -> None:
    """Then the counts have to do."""
    made = put(pair.target_client, [{"_id": n} for n in range(3)])
    put(pair.target_client, [{"_id": "planted"}])
    assert found(pair, made, again=False) == (counts(3, 4),)


def test_only_so_many_are_named(pair: Pair) -> None:
    made = put(pair.target_client, [{"_id": n} for n in range(5)])
    put(pair.target_client, [{"_id": f"{n}"} for n in range(3 * NAMED)])
    first, *named = found(pair, made)
    assert first == counts(5, 5 + 3 * NAMED)
    assert len(named) == len({each.what for each in named}) == NAMED


def test_what_was_rejected_need_not_be_there(pair: Pair) -> None:
    """So one beyond is seen although as many are missing."""
    made = list(map(bson.encode, ({"_id": n} for n in range(3))))
    put(pair.target_client, [{"_id": 0}, {"_id": 1}])
    assert found(pair, made, rejected=1) == ()
    put(pair.target_client, [{"_id": "planted"}])
    assert found(pair, made, rejected=1)[0] == counts(2, 3)


def test_a_document_without_id_excuses_one(pair: Pair) -> None:
    """It got its `_id` from the restore; nobody can tell which one that is."""
    made = [*map(bson.encode, [{"_id": 1}, {"v": 1}, {"v": 2}])]
    put(pair.target_client, [{"_id": 1}, {"_id": "given", "v": 1}, {"_id": "too", "v": 2}])
    assert found(pair, made) == ()
    put(pair.target_client, [{"_id": "planted"}])
    first, *named = found(pair, made)
    assert first == counts(3, 4)
    assert extra('"planted"') in named


@pytest.mark.parametrize("name", ["a..b", "x y", "naïve/ü"])
def test_names_that_the_driver_refuses(pair: Pair, name: str) -> None:
    unit = plain_unit(f"shop.{name}")
    made = put(pair.target_client, [{"_id": 1}], name)
    assert found(pair, made, unit) == ()
    put(pair.target_client, [{"_id": 2}], name)
    assert found(pair, made, unit) == (counts(1, 2), extra('{"$numberInt":"2"}'))


def test_of_a_time_series_buckets_are_counted(pair: Pair) -> None:
    pair.target_client.shop.create_collection("c", timeseries={"timeField": "t"})
    unit = plain_unit(type="timeseries")
    assert found(pair, [], unit) == ()
    pair.target_client.shop.c.insert_one({"t": bson.DatetimeMS(0), "v": 1})
    first, *named = found(pair, [], unit)
    assert first == counts(0, 1)
    assert len(named) == 1


def test_a_collection_that_is_gone_holds_nothing_beyond(pair: Pair) -> None:
    assert found(pair, [bson.encode({"_id": 1})]) == ()


def test_it_can_be_stopped(pair: Pair) -> None:
    put(pair.target_client, [{"_id": 1}])
    with pytest.raises(Stopped):
        beyond(pair.target_client, UNIT, reading([]), Looks(0))
    with pytest.raises(Stopped):
        beyond(pair.target_client, UNIT, reading([]), Looks(1))
