"""Shaping that is killed is begun again; an increment is applied to nothing but what the target's
mark says it was made for (I32, I33).
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from executors.dumps.model import NeverStops
from executors.expiry import FAR
from executors.increments.log import LogWriter, log_parts, replay
from executors.increments.position import (
    PLACE,
    AnotherAtWork,
    OtherPosition,
    Position,
    clear_position,
    close_position,
    position_of,
    save,
)
from executors.increments.settling import settle, settle_log
from executors.increments.shaping import shape, shape_log
from executors.protocol import Stopped
from statemachine.stimuli import Settled
from tests.conftest import OWN, Pair
from tests.executors.examples import Looks, spec
from tests.executors.increments.growing import (
    ASKED,
    JOB,
    RUN,
    SPEC,
    Growing,
    dumped,
    filled,
    holds,
    mark,
    rename,
    restore,
    said,
    seconds,
    settled,
    shaped,
)
from tests.executors.increments.hearing import END, Hearing

pytestmark = pytest.mark.server
END_OF_TIME = "4000000000.1"


@pytest.fixture
def growing(pair: Pair) -> Growing:
    """A source with two collections, and the target at its full dump."""
    db = pair.source_client.shop
    db.a.insert_one({"_id": 1, "is": "a"})
    db.b.insert_one({"_id": 1, "is": "b"})
    return Growing(pair.source_client)


# --- killed, and again ---


def everything(pair: Pair) -> Growing:
    """A source on which every kind of change is made between the full dump and link 1."""
    db = pair.source_client.shop
    for name in "abcdefg":
        db.command({"create": name})
        db[name].create_index("x")
    db.command({"create": "v", "viewOn": "a", "pipeline": []})
    db.command({"create": "w", "viewOn": "a", "pipeline": []})
    db.command({"create": "ts", "timeseries": {"timeField": "t"}})
    growing = Growing(pair.source_client)
    for one, to in (("a", "tmp"), ("b", "a"), ("tmp", "b"), ("c", "v2"), ("e", "c")):
        rename(pair.source_client, one, to)
    db.d.drop()
    db.w.drop()
    rename(pair.source_client, "g", "w")
    db.command({"collMod": "v", "viewOn": "b", "pipeline": []})
    db.command({"collMod": "f", "validator": {"x": 1}})
    db.f.drop_index("x_1")
    db.f.create_index("x", name="x_1", sparse=True)
    db.command({"collMod": "a", "index": {"name": "x_1", "hidden": True}})
    db.create_collection("new")
    db.new.create_index("u", unique=True)
    growing.grow()
    return growing


def test_killed_anywhere_and_begun_again(pair: Pair) -> None:
    """I32: a stop before every single change, then once more from the start."""
    growing, looks, told = everything(pair), 0, set[tuple[str, ...]]()
    while True:
        for name in pair.target_client.list_database_names():
            if name not in OWN:
                pair.target_client.drop_database(name)
        restore(pair, growing.chain)
        filled(pair, *"abcdefg")
        try:
            shape(pair.target_client, SPEC, JOB, growing.chain, 1, Looks(looks))
        except Stopped:
            state = mark(pair)
            assert state is not None and not state["shaped"]
        told.add(shaped(pair, growing.chain, 1).changes)
        found = {name: holds(pair, name) for name in ("a", "b", "c", "v2", "f", "w", "new")}
        assert found == {
            "a": "b", "b": "a", "c": "e", "v2": "c", "f": "f", "w": "g", "new": ""
        }  # fmt: skip
        assert settled(pair, growing.chain, 1).differing == ()
        assert said(pair.target_client) == said(pair.source_client)
        if state_after := mark(pair):
            assert state_after["state"] == "done"
        if looks > 12:
            break
        looks += 1
    assert len(told) == 1


class Unlucky:
    """A stop token that is set by lot."""

    def __init__(self, lot: random.Random) -> None:
        self.lot = lot

    def is_set(self) -> bool:
        return self.lot.random() < 0.3


def test_killed_again_and_again(pair: Pair) -> None:
    growing = everything(pair)
    restore(pair, growing.chain)
    filled(pair, *"abcdefg")
    killed, token = 0, Unlucky(random.Random(7))
    while True:
        try:
            shape(pair.target_client, SPEC, JOB, growing.chain, 1, token)
            break
        except Stopped:
            killed += 1
    assert killed > 3
    assert (holds(pair, "a"), holds(pair, "b"), holds(pair, "c")) == ("b", "a", "e")
    settled(pair, growing.chain, 1)
    assert said(pair.target_client) == said(pair.source_client)


def test_a_new_process_takes_nothing_away(pair: Pair, growing: Growing) -> None:
    """It shapes again before the shards go on: documents that came stay (I33)."""
    restore(pair, growing.chain)
    pair.source_client.shop.create_collection("new")
    number = growing.grow()
    for wanted in (SPEC, SPEC.model_copy(update={"drop": True})):
        before = shaped(pair, growing.chain, number, wanted)
        pair.target_client.shop.new.replace_one({"_id": 1}, {"is": "new"}, upsert=True)
        assert shaped(pair, growing.chain, number, wanted) == before
        assert holds(pair, "new") == "new"
    settled(pair, growing.chain, number)
    shaped(pair, growing.chain, number)
    settled(pair, growing.chain, number)
    assert holds(pair, "new") == "new"


# --- the mark ---


def test_the_mark_goes_from_link_to_link(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    growing.grow()
    growing.grow()
    shaped(pair, growing.chain, 1)
    state = mark(pair)
    assert state is not None
    assert (state["link"], state["digest"], state["state"]) == (1, "d1", "open")
    uuids = {each.uuid for each in dumped(pair.source_client)}
    assert set(state["collections"]) == uuids
    found = {each.uuid for each in dumped(pair.target_client) if each.namespace != PLACE}
    assert set(state["collections"].values()) == found
    settled(pair, growing.chain, 1)
    state = mark(pair)
    assert state is not None and state["state"] == "done"
    shaped(pair, growing.chain, 2)
    settled(pair, growing.chain, 2)
    state = mark(pair)
    assert state is not None and (state["link"], state["state"]) == (2, "done")
    clear_position(pair.target_client, JOB)
    clear_position(pair.target_client, JOB)
    assert "ferrylog" not in pair.target_client.list_database_names()


def test_what_others_have_there_stays(pair: Pair) -> None:
    pair.target_client.ferrylog.position.insert_one({"_id": "j2", "state": "done", "link": 1})
    save(pair.target_client, JOB, Position(1, "d1", "done", shaped=True, collections={}))
    clear_position(pair.target_client, JOB)
    assert pair.target_client.ferrylog.position.count_documents({}) == 1


WRONG: dict[str, Position | None] = {
    "nothing": None,
    "open before": Position(1, "d1", "open", shaped=True, collections={}),
    "another link": Position(3, "d3", "done", shaped=True, collections={}),
    "another chain": Position(1, "x1", "done", shaped=True, collections={}),
    "another link 2": Position(2, "x2", "open", shaped=True, collections={}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_target_that_is_elsewhere(pair: Pair, growing: Growing, what: str) -> None:
    """I32: an increment is applied to what it was made for, and to nothing else."""
    restore(pair, growing.chain)
    for _ in range(3):
        growing.grow()
    if (there := WRONG[what]) is not None:
        save(pair.target_client, JOB, there)
    before = mark(pair)
    with pytest.raises(OtherPosition) as raised:
        shaped(pair, growing.chain, 2)
    assert "expected link 1 done, or link 2 open" in str(raised.value)
    assert raised.value.code == "EPOSITION001"
    with pytest.raises(OtherPosition):
        settled(pair, growing.chain, 2)
    assert mark(pair) == before


def test_a_target_that_lost_a_collection(pair: Pair, growing: Growing) -> None:
    """Put back, or made anew by somebody: not what the chain goes on from."""
    restore(pair, growing.chain)
    growing.grow()
    growing.grow()
    db = pair.target_client.shop
    db.a.drop()
    with pytest.raises(OtherPosition, match=r"found no shop\.a"):
        shaped(pair, growing.chain, 1)
    db.command({"create": "a", "viewOn": "b", "pipeline": []})
    with pytest.raises(OtherPosition, match=r"found shop\.a, a view"):
        shaped(pair, growing.chain, 1)
    db.a.drop()
    db.create_collection("a")
    shaped(pair, growing.chain, 1)
    db.a.drop()
    db.create_collection("a")
    for again in (shaped, settled):
        with pytest.raises(OtherPosition, match=r"another shop\.a"):
            again(pair, growing.chain, 1)
    close_position(pair.target_client, JOB, growing.chain, 1)
    with pytest.raises(OtherPosition, match=r"no shop\.a as this job left it"):
        shaped(pair, growing.chain, 2)


def test_two_jobs_at_once(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    growing.grow()
    shape(pair.target_client, SPEC, "j2", growing.chain, 1, RUN)
    with pytest.raises(AnotherAtWork, match="job j2 is applying increment 1"):
        shaped(pair, growing.chain, 1)
    close_position(pair.target_client, "j2", growing.chain, 1)
    shaped(pair, growing.chain, 1)


def heard(pair: Pair, growing: Growing, folder: Path) -> None:
    """Changes of the source, in the log of a link that no restore reaches the end of."""
    db, hearing = pair.source_client.shop, Hearing(pair.source_client)
    db.command({"collMod": "a", "index": {"name": "at_1", "expireAfterSeconds": 20}})
    rename(pair.source_client, "a", "later")
    db.b.create_index("at", expireAfterSeconds=30)
    with LogWriter(folder, 1, "", "1.1") as writer:
        for event in hearing.events():
            writer.add(event)
        writer.flush()
    pair.source_client.drop_database(END)
    number = growing.grow()
    *others, link = growing.chain.increments
    parts = log_parts(folder, END_OF_TIME, NeverStops())
    logged = replace(link, log=parts, dump=replace(link.dump, root=folder))
    growing.chain = replace(growing.chain, increments=(*others, logged))
    assert number == len(growing.chain.increments)


@pytest.mark.parametrize("links", [0, 1])
def test_a_log_shapes_by_itself(pair: Pair, growing: Growing, tmp_path: Path, links: int) -> None:
    """Its link opens and closes the position; at the end expiry wakes as it was at that time."""
    pair.source_client.shop.a.create_index("at", expireAfterSeconds=10)
    growing, client = Growing(pair.source_client), pair.target_client
    restore(pair, growing.chain)
    for _ in range(links):
        growing.grow()
        shaped(pair, growing.chain, 1)
        settle(client, SPEC, JOB, growing.chain, 1, RUN, last=False)
    heard(pair, growing, tmp_path)
    chain, link = growing.chain, growing.chain.increments[links]
    wanted = spec(**ASKED | {"at": END_OF_TIME})
    for _ in range(2):
        shape_log(client, wanted, JOB, chain, link.number, RUN)
        there = position_of(client, JOB)
        assert there is not None and (there.link, there.state) == (link.number, "open")
        assert len(there.collections) == 2
        list(replay(client, wanted, JOB, tmp_path, link.log, END_OF_TIME, RUN))
    assert seconds(client, "later") == seconds(client, "b") == FAR
    for _ in range(2):
        done = settle_log(client, wanted, JOB, chain, link.number, RUN)
        assert done == Settled()
    assert said(client) == said(pair.source_client)
    assert (seconds(client, "later"), seconds(client, "b")) == (20, 30)
    there = position_of(client, JOB)
    assert there is not None and (there.link, there.state) == (link.number, "done")
