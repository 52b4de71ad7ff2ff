"""Digests of sets and the documents on which two sets differ, in flat memory (I22)."""

import random
import tracemalloc
from collections.abc import Iterator

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors import fingerprint
from executors.batches import Block
from executors.fingerprint import differences, key_of
from executors.rawbson import id_of

Map = dict[int, int]
maps = st.dictionaries(st.integers(0, 60), st.integers(0, 3))


def encoded(what: Map) -> list[bytes]:
    return [bson.encode({"_id": key, "v": value}) for key, value in what.items()]


def expected(left: Map, right: Map) -> dict[bytes, str]:
    found = {}
    for key in left.keys() | right.keys():
        if key not in right:
            found[bson.encode({"_id": key})] = "missing"
        elif key not in left:
            found[bson.encode({"_id": key})] = "extra"
        elif left[key] != right[key]:
            found[bson.encode({"_id": key})] = "different"
    return found


def printed(documents: list[bytes]) -> fingerprint.Fingerprint:
    return fingerprint.fingerprint([Block(b"".join(documents), len(documents))])


@given(maps, st.randoms())
def test_order_and_blocks_do_not_matter(what: Map, lots: random.Random) -> None:
    """I22: the digest is of a set; sums of parts add up to that of the whole."""
    documents = encoded(what)
    whole = printed(documents)
    lots.shuffle(documents)
    cut = lots.randint(0, len(documents))
    assert printed(documents[:cut]) + printed(documents[cut:]) == whole
    assert (whole.documents, whole.bytes) == (len(documents), len(b"".join(documents)))


def test_the_digest_is_the_one_of_the_glossary() -> None:
    """A digest in a journal means the same in every version."""
    assert printed(encoded({1: 2, 3: 4})).digest == "11e702ca94962a4ac3a57640782d5c47"


@given(maps, maps)
def test_equal_sets_have_equal_digests_and_others_do_not(left: Map, right: Map) -> None:
    """I22."""
    assert (printed(encoded(left)) == printed(encoded(right))) == (left == right)


@pytest.mark.parametrize("held", [1, 1 << 20])
@given(maps, maps)
def test_every_difference_is_found_once(held: int, left: Map, right: Map) -> None:
    """I22: in whichever number of passes the held documents fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "HELD_BYTES", held)
        found = list(differences(lambda: encoded(left), lambda: encoded(right)))
    assert len(found) == len(dict(found))
    assert dict(found) == expected(left, right)


@given(maps, maps)
def test_the_same_sets_give_the_same_order(left: Map, right: Map) -> None:
    """What is named is the same each time."""
    once = list(differences(lambda: encoded(left), lambda: encoded(right)))
    assert once == list(differences(lambda: encoded(left), lambda: encoded(right)))


def test_many_differences_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything differs, what is held stays within its limit."""
    monkeypatch.setattr(fingerprint, "HELD_BYTES", 1 << 20)

    def peak(count: int) -> int:
        def side(value: int) -> Iterator[bytes]:
            return (bson.encode({"_id": n, "v": value}) for n in range(count))

        tracemalloc.start()
        assert sum(1 for _ in differences(lambda: side(1), lambda: side(2))) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(30_000) < 2.5 * (1 << 20)


def test_documents_without_id_are_passed_over() -> None:
    """The server gave those an `_id` that nobody knows."""
    left = [bson.encode({"a": 1}), bson.encode({"_id": 1})]
    right = [bson.encode({"_id": 1}), bson.encode({"_id": 2, "a": 1})]
    assert list(differences(lambda: left, lambda: right)) == [(bson.encode({"_id": 2}), "extra")]


@given(st.dictionaries(st.text("abc_id", max_size=4), st.integers() | st.text()), st.binary())
def test_the_key_is_the_id_and_garbage_has_none(fields: dict[str, object], noise: bytes) -> None:
    """A dump may hold anything: no key is better than a wrong one, and nothing is raised."""
    try:
        document = bson.encode(fields)
    except OverflowError:
        return
    assert key_of(document) == (id_of(document) if "_id" in fields else None)
    key_of(document[:4] + noise + b"\0")
    key_of(b"\x20\0\0\0\x02_id\0" + noise)


def test_a_value_that_leaves_its_document_is_no_key() -> None:
    assert key_of(bson.encode({"_id": "abc"})[:-4] + b"\0") is None
    assert key_of(b"\x10\0\0\0\x02_id\0\xff\xff\xff\x7fab\0") is None
