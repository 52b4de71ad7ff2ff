"""A change stream, read raw: what it tells, in which order, and where it goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession

from executors.boundaries import to_text
from executors.increments import change
from executors.increments.change import KEYED
from executors.increments.errors import (
    ClockStill,
    HistoryLost,
    NoChangeStreams,
    PositionUnknown,
    UnknownChange,
)
from executors.increments.model import position_of
from executors.increments.stream import Batch, Change, Stream, data_of, now, told, watched
from executors.protocol import Stopped
from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.executors.examples import Client, spec

pytestmark = pytest.mark.server
NEVER = threading.Event()


@pytest.fixture
def source(pair: Pair) -> Iterator[Client]:
    """A client of its own, as wide as those of jobs; something has happened already."""
    client: Client = MongoClient(pair.source.uri)
    client.shop.a.insert_one({"_id": "old"})
    yield client
    client.close()


def read(stream: Stream, until: str) -> list[Batch]:
    """All batches until everything up to this cluster time has been seen."""
    batches = [stream.read(NEVER)]
    while position_of(batches[-1].cluster_time) < position_of(until):
        batches.append(stream.read(NEVER))
    return batches


def changes(client: Client, since: str, token: str = "", **how: Any) -> list[Change]:
    with closing(Stream(client, since, token, **how)) as stream:
        return [each for batch in read(stream, now(client)) for each in batch.changes]


def after(time: str) -> str:
    seconds, increment = position_of(time)
    return f"{seconds}.{increment + 1}"


def key(value: object) -> bytes:
    return bson.encode({"_id": value})


def uuid_of(client: Client, database: str, collection: str) -> str:
    (found,) = client[database].list_collections(filter={"name": collection})
    return bytes(found["info"]["uuid"]).hex()


def in_transaction(client: Client, work: Callable[[ClientSession], object]) -> None:
    with client.start_session() as session, session.start_transaction():
        work(session)


def test_every_kind_of_event_is_told_with_what_it_changes(source: Client) -> None:
    """A29, I33: no change is passed over; of each document the key, of each collection its UUID."""
    shop, since = source.shop, after(now(source))
    uuid = uuid_of(source, "shop", "a")
    shop.a.insert_one({"_id": 1, "x": 1})
    shop.a.update_one({"_id": 1}, {"$set": {"x": 2}})
    shop.a.replace_one({"_id": 1}, {"y": 3})
    shop.a.delete_one({"_id": 1})
    shop.a.create_index("x")
    shop.a.drop_index("x_1")
    shop.command("collMod", "a", validator={"q": {"$ne": 1}})
    shop.create_collection("v", viewOn="a", pipeline=[])
    shop.a.rename("b")
    shop.v.drop()
    source.drop_database("shop")
    found = changes(source, since)
    assert [(each.kind, each.namespace, each.renamed) for each in found] == [
        ("insert", "shop.a", ""),
        ("update", "shop.a", ""),
        ("replace", "shop.a", ""),
        ("delete", "shop.a", ""),
        ("createIndexes", "shop.a", ""),
        ("dropIndexes", "shop.a", ""),
        ("modify", "shop.a", ""),
        ("create", "shop.v", ""),
        ("rename", "shop.a", "shop.b"),
        ("drop", "shop.v", ""),
        ("drop", "shop.b", ""),
        ("dropDatabase", "shop", ""),
    ]
    assert [each.key for each in found if each.kind in KEYED] == [key(1)] * 4
    assert not any(each.key for each in found if each.kind not in KEYED)
    assert all(each.uuid in (uuid, "") for each in found)
    assert all(each.uuid for each in found if each.namespace == "shop.a")
    times = [position_of(each.cluster_time) for each in found]
    assert times == sorted(set(times))
    for each in found:
        assert bool(each.raw) == (each.kind not in KEYED)


def test_whole_events_hold_documents_and_raw_updates(source: Client) -> None:
    since = after(now(source))
    source.shop.a.insert_one({"_id": 1, "x": 1})
    source.shop.a.update_one({"_id": 1}, {"$set": {"x": 2}})
    one, other = (bson.decode(each.raw) for each in changes(source, since, whole=True))
    assert one["fullDocument"] == {"_id": 1, "x": 1}
    assert other["rawUpdateDescription"] == {"$v": 2, "diff": {"u": {"x": 2}}}


@pytest.mark.parametrize("value", [1, "ä", {"a": 1, "_id": 2}, None, Int64(5), bson.ObjectId()])
def test_keys_keep_their_bytes(source: Client, value: object) -> None:
    since = after(now(source))
    source.shop.a.insert_one({"_id": value})
    (found,) = changes(source, since)
    assert found.key == key(value)


def test_a_key_of_a_sharded_collection_is_its_id(source: Client) -> None:
    """A `documentKey` may hold the shard key before the `_id`."""
    assert change._key(bson.encode({"country": "de", "_id": 5})) == key(5)
    assert change._key(bson.encode({"_id": 5, "country": "de"})) == key(5)


def test_a_stream_begins_at_a_time_and_with_it(source: Client) -> None:
    """Y17: behind a full dump there is no token."""
    source.shop.a.insert_one({"_id": 1})
    assert [each.key for each in changes(source, now(source))] == [key(1)]


def test_a_stream_goes_on_behind_every_token(
    source: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I31: wherever it was cut, each change comes once: also in the midst of a transaction."""
    monkeypatch.setattr("executors.increments.stream.BATCH_EVENTS", 1)
    since = after(now(source))
    source.shop.a.insert_one({"_id": 0})
    in_transaction(source, lambda session: _insert(source, range(1, 6), session))
    source.shop.a.create_index("x")
    source.shop.a.delete_one({"_id": 3})
    source.shop.a.rename("z")
    with closing(Stream(source, since)) as stream:
        batches = read(stream, now(source))
    told = [each for batch in batches for each in batch.changes]
    assert len(told) == 9
    seen = 0
    for batch in batches:
        seen += len(batch.changes)
        assert changes(source, "0.0", batch.token) == told[seen:]


def _insert(client: Client, ids: range, session: ClientSession) -> None:
    client.shop.a.insert_many([{"_id": each} for each in ids], session=session)


def test_a_batch_says_up_to_when_all_was_seen(
    source: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I33: never a time in the midst of a transaction; behind `behind` comes all that is later,
    so that a link may end there and the next one begin."""
    monkeypatch.setattr("executors.increments.stream.BATCH_EVENTS", 2)
    since = after(now(source))
    for n in range(3):
        source.shop.a.insert_one({"_id": n})
        ids = range(10 * n + 10, 10 * n + 15)
        in_transaction(source, lambda session, ids=ids: _insert(source, ids, session))  # type: ignore[misc]
    with closing(Stream(source, since)) as stream:
        batches = read(stream, now(source))
    told = [each for batch in batches for each in batch.changes]
    assert len(told) == 18
    seen: list[Change] = []
    for batch in batches:
        seen += batch.changes
        reached = position_of(batch.cluster_time)
        before = [each for each in told if position_of(each.cluster_time) <= reached]
        assert before == seen[: len(before)]
        if batch.behind or before:
            assert changes(source, "0.0", batch.behind) == told[len(before) :]
    assert batches[-1].behind == batches[-1].token
    assert any(batch.behind != batch.token for batch in batches)


def test_documents_of_sixteen_megabytes_pass(source: Client) -> None:
    """A35: an event of such a document is larger than a document may be."""
    since = after(now(source))
    big = "x" * ((16 << 20) - 64)
    for n in range(3):
        source.shop.a.insert_one({"_id": n, "x": big})
    source.shop.a.update_one({"_id": 0}, {"$set": {"x": big[:-1]}})
    source.shop.a.replace_one({"_id": 1}, {"y": big})
    found = changes(source, since)
    assert [each.kind for each in found] == ["insert"] * 3 + ["update", "replace"]
    whole = changes(source, since, whole=True)
    assert [len(each.raw) > len(big) for each in whole] == [True] * 5


def test_a_watched_database_goes_on_behind_its_drop(source: Client) -> None:
    """The server ends such a cursor; what comes later is told all the same, and once."""
    with closing(Stream(source, after(now(source)), database="shop")) as stream:
        source.other.a.insert_one({"_id": 1})
        source.shop.a.insert_one({"_id": 1})
        source.drop_database("shop")
        dropped = read(stream, now(source))
        source.shop.a.insert_one({"_id": 2})
        found = [each for batch in [*dropped, *read(stream, now(source))] for each in batch.changes]
    kinds = ["insert", "drop", "dropDatabase", "create", "insert"]
    assert [each.kind for each in found] == kinds
    assert changes(source, "0.0", dropped[-1].token, database="shop") == found[3:]


def test_a_cursor_that_was_cut_goes_on_at_its_token(source: Client) -> None:
    """E6: a kill of cursors, a failover, a broken connection costs no change and doubles none."""
    with closing(Stream(source, after(now(source)))) as stream:
        found: list[Change] = []
        for n in range(6):
            source.shop.a.insert_one({"_id": n})
            found += [each for batch in read(stream, now(source)) for each in batch.changes]
            if n % 2:
                kill = {"killCursors": "$cmd.aggregate", "cursors": [Int64(stream._cursor)]}
                assert source.admin.command(kill)["cursorsKilled"]
            else:
                source.admin.command("killAllSessions", [])
        assert [each.key for each in found] == [key(n) for n in range(6)]


def test_a_primary_that_is_killed_costs_no_change(tmp_path: Path) -> None:
    """E6: the server is back before the patience is over."""
    with Mongod(tmp_path / "m", name="cut") as mongod, MongoClient[Any](mongod.uri) as client:
        client.shop.a.insert_one({"_id": 0})
        with closing(Stream(client, now(client))) as stream:
            read(stream, now(client))
            client.shop.a.insert_one({"_id": 1})
            mongod.kill()
            mongod.start()
            client.shop.a.insert_one({"_id": 2})
            found = [each for batch in read(stream, now(client)) for each in batch.changes]
        assert [each.key for each in found if each.kind == "insert"] == [key(1), key(2)]


def test_it_stops_within_a_second_and_leaves_no_cursor(source: Client) -> None:
    stop = threading.Event()
    opened = source.admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]
    stream = Stream(source, now(source))
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        while True:
            stream.read(stop)
    stream.close()
    status = source.admin.command("serverStatus")
    assert status["metrics"]["cursor"]["open"]["total"] == opened


def test_a_token_that_the_source_does_not_know_is_named(source: Client) -> None:
    """Y9: of another deployment, or of a history that is no more."""
    source.shop.a.insert_one({"_id": 1})
    with closing(Stream(source, now(source))) as stream:
        known = data_of(read(stream, now(source))[-1].token)
    assert len(known) > 50  # of an event
    other = to_text(bson.encode({"_data": known[:-6] + "ABCD04"}))
    for token in (other, to_text(bson.encode({"_data": known[:18]}))):
        with pytest.raises(PositionUnknown, match="does not know the place"):
            changes(source, "0.0", token)
    with pytest.raises(PositionUnknown):
        Stream(source, "0.0", to_text(bson.encode({"_data": "no token"})))


def test_a_time_that_has_not_come_yet_is_named(source: Client) -> None:
    """A source that was set back has not come to where its last link ended."""
    seconds, _ = position_of(now(source))
    with pytest.raises(ClockStill):
        changes(source, f"{seconds + 1000}.1")


def test_an_oplog_that_rolled_over_is_named(tmp_path: Path) -> None:
    """Y9: a hole between two links is never passed over."""
    small = ("--oplogSize", "1", "--syncdelay", "1")  # it keeps what is behind a checkpoint
    with (
        Mongod(tmp_path / "m", name="small", options=small) as mongod,
        MongoClient[Any](mongod.uri) as client,
    ):
        since = now(client)
        client.shop.a.insert_one({"_id": 0})
        with closing(Stream(client, since)) as stream:
            token = read(stream, now(client))[-1].token
        _roll_over(client, since)
        for begin in ((since, ""), ("0.0", token)):
            with pytest.raises(HistoryLost, match="rolled over") as error:
                changes(client, *begin)
            assert "full dump" in error.value.remedy


def _roll_over(client: Client, since: str) -> None:
    """Write until the oplog begins later."""
    first = Timestamp(0, 0)
    while first <= Timestamp(*position_of(since)):
        for n in range(20):
            client.shop.big.replace_one({"_id": n}, {"x": "x" * (1 << 20)}, upsert=True)
        first = client.local["oplog.rs"].find_one(sort=[("$natural", 1)])["ts"]


def test_a_single_server_has_no_stream(tmp_path: Path) -> None:
    with (
        Mongod(tmp_path / "m", replica_set=False) as mongod,
        MongoClient[Any](mongod.uri) as client,
        pytest.raises(NoChangeStreams),
    ):
        Stream(client, "1.1").read(NEVER)


def test_a_kind_that_is_not_known_is_an_error(
    source: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A29: not passed over, and not on the next read either."""
    monkeypatch.delitem(change._KINDS, b"insert")
    with closing(Stream(source, after(now(source)))) as stream:
        source.shop.a.delete_one({"_id": "old"})
        read(stream, now(source))
        source.shop.a.insert_one({"_id": 1})
        for _ in range(2):
            with pytest.raises(UnknownChange, match=r"of shop\.a .*: insert"):
                read(stream, now(source))


def test_what_no_stream_tells(source: Client) -> None:
    """Each of these changes without an event: whoever carries it carries it whole."""
    shop = source.shop
    shop.create_collection("ts", timeseries={"timeField": "t"})
    source.admin.kept.insert_one({"_id": 0})
    shop["system.js"].insert_one({"_id": "g", "value": 1})
    since = after(now(source))
    shop.ts.insert_one({"t": bson.datetime.datetime(2024, 1, 1), "v": 1})
    shop.ts.create_index("v")
    source.admin.kept.insert_one({"_id": 1})
    shop["system.js"].insert_one({"_id": "f", "value": 1})
    source.admin.kept.drop()
    shop.a.insert_one({"_id": 1})
    assert [each.namespace for each in changes(source, since)] == ["shop.a"]
    assert not told("shop.ts", "timeseries")
    assert not told("admin.kept", "collection")
    assert not told("shop.system.js", "collection")
    assert told("shop.a", "collection")
    assert told("shop.v", "view")


@pytest.mark.parametrize(
    ("include", "added", "database"),
    [
        ((), (), ""),
        (("shop.*",), (), "shop"),
        (("shop.a", "shop.b"), (), "shop"),
        (("shop.a",), ("blog.a",), ""),
        (("sh*.a",), (), ""),
        (("admin.a",), (), ""),
    ],
)
def test_one_database_is_watched_where_only_one_is_carried(
    include: tuple[str, ...], added: tuple[str, ...], database: str
) -> None:
    assert watched(spec(include=include), added) == database
