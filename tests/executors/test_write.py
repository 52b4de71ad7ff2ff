"""Blocks of odd documents: each is settled by name, and as often as it is sent (P3, P10, I22)."""

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from executors.batches import Block
from executors.flaws import Code
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.rejected import Rejects, rejected_documents, rejected_path
from executors.source import data_of
from executors.write import Conflict, Tally, Writer, halves
from statemachine.state import NOTHING, Unit
from statemachine.words import ChunkId
from tests.conftest import Pair
from tests.executors.bsons import FLAWED
from tests.executors.examples import Client, Looks, in_order, plain_unit, spec, there, unit_of

pytestmark = pytest.mark.server

UNIT = plain_unit()
CHUNK = ChunkId("shop.c#0")
EMPTY = Timestamp(0, 0)


class Bench:
    """A target, a folder for what it refuses, and what was told of it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.unit = UNIT

    def send(self, *sent: bytes, stop: Looks | None = None, **changes: Any) -> Tally:
        """What became of these documents, sent as one block."""
        asked = spec(**{"kind": "restore", **changes})
        with Rejects(rejected_path(self.folder, self.unit.id, CHUNK)) as rejects:
            tally = Tally.after(NOTHING, rejects)
            writer = Writer(self.client, self.unit, asked, stop or Looks())
            writer.insert(Block(b"".join(sent), len(sent)), tally)
            rejects.sync()
        return tally

    def there(self) -> list[bytes]:
        return there(self.client)

    def rejected(self) -> list[bytes]:
        return list(rejected_documents(self.folder, self.unit.id, CHUNK))


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.target_client, tmp_path)


def settled(tally: Tally) -> tuple[int, int, int, int]:
    return tally.documents, tally.present, tally.rejected, tally.repaired


# --- what is no document --------------------------------------------------------------------------

NO_DOCUMENTS = {
    kind: each.document
    for kind, each in FLAWED.items()
    if struct.pack("<i", len(each.document)) == each.document[:4]
    and not each.document[-1]
    and each.code is not Code.OLD_BINARY
}
"""Their envelopes are right, which is all that a restore looks at; servers refuse them."""


def numbered(count: int, begin: int = 1000) -> list[bytes]:
    return [bson.encode({"_id": n}) for n in range(begin, begin + count)]


def test_each_that_is_no_document_is_found_among_many(bench: Bench) -> None:
    """P10: a server refuses all that came with it; it is named, kept whole, and alone."""
    odd = list(NO_DOCUMENTS.values())
    sound = numbered(3 * len(odd))
    sent = [each for n, bad in enumerate(odd) for each in (*sound[3 * n : 3 * n + 3], bad)]
    tally = bench.send(*sent)
    assert settled(tally) == (len(sound), 0, len(odd), 0)
    assert bench.there() == sound
    kept = rejected_path(bench.folder, bench.unit.id, CHUNK).read_bytes()
    assert list(documents(kept)) == odd
    assert {each.code[:6] for each in tally.rejections} == {"EMONGO"}


@pytest.mark.parametrize("place", [0, 1, 500, 1022, 1023])
def test_one_among_many_costs_few_commands(bench: Bench, place: int) -> None:
    """It is looked for by halves: two commands for each halving, and what is sound is sent once
    more at most in each."""
    sound, looks = numbered(1023), Looks()
    odd = NO_DOCUMENTS["boolean 7"]
    tally = bench.send(*sound[:place], odd, *sound[place:], stop=looks)
    assert settled(tally) == (1023, 0, 1, 0)
    assert looks.taken <= 2 * 10 + 1
    assert bench.there() == sound
    assert bench.rejected() == [odd]


def test_sent_again_what_is_sound_is_present(bench: Bench) -> None:
    """I16: killed in the middle of the halves, all is sent again."""
    sound, odd = numbered(64), NO_DOCUMENTS["string length 0"]
    with pytest.raises(Stopped):
        bench.send(*sound[:40], odd, *sound[40:], stop=Looks(5))
    held = len(bench.there())
    assert 0 < held < 64
    tally = bench.send(*sound[:40], odd, *sound[40:])
    assert settled(tally) == (64, held, 1, 0)
    assert bench.there() == sound


def test_no_server_holds_what_is_no_document(bench: Bench) -> None:
    """What comes from a server is not halved: the error is a riddle, not a rejection."""
    with pytest.raises(OperationFailure):
        bench.send(*numbered(2), NO_DOCUMENTS["boolean 7"], kind="migrate")
    assert bench.rejected() == []


def test_a_block_refused_for_another_reason_is_not_halved(bench: Bench) -> None:
    """Each half would be refused as well, down to every document by name."""
    bench.unit = plain_unit("shop.$no")
    with pytest.raises(OperationFailure) as caught:
        bench.send(*numbered(8))
    assert caught.value.code == 73
    assert bench.rejected() == []


def test_what_fails_behind_the_insert_is_not_counted_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I25: the insert was acknowledged; its block is whole, whatever comes after it."""

    def refused(self: Writer, document: bytes) -> None:
        raise OperationFailure("no", 2)

    monkeypatch.setattr(Writer, "_must_replace", refused)
    with Rejects(rejected_path(bench.folder, UNIT.id, CHUNK)) as rejects:
        tally = Tally.after(NOTHING, rejects)
        writer = Writer(bench.client, UNIT, spec(kind="restore"), Looks())
        sent = in_order(_id=1, empty=EMPTY) + in_order(_id=2)
        with pytest.raises(OperationFailure):
            writer.insert(Block(sent, 2), tally)
    assert settled(tally) == (2, 0, 0, 0)


@pytest.mark.parametrize("count", [2, 3, 7, 8])
def test_halves_are_all_of_it(count: int) -> None:
    sent = [bson.encode({"_id": n, "x": "y" * n}) for n in range(count)]
    one, other = halves(Block(b"".join(sent), count))
    assert one.documents >= 1
    assert other.documents >= 1
    assert one.documents + other.documents == count
    assert [*documents(one.data), *documents(other.data)] == sent


# --- an _id that is not in front ------------------------------------------------------------------


def behind(n: int, **fields: Any) -> bytes:
    return in_order(a=1, **fields, _id=n, z=2)


def front(n: int, **fields: Any) -> bytes:
    return bson.encode({"_id": n, "a": 1, **fields, "z": 2})


def test_an_id_behind_other_fields_is_moved_once(bench: Bench) -> None:
    """I16: a server puts it in front; sent again, that is the document that was sent."""
    sent = [behind(n) for n in range(20)]
    assert settled(bench.send(*sent)) == (20, 0, 0, 0)
    assert settled(bench.send(*sent)) == (20, 20, 0, 0)
    assert bench.there() == [front(n) for n in range(20)]


@pytest.mark.parametrize("policy", ["stop", "skip", "overwrite"])
def test_an_id_behind_other_fields_of_another_document(bench: Bench, policy: str) -> None:
    bench.send(behind(1, v="old"))
    if policy == "stop":
        with pytest.raises(Conflict):
            bench.send(behind(1, v="new"), on_conflict=policy)
        return
    tally = bench.send(behind(1, v="new"), on_conflict=policy)
    skipped = policy == "skip"
    assert settled(tally) == (0 if skipped else 1, 0, int(skipped), 0)
    assert bench.there() == [front(1, v="old" if skipped else "new")]


# --- empty timestamps -----------------------------------------------------------------------------


def test_what_a_server_fills_in_is_put_back_and_counted(bench: Bench) -> None:
    """I22: each document once, whatever stands beside; not those that need nothing."""
    sent = [
        bson.encode({"_id": 1, "at": EMPTY}),
        bson.encode({"_id": 2, "at": EMPTY, "too": EMPTY}),
        bson.encode({"_id": 3, "in": {"at": EMPTY}, "of": [EMPTY]}),
        bson.encode({"_id": EMPTY, "v": 1}),
        bson.encode({"_id": 5, "at": Timestamp(1, 0)}),
        behind(6, at=EMPTY),
    ]
    tally = bench.send(*sent)
    assert settled(tally) == (6, 0, 0, 3)
    assert set(bench.there()) == {*sent[:5], front(6, at=EMPTY)}
    assert tally.news()[5] == 3
    assert tally.news()[5] == 0
    assert settled(bench.send(*sent)) == (6, 6, 0, 0)


def test_what_a_crash_left_filled_in_is_repaired(bench: Bench) -> None:
    """I16: inserted and not yet repaired. A document of somebody else is none of that."""
    sent = [bson.encode({"_id": n, "at": EMPTY, "n": n}) for n in range(3)]
    lying = [RawBSONDocument(each) for each in sent]
    bench.client.shop.c.insert_many(lying)
    assert all(each not in bench.there() for each in sent)
    assert settled(bench.send(*sent)) == (3, 3, 0, 3)
    assert bench.there() == sent
    bench.client.shop.c.update_one({"_id": 1}, {"$set": {"n": 7, "at": Timestamp(5, 5)}})
    with pytest.raises(Conflict):
        bench.send(*sent)


def test_a_repair_that_was_rejected_is_none(bench: Bench) -> None:
    bench.client.shop.c.create_index("e", unique=True)
    sent = [bson.encode({"_id": n, "e": 1, "at": EMPTY}) for n in range(3)]
    assert settled(bench.send(*sent)) == (1, 0, 2, 1)
    assert bench.there() == sent[:1]


# --- measurements ---------------------------------------------------------------------------------


@pytest.fixture
def series(pair: Pair, bench: Bench) -> Unit:
    """A time series in buckets, on the source; an empty one of its kind on the target."""
    options = {"timeField": "t", "metaField": "m"}
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("c", timeseries=options)
    readings = [
        {"t": datetime(2024, 1, 1 + n // 100, n % 24, tzinfo=UTC), "m": n % 5, "v": n / 7}
        for n in range(500)
    ]
    pair.source_client.shop.c.insert_many(readings)
    bench.unit = unit_of(pair.source_client)
    return bench.unit


def test_buckets_are_carried_as_they_are(pair: Pair, bench: Bench, series: Unit) -> None:
    """I22: to the byte, once; sent again they are present."""
    database, buckets = data_of(series.target, series.type)
    sent = there(pair.source_client, f"{database}.{buckets}")
    assert len(sent) >= 5
    assert settled(bench.send(*sent)) == (len(sent), 0, 0, 0)
    assert settled(bench.send(*sent)) == (len(sent), len(sent), 0, 0)
    assert there(pair.target_client, f"{database}.{buckets}") == sent
    shown = list(pair.source_client.shop.c.find({}, sort=[("t", 1), ("v", 1)]))
    assert list(pair.target_client.shop.c.find({}, sort=[("t", 1), ("v", 1)])) == shown
