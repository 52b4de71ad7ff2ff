"""A link's collections on the target: made, renamed, changed and gone as on the source; begun again
wherever it was killed; refused where the target is not where the chain goes on (I32, I33).

The catalogue of a real source is read between changes of it: each reading is a link, and what the
target is shaped to is compared with the source itself.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.errors import OperationFailure

from executors.boundaries import from_text
from executors.dumps.model import Dump, Dumped, NeverStops, Part
from executors.errors import TargetDiffers, TargetNotEmpty
from executors.expiry import FAR
from executors.finish import finish
from executors.increments import catalogue
from executors.increments.catalogue import (
    CameByRename,
    CannotAlter,
    CannotMove,
    Entry,
    entries_of,
    step_to,
)
from executors.increments.model import INCREMENTS, Chain, Increment
from executors.increments.position import (
    PLACE,
    AnotherAtWork,
    OtherPosition,
    Position,
    clear_position,
    close_position,
    open_position,
    position_of,
    save,
)
from executors.increments.shaping import settle, settle_log, shape
from executors.metadata import build, create
from executors.protocol import Stopped
from executors.select import RefusedName
from executors.survey import described, index_spec, namespaces
from statemachine.events import JobSpec
from statemachine.state import ChunkFile
from statemachine.stimuli import FoundShard, Settled, Shaped
from statemachine.words import Key
from tests.conftest import OWN, Pair
from tests.executors.examples import Client, Looks, spec

pytestmark = pytest.mark.server

ROOT = Path("/chain")
JOB = "j1"
SPEC = spec(kind="restore", include=(), exclude=(), metadata=True)
ASKED = SPEC.model_dump()
RUN = NeverStops()


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


# --- chains by hand ---


def dumped(client: Client) -> tuple[Dumped, ...]:
    """The whole catalogue, as a dump has it."""
    names = [each for each in sorted(client.list_database_names()) if each not in OWN]
    found = []
    for entry in (each for name in names for each in namespaces(client, name)):
        indexes, options = described(client, entry)
        specs = tuple(map(index_spec, indexes))
        found.append(Dumped(entry.name, entry.type, options, specs, entry.uuid))  # type: ignore[arg-type]
    return tuple(found)


class Growing:
    """A chain that grows with its source."""

    def __init__(self, client: Client) -> None:
        self.client = client
        base = Dump(ROOT, "chunks", dumped(client))
        self.chain = Chain(ROOT, base, "d0", "1.1")

    def grow(self) -> int:
        """A link of what changed since the last one; returns its number."""
        before = self.chain.increments
        last = before[-1].dump if before else self.chain.base
        known = {each.uuid for each in last.namespaces}
        now = tuple(
            replace(each, whole=each.type == "timeseries" or each.uuid not in known)
            if each.type != "view"
            else each
            for each in dumped(self.client)
        )
        number = len(before) + 1
        dump = Dump(ROOT / INCREMENTS / f"{number:04d}", "chunks", now)
        link = Increment(
            number, f"d{number}", f"d{number - 1}", f"{number}.1", f"{number + 1}.1", "", dump
        )
        self.chain = replace(self.chain, increments=(*before, link))
        return number


def restore(pair: Pair, chain: Chain, wanted: JobSpec = SPEC) -> None:
    """The full dump, without its documents, expiry asleep."""
    for each in entries_of(chain.base, wanted):
        unit = each.unit()
        built = create(pair.target_client, unit, wanted).built
        for index in each.dumped.indexes:
            if index.name not in built:
                build(pair.target_client, unit, index, wanted)


@pytest.fixture
def growing(pair: Pair) -> Growing:
    """A source with two collections, and the target at its full dump."""
    db = pair.source_client.shop
    db.a.insert_one({"_id": 1, "is": "a"})
    db.b.insert_one({"_id": 1, "is": "b"})
    return Growing(pair.source_client)


def shaped(pair: Pair, chain: Chain, number: int, wanted: JobSpec = SPEC) -> Shaped:
    return shape(pair.target_client, wanted, JOB, chain, number, RUN)


def settled(pair: Pair, chain: Chain, number: int, wanted: JobSpec = SPEC) -> Settled:
    last = number == len(chain.increments)
    return settle(pair.target_client, wanted, JOB, chain, number, RUN, last=last)


def mark(pair: Pair) -> dict[str, Any] | None:
    return pair.target_client.ferrylog.position.find_one({"_id": JOB})


def said(client: Client) -> dict[str, tuple[str, bytes, list[bytes]]]:
    """What stands there, but for UUIDs and the mark, as the server tells it."""
    return {
        each.namespace: (
            each.type,
            bson.encode(
                {**bson.decode(each.options), "validationLevel": "", "validationAction": ""}
            ),
            sorted(from_text(index.spec) for index in each.indexes),
        )
        for each in dumped(client)
        if each.namespace != PLACE
    }


def follow(pair: Pair, growing: Growing) -> tuple[str, ...]:
    """Shape and settle the target to what the source is now; returns what was told."""
    number = growing.grow()
    told = shaped(pair, growing.chain, number).changes
    done = settled(pair, growing.chain, number)
    assert done.differing == ()
    assert said(pair.target_client) == said(pair.source_client)
    return (*told, *done.changes)


def filled(pair: Pair, *names: str) -> None:
    """Each collection on the target holds its own name."""
    for name in names:
        pair.target_client.shop[name].insert_one({"_id": 1, "is": name})


def holds(pair: Pair, name: str) -> str:
    found = pair.target_client.shop[name].find_one({"_id": 1})
    return found["is"] if found else ""


# --- collections ---


def test_dropped_and_created(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    filled(pair, "a", "b")
    db = pair.source_client.shop
    db.a.drop()
    db.create_collection("c", collation={"locale": "de"}, validator={"x": 1})
    db.c.create_index("x", unique=True)
    db.c.create_index("y")
    assert follow(pair, growing) == ("dropped shop.a", "created shop.c")
    assert holds(pair, "b") == "b"


def test_a_collection_made_anew_is_emptied(pair: Pair, growing: Growing) -> None:
    """I33: it is another one under the same name, and dumped whole."""
    restore(pair, growing.chain)
    filled(pair, "a", "b")
    pair.source_client.shop.a.drop()
    pair.source_client.shop.create_collection("a")
    assert follow(pair, growing) == ("dropped shop.a", "created shop.a")
    assert (holds(pair, "a"), holds(pair, "b")) == ("", "b")


def rename(client: Client, one: str, other: str) -> None:
    client.admin.command({"renameCollection": f"shop.{one}", "to": f"shop.{other}"})


def test_renamed(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    filled(pair, "a", "b")
    rename(pair.source_client, "a", "c")
    assert follow(pair, growing) == ("renamed shop.a to shop.c",)
    assert (holds(pair, "c"), holds(pair, "b")) == ("a", "b")


def test_names_in_a_row_and_in_a_circle(pair: Pair, growing: Growing) -> None:
    """A chain of renames, a swap and a circle of three; none leaves a name behind."""
    db = pair.source_client.shop
    for name in "cdefgh":
        db.create_collection(name)
    growing.chain = replace(growing.chain, base=Dump(ROOT, "chunks", dumped(pair.source_client)))
    restore(pair, growing.chain)
    filled(pair, *"abcdefgh")
    wanted = {"a": "b", "b": "c", "c": "z", "d": "e", "e": "d", "f": "g", "g": "h", "h": "f"}
    for name in wanted:
        rename(pair.source_client, name, f"tmp{name}")
    for name, to in wanted.items():
        rename(pair.source_client, f"tmp{name}", to)
    told = follow(pair, growing)
    assert sorted(told) == [f"renamed shop.{one} to shop.{to}" for one, to in wanted.items()]
    assert {to: holds(pair, to) for to in wanted.values()} == {
        to: one for one, to in wanted.items()
    }


def test_the_place_of_a_dropped_one(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    filled(pair, "a", "b")
    pair.source_client.shop.b.drop()
    rename(pair.source_client, "a", "b")
    assert follow(pair, growing) == ("dropped shop.b", "renamed shop.a to shop.b")
    assert holds(pair, "b") == "a"


def test_moved_to_another_database(pair: Pair, growing: Growing) -> None:
    """Servers copy it then: another UUID, dumped whole."""
    restore(pair, growing.chain)
    filled(pair, "a")
    pair.source_client.admin.command({"renameCollection": "shop.a", "to": "other.a"})
    assert follow(pair, growing) == ("dropped shop.a", "created other.a")
    assert pair.target_client.other.a.count_documents({}) == 0


def test_a_database_is_dropped(pair: Pair, growing: Growing) -> None:
    pair.source_client.shop["system.js"].insert_one({"_id": "f", "value": "x"})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    filled(pair, "a", "system.js")
    pair.source_client.drop_database("shop")
    number = growing.grow()
    told = shaped(pair, growing.chain, number).changes
    assert told == ("dropped shop.a", "dropped shop.b", "dropped shop.system.js")
    assert settled(pair, growing.chain, number).differing == ()
    assert pair.target_client.shop.list_collection_names() == ["system.js"]
    assert holds(pair, "system.js") == ""


# --- views and time series ---


def test_views(pair: Pair, growing: Growing) -> None:
    db = pair.source_client.shop
    db.command({"create": "v", "viewOn": "a", "pipeline": []})
    db.command({"create": "w", "viewOn": "v", "pipeline": []})
    db.command({"create": "x", "viewOn": "v", "pipeline": []})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    db.w.drop()
    db.command({"collMod": "v", "viewOn": "b", "pipeline": [{"$match": {"n": 1}}]})
    db.command({"create": "y", "viewOn": "nowhere", "pipeline": []})
    assert follow(pair, growing) == ("dropped shop.w", "changed shop.v", "created shop.y")
    assert follow(pair, growing) == ()


def test_a_view_and_a_collection_change_places(pair: Pair, growing: Growing) -> None:
    db = pair.source_client.shop
    db.command({"create": "v", "viewOn": "b", "pipeline": []})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    filled(pair, "a")
    db.v.drop()
    rename(pair.source_client, "a", "v")
    db.command({"create": "a", "viewOn": "b", "pipeline": []})
    assert follow(pair, growing) == ("dropped shop.v", "renamed shop.a to shop.v", "created shop.a")
    assert holds(pair, "v") == "a"


def test_a_time_series_is_emptied_once(pair: Pair, growing: Growing) -> None:
    """I33: it comes whole with each link; what has come is not taken away by a new process."""
    expiring = {"timeseries": {"timeField": "t", "metaField": "m"}, "expireAfterSeconds": 9000}
    pair.source_client.shop.command({"create": "ts", **expiring})
    pair.source_client.shop.ts.create_index("m.x")
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    row = {"t": bson.datetime.datetime(2020, 1, 1)}
    pair.target_client.shop.ts.insert_one(dict(row))
    number = growing.grow()
    assert shaped(pair, growing.chain, number).changes == ()
    assert pair.target_client.shop.ts.count_documents({}) == 0
    pair.target_client.shop.ts.insert_one(dict(row))
    for _ in range(2):
        shaped(pair, growing.chain, number)
        assert settled(pair, growing.chain, number).differing == ()
    assert pair.target_client.shop.ts.count_documents({}) == 1
    assert said(pair.target_client) == said(pair.source_client)


# --- options and indexes ---


def test_options(pair: Pair, growing: Growing) -> None:
    db = pair.source_client.shop
    images = {"changeStreamPreAndPostImages": {"enabled": True}}
    db.command({"collMod": "a", "validator": {"x": 1}, "validationLevel": "moderate", **images})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    db.command({"collMod": "a", "validator": {}, "validationLevel": "strict"})
    db.command({"collMod": "a", "changeStreamPreAndPostImages": {"enabled": False}})
    db.command(
        {"collMod": "b", "validator": {"y": {"$gt": 1}}, "validationAction": "warn", **images}
    )
    assert follow(pair, growing) == (
        "changed changeStreamPreAndPostImages of shop.a",
        "changed validationLevel of shop.a",
        "changed validator of shop.a",
        "changed changeStreamPreAndPostImages of shop.b",
        "changed validationAction of shop.b",
        "changed validator of shop.b",
    )


def test_options_that_stay(pair: Pair, growing: Growing) -> None:
    """What cannot be changed cannot have changed; a chain that says so is refused before anything
    is touched."""
    growing.grow()
    (link,) = growing.chain.increments
    first, *others = link.dump.namespaces
    capped = replace(first, options=bson.encode({"capped": True, "size": 4096}))
    dump = replace(link.dump, namespaces=(capped, *others))
    chain = replace(growing.chain, increments=(replace(link, dump=dump),))
    restore(pair, chain)
    with pytest.raises(CannotAlter, match="option capped of shop.a changed in link 1"):
        shaped(pair, chain, 1)
    assert mark(pair) is None


def test_indexes(pair: Pair, growing: Growing) -> None:
    db = pair.source_client.shop
    for name in ("gone", "other", "hides", "appears", "becomes_unique"):
        db.a.create_index(name, name=name, hidden=name == "appears")
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    for name in ("gone", "other", "becomes_unique"):
        db.a.drop_index(name)
    db.a.create_index([("other", -1)], name="other", sparse=True)
    db.a.create_index("becomes_unique", name="becomes_unique", unique=True)
    db.a.create_index("new", name="new", partialFilterExpression={"x": {"$gt": 1}})
    db.command({"collMod": "a", "index": {"name": "hides", "hidden": True}})
    db.command({"collMod": "a", "index": {"name": "appears", "hidden": False}})
    rename(pair.source_client, "a", "c")
    assert follow(pair, growing) == (
        "renamed shop.a to shop.c",
        "changed index appears of shop.c",
        "dropped index becomes_unique of shop.c",
        "dropped index gone of shop.c",
        "changed index hides of shop.c",
        "dropped index other of shop.c",
        "built index becomes_unique of shop.c",
        "built index new of shop.c",
        "built index other of shop.c",
    )


def test_an_index_waits_for_the_documents(pair: Pair, growing: Growing) -> None:
    """What is unique at the link's end need not be on the way there."""
    restore(pair, growing.chain)
    pair.source_client.shop.a.create_index("u", unique=True)
    number = growing.grow()
    shaped(pair, growing.chain, number)
    pair.target_client.shop.a.insert_many([{"_id": n, "u": 1} for n in range(2)])
    with pytest.raises(OperationFailure, match="duplicate key"):
        settled(pair, growing.chain, number)
    pair.target_client.shop.a.delete_one({"_id": 0})
    assert settled(pair, growing.chain, number).differing == ()


def test_indexes_of_the_target_stay(pair: Pair, growing: Growing) -> None:
    """What this job did not make is not its own, and is no difference."""
    restore(pair, growing.chain)
    pair.target_client.shop.a.create_index("mine")
    pair.source_client.shop.a.create_index("x")
    number = growing.grow()
    shaped(pair, growing.chain, number)
    assert settled(pair, growing.chain, number).differing == ()
    assert "mine_1" in pair.target_client.shop.a.index_information()


def seconds(client: Client, name: str = "a") -> Any:
    return client.shop[name].index_information()["at_1"].get("expireAfterSeconds")


def test_expiry_sleeps_to_the_end(pair: Pair, growing: Growing) -> None:
    """I33: nothing goes by its age before the last link is in; P10."""
    db = pair.source_client.shop
    clustered = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}, "expireAfterSeconds": 70}
    db.a.create_index("at", expireAfterSeconds=10)
    db.command({"create": "cl", **clustered})
    db.command({"create": "no", **clustered})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    db.command({"collMod": "a", "index": {"name": "at_1", "expireAfterSeconds": 20}})
    db.command({"collMod": "cl", "expireAfterSeconds": 80})
    db.command({"collMod": "no", "expireAfterSeconds": "off"})
    db.b.create_index("at", expireAfterSeconds=30)
    growing.grow()
    last = growing.grow()
    assert shaped(pair, growing.chain, 1).changes == (
        "changed index at_1 of shop.a",
        "changed expireAfterSeconds of shop.cl",
        "changed expireAfterSeconds of shop.no",
    )
    assert settled(pair, growing.chain, 1) == Settled((), ("built index at_1 of shop.b",))
    assert seconds(pair.target_client) == seconds(pair.target_client, "b") == FAR
    assert "expireAfterSeconds" not in pair.target_client.shop.cl.options()
    shaped(pair, growing.chain, last)
    assert settled(pair, growing.chain, last).differing == ()
    assert said(pair.target_client) == said(pair.source_client)
    assert (seconds(pair.target_client), seconds(pair.target_client, "b")) == (20, 30)


def test_expiry_that_was_awake_is_put_to_sleep(pair: Pair, growing: Growing) -> None:
    db = pair.source_client.shop
    db.a.create_index("at", expireAfterSeconds=10)
    clustered = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}, "expireAfterSeconds": 70}
    db.command({"create": "cl", **clustered})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    for each in entries_of(growing.chain.base, SPEC):
        finish(pair.target_client, each.unit(), SPEC)
    db.command({"collMod": "a", "index": {"name": "at_1", "expireAfterSeconds": 10**6}})
    db.command({"collMod": "cl", "expireAfterSeconds": 10**6})
    number = growing.grow()
    shaped(pair, growing.chain, number)
    assert seconds(pair.target_client) == FAR
    assert "expireAfterSeconds" not in pair.target_client.shop.cl.options()
    settled(pair, growing.chain, number)
    assert said(pair.target_client) == said(pair.source_client)


def test_what_differs_is_told(pair: Pair, growing: Growing) -> None:
    """With the namespace, at the end alone, and if it is asked for."""
    pair.source_client.shop.a.create_index("x")
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    growing.grow()
    growing.grow()
    shaped(pair, growing.chain, 1)
    pair.target_client.shop.a.drop_index("x_1")
    assert settled(pair, growing.chain, 1) == Settled()
    shaped(pair, growing.chain, 2)
    assert settled(pair, growing.chain, 2, spec(**ASKED | {"metadata": False})) == Settled()
    (missing,) = settled(pair, growing.chain, 2).differing
    assert (missing.what, missing.source != "", missing.target) == ("shop.a: index x_1", True, "")


def test_a_collection_that_went_while_documents_came(pair: Pair, growing: Growing) -> None:
    """Its index would make it anew, empty."""
    restore(pair, growing.chain)
    pair.source_client.shop.a.create_index("x")
    growing.grow()
    shaped(pair, growing.chain, 1)
    pair.target_client.shop.a.drop()
    with pytest.raises(OtherPosition, match=r"found no shop\.a"):
        settled(pair, growing.chain, 1)
    assert "a" not in pair.target_client.shop.list_collection_names()


# --- names and selection ---


def renaming(*pairs: tuple[str, str], **fields: Any) -> JobSpec:
    return SPEC.model_copy(update={"renames": pairs, **fields})


def test_names_of_the_target(pair: Pair, growing: Growing) -> None:
    wanted = renaming(("shop.a", "new.q"), ("shop.*", "new.*"))
    restore(pair, growing.chain, wanted)
    pair.target_client.new.q.insert_one({"_id": 1})
    rename(pair.source_client, "a", "c")
    pair.source_client.shop.create_collection("a")
    number = growing.grow()
    told = shaped(pair, growing.chain, number, wanted).changes
    assert told == ("renamed new.q to new.c", "created new.q")
    assert settled(pair, growing.chain, number, wanted).differing == ()
    found = {name: pair.target_client.new[name].count_documents({}) for name in "bcq"}
    assert found == {"b": 0, "c": 1, "q": 0}


def test_no_move_between_databases_of_the_target(pair: Pair, growing: Growing) -> None:
    wanted = renaming(("shop.a", "new.a"))
    restore(pair, growing.chain, wanted)
    rename(pair.source_client, "a", "c")
    number = growing.grow()
    with pytest.raises(CannotMove, match=r"new\.a becomes shop\.c in link 1"):
        shaped(pair, growing.chain, number, wanted)
    assert mark(pair) is None


def test_a_rename_into_the_selection(pair: Pair, growing: Growing) -> None:
    """The link holds only what changed of it, and the full dump was not restored."""
    wanted = spec(**ASKED | {"exclude": ("shop.a",)})
    restore(pair, growing.chain, wanted)
    rename(pair.source_client, "a", "c")
    number = growing.grow()
    with pytest.raises(CameByRename, match=r"shop\.c got that name in link 1"):
        shaped(pair, growing.chain, number, wanted)
    pair.source_client.shop.create_collection("d")
    assert mark(pair) is None


def test_a_rename_out_of_the_selection(pair: Pair, growing: Growing) -> None:
    wanted = spec(**ASKED | {"exclude": ("shop.c",)})
    restore(pair, growing.chain, wanted)
    rename(pair.source_client, "a", "c")
    number = growing.grow()
    assert shaped(pair, growing.chain, number, wanted).changes == ("dropped shop.a",)
    assert pair.target_client.shop.list_collection_names() == ["b"]


def test_the_mark_has_its_place_alone(pair: Pair, growing: Growing) -> None:
    growing.grow()
    with pytest.raises(RefusedName):
        step_to(growing.chain, 1, renaming(("shop.a", PLACE)))


def test_users_are_left_alone(pair: Pair, growing: Growing) -> None:
    users = Dumped("admin.system.users", "collection", bson.encode({}), ())
    base = replace(growing.chain.base, namespaces=(users, *growing.chain.base.namespaces))
    restore(pair, growing.chain)
    growing.chain = replace(growing.chain, base=base)
    growing.grow()
    wanted = SPEC.model_copy(update={"users": True})
    assert shaped(pair, growing.chain, 1, wanted).changes == ()
    assert settled(pair, growing.chain, 1, wanted).differing == ()


# --- what lies on the target beside ---


def test_a_name_that_another_has(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    filled(pair, "a", "c", "d")
    rename(pair.source_client, "a", "c")
    number = growing.grow()
    with pytest.raises(TargetDiffers, match=r"shop\.c, which is not of this chain"):
        shaped(pair, growing.chain, number)
    assert (holds(pair, "a"), holds(pair, "c")) == ("a", "c")
    dropping = SPEC.model_copy(update={"drop": True})
    shaped(pair, growing.chain, number, dropping)
    assert (holds(pair, "a"), holds(pair, "c"), holds(pair, "d")) == ("", "a", "d")


def test_a_new_collection_where_another_is(pair: Pair, growing: Growing) -> None:
    restore(pair, growing.chain)
    filled(pair, "c")
    pair.source_client.shop.create_collection("c")
    number = growing.grow()
    with pytest.raises(TargetNotEmpty):
        shaped(pair, growing.chain, number)
    shaped(pair, growing.chain, number, SPEC.model_copy(update={"drop": True}))
    assert holds(pair, "c") == ""


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


def test_a_log_shapes_by_itself(pair: Pair, growing: Growing) -> None:
    """Its link opens and closes the position; expiry wakes under whatever name."""
    pair.source_client.shop.a.create_index("at", expireAfterSeconds=10)
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    growing.grow()
    growing.grow()
    shaped(pair, growing.chain, 1)
    settle(pair.target_client, SPEC, JOB, growing.chain, 1, RUN, last=False)
    for _ in range(2):
        opened = open_position(pair.target_client, JOB, growing.chain, 2)
        assert (opened.link, opened.state, opened.shaped) == (2, "open", False)
    rename(pair.target_client, "a", "later")
    pair.target_client.shop.b.drop()
    for _ in range(2):
        assert settle_log(pair.target_client, SPEC, JOB, growing.chain, 2, RUN) == Settled()
    assert seconds(pair.target_client, "later") == 10
    there = position_of(pair.target_client, JOB)
    assert there is not None and (there.link, there.state) == (2, "done")


# --- what is told ---


def test_shards_by_the_chain_root(growing: Growing) -> None:
    growing.grow()
    (link,) = growing.chain.increments
    part = Part("shop.a/0-1.flb", 0, 90, 3, 70, "ab", Key("1"), Key("9"), erased=2)
    first, *others = link.dump.namespaces
    dump = replace(link.dump, namespaces=(replace(first, parts=(part,)), *others))
    chain = replace(growing.chain, increments=(replace(link, dump=dump),))
    wanted = renaming(("shop.*", "new.*"))
    (shard,) = catalogue.shards_of(chain, 1, step_to(chain, 1, wanted))
    name = "increments/0001/shop.a/0-1.flb"
    file = ChunkFile(name, 3, 70, 90, "ab", 0, "dump", 2)
    assert shard == FoundShard("shop.a", "new.a", "collection", Key("1"), Key("9"), file)


def test_so_much_is_told(monkeypatch: pytest.MonkeyPatch, growing: Growing) -> None:
    monkeypatch.setattr(catalogue, "MAX_TOLD", 2)
    for name in "cdef":
        growing.client.shop.create_collection(name)
    number = growing.grow()
    told = catalogue.told(step_to(growing.chain, number, SPEC), SPEC)
    assert told == ("created shop.c", "created shop.d", "and 2 more")


def test_a_unit_of_an_entry() -> None:
    entry = Entry(Dumped("shop.a", "collection", bson.encode({}), (), "ab"), "new.a")
    unit = entry.unit("cd")
    assert (unit.id, unit.target, unit.uuid, unit.target_uuid) == ("shop.a", "new.a", "ab", "cd")
