"""What documents hold widens the places where they hold it, and nothing narrows them (G3)."""

from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.export.columns import Column
from executors.export.places import MAX_BENEATH, MAX_MEMBERS, Places
from executors.export.shred import Shredder
from tests.executors.export.documents import columns_of, expected, fields_of, raw, shapes

NAMES = st.sampled_from(["a", "b", "c.d"])
VALUES = st.recursive(
    st.sampled_from([None, 1, bson.Int64(1), 1.5, "s", b"x", bson.Regex("r")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=3).map(bson.encode), max_size=8)


def columns(documents: list[bytes], types: Any = "exchange") -> set[Any]:
    places = Places(types)
    for each in documents:
        places.admit(each)
    return set(map(_plain, places.columns()))


def _plain(column: Column) -> Any:
    """Without the order of fields, and names, which follow from it."""
    element = column.element and _plain(column.element)
    return column.field, column.kind, frozenset(map(_plain, column.members)), element


@settings(max_examples=40)
@given(DOCUMENTS, st.sampled_from(["exchange", "native"]), st.randoms())
def test_the_order_of_documents_changes_no_type(
    documents: list[bytes], types: Any, chance: Any
) -> None:
    shuffled = documents[:]
    chance.shuffle(shuffled)
    assert columns(documents, types) == columns(shuffled, types)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_was_admitted_fits_from_then_on(documents: list[bytes]) -> None:
    places = Places("exchange")
    for each in documents:
        before = places.version
        assert places.admit(each) == (places.version > before)
        assert not places.admit(each)
    assert not any(map(places.admit, documents))


CASES = shapes(4).flatmap(lambda shape: st.lists(fields_of(columns_of(shape)), max_size=6))
"""Documents that are much alike, with values of every type and the odd one among them."""


@settings(max_examples=25, deadline=None)
@given(CASES, st.sampled_from(["exchange", "native"]))
def test_what_was_counted_can_be_exported(cases: Any, types: Any) -> None:
    """Every document: none is rejected that the census has seen, and none becomes another."""
    every = [[*dict(fields).items()] for fields in cases]
    places = Places(types)
    for fields in every:
        places.admit(raw(fields))
    found = places.columns()
    converted = Shredder(found, types).shred(b"".join(map(raw, every)))
    assert converted.misfits == ()
    there = sum(piece.documents for piece in converted.pieces)
    assert there == len(every)
    for fields in every:
        expected(fields, found, types)


@pytest.mark.deep
@settings(max_examples=500, deadline=None)
@given(CASES, st.sampled_from(["exchange", "native"]))
def test_what_was_counted_can_be_exported_at_length(cases: Any, types: Any) -> None:
    test_what_was_counted_can_be_exported.hypothesis.inner_test(cases, types)  # type: ignore[attr-defined]


def test_hidden_fields_are_none() -> None:
    places = Places("exchange", ("_id",))
    assert places.admit(bson.encode({"_id": 1, "a": 1}))
    assert not places.admit(bson.encode({"_id": "s", "a": 2}))
    assert [each.field for each in places.columns()] == ["a"]


def test_a_name_that_is_no_text_has_no_column() -> None:
    """Such a document is rejected when it is exported: nothing can say what the field is called."""
    places = Places("exchange")
    raw = bson.encode({"_id": 1, "abc": 1, "x": {"abc": 1}})
    places.admit(raw.replace(b"abc", b"\xff\xfe\xfd"))
    assert [(each.field, each.kind) for each in places.columns()] == [
        ("_id", "int32"),
        ("x", "json"),
    ]


def test_an_object_of_more_columns_than_any_table_is_text() -> None:
    """The limits themselves are no such thing."""
    for members, beneath in ((MAX_MEMBERS, 1), (MAX_BENEATH // 10, 10)):
        inner: Any = {f"c{n}": 1 for n in range(beneath)} if beneath > 1 else 1
        least = {f"m{n}": inner for n in range(members)}
        (one, *_) = columns([bson.encode({"x": least})])
        assert one[1] == "struct"
        (one, *_) = columns([bson.encode({"x": {**least, "more": 1}})])
        assert one[1] == "json"
