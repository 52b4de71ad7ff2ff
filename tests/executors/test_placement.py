"""What belongs to which of several targets: always the same, each document to one, about as many
to each (Y15)."""

from pathlib import Path

import bson
import pytest
from bson import Decimal128, Int64
from hypothesis import given
from hypothesis import strategies as st

from executors.batches import Block
from executors.boundaries import to_key
from executors.dumps.errors import DamagedDump
from executors.dumps.model import Dump, Dumped, Part
from executors.placement import Places, cuts, hashed, kept
from executors.rawbson import documents
from statemachine.words import Key
from tests.statemachine.examples import SPEC


def key(value: object) -> bytes:
    return bson.encode({"_id": value})


def places(how: str, of: int) -> list[Places]:
    return [Places(SPEC.model_copy(update={"place": f"{how}:{n}/{of}"})) for n in range(of)]


def dump(*namespaces: Dumped) -> Dump:
    return Dump(Path("dump"), "chunks", namespaces)


def collection(
    name: str, edges: list[object], sizes: list[int], *, uuid: str = "", whole: bool = False
) -> Dumped:
    """With chunks between the edges."""
    bounds: list[Key | None] = [None, *(to_key(key(each)) for each in edges), None]
    parts = tuple(
        Part(f"{n}.flb", 0, 1, size, 1, "", bounds[n], bounds[n + 1])
        for n, size in enumerate(sizes)
    )
    return Dumped(name, "collection", b"", (), uuid, parts=parts, whole=whole)


def test_where_a_key_goes_is_pinned() -> None:
    """I22: another answer would move documents in the middle of a chain."""
    values = [1, "a", None, b"\1", {"a": [1, 2.5]}, True, 2**60, Decimal128("0.1"), -7]
    assert [hashed(key(each), 1000) for each in values] == PINNED


PINNED = [77, 984, 821, 165, 130, 826, 717, 676, 414]


@pytest.mark.parametrize("number", [0, 7, -3, 2**52])
def test_one_key_of_many_types_goes_to_one_place(number: int) -> None:
    forms = (
        number,
        Int64(number),
        float(number),
        Decimal128(str(number)),
        Decimal128(f"{number}.0"),
    )
    assert len({hashed(key(each), 1 << 32) for each in forms}) == 1


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8))
def test_cuts_ascend_and_are_as_even_as_chunks_allow(sizes: list[int], of: int) -> None:
    edges = list(range(1, len(sizes)))
    found = cuts(collection("shop.c", list(edges), sizes).parts, of)
    assert len(found) <= of - 1
    assert found == sorted(set(found))
    there = [dump(collection("shop.c", list(edges), sizes))]
    asked = [each.mine("shop.c", there) for each in places("range", of)]
    shares = [0] * of
    for n, size in enumerate(sizes):
        [mine] = [k for k, is_mine in enumerate(asked) if is_mine and is_mine(key(n))]
        shares[mine] += size
    assert sum(shares) == sum(sizes)
    assert max(shares) <= sum(sizes) / of + 2 * max(sizes, default=0)


def test_no_boundary_no_cut() -> None:
    """A collection with fewer chunks than targets leaves some of them empty."""
    assert cuts(collection("shop.c", [], [100]).parts, 3) == []
    assert len(cuts(collection("shop.c", [5], [50, 50]).parts, 3)) == 1
    assert cuts((), 3) == []


def test_the_first_link_that_holds_it_whole_decides() -> None:
    """Whatever it is called, and wherever later links cut; a new one of an old name is another."""
    base = dump(collection("shop.c", [10], [5, 5], uuid="aa"))
    renamed = dump(
        collection("shop.d", [90], [1, 1], uuid="aa"),
        collection("shop.c", [50], [5, 5], uuid="bb", whole=True),
    )
    later = dump(
        collection("shop.d", [95], [1, 1], uuid="aa"), collection("shop.c", [70], [1, 1], uuid="bb")
    )
    [first, _] = places("range", 2)
    for name, edge in (("shop.d", 10), ("shop.c", 50)):
        mine = first.mine(name, [base, renamed, later])
        assert mine is not None
        assert mine(key(edge - 1))
        assert not mine(key(edge))
    with pytest.raises(DamagedDump):
        first.mine("shop.x", [base])


def test_users_go_everywhere() -> None:
    assert Places(SPEC).mine("shop.c", []) is None
    assert all(each.mine("admin.system.users", []) is None for each in places("hash", 2))


def test_of_a_block_each_document_is_kept_once() -> None:
    """What nobody can find the key of is kept once, too: it is rejected there."""
    odd = b"\x0c\0\0\0\x99_id\0\0\0\0"
    every = [*(bson.encode({"_id": n, "x": "x"}) for n in range(100)), odd, bson.encode({"x": 1})]
    block = Block(b"".join(every), len(every))
    for how in ("hash", "range"):
        there = [dump(collection("shop.c", [30, 60], [30, 30, 40]))]
        shares = [kept(block, each.mine("shop.c", there)) for each in places(how, 3)]
        assert sorted(each for share in shares for each in documents(share.data)) == sorted(every)
        assert sum(share.documents for share in shares) == len(every)
        assert all(share.documents > 20 for share in shares)
    assert kept(block, None) is block
