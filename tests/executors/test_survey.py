"""What a job carries: its own selection, and what operators added to it later."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bson import Timestamp

from executors.clients import connect
from executors.dispatch import MongoExecutor
from executors.ends import Ends
from executors.protocol import Stopped
from executors.select import ServersOwn, TwoBecomeOne
from executors.survey import databases, survey
from statemachine.effects import Effect
from statemachine.stimuli import Outcome, Planned, Succeeded, Surveyed
from statemachine.words import THE_JOB, TaskKey, TaskKind, UnitId
from tests.conftest import Pair
from tests.executors.examples import Client, spec, unit_of

pytestmark = pytest.mark.server

NAMES = ("blog.posts", "blog.tmp", "shop.items", "shop.orders")


@pytest.fixture
def filled(pair: Pair) -> Pair:
    for name in NAMES:
        database, _, collection = name.partition(".")
        pair.source_client[database][collection].insert_one({"_id": 1})
    return pair


class Hands:
    """The executor of a job, and its outcomes."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.source = connect("source", pair.source.uri)
        self.target = connect("target", pair.target.uri)
        self.folder = folder

    def run(self, effect: Effect, **changes: object) -> Outcome:
        executor = MongoExecutor(Ends(self.source, self.target), spec(**changes), self.folder)
        return executor.run(effect, threading.Event(), lambda _: None)


@pytest.fixture
def hands(filled: Pair, tmp_path: Path) -> Iterator[Hands]:
    made = Hands(filled, tmp_path)
    yield made
    made.source.close()
    made.target.close()


@pytest.mark.parametrize(
    ("include", "exclude", "added", "found"),
    [
        (("shop.*",), (), (), {"shop.items", "shop.orders"}),
        (("shop.*",), (), ("blog.posts",), {"blog.posts", "shop.items", "shop.orders"}),
        (("shop.*",), ("*.tmp",), ("blog.*",), {*NAMES} - {"blog.tmp"}),
        (("shop.*",), ("*.tmp",), ("blog.*", "blog.tmp"), {*NAMES}),
        (("shop.*",), ("*.items",), ("shop.items",), {"shop.items", "shop.orders"}),
        ((), ("*.tmp",), (), {*NAMES} - {"blog.tmp"}),
        ((), ("*.tmp",), ("blog.tmp",), {*NAMES}),
        ((), (), ("blog.tmp",), {*NAMES}),
        (("shop.orders",), (), ("admin.*", "nobody.*"), {"shop.orders"}),
        (("shop.orders",), (), ("*.posts",), {"shop.orders", "blog.posts"}),
    ],
)
def test_selection(
    hands: Hands,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    added: tuple[str, ...],
    found: set[str],
) -> None:
    """Exclude wins over include; what was added later by name wins over both."""
    effect = Effect(TaskKey(TaskKind.SURVEY, THE_JOB), 1, 1, unit=None, include=added)
    outcome = hands.run(effect, include=include, exclude=exclude)
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Surveyed)
    assert {unit.unit for unit in outcome.result.units} == found


def test_it_stops(filled: Pair) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        survey(filled.source_client, spec(include=(), exclude=()), stop=stop)


@pytest.mark.parametrize("kind", ["plan", "migrate"])
def test_a_dry_run_foresees(hands: Hands, filled: Pair, kind: str) -> None:
    """I46: with the plan of a dry run comes what will go wrong; nothing is written."""
    filled.target_client.shop.orders.insert_one({"_id": 2})
    unit = unit_of(filled.source_client, "shop.orders")
    outcome = hands.run(Effect(TaskKey(TaskKind.PLAN, unit.id), 1, 1, unit=unit), kind=kind)
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Planned)
    assert bool(outcome.result.conflicts) == (kind == "plan")
    assert list(filled.target_client.shop.orders.find()) == [{"_id": 2}]
    assert list(hands.folder.iterdir()) == []


# --- what there is beside plain collections -------------------------------------------------------


def found(client: Client, **fields: object) -> Surveyed:
    return survey(client, spec(**{"include": (), "exclude": (), **fields}))


def names(surveyed: Surveyed) -> set[str]:
    return {unit.unit for unit in surveyed.units}


def test_a_time_series_is_one_unit(pair: Pair) -> None:
    """Described by its own name, measured and identified by its buckets."""
    shop = pair.source_client.shop
    for n, options in enumerate(({"expireAfterSeconds": 10**8}, {})):
        shop.command({"create": f"p{n}", "timeseries": {"timeField": "t"}, **options})
        shop[f"p{n}"].insert_many([{"t": datetime.now(UTC), "v": v} for v in range(10)])
    shop.p0.create_index([("v", 1)])
    one, other = found(pair.source_client).units
    buckets = shop.command({"listCollections": 1, "filter": {"name": "system.buckets.p0"}})
    assert (one.unit, one.target, one.type) == ("shop.p0", "shop.p0", "timeseries")
    assert one.uuid == bytes(buckets["cursor"]["firstBatch"][0]["info"]["uuid"]).hex()
    assert one.documents == 1
    assert one.bytes > 0
    assert [index.name for index in one.indexes] == ["v_1"]
    assert (one.expires, other.expires) == (True, False)
    assert '"timeField":"t"' in one.options


def test_what_is_not_carried_is_said(pair: Pair) -> None:
    """Logs and definitions of the server's own are nobody's loss; anything else is named."""
    shop = pair.source_client.shop
    shop.command({"create": "v", "viewOn": "c", "pipeline": []})
    shop.command({"create": "system.profile", "capped": True, "size": 4096})
    shop.command({"create": "system.js"})
    shop.command({"create": "system.buckets.gone"})
    shop.command({"create": "system.users"})
    surveyed = found(pair.source_client)
    assert names(surveyed) == {"shop.system.js", "shop.v"}
    orphan, kept = surveyed.notes
    assert "shop.system.buckets.gone" in orphan
    assert "shop.system.users" in kept
    assert found(pair.source_client, exclude=("*.gone", "*.users")).notes == ()


def test_collections_of_admin(pair: Pair) -> None:
    """Those of people are carried, as mongodump does; those of the server never."""
    admin = pair.source_client.admin
    admin.mine.insert_one({"_id": 1})
    try:
        surveyed = found(pair.source_client)
        assert names(surveyed) == {"admin.mine"}
        assert surveyed.notes == ()
        assert names(found(pair.source_client, exclude=("admin.*",))) == set()
    finally:
        admin.mine.drop()


def test_a_database_that_is_left_out_is_not_asked(pair: Pair) -> None:
    """Who may not look into it can leave it out."""
    pair.source_client.shop.c.insert_one({"_id": 1})
    assert databases(pair.source_client, spec(include=(), exclude=("admin.*",))) == ["shop"]


@pytest.mark.parametrize("include", [("local.*",), ("config.transactions",)])
def test_the_servers_own_is_refused_by_name(pair: Pair, include: tuple[str, ...]) -> None:
    with pytest.raises(ServersOwn, match=include[0].partition(".")[0]):
        found(pair.source_client, include=include)


def test_users_and_roles(pair: Pair) -> None:
    """Counted where they stay; collections like others where they travel."""
    admin = pair.source_client.admin
    admin.command({"createRole": "reader", "privileges": [], "roles": []})
    admin.command({"createUser": "ann", "pwd": "secret", "roles": ["reader"]})
    pair.source_client.shop.c.insert_one({"_id": 1})
    try:
        left = found(pair.source_client)
        assert names(left) == {"shop.c"}
        assert (left.users, left.roles) == (1, 1)
        exported = found(pair.source_client, kind="export")
        assert (exported.users, exported.roles, exported.notes) == (0, 0, ())
        taken = found(pair.source_client, users=True, include=("shop.*",))
        assert names(taken) == {"shop.c", "admin.system.users", "admin.system.roles"}
        assert (taken.users, taken.roles) == (0, 0)
        by_name = {unit.unit: unit for unit in taken.units}
        users = by_name[UnitId("admin.system.users")]
        assert (users.type, users.indexes, users.documents) == ("collection", (), 1)
        assert users.target == "admin.tempusers"
        assert "secret" not in str(taken)
    finally:
        admin.command("dropUser", "ann")
        admin.command("dropRole", "reader")


def test_a_snapshot_is_as_of_when_the_catalogue_was_read(pair: Pair) -> None:
    """Everything that was seen exists at that time, and what is written later does not."""
    pair.source_client.shop.c.insert_one({"_id": 1})
    surveyed = found(pair.source_client, consistency="snapshot")
    pair.source_client.shop.c.insert_one({"_id": 2})
    seconds, _, increment = surveyed.cluster_time.partition(".")
    concern = {"level": "snapshot", "atClusterTime": Timestamp(int(seconds), int(increment))}
    there = pair.source_client.shop.command({"find": "c", "readConcern": concern})
    assert there["cursor"]["firstBatch"] == [{"_id": 1}]
    assert found(pair.source_client).cluster_time == ""


def test_new_names(pair: Pair) -> None:
    """A view is carried as it is; where it will look for what was renamed is said."""
    shop = pair.source_client.shop
    shop.c.insert_one({"_id": 1})
    shop.command({"create": "v", "viewOn": "c", "pipeline": [{"$limit": 1}]})
    whole = found(pair.source_client, renames=(("shop.*", "old.*"),))
    assert {unit.unit: unit.target for unit in whole.units} == {
        "shop.c": "old.c",
        "shop.v": "old.v",
    }
    assert whole.notes == ()
    parted = found(pair.source_client, renames=(("shop.c", "shop.d"),))
    (note,) = parted.notes
    assert "view shop.v reads shop.c" in note
    assert "shop.c becomes shop.d" in note
    views = [unit.options for unit in (*whole.units, *parted.units) if unit.type == "view"]
    assert len(set(views)) == 1
    with pytest.raises(TwoBecomeOne):
        found(pair.source_client, renames=(("shop.c", "shop.v"),))
