"""The end of an export: what lies there is what the manifest names, then it is a success."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.export.columns import Column, to_text
from executors.export.errors import BadManifest, ExportStands, PlaceTaken
from executors.export.manifest import read_manifest
from executors.export.names import attempt_at, job_of
from executors.export.place import holder, refuse_taken, take
from executors.export.processes import Processes
from executors.export.recipes import recipe_of
from executors.export.unfinished import remove_left
from executors.export.writers import writer_of
from executors.protocol import Stopped
from executors.storage.local import Local
from executors.storage.names import PROBE
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.stimuli import Manifested, Unfiled
from statemachine.words import ChunkId
from tests.executors.examples import Looks, plain_unit
from tests.executors.export.job import JOB, Job, asked

OTHER = "20261121-000000-aaaa"


@pytest.fixture
def store(tmp_path: Path) -> Local:
    return Local(tmp_path / "out")


@pytest.fixture
def job(store: Local, tmp_path: Path) -> Iterator[Job]:
    with Processes(1) as processes:
        yield Job(store, processes, tmp_path / "work", asked())


def names(store: Local) -> set[str]:
    return {found.name for found in store.list()}


def put(job: Job, number: int, *, text: str = '{"_id":1}\n', attempt: int = 1) -> Chunk:
    """A chunk of one document, whole in the store."""
    chunk = Chunk(ChunkId(f"shop.c#{number}"), plain_unit().id, None, None, 1, natural=False)
    name = attempt_at(chunk, job.to.job, 1, attempt, ".jsonl").name()
    job.to.store.put(name, text.encode())
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    chunk.file = ChunkFile(name, 1, 20, len(text), sha256)
    return chunk


def test_names_tell_whose_they_are() -> None:
    """I24: nothing of an attempt is taken for something of another one."""
    chunk = Chunk(ChunkId("shop.A b#12"), plain_unit("shop.A b").id, None, None, 0, natural=False)
    name = attempt_at(chunk, JOB, 2, 3, ".jsonl.zst").name("day=1/")
    assert name == f"shop.%41%20b/day=1/part-000012-{JOB}-2-3.jsonl.zst"
    assert job_of(name) == JOB
    nested = f"2026-11-22/{name}".replace("day=1/", "")
    for foreign in (
        nested,
        "a.parquet",
        "shop.c/part-1.parquet",
        f"part-000001-{JOB}-1-1.csv",
        "_SUCCESS",
    ):
        assert job_of(foreign) is None


def test_what_dead_attempts_left_goes_and_success_comes_last(job: Job, store: Local) -> None:
    """G4, I24: a reader that takes all files finds each document once."""
    take(store, JOB, replace=False)
    chunks = [put(job, 0), put(job, 1)]
    dead = put(job, 1, attempt=2)
    store.draft(str(dead.file and dead.file.name)).write_bytes(b"half")
    beneath = store.draft(f"2026-11-22/shop.c/part-000001-{OTHER}-1-1.jsonl")
    beneath.write_bytes(b"of an export that goes on")
    store.put("notes.txt", b"not ours")
    ended = job.end([plain_unit()], chunks)
    assert isinstance(ended, Manifested)
    assert ended.documents == 2
    assert dead.file is not None
    assert dead.file.name not in names(store)
    assert names(store) == {
        *(chunk.file.name for chunk in chunks if chunk.file),
        "_manifest.json",
        "_SUCCESS",
        "notes.txt",
    }
    told = read_manifest(store)
    assert (told.complete, told.beside, told.job) == (True, ("notes.txt",), JOB)
    assert store.remove_drafts() == 1 and not beneath.exists()


def test_again_it_leaves_the_same(job: Job, store: Local) -> None:
    """I15: it died before it could tell."""
    chunks = [put(job, 0)]
    first = job.end([plain_unit(), plain_unit("shop.empty")], chunks)
    told = store.get("_manifest.json")
    later = job.to.facts().model_copy(update={"created": "2027-01-01T00:00:00.000Z"})
    object.__setattr__(job.to, "facts", lambda: later)
    assert job.end([plain_unit(), plain_unit("shop.empty")], chunks) == first
    assert store.get("_manifest.json") == told
    assert len(names(store)) == 4


def test_a_file_that_is_not_what_was_written(job: Job, store: Local) -> None:
    """I24: its chunk is exported again, and there is no manifest before."""
    chunks = [put(job, 0), put(job, 1), put(job, 2)]
    assert chunks[0].file and chunks[1].file
    store.remove([chunks[0].file.name])
    store.put(chunks[1].file.name, b"?", replace=True)
    ended = job.end([plain_unit()], chunks)
    assert isinstance(ended, Unfiled)
    assert [each for each, _ in ended.chunks] == ["shop.c#0", "shop.c#1"]
    assert ["missing" in ended.chunks[0][1], "has 1 bytes" in ended.chunks[1][1]] == [True, True]
    assert "_manifest.json" not in names(store)


def test_without_all_documents_it_is_no_success(job: Job, store: Local) -> None:
    """G4: whoever waits for the mark never takes a part for the whole."""
    chunk = put(job, 0)
    assert chunk.file is not None
    chunk.file = chunk.file._replace(rejected=3)
    store.put("_SUCCESS", b"")
    take(store, JOB, replace=False)
    left = {"left": (plain_unit("shop.d").id,)}
    job.end([plain_unit(dropped=2)], [chunk], **left)
    told = read_manifest(store)
    assert (told.complete, told.rejected, len(told.missing)) == (False, 3, 3)
    assert "_SUCCESS" not in names(store)


@pytest.mark.parametrize(("empty", "files"), [("file", 1), ("none", 0)])
def test_a_collection_without_documents(
    job: Job, store: Local, tmp_path: Path, empty: str, files: int
) -> None:
    """G3: an empty file or none, and a success either way."""
    job = Job(store, job.to.processes, tmp_path / "work", asked(empty=empty))
    chunk = Chunk(ChunkId("shop.c#0"), plain_unit().id, None, None, 0, natural=False)
    chunk.file = ChunkFile("shop.c", 0, 0, 0, "")
    view = plain_unit("shop.v", type="view")
    assert isinstance(job.end([plain_unit(), view], [chunk]), Manifested)
    told = read_manifest(store)
    assert [len(each.files) for each in told.collections] == [files, 0]
    assert told.complete


def test_it_replaces_another_export(job: Job, store: Local, tmp_path: Path) -> None:
    """What was there is there until the new manifest is."""
    old = Job(store, job.to.processes, tmp_path / "old", asked(), OTHER)
    before = put(old, 0)
    old.end([plain_unit()], [before])
    new = Job(store, job.to.processes, tmp_path / "new", asked(overwrite=True))
    refuse_taken(store, new.spec)
    take(store, JOB, replace=True)
    assert "_SUCCESS" not in names(store)
    chunk = put(new, 0)
    assert before.file is not None
    assert before.file.name in names(store)
    assert read_manifest(store).job == OTHER
    new.end([plain_unit()], [chunk])
    assert chunk.file is not None
    assert names(store) == {chunk.file.name, "_manifest.json", "_SUCCESS"}
    assert read_manifest(store).job == JOB


def test_a_place_belongs_to_one_job(job: Job, store: Local, tmp_path: Path) -> None:
    """I24: by the claim while it is made, by its manifest afterwards; a look at it that was killed
    takes nothing."""
    store.put(f"{PROBE}killed", b"")
    refuse_taken(store, job.spec)
    take(store, JOB, replace=False)
    take(store, JOB, replace=False)
    with pytest.raises(PlaceTaken, match=JOB):
        take(store, OTHER, replace=False)
    with pytest.raises(ExportStands, match="unfinished"):
        refuse_taken(store, job.spec)
    take(store, OTHER, replace=True)
    with pytest.raises(PlaceTaken, match=OTHER):
        job.end([plain_unit()], [])
    other = Job(store, job.to.processes, tmp_path / "other", asked(), OTHER)
    other.end([plain_unit()], [])
    assert holder(store) is None
    with pytest.raises(ExportStands, match=f"the export of job {OTHER}"):
        refuse_taken(store, job.spec)


def test_what_another_job_finished_since_stays(job: Job, store: Local, tmp_path: Path) -> None:
    """I22: resumed or still running, the one that was replaced adds no file: each document once."""
    take(store, JOB, replace=False)
    before = put(job, 0)
    other = Job(store, job.to.processes, tmp_path / "other", asked(overwrite=True), OTHER)
    take(store, OTHER, replace=True)
    other.end([plain_unit()], [put(other, 0)])
    there = names(store)
    for again in (lambda: take(store, JOB, replace=False), lambda: job.end([], [before])):
        with pytest.raises(PlaceTaken, match=OTHER):
            again()
        assert names(store) == there


def test_a_name_that_is_no_text(job: Job, store: Local, tmp_path: Path) -> None:
    """What others laid there is told of, whatever it is called."""
    take(store, JOB, replace=False)
    (tmp_path / "out" / os.fsdecode(b"\xff.txt")).touch()
    job.end([plain_unit()], [put(job, 0)])
    assert read_manifest(store).beside == ("\\udcff.txt",)


def test_a_damaged_manifest_is_replaced(job: Job, store: Local, tmp_path: Path) -> None:
    """By one that was told to."""
    store.put("_manifest.json", b"no manifest")
    new = Job(store, job.to.processes, tmp_path / "new", asked(overwrite=True))
    take(store, JOB, replace=True)
    new.end([plain_unit()], [put(new, 0)])
    assert read_manifest(store).complete


def test_what_a_failed_export_left(job: Job, store: Local) -> None:
    """A10: nothing of the one that exports to the same place by now."""
    take(store, JOB, replace=False)
    mine, its = put(job, 0), store.draft(f"shop.c/part-000000-{OTHER}-1-1.jsonl")
    assert mine.file is not None
    draft = store.draft(mine.file.name)
    for each in (its, draft):
        each.write_bytes(b"half")
    take(store, OTHER, replace=True)
    remove_left(store, JOB)
    assert (its.exists(), draft.exists(), names(store)) == (True, False, {"_export"})


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_nobody_exported_is_not_touched(store: Local, overwrite: bool) -> None:
    store.put("mine/data.csv", b"1,2")
    with pytest.raises(PlaceTaken, match=r"mine/data\.csv"):
        refuse_taken(store, asked(overwrite=overwrite))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"\xff", b'{"schema":"ferrylog.export/2"}', b"[" * 100_000,
     b'{"schema":"ferrylog.export/1","job":1}'],
)  # fmt: skip
def test_a_manifest_that_is_none(store: Local, raw: bytes) -> None:
    store.put("_manifest.json", raw)
    with pytest.raises(BadManifest):
        read_manifest(store)


def test_it_stops(job: Job, store: Local) -> None:
    chunks = [put(job, 0)]
    looks: Any = Looks(0)
    from executors.export.ending import _there

    with pytest.raises(Stopped):
        _there(job.to, looks)
    assert chunks[0].file


def columns() -> str:
    return to_text((Column("_id", "_id", "int32"), Column("a", "a", "string")))


def parquet(job: Job, unit: Unit, chunk: Chunk) -> None:
    """An empty file is a whole one too."""
    recipe = recipe_of(job.spec, unit)
    name = attempt_at(chunk, job.to.job, 1, 1, recipe.suffix).name()
    draft = job.to.store.draft(name)
    documents, size, sha256 = writer_of(recipe, unit.id, 1 << 30)(draft).close()
    job.to.store.put_file(name, draft, Looks())
    chunk.file = ChunkFile(name, documents or 1, 0, size, sha256)


def test_files_of_columns_are_looked_into(store: Local, tmp_path: Path) -> None:
    """G3: each can be opened, and says what it holds; what cannot is exported again."""
    unit = plain_unit(columns=columns())
    with Processes(1) as processes:
        job = Job(store, processes, tmp_path / "work", asked(format="parquet"))
        chunks = [
            Chunk(ChunkId(f"shop.c#{n}"), unit.id, None, None, 0, natural=False) for n in (0, 1)
        ]
        for chunk in chunks:
            parquet(job, unit, chunk)
        assert isinstance(job.end([unit], chunks), Manifested)
        told = json.loads(store.get("_manifest.json"))["collections"][0]
        assert [each["name"] for each in told["columns"]] == ["_id", "a"]
        assert chunks[1].file is not None
        size = chunks[1].file.file_bytes
        store.put(chunks[1].file.name, b"x" * size, replace=True)
        ended = job.end([unit], chunks)
        assert isinstance(ended, Unfiled)
        assert [each for each, _ in ended.chunks] == ["shop.c#1"]
