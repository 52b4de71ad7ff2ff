"""The export of one chunk: its documents in whole files, or no file at all."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.batches import Block
from executors.boundaries import to_key, to_text
from executors.clients import connect
from executors.errors import OtherCollection
from executors.export.columns import Column
from executors.export.columns import to_text as columns_text
from executors.export.errors import BadProjection, PlaceTaken
from executors.export.place import take
from executors.export.processes import Processes
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.rejected import rejected_documents
from executors.storage.local import Local
from executors.transforms.heldback import Reject
from statemachine.stimuli import Dumped
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, unit_of
from tests.executors.export.job import Job, asked

pytestmark = pytest.mark.server
COUNT = 10


@pytest.fixture
def source(pair: Pair) -> Iterator[Client]:
    rows = [{"_id": n, "kind": n % 3, "x": {"y": n}} for n in range(COUNT)]
    pair.source_client.shop.c.insert_many(rows)
    deployment = connect("source", pair.source.uri)
    yield deployment.client
    deployment.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(1) as made:
        yield made


class Place:
    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes, self.folder = processes, folder
        self.store = Local(folder / "out")

    def job(self, **form: Any) -> Job:
        return Job(self.store, self.processes, self.folder / "work", asked(**form))

    def rows(self, done: Dumped) -> list[Any]:
        names = [part.name for part in done.parts] or [done.file] * bool(done.documents)
        lines = b"".join(self.store.get(name) for name in names).splitlines()
        assert len(lines) == done.documents
        return [json.loads(line) for line in lines]


@pytest.fixture
def place(processes: Processes, tmp_path: Path) -> Place:
    return Place(processes, tmp_path)


def text(document: dict[str, Any]) -> str:
    return to_text(bson.encode(document))


def ids(rows: list[Any]) -> list[int]:
    return [int(row["_id"]["$numberInt"]) for row in rows]


def test_a_range_is_a_file(source: Client, place: Place) -> None:
    """G1, I1: the lower boundary is in it, the upper one is not."""
    unit = unit_of(source)
    lower, upper = (to_key(bson.encode({"_id": n})) for n in (2, 7))
    done = place.job().export(source, unit, chunk_of(unit, lower, upper), attempt=4)
    assert done.file == "shop.c/part-000000-20261122-143000-7f3a-1-4.jsonl"
    assert ids(place.rows(done)) == [2, 3, 4, 5, 6]
    assert (done.bytes, done.parts) == (
        5 * len(bson.encode({"_id": 1, "kind": 1, "x": {"y": 1}})),
        (),
    )
    assert [found.name for found in place.store.list()] == [done.file]


@pytest.mark.parametrize(
    ("projection", "fields"),
    [
        ({"kind": 1}, ["_id", "kind"]),
        ({"kind": 1, "_id": 0}, ["kind"]),
        ({"kind": 0}, ["_id", "x"]),
        ({"_id": False}, ["kind", "x"]),
        ({"_id": 1}, ["_id"]),
    ],
)
def test_a_projection(
    source: Client, place: Place, projection: dict[str, Any], fields: list[str]
) -> None:
    """As of find, `_id` too, by which a read that was cut goes on."""
    unit = unit_of(source)
    done = place.job(projection=text(projection)).export(source, unit, chunk_of(unit))
    assert {tuple(row) for row in place.rows(done)} == {tuple(fields)}


@pytest.mark.parametrize("projection", [{"_id": "$kind"}, {"_id.a": 1}, {"_id": {"$add": [1]}}])
def test_a_projection_keeps_ids_whole(
    source: Client, place: Place, projection: dict[str, Any]
) -> None:
    unit = unit_of(source)
    with pytest.raises(BadProjection):
        place.job(projection=text(projection)).export(source, unit, chunk_of(unit))


@pytest.mark.parametrize(
    ("above", "upto", "found"),
    [("", '{"_id":{"$numberInt":"4"}}', [0, 1, 2, 3, 4]),
     ('{"_id":{"$numberInt":"4"}}', '{"_id":{"$numberInt":"6"}}', [5, 6])],
)  # fmt: skip
def test_only_what_is_new(
    source: Client, place: Place, above: str, upto: str, found: list[int]
) -> None:
    """Above the one bound, up to the other."""
    unit = unit_of(source)
    done = place.job(since="_id", above=above, upto=upto).export(source, unit, chunk_of(unit))
    assert ids(place.rows(done)) == found


def test_a_query_and_what_is_new(source: Client, place: Place) -> None:
    """Both hold."""
    unit = unit_of(source)
    job = place.job(since="x.y", upto='{"v":{"$numberInt":"7"}}')
    job.spec = job.spec.model_copy(update={"queries": (("shop.*", text({"kind": 1})),)})
    assert ids(place.rows(job.export(source, unit, chunk_of(unit)))) == [1, 4, 7]


def test_nothing_is_no_file(source: Client, place: Place) -> None:
    unit = unit_of(source)
    done = place.job(since="x.y", upto='{"v":"text"}').export(source, unit, chunk_of(unit))
    assert (done.file, done.documents, done.sha256, done.parts) == ("shop.c", 0, "", ())
    assert list(place.store.list()) == []


def test_what_does_not_fit_is_kept_whole(source: Client, place: Place) -> None:
    """G4: it came after the census; it is rejected, never null."""
    unit = unit_of(source)
    unit.columns = columns_text((Column("_id", "_id", "int32"), Column("kind", "kind", "int32")))
    source.shop.c.delete_many({"_id": {"$gt": 1}})
    source.shop.c.update_one({"_id": 0}, {"$unset": {"x": 1}})
    job, chunk = place.job(format="parquet"), chunk_of(unit)
    done = job.export(source, unit, chunk)
    assert (done.documents, done.rejected, done.rejections[0].key) == (1, 1, '{"$numberInt":"1"}')
    (kept,) = rejected_documents(job.folder, unit.id, chunk.id)
    assert bson.decode(kept) == {"_id": 1, "kind": 1, "x": {"y": 1}}


def test_code_of_the_users_own_comes_before(source: Client, place: Place) -> None:
    """What it holds back is rejected, what it lets through is exported."""

    def through(blocks: Iterator[Block], reject: Reject, _stop: Any) -> Iterator[Block]:
        for block in blocks:
            first, *others = documents(block.data)
            reject(first, "ETRANSFORM011", "no")
            yield Block(b"".join(others), len(others))

    unit = unit_of(source)
    done = place.job().export(source, unit, chunk_of(unit), through=through)
    assert (done.documents, done.rejected) == (COUNT - 1, 1)


def test_folders_by_the_values_of_a_field(source: Client, place: Place) -> None:
    """A file for each; all of them are the chunk's."""
    unit = unit_of(source)
    fields = {"_id": "int32", "kind": "int32"}
    unit.columns = columns_text(tuple(Column(n, n, k) for n, k in fields.items()))  # type: ignore[arg-type]
    job = place.job(format="parquet", partition="kind", projection=text({"kind": 1}))
    done = job.export(source, unit, chunk_of(unit))
    assert (done.file, done.sha256, done.documents) == ("shop.c", "", COUNT)
    found = {part.name.split("/")[1]: part.documents for part in done.parts}
    assert found == {"kind=0": 4, "kind=1": 3, "kind=2": 3}
    assert {each.name for each in place.store.list()} == {part.name for part in done.parts}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_another_collection_of_the_name(
    source: Client, place: Place, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: two collections never become one file; nothing is left."""
    unit = unit_of(source)

    def again() -> None:
        source.shop.c.drop()
        source.shop.c.insert_one({"_id": 1})

    if when == "before":
        again()
    else:
        monkeypatch.setattr(place.store, "draft", lambda name: (again(), place.folder / "d")[1])
    with pytest.raises(OtherCollection):
        place.job().export(source, unit, chunk_of(unit))
    assert list(place.store.list()) == []
    assert not (place.folder / "d").exists()


def test_one_that_is_stopped_leaves_nothing(source: Client, place: Place) -> None:
    """A9: neither a file nor a draft."""
    unit, stop = unit_of(source), threading.Event()
    job = place.job()
    real: Any = place.store.put_file

    def stopped(*words: Any) -> Any:
        stop.set()
        return real(*words[:2], stop)

    object.__setattr__(place.store, "put_file", stopped)
    with pytest.raises(Stopped):
        job.export(source, unit, chunk_of(unit))
    assert list(place.store.list()) == []
    assert place.store.remove_drafts() == 0


def test_nothing_comes_into_a_place_that_another_job_has(source: Client, place: Place) -> None:
    """I22: files of two jobs side by side are documents twice for who takes all of them."""
    unit, job = unit_of(source), place.job()
    take(place.store, job.to.job, replace=False)
    take(place.store, "20261122-143001-aaaa", replace=True)
    with pytest.raises(PlaceTaken, match="20261122-143001-aaaa"):
        job.export(source, unit, chunk_of(unit))
    assert [found.name for found in place.store.list()] == ["_export"]
    assert place.store.remove_drafts() == 0
