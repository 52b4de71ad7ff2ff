"""Documents without an `_id` get one before they are sent, the same each time (I16, I22)."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.batches import BLOCK_BYTES, Block
from executors.identity import came_by_id, with_ids
from executors.partfile import part_blocks
from executors.rawbson import documents
from executors.restore import restore
from statemachine.state import NOTHING, Chunk, ChunkFile, Done
from statemachine.stimuli import Restored
from statemachine.words import ChunkId, Place, UnitId
from tests.conftest import Pair
from tests.executors.bsons import FLAWED, field, i32
from tests.executors.examples import Looks, filed, in_order, part_of, plain_unit, spec, there

FILE = ChunkFile("c.bson", 3, 100, 100, "ab" * 32, 0, "dump")
UNIT = plain_unit()


def given(*fields: dict[str, Any], file: ChunkFile = FILE, position: int = 100) -> list[bytes]:
    made = list(map(bson.encode, fields))
    block = with_ids(Block(b"".join(made), len(made)), file, position)
    assert block.documents == len(made)
    return list(documents(block.data))


def test_a_block_in_which_none_is_missing_stays_as_it_is() -> None:
    """Wherever in its document the `_id` stands, and whatever it is."""
    made = [in_order(_id=1), in_order(a=1, _id=None), in_order(a=2, b="x", _id={})]
    block = Block(b"".join(made), 3)
    assert with_ids(block, FILE, 5) is block
    assert with_ids(Block(b"", 0), FILE, 5) == Block(b"", 0)


@pytest.mark.parametrize("missing", [{0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_only_those_without_get_one(missing: set[int]) -> None:
    """In front, as a server would put it; what follows is theirs to the byte."""
    sent = [{"a": n, "x": {"_id": n}} if n in missing else {"_id": n, "a": n} for n in range(3)]
    for n, (mine, found) in enumerate(zip(sent, given(*sent), strict=True)):
        if n not in missing:
            assert found == bson.encode(mine)
            continue
        decoded = bson.decode(found)
        assert list(decoded) == ["_id", "a", "x"]
        assert found == bson.encode({"_id": decoded["_id"], **mine})
        assert isinstance(decoded["_id"], bson.ObjectId)


def test_a_name_that_begins_alike_is_no_id() -> None:
    for name in ("_id2", "_i", "id", "_ID"):
        assert "_id" in bson.decode(given({name: 1})[0])


def test_the_same_place_makes_the_same_and_another_place_another() -> None:
    """I16; equal documents are as many documents as there are of them."""
    here = given({}, {}, {"a": 1})
    assert here == given({}, {}, {"a": 1})
    elsewhere = [
        given({}, {}, {"a": 1}, position=101),
        given({}, {}, {"a": 1}, file=FILE._replace(sha256="cd" * 32)),
        given({}, {}, {"a": 1}, file=FILE._replace(at=100)),
        given({}, {}, {"a": 1}, file=FILE._replace(name="d.bson")),
    ]
    everything = [*here, *(each for block in elsewhere for each in block)]
    assert len(set(everything)) == 15


FRAMED = [
    each.document
    for each in FLAWED.values()
    if struct.pack("<i", len(each.document)) == each.document[:4]
]
"""Their envelopes are right: a restore comes to read them."""


def test_what_is_no_document_is_left_to_the_server() -> None:
    """It says what is wrong with it; those around it get theirs all the same."""
    sound = bson.encode({"a": 1})
    nameless = [field(0x77, b""), field(0x03, i32(-1) + b"\0")]
    for odd in [*FRAMED, *(each.replace(b"_id\0", b"_ix\0") for each in nameless)]:
        block = with_ids(Block(sound + odd + sound, 3), FILE, 5)
        first, found, last = documents(block.data)
        assert found == odd
        assert "_id" in bson.decode(first)
        assert "_id" in bson.decode(last)


# --- on a server ----------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path) -> list[bytes]:
    """A file of three blocks and a half; two of three documents have no `_id`, or it stands
    behind; some are equal to others."""
    pad = "x" * (BLOCK_BYTES // 10)
    made = []
    for n in range(35):
        fields = [{"pad": pad}, {"_id": n, "pad": pad}, {"n": n // 6, "pad": pad}][n % 3]
        made.append(in_order(**fields) if n % 9 != 1 else in_order(pad=pad, _id=n))
    (tmp_path / "c.bson").write_bytes(b"".join(made))
    return made


def parts(
    pair: Pair,
    folder: Path,
    made: Sequence[bytes],
    at: int = 0,
    done: Done = NOTHING,
    number: int = 0,
) -> Iterator[Restored]:
    file = part_of(folder / "c.bson", made, at=at)
    chunk = filed(file, UNIT, done, number=number)
    asked = spec(kind="restore", source="file:x")
    path = folder / "c.bson"
    return restore(pair.target_client, UNIT, chunk, asked, path, folder, Looks())


@pytest.mark.server
def test_from_wherever_it_goes_on_they_are_the_same(
    pair: Pair, tmp_path: Path, big: list[bytes]
) -> None:
    """I16, I17, I22: what was restored and not told is found present; nothing is there twice."""
    news = list(parts(pair, tmp_path, big))
    whole = there(pair.target_client)
    assert len(whole) == len(big) == news[-1].documents
    assert len(news) >= 4
    for before in [None, *news[:-1]]:
        done = Done(before.position, before.documents, before.bytes) if before else Done()
        again = list(parts(pair, tmp_path, big, done=done))[-1]
        assert (again.documents, again.rejected) == (len(big), 0)
        assert again.present == len(big) - done.documents
        assert there(pair.target_client) == whole


@pytest.mark.server
def test_parts_that_are_equal_are_documents_of_their_own(pair: Pair, tmp_path: Path) -> None:
    """I22: the second part of a file may hold what the first one holds, to the byte."""
    half = [bson.encode({"event": "click"})] * 5
    (tmp_path / "c.bson").write_bytes(b"".join(half * 2))
    size = len(b"".join(half))
    (first,) = parts(pair, tmp_path, half)
    (second,) = parts(pair, tmp_path, half, at=size, number=1)
    assert (first.documents, second.documents, second.present) == (5, 5, 0)
    assert pair.target_client.shop.c.count_documents({}) == 10


def test_each_block_is_cut_the_same_from_any_position(tmp_path: Path, big: list[bytes]) -> None:
    """An `_id` is made of the place behind its block."""
    path, size = tmp_path / "c.bson", sum(map(len, big))
    whole = list(part_blocks(path, 0, size))
    for n, (_, position) in enumerate(whole):
        assert list(part_blocks(path, 0, size, position)) == whole[n + 1 :]


@pytest.mark.parametrize(
    ("name", "place", "natural", "sure"),
    [
        ("c/0-1.flb", "dump", False, True),
        ("c/0-1.flb", "dump", True, False),
        ("c/0-0.flb", "work", False, False),
        ("shop/c.bson", "dump", False, False),
    ],
)
def test_only_what_came_by_an_index_is_known_to_have_ids(
    name: str, place: Place, natural: bool, sure: bool
) -> None:
    """Insertion order needs no index; archives and mongodump's files prove nothing."""
    file = FILE._replace(name=name, place=place)
    chunk = Chunk(ChunkId("shop.c#0"), UnitId("shop.c"), None, None, 1, natural, file=file)
    assert came_by_id(chunk) is sure
