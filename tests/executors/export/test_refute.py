"""How a server is asked for what does not fit: so that it takes little time (G3)."""

from typing import Any

import bson
import pytest

from executors.export.errors import TooManyColumns
from executors.export.places import Places
from executors.export.refute import Seen, seen_through, unfit
from executors.export.selection import Projection


def schema(document: dict[str, Any], seen: Seen | None = None) -> dict[str, Any]:
    places = Places("exchange")
    places.admit(bson.encode(document))
    asked = unfit(places.top, seen or Seen(), "exchange")
    return asked["$or"][0]["$nor"][0]["$jsonSchema"]  # type: ignore[no-any-return]


def test_many_fields_of_one_type_are_not_sought_one_by_one() -> None:
    """The server would seek each of them in each document."""
    found = schema({**{f"n{each}": 1 for each in range(1000)}, "s": "x", "t": "y"})
    assert {name for name, its in found["properties"].items() if its} == {"s", "t"}
    (together,) = found["allOf"]
    assert together["additionalProperties"] == {"bsonType": ["int", "null"]}
    assert together["properties"] == {"s": {}, "t": {}}


def test_few_are() -> None:
    found = schema({"a": 1, "b": 1, "c": 1})
    assert "allOf" not in found
    assert all(found["properties"].values())


def test_a_name_that_is_no_path_is_never_sought() -> None:
    found = schema({"a": 1, "b.c": "s"})
    assert found["properties"] == {"a": {"bsonType": ["int", "null"]}, "b.c": {}}
    assert found["allOf"] == [
        {"properties": {"a": {}}, "additionalProperties": {"bsonType": ["string", "null"]}}
    ]


def test_what_is_not_exported_may_be_anything() -> None:
    found = schema({"a": 1}, Seen(None, frozenset({"x"})))
    assert found["properties"]["x"] == {}
    assert found["additionalProperties"] is False
    found = schema({"a": 1}, Seen(frozenset({"a", "b"})))
    assert found["properties"]["b"] == {"bsonType": ["null"]}
    assert "additionalProperties" not in found


SEEN: list[tuple[dict[str, Any], bool, Seen | None]] = [
    ({}, False, Seen()),
    ({}, True, Seen(None, frozenset({"_id"}))),
    ({"a": 1}, False, Seen(frozenset({"a", "_id"}))),
    ({"a": 1.0}, True, Seen(frozenset({"a"}))),
    ({"a": False}, True, Seen(None, frozenset({"a", "_id"}))),
    ({"a.b": 1}, False, None),
    ({"a": {"$slice": 1}}, False, None),
    ({"a": "$b"}, False, None),
]


@pytest.mark.parametrize(("fields", "without_id", "seen"), SEEN)
def test_what_a_projection_leaves(fields: Any, without_id: bool, seen: Seen | None) -> None:
    raw = bson.encode(fields) if fields else None
    assert seen_through(Projection(raw, without_id=without_id)) == seen


def test_a_question_has_a_limit() -> None:
    places = Places("exchange")
    names = {f"{each:04}{'n' * 1000}": each if each % 2 else "s" for each in range(4900)}
    places.admit(bson.encode(names))
    with pytest.raises(TooManyColumns, match="longer than a server can be asked for"):
        unfit(places.top, Seen(), "exchange")
