"""What was dumped becomes a dump: a manifest, mongodump's directory, an archive (P3, I17, I22)."""

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from executors.dump import dump
from executors.dumps.claim import CLAIM, claim
from executors.dumps.errors import DamagedDump
from executors.dumps.making import (
    archive_file,
    make_dump,
    out_of,
    refuse_existing,
    refuse_reopening,
)
from executors.dumps.manifest import (
    MANIFEST,
    Facts,
    check_file,
    read_facts,
    read_manifest,
    write_manifest,
)
from executors.dumps.model import NeverStops
from executors.dumps.opening import open_dump
from executors.dumps.restoring import DumpSource
from executors.errors import OutExists
from executors.increments.errors import LinkNeeded
from executors.increments.model import INCREMENTS
from executors.partfile import file_blocks
from executors.plan import plan
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.source import data_of
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.stimuli import Manifested
from statemachine.words import THE_JOB, ChunkId, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, spec, there, unit_of

pytestmark = pytest.mark.server

NAMES = ("shop.c", "shop.none", "shop.view", "shop.ts", "shop.Case/é")
FACTS = Facts(tool_version="1.2.3", job="j", server_version="6.0.5", consistency="fuzzy")


@pytest.fixture
def filled(pair: Pair) -> Client:
    client = pair.source_client
    client.shop.c.insert_many([{"_id": n, "text": "x" * n} for n in range(50)])
    client.shop.c.create_index("text", unique=True)
    client.shop.create_collection("none", capped=True, size=4096)
    client.shop.create_collection("view", viewOn="c", pipeline=[{"$match": {"_id": 1}}])
    client.shop.create_collection("ts", timeseries={"timeField": "t"})
    client.shop.ts.insert_one({"t": datetime(2024, 1, 1, tzinfo=UTC), "v": 1})
    client.shop["Case/é"].insert_one({"_id": "odd"})
    return client


class Job:
    """A dump job, from its units to its manifest."""

    def __init__(self, client: Client, work: Path, out: Path | str, **changes: Any) -> None:
        asked = {"kind": "dump", "target": f"file:{out}", "chunk_docs": 20, **changes}
        self.client, self.stdout, self.spec = client, io.BytesIO(), spec(**asked)
        self.out = out_of(self.spec, work, lambda: FACTS, self.stdout)
        self.out.folder.mkdir(exist_ok=True)
        self.units = [unit_of(client, name) for name in NAMES]
        self.filed = [each for unit in self.units for each in self._chunks(unit)]

    def _chunks(self, unit: Unit) -> Iterator[Chunk]:
        """Dumped, as the state keeps them."""
        if unit.type == "view":
            return
        capped = unit.id == "shop.none"
        planned = plan(self.client, unit, self.spec, NeverStops(), capped=capped)
        edges = [None, *planned.boundaries, None]
        for n, (lower, upper) in enumerate(pairwise(edges)):
            chunk = Chunk(ChunkId(f"{unit.id}#{n}"), unit.id, lower, upper, 0, planned.natural)
            done = dump(self.client, unit, chunk, self.spec, self.out.folder, 1, NeverStops())
            told = (done.file, done.documents, done.bytes, done.file_bytes, done.sha256)
            yield replace(chunk, file=ChunkFile(*told))

    def make(self, stop: Looks | None = None, cluster_time: str = "") -> Manifested:
        effect = Effect(
            TaskKey(TaskKind.MANIFEST, THE_JOB),
            1,
            1,
            unit=None,
            units=tuple(self.units),
            filed=tuple(self.filed),
            cluster_time=cluster_time,
        )
        return make_dump(self.out, self.spec, effect, stop or Looks())

    def restoring(self, work: Path) -> DumpSource:
        """The dump, as a restore reads it."""
        asked = {"kind": "restore", "source": self.spec.target, "include": (), "exclude": ()}
        read: JobSpec = self.spec.model_copy(update=asked)
        path = Path(self.spec.target.removeprefix("file:"))
        return DumpSource(read, work, lambda _: path.open("rb"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def held(source: DumpSource, unit: Unit) -> list[bytes]:
    return [
        document
        for each in source.plan(unit, Looks()).files
        for block, _ in file_blocks(source.path(unit, each.file, Looks()), each.file)
        for document in documents(block.data)
    ]


def in_server(client: Client, unit: Unit) -> list[bytes]:
    """Its documents as the source holds them."""
    return [] if unit.type == "view" else there(client, ".".join(data_of(unit.id, unit.type)))


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"layout": "chunks"},
    "chunks, plain": {"layout": "chunks", "compression": "none"},
    "mongodump": {"layout": "mongodump", "compression": "none"},
    "mongodump, gzip": {"layout": "mongodump", "compression": "gzip"},
    "archive": {"layout": "archive", "compression": "none"},
    "archive, gzip": {"layout": "archive", "compression": "gzip"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(filled: Client, tmp_path: Path, layout: str) -> None:
    """I22: what the source held is what a restore finds, described as it was; made again it is
    the same to the byte (P3)."""
    place, work = tmp_path / "out", tmp_path / "work"
    job = Job(filled, work, place, **LAYOUTS[layout])
    told = job.make()
    documents_in = [in_server(filled, unit) for unit in job.units]
    assert told.documents == sum(map(len, documents_in))
    assert told.bytes == sum(len(each) for some in documents_in for each in some)
    assert bool(told.sha256) == (job.spec.layout == "chunks")

    (back := tmp_path / "back").mkdir()
    source = job.restoring(back)
    surveyed = {each.unit: each for each in source.survey(Looks()).units}
    assert surveyed.keys() == set(NAMES)
    for unit, wanted in zip(job.units, documents_in, strict=True):
        found = surveyed[unit.id]
        assert held(source, unit) == wanted
        assert (found.type, found.options, found.expires) == (unit.type, unit.options, unit.expires)
        assert [each.name for each in found.indexes] == [each.name for each in unit.indexes]

    first = files(place) if place.is_dir() else {"": place.read_bytes()}
    assert job.make() == told
    assert (files(place) if place.is_dir() else {"": place.read_bytes()}) == first


def test_the_manifest_names_every_file(filled: Client, tmp_path: Path) -> None:
    """I17, I21: with its digest and its range; and as of when."""
    job = Job(filled, tmp_path / "work", tmp_path / "out")
    told = job.make(cluster_time="7.3")
    made = read_manifest(tmp_path / "out")
    assert (made.identity, made.cluster_time, made.consistency) == (told.sha256, "7.3", "fuzzy")
    as_of = {"cluster_time": "7.3", "include": job.spec.include}
    assert read_facts(tmp_path / "out") == FACTS.model_copy(update=as_of)
    parts = [part for each in made.namespaces for part in each.parts]
    assert {part.file for part in parts} | {MANIFEST} == set(files(tmp_path / "out"))
    for part in parts:
        check_file(made.root, part, NeverStops(), objcheck=True)
    (c,) = (each.parts for each in made.namespaces if each.namespace == "shop.c")
    assert len(c) >= 2
    assert (c[0].lower, c[-1].upper) == (None, None)
    assert [each.upper for each in c[:-1]] == [each.lower for each in c[1:]]
    (none,) = (each.parts for each in made.namespaces if each.namespace == "shop.none")
    assert [each.natural for each in none] == [True]
    assert made.notes == ()


def test_mongodumps_directory_holds_nothing_of_ours(filled: Client, tmp_path: Path) -> None:
    job = Job(filled, tmp_path / "work", tmp_path / "out", **LAYOUTS["mongodump"])
    job.make()
    assert set(files(tmp_path / "out")) == {
        "prelude.json",
        *(f"shop/{name}.metadata.json" for name in ("c", "none", "view", "ts", "Case%2F%C3%A9")),
        *(f"shop/{name}.bson" for name in ("c", "none", "system.buckets.ts", "Case%2F%C3%A9")),
    }
    assert open_dump(tmp_path / "out").layout == "mongodump"
    assert files(tmp_path / "out")["shop/c.bson"] == b"".join(there(filled, "shop.c"))


def test_gzip_is_gzip(filled: Client, tmp_path: Path) -> None:
    job = Job(filled, tmp_path / "work", tmp_path / "out", **LAYOUTS["mongodump, gzip"])
    job.make()
    packed = files(tmp_path / "out")
    assert all(name.endswith(".gz") for name in packed)
    assert gzip.decompress(packed["shop/c.bson.gz"]) == b"".join(there(filled, "shop.c"))


def test_an_archive_on_standard_output_is_the_one_in_a_file(filled: Client, tmp_path: Path) -> None:
    one = Job(filled, tmp_path / "one", tmp_path / "x", **LAYOUTS["archive"])
    other = Job(filled, tmp_path / "two", "-", **LAYOUTS["archive"])
    assert one.make() == other.make()
    assert other.stdout.getvalue() == (tmp_path / "x").read_bytes()
    assert not other.stdout.closed


@pytest.mark.parametrize("layout", ["mongodump", "archive"])
def test_a_chunk_file_that_changed_makes_no_dump(
    filled: Client, tmp_path: Path, layout: str
) -> None:
    """I24: nothing bears the name of what it would have been part of."""
    place = tmp_path / "out"
    job = Job(filled, tmp_path / "work", place, **LAYOUTS[layout])
    chunk = next(each for each in job.filed if each.unit == "shop.c")
    assert chunk.file is not None
    path = job.out.folder / chunk.file.name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedDump):
        job.make()
    assert not (place / "shop" / "c.bson").exists()
    assert layout == "mongodump" or not place.exists()


@pytest.mark.parametrize("layout", ["mongodump", "archive"])
def test_stopped_anywhere_and_made_again(filled: Client, tmp_path: Path, layout: str) -> None:
    """P3, I12: an archive has its name only when it is whole; what was begun is no obstacle."""
    whole = Job(filled, tmp_path / "one", tmp_path / "whole", **LAYOUTS[layout])
    whole.make()
    place = tmp_path / "out"
    job = Job(filled, tmp_path / "two", place, **LAYOUTS[layout])
    for looks in range(100):
        try:
            job.make(Looks(looks))
        except Stopped:
            assert layout == "mongodump" or not place.exists()
        else:
            break
    assert looks >= 3
    if layout == "archive":
        assert place.read_bytes() == (tmp_path / "whole").read_bytes()
        assert not place.with_name("out.tmp").exists()
    else:
        assert files(place) == files(tmp_path / "whole")


def test_an_archive_replaces_nothing_until_it_is_whole(tmp_path: Path) -> None:
    """I17: what was there stays, and nothing half stays beside it."""
    place = tmp_path / "x"
    place.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), archive_file(place, "job") as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert files(tmp_path) == {"x": b"before"}
    with archive_file(place, "job") as stream:
        stream.write(b"whole")
    assert files(tmp_path) == {"x": b"whole"}
    (tmp_path / ".x.job.tmp").write_bytes(b"two terabytes of a killed attempt")
    with archive_file(place, "job") as stream:
        stream.write(b"again")
    assert files(tmp_path) == {"x": b"again"}


# --- a manifest that stands ---


def told(job: Job, /, **facts: str) -> None:
    """What a process says that takes the job up again, or another job."""
    job.out = replace(job.out, facts=lambda: FACTS.model_copy(update=facts))


def increment_beside(root: Path) -> None:
    link = root / INCREMENTS / "0001"
    link.mkdir(parents=True)
    (link / MANIFEST).touch()


def test_a_manifest_that_stands_is_not_written_again(filled: Client, tmp_path: Path) -> None:
    """I12, I32: who wrote it died before it could tell, and a link may follow it by now."""
    job = Job(filled, tmp_path / "work", tmp_path / "out")
    claim(job.out.folder, "j")
    first = job.make(cluster_time="7.3")
    before = files(tmp_path / "out")
    assert CLAIM not in before
    told(job, created="2030-01-01T00:00:00Z", server_version="7.0.0")
    for follow in (lambda _: None, increment_beside):
        follow(tmp_path / "out")
        claim(job.out.folder, "j")
        assert job.make(cluster_time="7.3") == first
        assert files(tmp_path / "out").items() >= before.items()
        assert not (tmp_path / "out" / CLAIM).exists()


def test_a_full_dump_that_increments_follow_stays(filled: Client, tmp_path: Path) -> None:
    """I32: what was left out of it is not added any more."""
    job = Job(filled, tmp_path / "work", tmp_path / "out")
    *kept, last = job.filed
    job.filed = kept
    few = job.make()
    job.filed = [*kept, last]
    refuse_reopening(job.spec)
    dump(filled, job.units[-1], last, job.spec, job.out.folder, 1, NeverStops())
    assert job.make().documents > few.documents
    before = files(tmp_path / "out")
    job.filed = kept
    increment_beside(tmp_path / "out")
    with pytest.raises(LinkNeeded):
        refuse_reopening(job.spec)
    with pytest.raises(LinkNeeded, match="link 1 cannot be applied"):
        job.make()
    assert files(tmp_path / "out").items() >= before.items()


def test_the_dump_of_another_job_is_not_written_over(filled: Client, tmp_path: Path) -> None:
    """I17: it is named, and stays to the byte."""
    job = Job(filled, tmp_path / "work", tmp_path / "out")
    job.make()
    before = files(tmp_path / "out")
    told(job, job="other")
    (tmp_path / "out" / "shop.x").mkdir()
    (tmp_path / "out" / "shop.x" / "0-1.flb").touch()
    with pytest.raises(OutExists, match="the dump of job j"):
        claim(job.out.folder, "other")
    with pytest.raises(OutExists, match="the dump of job j"):
        job.make()
    assert files(tmp_path / "out") == {**before, "shop.x/0-1.flb": b""}


@pytest.mark.parametrize("links", [True, False])
def test_the_last_step_never_replaces_a_manifest_of_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """Also where the file system has no links."""
    if not links:
        monkeypatch.setattr("os.link", no_links)
    write_manifest(tmp_path, FACTS, [])
    digest = write_manifest(tmp_path, FACTS.model_copy(update={"created": "later"}), [])
    with pytest.raises(OutExists, match="the dump of job j"):
        write_manifest(tmp_path, FACTS.model_copy(update={"job": "other"}), [])
    assert read_manifest(tmp_path).identity == digest
    assert set(files(tmp_path)) == {MANIFEST}


# --- what is there already ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["chunks", "mongodump"])
def test_a_dump_goes_into_an_empty_place(tmp_path: Path, layout: str) -> None:
    """Not over another dump, nor among other files."""
    place = tmp_path / "out"
    asked = spec(kind="dump", target=f"file:{place}", layout=layout)
    refuse_existing(asked)
    place.mkdir()
    refuse_existing(asked)
    (place / ".hidden").touch()
    with pytest.raises(OutExists, match="not empty"):
        refuse_existing(asked)
    (place / ".hidden").unlink()
    place.rmdir()
    place.touch()
    with pytest.raises(OutExists, match="no directory"):
        refuse_existing(asked)


def test_an_archive_is_not_written_over_anything(tmp_path: Path) -> None:
    for name in ("file", "directory", "-"):
        place = tmp_path / name
        asked = spec(kind="dump", target=f"file:{place}", layout="archive")
        refuse_existing(asked)
        place.mkdir() if name == "directory" else place.touch()
        with pytest.raises(OutExists, match="exists already") as caught:
            refuse_existing(asked)
        assert caught.value.exit_code == 2
    refuse_existing(spec(kind="dump", target="file:-", layout="archive"))


def no_links(*_: object) -> None:
    """As on a file system without hard links."""
    raise PermissionError
