"""ferrylog's own layout as mongodump's: to the byte, and nothing of a chunk file that is not the
one that was dumped (I22, I24)."""

import gzip
import io
import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from executors.boundaries import to_text
from executors.dumps import pack
from executors.dumps.errors import DamagedDump
from executors.dumps.manifest import Facts, read_manifest, write_manifest
from executors.dumps.model import Dump, Dumped, NeverStops
from executors.dumps.names import file_name
from executors.dumps.pack import CannotPack, pack_archive, pack_directory
from executors.dumps.unpack import unpack_archive
from executors.protocol import Stopped
from statemachine.events import IndexSpec
from tests.conftest import Pair
from tests.executors.dumps.archives import held
from tests.executors.dumps.test_manifest import block, chunk

LONG = "n" * 150 + "é" * 20
SERIES = bson.encode({"timeseries": {"timeField": "t", "granularity": "seconds"}})

VERSION = "admin.system.version"
AUTH_SCHEMA = bson.encode({"_id": "authSchema", "currentVersion": 5})


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    """Of all kinds of namespaces, and of odd names."""
    root = tmp_path / "dump"
    root.mkdir()
    first = chunk(root, "shop.a/b é", 0, block(1, 2), block(3))
    second = chunk(root, "shop.a/b é", 1, block(4), zstd=False)
    index = {"v": 2, "key": {"x": 1}, "name": "x_1", "unique": True}
    indexes = (IndexSpec(name="x_1", unique=True, spec=to_text(bson.encode(index))),)
    view = bson.encode({"viewOn": "a", "pipeline": []})
    series = chunk(root, "shop.ts", 0, block(7))
    long = chunk(root, f"shop.{LONG}", 0, block(8))
    empty = b"\5\0\0\0\0"
    write_manifest(
        root,
        Facts(tool_version="9.9", server_version="6.0.5"),
        [
            Dumped("shop.a/b é", "collection", empty, indexes, "ab" * 16, parts=(first, second)),
            Dumped("shop.none", "collection", empty, ()),
            Dumped(f"shop.{LONG}", "collection", empty, (), parts=(long,)),
            Dumped("shop.ts", "timeseries", SERIES, (), parts=(series,)),
            Dumped("shop.v", "view", view, ()),
            Dumped("admin.system.users", "collection", empty, ()),
        ],
    )
    return read_manifest(root)


def packed(dump: Dump, out: Path, *, gzip: bool = False) -> dict[str, bytes]:
    pack_directory(dump, out, gzip=gzip, stop=NeverStops())
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def archived(dump: Dump, *, gzip: bool = False) -> bytes:
    stream = io.BytesIO()
    pack_archive(dump, stream, gzip=gzip, stop=NeverStops())
    return stream.getvalue()


def test_a_directory_is_what_mongodump_makes(dump: Dump, tmp_path: Path) -> None:
    files = packed(dump, tmp_path / "out")
    assert sorted(files) == sorted(
        [
            "admin/system.users.bson",
            "admin/system.users.metadata.json",
            "admin/system.version.bson",
            "admin/system.version.metadata.json",
            "prelude.json",
            "shop/a%2Fb+%C3%A9.bson",
            "shop/a%2Fb+%C3%A9.metadata.json",
            f"shop/{file_name(LONG)}.bson",
            f"shop/{file_name(LONG)}.metadata.json",
            "shop/none.bson",
            "shop/none.metadata.json",
            "shop/system.buckets.ts.bson",
            "shop/ts.metadata.json",
            "shop/v.metadata.json",
        ]
    )
    assert files["shop/a%2Fb+%C3%A9.bson"] == block(1, 2, 3, 4).data
    assert files["shop/none.bson"] == b""
    assert files["shop/system.buckets.ts.bson"] == block(7).data
    assert json.loads(files["prelude.json"]) == {"ServerVersion": "6.0.5", "ToolVersion": "9.9"}
    said = json.loads(files["shop/a%2Fb+%C3%A9.metadata.json"])
    assert said["uuid"] == "ab" * 16
    assert [index["name"] for index in said["indexes"]] == ["_id_", "x_1"]
    assert json.loads(files[f"shop/{file_name(LONG)}.metadata.json"])["collectionName"] == LONG


def test_gzip_holds_the_same(dump: Dump, tmp_path: Path) -> None:
    plain = packed(dump, tmp_path / "plain")
    squeezed = packed(dump, tmp_path / "gz", gzip=True)
    assert {name + ".gz": content for name, content in plain.items()} == {
        name: gzip.decompress(content) for name, content in squeezed.items()
    }
    assert gzip.decompress(archived(dump, gzip=True)) == archived(dump)


@pytest.mark.parametrize("gzip", [False, True])
def test_packed_again_it_is_the_same(dump: Dump, tmp_path: Path, gzip: bool) -> None:
    first = packed(dump, tmp_path / "out", gzip=gzip)
    (tmp_path / "out" / ".ferrylog-left-by-a-kill").touch()
    assert packed(dump, tmp_path / "out", gzip=gzip) == first
    assert packed(dump, tmp_path / "other", gzip=gzip) == first
    assert archived(dump, gzip=gzip) == archived(dump, gzip=gzip)


@pytest.mark.parametrize("gzip", [False, True])
def test_an_archive_leads_back_to_the_dump(dump: Dump, tmp_path: Path, gzip: bool) -> None:
    raw = archived(dump, gzip=gzip)
    back, _ = unpack_archive(
        lambda: io.BytesIO(raw),
        "x.archive",
        tmp_path / "back",
        documents=100,
        bytes_=1 << 20,
        stop=NeverStops(),
        objcheck=True,
        salvage=False,
        wanted=lambda name: True,
    )

    def told(of: Dump) -> list[Dumped]:
        return [replace(each, parts=()) for each in of.namespaces if each.namespace != VERSION]

    assert told(back) == told(dump)
    assert held(back) == {**held(dump), VERSION: AUTH_SCHEMA}
    assert back.server_version == dump.server_version


def test_users_come_first_in_an_archive(dump: Dump) -> None:
    """mongorestore looks for them nowhere else."""
    raw = archived(dump)
    assert raw.index(b"system.users") < raw.index(b"a/b \xc3\xa9")


def test_the_version_of_users_is_added_where_it_lacks(dump: Dump, tmp_path: Path) -> None:
    """mongorestore refuses users without it; what an archive brought along stays as it was."""
    assert packed(dump, tmp_path / "out")["admin/system.version.bson"] == AUTH_SCHEMA
    part = chunk(dump.root, VERSION, 0, block(5))
    own = Dumped(VERSION, "collection", b"\5\0\0\0\0", (), parts=(part,))
    known = replace(dump, namespaces=(*dump.namespaces, own))
    assert packed(known, tmp_path / "out")["admin/system.version.bson"] == block(5).data
    without = replace(dump, namespaces=dump.namespaces[1:])
    assert "admin/system.version.bson" not in packed(without, tmp_path / "other")


def test_newer_servers_keep_time_series_under_their_own_name(dump: Dump, tmp_path: Path) -> None:
    newer = replace(dump, server_version="8.3.0")
    assert "shop/ts.bson" in packed(newer, tmp_path / "out")
    assert b"system.buckets" not in archived(newer)


def test_an_unknown_version_is_said_as_mongorestore_wants_it(dump: Dump, tmp_path: Path) -> None:
    unknown = replace(dump, server_version="")
    said = json.loads(packed(unknown, tmp_path / "out")["prelude.json"])
    assert said["ServerVersion"] == "unknown"
    assert b"0.0.0" in archived(unknown)


@pytest.mark.parametrize("number", [0, 1])
def test_a_chunk_file_that_changed_is_not_packed(dump: Dump, tmp_path: Path, number: int) -> None:
    """I24: nothing of it bears a name, and no archive says it is whole."""
    name = next(each for each in dump.namespaces if each.parts and each.documents == 4)
    path = dump.root / name.parts[number].file
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedDump) as caught:
        packed(dump, tmp_path / "out")
    assert caught.value.file == name.parts[number].file
    assert not (tmp_path / "out/shop/a%2Fb+%C3%A9.bson").exists()
    assert not (tmp_path / "out/prelude.json").exists()
    assert not list((tmp_path / "out").glob(".ferrylog*"))
    with pytest.raises(DamagedDump):
        archived(dump)


def test_what_json_cannot_say_is_refused_before_anything_is_written(
    dump: Dump, tmp_path: Path
) -> None:
    odd = bson.encode({"validator": {"a": "X"}}).replace(b"X", b"\xff")
    bad = replace(dump, namespaces=(replace(dump.namespaces[0], options=odd), *dump.namespaces[1:]))
    with pytest.raises(CannotPack, match=r"admin\.system\.users") as caught:
        packed(bad, tmp_path / "out")
    assert "--layout chunks" in caught.value.remedy
    with pytest.raises(CannotPack):
        archived(bad)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_file(
    dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        packed(dump, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_file_system_without_case_takes_no_names_that_differ_by_it(
    dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = [replace(dump.namespaces[0], namespace=f"shop.{name}", parts=()) for name in "Cc"]
    both = replace(dump, namespaces=tuple(twins))
    assert {"shop/C.bson", "shop/c.bson"} <= packed(both, tmp_path / "out").keys()
    monkeypatch.setattr(pack, "_ignores_case", lambda _: True)
    with pytest.raises(DamagedDump, match="EDUMP015"):
        packed(both, tmp_path / "other")


def test_packing_stops_when_told(dump: Dump, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        pack_directory(dump, tmp_path / "out", gzip=False, stop=stop)
    with pytest.raises(Stopped):
        pack_archive(dump, io.BytesIO(), gzip=False, stop=stop)


# The real thing


def everything(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    """All that is in `shop`: documents of collections, options, indexes."""
    db = client.shop
    return {
        entry["name"]: (
            entry["type"],
            str(entry["options"]),
            list(db[entry["name"]].find().sort("_id", 1)),
            None if entry["type"] == "view" else db[entry["name"]].index_information(),
        )
        for entry in db.list_collections()
        if not entry["name"].startswith("system.")
    }


@pytest.mark.server
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("layout", ["directory", "archive"])
def test_mongorestore_reads_what_is_packed(
    pair: Pair, tmp_path: Path, layout: str, gzip: bool
) -> None:
    """From mongodump's archive to our layout, to mongodump's layouts, to a server."""
    dumper, restorer = shutil.which("mongodump"), shutil.which("mongorestore")
    if dumper is None or restorer is None:
        pytest.skip("there are no mongodump and mongorestore on PATH")
    db = pair.source_client.shop
    db["a/b é"].insert_many([{"_id": n, "x": "y" * n} for n in range(300)])
    db["a/b é"].create_index("x", name="by_x")
    db[LONG].insert_one({"_id": 1})
    db.command("create", "v", viewOn="a/b é", pipeline=[{"$match": {"_id": 1}}])
    db.command("create", "ts", timeseries={"timeField": "at", "metaField": "m"})
    db.ts.insert_many([{"_id": n, "at": datetime(2026, 1, 1, 0, n, tzinfo=UTC)} for n in range(9)])
    db.command("create", "none", capped=True, size=4096)
    archive, out = tmp_path / "real.archive", tmp_path / "out"
    run = [dumper, "--uri", pair.source.uri, f"--archive={archive}", "-d", "shop"]
    subprocess.run(run, check=True, capture_output=True)
    dump, _ = unpack_archive(
        lambda: archive.open("rb"),
        "real.archive",
        tmp_path / "own",
        documents=100,
        bytes_=1 << 20,
        stop=NeverStops(),
        objcheck=True,
        salvage=False,
        wanted=lambda name: True,
    )
    if layout == "directory":
        pack_directory(dump, out, gzip=gzip, stop=NeverStops())
    else:
        out.write_bytes(archived(dump, gzip=gzip))
    what = str(out) if layout == "directory" else f"--archive={out}"
    told = subprocess.run(
        [restorer, "--uri", pair.target.uri, *["--gzip"] * gzip, what],
        check=True,
        capture_output=True,
        text=True,
    )
    assert " 0 document(s) failed" in told.stderr
    assert everything(pair.target_client) == everything(pair.source_client)
