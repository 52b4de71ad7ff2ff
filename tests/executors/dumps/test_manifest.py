"""The manifest: a folder of chunk files is a dump, or is refused with file, place and reason.

I24: whatever of it is cut, flipped or missing is found before anything is restored. Bad inputs 13,
30, 31 and 33 of the list.
"""

import hashlib
import json
import os
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import bson
import pytest
import zstandard

from executors.batches import Block
from executors.boundaries import to_text
from executors.chunkfile import write_chunk_file
from executors.dumps import manifest
from executors.dumps.errors import DETAILS, DamagedDump, NoDump
from executors.dumps.manifest import (
    MANIFEST,
    Facts,
    check_file,
    read_facts,
    read_manifest,
    write_manifest,
)
from executors.dumps.model import Damage, Dump, Dumped, NeverStops, Part
from executors.folder import folder_name
from executors.protocol import Stopped
from statemachine.events import IndexSpec
from statemachine.words import Key
from tests.counts import count

FACTS = Facts(
    tool_version="1.2.3",
    job="j1",
    created="2026-01-01T00:00:00Z",
    source="mongodb://h:1/",
    source_id="rs0",
    server_version="6.0.5",
    consistency="snapshot",
    cluster_time="5.1",
    include=("shop.*",),
    queries=(("shop.*", "{}"),),
    users=True,
)


def block(*ids: int, pad: int = 20) -> Block:
    documents = [bson.encode({"_id": n, "pad": "x" * pad}) for n in ids]
    return Block(b"".join(documents), len(documents))


def chunk(
    root: Path, namespace: str, number: int, *blocks: Block, zstd: bool = True, **more: Any
) -> Part:
    name = f"{folder_name(namespace)}/{number}-1.flb"
    (root / name).parent.mkdir(exist_ok=True)
    kind: Literal["zstd", "none"] = "zstd" if zstd else "none"
    written = write_chunk_file(root / name, iter(blocks), kind)
    return Part(
        name, 0, written.file_bytes, written.documents, written.bytes, written.sha256, **more
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dump of a collection in two chunks, of an empty one and of a view."""
    options = bson.encode({"capped": True, "size": 4096})
    index = IndexSpec(name="x_1", unique=True, spec=to_text(bson.encode({"key": {"x": 1}})))
    edge = Key('{"$numberInt":"4"}')
    first = chunk(tmp_path, "shop.a", 0, block(1, 2), block(3), upper=edge)
    second = chunk(tmp_path, "shop.a", 1, block(4), zstd=False, lower=edge, natural=True)
    view = bson.encode({"viewOn": "a", "pipeline": []})
    write_manifest(
        tmp_path,
        FACTS,
        [
            Dumped("shop.v", "view", view, ()),
            Dumped("shop.a", "collection", options, (index,), "ab" * 16, parts=(first, second)),
            Dumped("shop.e", "timeseries", b"\5\0\0\0\0", ()),
        ],
    )
    return tmp_path


def refusal(root: Path) -> DamagedDump:
    with pytest.raises(DamagedDump) as caught:
        read_manifest(root)
    assert caught.value.detail in DETAILS
    return caught.value


def resigned(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and give it a checksum that fits: what a stranger could do."""
    told = json.loads((root / MANIFEST).read_bytes())
    change(told)
    del told["sha256"]
    body = '{"ferrylog": ' + json.dumps(told.pop("ferrylog")) + ",\n" + json.dumps(told)[1:-1]
    raw = body.encode() + b",\n"
    digest = hashlib.sha256(raw).hexdigest()
    (root / MANIFEST).write_bytes(raw + f'"sha256": "{digest}"}}\n'.encode())


def test_what_was_written_is_read(root: Path) -> None:
    dump = read_manifest(root)
    assert (dump.layout, dump.server_version, dump.consistency) == ("chunks", "6.0.5", "snapshot")
    assert [each.namespace for each in dump.namespaces] == ["shop.a", "shop.e", "shop.v"]
    first, empty, view = dump.namespaces
    assert (first.documents, len(first.parts), first.uuid) == (4, 2, "ab" * 16)
    assert first.options == bson.encode({"capped": True, "size": 4096})
    assert [(part.lower, part.upper, part.natural) for part in first.parts] == [
        (None, '{"$numberInt":"4"}', False),
        ('{"$numberInt":"4"}', None, True),
    ]
    assert first.indexes[0].unique
    assert (empty.type, empty.parts, view.type) == ("timeseries", (), "view")
    assert dump.notes == ()
    assert read_facts(root) == FACTS


def test_damage_and_notes_travel_along(root: Path) -> None:
    damage = Damage("x.archive", 5, 6, "EDUMP089", "so it is")
    facts = FACTS.model_copy(update={"notes": ("oplog is ignored",), "damage": (damage,)})
    write_manifest(root, facts, read_manifest(root).namespaces)
    assert read_facts(root).damage == (damage,)
    assert read_manifest(root).notes == ("oplog is ignored",)


def test_the_checksum_is_the_one_it_says(root: Path) -> None:
    lines = (root / MANIFEST).read_bytes().splitlines(keepends=True)
    told = subprocess.run(
        ["sh", "-c", f"head -n -1 {root / MANIFEST} | sha256sum"], capture_output=True, check=True
    )
    assert told.stdout[:64] == lines[-1][11:75]
    assert read_manifest(root).identity.encode() == told.stdout[:64]


def test_written_again_it_is_the_same(root: Path) -> None:
    before = (root / MANIFEST).read_bytes()
    write_manifest(root, FACTS, read_manifest(root).namespaces)
    assert (root / MANIFEST).read_bytes() == before


def test_a_folder_without_a_manifest_is_no_dump(root: Path) -> None:
    (root / MANIFEST).unlink()
    for path, why in ((root, "not finished"), (root / "x", "no such"), (root / "a", "directory")):
        (root / "a").touch()
        with pytest.raises(NoDump, match=why):
            read_manifest(path)


def test_a_write_that_fails_leaves_what_was_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "no space")

    before = (root / MANIFEST).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_manifest(root, FACTS, [])
    assert (root / MANIFEST).read_bytes() == before
    assert not list(root.glob("*.tmp"))


def test_a_manifest_cut_or_changed_at_any_byte_is_refused(root: Path) -> None:
    """I24, bad input 30: nothing of a manifest may change in silence."""
    path, whole = root / MANIFEST, (root / MANIFEST).read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert refusal(root).file == MANIFEST
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert refusal(root).file == MANIFEST
    count("manifests cut or changed, refused", 2 * len(whole))


def test_a_newer_version_is_refused_by_its_name(root: Path) -> None:
    resigned(root, lambda told: told.update(ferrylog="dump/2", more={"new": 1}))
    error = refusal(root)
    assert error.detail == "EDUMP062"
    assert "dump/2" in error.why
    assert "newer" in error.remedy


def _first(told: dict[str, Any]) -> dict[str, Any]:
    return told["namespaces"][0]


LIES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "outside": ("EDUMP066", lambda m: _first(m)["chunks"][0].update(file="../../etc/x.flb")),
    "absolute": ("EDUMP066", lambda m: _first(m)["chunks"][0].update(file="/etc/x.flb")),
    "deep": ("EDUMP066", lambda m: _first(m)["chunks"][0].update(file="a/b/c.flb")),
    "dots": ("EDUMP066", lambda m: _first(m)["chunks"][0].update(file="../x.flb")),
    "no chunk": ("EDUMP066", lambda m: _first(m)["chunks"][0].update(file="a/manifest.json")),
    "one file twice": ("EDUMP067", lambda m: _first(m)["chunks"].append(_first(m)["chunks"][0])),
    "one name twice": ("EDUMP067", lambda m: m["namespaces"].append(_first(m) | {"chunks": []})),
    "sums": ("EDUMP068", lambda m: _first(m).update(documents=5)),
    "a chunk left out": ("EDUMP068", lambda m: _first(m)["chunks"].pop()),
    "name": ("EDUMP013", lambda m: _first(m).update(namespace="a/b.c")),
    "no collection": ("EDUMP013", lambda m: _first(m).update(namespace="shop")),
    "unknown field": ("EDUMP060", lambda m: m.update(extra=1)),
    "unknown fact": ("EDUMP060", lambda m: m["facts"].update(extra=1)),
    "type": ("EDUMP060", lambda m: _first(m).update(type="table")),
    "number as text": ("EDUMP060", lambda m: _first(m).update(documents="4")),
    "negative": ("EDUMP060", lambda m: _first(m)["chunks"][0].update(file_bytes=-1)),
    "huge": ("EDUMP060", lambda m: _first(m)["chunks"][0].update(file_bytes=1e300)),
    "options": ("EDUMP060", lambda m: _first(m).update(options="bson:AAAA")),
    "view with documents": ("EDUMP034", lambda m: _first(m).update(type="view")),
    "options unsound": (
        "EDUMP060",
        lambda m: _first(m).update(options="bson:CQAAAHd4AAAA"),
    ),
    "index": ("EDUMP060", lambda m: _first(m)["indexes"][0].update(spec="{")),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused_although_its_checksum_is_right(
    root: Path, lie: str
) -> None:
    detail, change = LIES[lie]
    resigned(root, lambda told: (change(told), None)[1])
    assert refusal(root).detail == detail


def test_deep_json_is_refused(root: Path) -> None:
    body = b'{"ferrylog": "dump/1",\n"facts": ' + b"[" * 100_000 + b"]" * 100_000 + b",\n"
    digest = hashlib.sha256(body).hexdigest()
    (root / MANIFEST).write_bytes(body + f'"sha256": "{digest}"}}\n'.encode())
    assert refusal(root).detail == "EDUMP060"


def test_a_manifest_has_a_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", (root / MANIFEST).stat().st_size)
    read_manifest(root)
    monkeypatch.setattr(manifest, "MAX_BYTES", (root / MANIFEST).stat().st_size - 1)
    assert refusal(root).detail == "EDUMP072"


def _part(root: Path, number: int = 0) -> Part:
    return read_manifest(root).namespaces[0].parts[number]


def test_a_missing_chunk_file_is_named(root: Path) -> None:
    part = _part(root)
    (root / part.file).unlink()
    error = refusal(root)
    assert (error.detail, error.file) == ("EDUMP063", part.file)


def test_a_cut_chunk_file_is_named(root: Path) -> None:
    """Bad input 13: an empty file, of which the manifest says more."""
    part = _part(root)
    (root / part.file).write_bytes(b"")
    error = refusal(root)
    assert (error.detail, error.file, error.at) == ("EDUMP064", part.file, 0)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "linked directory"])
def test_only_regular_files_are_chunk_files(root: Path, kind: str) -> None:
    """Bad input 31; none of them hangs."""
    path = root / _part(root).file
    path.rename(root / "elsewhere.flb")
    if kind == "link":
        path.symlink_to(root / "elsewhere.flb")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.parent.rename(root / "real")
        (root / "elsewhere.flb").rename(root / "real" / path.name)
        path.parent.symlink_to(root / "real")
    assert refusal(root).detail == "EDUMP010"


def test_the_manifest_is_no_link(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / MANIFEST
    (root / MANIFEST).rename(other)
    (root / MANIFEST).symlink_to(other)
    assert refusal(root).detail == "EDUMP010"


def test_a_link_that_nobody_named_is_refused_too(root: Path) -> None:
    (root / "more").symlink_to("/etc/passwd")
    assert refusal(root).detail == "EDUMP010"


def test_what_killed_attempts_left_is_told(root: Path) -> None:
    (root / "shop.a" / "0-2.flb.tmp").touch()
    (root / "shop.a" / "7-1.flb").touch()
    (note,) = read_manifest(root).notes
    assert "shop.a/0-2.flb.tmp, shop.a/7-1.flb" in note
    assert "cut short" in note


def test_files_nobody_knows_are_told(root: Path) -> None:
    """Bad input 30: an extra file lies in the directory."""
    for number in range(9):
        (root / f"extra{number}").touch()
    (root / "folder").mkdir()
    (note,) = read_manifest(root).notes
    assert note.startswith("extra0, extra1, extra2, extra3, extra4 and 5 more: ")


def test_a_dump_can_be_read_without_its_chunk_files(root: Path) -> None:
    (root / _part(root).file).unlink()
    assert read_manifest(root, alone=True).namespaces[0].documents == 4


# The chunk files


def checked(root: Path, part: Part, *, objcheck: bool = False) -> None:
    check_file(root, part, NeverStops(), objcheck=objcheck)


def flawed(root: Path, part: Part, *, objcheck: bool = False) -> DamagedDump:
    with pytest.raises(DamagedDump) as caught:
        checked(root, part, objcheck=objcheck)
    assert caught.value.file == part.file
    return caught.value


def test_whole_chunk_files_pass(root: Path) -> None:
    for part in read_manifest(root).namespaces[0].parts:
        checked(root, part, objcheck=True)


@pytest.mark.parametrize("number", [0, 1])
def test_a_chunk_file_cut_or_changed_at_any_byte_is_refused(root: Path, number: int) -> None:
    """I24: with zstd and without."""
    part = _part(root, number)
    path, whole = root / part.file, (root / part.file).read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        flawed(root, part)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        flawed(root, part)
    path.write_bytes(whole + whole)
    assert flawed(root, part).detail == "EDUMP069"
    count("chunk files cut or changed, refused", 2 * len(whole) + 1)


def test_the_first_bad_block_is_named_by_its_offset(root: Path) -> None:
    part = _part(root)
    raw = bytearray((root / part.file).read_bytes())
    second = raw.index(b"FLB1", 1)
    raw[second + 30] ^= 0xFF
    (root / part.file).write_bytes(raw)
    assert flawed(root, part).at in (second, None)
    raw[second] ^= 0xFF
    (root / part.file).write_bytes(raw)
    error = flawed(root, part)
    assert (error.detail, error.at) == ("EDUMP070", second)


def test_a_frame_that_lies_about_what_it_holds_is_refused_before_allocation(root: Path) -> None:
    part = _part(root)
    squeezed = zstandard.ZstdCompressor().compress(block(1).data)
    lying = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + squeezed[6:]
    head = struct.pack("<4sIIII", b"FLB1", 1, len(block(1).data), len(lying), 1)
    (root / part.file).write_bytes(head + lying)
    tracemalloc.start()
    try:
        assert flawed(root, part).detail == "EDUMP070"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def relisted(root: Path, *blocks: Block) -> Part:
    """A chunk file whose digest is right, whatever its documents are."""
    return chunk(root, "shop.a", 0, *blocks)


def test_documents_are_looked_at_although_the_digest_is_right(root: Path) -> None:
    good = block(1)
    bad = good.data[:-1] + b"\x01"
    assert flawed(root, relisted(root, good, Block(bad, 1))).detail == "EBSON014"
    cut = Block(good.data + b"\x09\0\0", 1)
    assert flawed(root, relisted(root, cut)).detail == "EBSON010"
    assert flawed(root, relisted(root, Block(good.data, 2))).detail == "EDUMP070"
    part = replace(relisted(root, good), documents=5)
    error = flawed(root, part)
    assert (error.detail, "holds 1 documents" in error.why) == ("EDUMP071", True)


def test_the_inside_of_documents_is_looked_at_on_demand(root: Path) -> None:
    wrong = bson.encode({"_id": 1, "ok": True}).replace(b"ok\0\x01", b"ok\0\x07")
    part = relisted(root, block(1), Block(block(2).data + wrong, 2))
    checked(root, part)
    error = flawed(root, part, objcheck=True)
    assert (error.detail, "ok" in error.why) == ("EBSON024", True)
    assert error.at is not None
    assert error.at > 0


def test_checking_stops_when_told(root: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        check_file(root, _part(root), stop, objcheck=False)


def test_reading_back_what_was_read_changes_nothing(root: Path) -> None:
    dump = read_manifest(root)
    again: Dump = replace(dump)
    write_manifest(root, read_facts(root), again.namespaces)
    assert read_manifest(root) == dump
