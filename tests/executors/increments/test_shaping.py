"""A link's collections on the target: made, renamed, changed and gone as on the source (I33).

What the target is shaped to is compared with the source itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import bson
import pytest
from pymongo.errors import OperationFailure

from executors.dumps.model import Dump, Dumped, Part
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
from executors.increments.position import PLACE, OtherPosition
from executors.select import RefusedName
from statemachine.state import ChunkFile
from statemachine.stimuli import FoundShard, Settled
from statemachine.words import Key
from tests.conftest import Pair
from tests.executors.examples import spec
from tests.executors.increments.growing import (
    ASKED,
    ROOT,
    SPEC,
    Growing,
    dumped,
    filled,
    follow,
    holds,
    mark,
    rename,
    renaming,
    restore,
    said,
    seconds,
    settled,
    shaped,
)

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


@pytest.fixture
def growing(pair: Pair) -> Growing:
    """A source with two collections, and the target at its full dump."""
    db = pair.source_client.shop
    db.a.insert_one({"_id": 1, "is": "a"})
    db.b.insert_one({"_id": 1, "is": "b"})
    return Growing(pair.source_client)


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
    row = {"t": datetime(2020, 1, 1, tzinfo=UTC)}
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


def test_what_is_held_whole_is_emptied(pair: Pair) -> None:
    """Servers let nobody drop `system.js`: its documents go."""
    pair.source_client.shop["system.js"].insert_one({"_id": "f", "value": "x"})
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    filled(pair, "system.js")
    number = growing.grow()
    (link,) = growing.chain.increments
    whole = tuple(replace(each, whole=True) for each in link.dump.namespaces)
    changed = replace(link, dump=replace(link.dump, namespaces=whole))
    chain = replace(growing.chain, increments=(changed,))
    assert shaped(pair, chain, number).changes == ()
    assert holds(pair, "system.js") == ""
    filled(pair, "system.js")
    shaped(pair, chain, number)
    assert settled(pair, chain, number).differing == ()
    assert holds(pair, "system.js") == "system.js"


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
    db.a.create_index("ages", name="ages", expireAfterSeconds=10)
    growing = Growing(pair.source_client)
    restore(pair, growing.chain)
    for name in ("gone", "other", "becomes_unique", "ages"):
        db.a.drop_index(name)
    db.a.create_index("ages", name="ages")
    db.a.create_index([("other", -1)], name="other", sparse=True)
    db.a.create_index("becomes_unique", name="becomes_unique", unique=True)
    db.a.create_index("new", name="new", partialFilterExpression={"x": {"$gt": 1}})
    db.command({"collMod": "a", "index": {"name": "hides", "hidden": True}})
    db.command({"collMod": "a", "index": {"name": "appears", "hidden": False}})
    rename(pair.source_client, "a", "c")
    assert follow(pair, growing) == (
        "renamed shop.a to shop.c",
        "dropped index ages of shop.c",
        "changed index appears of shop.c",
        "dropped index becomes_unique of shop.c",
        "dropped index gone of shop.c",
        "changed index hides of shop.c",
        "dropped index other of shop.c",
        "built index ages of shop.c",
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
    for each in entries_of(growing.chain.base.namespaces, SPEC):
        finish(pair.target_client, each.unit(), SPEC)
    db.command({"collMod": "a", "index": {"name": "at_1", "expireAfterSeconds": 10**6}})
    db.command({"collMod": "cl", "expireAfterSeconds": 10**6})
    number = growing.grow()
    shaped(pair, growing.chain, number)
    assert seconds(pair.target_client) == FAR
    assert "expireAfterSeconds" not in pair.target_client.shop.cl.options()
    settled(pair, growing.chain, number, spec(**ASKED | {"metadata": False}))
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
