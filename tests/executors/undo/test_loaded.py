"""A collection of the job's own goes when all in it is proven to be the job's, and only then
(I40, M4)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp

from executors.boundaries import to_key, to_text
from executors.commands import there as bears
from executors.copy import copy
from executors.dumps.restoring import DumpSource
from executors.protocol import Stopped
from executors.restore import restore
from executors.undo.loaded import Origin, unload
from executors.verify import verify, verify_restored
from statemachine.events import JobSpec
from statemachine.state import Chunk, Undo, Unit
from statemachine.stimuli import Undone
from statemachine.words import ChunkId, Found, Key, TaskKind, UnitId
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, in_order, part_of, plain_unit, spec, there

pytestmark = pytest.mark.server

EMPTY = Timestamp(0, 0)


def _never(_: object) -> Any:
    raise AssertionError("there is no archive")


class Load:
    """A migration of one collection in two ranges, to be taken back."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.source: Client = pair.source_client
        self.target: Client = pair.target_client
        self.folder = folder
        self.spec: JobSpec = spec(undo=True)
        self.unit: Unit = plain_unit()
        self.undos: list[Undo] = []

    def create(self, found: Found = "nothing", **options: Any) -> None:
        self.target.shop.create_collection("c", **options)
        there_is = bears(self.target, "shop.c")
        assert there_is is not None
        self.unit = plain_unit(
            uuid=self.unit.uuid, found=found, target_uuid=there_is.uuid, type=there_is.type
        )

    def fill(self, *documents: bytes) -> None:
        self.source.shop.c.insert_many([bson.decode(each) for each in documents])
        found = bears(self.source, "shop.c")
        assert found is not None
        self.unit.uuid = found.uuid

    def chunk(
        self, number: int, lower: Any = None, upper: Any = None, *, natural: bool = False
    ) -> Chunk:
        edges = [None if each is None else _key(each) for each in (lower, upper)]
        unit = self.unit
        return Chunk(ChunkId(f"{unit.id}#{number}"), unit.id, *edges, 0, natural)

    def carry(self, chunk: Chunk, *, verified: bool = True, stop: Looks | None = None) -> None:
        with suppress(Stopped):
            done = copy(
                self.source,
                self.target,
                self.unit,
                chunk,
                self.spec,
                self.folder,
                stop or Looks(),
                lambda _: None,
            )
            self.unit.restored_documents += done.documents
        undo = Undo(
            len(self.undos) + 1,
            TaskKind.COPY,
            chunk.id,
            chunk.unit,
            chunk.id,
            chunk.lower,
            chunk.upper,
            chunk.natural,
        )
        if verified:
            seen = verify(self.source, self.target, self.unit, chunk, self.spec, Looks())
            assert seen.equal
            undo = replace(undo, documents=seen.target_documents, digest=seen.target_digest)
        self.undos.append(undo)

    def halves(self, at: int, *, verified: bool = True) -> None:
        self.carry(self.chunk(0, None, at), verified=verified)
        self.carry(self.chunk(1, at, None), verified=verified)

    def undo(
        self, *, source: bool = True, force: bool = False, stop: Looks | None = None
    ) -> Undone:
        origin = Origin(self.folder, None, self.source if source else None)
        return unload(
            self.target,
            self.unit,
            tuple(self.undos),
            self.spec,
            origin,
            stop or Looks(),
            force=force,
        )

    def there(self) -> list[bytes]:
        return there(self.target)

    def stands(self) -> bool:
        return bears(self.target, "shop.c") is not None


@pytest.fixture
def load(pair: Pair, tmp_path: Path) -> Load:
    return Load(pair, tmp_path)


def _key(value: Any) -> Key:
    return to_key(bson.encode({"_id": value}))


def _documents(*keys: Any, **fields: Any) -> list[bytes]:
    return [bson.encode({"_id": key, **fields}) for key in keys]


@pytest.mark.parametrize("source", [True, False], ids=["source", "no source"])
@pytest.mark.parametrize("verified", [True, False], ids=["verified", "unverified"])
def test_what_is_ours_goes(load: Load, *, source: bool, verified: bool) -> None:
    """By the sums of its verification, or compared with the source; without both it stays."""
    load.fill(*_documents(*range(100), x=1))
    load.create()
    load.halves(50, verified=verified)
    told = load.undo(source=source)
    if source or verified:
        assert told == Undone(100, 0, ("dropped shop.c with 100 documents",))
        assert not load.stands()
        assert load.undo(source=source) == Undone()
    else:
        assert (told.documents, told.kept) == (0, 100)
        assert "neither its file nor the source" in told.changes[-1]
        assert len(load.there()) == 100


@pytest.mark.parametrize("verified", [True, False], ids=["verified", "unverified"])
def test_what_others_wrote_stays(load: Load, *, verified: bool) -> None:
    """Theirs, and ours that they edited; what they deleted is gone (I40)."""
    load.fill(*_documents(*range(100), x=1))
    load.create()
    load.halves(50, verified=verified)
    load.target.shop.c.insert_one({"_id": "theirs"})
    load.target.shop.c.update_one({"_id": 70}, {"$set": {"edited": 1}})
    load.target.shop.c.delete_one({"_id": 71})
    told = load.undo()
    assert (told.documents, told.kept) == (98, 2)
    assert told.changes == (
        "shop.c: documents 98 removed, 2 kept",
        'shop.c _id {"$numberInt":"70"}: kept',
        'shop.c _id "theirs": kept',
    )
    assert load.there() == [*_documents(70, x=1, edited=1), *_documents("theirs")]
    assert load.undo().documents == 0
    assert len(load.there()) == 2


def test_a_range_that_is_whole_needs_no_source(load: Load) -> None:
    """Others wrote to another range; that one cannot be proven without the source."""
    load.fill(*_documents(*range(100), x=1))
    load.create()
    load.halves(50)
    load.target.shop.c.update_one({"_id": 70}, {"$set": {"edited": 1}})
    told = load.undo(source=False)
    assert (told.documents, told.kept) == (50, 50)
    assert told.changes[-1].startswith("shop.c#1: neither")
    assert load.undo() == replace(
        Undone(49, 1), changes=("shop.c: documents 49 removed, 1 kept", *_kept(70))
    )


def _kept(*keys: int) -> tuple[str, ...]:
    return tuple(f'shop.c _id {{"$numberInt":"{key}"}}: kept' for key in keys)


def test_by_force_it_goes_with_all_in_it(load: Load) -> None:
    load.fill(*_documents(1, 2))
    load.create()
    load.halves(2)
    load.target.shop.c.insert_one({"_id": "theirs"})
    assert load.undo(force=True).documents == 3
    assert not load.stands()


def test_one_that_stood_there_empty_is_empty_again(load: Load) -> None:
    load.fill(*_documents(*range(10)), in_order(_id=10, at=Timestamp(1, 1)))
    load.create("empty")
    load.halves(5)
    assert load.undo().documents == 11
    assert (load.there(), load.stands()) == ([], True)


def test_force_is_for_what_the_job_made(load: Load) -> None:
    """Others' documents in a collection that stood there stay."""
    load.fill(*_documents(*range(10)))
    load.create("empty")
    load.halves(5)
    load.target.shop.c.insert_one({"_id": "theirs"})
    told = load.undo(force=True)
    assert (told.documents, told.kept) == (10, 1)
    assert load.there() == _documents("theirs")


def test_a_killed_copy_is_proven_by_the_source(load: Load) -> None:
    """Some of a chunk is there, nobody verified it; another never began."""
    load.fill(*_documents(*range(5000), x="x" * 1000))
    load.create()
    load.carry(load.chunk(0, None, 4900), verified=False, stop=Looks(4))
    assert 0 < len(load.there()) < 4900
    load.carry(load.chunk(1, 4900, None))
    told = load.undo()
    assert told.kept == 0
    assert not load.stands()


def test_an_unrepaired_timestamp_is_ours(load: Load) -> None:
    """The server filled it in, and the process died."""
    load.source.shop.c.insert_one({"_id": 0})
    literal = [{"$replaceWith": {"$literal": {"_id": 1, "at": EMPTY}}}]
    load.source.shop.c.update_one({"_id": 1}, literal, upsert=True)
    load.fill(*_documents(2))
    load.create()
    load.undos.append(Undo(1, TaskKind.COPY, "shop.c#0", UnitId("shop.c"), ChunkId("shop.c#0")))
    load.target.shop.c.insert_many([{"_id": 0}, {"_id": 1, "at": EMPTY}])
    assert load.undo().documents == 2
    assert not load.stands()


@pytest.mark.parametrize("found", ["nothing", "empty"])
def test_killed_at_any_moment(load: Load, found: Found) -> None:
    """After each look at the token: what is proven once stays proven without any source (I39)."""
    load.fill(*_documents(*range(40), x=1))
    load.create(found)
    load.halves(20)
    load.target.shop.c.insert_one({"_id": 1000, "theirs": 1})
    load.undos[1] = replace(load.undos[1], upper=_key(1000))
    for looks in range(1, 60):
        with suppress(Stopped):
            load.undo(source=False, stop=Looks(looks))
    assert load.undo(source=False).kept == 1
    assert load.there() == _documents(1000, theirs=1)


class Writes(Looks):
    """Others write at one of the looks at the token."""

    def __init__(self, at: int, write: Callable[[], object]) -> None:
        super().__init__()
        self._left = at
        self._write = write
        self.wrote = False

    def is_set(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.wrote = True
            self._write()
        return super().is_set()


@pytest.mark.parametrize("found", ["nothing", "empty"])
@pytest.mark.parametrize("source", [True, False], ids=["source", "no source"])
def test_written_to_at_any_moment(load: Load, found: Found, *, source: bool) -> None:
    """I40: while it is proven, written down, taken out."""
    load.fill(*_documents(*range(40), x=1))
    theirs = {"_id": 5.5, "theirs": 1}
    for at in range(1, 16):
        load.target.shop.drop_collection("c")
        load.create(found)
        load.undos.clear()
        load.unit.restored_documents = 0
        load.folder = load.folder / str(at)
        load.folder.mkdir()
        load.halves(20)
        others = Writes(at, lambda: load.target.shop.c.insert_one(theirs))
        told = load.undo(source=source, stop=others)
        if others.wrote:
            assert bson.encode(theirs) in load.there(), (at, told)


def test_another_collection_of_that_name_is_left_alone(load: Load) -> None:
    load.fill(*_documents(1, 2))
    load.create()
    load.halves(2)
    load.target.shop.drop_collection("c")
    load.target.shop.c.insert_one({"_id": 1})
    assert load.undo(force=True) == Undone()
    assert load.there() == _documents(1)


def test_an_empty_collection_is_left_to_its_creation(load: Load) -> None:
    load.fill(*_documents(1))
    load.create()
    assert load.undo() == Undone()
    assert load.stands()


def test_only_what_the_job_asked_for_is_its_own(load: Load) -> None:
    """A query: what else the source holds is somebody else's on the target."""
    load.fill(*_documents(1, 2, x=1), *_documents(3, 4, x=2))
    load.create()
    query = bson.encode({"x": 1})
    load.spec = spec(undo=True, queries=(("*", to_text(query)),))
    load.carry(load.chunk(0), verified=False)
    load.target.shop.c.insert_one({"_id": 3, "x": 2})
    told = load.undo()
    assert (told.documents, told.kept) == (2, 1)
    assert load.there() == _documents(3, x=2)


def test_what_is_read_in_insertion_order(load: Load) -> None:
    """A capped collection is one chunk, whose range is all of it."""
    load.source.shop.create_collection("c", capped=True, size=1 << 20)
    load.fill(*_documents(3, 1, 2))
    load.create(capped=True, size=1 << 20)
    load.carry(load.chunk(0, natural=True))
    load.target.shop.c.insert_one({"_id": "theirs"})
    assert (load.undo().kept, load.there()) == (1, _documents("theirs"))


def test_a_time_series(load: Load) -> None:
    series = {"timeField": "at", "metaField": "m"}
    load.source.shop.create_collection("c", timeseries=series)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    load.source.shop.c.insert_many([{"at": at, "m": n, "v": n} for n in range(9)])
    found = bears(load.source, "shop.c")
    assert found is not None
    load.unit.uuid = found.uuid
    load.create(timeseries=series)
    load.carry(load.chunk(0))
    load.target.shop.c.insert_one({"at": at, "m": 100, "v": 1})
    told = load.undo()
    assert (told.documents, told.kept) == (9, 1)
    assert load.target.shop.c.count_documents({}) == 1


def test_merged_meanwhile(load: Load) -> None:
    """Of a job that merges, sums may hold what others wrote: they prove nothing then."""
    load.spec = spec(undo=True, on_conflict="skip")
    load.fill(*_documents(*range(10)))
    load.create("empty")
    load.target.shop.c.insert_one({"_id": 3.5})
    load.halves(5)
    assert sum(each.documents for each in load.undos) == 11
    assert load.undo().kept == 1
    assert load.there() == _documents(3.5)


# --- dumps ---


class Restored:
    """Parts of a mongodump's file, restored; no part stands for a range."""

    def __init__(self, client: Client, folder: Path, sent: list[list[bytes]]) -> None:
        self.client, self.folder = client, folder
        self.dump = folder / "dump"
        (self.dump / "shop").mkdir(parents=True)
        self.path = self.dump / "shop" / "c.bson"
        self.path.write_bytes(b"".join(each for part in sent for each in part))
        self.spec = spec(kind="restore", source=f"file:{self.dump}", undo=True, users=False)
        client.shop.create_collection("c")
        stands = bears(client, "shop.c")
        assert stands is not None
        self.unit = plain_unit(found="nothing", target_uuid=stands.uuid)
        self.undos: list[Undo] = []
        at = 0
        for number, part in enumerate(sent):
            self._carry(number, part, at)
            at += sum(map(len, part))

    def _carry(self, number: int, part: list[bytes], at: int) -> None:
        file = part_of(self.path, part, at=at)._replace(name="shop/c.bson")
        chunk = Chunk(
            ChunkId(f"shop.c#{number}"), self.unit.id, None, None, len(part), False, file=file
        )
        parts = restore(self.client, self.unit, chunk, self.spec, self.path, self.folder, Looks())
        *_, last = parts
        chunk.done = chunk.done._replace(rejected=last.rejected)
        seen = verify_restored(self.path, self.client, self.unit, chunk, self.spec, Looks())
        assert seen.equal
        undo = Undo(number + 1, TaskKind.RESTORE, chunk.id, self.unit.id, chunk.id, file=file)
        self.undos.append(replace(undo, documents=seen.target_documents, digest=seen.target_digest))

    def undo(self, stop: Looks | None = None) -> Undone:
        dump = DumpSource(self.spec, self.folder, _never)
        return unload(
            self.client,
            self.unit,
            self.undos,
            self.spec,
            Origin(self.folder, dump),
            stop or Looks(),
        )


SENT = [_documents(5, 3, 9), [*_documents(1, 8), in_order(x=1), in_order(x=1)]]


def test_a_dump_without_ranges_is_proven_as_a_whole(pair: Pair, tmp_path: Path) -> None:
    """Its documents without `_id` among them."""
    restored = Restored(pair.target_client, tmp_path, SENT)
    restored.path.unlink()
    assert restored.undo() == Undone(7, 0, ("dropped shop.c with 7 documents",))


def test_a_dump_tells_which_documents_are_ours(pair: Pair, tmp_path: Path) -> None:
    restored = Restored(pair.target_client, tmp_path, SENT)
    pair.target_client.shop.c.insert_one({"_id": 4})
    pair.target_client.shop.c.update_one({"_id": 9}, {"$set": {"edited": 1}})
    for looks in range(1, 20):
        with suppress(Stopped):
            restored.undo(Looks(looks))
    assert restored.undo().kept == 2
    assert there(pair.target_client) == [*_documents(4), *_documents(9, edited=1)]


def test_a_dump_that_changed_proves_nothing(pair: Pair, tmp_path: Path) -> None:
    restored = Restored(pair.target_client, tmp_path, SENT)
    pair.target_client.shop.c.insert_one({"_id": 4})
    restored.path.write_bytes(restored.path.read_bytes()[:-1] + b"\1")
    told = restored.undo()
    assert (told.documents, told.kept) == (3, 5)


def test_a_document_that_is_there_twice(pair: Pair, tmp_path: Path) -> None:
    """In the dump: it is one on the target."""
    restored = Restored(pair.target_client, tmp_path, [_documents(1, 2), _documents(2, 3)])
    assert restored.undo().documents == 3
    assert bears(pair.target_client, "shop.c") is None
