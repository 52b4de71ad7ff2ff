"""G3: JSONL as a source of documents, single files and exports; what is no document is named, with
its file and line, before anything is written (I21, I22)."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
import zstandard

from executors.chunkfile import read_blocks
from executors.dumps import jsonlines
from executors.dumps.errors import DETAILS, DamagedDump, NoDump
from executors.dumps.exported import text_blocks, unpack_texts
from executors.dumps.jsonlines import Lines
from executors.dumps.model import Damage, Dump, NeverStops, Part, TextFile
from executors.dumps.named import what_lies_there
from executors.dumps.opening import open_dump
from executors.examination import examine_dump
from executors.export.jsonl import Compression, lines
from executors.export.manifest import Collection, File, Manifest, as_bytes
from executors.export.names import CLAIM, MANIFEST, SUCCESS
from executors.protocol import Stopped
from executors.rawbson import documents
from tests.executors.examples import Looks

NEVER = NeverStops()
DOCS = [bson.encode({"_id": n, "text": "ä\n" * (n % 7), "f": n / 3}) for n in range(2500)]
ONE = b'{"_id":1}\n'


def read(data: bytes, folder: Path, name: str = "c.jsonl", **told: Any) -> list[bytes]:
    (folder / name).write_bytes(data)
    file = Lines(folder, TextFile(name, len(data), **told), NEVER)
    return list(documents(b"".join(file.blocks())))


def salvaged(data: bytes, folder: Path, **told: Any) -> tuple[list[bytes], list[Damage]]:
    (folder / "c.jsonl").write_bytes(data)
    damage: list[Damage] = []
    file = Lines(folder, TextFile("c.jsonl", len(data), **told), NEVER, damage)
    return list(documents(b"".join(file.blocks()))), damage


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_was_exported_comes_back_byte_for_byte(
    tmp_path: Path, compression: Compression
) -> None:
    """Pieces put one behind the other are one file."""
    blocks = [b"".join(DOCS[:1000]), b"", b"".join(DOCS[1000:])]
    data = b"".join(lines(block, "canonical", compression).data for block in blocks)
    assert read(data, tmp_path) == DOCS
    assert read(lines(b"", "canonical", compression).data, tmp_path) == []


def test_what_others_write_is_read(tmp_path: Path) -> None:
    """Relaxed, with a mark of byte order, blank lines, ends of Windows and none at the end."""
    data = b'\xef\xbb\xbf{"_id":1,"n":{"$numberLong":"5"}}\r\n\n  \r\n{"_id":2,"x":1.0}'
    assert read(data, tmp_path) == [
        bson.encode({"_id": 1, "n": bson.Int64(5)}),
        bson.encode({"_id": 2, "x": 1.0}),
    ]
    assert read(b"", tmp_path) == read(b"\xef\xbb\xbf\n", tmp_path) == []


def test_a_document_without_id_gets_the_same_one_each_time(tmp_path: Path) -> None:
    """What was killed writes nothing twice; equal lines stay two documents."""
    data = b'{"a":1}\n{"a":1}\n'
    found = read(data, tmp_path)
    assert found == read(data, tmp_path)
    ids = [bson.decode(each)["_id"] for each in found]
    assert isinstance(ids[0], bson.ObjectId)
    assert ids[0] != ids[1]
    assert [list(bson.decode(each)) for each in found] == [["_id", "a"]] * 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"a":', "Expecting value, column 6"),
        (b"[1]", "no object"),
        (b'{"_id":{"$oid":"xyz"}}', "fromhex"),
        (b'{"a":{"$oid":"%b","$oid":"%b"}}' % (b"0" * 24, b"1" * 24), "beside it"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b'{"a":1%b}' % (b"0" * 309), "a number beyond all doubles"),
        (b'{"a":-1e309}', "a number beyond all doubles"),
        (b'{"a":"\xff"}', "utf-8"),
        (b'{"a":"\\ud800"}', "surrogates"),
        (b'{"a\\u0000":1}', "NUL"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "deeper"),
        (b'{"a":' * 185 + b"1" + b"}" * 185, "180 documents"),
        (b'{"a":"' + b"x" * (17 << 20) + b'"}', "is the most"),
        (b'{"a":"' + b"x" * 300 + b'"}', "longer than"),
    ],
)
def test_a_line_that_is_no_document_is_named(
    tmp_path: Path, line: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file, its place, its number; a salvage leaves it out and tells of it."""
    if why == "longer than":
        monkeypatch.setattr(jsonlines, "LONGEST", 256)
    with pytest.raises(DamagedDump, match=why) as raised:
        read(ONE + line + b"\n" + ONE, tmp_path)
    error = raised.value
    assert (error.file, error.at, error.detail) == ("c.jsonl", len(ONE), "EDUMP100")
    assert error.why.startswith("line 2: ")
    assert len(error.why) < 300
    found, damage = salvaged(ONE + line + b"\n" + ONE, tmp_path)
    assert len(found) == 2
    assert [(each.at, each.code) for each in damage] == [(len(ONE), "EDUMP100")]


def test_bad_lines_in_a_row_are_one_damage(tmp_path: Path) -> None:
    found, damage = salvaged(ONE + b"a\nbb\nc\n" + ONE + b"d\n", tmp_path)
    assert len(found) == 2
    assert [(each.at, each.bytes) for each in damage] == [(10, 6), (27, 1)]


def test_an_array_of_documents_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DamagedDump, match="jq"):
        read(b'[{"_id":1}]', tmp_path)


PACKED = lines(b"".join(DOCS), "canonical", "zstd").data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (PACKED[:-5], "EDUMP102"),
        (PACKED[:400] + b"\xff\xff" + PACKED[402:], "EDUMP103"),
        (PACKED + b"garbage", "EDUMP103"),
        (gzip.compress(ONE * 9, mtime=0)[:-5], "EDUMP020"),
        (gzip.compress(ONE * 9, mtime=0) + b"garbage", "EDUMP022"),
    ],
)
def test_damage_of_what_is_packed_is_told(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(DamagedDump) as raised:
        read(data, tmp_path)
    assert raised.value.detail == code
    assert [each.code for each in salvaged(data, tmp_path)[1]][-1:] == [code]


def test_every_frame_is_read_as_it_is_cut(tmp_path: Path) -> None:
    """Frames without checksum and size, one that anybody may pass over, an empty one."""
    pack = zstandard.ZstdCompressor(write_content_size=False).compress
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert len(read(pack(ONE) + skipped + pack(b"") + pack(ONE), tmp_path)) == 2


@pytest.mark.parametrize(
    ("told", "code"), [({"sha256": "0" * 64}, "EDUMP105"), ({"documents": 3}, "EDUMP106")]
)
def test_a_file_is_what_its_manifest_says(tmp_path: Path, told: dict[str, Any], code: str) -> None:
    with pytest.raises(DamagedDump, match=code):
        read(ONE, tmp_path, **told)
    found, damage = salvaged(ONE, tmp_path, **told)
    assert ([each.code for each in damage], len(found)) == ([code], 1)
    assert code in DETAILS


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ONE)
    with pytest.raises(Stopped):
        list(Lines(tmp_path, TextFile("c.jsonl", 0), Looks(0)).blocks())


# Exports


def exported(folder: Path, added: tuple[Collection, ...] = (), **more: Any) -> Dump:
    """Two files of one collection, none of another."""
    parts = {f"shop.a/part-{n:06}-j-1-1.jsonl.zst": DOCS[n::2] for n in range(2)}
    files = []
    (folder / "shop.a").mkdir(parents=True)
    for name, docs in parts.items():
        data = lines(b"".join(docs), "canonical", "zstd").data
        (folder / name).write_bytes(data)
        sha = hashlib.sha256(data).hexdigest()
        files.append(File(name=name, documents=len(docs), bytes=len(data), sha256=sha))
    facts: dict[str, Any] = {
        "tool": "t",
        "job": "j",
        "created": "",
        "source": "",
        "source_id": "",
        "server_version": "6.0.5",
        "format": "jsonl",
        "json_form": "canonical",
        "compression": "zstd",
        "complete": True,
        "documents": len(DOCS),
        "bytes": 1,
        "rejected": 0,
    }
    alike: dict[str, Any] = {"type": "collection", "bytes": 1, "rejected": 0}
    collections = (
        Collection(namespace="shop.b", documents=0, files=(), **alike),
        Collection(namespace="shop.a", documents=len(DOCS), files=tuple(files), **alike),
        *added,
    )
    manifest = Manifest(**{**facts, **more}, collections=collections)
    (folder / MANIFEST).write_bytes(as_bytes(manifest))
    (folder / SUCCESS).touch()
    return open_dump(folder)


def unpacked(dump: Dump, folder: Path, **more: Any) -> list[Part | Damage]:
    folder.mkdir(exist_ok=True)
    size: dict[str, Any] = {"documents": 400, "bytes_": 1 << 20, "stop": NEVER, "salvage": False}
    return list(unpack_texts(dump, dump.namespaces[0], folder, **{**size, **more}))


def test_an_export_is_a_dump(tmp_path: Path) -> None:
    dump = exported(tmp_path / "e")
    (tmp_path / "e" / "shop.x.bson").mkdir()  # of a collection of that name
    assert what_lies_there(tmp_path / "e") == "databases"
    assert dump.layout == "jsonl"
    assert [each.namespace for each in dump.namespaces] == ["shop.a", "shop.b"]
    parts = unpacked(dump, tmp_path / "w")
    found = [
        document
        for part in parts
        if isinstance(part, Part)
        for block, _ in read_blocks(tmp_path / "w" / part.file)
        for document in documents(block.data)
    ]
    assert found == DOCS[::2] + DOCS[1::2]
    assert unpacked(dump, tmp_path / "w") == parts
    again = b"".join(text_blocks(dump.root, dump.namespaces[0], NEVER))
    assert list(documents(again)) == found


def _rename(folder: Path) -> None:
    (folder / MANIFEST).rename(folder / CLAIM)


def _of_files(change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: change(min((folder / "shop.a").iterdir()))


def _relinked(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to("../elsewhere")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / SUCCESS).unlink(), "EDUMP101"),
        (_rename, "EDUMP101"),
        (_of_files(Path.unlink), "EDUMP104"),
        (_of_files(_relinked), "EDUMP104"),
        (_of_files(lambda file: file.write_bytes(file.read_bytes()[:-1])), "EDUMP104"),
    ],
)
def test_an_export_that_is_not_whole_is_refused(
    tmp_path: Path, change: Callable[[Path], None], code: str
) -> None:
    exported(tmp_path / "e")
    change(tmp_path / "e")
    with pytest.raises(DamagedDump, match=code):
        open_dump(tmp_path / "e")


def test_a_changed_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    dump = exported(tmp_path / "e")
    file = min((tmp_path / "e" / "shop.a").iterdir())
    data = lines(b"".join(DOCS[1::2]), "canonical", "zstd").data
    file.write_bytes(data[: file.stat().st_size].ljust(file.stat().st_size, b"\0"))
    with pytest.raises(DamagedDump):
        unpacked(dump, tmp_path / "w")


def test_an_export_is_looked_at_by_itself(tmp_path: Path) -> None:
    """To its last line, as any dump is."""
    exported(tmp_path / "e")
    found = examine_dump(tmp_path / "e")
    assert (found.sound, found.files, found.documents) == (True, 2, len(DOCS))
    file = min((tmp_path / "e" / "shop.a").iterdir())
    file.write_bytes(bytes([*file.read_bytes()[:-4], 0, 0, 0, 0]))
    found = examine_dump(tmp_path / "e")
    assert {each.code for each in found.findings} == {"EDUMP103"}
    (tmp_path / "c.jsonl").write_bytes(ONE + b"x\n" + ONE)
    alone = examine_dump(tmp_path / "c.jsonl")
    assert [(each.stage, each.code, each.at) for each in alone.findings] == [
        ("structure", "EDUMP100", len(ONE))
    ]
    assert alone.documents == 2


def test_what_is_there_of_an_export_can_be_salvaged(tmp_path: Path) -> None:
    exported(tmp_path / "e")
    (tmp_path / "e" / SUCCESS).unlink()
    min((tmp_path / "e" / "shop.a").iterdir()).unlink()
    dump = open_dump(tmp_path / "e", salvage=True)
    parts = unpacked(dump, tmp_path / "w", salvage=True)
    assert sum(part.documents for part in parts if isinstance(part, Part)) == len(DOCS) // 2


def test_what_an_export_does_not_hold_is_told(tmp_path: Path) -> None:
    dump = exported(
        tmp_path / "e", json_form="relaxed", rejected=3, projection="{}", missing=("x",)
    )
    assert [note.split()[0] for note in dump.notes] == ["an", "relaxed", "the", "not"]


def test_one_that_ended_without_some_documents_is_taken(tmp_path: Path) -> None:
    """Its manifest tells which; nothing else would mark its end."""
    exported(tmp_path / "e", complete=False, missing=("shop.a: 1 documents are rejected",))
    (tmp_path / "e" / SUCCESS).unlink()
    assert "1 documents are rejected" in open_dump(tmp_path / "e").notes[-1]


def test_names_in_its_manifest_are_those_of_collections(tmp_path: Path) -> None:
    """A view without documents is none."""
    alike: dict[str, Any] = {"documents": 0, "bytes": 0, "rejected": 0, "files": ()}
    view = Collection(namespace="shop.v", type="view", **alike)
    dump = exported(tmp_path / "e", added=(view,))
    assert [each.namespace for each in dump.namespaces] == ["shop.a", "shop.b"]
    wrong = Collection(namespace="shop.$x", type="collection", **alike)
    with pytest.raises(DamagedDump, match="EDUMP013"):
        exported(tmp_path / "f", added=(wrong,))


def test_parquet_is_for_other_readers(tmp_path: Path) -> None:
    with pytest.raises(NoDump, match="parquet"):
        exported(tmp_path / "e", format="parquet")


def test_one_file_needs_a_name_of_its_collection(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl.gz"
    file.write_bytes(gzip.compress(ONE, mtime=0))
    with pytest.raises(NoDump, match="what it is of") as raised:
        open_dump(file)
    assert "-d and -c" in raised.value.remedy
    dump = open_dump(file, database="shop", collection="c")
    assert (dump.layout, dump.namespaces[0].namespace) == ("jsonl", "shop.c")
    file.write_bytes(gzip.compress(ONE * 2, mtime=0))
    assert open_dump(file, database="shop", collection="c").identity != dump.identity


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    exported(tmp_path / "e")
    (tmp_path / "e" / MANIFEST).write_text(json.dumps({"schema": "x"}))
    with pytest.raises(Exception, match="schema"):
        open_dump(tmp_path / "e")
