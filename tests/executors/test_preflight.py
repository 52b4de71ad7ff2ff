"""What stops a job is found before any work, and the least rights that suffice are enough."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from pymongo.errors import OperationFailure

from executors.batches import Block, read_range
from executors.classify import classify
from executors.clients import Deployment, connect
from executors.dumps.model import Dump, Dumped, Type
from executors.errors import QueryOfBuckets
from executors.finish import finish
from executors.metadata import build_index, create
from executors.plan import plan
from executors.preflight import examine, examine_dump_source, examine_restore
from executors.rejected import Rejects
from executors.source import data_of, range_of
from executors.survey import survey
from executors.write import Tally, Writer
from statemachine.errors import OperatorError
from statemachine.state import NOTHING
from statemachine.words import Cause, index_task
from tests.end_to_end.test_bad_input import Side, guarded
from tests.executors.examples import chunk_of, plain_unit, spec, there, unit_of

pytestmark = pytest.mark.server

BACKUP = [("backup", "admin")]
RESTORE = [("restore", "admin")]
READ = [("readAnyDatabase", "admin")]
KNOWS_ROLES = [("userAdminAnyDatabase", "admin")]
Roles = list[tuple[str, str]]


@dataclass
class Two:
    """Servers with access control."""

    source: Side
    target: Side
    open: list[Deployment]

    def at_source(self, roles: Roles) -> Deployment:
        self.open.append(connect("source", self.source.may_only(*roles)))
        return self.open[-1]

    def at_target(self, roles: Roles) -> Deployment:
        self.open.append(connect("target", self.target.may_only(*roles)))
        return self.open[-1]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("guarded")
    with (
        guarded(folder / "source", "theirs") as source,
        guarded(folder / "target", "ours") as target,
    ):
        shop = source.client.shop
        shop.c.insert_one({"_id": 1})
        shop.c.create_index("at", expireAfterSeconds=10**8)
        shop["system.js"].insert_one({"_id": "f", "value": 1})
        shop.command({"create": "points", "timeseries": {"timeField": "t"}})
        shop.points.insert_one({"t": datetime.now(UTC)})
        source.client.admin.command({"createRole": "own", "privileges": [], "roles": []})
        yield source, target


@pytest.fixture
def two(sides: tuple[Side, Side]) -> Iterator[Two]:
    made = Two(*sides, [])
    yield made
    for deployment in made.open:
        deployment.close()
    for name in ("shop", "old"):
        made.target.client.drop_database(name)
    for name in ("tempusers", "temproles"):
        made.target.client.admin[name].drop()


def job(**fields: Any) -> Any:
    return spec(**{"include": (), "exclude": (), **fields})


def told(findings: list[OperatorError]) -> str:
    return "\n".join(f"{each.code}: {each}" for each in findings)


@pytest.mark.parametrize("roles", [BACKUP, READ])
def test_enough_to_dump(two: Two, roles: Roles) -> None:
    """Nothing is found, and all of it can be read."""
    source = two.at_source(roles)
    assert told(examine_dump_source(source, job())) == ""
    found = survey(source.client, job())
    assert [each.unit for each in found.units] == ["shop.c", "shop.points", "shop.system.js"]
    for each in found.units:
        unit = unit_of(two.source.client, each.unit)
        stop = threading.Event()
        assert plan(source.client, unit, job(), stop, capped=False).documents == 1
        what = range_of(unit, chunk_of(unit), job())
        assert sum(block.documents for block in read_range(source.client, what, stop)) == 1


def test_each_name_has_to_be_there(two: Two, target: Deployment) -> None:
    """ESOURCE001 names what is missing beside what is there; who compares may miss it."""
    source, both = two.at_source(BACKUP), ("shop.c", "shop.gone", "shop.a[*]")
    for found in (
        told(examine_dump_source(source, job(include=both))),
        told(examine(source, target, job(include=both))),
        examined(dump_of("shop.c"), target, include=both),
    ):
        assert found.startswith("ESOURCE001: no namespace on the source matches shop.gone, shop.a")
    assert told(examine(source, target, job(include=both, kind="verify"))) == ""


def test_a_query_of_a_time_series(two: Two, target: Deployment) -> None:
    """ESOURCE005: it would be asked of buckets, find none of them, and say nothing."""
    source = two.at_source(BACKUP)
    for glob in ("*", "shop.*", "shop.points"):
        asked = job(queries=((glob, '{"a":1}'),), include=("shop.*",))
        for found in (
            told(examine_dump_source(source, asked)),
            told(examine(source, target, asked)),
        ):
            assert found.startswith("ESOURCE005: --query fits shop.points, a time-series")
        with pytest.raises(QueryOfBuckets):
            survey(source.client, asked)
    narrow, wide = (("shop.c", '{"a":1}'),), (("shop.*", '{"a":1}'),)
    for fields in ({"queries": narrow}, {"queries": wide, "exclude": ("shop.points",)}):
        assert told(examine_dump_source(source, job(include=("shop.*",), **fields))) == ""


def test_a_query_for_nobody_but_users(two: Two) -> None:
    """ESOURCE001: it is never asked of them."""
    asked = job(queries=(("admin.system.*", "{}"),), users=True)
    found = told(examine_dump_source(two.at_source(BACKUP), asked))
    assert found.startswith("ESOURCE001: no namespace on the source matches the query for admin")


def test_users_take_more_than_reading(two: Two) -> None:
    assert told(examine_dump_source(two.at_source(BACKUP), job(users=True))) == ""
    lacking = told(examine_dump_source(two.at_source(READ), job(users=True)))
    for name in ("users", "roles"):
        assert f"find on collection admin.system.{name}" in lacking


def test_a_reader_of_one_database(two: Two) -> None:
    """Buckets are not among what `read` may read."""
    source = two.at_source([("read", "shop")])
    assert "listDatabases" in told(examine_dump_source(source, job()))
    lacking = told(examine_dump_source(source, job(include=("shop.*",))))
    assert "lacks find, collStats on collection shop.system.buckets.points" in lacking
    less = job(include=("shop.*",), exclude=("shop.points",))
    assert told(examine_dump_source(source, less)) == ""


@pytest.mark.parametrize("users", [False, True])
def test_enough_to_restore(two: Two, users: bool) -> None:
    """Nothing is found, and all of it can be made, filled, finished and read back."""
    wanted = job(users=users, metadata=True)
    source = two.at_source(BACKUP)
    target = two.at_target([*RESTORE, *READ, *(KNOWS_ROLES if users else [])])
    assert told(examine(source, target, wanted)) == ""
    found = survey(source.client, wanted).units
    assert len(found) == (5 if users else 3)
    for each in found:
        unit = unit_of(source.client, each.unit) if "admin" not in each.unit else None
        if unit is None:
            unit = next(
                unit_of(source.client, "x.x", users=True, exclude=(left,))
                for left in ("admin.system.users", "admin.system.roles")
                if left != each.unit
            )
        built = create(target.client, unit, wanted).built
        (database, there), (into, here) = (
            data_of(name, unit.type) for name in (unit.id, unit.target)
        )
        documents = list(source.client[database].command({"find": there})["cursor"]["firstBatch"])
        command = {"insert": here, "documents": documents, "bypassDocumentValidation": True}
        assert target.client[into].command(command)["n"] == len(documents)
        for index in unit.indexes:
            if index.name not in built:
                build_index(target.client, unit, wanted, index_task(unit.id, index.name))
        # One operator bears the same name on both.
        differing = [each.what for each in finish(target.client, unit, wanted).differing]
        assert set(differing) <= {"user admin.ferry"}
        if "admin" not in unit.id:
            assert list(target.client[into].command({"find": here})["cursor"]["firstBatch"])


def test_an_empty_timestamp_takes_more(two: Two, target: Deployment, tmp_path: Path) -> None:
    """So rare that no job is refused for it before: an operator is asked when it is met."""
    target.client.shop.command({"create": "c"})
    document = bson.encode({"_id": "canary", "at": Timestamp(0, 0)})
    tally = Tally.after(NOTHING, Rejects(tmp_path / "rejected.bson"))
    writer = Writer(target.client, plain_unit(), job(), threading.Event())
    with pytest.raises(OperationFailure) as refused:
        writer.insert(Block(document, 1), tally)
    cause, code, why = classify(refused.value)
    assert (cause, code) == (Cause.FATAL, "EMONGO013")
    assert "not authorized on shop to execute command { update:" in why
    assert "canary" not in why
    with_update = two.at_target([*RESTORE, *READ, ("readWrite", "shop")])
    again = Writer(with_update.client, plain_unit(), job(), threading.Event())
    again.insert(Block(document, 1), tally)
    assert there(two.target.client) == [document]


@pytest.mark.parametrize(
    ("roles", "fields", "lacking"),
    [
        (RESTORE, {}, "lacks find on database shop"),
        (RESTORE, {}, "lacks find on collection shop.system.buckets.points"),
        ([*RESTORE, *READ], {"users": True}, "lacks find on collection admin.system.roles"),
        ([*RESTORE, *READ], {"on_conflict": "overwrite"}, "lacks update on database shop"),
        ([("readWrite", "shop")], {}, "lacks bypassDocumentValidation on database shop"),
        (
            [("readWrite", "shop"), ("dbAdmin", "shop")],
            {},
            "insert, bypassDocumentValidation, find on collection shop.system.buckets.points",
        ),
        ([*RESTORE, ("read", "shop")], {"renames": (("shop.c", "old.c"),)}, "find on database old"),
    ],
)
def test_not_enough_to_restore(
    two: Two, roles: Roles, fields: dict[str, Any], lacking: str
) -> None:
    found = told(examine(two.at_source(BACKUP), two.at_target(roles), job(**fields)))
    assert lacking in found


# --- restoring a dump ---


def dump_of(*names: str, kind: Type = "collection", version: str = "6.0.1", **options: Any) -> Dump:
    empty = [Dumped(name, kind, bson.encode(options), ()) for name in names]
    return Dump(Path("/dump"), "chunks", tuple(empty), server_version=version)


@pytest.fixture
def target(two: Two) -> Deployment:
    return two.at_target([*RESTORE, *READ])


def examined(dump: Dump | None, target: Deployment, **fields: Any) -> str:
    return told(examine_restore(dump, target, job(kind="restore", **fields)))


def test_nothing_is_wrong(target: Deployment) -> None:
    assert examined(dump_of("shop.c", "shop.d"), target) == ""
    assert examined(None, target) == ""


@pytest.mark.parametrize("version", ["6.1.0", "7.0.2", "10.0"])
def test_a_server_older_than_the_dump(target: Deployment, version: str) -> None:
    """ECONN009: with both versions."""
    found = examined(dump_of("shop.c", version=version), target)
    assert "ECONN009" in found
    assert f"MongoDB {target.version}, older than {version}" in found
    assert examined(dump_of("shop.c", version="5.0.31"), target) == ""
    assert examined(dump_of("shop.c", version=""), target) == ""


def test_what_lies_there_already(two: Two, target: Deployment) -> None:
    """Under the new name."""
    two.target.client.old.c.insert_one({"_id": 1})
    two.target.client.old.command({"create": "v", "viewOn": "c", "pipeline": []})
    dump, old = dump_of("shop.c", "shop.d", "shop.v"), (("shop.*", "old.*"),)
    found = examined(dump, target, renames=old)
    assert "ETARGET001: the target already holds old.c with about 1 documents" in found
    assert "ETARGET002: the target already has old.v, a view" in found
    assert examined(dump, target, renames=old, drop=True) == ""
    assert "ETARGET001" not in examined(dump, target, renames=old, on_conflict="skip")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"renames": (("shop.c", "shop.d"),)}, "ENS002"),
        ({"renames": (("shop.*", "local.*"),)}, "ENS003"),
        ({"renames": (("shop.*", "shop.d"),)}, "ENS001"),
        ({"include": ("shop.x",)}, "ESOURCE001"),
    ],
)
def test_names(target: Deployment, fields: dict[str, Any], code: str) -> None:
    assert examined(dump_of("shop.c", "shop.d"), target, **fields).startswith(code)


def test_expiry_has_to_be_switched_on(two: Two) -> None:
    """Known of a dump: who may not is told before."""
    actions = [
        *("insert", "createCollection", "createIndex", "bypassDocumentValidation"),
        *("find", "listCollections", "collStats"),
    ]
    target = connect("target", two.target.may_do("nochange", actions, "shop"))
    try:
        plain = dump_of("shop.c")
        expiring = dump_of("shop.c", expireAfterSeconds=1)
        assert examined(plain, target) == ""
        assert "lacks collMod on database shop" in examined(expiring, target)
    finally:
        target.close()
