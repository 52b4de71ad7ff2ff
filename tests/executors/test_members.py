"""The source is read where the read preference says, and never behind its primary."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
from pymongo import MongoClient, WriteConcern

from executors.admin import wait_for_primary
from executors.batches import Range, read_range
from executors.members import PREFERENCES
from executors.plan import plan
from ferrylog.embedded import Mongod
from statemachine.events import RunSettings
from tests.executors.examples import Client, spec, unit_of

pytestmark = pytest.mark.server

WHAT = Range("shop", "c")
DOCUMENTS = 5_000
SOON: dict[str, Any] = {"serverSelectionTimeoutMS": 1_000}
SETTINGS = ("--replSet", "three", "--setParameter", "enableTestCommands=1")


@dataclass
class Three:
    """A replica set of three, the primary first: the servers, a client of each, one of all."""

    members: list[Mongod]
    each: list[Client]
    client: Client

    def queries(self) -> list[int]:
        """Queries of the collection that each member has answered."""
        tops = [client.admin.command("top")["totals"] for client in self.each]
        return [top["shop.c"]["queries"]["count"] for top in tops]

    def lag(self, n: int, *, on: bool) -> None:
        """Member `n` stops applying what it receives, or goes on."""
        mode = "alwaysOn" if on else "off"
        self.each[n].admin.command({"configureFailPoint": "rsSyncApplyStop", "mode": mode})


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder = tmp_path_factory.mktemp("three")
    with ExitStack() as stack:
        members = [
            stack.enter_context(Mongod(folder / str(n), replica_set=False, options=SETTINGS))
            for n in range(3)
        ]
        each = [
            stack.enter_context(MongoClient[Any](member.uri, directConnection=True, **SOON))
            for member in members
        ]
        hosts = [
            {"_id": n, "host": f"127.0.0.1:{member.port}", "priority": int(n == 0)}
            for n, member in enumerate(members)
        ]
        quick = {"electionTimeoutMillis": 2_000}
        each[0].admin.command(
            "replSetInitiate", {"_id": "three", "members": hosts, "settings": quick}
        )
        wait_for_primary(members[0].uri)
        client = stack.enter_context(MongoClient[Any](members[0].uri, replicaSet="three"))
        shop = client.shop.get_collection("c", write_concern=WriteConcern(3))
        shop.insert_many([{"_id": n} for n in range(DOCUMENTS)])
        yield Three(members, each, client)
        for opened in (client, *each):
            opened.close()
        for member in members:
            member.kill()  # politely, each waits for the others


def count(client: Client, what: Range) -> int:
    return sum(block.documents for block in read_range(client, what, threading.Event()))


def test_every_setting_is_a_preference() -> None:
    names = get_args(RunSettings.model_fields["read_preference"].annotation)
    assert set(names) == set(PREFERENCES)


@pytest.mark.parametrize(
    ("preference", "allowed"),
    [
        ("primary", {0}),
        ("primaryPreferred", {0}),
        ("secondary", {1, 2}),
        ("secondaryPreferred", {1, 2}),
        ("nearest", {0, 1, 2}),
    ],
)
def test_one_member_answers_the_whole_range(
    three: Three, preference: str, allowed: set[int]
) -> None:
    """A cursor lives on one member: five replies, one query."""
    before = three.queries()
    assert count(three.client, replace(WHAT, read_preference=preference)) == DOCUMENTS
    after = three.queries()
    (asked,) = (n for n in range(3) if after[n] > before[n])
    assert after[asked] - before[asked] == 1
    assert asked in allowed


@pytest.mark.parametrize("preference", ["primary", "secondary"])
def test_planning_samples_there_too(three: Three, preference: str) -> None:
    planned = plan(
        three.client,
        unit_of(three.client),
        spec(chunk_docs=1_000),
        threading.Event(),
        capped=False,
        read_preference=preference,
    )
    assert planned.boundaries


def test_a_member_that_lags_is_waited_for(three: Three) -> None:
    """P10: what the primary had acknowledged before the read began is never missing."""
    three.lag(1, on=True)
    extra = [{"_id": DOCUMENTS + n} for n in range(100)]
    shop = three.client.shop.get_collection("c", write_concern=WriteConcern("majority"))
    shop.insert_many(extra)
    over = threading.Timer(2.0, three.lag, (1,), {"on": False})
    over.start()
    try:
        for _ in range(6):
            assert count(three.client, replace(WHAT, read_preference="secondary")) == 5_100
    finally:
        over.join()
        shop.delete_many({"_id": {"$gte": DOCUMENTS}})


def test_a_member_that_dies_is_replaced(three: Three) -> None:
    """The read goes on at its last key, on another member."""
    before = three.queries()
    blocks = read_range(three.client, replace(WHAT, read_preference="secondary"), threading.Event())
    found = next(blocks).documents
    (asked,) = (n for n, now in enumerate(three.queries()) if now > before[n])
    three.members[asked].kill()
    found += sum(block.documents for block in blocks)
    assert found == DOCUMENTS
