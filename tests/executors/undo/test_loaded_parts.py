"""What single chunks brought to a collection that stays; and chunks that tell of the same (I42)."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.protocol import Stopped
from executors.undo.loaded import Origin, take_out
from statemachine.stimuli import Undone
from tests.conftest import Pair
from tests.executors.examples import Looks
from tests.executors.undo.test_loaded import Load

pytestmark = pytest.mark.server


@pytest.fixture
def load(pair: Pair, tmp_path: Path) -> Load:
    """A hundred documents in two halves."""
    made = Load(pair, tmp_path)
    made.fill(*(bson.encode({"_id": number, "x": 1}) for number in range(100)))
    made.create()
    return made


def second(load: Load, *, source: bool = True, stop: Looks | None = None) -> Undone:
    """What the second half brought goes."""
    origin = Origin(load.folder, None, load.source if source else None)
    last = load.undos[-1]
    return take_out(load.target, load.unit, last, load.spec, origin, stop or Looks())


def ids(load: Load) -> list[Any]:
    return [bson.decode(each)["_id"] for each in load.there()]


@pytest.mark.parametrize("verified", [True, False], ids=["verified", "unverified"])
def test_its_range_alone(load: Load, *, verified: bool) -> None:
    load.halves(50, verified=verified)
    told = second(load, source=not verified)
    assert told == Undone(50, 0, ("shop.c: documents 50 removed",))
    assert ids(load) == list(range(50))
    assert (second(load).documents, second(load).kept) == (0, 0), "again"
    assert load.undo().documents == 50
    assert not load.stands()


def test_what_others_wrote_stays(load: Load) -> None:
    load.halves(50)
    load.target.shop.c.insert_one({"_id": 1000})
    load.target.shop.c.update_one({"_id": 70}, {"$set": {"edited": 1}})
    told = second(load)
    assert (told.documents, told.kept) == (49, 1)
    assert ids(load) == [*range(50), 70, 1000]


def test_what_nobody_can_prove_stays(load: Load) -> None:
    load.halves(50, verified=False)
    told = second(load, source=False)
    assert (told.documents, told.kept) == (0, 50)
    assert "neither its file nor the source" in told.changes[-1]
    assert len(ids(load)) == 100


def test_killed_at_any_moment(load: Load) -> None:
    """P9: once some of it is gone, its sums prove nothing any more."""
    load.halves(50)
    for number in range(20):
        with suppress(Stopped):
            second(load, source=False, stop=Looks(number))
    second(load, source=False)
    assert ids(load) == list(range(50))


def test_another_collection_of_that_name_is_left_alone(load: Load) -> None:
    load.halves(50)
    load.unit = replace(load.unit, target_uuid="another")
    assert second(load) == Undone()
    assert len(ids(load)) == 100


def test_what_was_carried_twice_counts_once(load: Load) -> None:
    """I40: as many documents of others as of ours, and the whole is not ours for that."""
    load.halves(50, verified=False)
    load.carry(load.chunk(2, None, 50), verified=False)
    load.carry(load.chunk(3, 50, None), verified=False)
    load.target.shop.c.insert_many([{"_id": f"theirs {number}"} for number in range(100)])
    told = load.undo()
    assert (told.documents, told.kept) == (100, 100)
    assert len(ids(load)) == 100


def test_parts_count_once_beside_what_was_cut(load: Load) -> None:
    """I40: also where only the middle one of its parts was begun."""
    load.carry(load.chunk(0, None, None), verified=False)
    load.carry(load.chunk(2, 30, 60))
    load.target.shop.c.insert_many([{"_id": f"theirs {number}"} for number in range(30)])
    told = load.undo()
    assert (told.documents, told.kept) == (100, 30)
