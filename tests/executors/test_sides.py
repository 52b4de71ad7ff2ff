"""Where documents are read from: parts of files, ranges, look-ups."""

import hashlib
import os
import random
from pathlib import Path
from threading import Event

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from executors import partfile
from executors.batches import Block
from executors.chunkfile import DamagedFile, write_chunk_file
from executors.fingerprint import digest_of
from executors.partfile import check_file, file_blocks, part_blocks
from executors.protocol import Stopped
from executors.rawbson import as_stored, documents
from executors.sides import InFile, Lookup, lots_of
from statemachine.state import ChunkFile
from tests.conftest import Pair


def sample(sizes: list[int]) -> list[bytes]:
    return [bson.encode({"_id": n, "x": bytes(size)}) for n, size in enumerate(sizes)]


def file_of(path: Path, at: int, size: int) -> ChunkFile:
    raw = path.read_bytes()[at : at + size]
    return ChunkFile(path.name, 0, size, size, hashlib.sha256(raw).hexdigest(), at)


@given(
    st.lists(st.integers(0, 3000), max_size=40), st.integers(0, 40), st.integers(0, 40), st.data()
)
def test_a_part_comes_as_blocks_cut_between_documents(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    first: int,
    last: int,
    data: st.DataObject,
) -> None:
    """A restore goes on behind any block, and gets the rest, to the byte."""
    every = sample(sizes)
    path = tmp_path_factory.mktemp("parts") / "c.bson"
    path.write_bytes(b"".join(every))
    at = len(b"".join(every[:first]))
    part = b"".join(every[first : max(first, last)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partfile, "BLOCK_BYTES", 1000)
        patch.setattr(partfile, "BLOCK_DOCUMENTS", 7)
        blocks = list(part_blocks(path, at, len(part)))
        assert b"".join(block.data for block, _ in blocks) == part
        begun = 0
        for block, behind in blocks:
            begun += len(block.data)
            assert behind == begun
            assert block.documents == len(list(documents(block.data))) <= 7
        if blocks:
            _, position = data.draw(st.sampled_from(blocks))
            rest = list(part_blocks(path, at, len(part), position))
            assert rest == [each for each in blocks if each[1] > position]


def test_a_document_longer_than_a_block_is_a_block(tmp_path: Path) -> None:
    (tmp_path / "c.bson").write_bytes(b"".join(sample([10, 5 << 20, 10])))
    size = (tmp_path / "c.bson").stat().st_size
    found = [block.documents for block, _ in part_blocks(tmp_path / "c.bson", 0, size)]
    assert found == [1, 1, 1]


@pytest.mark.parametrize("length", [0, 4, -1, 2**31 - 1, 18 << 20, 40])
def test_a_length_that_the_part_cannot_keep_is_damage(tmp_path: Path, length: int) -> None:
    """faults.md 5, 14 to 17: no length is believed."""
    path = tmp_path / "c.bson"
    path.write_bytes(sample([0])[0] + length.to_bytes(4, "little", signed=True) + bytes(9))
    with pytest.raises(DamagedFile):
        list(part_blocks(path, 0, path.stat().st_size))


def test_a_part_that_ends_early_or_inside_a_document_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "c.bson"
    path.write_bytes(sample([100])[0])
    size = path.stat().st_size
    for said in (2, size - 1, size + 1, size + 100):
        with pytest.raises(DamagedFile):
            list(part_blocks(path, 0, said))


@pytest.mark.parametrize("kind", ["missing", "directory", "link", "fifo"])
def test_what_is_no_regular_file_is_damage(tmp_path: Path, kind: str) -> None:
    """faults.md 5, 31: a FIFO would be waited for."""
    path = tmp_path / "c.bson"
    match kind:
        case "directory":
            path.mkdir()
        case "link":
            (tmp_path / "real").write_bytes(sample([0])[0])
            path.symlink_to("real")
        case "fifo":
            os.mkfifo(path)
    with pytest.raises(DamagedFile):
        list(part_blocks(path, 0, 20))


@pytest.mark.parametrize("suffix", [".bson", ".flb"])
def test_every_changed_byte_of_a_part_is_noticed(tmp_path: Path, suffix: str) -> None:
    """I24."""
    path, every = tmp_path / f"c{suffix}", sample([3, 5, 7])
    if suffix == ".flb":
        write_chunk_file(path, iter([Block(b"".join(every), 3)]), "zstd")
        file = file_of(path, 0, path.stat().st_size)
    else:
        path.write_bytes(b"".join(every))
        file = file_of(path, len(every[0]), len(every[1]))
    check_file(path, file, Event())
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        if file.at <= at < file.at + file.file_bytes:
            with pytest.raises(DamagedFile):
                check_file(path, file, Event())
        else:
            check_file(path, file, Event())
    path.write_bytes(raw[: file.at + file.file_bytes - 1])
    with pytest.raises(DamagedFile):
        check_file(path, file, Event())


def test_a_chunk_file_and_a_part_read_alike(tmp_path: Path) -> None:
    every = sample([1, 2, 3])
    (tmp_path / "c.bson").write_bytes(b"".join(every))
    write_chunk_file(tmp_path / "c.flb", iter([Block(b"".join(every), 3)]), "none")
    for name in ("c.bson", "c.flb"):
        path = tmp_path / name
        side = InFile(path, file_of(path, 0, path.stat().st_size), Event())
        side.check()
        assert [each for lot in lots_of(side) for each in lot] == every
        assert [block for block, _ in file_blocks(path, side.file)] == list(side.blocks())


def test_a_stopped_side_ends(tmp_path: Path) -> None:
    path, stop = tmp_path / "c.bson", Event()
    path.write_bytes(sample([1])[0])
    stop.set()
    with pytest.raises(Stopped):
        list(InFile(path, file_of(path, 0, path.stat().st_size), stop).blocks())
    with pytest.raises(Stopped):
        InFile(path, file_of(path, 0, path.stat().st_size), stop).check()


def test_lots_are_what_one_query_may_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "c.bson"
    path.write_bytes(b"".join(sample([0] * 2500)))
    side = InFile(path, file_of(path, 0, path.stat().st_size), Event())
    assert [len(lot) for lot in lots_of(side)] == [1000, 1000, 500]


def test_as_stored_moves_the_id_to_the_front_as_servers_do(pair: Pair) -> None:
    """faults.md: `_id` moves to the front of a document on insert."""
    lots = random.Random(7)
    for _ in range(20):
        names = ["_id", "a", "b", "user_id"]
        lots.shuffle(names)
        document = bson.encode(
            {name: lots.choice([n, "x", {"_id": 1}]) for n, name in enumerate(names)}
        )
        pair.source_client.shop.c.insert_one(RawBSONDocument(document))
        collection = pair.source_client.shop.get_collection(
            "c", codec_options=bson.CodecOptions(document_class=RawBSONDocument)
        )
        stored = collection.find_one()
        assert stored is not None
        assert bytes(stored.raw) == as_stored(document)
        collection.delete_many({})


def test_a_lookup_finds_what_is_there_and_survives_what_a_server_refuses(pair: Pair) -> None:
    """Keys come from a dump: one that looks like an operator, or is no BSON, hides no other."""
    here = [bson.encode({"_id": n, "v": n}) for n in range(5)]
    pair.source_client.shop.c.insert_many([RawBSONDocument(each) for each in here])
    keys = [bson.encode({"_id": n}) for n in range(8)]
    lookup = Lookup(pair.source_client, "shop", "c", Event())
    found = lookup.find(keys)
    assert found == {keys[n]: digest_of(here[n]) for n in range(5)}
    odd = [
        bson.encode({"_id": {"$gt": 1}}),
        bson.encode({"_id": bson.Regex("a")}),
        b"\x16\0\0\0\x03_id\0\x0c\0\0\0\x77a\0\1\2\3\4\0\0",
    ]
    assert lookup.find(keys + odd) == found


def test_a_stopped_lookup_ends(pair: Pair) -> None:
    pair.source_client.shop.c.insert_one({"_id": 1})
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        Lookup(pair.source_client, "shop", "c", stop).find([bson.encode({"_id": 1})])
