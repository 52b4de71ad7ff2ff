"""Increments that a target applies while it breaks (I31, I33, P2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from executors.classify import classify
from executors.clients import connect
from executors.increments.row import key_of
from ferrylog.embedded import Mongod
from statemachine.words import Cause
from tests.conftest import Pair
from tests.executors.examples import Client, fill, there
from tests.executors.increments.applying import CHECKED, Bench, after, by_key, doc, gone, unique

pytestmark = pytest.mark.server


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.target_client, tmp_path)


@pytest.fixture(scope="module")
def breaking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    options = ("--setParameter", "enableTestCommands=1")
    with Mongod(tmp_path_factory.mktemp("breaking"), name="b", options=options) as mongod:
        yield mongod


@pytest.fixture
def breaking(breaking_server: Mongod, tmp_path: Path) -> Iterator[Bench]:
    with MongoClient[Any](breaking_server.uri) as client:
        client.drop_database("shop")
        yield Bench(client, tmp_path)
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@contextmanager
def failing(client: Client, command: str, **data: Any) -> Iterator[None]:
    """The next command of this kind fails; of ferrylog's clients alone."""
    where = {"failCommands": [command], "appName": "ferrylog", **data}
    point = {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": where}
    client.admin.command(point)
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


LOST: dict[str, tuple[dict[str, Any], Cause]] = {
    "stepped down before": ({"errorCode": 189}, Cause.UNAVAILABLE),
    "connection broke before": ({"closeConnection": True}, Cause.UNAVAILABLE),
    "write concern timed out": (
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        Cause.TRANSIENT,
    ),
    "stepped down behind": (
        {"writeConcernError": {"code": 189, "errmsg": "primary stepped down"}},
        Cause.UNAVAILABLE,
    ),
    "throttled": ({"errorCode": 16500}, Cause.UNAVAILABLE),
}


COMMANDS = ("insert", "update", "delete", "commitTransaction")
BREAKS = {
    f"{command}, {name}": (command, *lost) for command in COMMANDS for name, lost in LOST.items()
}


@pytest.mark.parametrize(("command", "data", "cause"), BREAKS.values(), ids=BREAKS)
def test_what_was_not_acknowledged_is_applied_again(
    breaking_server: Mongod, breaking: Bench, command: str, data: dict[str, Any], cause: Cause
) -> None:
    """I31, I33: applied or not before it failed; no position is told for it."""
    unique(breaking, "e")
    before = [doc(n, e=n) for n in range(20)]
    fill(breaking.client, [RawBSONDocument(each) for each in before])
    first = [doc(0, e=100), gone(1)]
    rows = [doc(5, e=6), doc(6, e=5), doc(7, e=107), gone(8), doc(30, e=30)]
    shard = breaking.shard(*first, *rows, block=2)
    ends = connect("target", breaking_server.uri + "?heartbeatFrequencyMS=500")
    parts = breaking.news(shard, client=ends.client)
    told = [next(parts)]
    with failing(breaking.client, command, **data):
        try:
            told += parts
        except PyMongoError as error:
            assert classify(error)[0] in (cause, Cause.TRANSIENT, Cause.UNAVAILABLE)  # noqa: PT017
    told += breaking.news(after(shard, told[-1]), client=ends.client)
    ends.close()
    changed = {key_of(row) for row in (*first, *rows)}
    kept = [each for each in before if key_of(each) not in changed]
    assert there(breaking.client) == by_key([*kept, *first, *rows])
    assert (told[-1].documents, told[-1].erased) == (5, 2)


def test_a_write_concern_that_cannot_be_met_is_fatal(bench: Bench) -> None:
    """P2: applied here is not acknowledged there; nothing is told."""
    asked = CHECKED.model_copy(update={"write_concern": "2"})
    parts = bench.news(bench.shard(doc(1)), asked)
    with pytest.raises(OperationFailure) as caught:
        next(parts)
    assert classify(caught.value)[0] is Cause.FATAL
