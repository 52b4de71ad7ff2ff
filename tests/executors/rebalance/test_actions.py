"""Each operation of a move: applied, undone, cut short anywhere and repeated; on real servers."""

from pathlib import Path

import pytest
from bson import Timestamp

from executors.protocol import Stopped
from executors.rebalance.errors import OthersThere, PlacedElsewhere, WrittenMeanwhile
from executors.rebalance.model import COMPENSATIONS, COPY, DELETE, SWITCH, VERIFY
from executors.rebalance.placement import Placed, Placement, key_of, write
from tests.conftest import Pair
from tests.executors.rebalance.range import NS, OnTheMove, Token

pytestmark = pytest.mark.server
STEPS = list(COMPENSATIONS)


@pytest.fixture
def move(pair: Pair, tmp_path: Path) -> OnTheMove:
    """2,100 documents on `a`, 1,900 of them in the range; a stranger on `b` beside the range."""
    orders = pair.source_client.shop.orders
    orders.insert_many([{"_id": n, "text": "x" * 40, "n": float(n)} for n in range(2100)])
    orders.insert_many([{"_id": "text"}, {"_id": 500.5, "t": Timestamp(7, 1), "a": {"$gt": 1}}])
    pair.target_client.shop.orders.insert_one({"_id": 5000, "of": "b"})
    return OnTheMove(pair.source_client, pair.target_client, tmp_path)


def test_a_range_moves(move: OnTheMove) -> None:
    """Every document of the range is at the new place to the byte, all others where they were."""
    a, b, _ = move.world
    for each in STEPS:
        assert move.run(each).changes
    here, there, placed = move.world
    assert here | there == a | b, "nothing lost"
    assert not here.keys() & there.keys(), "nothing twice"
    assert len(there) == 1901 + 1
    assert [each.endpoint for each in placed.ranges] == ["a", "b", "a"]


@pytest.mark.parametrize("last", STEPS)
def test_what_was_applied_is_undone(move: OnTheMove, last: str) -> None:
    """I40, M6: after the undos, in reverse, both places and the file are as before."""
    before = move.world
    move.run_up_to(last)
    move.run(last)
    for each in reversed(STEPS[: STEPS.index(last) + 1]):
        assert not move.undo(each).kept
        assert not move.undo(each).kept, "I39: twice leaves what once does"
    assert move.world == before


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_cut_short_and_repeated(move: OnTheMove, name: str, at: int) -> None:
    """I12: whatever an attempt did, the next one ends as if it had not been."""
    a, b, _ = move.world
    for each in STEPS:
        if each == name:
            _cut_short(move, name, at)
        move.run(each)
    here, there, _ = move.world
    assert here | there == a | b
    assert not here.keys() & there.keys()


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_cut_short_and_undone(move: OnTheMove, name: str, at: int) -> None:
    """I40: what was begun is undone, by an undo that is itself cut short."""
    before = move.world
    move.run_up_to(name)
    _cut_short(move, name, at)
    for each in reversed(STEPS[: STEPS.index(name) + 1]):
        for cut in (2, 3):
            try:
                move.undo(each, Token(cut))
            except Stopped:
                continue
        assert not move.undo(each).kept
    assert move.world == before


def _cut_short(move: OnTheMove, name: str, at: int) -> None:
    try:
        move.run(name, Token(at))
    except Stopped:
        return


def test_what_lies_there_already_is_fine_and_stays(move: OnTheMove) -> None:
    """I40: equal documents of others are no hindrance, and no copy of ours."""
    same = move.a.shop.orders.find_one({"_id": 777})
    assert same is not None
    move.b.shop.orders.insert_one(same)
    before = move.world
    assert "1 of them were before" in move.run(COPY).changes[0]
    move.undo(COPY)
    assert move.world == before


def test_another_document_there_stops_it(move: OnTheMove) -> None:
    """Others' documents under one key are no copy: nothing is overwritten."""
    move.b.shop.orders.insert_one({"_id": 777, "of": "b"})
    before = move.world
    with pytest.raises(OthersThere, match="777"):
        move.run(COPY)
    move.undo(COPY)
    assert move.world == before


def test_a_stranger_in_the_range_there_stops_it(move: OnTheMove) -> None:
    move.b.shop.orders.insert_one({"_id": 777.5})
    move.run(COPY)
    with pytest.raises(OthersThere, match="777.5"):
        move.run(VERIFY)


def test_an_empty_timestamp_is_copied_as_it_is(move: OnTheMove) -> None:
    """Servers fill them in when they insert: the copy has them empty all the same."""
    empty = [{"$replaceWith": {"$literal": {"_id": 600, "t": Timestamp(0, 0)}}}]
    move.a.shop.orders.update_one({"_id": 600}, empty)
    before = move.world
    move.run(COPY)
    move.run(VERIFY)
    move.undo(COPY)
    assert move.world == before


WRITES = {
    "changed": lambda orders: orders.update_one({"_id": 1900}, {"$set": {"n": "later"}}),
    "new": lambda orders: orders.insert_one({"_id": 1900.5}),
    "gone": lambda orders: orders.delete_one({"_id": 1900}),
}


@pytest.mark.parametrize("what", list(WRITES))
@pytest.mark.parametrize("before", [VERIFY, DELETE])
def test_what_is_written_meanwhile_is_found_before_anything_is_deleted(
    move: OnTheMove, what: str, before: str
) -> None:
    """The range is rolled back, and what was written stays."""
    move.run_up_to(before)
    WRITES[what](move.a.shop.orders)
    written = move.world[0]
    with pytest.raises(WrittenMeanwhile):
        move.run(before)
    assert move.world[0] == written, "nothing was deleted"
    for each in reversed(STEPS[: STEPS.index(before) + 1]):
        move.undo(each)
    a, b, placed = move.world
    assert (a, len(b)) == (written, 1)
    assert placed == Placement(NS, (Placed(None, None, "a"),))


def test_what_is_written_between_two_attempts_is_found(move: OnTheMove) -> None:
    """Also while some of it is deleted already: it comes back, what was written stays."""
    move.run_up_to(DELETE)
    at = 1
    while len(move.world[0]) == 2102:  # until one lot of it is deleted
        at += 1
        _cut_short(move, DELETE, at)
    assert len(move.world[0]) > 201, "not all of it"
    move.a.shop.orders.insert_one({"_id": 150.5, "new": True})
    with pytest.raises(WrittenMeanwhile):
        move.run(DELETE)
    for each in reversed(STEPS):
        move.undo(each)
    a, b, _ = move.world
    assert (len(a), len(b)) == (2103, 1)


@pytest.mark.parametrize("what", ["changed", "new"])
def test_what_is_written_while_it_is_deleted_is_found(move: OnTheMove, what: str) -> None:
    """It comes too late for the look before, and not for the one after."""
    move.run_up_to(DELETE)
    whole = len(move.world[0])

    class Writer(Token):
        written = False

        def is_set(self) -> bool:
            if not self.written and move.a.shop.orders.estimated_document_count() < whole:
                WRITES[what](move.a.shop.orders)
                self.written = True
            return False

    with pytest.raises(WrittenMeanwhile):
        move.run(DELETE, Writer())
    for each in reversed(STEPS):
        move.undo(each)
    a, b, _ = move.world
    assert (len(a), len(b)) == (whole + (what == "new"), 1)


def test_what_the_new_owner_wrote_comes_back_with_the_range(move: OnTheMove) -> None:
    """Of what was deleted at the old place, the newest comes back."""
    for each in STEPS:
        move.run(each)
    move.b.shop.orders.update_one({"_id": 900}, {"$set": {"n": "later"}})
    for each in reversed(STEPS):
        move.undo(each)
    a, b, _ = move.world
    assert (len(a), len(b)) == (2102, 1)
    assert b"later" in a['{"$numberInt":"900"}']


def test_a_copy_that_somebody_changed_is_kept(move: OnTheMove) -> None:
    move.run(COPY)
    move.b.shop.orders.update_one({"_id": 900}, {"$set": {"n": "theirs"}})
    undone = move.undo(COPY)
    assert (undone.documents, undone.kept) == (1900, 1)
    assert "900" in undone.changes[1]


def test_an_equal_number_of_another_type_is_somebody_elses(move: OnTheMove) -> None:
    """M7: at either place."""
    for each in STEPS:
        move.run(each)
    for client, key in ((move.a, 900), (move.b, 901)):
        client.shop.orders.delete_one({"_id": key})
        client.shop.orders.insert_one({"_id": float(key), "of": "others"})
    told = [move.undo(each) for each in reversed(STEPS)]
    assert sum(each.kept for each in told) == 3, told
    for client, key in ((move.a, 900), (move.b, 901)):
        assert client.shop.orders.find_one({"_id": key}) == {"_id": float(key), "of": "others"}


def test_the_placement_of_somebody_else_is_no_business_of_ours(move: OnTheMove) -> None:
    theirs = Placement(NS, (Placed(None, key_of(500), "a"), Placed(key_of(500), None, "c")))
    write(move.file, theirs)
    with pytest.raises(PlacedElsewhere):
        move.run(SWITCH)
    assert move.undo(SWITCH).kept == 1
    assert move.world[2] == theirs
