"""What was done to documents is taken back, and nothing of what others did (I39, I40, M4)."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, Timestamp
from pymongo.errors import OperationFailure

from executors.batches import Block
from executors.protocol import Stopped
from executors.rejected import Rejects, rejected_path
from executors.restore import restore
from executors.source import data_of
from executors.undo.documents import MAX_NAMED, undo_documents
from executors.undo.log import UndoLog, rows, undo_path
from executors.undo.recording import Recorder
from executors.write import Tally, Writer
from statemachine.state import NOTHING, Unit
from statemachine.stimuli import Undone
from statemachine.words import ChunkId, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import (
    Client,
    Looks,
    filed,
    in_order,
    part_of,
    plain_unit,
    spec,
    there,
    unit_of,
)

pytestmark = pytest.mark.server

CHUNK = ChunkId("shop.c#0")
EMPTY = Timestamp(0, 0)


class Merge:
    """A target that holds documents already, and a task that brings others and is taken back."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.unit: Unit = plain_unit(found="documents")
        self.path = undo_path(folder, TaskKey(TaskKind.RESTORE, CHUNK))

    def send(self, *sent: bytes, stop: Looks | None = None, **changes: Any) -> Tally:
        """These documents as one block, as a restore does."""
        asked = spec(**{"kind": "restore", "on_conflict": "overwrite", "undo": True, **changes})
        with (
            Rejects(rejected_path(self.folder, self.unit.id, CHUNK)) as rejects,
            UndoLog(self.path) as log,
        ):
            tally = Tally.after(NOTHING, rejects)
            writer = Writer(self.client, self.unit, asked, stop or Looks(), log)
            writer.insert(Block(b"".join(sent), len(sent)), tally)
        return tally

    def undo(self, stop: Looks | None = None) -> Undone:
        return undo_documents(self.client, self.path, spec(), stop or Looks())

    def there(self) -> list[bytes]:
        return there(self.client)


@pytest.fixture
def merge(pair: Pair, tmp_path: Path) -> Merge:
    return Merge(pair.target_client, tmp_path)


def _documents(*keys: Any, **fields: Any) -> list[bytes]:
    return [bson.encode({"_id": key, **fields}) for key in keys]


def _lay(client: Client, documents: list[bytes], collection: str = "c") -> None:
    """Exactly these, odd as they may be."""
    for each in documents:
        key = bson.decode(each)["_id"]
        literal = [{"$replaceWith": {"$literal": bson.decode(each)}}]
        update = {"q": {"_id": {"$eq": key}}, "u": literal, "upsert": True}
        client.shop.command({"update": collection, "updates": [update]})


def test_exactly_what_was_inserted_goes(merge: Merge) -> None:
    """Foreign documents stay, byte-equal ones among them."""
    _lay(merge.client, _documents(1, 2, 3, own=True) + _documents(4, 5))
    before = merge.there()
    merge.send(*_documents(4, 5, 6, 7), on_conflict="skip")
    assert len(merge.there()) == 7
    told = merge.undo()
    assert (told.documents, told.kept) == (2, 0)
    assert told.changes == ("shop.c: documents 2 removed",)
    assert merge.there() == before


def test_what_was_replaced_is_put_back(merge: Merge) -> None:
    """To the byte: odd names, empty timestamps, numbers of other types, the order of fields."""
    odd = [
        in_order(_id=1, **{"$set": 1, "a.b": 2}),
        in_order(_id=2, at=EMPTY, b=1, a=2),
        in_order(_id=3.0, x=Decimal128("1.10")),
        in_order(_id={"a": 1}, n=1),
        in_order(_id=EMPTY, n=1),
    ]
    _lay(merge.client, odd)
    before = merge.there()
    assert sorted(before) == sorted(odd)
    keys = (1, 2, 3, {"a": 1}, EMPTY, "new")
    tally = merge.send(*_documents(*keys, ours="é"))
    assert (tally.documents, tally.rejected) == (6, 0)
    assert set(merge.there()) == set(_documents(*keys, ours="é"))
    assert merge.undo().documents == 6
    assert sorted(merge.there()) == sorted(before)


def test_inserted_documents_with_odd_keys_go(merge: Merge) -> None:
    """Numbers of every type, and documents that servers change."""
    foreign = _documents("foreign", own=True)
    _lay(merge.client, foreign)
    keys = (1, 2.0, Int64(3), Decimal128("4"), {"x": 1}, None, "", datetime.now(UTC))
    stamped = [in_order(a=1, at=EMPTY, _id="stamped"), in_order(_id=9, at=EMPTY)]
    sent = [*_documents(*keys, ours=1), in_order(z=1, _id="behind"), *stamped]
    assert merge.send(*sent).documents == len(sent)
    assert len(merge.there()) == len(sent) + 1
    assert merge.undo() == Undone(len(sent), 0, (f"shop.c: documents {len(sent)} removed",))
    assert merge.there() == foreign


def test_what_others_changed_since_stays_and_is_named(merge: Merge) -> None:
    """Edited, deleted and laid anew: nobody's later change is destroyed."""
    _lay(merge.client, _documents("a", "b", "c", own=1))
    merge.send(*_documents("a", "b", "c", 1, 2, 3, 4))
    ours = merge.client.shop.c
    ours.update_one({"_id": "a"}, {"$set": {"edited": 1}})
    ours.delete_one({"_id": "b"})
    ours.update_one({"_id": 1}, {"$set": {"edited": 1}})
    ours.delete_one({"_id": 2})
    told = merge.undo()
    assert (told.documents, told.kept) == (3, 3)
    assert merge.there() == [
        *_documents(1, edited=1),
        *_documents("a", edited=1),
        *_documents("c", own=1),
    ]
    assert told.changes == (
        "shop.c: documents 2 removed, 1 put back, 3 kept",
        'shop.c _id "a": kept, it was changed since',
        'shop.c _id "b": kept, it was deleted since',
        'shop.c _id {"$numberInt":"1"}: kept, it was changed since',
    )


def test_only_the_first_of_what_stays_are_named(merge: Merge) -> None:
    merge.send(*_documents(*range(50)))
    merge.client.shop.c.update_many({}, {"$set": {"edited": 1}})
    told = merge.undo()
    assert (told.documents, told.kept, len(told.changes)) == (0, 50, 1 + MAX_NAMED)


def test_erased_documents_come_back(merge: Merge) -> None:
    """Where nothing lies by now; increments take documents away."""
    erased = [*_documents(1, 2, own=1), in_order(_id=3, at=EMPTY)]
    _lay(merge.client, erased)
    with UndoLog(merge.path) as log:
        recorder = Recorder(log, "shop.c", "collection")
        for each in erased:
            recorder.erased(each)
        recorder.sync()
    merge.client.shop.c.delete_many({})
    merge.client.shop.c.insert_one({"_id": 2, "others": 1})
    told = merge.undo()
    assert (told.documents, told.kept) == (2, 1)
    assert merge.there() == [erased[0], *_documents(2, others=1), erased[2]]
    assert merge.undo().documents == 0


def test_undone_twice_is_undone(merge: Merge) -> None:
    """I39: the effect of an undo may run twice."""
    _lay(merge.client, _documents(1, 2, own=1))
    before = merge.there()
    merge.send(*_documents(1, 2, 3, 4))
    assert merge.undo().documents == 4
    assert merge.undo() == Undone()
    assert merge.there() == before


def test_a_log_of_nothing_undoes_nothing(merge: Merge) -> None:
    assert merge.undo() == Undone()


@pytest.mark.parametrize("looks", range(1, 12))
def test_killed_while_it_writes_and_while_it_undoes(merge: Merge, looks: int) -> None:
    """After every look at the token: what was written down covers what was done (I40)."""
    _lay(merge.client, _documents(1, 2, own=1) + _documents(5) + [in_order(_id=6, at=1)])
    before = merge.there()
    sent = [*_documents(1, 2, 3, 4, 5), in_order(_id=6, at=EMPTY), in_order(_id=7, at=EMPTY)]
    with suppress(Stopped):
        merge.send(*sent, stop=Looks(looks))
    for undone in range(looks):
        with suppress(Stopped):
            merge.undo(Looks(undone))
    assert merge.undo().kept == 0
    assert merge.there() == before


@pytest.mark.parametrize("looks", range(1, 9))
def test_what_a_killed_attempt_inserted_stays_ours(merge: Merge, looks: int) -> None:
    """The block is sent again: what lies there by then is in the log of the first attempt."""
    _lay(merge.client, _documents(1, own=1) + _documents(2))
    before = merge.there()
    sent = [*_documents(1, 2, 3, 4), in_order(_id=6, at=EMPTY)]
    with suppress(Stopped):
        merge.send(*sent, stop=Looks(looks))
    merge.send(*sent)
    assert [bson.decode(each)["_id"] for each in merge.there()] == [1, 2, 3, 4, 6]
    assert merge.undo().kept == 0
    assert merge.there() == before


def test_inserted_and_not_yet_repaired_is_ours(merge: Merge) -> None:
    """A crash between the insert and the repair leaves times that the server filled in."""
    sent = [in_order(_id=1, at=EMPTY), in_order(_id=2, at=EMPTY)]
    looks = Looks(3)  # at the question what is there, twice, and at the insert
    with pytest.raises(Stopped):
        merge.send(*sent, stop=looks)
    assert len(merge.there()) == 2
    assert not set(merge.there()) & set(sent)
    assert (merge.undo().documents, merge.there()) == (2, [])


def test_told_twice_is_kept_once(merge: Merge) -> None:
    """A block that a crash made come again stands in the log twice."""
    with suppress(Stopped):
        merge.send(*_documents(1, 2), stop=Looks(2))
    merge.send(*_documents(1, 2))
    assert sum(row["k"] == "inserted" for row in rows(merge.path)) == 2
    merge.client.shop.c.update_many({}, {"$set": {"edited": 1}})
    assert merge.undo().kept == 2


def test_changed_again_and_again(merge: Merge) -> None:
    """Each row as of its own time: inserted, then replaced twice, all of it undone."""
    for n in range(3):
        merge.send(*_documents(1, n=n))
    assert merge.undo().documents == 3
    assert merge.there() == []


def test_unique_values_that_changed_hands_go_back(merge: Merge) -> None:
    """In the reverse order each document finds its place free."""
    merge.client.shop.c.create_index("u", unique=True)
    _lay(merge.client, [in_order(_id=1, u=1), in_order(_id=2, u=2)])
    before = merge.there()
    merge.send(in_order(_id=1, u=7), in_order(_id=2, u=1), in_order(_id=3, u=2))
    merge.send(in_order(_id=1, u=8), in_order(_id=2, u=1), in_order(_id=3, u=2))
    assert [bson.decode(each)["u"] for each in merge.there()] == [8, 1, 2]
    assert merge.undo().kept == 0
    assert merge.there() == before


def test_what_others_put_in_its_place_keeps_a_document_out(merge: Merge) -> None:
    """A unique value that somebody else took meanwhile: all but that one is put back."""
    merge.client.shop.c.create_index("u", unique=True)
    _lay(merge.client, [in_order(_id=n, u=n) for n in range(9)])
    merge.send(*[in_order(_id=n, u=100 + n) for n in range(9)])
    merge.client.shop.c.insert_one({"_id": "theirs", "u": 4})
    told = merge.undo()
    assert (told.documents, told.kept) == (8, 1)
    assert "E11000" in told.changes[1]
    assert [bson.decode(each)["u"] for each in merge.there()] == [0, 1, 2, 3, 104, 5, 6, 7, 8, 4]


def test_a_collation_takes_two_for_one(merge: Merge) -> None:
    """What the index takes for our key and is another one is not touched."""
    merge.client.shop.create_collection("c", collation={"locale": "en", "strength": 2})
    _lay(merge.client, _documents("A", "b", own=1))
    before = merge.there()
    tally = merge.send(*_documents("a", "b", "c", ours=1))
    assert (tally.documents, tally.rejected) == (2, 1)
    merge.client.shop.c.delete_one({"_id": "c"})
    merge.client.shop.c.insert_one({"_id": "C", "others": 1})
    assert merge.undo().documents == 1
    assert merge.there() == [*before, *_documents("C", others=1)]


def test_a_capped_collection(merge: Merge) -> None:
    """It takes part in no transaction; what this server lets go, goes."""
    merge.client.shop.create_collection("c", capped=True, size=1 << 20)
    merge.client.shop.c.insert_many([{"_id": n, "own": 1} for n in range(3)])
    before = merge.there()
    merge.send(*_documents(1, 2, 7, 8))
    assert merge.undo().documents == 4
    assert merge.there() == before


def test_buckets_of_a_time_series(merge: Merge) -> None:
    series = {"timeField": "at", "metaField": "m"}
    for name in ("c", "other"):
        merge.client.shop.create_collection(name, timeseries=series)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    merge.client.shop.c.insert_many([{"at": at, "m": n, "v": n} for n in range(5)])
    merge.client.shop.other.insert_many([{"at": at, "m": n, "v": n} for n in range(7)])
    merge.unit = unit_of(merge.client)
    merge.unit.found = "documents"
    _, buckets = data_of("shop.other", "timeseries")
    sent = there(merge.client, f"shop.{buckets}")
    before = list(merge.client.shop.c.find({}).sort("_id"))
    merge.send(*sent)
    assert merge.client.shop.c.count_documents({}) == 12
    assert merge.undo() == Undone(7, 0, ("shop.c: documents 7 removed",))
    assert list(merge.client.shop.c.find({}).sort("_id")) == before


def test_a_collection_that_is_gone_stays_gone(merge: Merge) -> None:
    """To put something back would make it anew, without its options."""
    _lay(merge.client, _documents(1, own=1))
    merge.send(*_documents(1, 2))
    merge.client.shop.drop_collection("c")
    told = merge.undo()
    assert (told.documents, told.kept) == (0, 1)
    assert "its collection is gone" in told.changes[1]
    assert merge.client.shop.list_collection_names() == []


def test_a_view_in_its_place_is_not_written_to(merge: Merge) -> None:
    """What it shows is not what lay there."""
    _lay(merge.client, _documents(1, own=1))
    merge.send(*_documents(1, 2))
    merge.client.shop.c.rename("d")
    merge.client.shop.create_collection("c", viewOn="d", pipeline=[])
    assert merge.undo().kept == 1
    assert there(merge.client, "shop.d") == _documents(1, 2)


def test_somebody_in_between_is_waited_for(merge: Merge) -> None:
    """A transaction that has one of the documents: nobody's change is lost."""
    merge.send(*_documents(*range(20)))
    with merge.client.start_session() as session, session.start_transaction():
        merge.client.shop.c.update_one({"_id": 7}, {"$set": {"edited": 1}}, session=session)
        with pytest.raises(OperationFailure, match="conflict"):
            merge.undo()
    told = merge.undo()
    assert (told.documents, told.kept) == (19, 1)
    assert merge.there() == _documents(7, edited=1)


def test_rows_of_other_kinds_are_passed_over(merge: Merge) -> None:
    with UndoLog(merge.path) as log:
        log.add({"k": "command", "db": "shop", "undo": {"drop": "c"}, "ok": [], "said": ""})
        log.sync()
    merge.send(*_documents(1))
    assert merge.undo().documents == 1


def test_large_documents_are_put_back_a_few_at_a_time(merge: Merge) -> None:
    """What is held is bounded by bytes, not only by number."""
    large = [in_order(_id=n, own="x" * (3 << 20)) for n in range(12)]
    merge.client.shop.c.insert_many([bson.decode(each) for each in large])
    for n in range(0, 12, 4):
        merge.send(*_documents(*range(n, n + 4)))
    assert merge.undo().documents == 12
    assert merge.there() == large


def test_a_hundred_thousand_documents(merge: Merge) -> None:
    """Their rows are few, and what is held at a time is a lot of them."""
    _lay(merge.client, _documents(-1, own=1))
    for n in range(0, 100_000, 20_000):
        merge.send(*_documents(*range(n, n + 20_000), ours=1))
    assert sum(1 for _ in rows(merge.path)) == 10
    looks = Looks()
    assert merge.undo(looks).documents == 100_000
    assert looks.taken > 40
    assert merge.there() == _documents(-1, own=1)


def test_only_what_is_merged_is_written_down(merge: Merge, tmp_path: Path) -> None:
    """A collection of our own goes as a whole: recording its documents would cost something."""
    sent = _documents(*range(10))
    (tmp_path / "c.bson").write_bytes(b"".join(sent))
    chunk = filed(part_of(tmp_path / "c.bson", sent), merge.unit)
    asked = spec(kind="restore", on_conflict="skip", undo=True)
    for found, undo, there_is in (
        ("nothing", True, False),
        ("empty", True, False),
        ("documents", False, False),
        ("documents", True, True),
    ):
        merge.client.shop.c.delete_many({})
        merge.unit.found = found  # type: ignore[assignment]
        spec_ = asked.model_copy(update={"undo": undo})
        path = tmp_path / "c.bson"
        list(restore(merge.client, merge.unit, chunk, spec_, path, tmp_path, Looks()))
        assert merge.path.exists() == there_is
    assert merge.undo().documents == 10


@pytest.mark.parametrize("sent", [2, 1], ids=["insert", "replace"])
def test_what_cannot_be_written_down_is_not_done(merge: Merge, tmp_path: Path, sent: int) -> None:
    """The log comes first: without it nothing is changed."""
    _lay(merge.client, _documents(1, own=1))
    (tmp_path / "undo").write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        merge.send(*_documents(sent))
    assert merge.there() == _documents(1, own=1)


@pytest.mark.parametrize("on_conflict", ["skip", "overwrite"])
def test_large_documents_are_undone_by_smaller_transactions(
    merge: Merge, monkeypatch: pytest.MonkeyPatch, on_conflict: str
) -> None:
    """I40: servers end a transaction after a minute, whatever a lot was expected to hold."""
    monkeypatch.setattr("executors.undo.documents.READ_AT_ONCE", 10_000)
    before = _documents(*range(20), x="x" * 3000)
    _lay(merge.client, before)
    merge.send(*_documents(*range(40), y="y" * 3000), on_conflict=on_conflict)
    told = merge.undo()
    assert (told.documents, told.kept) == (40 if on_conflict == "overwrite" else 20, 0)
    assert merge.there() == before
