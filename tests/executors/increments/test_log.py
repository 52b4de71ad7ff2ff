"""The log of an increment: written through crashes, replayed to any time (I12, I17, I33)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW, as_of
from executors.chunkfile import DamagedFile, read_blocks
from executors.dumps.model import NeverStops, Part
from executors.increments import log as module
from executors.increments.errors import CannotCarry
from executors.increments.log import LOG, LogWriter, log_parts, replay
from executors.increments.logfile import time_of, token_of
from executors.increments.net import Net
from executors.increments.position import OtherPosition
from executors.protocol import Stopped
from executors.rawbson import documents, id_of
from statemachine.stimuli import Applying
from tests.conftest import Pair
from tests.executors.examples import Looks
from tests.executors.increments.hearing import Hearing
from tests.executors.increments.test_ddl import a_spec, described

JOB = "j1"
Client = MongoClient[Any]


# --- the files ---


def _event(number: int, time: int | None = None, size: int = 0) -> bytes:
    token = f"82{number:016X}"
    return bson.encode({
        "_id": {"_data": token}, "clusterTime": Timestamp(time or number, 1), "x": b"\0" * size,
    })  # fmt: skip


def _token(number: int) -> str:
    return token_of(_event(number))


def _held(folder: Path, parts: tuple[Part, ...]) -> list[int]:
    found = []
    for part in parts:
        path = folder / part.file
        assert path.stat().st_size == part.file_bytes
        rows = [row for block, _ in read_blocks(path) for row in documents(block.data)]
        assert (len(rows), sum(map(len, rows))) == (part.documents, part.bytes)
        found += [int(token_of(row), 16) - (0x82 << 64) for row in rows]
    return found


def _add(writer: LogWriter, numbers: range) -> None:
    for number in numbers:
        writer.add(_event(number))


def test_a_log_holds_what_was_added_between_since_and_until(tmp_path: Path) -> None:
    with LogWriter(tmp_path, 1, "", "3.1", file_bytes=100) as writer:
        for begin in range(1, 31, 5):
            _add(writer, range(begin, begin + 5))
            writer.flush()
    parts = log_parts(tmp_path, "22.1", NeverStops())
    assert _held(tmp_path, parts) == list(range(4, 23))
    assert len(parts) > 2
    assert log_parts(tmp_path, "22.1", NeverStops()) == parts


def test_events_of_one_transaction_stay_together(tmp_path: Path) -> None:
    """They have one cluster time."""
    with LogWriter(tmp_path, 1, "", "1.0") as writer:
        for number in range(2, 12):
            writer.add(_event(number, time=number // 3 + 1))
        writer.flush()
    assert _held(tmp_path, log_parts(tmp_path, "3.1", NeverStops())) == [2, 3, 4, 5, 6, 7, 8]


def test_no_log_has_no_parts_and_an_empty_one_has_one(tmp_path: Path) -> None:
    assert log_parts(tmp_path, "5.1", NeverStops()) == ()
    with LogWriter(tmp_path, 1, "", "1.1"):
        pass
    assert [part.documents for part in log_parts(tmp_path, "5.1", NeverStops())] == [0]


def test_a_log_through_crashes(tmp_path: Path) -> None:
    """I17: whatever was flushed and lies before the token on record is there once; what lies behind
    it is there as the last attempt brought it. Torn ends, left-over files and attempts that hang
    and go on to write change nothing."""
    for seed in range(12):
        random, folder = Random(seed), tmp_path / str(seed)
        folder.mkdir()
        on_record, hung = 0, list[tuple[LogWriter, int]]()
        for attempt in range(1, 8):
            after = _token(on_record) if on_record else ""
            writer = LogWriter(folder, attempt, after, "0.1", file_bytes=random.choice([90, 300]))
            at = on_record
            for _ in range(random.randrange(1, 6)):
                more = random.randrange(1, 6)
                _add(writer, range(at + 1, at + more + 1))
                at += more
                if random.random() < 0.7:
                    writer.flush()
                    on_record = at if random.random() < 0.7 else on_record
                for other, there in hung:
                    with suppress(OSError):
                        _add(other, range(there + 1, there + 4))
                        other.flush()
            hung.append((writer, at))
            _tear(folder, random)
        with LogWriter(folder, 9, _token(on_record) if on_record else "", "0.1") as writer:
            _add(writer, range(on_record + 1, on_record + 10))
            writer.flush()
        for other, there in hung:
            _add(other, range(there + 1, there + 4))
            other.flush()
            other.__exit__()
        end = on_record + random.randrange(1, 12)
        expected = list(range(1, min(end, on_record + 9) + 1))
        assert _held(folder, log_parts(folder, f"{end}.1", NeverStops())) == expected, seed


def _tear(folder: Path, random: Random) -> None:
    """A torn block at the end of the newest file: what a power cut may leave."""
    newest = max((folder / LOG).glob("*.flb"), key=lambda path: path.stat().st_mtime_ns)
    if random.random() < 0.5:
        with newest.open("ab") as file:
            file.write(random.choice([b"\0" * 30, b"FLB1" + b"\1" * 10]))
    if random.random() < 0.3:
        (folder / LOG / "000002-1.flb.tmp").write_bytes(b"x")


def test_a_log_that_is_not_in_order_is_refused(tmp_path: Path) -> None:
    with LogWriter(tmp_path, 1, "", "0.1") as writer:
        _add(writer, range(1, 3))
        _add(writer, range(1, 3))
        writer.flush()
    with pytest.raises(DamagedFile, match="follow one another"):
        log_parts(tmp_path, "9.1", NeverStops())


def test_a_long_log_is_read_under_a_stop_token(tmp_path: Path) -> None:
    """At each block there is a sign of life, and a stop is heard; also while it is cut."""
    with LogWriter(tmp_path, 1, "", "0.1") as writer:
        for number in range(1, 9):
            _add(writer, range(number, number + 1))
            writer.flush()
    looks = Looks()
    whole = log_parts(tmp_path, "9.1", looks)
    assert looks.taken == 8
    for until in ("9.1", "8.0"):
        for most in range(8):
            with pytest.raises(Stopped):
                log_parts(tmp_path, until, Looks(most))
        assert log_parts(tmp_path, "9.1", Looks()) == whole
    assert _held(tmp_path, log_parts(tmp_path, "8.0", Looks())) == list(range(1, 8))


# --- the replay ---


def _state(client: Client) -> dict[str, dict[bytes, bytes]]:
    """Every document, and what collections are."""
    found: dict[str, Any] = {"catalogue": described(client)}
    for name, (entry, _) in found["catalogue"].items():
        if entry["type"] == "collection":
            database, collection = name.split(".", 1)
            found[name] = _documents(client, database, {"find": collection})
    return found


def _documents(client: Client, database: str, command: dict[str, Any]) -> dict[bytes, bytes]:
    reply = client[database].command({**command, "batchSize": 100_000}, codec_options=RAW)
    rows = [bytes(row.raw) for row in reply["cursor"]["firstBatch"]]
    return {id_of(row): row for row in rows}


class Workload:
    """Random changes, one after another; what stood after each, by cluster time."""

    def __init__(self, client: Client, random: Random) -> None:
        self.client, self._random = client, random
        self.times: list[str] = []
        self.states: list[dict[str, Any]] = []

    def step(self) -> None:
        doing = self._random.choice(self._doings())
        with suppress(OperationFailure):
            doing()
        now = self.client.admin.command("ping")["operationTime"]
        self.times.append(f"{now.time}.{now.inc}")
        self.states.append(_state(self.client))

    def _doings(self) -> list[Callable[[], Any]]:
        many = [
            self._insert,
            self._update,
            self._replace,
            self._delete,
            self._transaction,
            self._swap,
        ]
        few = [self._create, self._index, self._unindex, self._modify, self._rename, self._retype]
        rare = [self._drop, self._out, self._drop_database, self._view]
        return [*many * 3, *few, *rare]

    def _name(self) -> str:
        return self._random.choice("abc")

    def _database(self) -> Any:
        return self.client[self._random.choice(["w", "w", "w2"])]

    def _collection(self) -> Any:
        return self._database()[self._name()]

    def _key(self) -> Any:
        return self._random.choice([*range(6), 1.0, Int64(2), "a", "A", "ä"])

    def _document(self) -> dict[str, Any]:
        random = self._random
        values: list[Any] = [
            1, 2.5, "text" * random.randrange(20), None, [1, {"y": 2}, 3], {"y": {"z": [1, 2]}},
            Timestamp(0, 0), {"$set": 1},
        ]  # fmt: skip
        names = random.sample(["p", "q", "r", "s"], random.randrange(4))
        return {"u": random.randrange(8), **{name: random.choice(values) for name in names}}

    def _insert(self) -> None:
        new = [
            {"_id": self._key(), **self._document()} for _ in range(self._random.randrange(1, 8))
        ]
        self._collection().insert_many(new, ordered=False)

    def _update(self) -> None:
        random = self._random
        change = random.choice([
            {"$set": self._document()}, {"$unset": {"p": "", "q.y": ""}}, {"$inc": {"u": 1}},
            {"$push": {"p": {"$each": [1, {"y": 1}], "$slice": -4}}}, {"$pop": {"p": 1}},
            {"$set": {"q.y.z": 5, "p.1": [7]}}, [{"$set": {"r": {"$literal": self._document()}}}],
            [{"$unset": "s"}, {"$set": {"q": {"$concatArrays": [["x"], "$p"]}}}],
            {"$rename": {"p": "q"}},
        ])  # fmt: skip
        self._collection().update_many({"u": {"$lt": random.randrange(9)}}, change)

    def _replace(self) -> None:
        self._collection().replace_one({"_id": self._key()}, self._document(), upsert=True)

    def _delete(self) -> None:
        self._collection().delete_many({"u": self._random.randrange(8)})

    def _transaction(self) -> None:
        with self.client.start_session() as session, session.start_transaction():
            for _ in range(3):
                key, collection = self._key(), self._collection()
                collection.delete_one({"_id": key}, session=session)
                collection.insert_one({"_id": key, **self._document()}, session=session)
                collection.update_one({"_id": key}, {"$inc": {"n": 1}}, session=session)

    def _swap(self) -> None:
        """Two documents exchange what is unique in one of them each."""
        collection = self._collection()
        found = list(collection.find({"u": {"$exists": True}}, {"u": 1}).limit(2))
        if len(found) < 2:
            return
        one, other = found
        for key, value in ((one, 100), (other, one["u"]), (one, other["u"])):
            collection.update_one({"_id": key["_id"]}, {"$set": {"u": value}})

    def _retype(self) -> None:
        collection = self._collection()
        collection.delete_one({"_id": 1})
        collection.insert_one({"_id": self._random.choice([1, 1.0, Int64(1)])})

    def _create(self) -> None:
        options: dict[str, Any] = self._random.choice([
            {}, {"collation": {"locale": "en", "strength": 2}}, {"validator": {"u": {"$lt": 5}}},
            {"clusteredIndex": {"key": {"_id": 1}, "unique": True}},
        ])  # fmt: skip
        self._database().command({"create": self._name(), **options})

    def _index(self) -> None:
        unique = self._random.random() < 0.7
        self._collection().create_index([("u", 1)], name="u", unique=unique)

    def _unindex(self) -> None:
        self._collection().drop_index("u")

    def _modify(self) -> None:
        self._database().command({"collMod": self._name(), "validator": {"q": {"$ne": 1}}})

    def _rename(self) -> None:
        drop = self._random.random() < 0.5
        names = [f"{self._database().name}.{self._name()}" for _ in range(2)]
        self.client.admin.command("renameCollection", names[0], to=names[1], dropTarget=drop)

    def _drop(self) -> None:
        self._collection().drop()

    def _out(self) -> None:
        self._collection().aggregate([{"$match": {"u": {"$gt": 2}}}, {"$out": self._name()}])

    def _drop_database(self) -> None:
        self.client.drop_database("w2")

    def _view(self) -> None:
        self._database().command({"create": "v", "viewOn": self._name(), "pipeline": []})


def _written(folder: Path, events: list[bytes], since: str, until: str) -> tuple[Part, ...]:
    folder.mkdir()
    random = Random(len(events))
    with LogWriter(folder, 1, "", since, file_bytes=2000) as writer:
        for event in events:
            writer.add(event)
            if random.random() < 0.1:
                writer.flush()
        writer.flush()
    return log_parts(folder, until, NeverStops())


def _opened(client: Client) -> None:
    """As whoever begins with a link does."""
    client["ferrylog"]["position"].replace_one({"_id": JOB}, {"link": 1}, upsert=True)


def _replay(
    client: Client, folder: Path, parts: tuple[Part, ...], until: str, stop: Any = None
) -> Iterator[Applying]:
    return replay(client, a_spec(), JOB, folder, parts, until, stop or NeverStops())


def _now(client: Client) -> str:
    now = client.admin.command("ping")["operationTime"]
    return f"{now.time}.{now.inc}"


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_leads_to_what_the_source_was(pair: Pair, tmp_path: Path, seed: int) -> None:
    """I12, I33: at any time between two links, collections, indexes and documents are to the byte
    as they were; from there, the log of the next link goes on."""
    random, hearing = Random(seed), Hearing(pair.source_client)
    workload, since = Workload(pair.source_client, random), _now(pair.source_client)
    for _ in range(60):
        workload.step()
    events = hearing.events()
    for n, at in enumerate(sorted(random.sample(range(60), 3))):
        until = workload.times[at]
        parts = _written(tmp_path / str(n), events, since, until)
        _opened(pair.target_client)
        (*_, last) = _replay(pair.target_client, tmp_path / str(n), parts, until)
        assert last.position == sum(part.file_bytes for part in parts)
        assert _state(pair.target_client) == workload.states[at], at
        since = until


class Killed(Exception):
    pass


class StopsSoon:
    """Says stop after so many looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0


@pytest.mark.parametrize("seed", range(10, 12))
def test_a_replay_that_is_killed_again_and_again(
    pair: Pair, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: at every command, behind every yield, between what is written and the word that it is;
    the end is the same, and progress on record never goes back."""
    random, hearing = Random(seed), Hearing(pair.source_client)
    workload, since = Workload(pair.source_client, random), _now(pair.source_client)
    for _ in range(40):
        workload.step()
    until = workload.times[-1]
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    reached = module._Replayer._reached

    def sometimes(self: Any, mark: Any) -> None:
        if random.random() < 0.2:
            raise Killed
        reached(self, mark)

    monkeypatch.setattr(module._Replayer, "_reached", sometimes)
    position, attempts = 0, 0
    while position < sum(part.file_bytes for part in parts):
        attempts += 1
        told = _replay(
            pair.target_client, tmp_path / "log", parts, until, StopsSoon(random.randrange(1, 30))
        )
        with suppress(Stopped, Killed):
            for each in told:
                assert each.position >= position
                position = each.position
                if random.random() < 0.3:
                    break
    assert attempts > 5
    assert _state(pair.target_client) == workload.states[-1]


def test_a_replay_to_any_event_is_the_snapshot_of_then(pair: Pair, tmp_path: Path) -> None:
    """Times within one bulk write, too."""
    client = pair.source_client
    client.w.command({"create": "a"})
    hearing, since, random = Hearing(client), _now(client), Random(5)
    workload = Workload(client, random)
    workload._collection = lambda: client.w.a  # type: ignore[method-assign]
    for _ in range(30):
        with suppress(OperationFailure):
            random.choice([workload._insert, workload._update, workload._delete])()
    events = hearing.events()
    times = [f"{at}.{n}" for at, n in sorted({time_of(event) for event in events})]
    pair.target_client.w.command({"create": "a"})
    for n, until in enumerate(sorted(random.sample(range(len(times)), 8))):
        parts = _written(tmp_path / str(n), events, since, times[until])
        _opened(pair.target_client)
        list(_replay(pair.target_client, tmp_path / str(n), parts, times[until]))
        then = {"find": "a", "readConcern": as_of(times[until])}
        assert _documents(pair.target_client, "w", {"find": "a"}) == _documents(client, "w", then)
        since = times[until]


def test_documents_in_one_anothers_way(pair: Pair, tmp_path: Path) -> None:
    """I33: in net form two documents have exchanged what is unique: neither can be first."""
    for client in (pair.source_client, pair.target_client):
        client.w.a.create_index([("u", 1)], unique=True)
        client.w.a.insert_many([{"_id": n, "u": n} for n in range(4)])
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    for key, value in ((0, 9), (1, 0), (2, 1), (0, 2), (3, 30)):
        pair.source_client.w.a.update_one({"_id": key}, {"$set": {"u": value}})
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    list(_replay(pair.target_client, tmp_path / "log", parts, until))
    assert _state(pair.target_client) == _state(pair.source_client)


def test_empty_timestamps_stay_empty(pair: Pair, tmp_path: Path) -> None:
    """Servers fill them in when they insert, and the replay inserts what the source updated."""
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    pair.source_client.w.a.insert_one({"_id": 1})
    pair.source_client.w.a.update_one({}, [{"$set": {"t": {"$literal": Timestamp(0, 0)}}}])
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    list(_replay(pair.target_client, tmp_path / "log", parts, until))
    assert pair.target_client.w.a.find_one() == {"_id": 1, "t": Timestamp(0, 0)}
    assert _state(pair.target_client) == _state(pair.source_client)


def test_names_that_go_round_through_a_crash_behind_each_change(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: each change may come again right after itself, and never later, when its names mean
    other collections."""
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    for number, names in enumerate(["a", "ab", "a", "bc", "ab", "ca", "bc", "ab", "a"]):
        if names == "a":
            pair.source_client.w.command({"create": "a", "validator": {"x": number}})
        else:
            old, new = (f"w.{name}" for name in names)
            pair.source_client.admin.command("renameCollection", old, to=new)
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    reached, killed = module._Replayer._reached, set[int]()

    def but_once(self: Any, mark: Any) -> None:
        if mark.events not in killed:
            killed.add(mark.events)
            raise Killed
        reached(self, mark)

    monkeypatch.setattr(module._Replayer, "_reached", but_once)
    while True:
        with suppress(Killed):
            list(_replay(pair.target_client, tmp_path / "log", parts, until))
            break
    assert len(killed) == sum(part.documents for part in parts)
    assert _state(pair.target_client) == _state(pair.source_client)


def test_large_documents_go_a_few_at_a_time(pair: Pair, tmp_path: Path) -> None:
    """What one command may hold bounds what is held."""
    for client in (pair.source_client, pair.target_client):
        client.w.a.insert_many([{"_id": n, "x": "x" * (3 << 20)} for n in range(12)])
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    pair.source_client.w.a.update_many({}, {"$set": {"y": 1}})
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    (*_, last) = _replay(pair.target_client, tmp_path / "log", parts, until)
    assert (last.documents, last.erased) == (12, 0)
    assert _state(pair.target_client) == _state(pair.source_client)


def test_a_capped_collection_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    pair.source_client.w.command({"create": "a", "capped": True, "size": 4096})
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    _opened(pair.target_client)
    with pytest.raises(CannotCarry, match=r"w\.a.*capped"):
        list(_replay(pair.target_client, tmp_path / "log", parts, until))


def test_a_target_without_a_position_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Nobody knows what it holds, then."""
    hearing, since = Hearing(pair.source_client), _now(pair.source_client)
    pair.source_client.w.a.insert_one({"_id": 1})
    until = _now(pair.source_client)
    parts = _written(tmp_path / "log", hearing.events(), since, until)
    with pytest.raises(OtherPosition):
        list(_replay(pair.target_client, tmp_path / "log", parts, until))


def test_an_update_of_what_is_gone_is_refused() -> None:
    """No server tells of one: the log is not what was written."""
    net = Net()
    net.replace(None)
    with pytest.raises(ValueError, match="removed"):
        net.update(bson.encode({"u": {"x": 1}}))


def test_an_event_of_another_form_is_refused(pair: Pair, tmp_path: Path) -> None:
    event = {
        **bson.decode(_event(5)), "operationType": "insert", "ns": {"db": "w", "coll": "a"},
        "documentKey": {"_id": 1},
    }  # fmt: skip
    parts = _written(tmp_path / "log", [bson.encode(event)], "1.1", "9.1")
    _opened(pair.target_client)
    with pytest.raises(ValueError, match="fullDocument"):
        list(_replay(pair.target_client, tmp_path / "log", parts, "9.1"))
