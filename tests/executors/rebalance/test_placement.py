"""The placement file: what it may hold, how a range changes hands in it, and that it is replaced
as a whole."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.rebalance import placement
from executors.rebalance.errors import BadPlacement
from executors.rebalance.placement import Placed, Placement, begin, end, key_of, moved, owners

NS = "shop.orders"
OPEN = Placement(NS, (Placed(None, None, "a"),))
KEYS = st.one_of(st.integers(-50, 50), st.text(max_size=3), st.floats(-50, 50), st.booleans())


@given(st.lists(st.tuples(KEYS, KEYS, st.sampled_from("abc")), max_size=8), KEYS)
def test_the_last_who_got_a_key_has_it(moves: list[tuple[Any, Any, str]], asked: Any) -> None:
    """I21: whatever moves, the ranges cover all keys in order, and each key has one owner."""
    found, owner = OPEN, "a"
    at = begin(key_of(asked))
    for one, other, to in moves:
        lower, upper = sorted((key_of(one), key_of(other)), key=begin)
        if begin(lower) == begin(upper):
            continue
        found = moved(found, lower, upper, to)
        assert owners(found, lower, upper) == [to]
        if begin(lower) <= at < end(upper):
            owner = to
    held = [each.endpoint for each in found.ranges if begin(each.lower) <= at < end(each.upper)]
    assert held == [owner]
    assert placement.parsed(json.loads(json.dumps(placement.as_json(found)))) == found
    assert all(one.endpoint != other.endpoint for one, other in pairwise(found.ranges))


def test_there_and_back_again() -> None:
    """I40: what was moved back is as before."""
    halves = Placement(NS, (Placed(None, key_of(5), "a"), Placed(key_of(5), None, "b")))
    there = moved(halves, key_of(1), key_of(3), "b")
    assert [each.endpoint for each in there.ranges] == ["a", "b", "a", "b"]
    assert moved(there, key_of(1), key_of(3), "a") == halves


def test_the_file_keeps_its_rights(tmp_path: Path) -> None:
    """Whoever routes by it goes on reading it."""
    path = tmp_path / "placement.json"
    path.write_text("{}")
    path.chmod(0o644)
    placement.write(path, OPEN)
    assert placement.read(path) == OPEN
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["placement.json"]


def test_boundaries_are_typed_as_people_type_them() -> None:
    """Relaxed or canonical, and what Extended JSON cannot say; null is open."""
    assert key_of(None) is None
    assert key_of(5) == key_of({"$numberInt": "5"}) == '{"$numberInt":"5"}'
    assert key_of("5") == '"5"'
    strange = key_of({"$bson": "bson:CgAAAApfaWQAAA=="})
    assert strange == "null", "a null that is a key"
    assert placement.shown(strange) == {"$bson": "bson:CgAAAApfaWQAAA=="}


def of(*ranges: tuple[Any, Any, str]) -> dict[str, Any]:
    named = [{"lower": one, "upper": two, "endpoint": name} for one, two, name in ranges]
    return {"schema": "ferrylog.placement/1", "ns": NS, "ranges": named}


BAD = {
    "no object": ([], "schema"),
    "other schema": ({**of((None, None, "a")), "schema": "x/1"}, "schema"),
    "more": ({**of((None, None, "a")), "more": 1}, "nothing else"),
    "no namespace": ({**of((None, None, "a")), "ns": "shop"}, "db.collection"),
    "no ranges": (of(), "null"),
    "closed": (of((1, None, "a")), "null"),
    "gap": (of((None, 1, "a"), (2, None, "b")), "range 2"),
    "overlap": (of((None, 3, "a"), (2, None, "b")), "range 2"),
    "empty": (of((None, 3, "a"), (3, 3, "b"), (3, None, "a")), "range 2 is empty"),
    "backwards": (of((None, 3, "a"), (3, 1, "b"), (1, None, "a")), "range 2 is empty"),
    "nameless": (of((None, None, "")), "range 1"),
    "no key": (of((None, {"$oid": "x"}, "a"), ({"$oid": "x"}, None, "b")), ""),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_refused(name: str, tmp_path: Path) -> None:
    """Told with what is wrong, never guessed."""
    content, why = BAD[name]
    path = tmp_path / "placement.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadPlacement) as told:
        placement.read(path)
    assert why in str(told.value)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "placement.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadPlacement):
        placement.read(path)
    with pytest.raises(BadPlacement):
        placement.read(tmp_path / "none")
