"""Source or dump against target: what is equal, what differs, by name and in bounded memory."""

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors.batches import Block
from executors.boundaries import from_key, to_text
from executors.chunkfile import DamagedFile, write_chunk_file
from executors.sides import InFile, each_of
from executors.verify import MAX_DIFFERENCES, verify, verify_dumped, verify_restored
from statemachine.state import NOTHING, Chunk, ChunkFile, Done, Unit
from statemachine.stimuli import Verified
from statemachine.words import BsonText, Key, UnitId
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, spec, there

Docs = list[dict[str, Any]]
SOME: Docs = [{"_id": n, "v": n} for n in range(20)]
UNIT = Unit(UnitId("shop.c"), "shop.c", "collection", "", BsonText(""), (), 0, 0)
slow = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
maps = st.dictionaries(st.integers(0, 12), st.integers(0, 2), max_size=8)


def put(client: Client, documents: Docs) -> None:
    client.shop.c.delete_many({})
    if documents:
        client.shop.c.insert_many([RawBSONDocument(bson.encode(each)) for each in documents])


def both(pair: Pair, left: Docs, right: Docs) -> Unit:
    for client in (pair.source_client, pair.target_client):
        if "c" not in client.shop.list_collection_names():
            client.shop.create_collection("c")
    put(pair.source_client, left)
    put(pair.target_client, right)
    return UNIT


def compared(pair: Pair, unit: Unit, done: Done = NOTHING, **changes: Any) -> Verified:
    ends = (pair.source_client, pair.target_client)
    return verify(*ends, unit, chunk_of(unit, done=done), spec(**changes), Event())


def told(found: Verified) -> dict[int, str]:
    """What differs, by `_id`."""
    return {bson.decode(from_key(each.key).raw)["_id"]: each.what for each in found.differing}


def as_documents(what: dict[int, int]) -> Docs:
    return [{"_id": key, "v": value} for key, value in what.items()]


def differing(left: dict[int, int], right: dict[int, int], *, extra: bool = True) -> dict[int, str]:
    found: dict[int, str] = {}
    for key in left.keys() | right.keys():
        if key not in right:
            found[key] = "missing"
        elif key not in left and extra:
            found[key] = "extra"
        elif key in left and left[key] != right[key]:
            found[key] = "different"
    return found


def dumped(folder: Path, documents: Docs, name: str = "u/0-1.flb") -> ChunkFile:
    """As a dump leaves a chunk, or a mongodump its file."""
    raw = b"".join(map(bson.encode, documents))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".flb"):
        write_chunk_file(path, iter([Block(raw, len(documents))] if documents else []), "zstd")
    else:
        path.write_bytes(raw)
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    return ChunkFile(name, len(documents), len(raw), size, digest, 0, "dump")


def with_file(unit: Unit, file: ChunkFile, **more: Any) -> Chunk:
    chunk = chunk_of(unit, **more)
    chunk.file = file
    return chunk


# --- source and target ---


@slow
@given(maps, maps)
def test_two_ranges_are_equal_or_every_difference_is_named(
    pair: Pair, left: dict[int, int], right: dict[int, int]
) -> None:
    """I22."""
    found = compared(pair, both(pair, as_documents(left), as_documents(right)))
    assert found.equal == (left == right)
    assert found.equal == (found.source_digest == found.target_digest)
    assert (found.source_documents, found.target_documents) == (len(left), len(right))
    expected = differing(left, right)
    assert told(found).items() <= expected.items()
    assert len(found.differing) == min(len(expected), MAX_DIFFERENCES)


def test_no_more_are_named_than_the_limit(pair: Pair) -> None:
    """A limit on everything."""
    found = compared(pair, both(pair, SOME, []))
    assert len(found.differing) == MAX_DIFFERENCES < len(SOME)
    assert (found.source_documents, found.target_documents) == (len(SOME), 0)


def test_the_range_is_the_chunks_own(pair: Pair) -> None:
    """I21: what lies outside belongs to another chunk."""
    unit = both(pair, SOME, [*SOME[:9], *SOME[10:], {"_id": 99}])
    for lower, upper, equal in ((0, 9, True), (9, 10, False), (10, 99, True), (99, None, False)):
        edges = [
            None if each is None else Key(f'{{"$numberInt":"{each}"}}') for each in (lower, upper)
        ]
        found = verify(
            pair.source_client,
            pair.target_client,
            unit,
            chunk_of(unit, *edges),
            spec(),
            Event(),
        )
        assert found.equal == equal, (lower, upper)


def test_a_changed_type_or_order_of_fields_is_a_difference(pair: Pair) -> None:
    """I22: to the byte."""
    left = [{"_id": 1, "a": 1, "b": 2}, {"_id": 2, "a": 1}]
    right = [{"_id": 1, "b": 2, "a": 1}, {"_id": 2, "a": 1.0}]
    found = compared(pair, both(pair, left, right))
    assert told(found) == {1: "different", 2: "different"}


@pytest.mark.parametrize("merge", ["skip", "overwrite"])
def test_a_job_that_merges_asks_only_for_the_documents_of_the_source(
    pair: Pair, merge: str
) -> None:
    others = [{"_id": 1000 + n} for n in range(100)]
    unit = both(pair, SOME, SOME + others)
    assert not compared(pair, unit).equal
    assert compared(pair, unit, on_conflict=merge).equal
    put(pair.target_client, SOME[1:] + others)
    found = compared(pair, unit, on_conflict=merge)
    assert (found.equal, told(found)) == (False, {0: "missing"})


def test_as_many_as_were_rejected_are_no_mismatch(pair: Pair) -> None:
    """Rejected documents are known to be missing or different; others are not."""
    unit = both(pair, SOME, [*SOME[2:], {"_id": 0, "v": "other"}])
    found = compared(pair, unit, Done(rejected=2))
    assert (found.equal, found.rejected) == (True, 2)
    assert told(found) == {0: "different", 1: "missing"}
    for rejected in (0, 1, 3):
        found = compared(pair, unit, Done(rejected=rejected))
        assert (found.equal, found.rejected) == (False, 0)
    pair.target_client.shop.c.insert_one({"_id": 99})
    assert not compared(pair, unit, Done(rejected=2)).equal


def test_more_may_be_rejected_than_are_named(pair: Pair) -> None:
    """The count is exact where it decides."""
    unit = both(pair, SOME, SOME[15:])
    found = compared(pair, unit, Done(rejected=15))
    assert (found.equal, found.rejected, len(found.differing)) == (True, 15, MAX_DIFFERENCES)
    assert not compared(pair, unit, Done(rejected=16)).equal
    assert not compared(pair, unit, Done(rejected=14)).equal


# --- dump and deployment, by range ---


@slow
@given(maps, maps)
def test_a_chunk_file_of_a_dump_stands_for_its_range(
    pair: Pair, tmp_path: Path, left: dict[int, int], right: dict[int, int]
) -> None:
    """I22: in both directions, extra documents too."""
    unit = both(pair, as_documents(right), as_documents(right))
    file = dumped(tmp_path, as_documents(left))
    chunk = with_file(unit, file)
    found = verify_restored(
        tmp_path / chunk.file.name, pair.target_client, unit, chunk, spec(), Event()
    )
    assert found.equal == (left == right)
    assert told(found).items() <= differing(left, right).items()
    found = verify_dumped(
        pair.source_client, tmp_path / chunk.file.name, unit, chunk, spec(), Event()
    )
    assert found.equal == (left == right)
    assert told(found).items() <= differing(right, left).items()


def test_a_chunk_file_is_compared_with_its_own_range_alone(pair: Pair, tmp_path: Path) -> None:
    """I21."""
    unit = both(pair, SOME, SOME)
    edges = [Key('{"$numberInt":"5"}'), Key('{"$numberInt":"9"}')]
    chunk = with_file(unit, dumped(tmp_path, SOME[5:9]), lower=edges[0], upper=edges[1])
    assert verify_restored(
        tmp_path / chunk.file.name, pair.target_client, unit, chunk, spec(), Event()
    ).equal
    assert verify_dumped(
        pair.source_client, tmp_path / chunk.file.name, unit, chunk, spec(), Event()
    ).equal


@pytest.mark.parametrize("name", ["u/0-1.flb", "c.bson"])
def test_a_file_that_changed_since_is_damaged_and_not_compared(
    pair: Pair, tmp_path: Path, name: str
) -> None:
    """I24."""
    unit = both(pair, SOME, SOME)
    chunk = with_file(unit, dumped(tmp_path, SOME, name))
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    with pytest.raises(DamagedFile):
        verify_restored(
            tmp_path / chunk.file.name, pair.target_client, unit, chunk, spec(), Event()
        )


# --- parts without a range, by look-up ---


def looked_up(pair: Pair, folder: Path, unit: Unit, documents: Docs, **done: int) -> Verified:
    chunk = with_file(unit, dumped(folder, documents, "c.bson"), done=Done(**done))
    return verify_restored(
        folder / chunk.file.name, pair.target_client, unit, chunk, spec(), Event()
    )


@slow
@given(maps, maps)
def test_each_document_of_a_part_is_looked_up(
    pair: Pair, tmp_path: Path, left: dict[int, int], right: dict[int, int]
) -> None:
    """I22: missing and different are named; what is extra is told per unit."""
    unit = both(pair, [], as_documents(right))
    found = looked_up(pair, tmp_path, unit, as_documents(left))
    expected = differing(left, right, extra=False)
    assert found.equal == (not expected) == (found.source_digest == found.target_digest)
    assert told(found) == expected
    assert found.source_documents == len(left)
    assert found.target_documents == len(left.keys() & right.keys())


def test_a_rejected_document_of_a_part_is_known(pair: Pair, tmp_path: Path) -> None:
    unit = both(pair, [], SOME[3:])
    found = looked_up(pair, tmp_path, unit, SOME, rejected=3)
    assert (found.equal, found.rejected, len(found.differing)) == (True, 3, 3)
    assert not looked_up(pair, tmp_path, unit, SOME, rejected=2).equal
    assert not looked_up(pair, tmp_path, unit, SOME, rejected=4).equal


def test_documents_without_id_have_the_one_that_the_restore_gave_them(
    pair: Pair, tmp_path: Path
) -> None:
    """faults.md 5, 25."""
    mixed: Docs = [{"a": 1}, *SOME, {"a": 2}, {}]
    file = dumped(tmp_path, mixed, "c.bson")
    side = InFile(tmp_path / "c.bson", file, Event())
    unit = both(pair, [], [bson.decode(each) for each in each_of(side)])
    found = looked_up(pair, tmp_path, unit, mixed)
    assert found.equal
    assert (found.source_documents, found.target_documents) == (23, 23)
    pair.target_client.shop.c.delete_one({"a": 2})
    found = looked_up(pair, tmp_path, unit, mixed)
    assert (found.equal, [each.what for each in found.differing]) == (False, ["missing"])
    assert looked_up(pair, tmp_path, unit, mixed, rejected=1).equal


def test_an_id_that_is_not_in_front_is_the_same_document(pair: Pair, tmp_path: Path) -> None:
    """faults.md: `_id` moves to the front of a document on insert."""
    unit = both(pair, [], [{"_id": 1, "a": 1, "b": 2}])
    assert looked_up(pair, tmp_path, unit, [{"a": 1, "_id": 1, "b": 2}]).equal
    assert not looked_up(pair, tmp_path, unit, [{"b": 2, "_id": 1, "a": 1}]).equal


def test_damage_inside_a_document_hides_no_other(pair: Pair, tmp_path: Path) -> None:
    """faults.md 5, 19 to 21: the restore rejected it; the comparison goes on."""
    unit = both(pair, [], SOME)
    nested = b"\x16\0\0\0\x03_id\0\x0c\0\0\0\x77a\0\1\2\3\4\0\0"
    no_key = b"\x10\0\0\0\x02_id\0\xff\xff\xff\x7fab\0"
    path = tmp_path / "c.bson"
    path.write_bytes(b"".join(map(bson.encode, SOME)) + nested + no_key)
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    file = ChunkFile("c.bson", 22, size, size, digest, 0, "dump")

    def compared(rejected: int) -> Verified:
        chunk = with_file(unit, file, done=Done(rejected=rejected))
        return verify_restored(path, pair.target_client, unit, chunk, spec(), Event())

    found = compared(2)
    assert (found.equal, found.rejected) == (True, 2)
    assert (found.source_documents, found.target_documents) == (22, 20)
    assert [each.what for each in found.differing] == ["missing"]
    assert not compared(0).equal
    assert not compared(3).equal


# --- a dump and the source, by look-up ---


def dump_looked_up(
    pair: Pair, folder: Path, unit: Unit, documents: Docs, **changes: Any
) -> Verified:
    chunk = with_file(unit, dumped(folder, documents, "c.bson"))
    path = folder / chunk.file.name if chunk.file else folder
    return verify_dumped(pair.source_client, path, unit, chunk, spec(**changes), Event())


@slow
@given(maps, maps)
def test_each_document_of_a_dump_without_ranges_is_looked_up_on_the_source(
    pair: Pair, tmp_path: Path, left: dict[int, int], right: dict[int, int]
) -> None:
    """I22: a part of such a dump says nothing of what lies beside it."""
    unit = both(pair, as_documents(left), [])
    found = dump_looked_up(pair, tmp_path, unit, as_documents(right))
    expected = {key: what for key, what in differing(left, right).items() if what != "missing"}
    assert found.equal == (not expected) == (found.source_digest == found.target_digest)
    assert told(found) == expected
    assert found.source_documents == len(left.keys() & right.keys())
    assert found.target_documents == len(right)


def test_a_dump_without_ranges_is_looked_up_where_the_query_chooses(
    pair: Pair, tmp_path: Path
) -> None:
    """What the source holds now and the query does not want is extra in the dump."""
    query = (("shop.*", to_text(bson.encode({"v": {"$lt": 5}}))),)
    unit = both(pair, SOME, [])
    assert dump_looked_up(pair, tmp_path, unit, SOME[:5], queries=query).equal
    found = dump_looked_up(pair, tmp_path, unit, SOME[:6], queries=query)
    assert (found.equal, told(found)) == (False, {5: "extra"})
    assert dump_looked_up(pair, tmp_path, unit, SOME[:6]).equal


# --- users and roles ---


def test_users_that_the_target_has_of_its_own_are_no_difference(pair: Pair, tmp_path: Path) -> None:
    """They were merged: those of the source are there, others may be."""
    unit = replace(UNIT, id=UnitId("shop.c"), target="admin.system.users")
    both(pair, [], [])
    pair.target_client.admin.command({"createUser": "own", "pwd": "x", "roles": []})
    try:
        (own,) = there(pair.target_client, "admin.system.users")
        pair.source_client.shop.c.insert_one(RawBSONDocument(own))
        pair.target_client.admin.command({"createUser": "another", "pwd": "x", "roles": []})
        assert compared(pair, unit).equal
        chunk = with_file(unit, dumped(tmp_path, [bson.decode(own)]))
        path = tmp_path / "u/0-1.flb"
        ends = (path, pair.target_client, unit, chunk, spec(), Event())
        assert verify_restored(*ends).equal
        pair.target_client.admin.command("dropUser", "own")
        assert not compared(pair, unit).equal
        assert not verify_restored(*ends).equal
    finally:
        pair.target_client.admin.command("dropAllUsersFromDatabase")


def test_what_is_compared_is_what_lies_there(pair: Pair) -> None:
    """The oracle of these tests reads by itself."""
    both(pair, SOME, SOME)
    assert there(pair.source_client) == there(pair.target_client) == list(map(bson.encode, SOME))


# --- what the source's side reads ---


def test_a_query_chooses_on_the_source_alone(pair: Pair) -> None:
    """The target must hold what was wanted and nothing else."""
    query = to_text(bson.encode({"v": {"$lt": 5}}))
    unit = both(pair, SOME, SOME[:5])
    assert compared(pair, unit, queries=(("shop.*", query),)).equal
    put(pair.target_client, SOME[:6])
    found = compared(pair, unit, queries=(("shop.*", query),))
    assert (found.equal, told(found)) == (False, {5: "extra"})


def test_a_time_series_is_compared_by_its_buckets(pair: Pair, tmp_path: Path) -> None:
    """faults.md: what a view shows has no stable bytes."""
    unit = replace(UNIT, type="timeseries")
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("c", timeseries={"timeField": "t"})
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    pair.source_client.shop.c.insert_many([{"t": at, "v": n} for n in range(50)])
    buckets = there(pair.source_client, "shop.system.buckets.c")
    assert not compared(pair, unit).equal
    name = "system.buckets.c"
    pair.target_client.shop[name].insert_many([RawBSONDocument(each) for each in buckets])
    assert compared(pair, unit).equal
    path = tmp_path / "c.bson"
    path.write_bytes(b"".join(buckets))
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    chunk = with_file(unit, ChunkFile("c.bson", len(buckets), size, size, digest, 0, "dump"))
    assert verify_restored(path, pair.target_client, unit, chunk, spec(), Event()).equal
    assert verify_dumped(pair.source_client, path, unit, chunk, spec(), Event()).equal
