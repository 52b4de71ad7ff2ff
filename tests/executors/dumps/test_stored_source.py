"""A dump in a store as the source of a job: what is fetched, when, and what of it stays (I24)."""

from errno import ENOSPC
from pathlib import Path

import boto3
import pytest

from executors.chunkfile import DamagedFile
from executors.dumps.errors import DamagedDump
from executors.dumps.named import identity_of
from executors.dumps.restoring import FETCHED, DumpSource
from executors.pace import Unlimited
from executors.protocol import StopToken
from executors.storage.errors import NoBucket
from executors.storage.urls import open_store
from statemachine.state import ChunkFile
from statemachine.stimuli import PlannedFiles
from tests.executors.dumps.test_restoring import asked
from tests.executors.examples import Looks, plain_unit
from tests.executors.test_examination import NAMES, chunks
from tests.objectstores import S3


@pytest.fixture
def url(s3: S3, tmp_path: Path) -> str:
    """Two collections of two chunk files."""
    root, url = chunks(tmp_path / "dump"), f"{s3.url}/a/dump"
    store = open_store(url, tmp_path)
    for path in root.rglob("*"):
        if path.is_file():
            store.put(str(path.relative_to(root)), path.read_bytes())
    return url


def source(url: str, work: Path, **changes: str) -> DumpSource:
    return DumpSource(asked("").model_copy(update={"source": url, **changes}), work, _never)


def _never(_: object) -> None:  # type: ignore[misc]
    raise AssertionError("no archive is opened")


def planned(dump: DumpSource) -> PlannedFiles:
    return dump.plan(plain_unit(NAMES[0]), Looks())


def brought(dump: DumpSource, file: ChunkFile) -> Path:
    return dump.path(plain_unit(NAMES[0]), file, Looks())


def test_nothing_is_fetched_before_it_is_needed(url: str, tmp_path: Path) -> None:
    """What is named of it is what the manifest says; what is gone meanwhile comes again."""
    dump, work = source(url, tmp_path / "work"), tmp_path / "work"
    assert {each.unit for each in dump.survey(Looks()).units} == set(NAMES)
    file = planned(dump).files[0].file
    assert (file.name, file.place) == (f"{FETCHED}/{NAMES[0]}/0-1.flb", "store")
    assert not work.exists()
    path = brought(dump, file)
    raw = (tmp_path / "dump" / NAMES[0] / "0-1.flb").read_bytes()
    assert path.read_bytes() == raw
    path.unlink()
    assert brought(dump, file).read_bytes() == raw
    assert dump.unchanged.still_holds(path, file), "it is not read for its digest again"
    assert dump.knows_ranges(Looks())
    assert (
        identity_of(asked("").model_copy(update={"source": url})) == dump.opened(Looks()).identity
    )


def test_what_a_killed_process_fetched_is_not_believed(url: str, tmp_path: Path) -> None:
    """Nothing that is fetched is synced: it may be anything after a power cut."""
    work = tmp_path / "work"
    file = planned(source(url, work)).files[0].file
    torn = work / file.name
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"\0" * file.file_bytes)
    assert brought(source(url, work), file).read_bytes() != b"\0" * file.file_bytes


def test_what_lies_in_the_store_is_not_believed_either(url: str, tmp_path: Path) -> None:
    """An object that was changed, or went, after the manifest and the listing were read."""
    dump, store = source(url, tmp_path / "work"), open_store(url, tmp_path)
    one, two = (each.file for each in planned(dump).files)
    store.put(f"{NAMES[0]}/0-1.flb", b"x" * one.file_bytes, replace=True)
    store.remove([f"{NAMES[0]}/1-1.flb"])
    with pytest.raises(DamagedFile, match="SHA-256"):
        brought(dump, one)
    with pytest.raises(DamagedFile, match="is missing"):
        brought(dump, two)
    with pytest.raises(DamagedDump, match="EDUMP063"):
        source(url, tmp_path / "work").survey(Looks())


def test_a_bucket_that_is_gone_is_no_damage(url: str, s3: S3, tmp_path: Path) -> None:
    """Nobody gives a chunk up for it: the job pauses, and goes on when the bucket is back."""
    dump = source(url, tmp_path / "work")
    file = planned(dump).files[0].file
    bucket = boto3.resource("s3", endpoint_url=s3.endpoint).Bucket(s3.bucket)
    bucket.objects.all().delete()
    bucket.delete()
    with pytest.raises(NoBucket):
        brought(dump, file)
    with pytest.raises(NoBucket):
        source(url, tmp_path / "work").survey(Looks())


def test_what_is_counted_for_one_of_several_targets_does_not_stay(url: str, tmp_path: Path) -> None:
    """A disk takes a few files of a dump, not all."""
    places = [source(url, tmp_path / f"{n}", place=f"hash:{n}/2") for n in range(2)]
    found = [sum(each.file.documents for each in planned(dump).files) for dump in places]
    assert sum(found) == 12
    assert not [path for n in range(2) for path in (tmp_path / f"{n}").rglob("*.flb")]


class FullDisk(Unlimited):
    """Tells what was asked for, and has no room."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def files(self, size: int, stop: StopToken) -> None:
        self.asked.append(size)
        raise OSError(ENOSPC, "no room")


def test_a_full_disk_takes_no_more_files(url: str, tmp_path: Path) -> None:
    """F4: what stays free of the disk is asked before each file, and not for one that is here."""
    dump, pace = source(url, tmp_path / "work"), FullDisk()
    one, two = (each.file for each in planned(dump).files)
    brought(dump, one)
    dump.path(plain_unit(NAMES[0]), one, Looks(), pace=pace)
    with pytest.raises(OSError, match="no room"):
        dump.path(plain_unit(NAMES[0]), two, Looks(), pace=pace)
    assert pace.asked == [two.file_bytes]
    assert not (tmp_path / "work" / two.name).exists()
