"""What lies beside what a dump holds, where no chunk can see it (P10, I22)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from gzip import compress
from io import BytesIO
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors.batches import Range
from executors.beyond import NAMED, beyond_on_source, beyond_on_target, extras
from executors.boundaries import to_key, to_text
from executors.dumps import restoring
from executors.dumps.errors import DamagedDump
from executors.dumps.restoring import DumpSource
from executors.protocol import Stopped, StopToken
from executors.sides import InRange
from statemachine.events import MetadataDifference
from statemachine.state import Unit
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, plain_unit, spec

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
    sent = len(made)
    wanted = replace(unit, source_documents=sent, target_documents=sent, rejected=rejected)
    return beyond_on_target(pair.target_client, wanted, reading(made) if again else None, Looks())


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


def test_a_document_that_the_dump_holds_twice_hides_no_other(pair: Pair) -> None:
    """It is one on the target: what counts is what was found there, not what was sent."""
    made = put(pair.target_client, [{"_id": n} for n in range(3)])
    assert found(pair, [*made, made[1]]) == ()
    put(pair.target_client, [{"_id": "planted"}])
    assert found(pair, [*made, made[1]]) == (counts(3, 4), extra('"planted"'))


def test_what_is_missing_hides_no_other(pair: Pair) -> None:
    made = put(pair.target_client, [{"_id": n} for n in range(3)])
    pair.target_client.shop.c.delete_one({"_id": 1})
    put(pair.target_client, [{"_id": "planted"}])
    assert found(pair, made) == (counts(2, 3), extra('"planted"'))
    unit = replace(UNIT, source_documents=3, target_documents=2)
    assert beyond_on_target(pair.target_client, unit, None, Looks()) == (counts(2, 3),)


def test_a_dump_is_not_read_again_where_all_was_inserted(pair: Pair) -> None:
    """By the job itself, each under an `_id` of its own."""
    put(pair.target_client, [{"_id": n} for n in range(3)])
    done = replace(UNIT, source_documents=3, target_documents=3, restored_documents=3)

    def never() -> Iterator[bytes]:
        raise AssertionError

    assert beyond_on_target(pair.target_client, done, never, Looks()) == ()
    with pytest.raises(AssertionError):
        beyond_on_target(pair.target_client, replace(done, present=1), never, Looks())


# --- on the source ---


def missing(
    pair: Pair, made: Sequence[bytes], *, again: bool = True, **changes: Any
) -> tuple[MetadataDifference, ...]:
    unit = replace(UNIT, source_documents=len(made), target_documents=len(made))
    documents = reading(made) if again else None
    return beyond_on_source(pair.source_client, unit, spec(**changes), documents, Looks())


def test_what_the_source_holds_and_the_dump_does_not_is_missing(pair: Pair) -> None:
    made = put(pair.source_client, [{"_id": n} for n in range(50)])
    assert missing(pair, made) == missing(pair, made, again=False) == ()
    put(pair.source_client, [{"_id": "new"}])
    named = MetadataDifference(what='missing: _id "new"', source="", target="")
    assert missing(pair, made) == (counts(51, 50), named)
    assert missing(pair, made, again=False) == (counts(51, 50),)


@pytest.mark.parametrize("query", [{"_id": {"$lt": 10}}, {"$where": "this._id < 10"}])
def test_of_the_source_only_what_the_query_wants(pair: Pair, query: dict[str, Any]) -> None:
    """Also one that an aggregation does not take."""
    made = put(pair.source_client, [{"_id": n} for n in range(50)])
    asked = {"queries": (("shop.*", to_text(bson.encode(query))),)}
    assert missing(pair, made[:10], **asked) == missing(pair, made[:10], again=False, **asked) == ()
    first, *named = missing(pair, made[:9], **asked)
    assert (first, len(named)) == (counts(10, 9), 1)


# --- beside a file ---

maps = st.frozensets(st.integers(0, 12), max_size=8)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(maps, maps, st.integers(0, 2))
def test_extras_are_what_no_document_of_the_file_stands_for(
    pair: Pair, left: frozenset[int], right: frozenset[int], twice: int
) -> None:
    """I22: no extra."""
    pair.target_client.shop.c.delete_many({})
    put(pair.target_client, [{"_id": n, "v": n} for n in right])
    file = [bson.encode({"_id": n}) for n in left]
    side = InRange(pair.target_client, Range("shop", "c", keys_only=True), Looks())
    number, named = extras(side, reading(file + file[:twice]), 3)
    assert number == len(right - left)
    assert len(named) == min(3, number)
    assert set(named) <= {to_key(bson.encode({"_id": n})) for n in right - left}


def test_extras_and_documents_without_id(pair: Pair) -> None:
    made = put(pair.target_client, [*({"_id": n} for n in range(20)), {"_id": "given", "a": 1}])
    side = InRange(pair.target_client, Range("shop", "c", keys_only=True), Looks())

    def counted(*more: dict[str, Any]) -> int:
        return extras(side, reading([*made[:20], *map(bson.encode, more)]), 3)[0]

    assert counted({"a": 1}) == counted({"a": 1}, {"_id": 0}) == 0
    assert counted() == counted({"_id": 0}) == 1
    assert counted({"a": 1}, {"a": 2}) == -1


# --- the file, read again ---

SENT = [bson.encode({"_id": n, "x": bytes(n)}) for n in range(500)]


def file_again(
    folder: Path, stop: StopToken, *, gzip: bool = False
) -> Callable[[], Iterator[bytes]]:
    (folder / "dump" / "shop").mkdir(parents=True)
    raw, name = b"".join(SENT), "c.bson.gz" if gzip else "c.bson"
    (folder / "dump" / "shop" / name).write_bytes(compress(raw) if gzip else raw)
    asked = spec(kind="restore", source=f"file:{folder / 'dump'}", include=(), exclude=())
    again = DumpSource(asked, folder, lambda *_: BytesIO()).again(UNIT, stop)
    assert again is not None
    return again


@pytest.mark.parametrize("gzip", [False, True])
def test_a_file_is_read_again_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gzip: bool
) -> None:
    """I28: whoever reads a large file shows that it lives, and leaves when it is told to."""
    monkeypatch.setattr(restoring, "BLOCK_BYTES", 1000)
    stop = Looks()
    again = file_again(tmp_path, stop, gzip=gzip)
    before = stop.taken
    assert list(again()) == SENT
    blocks = stop.taken - before
    assert len(b"".join(SENT)) / 1000 <= blocks < len(SENT)
    stop.most = stop.taken + 3
    with pytest.raises(Stopped):
        list(again())


@pytest.mark.parametrize("end", [-1, -400])
def test_a_file_that_was_cut_since_is_damaged(tmp_path: Path, end: int) -> None:
    """I24."""
    again = file_again(tmp_path, Looks())
    path = tmp_path / "dump" / "shop" / "c.bson"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DamagedDump):
        list(again())


def test_a_file_that_changed_since_is_damaged(tmp_path: Path) -> None:
    """I24."""
    again = file_again(tmp_path, Looks())
    path = tmp_path / "dump" / "shop" / "c.bson"
    path.write_bytes(SENT[0] + b"\xff" * 9 + SENT[1])
    read = again()
    assert next(read) == SENT[0]
    with pytest.raises(DamagedDump):
        next(read)


def test_it_can_be_stopped(pair: Pair) -> None:
    put(pair.target_client, [{"_id": 1}])
    for most in (0, 1):
        with pytest.raises(Stopped):
            beyond_on_target(pair.target_client, UNIT, reading([]), Looks(most))
