"""What is to be moved: by words, by a file, evenly; and how it is cut."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.rebalance.errors import BadMoves, CannotRebalance
from executors.rebalance.placement import Placed, Placement, key_of
from executors.rebalance.planning import (
    Wanted,
    cut,
    even,
    left_to_move,
    of_plan,
    of_words,
    refuse_unmovable,
    slices_of,
)
from tests.conftest import Pair
from tests.executors.rebalance.range import NS, Token


def test_moves_in_words() -> None:
    assert of_words("1:5:a:b") == Wanted(key_of(1), key_of(5), "a", "b")
    assert of_words("::a:b") == of_words("null:null:a:b") == Wanted(None, None, "a", "b")
    oid = {"$oid": "0" * 24}
    text = f'"x:y":{json.dumps(oid)}:a:b'
    assert of_words(text) == Wanted(key_of("x:y"), key_of(oid), "a", "b")


@pytest.mark.parametrize(
    "text", ["", "1:5", "1:5:a", "1:5:a:", "5:1:a:b", "1:1:a:b", "1:5:a:a", "x:5:a:b", "1:2:3:a:b"]
)
def test_what_is_no_move_is_refused(text: str) -> None:
    with pytest.raises(BadMoves):
        of_words(text)


def test_a_plan_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    move = {"lower": 1, "upper": None, "from": "a", "to": "b"}
    path.write_text(json.dumps({"schema": "ferrylog.rebalance-plan/1", "moves": [move]}))
    assert of_plan(path) == [Wanted(key_of(1), None, "a", "b")]
    for bad in ({}, [], {"schema": "x", "moves": []}, {"schema": "x"}):
        path.write_text(json.dumps(bad))
        with pytest.raises(BadMoves):
            of_plan(path)
    path.write_text(
        json.dumps({"schema": "ferrylog.rebalance-plan/1", "moves": [{**move, "too": 1}]})
    )
    with pytest.raises(BadMoves, match="move 1"):
        of_plan(path)


def test_only_what_lies_elsewhere_is_moved() -> None:
    placed = Placement(NS, (Placed(None, key_of(5), "a"), Placed(key_of(5), None, "b")))
    first, second = of_words(":3:a:b"), of_words("5:9:a:b")
    assert left_to_move(placed, [first, second]) == [first]
    with pytest.raises(BadMoves, match="lies on a, b"):
        left_to_move(placed, [of_words("3:9:a:b")])
    with pytest.raises(BadMoves, match="overlap"):
        left_to_move(placed, [of_words("1:3:a:b"), of_words("2:4:a:b")])


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 1000)), min_size=1, max_size=12),
)
def test_an_even_plan_evens_out(ranges: list[tuple[str, int]]) -> None:
    """Give or take one document; each slice in its range, none twice, none back and forth."""
    held = dict.fromkeys("abcd", 0)
    for name, count in ranges:
        held[name] += count
    after = dict(held)
    slices = slices_of(ranges, held)
    for each in slices:
        name, count = ranges[each.index]
        assert 0 <= each.begin < each.end <= count
        after[name] -= each.end - each.begin
        after[each.target] += each.end - each.begin
    assert max(after.values()) - min(after.values()) <= 1
    moved = sum(each.end - each.begin for each in slices)
    assert moved == sum(max(0, after[name] - held[name]) for name in held), "no more than it takes"
    assert slices_of(list(after.items()), after) == [], "and then nothing moves"


@pytest.mark.server
def test_ranges_are_cut_by_documents(pair: Pair) -> None:
    """I21: the pieces follow each other from bound to bound, of so many documents each."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(1000)])
    clients = {"a": pair.source_client, "b": pair.target_client}
    moves = cut(clients, NS, [of_words(":950:a:b")], 400, Token())
    assert [each.documents for each in moves] == [400, 400, 150]
    assert [each.lower for each in moves] == [None, key_of(400), key_of(800)]
    assert [each.upper for each in moves] == [key_of(400), key_of(800), key_of(950)]


@pytest.mark.server
def test_even_between_servers(pair: Pair) -> None:
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(900)])
    pair.target_client.shop.orders.insert_many([{"_id": n} for n in range(900, 1000)])
    clients = {"a": pair.source_client, "b": pair.target_client}
    placed = Placement(NS, (Placed(None, key_of(900), "a"), Placed(key_of(900), None, "b")))
    wanted, held = even(clients, placed, Token())
    assert wanted == [Wanted(key_of(500), key_of(900), "a", "b")]
    assert held == {"a": 900, "b": 100}


@pytest.mark.server
def test_what_has_no_ranges_to_move_is_refused(pair: Pair) -> None:
    one, two = pair.source_client.shop, pair.target_client.shop
    clients = {"a": pair.source_client, "b": pair.target_client}
    one.create_collection("orders")
    with pytest.raises(CannotRebalance, match="does not exist"):
        refuse_unmovable(clients, NS)
    two.create_collection("orders", capped=True, size=4096)
    with pytest.raises(CannotRebalance, match="capped"):
        refuse_unmovable(clients, NS)
    two.orders.drop()
    two.create_collection("orders", validator={"n": {"$gt": 1}})
    with pytest.raises(CannotRebalance, match="other options"):
        refuse_unmovable(clients, NS)
    two.orders.drop()
    two.create_collection("orders", collation={"locale": "de"})
    with pytest.raises(CannotRebalance, match="collation"):
        refuse_unmovable(clients, NS)
    two.orders.drop()
    two.create_collection("orders")
    refuse_unmovable(clients, NS)
