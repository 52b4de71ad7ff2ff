"""Dumps that mongodump wrote, and .bson files good and damaged: what is read from them is what
another reader finds, and a refusal has a reason that it finds too (faults 10 to 33)."""

import gzip
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import bson
import pytest
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from executors.boundaries import from_text
from executors.chunkfile import read_blocks
from executors.dumps.beneath import open_file
from executors.dumps.bsonfile import parts, plain, salvaged, unpack
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.model import Damage, Dump, Dumped, NeverStops, Part
from executors.dumps.mongodump import read_directory
from tests.conformance.corpus import bson_files, corpus, files, needs_corpus

pytestmark = needs_corpus

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
JSON = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS
)
SIZE: dict[str, Any] = {"documents": 3, "bytes_": 1 << 20, "stop": NeverStops()}
DATA, METADATA = (".bson", ".bson.gz"), (".metadata.json", ".metadata.json.gz")
KNOWN = ("system.js.", "system.buckets.", "system.users.", "system.roles.")
OF_SERVERS = ("system.indexes", "system.profile", "system.views", "system.namespaces")


def _roots() -> list[Path]:
    """Every folder with a folder in it that holds what mongodump writes."""
    found = {path.parent.parent for kind in DATA + METADATA for path in files(f"*{kind}")}
    return sorted(found)


def _named(path: Path) -> str:
    return str(path.relative_to(corpus() or "/"))


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _stem(path: Path, kinds: tuple[str, ...]) -> str | None:
    return next((path.name[: -len(kind)] for kind in kinds if path.name.endswith(kind)), None)


def _documents(data: bytes) -> list[bytes]:
    """By the simplest walk there is. Raises `ValueError`."""
    found, at = [], 0
    while at < len(data):
        if len(data) - at < 5:
            raise ValueError(at)
        size = struct.unpack_from("<i", data, at)[0]
        document = data[at : at + size]
        if size < 5 or len(document) < size or document[-1]:
            raise ValueError(at)
        found.append(document)
        at += size
    return found


def _first_damage(data: bytes) -> int | None:
    try:
        _documents(data)
    except ValueError as error:
        at: int = error.args[0]
        return at
    return None


def _metadata(path: Path) -> dict[str, Any] | None:
    """None where it is damaged."""
    try:
        told = json_util.loads(_bytes(path), json_options=JSON)
    except (ValueError, EOFError, OSError):
        return None
    return told if isinstance(told, dict) else None


def _reasons(root: Path) -> Iterator[str]:
    """Why this folder may be refused."""
    for path in root.iterdir():
        if path.is_file() and _stem(path, DATA) not in (None, "oplog"):
            yield f"{path.name} lies beside databases"
    for path in root.glob("*/*"):
        if path.is_symlink():
            yield f"{path.name} is a link"
        if _stem(path, METADATA) is not None and _metadata(path) is None:
            yield f"{path.name} is damaged"
        buckets = (_stem(path, DATA) or "").removeprefix("system.buckets.")
        if path.name.startswith("system.") and not path.name.startswith((*KNOWN, *OF_SERVERS)):
            yield f"{path.name} is a name of servers"
        if path.name.startswith("system.buckets.") and not list(
            path.parent.glob(f"{_glob_escaped(buckets)}.metadata.json*")
        ):
            yield f"{path.name} has no metadata"


def _glob_escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _expected(root: Path) -> dict[str, dict[str, Any]]:
    """Per namespace its data file and its metadata, as far as it has them."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob("*/*")):
        for kinds, what in ((METADATA, "metadata"), (DATA, "data")):
            stem = _stem(path, kinds)
            if path.is_file() and stem is not None:
                name = unquote_plus(stem).removeprefix("system.buckets.")
                if len(stem) == 238 and "%24" in stem:
                    [beside] = path.parent.glob(f"{stem}.metadata.json*")
                    name = json.loads(_bytes(beside))["collectionName"]
                if name not in OF_SERVERS:
                    found.setdefault(f"{path.parent.name}.{name}", {})[what] = path
    return found


def _read(root: Path) -> Dump | None:
    """None where it is refused."""
    try:
        return read_directory(root)
    except (NoDump, DamagedDump):
        return None


def _opened() -> list[tuple[Path, Dump]]:
    return [(root, dump) for root in _roots() if (dump := _read(root)) is not None]


@pytest.mark.parametrize("root", _roots(), ids=_named)
def test_a_dump_holds_what_another_reader_finds_or_is_refused_for_a_reason(root: Path) -> None:
    dump = _read(root)
    if dump is None:
        assert list(_reasons(root))
        return
    expected = _expected(root)
    assert [each.namespace for each in dump.namespaces] == sorted(expected)
    for each in dump.namespaces:
        of_it = expected[each.namespace]
        assert each.data == (of_it["data"].relative_to(root).as_posix() if "data" in of_it else "")
        if "metadata" in of_it:
            _compare(each, _metadata(of_it["metadata"]) or {})


def _compare(each: Dumped, told: dict[str, Any]) -> None:
    assert _normal(bson.decode(each.options, CODEC)) == _normal(told.get("options", {}))
    indexes = [index for index in told.get("indexes", ()) if not _comes_with_it(index)]
    found = [bson.decode(from_text(index.spec), CODEC) for index in each.indexes]
    assert _normal(found) == _normal(indexes)
    assert [index.unique for index in each.indexes] == [
        bool(index.get("unique")) for index in indexes
    ]
    assert each.uuid == told.get("uuid", "")


def _normal(value: object) -> object:
    """The driver takes `{$regex: ..., $options: ...}` for an expression; then both times."""
    return json_util.loads(json_util.dumps(value, json_options=JSON), json_options=JSON)


def _comes_with_it(index: dict[str, Any]) -> bool:
    return index["name"] == "_id_" or bool(index.get("clustered"))


@pytest.mark.parametrize(("root", "dump"), _opened(), ids=lambda each: getattr(each, "name", ""))
def test_the_documents_of_a_dump_are_read_to_the_byte(
    root: Path, dump: Dump, tmp_path: Path
) -> None:
    for each in dump.namespaces:
        if not each.data:
            continue
        data = _bytes(root / each.data)
        with open_file(root, each.data) as file:
            if _first_damage(data) is not None:
                with pytest.raises(DamagedDump):
                    list(parts(file, each.data, **SIZE))
                continue
            if each.gzip:
                found = list(unpack(plain(file, True), each.data, tmp_path, each.namespace, **SIZE))
                got = b"".join(
                    block.data
                    for part in found
                    if isinstance(part, Part)
                    for block, _ in read_blocks(tmp_path / part.file)
                )
            else:
                found = list(parts(file, each.data, **SIZE))
                got = b"".join(data[part.at : part.at + part.bytes] for part in found)
        assert got == data
        assert sum(p.documents for p in found if isinstance(p, Part)) == len(_documents(data))


@pytest.mark.parametrize(
    ("name", "data"), bson_files() if corpus() else [], ids=lambda each: str(each)[:30]
)
def test_a_file_is_read_refused_and_salvaged(name: str, data: bytes) -> None:
    damaged_at = _first_damage(data)
    if damaged_at is None:
        found_parts = parts(io.BytesIO(data), name, **SIZE)
        assert sum(part.documents for part in found_parts) == len(_documents(data))
    else:
        with pytest.raises(DamagedDump, match=f"begins at offset {damaged_at},") as refused:
            list(parts(io.BytesIO(data), name, **SIZE))
        assert (refused.value.at or 0) >= damaged_at
    found = list(salvaged(io.BytesIO(data), name, **SIZE))
    assert sum(each.bytes for each in found) == len(data)
    for each in found:
        piece = data[each.at : each.at + each.bytes]
        if isinstance(each, Damage):
            assert each.why
            continue
        assert len(_documents(piece)) == each.documents
        list(parts(io.BytesIO(piece), name, **SIZE, objcheck=True))
