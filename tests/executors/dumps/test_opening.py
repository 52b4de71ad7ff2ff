"""Which layout lies at a path, and what to say where there is none (faults 10 to 12)."""

import gzip
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import bson
import pytest

from executors.dumps.archive import MAGIC
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.manifest import Facts, write_manifest
from executors.dumps.opening import open_dump

DOC = bson.encode({"_id": 1})
SERIES = b'{"options":{"timeseries":{"timeField":"t"}},"indexes":[]}'


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    signal.alarm(20)
    yield
    signal.alarm(0)


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write_manifest(own, Facts(tool_version="1"), [])
    assert open_dump(own).layout == "chunks"
    (tmp_path / "dump" / "db").mkdir(parents=True)
    (tmp_path / "dump" / "db" / "c.bson").write_bytes(DOC)
    assert open_dump(tmp_path / "dump").layout == "mongodump"
    link = tmp_path / "latest"
    link.symlink_to(tmp_path / "dump")  # named by the operator: theirs to name
    assert open_dump(link).namespaces[0].namespace == "db.c"
    file = tmp_path / "dump" / "db" / "c.bson"
    assert open_dump(file, database="x", collection="y").layout == "file"


def test_a_single_file_comes_with_the_metadata_beside_it(tmp_path: Path) -> None:
    (tmp_path / "c.bson.gz").write_bytes(gzip.compress(DOC))
    (tmp_path / "c.metadata.json.gz").write_bytes(
        gzip.compress(b'{"options":{"capped":true},"indexes":[]}')
    )
    (tmp_path / "broken.metadata.json").touch()
    (tmp_path / "prelude.json").write_bytes(b'{"ServerVersion":"7.0.16"}')
    dump = open_dump(tmp_path / "c.bson.gz", database="shop", collection="orders")
    [found] = dump.namespaces
    assert (found.namespace, found.data, found.gzip) == ("shop.orders", "c.bson.gz", True)
    assert bson.decode(found.options) == {"capped": True}
    assert (dump.root, dump.server_version) == (tmp_path, "7.0.16")
    assert dump.notes == ()


@pytest.mark.parametrize("collection", ["ts", "system.buckets.ts"])
def test_a_file_of_buckets_is_a_time_series(tmp_path: Path, collection: str) -> None:
    file = tmp_path / "system.buckets.ts.bson"
    file.write_bytes(DOC)
    with pytest.raises(DamagedDump) as refused:
        open_dump(file, database="db", collection=collection)
    assert refused.value.detail == "EDUMP034"
    (tmp_path / "ts.metadata.json").write_bytes(SERIES)
    [found] = open_dump(file, database="db", collection=collection).namespaces
    assert (found.namespace, found.type) == ("db.ts", "timeseries")


def test_a_file_whose_name_was_cut_is_restored_by_the_name_that_is_given(tmp_path: Path) -> None:
    file = tmp_path / f"{'x' * 208}%24{'y' * 27}.bson"
    file.write_bytes(DOC)
    [found] = open_dump(file, database="db", collection="c").namespaces
    assert found.namespace == "db.c"


@pytest.mark.parametrize(
    ("name", "content", "why", "remedy"),
    [
        (None, b"", "no such file or directory", "--archive"),
        ("notes.txt", b"hello", "does not have .bson extension", "--archive"),
        ("c.metadata.json", b"{}", "does not have .bson extension", ""),
        ("dump.archive", MAGIC + bytes(20), "an archive", "--archive"),
        ("dump.gz", gzip.compress(MAGIC + bytes(20), mtime=0), "an archive", "--archive"),
        ("c.bson", DOC, "does not say what it is of", "-d and -c"),
    ],
)
def test_what_is_no_dump_is_refused_with_what_to_do(
    tmp_path: Path, name: str | None, content: bytes, why: str, remedy: str
) -> None:
    path = tmp_path / (name or "absent")
    if name:
        path.write_bytes(content)
    with pytest.raises(NoDump, match=why) as refused:
        open_dump(path)
    assert str(path) in str(refused.value)
    assert remedy in refused.value.remedy
    assert refused.value.exit_code == 2


def test_a_directory_is_no_bson_file(tmp_path: Path) -> None:
    with pytest.raises(NoDump, match="is a directory, not a bson file"):
        open_dump(tmp_path, database="db", collection="c")


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.bson")
    with pytest.raises(DamagedDump, match="not a regular file"):
        open_dump(tmp_path / "c.bson", database="db", collection="c")


@pytest.mark.parametrize(
    ("database", "collection"), [("a.b", None), ("db", ".."), ("db", "a$b"), ("", "c")]
)
def test_names_that_servers_refuse_are_refused_first(
    tmp_path: Path, database: str, collection: str | None
) -> None:
    with pytest.raises(DamagedDump) as refused:
        open_dump(tmp_path, database=database, collection=collection)
    assert refused.value.detail == "EDUMP013"


def test_a_collection_needs_its_database(tmp_path: Path) -> None:
    with pytest.raises(NoDump) as refused:
        open_dump(tmp_path, collection="c")
    assert "-d" in refused.value.remedy
