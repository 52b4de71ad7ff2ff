"""mongodump's directories: what is in them, and what they are refused for (faults 10 to 12, 27 to
33)."""

import gzip
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.boundaries import from_text
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.model import Dump, Dumped
from executors.dumps.mongodump import read_directory
from executors.dumps.names import file_name

DOC = bson.encode({"_id": 1})
ID_INDEX = {"v": 2, "key": {"_id": 1}, "name": "_id_"}


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    signal.alarm(20)
    yield
    signal.alarm(0)


def _metadata(**fields: Any) -> bytes:
    return json.dumps({"options": {}, "indexes": [ID_INDEX]} | fields).encode()


def _make(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def _plain(**more: bytes) -> dict[str, bytes]:
    return {"db/c.bson": DOC, "db/c.metadata.json": _metadata()}


def _only(dump: Dump) -> Dumped:
    [found] = dump.namespaces
    return found


def test_a_directory_of_mongodump_is_opened(tmp_path: Path) -> None:
    index = {"v": 2, "key": {"a": 1}, "name": "a_1", "unique": True}
    _make(
        tmp_path,
        {
            "prelude.json": b'{"ServerVersion":"7.0.16","ToolVersion":"x","New":1}',
            "b/c.bson": DOC * 3,
            "b/c.metadata.json": _metadata(
                options={"capped": True}, indexes=[ID_INDEX, index], uuid="0" * 32
            ),
            "a/caf%C3%A9+x.bson": b"",
            "a/caf%C3%A9+x.metadata.json": _metadata(),
            "a/v.metadata.json": _metadata(options={"viewOn": "c", "pipeline": []}, indexes=[]),
        },
    )
    dump = read_directory(tmp_path)
    assert (dump.root, dump.layout, dump.server_version) == (tmp_path, "mongodump", "7.0.16")
    assert dump.notes == ()
    assert [each.namespace for each in dump.namespaces] == ["a.caf\u00e9 x", "a.v", "b.c"]
    empty, view, capped = dump.namespaces
    assert (empty.data, empty.bytes, empty.gzip) == ("a/caf%C3%A9+x.bson", 0, False)
    assert (view.type, view.data) == ("view", "")
    assert (capped.bytes, capped.uuid, capped.type) == (3 * len(DOC), "0" * 32, "collection")
    assert bson.decode(capped.options) == {"capped": True}
    assert [bson.decode(from_text(each.spec)) for each in capped.indexes] == [index]


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    """Fault 27."""
    _make(
        tmp_path,
        {
            "db/named.bson.gz": gzip.compress(DOC),
            "db/named.metadata.json.gz": gzip.compress(_metadata()),
            "db/hidden.bson": gzip.compress(DOC),
            "db/hidden.metadata.json": gzip.compress(_metadata()),
            "db/plain.bson.gz": DOC,
            "db/plain.metadata.json.gz": _metadata(),
            "db/empty.bson.gz": b"",
            "db/empty.metadata.json": _metadata(),
            "prelude.json.gz": gzip.compress(b'{"ServerVersion":"6.0.5"}'),
        },
    )
    dump = read_directory(tmp_path)
    assert {each.namespace: each.gzip for each in dump.namespaces} == {
        "db.empty": True,
        "db.hidden": True,
        "db.named": True,
        "db.plain": False,
    }
    assert dump.server_version == "6.0.5"


def test_a_time_series_comes_with_its_buckets(tmp_path: Path) -> None:
    series = _metadata(options={"timeseries": {"timeField": "t"}}, indexes=[], type="timeseries")
    _make(tmp_path, {"db/system.buckets.ts.bson": DOC, "db/ts.metadata.json": series})
    found = _only(read_directory(tmp_path))
    assert (found.namespace, found.type, found.data) == (
        "db.ts",
        "timeseries",
        "db/system.buckets.ts.bson",
    )
    long = "x" * 230
    cut = _metadata(options={"timeseries": {"timeField": "t"}}, indexes=[], collectionName=long)
    other = tmp_path / "other"
    bucket_file = file_name(f"system.buckets.{long}")
    _make(other, {f"db/{bucket_file}.bson": DOC, f"db/{long}.metadata.json": cut})
    assert _only(read_directory(other)).namespace == f"db.{long}"


def test_indexes_of_old_dumps_come_from_system_indexes(tmp_path: Path) -> None:
    indexes = [
        {"v": 1, "key": {"_id": 1}, "name": "_id_", "ns": "db.c"},
        {"v": 1, "key": {"a": 1}, "name": "a_1", "ns": "db.c", "unique": True},
    ]
    data = b"".join(map(bson.encode, indexes))
    _make(tmp_path, {"db/c.bson": DOC, "db/system.indexes.bson": data})
    dump = read_directory(tmp_path)
    assert [(each.name, each.unique) for each in _only(dump).indexes] == [("a_1", True)]
    assert dump.notes == ("db.c comes without options: it has no metadata file",)
    (tmp_path / "db" / "system.indexes.bson").write_bytes(data[:-3])
    with pytest.raises(DamagedDump) as refused:
        read_directory(tmp_path)
    assert (refused.value.detail, refused.value.at) == ("EDUMP032", len(bson.encode(indexes[0])))


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    _make(
        tmp_path,
        {
            **_plain(),
            "oplog.bson": DOC,
            "README": b"",
            "db/notes.txt": b"",
            "db/._c.bson": b"",
            "db/system.profile.bson": DOC,
            "db/$admin.system.users.bson": DOC,
            "admin/system.views.metadata.json": _metadata(),
            "config/system.sessions.bson": DOC,
            "empty/dir/x": b"",
            "db/bare.bson": DOC,
            "db/only.metadata.json": _metadata(),
            "prelude.json": b'{"ServerVersion":"unknown"}',
        },
    )
    dump = read_directory(tmp_path)
    assert [each.namespace for each in dump.namespaces] == ["db.bare", "db.c", "db.only"]
    told = [
        "oplog.bson is ignored",
        "README is ignored",
        "db/notes.txt is ignored",
        "db/._c.bson is ignored",
        "db/system.profile.bson is ignored",
        "db/$admin.system.users.bson is ignored",
        "admin/system.views.metadata.json is ignored",
        "config/system.sessions.bson is ignored",
        "empty is ignored",
        "empty/dir is ignored",
        "db.bare comes without options and indexes",
        "db.only comes without documents",
        "prelude.json does not tell the version",
    ]
    for each in told:
        assert any(note.startswith(each) for note in dump.notes), each
    assert len(dump.notes) == len(told)


def test_users_and_roles_are_there_for_the_caller_to_decide(tmp_path: Path) -> None:
    files = {f"admin/system.{name}.bson": DOC for name in ("users", "roles", "version")}
    dump = read_directory(_make(tmp_path, files))
    assert [each.namespace for each in dump.namespaces] == [
        "admin.system.roles",
        "admin.system.users",
        "admin.system.version",
    ]


def test_one_database_and_one_collection(tmp_path: Path) -> None:
    """With a database its own directory will do, under any name, as with `mongorestore -d`."""
    _make(tmp_path, {**_plain(), "other/d.bson": DOC, "prelude.json": b'{"ServerVersion":"7.0"}'})
    assert _only(read_directory(tmp_path, database="db")).namespace == "db.c"
    dump = read_directory(tmp_path / "db", database="new")
    assert (_only(dump).namespace, _only(dump).data) == ("new.c", "c.bson")
    assert dump.server_version == "7.0"
    (tmp_path / "db" / "bad.metadata.json").touch()
    assert _only(read_directory(tmp_path, database="db", collection="c")).namespace == "db.c"
    for database, collection in (("db", "d"), ("nope", None), ("other", "c")):
        with pytest.raises(NoDump):
            read_directory(tmp_path, database=database, collection=collection)


def test_an_identity_tells_dumps_apart(tmp_path: Path) -> None:
    _make(tmp_path, _plain())
    first = read_directory(tmp_path).identity
    assert read_directory(tmp_path).identity == first
    seen = {first}
    for name, content in (
        ("db/c.bson", DOC * 2),
        ("db/c.metadata.json", _metadata(uuid="1" * 32)),
        ("db/d.bson", b""),
    ):
        _make(tmp_path, {name: content})
        seen.add(read_directory(tmp_path).identity)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"empty.d/.keep": b""},
        {"README": b""},
        {"oplog.bson": DOC},
        {"dump/db/c.bson": DOC},
        {"c.bson": DOC},
    ],
)
def test_a_directory_without_a_dump_is_none(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(NoDump) as refused:
        read_directory(_make(tmp_path, files))
    assert refused.value.exit_code == 2
    if "dump/db/c.bson" in files:
        assert str(tmp_path / "dump") in refused.value.remedy
    if "c.bson" in files:
        assert "-d" in refused.value.remedy


def test_the_dump_of_an_empty_server_is_one(tmp_path: Path) -> None:
    dump = read_directory(_make(tmp_path, {"prelude.json": b'{"ServerVersion":"6.0.5"}'}))
    assert dump.namespaces == ()


@pytest.mark.parametrize(
    ("files", "detail", "file"),
    [
        ({"db/c.bson": DOC, "db/c.bson.gz": gzip.compress(DOC)}, "EDUMP014", "db/c.bson.gz"),
        ({"db/c.bson": DOC, "db/c.bin": DOC}, "EDUMP014", "db/c.bson"),
        ({"db/%63.bson": DOC, "db/c.bson": DOC}, "EDUMP014", "db/c.bson"),
        ({"db/a+b.bson": DOC, "db/a%20b.bson": DOC}, "EDUMP014", "db/a+b.bson"),
        (
            {"db/c.metadata.json": _metadata(), "db/c.metadata.json.gz": _metadata()},
            "EDUMP014",
            "db/c.metadata.json.gz",
        ),
        ({"db/%zz.bson": DOC}, "EDUMP012", "db/%zz.bson"),
        ({"db/%2E%2E.bson": DOC}, "EDUMP013", "db/%2E%2E.bson"),
        ({"db/a%00b.bson": DOC}, "EDUMP013", "db/a%00b.bson"),
        ({"db/.bson": DOC}, "EDUMP013", "db/.bson"),
        ({"db/a%24b.bson": DOC}, "EDUMP013", "db/a%24b.bson"),
        ({"db/system.foo.bson": DOC}, "EDUMP013", "db/system.foo.bson"),
        ({"d b/c.bson": DOC}, "EDUMP013", "d b/c.bson"),
        ({f"{'x' * 64}/c.bson": DOC}, "EDUMP013", f"{'x' * 64}/c.bson"),
        ({f"db/{file_name('x' * 250)}.bson": DOC}, "EDUMP016", None),
        ({"db/c.bson.zst": DOC, **_plain()}, "EDUMP017", "db/c.bson.zst"),
        ({"db/c.BSON": DOC}, "EDUMP017", "db/c.BSON"),
        ({"db/c.bson/x": DOC}, "EDUMP010", "db/c.bson"),
        ({"db/c.metadata.json/x": DOC}, "EDUMP010", "db/c.metadata.json"),
        ({"db/c.bson": DOC, "db/c.metadata.json": b""}, "EDUMP030", "db/c.metadata.json"),
        ({"db/c.bson": DOC, "db/c.metadata.json": b"{"}, "EDUMP030", "db/c.metadata.json"),
        (
            {"db/c.metadata.json.gz": gzip.compress(_metadata())[:-4]},
            "EDUMP020",
            "db/c.metadata.json.gz",
        ),
        (
            {"db/c.metadata.json.gz": gzip.compress(b" " * (17 << 20))},
            "EDUMP033",
            "db/c.metadata.json.gz",
        ),
        ({"db/system.buckets.t.bson": DOC}, "EDUMP034", "db/system.buckets.t.bson"),
        (
            {"db/v.bson": DOC, "db/v.metadata.json": _metadata(options={"viewOn": "c"})},
            "EDUMP034",
            "db/v.bson",
        ),
        ({"db/v.metadata.json": _metadata(type="view")}, "EDUMP034", "db/v.metadata.json"),
        (
            {
                "db/t.bson": DOC,
                "db/system.buckets.t.bson": DOC,
                "db/t.metadata.json": _metadata(options={"timeseries": {}}),
            },
            "EDUMP014",
            "db/t.bson",
        ),
    ],
)
def test_what_could_be_lost_without_a_word_is_refused(
    tmp_path: Path, files: dict[str, bytes], detail: str, file: str | None
) -> None:
    with pytest.raises(DamagedDump) as refused:
        read_directory(_make(tmp_path, files))
    error = refused.value
    assert (error.detail, error.exit_code) == (detail, 4)
    assert error.file == (file or next(iter(files)))
    assert error.remedy


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [os.mkfifo, _link])
@pytest.mark.parametrize(
    "place", ["db/d.bson", "db/c2.metadata.json", "db/notes", "prelude.json", "latest"]
)
def test_no_link_and_no_fifo_is_read(
    tmp_path: Path, make: Callable[[Path], None], place: str
) -> None:
    """Fault 31: nothing is followed, nothing hangs."""
    _make(tmp_path, _plain())
    make(tmp_path / place)
    with pytest.raises(DamagedDump, match="not a regular file") as refused:
        read_directory(tmp_path)
    assert (refused.value.detail, refused.value.file) == ("EDUMP010", place)


def test_a_database_that_is_a_link_is_refused(tmp_path: Path) -> None:
    _make(tmp_path / "outside", {"c.bson": DOC})
    _make(tmp_path / "dump", _plain())
    (tmp_path / "dump" / "other").symlink_to(tmp_path / "outside")
    with pytest.raises(DamagedDump, match="not a regular file"):
        read_directory(tmp_path / "dump")


def test_names_for_people_hold_no_control_characters(tmp_path: Path) -> None:
    _make(tmp_path, _plain())
    _make(tmp_path, {os.fsdecode(b"d\xff\x1b[2J/c.bson"): DOC})
    with pytest.raises(DamagedDump) as refused:
        read_directory(tmp_path)
    assert refused.value.detail == "EDUMP013"
    assert str(refused.value).isprintable()
