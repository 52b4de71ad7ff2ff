"""An archive becomes chunk files: all its documents, in bounded memory, and never in silence less
(I22, I24; bad inputs 27, 28, 29, 32 and 33 of the list)."""

import gzip
import io
import json
import os
import shutil
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import bson
import pytest

from executors.batches import BLOCK_DOCUMENTS
from executors.chunkfile import read_blocks
from executors.dumps import archive, chunkwriter
from executors.dumps.archive import read_prelude
from executors.dumps.archivesalvage import salvaged
from executors.dumps.archivestream import source_of
from executors.dumps.errors import DETAILS, DamagedDump
from executors.dumps.manifest import MANIFEST, check_file, read_manifest
from executors.dumps.model import Damage, Dump, NeverStops
from executors.dumps.unpack import unpack_archive
from executors.flaws import Code
from executors.protocol import Stopped
from tests.conftest import Pair
from tests.counts import count
from tests.executors.dumps.archives import (
    END,
    block,
    crc64,
    document,
    end,
    entry,
    head,
    held,
    ids,
    interleaved,
    prelude,
    reasons,
)

WHOLE = {
    "shop.a": b"".join(document(n) for n in range(5)),
    "shop.b": b"".join(document(n, more=[-1, {"_id": n}]) for n in range(10, 14)),
    "shop.none": b"",
}


def unpack(
    folder: Path, raw: bytes | Callable[[], BinaryIO], **more: Any
) -> tuple[Dump, tuple[Damage, ...]]:
    opened = raw if callable(raw) else lambda: io.BytesIO(raw)
    asked: dict[str, Any] = {
        "documents": 100,
        "bytes_": 1 << 20,
        "stop": NeverStops(),
        "objcheck": False,
        "salvage": False,
        "wanted": lambda name: True,
    }
    return unpack_archive(opened, "x.archive", folder, **(asked | more))


def refusal(folder: Path, raw: bytes, **more: Any) -> DamagedDump:
    """A dump that is refused leaves none behind."""
    with pytest.raises(DamagedDump) as caught:
        unpack(folder, raw, **more)
    assert not (folder / MANIFEST).exists()
    assert caught.value.detail in {*DETAILS, *Code}
    return caught.value


def open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "unpacked"


@pytest.mark.parametrize("packed", [False, True])
def test_all_documents_are_there(folder: Path, packed: bool) -> None:
    dump, damage = unpack(folder, gzip.compress(interleaved()) if packed else interleaved())
    assert held(dump) == WHOLE
    assert damage == dump.notes == ()
    assert (dump.layout, dump.server_version) == ("chunks", "6.0.5")
    assert [each.documents for each in dump.namespaces] == [5, 4, 0]
    assert read_manifest(folder) == dump
    for each in dump.namespaces:
        for part in each.parts:
            check_file(folder, part, NeverStops(), objcheck=True)


def test_chunks_have_so_many_documents(folder: Path) -> None:
    dump, _ = unpack(folder, interleaved(), documents=2)
    assert [part.documents for part in dump.namespaces[0].parts] == [2, 2, 1]
    assert held(dump) == WHOLE


def test_chunks_have_so_many_bytes(folder: Path) -> None:
    dump, _ = unpack(folder, interleaved(), bytes_=1)
    assert [part.documents for part in dump.namespaces[0].parts] == [2, 3]
    assert held(dump) == WHOLE


def test_a_capped_collection_stays_in_one_piece(folder: Path) -> None:
    """Its order is part of it."""
    told = json.dumps({"options": {"capped": True, "size": 100_000}})
    documents = [document(n) for n in range(50)]
    raw = prelude(entry("a.b", told)) + block("a.b", *documents) + end("a.b", *documents)
    dump, _ = unpack(folder, raw, documents=7)
    assert [part.documents for part in dump.namespaces[0].parts] == [50]


def test_a_second_call_opens_nothing(folder: Path) -> None:
    def never() -> BinaryIO:
        raise AssertionError("opened again")

    first = unpack(folder, interleaved())
    assert unpack(folder, never) == first
    shutil.rmtree(folder / "shop.a")  # restored since
    assert unpack(folder, never) == first


def test_what_a_killed_attempt_left_is_no_hindrance(folder: Path) -> None:
    unpack(folder, interleaved())
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-1])
    (folder / "shop.a" / "0-1.flb.tmp").write_bytes(b"x")
    dump, _ = unpack(folder, interleaved(), documents=3)
    assert held(dump) == WHOLE


def test_only_what_is_wanted_is_unpacked(folder: Path) -> None:
    dump, _ = unpack(folder, interleaved(), wanted=lambda name: name == "shop.b")
    assert held(dump) == {"shop.b": WHOLE["shop.b"]}
    assert not (folder / "shop.a").exists()


def test_damage_of_what_is_not_wanted_is_found_too(folder: Path) -> None:
    raw = interleaved().replace(b"document 3", b"document X")
    assert refusal(folder, raw, wanted=lambda name: name == "shop.b").detail == "EDUMP089"


def test_it_comes_from_a_pipe(folder: Path) -> None:
    reader, writer = os.pipe()

    def fill() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(interleaved())

    thread = threading.Thread(target=fill)
    thread.start()
    dump, _ = unpack(folder, lambda: os.fdopen(reader, "rb"))
    thread.join()
    assert held(dump) == WHOLE


def test_what_is_no_collection_is_told(folder: Path) -> None:
    names = (".oplog", "shop.$admin.system.users", "shop.system.profile", "config.system.sessions")
    raw = prelude(*(entry(name) for name in names), entry("admin.system.users"))
    for name in (*names, "admin.system.users"):
        raw += block(name, document(1), document(2)) + end(name, document(1), document(2))
    dump, _ = unpack(folder, raw)
    assert dump.notes == tuple(
        f"{name.removeprefix('.')} of the archive is ignored: 2 documents" for name in names
    )
    assert [each.namespace for each in dump.namespaces] == ["admin.system.users"]


def test_metadata_is_understood(folder: Path) -> None:
    view = json.dumps({"options": {"viewOn": "a", "pipeline": []}, "type": "view"})
    series = json.dumps(
        {"options": {"timeseries": {"timeField": "t"}}, "type": "timeseries", "collectionName": "t"}
    )
    id_index = {"v": 2, "key": {"_id": 1}, "name": "_id_"}
    x_index = {"v": 2, "key": {"x": 1}, "name": "x_1", "unique": True}
    plain = json.dumps(
        {
            "options": {},
            "indexes": [id_index, x_index],
            "uuid": "ab" * 16,
        }
    )
    bucket = document(1)
    raw = prelude(
        entry("s.v", view, type="view"),
        entry("s.t", series, type="timeseries"),
        entry("s.c", plain),
        entry("s.old", ""),
    )
    raw += block("s.v") + end("s.v") + end("s.c") + end("s.old")
    raw += block("s.system.buckets.t", bucket) + end("s.system.buckets.t", bucket)
    dump, _ = unpack(folder, raw)
    collection, old, series_, view_ = dump.namespaces
    assert [each.type for each in dump.namespaces] == [
        "collection",
        "collection",
        "timeseries",
        "view",
    ]
    assert (collection.uuid, [index.name for index in collection.indexes]) == ("ab" * 16, ["x_1"])
    assert old.options == b"\5\0\0\0\0"
    assert (series_.namespace, series_.documents) == ("s.t", 1)
    assert "viewOn" in bson.decode(view_.options)


CONTRADICTIONS: dict[str, tuple[str, bytes]] = {
    "no JSON": ("EDUMP030", entry("a.b", "{")),
    "no object": ("EDUMP031", entry("a.b", "[]")),
    "options": ("EDUMP031", entry("a.b", '{"options": 1}')),
    "depth": ("EDUMP033", entry("a.b", '{"options":' + '{"a":' * 5000 + "1" + "}" * 5001)),
    "a view": ("EDUMP034", entry("a.b", '{"options":{"viewOn":"c","pipeline":[]}}')),
    "another": ("EDUMP034", entry("a.b", '{"collectionName":"c"}')),
    "a time series": ("EDUMP034", entry("a.b", "{}", type="timeseries")),
    "a database": ("EDUMP013", entry("a/../b.c")),
    "a collection": ("EDUMP013", entry("a.")),
    "dots": ("EDUMP013", entry("..", "")),
    "a NUL": ("EDUMP013", entry("a.b\0c")),
    "a server's own": ("EDUMP013", entry("a.system.secret")),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_prelude_that_contradicts_itself_is_refused(folder: Path, kind: str) -> None:
    """Bad inputs 29 and 33."""
    detail, told = CONTRADICTIONS[kind]
    error = refusal(folder, prelude(told))
    assert (error.detail, error.file) == (detail, "x.archive")
    assert error.at == len(prelude()) - 4


def test_two_entries_of_one_name_are_refused(folder: Path) -> None:
    series = entry("a.t", '{"options":{"timeseries":{}}}', type="timeseries")
    assert refusal(folder, prelude(series, entry("a.t"))).detail == "EDUMP088"


def test_documents_of_a_view_are_refused(folder: Path) -> None:
    told = entry("a.b", '{"options":{"viewOn":"c","pipeline":[]}}', type="view")
    raw = prelude(told) + block("a.b", document(1)) + end("a.b", document(1))
    assert refusal(folder, raw).detail == "EDUMP034"


def test_a_view_dumped_as_a_collection_is_one(folder: Path) -> None:
    told = entry("a.b", '{"options":{},"type":"view"}', type="view")
    raw = prelude(told) + block("a.b", document(1)) + end("a.b", document(1))
    (found,) = unpack(folder, raw)[0].namespaces
    assert (found.type, found.documents) == ("collection", 1)


def test_an_archive_that_is_refused_leaves_no_open_files(folder: Path) -> None:
    before = open_files()
    refusal(folder, interleaved()[:-10])
    assert open_files() == before
    assert not list(folder.rglob("*.tmp"))


def test_unpacking_stops_when_told(folder: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        unpack(folder, interleaved(), stop=stop)
    assert not (folder / MANIFEST).exists()


def test_many_namespaces_at_once_need_few_files_and_little_memory(folder: Path) -> None:
    """As many as there are, a block of each in turn."""
    names = [f"a.c{n}" for n in range(60)]
    told = {name: [document(n, pad="x" * 500_000) for n in range(2)] for name in names}
    rounds = [block(name, told[name][n]) for n in range(2) for name in names]
    raw = prelude(*map(entry, names)) + b"".join(rounds)
    raw += b"".join(head(name, 0, end=True) + END for name in names)
    before, most = len(open_files()), 0

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal most
            most = max(most, len(open_files()))
            return super().read(min(size or 0, 100_000))

    stream = Watched(raw)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedDump, match="EDUMP089"):
            unpack(folder, lambda: stream)
        assert tracemalloc.get_traced_memory()[1] < (chunkwriter.MOST_OPEN + 6) * 1_000_000
    finally:
        tracemalloc.stop()
    assert most - before <= chunkwriter.MOST_OPEN + 2


def test_what_is_put_aside_goes_on_where_it_was(folder: Path) -> None:
    names = [f"a.c{n}" for n in range(chunkwriter.MOST_OPEN + 9)]
    told = {name: [document(n) for n in range(3)] for name in names}
    rounds = [block(name, told[name][n]) for n in range(3) for name in names]
    raw = prelude(*map(entry, names)) + b"".join(rounds)
    raw += b"".join(end(name, *told[name]) for name in names)
    dump, _ = unpack(folder, raw)
    assert held(dump) == {name: b"".join(told[name]) for name in names}
    assert all(len(each.parts) == 1 for each in dump.namespaces)


@pytest.mark.parametrize("capped", [False, True])
def test_blocks_have_no_more_documents_than_an_insert_takes(folder: Path, capped: bool) -> None:
    small = bson.encode({"_id": 1})
    options = {"capped": True, "size": 4096} if capped else {}
    raw = prelude(entry("a.b", json.dumps({"options": options})))
    raw += head("a.b") + small * 120_000 + END + head("a.b", 0, end=True) + END
    (found,) = unpack(folder, raw, salvage=True, documents=110_000)[0].namespaces
    counts = [
        block.documents for part in found.parts for block, _ in read_blocks(folder / part.file)
    ]
    assert sum(counts) == 120_000
    assert max(counts) <= BLOCK_DOCUMENTS
    assert len(found.parts) == (1 if capped else 2)


def test_chunk_files_are_durable_before_the_manifest_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def record(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(folder)))
        real(fd)

    monkeypatch.setattr(os, "fsync", record)
    unpack(folder, interleaved())
    assert synced == [
        "shop.a/0-1.flb.tmp",
        "shop.b/0-1.flb.tmp",
        "shop.a",
        "shop.b",
        ".",
        "manifest.json.tmp",
        ".",
    ]


def test_a_prelude_without_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_PRELUDE_BYTES", 300)
    assert refusal(folder, interleaved()).detail == "EDUMP083"


def test_memory_does_not_grow_with_the_archive(folder: Path) -> None:
    lot = b"".join(document(n, pad="x" * 1000) for n in range(1000))

    stream = io.BytesIO(b"".join([prelude(entry("a.b")), head("a.b"), *[lot] * 60, END]))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedDump, match="EDUMP085"):
            unpack(folder, lambda: stream)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# Salvage


def salvage(raw: bytes) -> tuple[dict[str, bytes], list[Damage]]:
    """Without a file."""
    damage: list[Damage] = []
    source = source_of(io.BytesIO(raw), "x.archive", damage)
    found = dict.fromkeys(WHOLE, b"")
    for run in salvaged(source, read_prelude(source), damage):
        found[run.entry.namespace] += run.data
    return found, damage


def test_a_whole_archive_has_nothing_to_salvage(folder: Path) -> None:
    dump, damage = unpack(folder, interleaved(), salvage=True)
    assert (held(dump), damage) == (WHOLE, ())


def test_what_stands_before_a_cut_is_kept(folder: Path) -> None:
    raw = interleaved()
    first = len(prelude(entry("shop.a"), entry("shop.b"), entry("shop.none")))
    for size in range(first, len(raw)):
        found, damage = salvage(raw[:size])
        assert damage
        for name, documents in found.items():
            assert WHOLE[name].startswith(documents)
    dump, _ = unpack(folder, raw[: first + 200], salvage=True)
    assert ids(held(dump)["shop.a"]) == [0, 1]


def test_a_prelude_that_is_cut_leaves_nothing_to_salvage(folder: Path) -> None:
    with pytest.raises(DamagedDump):
        unpack(folder, interleaved()[:300], salvage=True)


def test_what_stands_around_damage_is_kept(folder: Path) -> None:
    """A length that was lost, in the middle of a block: all other documents are there."""
    raw = bytearray(interleaved())
    third = raw.index(document(3))
    raw[third : third + 4] = b"\0\0\0\0"
    dump, damage = unpack(folder, bytes(raw), salvage=True)
    assert ids(held(dump)["shop.a"]) == [0, 1, 2, 4]
    assert held(dump)["shop.b"] == WHOLE["shop.b"]
    assert [(each.at, each.bytes, each.code) for each in damage] == [
        (third, len(document(3)), "EBSON011")
    ]
    assert unpack(folder, b"", salvage=True) == (dump, damage)


def test_much_behind_damage_is_kept(folder: Path) -> None:
    """More than is held to find where whole documents begin again; blocks stay small."""
    documents = [document(n, pad=os.urandom(1 << 20)) for n in range(60)]
    raw = bytearray(prelude(entry("a.b")) + block("a.b", *documents) + head("a.b", 0, end=True))
    raw += END
    raw[raw.index(documents[2])] ^= 0xFF
    raw[raw.index(documents[40]) + 4] = 0x77
    dump, damage = unpack(folder, bytes(raw), salvage=True)
    assert ids(held(dump)["a.b"]) == [n for n in range(60) if n not in (2, 40)]
    assert [each.bytes for each in damage] == [len(documents[2]), len(documents[40])]


def test_documents_inside_documents_are_not_salvaged(folder: Path) -> None:
    raw = bytearray(interleaved())
    at = raw.index(document(11, more=[-1, {"_id": 11}]))
    raw[at] ^= 0xFF
    dump, damage = unpack(folder, bytes(raw), salvage=True)
    assert ids(held(dump)["shop.b"]) == [10, 12, 13]
    assert len(damage) == 1


def test_a_head_that_is_lost_costs_its_block(folder: Path) -> None:
    raw = bytearray(interleaved())
    at = raw.index(head("shop.b"))
    raw[at + 4] ^= 0x40
    dump, damage = unpack(folder, bytes(raw), salvage=True)
    assert held(dump)["shop.a"] == WHOLE["shop.a"]
    assert ids(held(dump)["shop.b"]) == [11, 12, 13]
    assert reasons(damage) == ["EDUMP082", "EDUMP089"]


def test_a_wrong_crc_is_told_and_the_documents_are_kept(folder: Path) -> None:
    raw = interleaved().replace(b"document 3", b"document X")
    dump, damage = unpack(folder, raw, salvage=True)
    assert ids(held(dump)["shop.a"]) == [0, 1, 2, 3, 4]
    assert reasons(damage) == ["EDUMP089"]


def test_a_document_that_is_wrong_inside_is_left_out(folder: Path) -> None:
    raw = bytearray(interleaved())
    at = raw.index(document(3))
    raw[at + 4] = 0x77
    dump, damage = unpack(folder, bytes(raw), salvage=True)
    assert ids(held(dump)["shop.a"]) == [0, 1, 2, 4]
    assert reasons(damage) == ["EBSON016"]


def test_metadata_that_is_damaged_costs_options_and_indexes(folder: Path) -> None:
    raw = prelude(entry("a.b", "{")) + block("a.b", document(1)) + end("a.b", document(1))
    dump, damage = unpack(folder, raw, salvage=True)
    assert held(dump) == {"a.b": document(1)}
    assert [(each.at, each.code) for each in damage] == [(len(prelude()) - 4, "EDUMP030")]


def test_gzip_that_was_cut_is_salvaged(folder: Path) -> None:
    documents = [document(n, noise=os.urandom(200)) for n in range(300)]
    raw = prelude(entry("a.b")) + block("a.b", *documents) + end("a.b", *documents)
    dump, damage = unpack(folder, gzip.compress(raw)[:-20_000], salvage=True)
    found = held(dump)["a.b"]
    assert b"".join(documents).startswith(found)
    assert len(ids(found)) > 100
    assert reasons(damage)[0] == "EDUMP020"


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_salvage_of_any_changed_byte_ends_and_tells(flip: int) -> None:
    """No change of a byte behind the prelude loses a document in silence, or invents one."""
    raw = interleaved()
    first = len(prelude(entry("shop.a"), entry("shop.b"), entry("shop.none")))
    for at in range(first, len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
        found, damage = salvage(changed)
        assert damage or found == WHOLE
        for name, documents in found.items():
            assert len(documents) <= len(WHOLE[name])
            if "EDUMP089" not in reasons(damage):  # else a changed one may be among them
                assert set(ids(documents)) <= set(ids(WHOLE[name]))
                assert len(ids(documents)) >= len(ids(WHOLE[name])) - 3, (at, damage, found)
    count("archives with a changed byte, salvaged", len(raw) - first)


# The real thing


@pytest.mark.server
@pytest.mark.parametrize("packed", [False, True])
def test_what_mongodump_writes_is_unpacked(pair: Pair, folder: Path, packed: bool) -> None:
    tool = shutil.which("mongodump")
    if tool is None:
        pytest.skip("there is no mongodump on PATH")
    db = pair.source_client.shop
    db.a.insert_many([{"_id": n, "x": "y" * n} for n in range(500)])
    db.a.create_index("x", name="by_x")
    db.command("create", "v", viewOn="a", pipeline=[])
    db.command("create", "t", timeseries={"timeField": "at"})
    db.command("create", "none")
    real = folder.parent / "real.archive"
    subprocess.run(
        [tool, "--uri", pair.source.uri, f"--archive={real}", "-d", "shop"] + ["--gzip"] * packed,
        check=True,
        capture_output=True,
    )
    dump, damage = unpack(folder, lambda: real.open("rb"), objcheck=True)
    assert [(each.namespace, each.type, each.documents) for each in dump.namespaces] == [
        ("shop.a", "collection", 500),
        ("shop.none", "collection", 0),
        ("shop.t", "timeseries", 0),
        ("shop.v", "view", 0),
    ]
    assert [index.name for index in dump.namespaces[0].indexes] == ["by_x"]
    assert ids(held(dump)["shop.a"]) == list(range(500))
    assert damage == ()
    assert crc64(b"") == 0
