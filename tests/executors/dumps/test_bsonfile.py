"""Documents in a row, whole and damaged, plain and gzip (faults 13 to 22, 27, 28)."""

import gzip
import hashlib
import io
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import bson
import pytest

from executors.chunkfile import check_chunk_file, read_blocks
from executors.dumps import bsonfile, gunzip
from executors.dumps.bsonfile import is_gzip, parts, plain, salvaged, unpack
from executors.dumps.errors import DETAILS, DamagedDump
from executors.dumps.model import Damage, NeverStops, Part
from executors.protocol import Stopped

NEVER = NeverStops()


def _docs(count: int = 10) -> list[bytes]:
    return [
        bson.encode({"_id": n, "text": "x" * (n % 7), "in": [{"_id": 1}, {"_id": 2}]})
        for n in range(count)
    ]


def _parts(data: bytes, **how: Any) -> list[Part]:
    how = {"documents": 1000, "bytes_": 1 << 30, "stop": NEVER} | how
    return list(parts(io.BytesIO(data), "db/c.bson", **how))


def _salvaged(data: bytes, **how: Any) -> tuple[list[bytes], list[Damage]]:
    """The documents of all parts, and the damage; together they are the whole file."""
    how = {"documents": 1000, "bytes_": 1 << 30, "stop": NEVER} | how
    found = list(salvaged(io.BytesIO(data), "db/c.bson", **how))
    at = 0
    for each in found:
        assert each.at == at
        at += each.bytes
    assert at == len(data)
    kept = [each for each in found if isinstance(each, Part)]
    whole = b"".join(data[part.at : part.at + part.bytes] for part in kept)
    assert sum(part.documents for part in kept) == len(list(_cut(whole)))
    return list(_cut(whole)), [each for each in found if isinstance(each, Damage)]


def _cut(data: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = struct.unpack_from("<i", data, at)[0]
        yield data[at : at + size]
        at += size


def test_an_empty_file_is_no_documents() -> None:
    assert _parts(b"") == []
    assert _salvaged(b"") == ([], [])


def test_parts_are_cut_where_documents_end() -> None:
    docs = _docs(10)
    data = b"".join(docs)
    found = _parts(data, documents=4)
    assert [part.documents for part in found] == [4, 4, 2]
    assert b"".join(data[p.at : p.at + p.file_bytes] for p in found) == data
    for part in found:
        piece = data[part.at : part.at + part.file_bytes]
        assert part.sha256 == hashlib.sha256(piece).hexdigest()
        assert part.bytes == part.file_bytes == len(piece)
    assert len(_parts(data, bytes_=len(docs[0]) * 2)) > 3
    assert len(_parts(data, bytes_=1)) == 10
    [whole] = _parts(data, documents=1, bytes_=1, whole=True)
    assert (whole.documents, whole.bytes) == (10, len(data))


def test_documents_larger_than_a_block_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bsonfile, "READ_BYTES", 100)
    docs = [bson.encode({"_id": n, "b": bytes(n * 37)}) for n in range(40)]
    data = b"".join(docs)
    assert [p.documents for p in _parts(data, documents=7)] == [7, 7, 7, 7, 7, 5]
    assert _parts(data, documents=7) == _parts(data, documents=7, objcheck=True)
    assert _salvaged(data)[0] == docs


class _Interrupted:
    """Set after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_a_stop_is_obeyed_at_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bsonfile, "READ_BYTES", 100)
    with pytest.raises(Stopped):
        _parts(b"".join(_docs(100)), stop=_Interrupted(3))


_DOC = bson.encode({"_id": 1, "a": "text"})


@pytest.mark.parametrize(
    ("damage", "detail", "at"),
    [
        (b"\x01\x00", "EBSON010", 0),
        (_DOC[:-1], "EBSON013", 0),
        (struct.pack("<i", 0) + bytes(60), "EBSON011", 0),
        (struct.pack("<i", 4) + bytes(60), "EBSON011", 0),
        (struct.pack("<i", -1) + bytes(60), "EBSON011", 0),
        (struct.pack("<i", (1 << 31) - 1) + bytes(60), "EBSON012", 0),
        (_DOC[:-1] + b"\x01", "EBSON014", len(_DOC) - 1),
    ],
)
def test_a_damaged_envelope_is_refused_with_its_place(damage: bytes, detail: str, at: int) -> None:
    """Faults 14 to 18: the offset, and how many whole documents lie before it."""
    before = b"".join(_docs(3))
    with pytest.raises(DamagedDump) as refused:
        _parts(before + damage, documents=2)
    error = refused.value
    assert (error.file, error.detail, error.at) == ("db/c.bson", detail, len(before) + at)
    assert "3 whole ones lie before it" in str(error)
    assert f"begins at offset {len(before)}" in str(error)
    kept, lost = _salvaged(before + damage)
    assert kept == _docs(3)
    assert [(each.at, each.code) for each in lost] == [(len(before), detail)]


def test_damage_inside_is_found_with_objcheck_alone() -> None:
    """Faults 19 to 21: the envelope is right, the server would refuse it."""
    bad = bytearray(_DOC)
    bad[4] = 0x77
    data = _DOC + bytes(bad) + _DOC
    assert sum(part.documents for part in _parts(data)) == 3
    with pytest.raises(DamagedDump, match="field _id") as refused:
        _parts(data, objcheck=True)
    assert (refused.value.detail, refused.value.at) == ("EBSON016", len(_DOC) + 9)
    kept, lost = _salvaged(data)
    assert kept == [_DOC, _DOC]
    assert [(each.at, each.bytes, each.code) for each in lost] == [
        (len(_DOC), len(_DOC), "EBSON016")
    ]


def test_an_id_that_servers_refuse_is_carried_to_them() -> None:
    """Fault 25: the document is whole; it becomes a rejected one, which is not lost."""
    data = bson.encode({"_id": [1]}) + _DOC
    assert _parts(data, objcheck=True)[0].documents == 2
    assert _salvaged(data) == ([bson.encode({"_id": [1]}), _DOC], [])


@pytest.mark.parametrize("seed", range(60))
def test_one_flipped_bit_costs_one_document_at_most(seed: int) -> None:
    lots = random.Random(seed)
    docs = _docs(300)
    data = bytearray(b"".join(docs))
    hurt = lots.randrange(len(docs))
    offset = sum(map(len, docs[:hurt]))
    data[offset + lots.randrange(4 if seed % 2 else len(docs[hurt]))] ^= 1 << lots.randrange(8)
    kept, _ = _salvaged(bytes(data), documents=50)
    assert set(docs[:hurt] + docs[hurt + 1 :]) <= set(kept)


@pytest.mark.parametrize("end", range(1, len(_docs(3)[2])))
def test_of_a_cut_file_nothing_nested_becomes_a_document(end: int) -> None:
    docs = _docs(3)
    kept, [lost] = _salvaged(b"".join(docs[:2]) + docs[2][:end])
    assert kept == docs[:2]
    assert (lost.at, lost.bytes) == (len(docs[0] + docs[1]), end)


def test_a_length_beyond_the_end_costs_one_document() -> None:
    docs = _docs(5)
    for hurt in range(5):
        data = b"".join(docs[:hurt]) + b"\xff\xff\x00\x00" + docs[hurt][4:]
        kept, _ = _salvaged(data + b"".join(docs[hurt + 1 :]))
        assert kept == docs[:hurt] + docs[hurt + 1 :]


def test_a_search_goes_on_over_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bsonfile, "READ_BYTES", 1 << 10)
    monkeypatch.setattr(bsonfile, "LARGEST", 2 << 10)
    monkeypatch.setattr(bsonfile, "SEARCHED", 4 << 10)
    docs = _docs(50)
    data = b"".join(docs[:20]) + b"\xff" * 50_000 + b"".join(docs[20:])
    kept, lost = _salvaged(data)
    assert kept == docs
    assert [(each.at, each.bytes) for each in lost] == [(sum(map(len, docs[:20])), 50_000)]


# gzip


def _unpacked(folder: Path, data: bytes, **how: Any) -> tuple[list[bytes], list[Part | Damage]]:
    """The documents of the chunk files, and what was yielded."""
    how = {"documents": 4, "bytes_": 1 << 30, "stop": NEVER} | how
    found = list(
        unpack(plain(io.BytesIO(data), True, "db/c.bson.gz"), "db/c.bson.gz", folder, "db.c", **how)
    )
    docs: list[bytes] = []
    for n, part in enumerate(each for each in found if isinstance(each, Part)):
        assert part.file == f"db.c/{n}-0.flb"
        path = folder / part.file
        check_chunk_file(path, file_bytes=part.file_bytes, sha256=part.sha256, stop=NEVER)
        inside = [doc for block, _ in read_blocks(path) for doc in _cut(block.data)]
        assert (len(inside), sum(map(len, inside))) == (part.documents, part.bytes)
        docs += inside
    return docs, found


def test_gzip_becomes_chunk_files(tmp_path: Path) -> None:
    docs = _docs(10)
    packed = gzip.compress(b"".join(docs))
    got, found = _unpacked(tmp_path, packed)
    assert got == docs
    assert len(found) == 3
    assert _unpacked(tmp_path, packed)[1] == found  # once more, as after a kill
    assert len(_unpacked(tmp_path, packed, whole=True)[1]) == 1
    assert _unpacked(tmp_path, gzip.compress(b"")) == ([], [])


def test_members_in_a_row_and_padding_are_gzip_too(tmp_path: Path) -> None:
    docs = _docs(10)
    packed = b"".join(gzip.compress(doc) for doc in docs) + bytes(512)
    assert _unpacked(tmp_path, packed)[0] == docs


def test_a_head_with_every_field_is_read() -> None:
    body = gzip.compress(b"content")[10:]
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\x00abc" + b"name\0" + b"comment\0" + b"\0\0"
    assert plain(io.BytesIO(head + body), True).read() == b"content"


_PACKED = gzip.compress(b"".join(_docs(10)), mtime=0)


@pytest.mark.parametrize(
    ("data", "detail", "least"),
    [
        (b"", "EDUMP020", 0),
        (_PACKED[:5], "EDUMP020", 0),
        (_PACKED[:-3], "EDUMP020", 10),
        (_PACKED[:-12], "EDUMP020", 1),
        (_PACKED[:-8] + b"\0\0\0\0" + _PACKED[-4:], "EDUMP021", 10),
        (_PACKED[:-4] + b"\0\0\0\0", "EDUMP021", 10),
        (_PACKED[:10] + b"\xff" * 20, "EDUMP021", 0),
        (_PACKED + b"garbage", "EDUMP022", 10),
    ],
)
def test_damaged_gzip_is_refused_and_salvaged(
    tmp_path: Path, data: bytes, detail: str, least: int
) -> None:
    """Fault 28; what was readable is kept in a salvage."""
    with pytest.raises(DamagedDump) as refused:
        _unpacked(tmp_path, data)
    assert (refused.value.file, refused.value.detail) == ("db/c.bson.gz", detail)
    docs, found = _unpacked(tmp_path, data, salvage=True)
    assert docs == _docs(10)[: len(docs)]
    assert len(docs) >= least
    [damage] = [each for each in found if isinstance(each, Damage)]
    assert damage.code == detail
    assert damage.at == sum(map(len, docs))


def test_a_damaged_document_in_gzip_is_passed_over(tmp_path: Path) -> None:
    docs = _docs(10)
    data = b"".join(docs[:5]) + b"\xff" * 9 + b"".join(docs[5:])
    with pytest.raises(DamagedDump):
        _unpacked(tmp_path, gzip.compress(data))
    got, found = _unpacked(tmp_path, gzip.compress(data), salvage=True)
    assert got == docs
    assert [each.bytes for each in found if isinstance(each, Damage)] == [9]


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 28: 1,028 to 1 is the most that gzip can do."""
    monkeypatch.setattr(gunzip, "WINDOW", 4 << 20)
    bomb = gzip.compress(bytes(16 << 20))
    stream = plain(io.BytesIO(bomb), True, "f")
    with pytest.raises(DamagedDump) as refused:
        while stream.read(1 << 20):
            pass
    assert refused.value.detail == "EDUMP023"
    assert "gunzip" in refused.value.remedy


def test_what_was_readable_is_read_before_the_damage() -> None:
    stream = plain(io.BytesIO(_PACKED[:-8] + bytes(8)), True, "f")
    assert stream.read(1 << 20) == b"".join(_docs(10))
    with pytest.raises(DamagedDump):
        stream.read(1)


def test_gzip_is_known_by_its_bytes() -> None:
    """Fault 27; a document of 559,903 bytes begins with the very bytes of gzip."""
    size = 559_903
    like = bson.encode({"_id": 1, "b": bytes(size - len(bson.encode({"_id": 1, "b": b""})))})
    assert like.startswith(gunzip.MAGIC)
    for data, gz in ((_PACKED, True), (_DOC, False), (b"", False), (like, False)):
        file: BinaryIO = io.BytesIO(data)
        assert is_gzip(file) is gz
        assert file.tell() == 0
    assert is_gzip(io.BytesIO(like + _DOC)) is False
    assert is_gzip(io.BytesIO(like[:10] + b"\xff" * size)) is True


def test_every_code_has_one_meaning() -> None:
    assert len(set(DETAILS.values())) == len(DETAILS)
