"""A capture: the keys of what changed, and the catalogue, both as of one cluster time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.dumps.model import NeverStops
from executors.increments.capture import USERS_NOTE, capture
from executors.increments.errors import CappedCollection, CatalogueMoves, ClockStill
from executors.increments.keys import Keys
from executors.increments.log import log_parts
from executors.increments.model import Making, Parent, position_of
from executors.increments.stream import Stream, now
from executors.protocol import Stopped
from executors.survey import survey
from statemachine.effects import Effect
from statemachine.stimuli import Captured, Capturing
from statemachine.words import THE_JOB, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import Client, spec

pytestmark = pytest.mark.server
NEVER = threading.Event()
EFFECT = Effect(TaskKey(TaskKind.CAPTURE, THE_JOB), 1, 1, None, capture_bytes=64 << 20)
CARRIED = {"include": ("shop.*",), "exclude": (), "consistency": "snapshot"}


class Killed(BaseException):
    """What a `kill -9` is to the code that runs."""


@pytest.fixture
def source(pair: Pair) -> Iterator[Client]:
    client: Client = MongoClient(pair.source.uri)
    client.shop.a.insert_many([{"_id": n, "x": 0} for n in range(20)])
    client.shop.b.insert_many([{"_id": n, "x": 0} for n in range(20)])
    yield client
    client.close()


def making(client: Client, folder: Path, *, idle: bool = False, **fields: Any) -> Making:
    """A link behind a dump that was made just now; something else happens then and afterwards."""
    client.noise.a.insert_one({})
    uuids = frozenset(each.uuid for each in survey(client, spec(**CARRIED)).units if each.uuid)
    parent = Parent(
        0, "d" * 64, "d" * 64, **{"until": now(client), "token": "", "uuids": uuids, **fields}
    )
    if not idle:
        client.noise.a.insert_one({})
    return Making(parent, folder / "0001", folder / "work" / "k")


def behind(made: Making, found: Captured, client: Client) -> Making:
    """The next link."""
    uuids = frozenset(each.uuid for each in found.units if each.uuid)
    parent = Parent(
        made.parent.number + 1, "e" * 64, "d" * 64, found.cluster_time, found.token, uuids
    )
    return replace(made, parent=parent, keys=made.keys.with_name(f"k{parent.number}"))


def run(client: Client, made: Making, effect: Effect = EFFECT, **changed: Any) -> Captured:
    tell: Callable[[Capturing], None] = changed.pop("tell", lambda _: None)
    stop = changed.pop("stop", NEVER)
    return capture(client, spec(**{**CARRIED, **changed}), made, effect, stop, tell)


def keys(made: Making, client: Client) -> dict[str, list[object]]:
    """What was captured, by the collections' names of now."""
    found = Keys(made.keys)
    names = {each.uuid: each.unit for each in survey(client, spec(**CARRIED)).units}
    return {
        names.get(uuid, uuid): [
            bson.decode(each)["_id"] for each in found.between(uuid, None, None)
        ]
        for uuid in found.counts()
    }


def as_of(client: Client, time: str, name: str) -> dict[object, object]:
    """The oracle: what a collection held at a cluster time."""
    concern = {"level": "snapshot", "atClusterTime": Timestamp(*position_of(time))}
    reply = client.shop.command({"find": name, "readConcern": concern, "batchSize": 100_000})
    return {each["_id"]: each for each in reply["cursor"]["firstBatch"]}


def test_the_keys_of_all_that_changed_are_captured(source: Client, tmp_path: Path) -> None:
    """I33: of collections that the parent holds; in transactions too, and under a new name."""
    made = making(source, tmp_path)
    source.shop.a.update_one({"_id": 3}, {"$set": {"x": 1}})
    source.shop.a.delete_one({"_id": 4})
    with source.start_session() as session, session.start_transaction():
        source.shop.b.insert_one({"_id": 100}, session=session)
        source.shop.a.replace_one({"_id": 5}, {"y": 1}, session=session)
    source.shop.b.rename("c")
    source.shop.c.insert_one({"_id": 101})
    source.shop.new.insert_one({"_id": 1})
    source.blog.a.insert_one({"_id": 1})
    found = run(source, made)
    assert keys(made, source) == {"shop.a": [3, 4, 5], "shop.c": [100, 101]}
    assert [each.unit for each in found.units] == ["shop.a", "shop.c", "shop.new"]
    assert position_of(found.cluster_time) > position_of(made.parent.until)
    assert found.changes >= 8
    assert found.notes == ()


def test_links_follow_one_another_without_a_gap(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I33: while everything is written, in transactions larger than a batch too. Whatever differs
    between the ends of two links has its key in the later one."""
    monkeypatch.setattr("executors.increments.stream.BATCH_EVENTS", 7)
    end = threading.Event()

    def write() -> None:
        for n in count():
            if end.is_set():
                return
            ids = {"$in": [n % 20, (n * 7) % 20, *range(5 * (n % 3))]}
            with source.start_session() as session, session.start_transaction():
                source.shop.a.update_many(
                    {"_id": ids["$in"][0]}, {"$inc": {"x": 1}}, session=session
                )
                source.shop.b.update_many({"_id": ids}, {"$inc": {"x": 1}}, session=session)
            if n % 5 == 0:
                source.shop.a.delete_one({"_id": n % 20})
                source.shop.a.insert_one({"_id": n + 100})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = making(source, tmp_path)
        before = {name: as_of(source, made.parent.until, name) for name in "ab"}
        for _ in range(6):
            time.sleep(0.2)
            found = run(source, made)
            captured = keys(made, source)
            for name in "ab":
                there = as_of(source, found.cluster_time, name)
                ids = before[name].keys() | there.keys()
                differ = {i for i in ids if before[name].get(i) != there.get(i)}
                assert differ
                assert differ <= set(captured[f"shop.{name}"])
                before[name] = there
            made = behind(made, found, source)
    finally:
        end.set()
        writer.join()


def test_an_idle_source_still_has_a_later_time(source: Client, tmp_path: Path) -> None:
    """I32: links have times that ascend, also when nothing changed."""
    made = making(source, tmp_path, idle=True)
    found = run(source, made)
    assert position_of(found.cluster_time) > position_of(made.parent.until)
    assert keys(made, source) == {}


@pytest.mark.parametrize("lost", [False, True], ids=["there", "lost"])
def test_a_kill_between_two_tellings_costs_no_key(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """I10, I31: the next attempt goes on where the keys end; where they are lost, at the parent."""
    monkeypatch.setattr("executors.increments.capture.TELL_CHANGES", 1)
    monkeypatch.setattr("executors.increments.stream.BATCH_EVENTS", 3)
    made = making(source, tmp_path)
    effect = EFFECT
    for n in range(40):
        source.shop.a.replace_one({"_id": n}, {"x": 1}, upsert=True)
    for attempt in range(1, 5):
        told: list[Capturing] = []

        def tell(part: Capturing, told: list[Capturing] = told, attempt: int = attempt) -> None:
            told.append(part)
            if len(told) == attempt:
                raise Killed

        with suppress(Killed):
            run(source, made, effect, tell=tell)
        assert len(told) == attempt
        effect = replace(
            effect, attempt=attempt + 1, token=told[-1].token, changes=told[-1].changes
        )
    if lost:
        made.keys.unlink()
    found = run(source, made, effect)
    assert keys(made, source)["shop.a"] == list(range(40))
    assert found.changes == 40


def test_damaged_keys_are_captured_anew(source: Client, tmp_path: Path) -> None:
    made = making(source, tmp_path)
    source.shop.a.update_one({"_id": 1}, {"$set": {"x": 1}})
    told: list[Capturing] = []
    found = run(source, made, tell=told.append)
    made.keys.write_bytes(b"no database at all" * 1000)
    run(source, made, replace(EFFECT, attempt=2, token=found.token, changes=found.changes))
    assert keys(made, source)["shop.a"] == [1]


def test_a_catalogue_that_changes_meanwhile_is_read_again(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I33: what is told as the catalogue of a time is the catalogue of that time: names, UUIDs,
    indexes. The oracle replays the events of the catalogue up to that time."""
    made = making(source, tmp_path)
    end = threading.Event()
    pauses = iter([0.01] * 30)
    monkeypatch.setattr("executors.increments.capture.PAUSES_S", (0.0, *[0.4] * 20))

    def change() -> None:
        for n in count():
            if end.wait(next(pauses, 60)):
                return
            with suppress(OperationFailure):
                source.shop[f"n{n % 3}"].insert_one({"_id": n})
                source.shop[f"n{n % 3}"].create_index(f"f{n}")
                source.shop[f"n{(n + 1) % 3}"].drop()
                source.shop.a.rename(f"a{n}")
                source.shop[f"a{n}"].rename("a")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        found = run(source, made)
    finally:
        end.set()
        thread.join()
    wanted = catalogue_as_of(source, made.parent.until, found.cluster_time)
    there = {each.uuid: (each.unit, sorted(i.name for i in each.indexes)) for each in found.units}
    assert there == wanted


def catalogue_as_of(client: Client, since: str, until: str) -> dict[str, tuple[str, list[str]]]:
    """Collections by UUID with their names and indexes, from nothing but events."""
    first = client.shop.list_collections(filter={"name": {"$in": ["a", "b"]}})
    known = {bytes(each["info"]["uuid"]).hex(): (f"shop.{each['name']}", []) for each in first}
    state: dict[str, tuple[str, list[str]]] = dict(known)
    with closing(Stream(client, since)) as stream:
        goal = now(client)
        reached = "0.0"
        while position_of(reached) < position_of(goal):
            batch = stream.read(NEVER)
            reached = batch.cluster_time
            for each in batch.changes:
                if position_of(each.cluster_time) > position_of(until) or not each.raw:
                    continue
                event = bson.decode(each.raw)
                match each.kind:
                    case "create":
                        state[each.uuid] = (each.namespace, [])
                    case "drop":
                        del state[each.uuid]
                    case "rename":
                        state[each.uuid] = (each.renamed, state[each.uuid][1])
                    case "createIndexes":
                        names = [i["name"] for i in event["operationDescription"]["indexes"]]
                        state[each.uuid][1].extend(names)
    return {uuid: (name, sorted(indexes)) for uuid, (name, indexes) in state.items()}


def test_a_catalogue_that_never_stands_still_is_named(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I30: the number of looks has a limit; what is not carried may change as it likes."""
    monkeypatch.setattr("executors.increments.capture.PAUSES_S", (0.0, 0.05, 0.1))
    end = threading.Event()

    def change() -> None:
        for n in count():
            if end.is_set():
                return
            source.shop.restless.create_index(f"f{n}")
            source.shop.restless.drop_indexes()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        made = making(source, tmp_path)
        with pytest.raises(CatalogueMoves, match=r"in each of 3 looks .* shop\.restless"):
            run(source, made)
        found = run(source, made, exclude=("shop.restless",))
        assert {each.unit for each in found.units} == {"shop.a", "shop.b"}
    finally:
        end.set()
        thread.join()


def test_what_no_stream_tells_of_is_looked_at_twice(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I33: an index on a time series brings no event."""
    source.shop.create_collection("ts", timeseries={"timeField": "t"})
    made = making(source, tmp_path)
    looks = []

    def surveyed(*given: Any, **how: Any) -> object:
        found = survey(*given, **how)
        looks.append(found)
        if len(looks) == 1:
            source.shop.ts.create_index("v")
        return found

    monkeypatch.setattr("executors.increments.capture.survey", surveyed)
    found = run(source, made)
    (series,) = [each for each in found.units if each.unit == "shop.ts"]
    assert [each.name for each in series.indexes] == ["v_1"]
    assert len(looks) == 2


def test_a_collection_that_goes_while_it_is_looked_at(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the survey says of that moment counts for nothing."""
    made = making(source, tmp_path)
    looks = count()

    def surveyed(*given: Any, **how: Any) -> object:
        if next(looks) == 0:
            source.shop.b.drop()
            raise OperationFailure("ns does not exist: shop.b", 26)
        return survey(*given, **how)

    monkeypatch.setattr("executors.increments.capture.survey", surveyed)
    assert [each.unit for each in run(source, made).units] == ["shop.a"]


def test_a_survey_that_fails_by_itself_says_so(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surveyed(*given: Any, **how: Any) -> object:
        raise OperationFailure("not authorized", 13)

    made = making(source, tmp_path)
    monkeypatch.setattr("executors.increments.capture.survey", surveyed)
    source.shop.a.insert_one({"_id": "later"})
    with pytest.raises(OperationFailure, match="not authorized"):
        run(source, made)


def test_capped_collections_are_refused_by_name(source: Client, tmp_path: Path) -> None:
    made = making(source, tmp_path)
    source.shop.create_collection("ring", capped=True, size=4096)
    with pytest.raises(CappedCollection, match=r"shop\.ring") as error:
        run(source, made)
    assert "--ns-exclude 'shop.ring'" in error.value.remedy
    assert run(source, made, exclude=("shop.ring",)).units


def test_users_are_those_of_the_full_dump(source: Client, tmp_path: Path) -> None:
    """No change stream tells of them: it is said, not passed over."""
    made = making(source, tmp_path)
    source.shop.a.insert_one({"_id": "later"})
    found = run(source, made, users=True)
    assert found.notes == (USERS_NOTE,)
    assert [each.unit for each in found.units] == ["shop.a", "shop.b"]


def test_a_source_that_was_set_back_is_named(source: Client, tmp_path: Path) -> None:
    """Y9: its time is before the end of the last link."""
    seconds, _ = position_of(now(source))
    made = making(source, tmp_path, until=f"{seconds + 1000}.1")
    with pytest.raises(ClockStill, match="does not come to"):
        run(source, made)


def test_a_capture_stops(source: Client, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(source, making(source, tmp_path), stop=stop)


def test_the_log_holds_each_event_once_and_in_order(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y17: also over kills: what an attempt logs again it had dropped before."""
    monkeypatch.setattr("executors.increments.capture.TELL_CHANGES", 1)
    monkeypatch.setattr("executors.increments.stream.BATCH_EVENTS", 3)
    made = making(source, tmp_path)
    for n in range(20):
        source.shop.a.update_one({"_id": n}, {"$set": {"x": 1}})
    effect, told = EFFECT, 0

    def tell(part: Capturing) -> None:
        nonlocal effect, told
        told += 1
        effect = replace(effect, attempt=told + 1, token=part.token, changes=part.changes)
        if told % 2:
            raise Killed

    for _ in range(3):
        with suppress(Killed):
            run(source, made, effect, keep_log=True, tell=tell)
    found = run(source, made, effect, keep_log=True)
    parts = log_parts(made.folder, found.cluster_time, NeverStops())
    assert sum(part.documents for part in parts) == 20
