"""Source to target without a file (A1): what was acknowledged is told, and not copied again."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from executors.boundaries import to_key
from executors.clients import connect
from executors.copy import copy
from executors.dispatch import MongoExecutor
from executors.ends import Ends
from executors.errors import OtherCollection
from executors.protocol import Stopped
from executors.rejected import rejected_documents
from executors.write import Conflict
from ferrylog.embedded import Mongod
from statemachine.effects import Effect
from statemachine.state import Chunk, Done, Unit
from statemachine.stimuli import Copied, Failed, Progressed, Succeeded
from statemachine.words import Cause, ChunkId, Key, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, fill, spec, there, unit_of
from tests.executors.test_ranges import CLUSTERED, KINDS, SHARES, as_documents, bad_utf8, mixed

pytestmark = pytest.mark.server

BATCH = 1000
"""Documents of a block where nobody knows their size."""


def key(value: Any) -> Key:
    return to_key(bson.encode({"_id": value}))


class Bench:
    """Two servers and a folder to copy between."""

    def __init__(self, source: Client, target: Client, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.stop = threading.Event()
        self.told: list[Copied] = []

    def unit(self) -> Unit:
        return unit_of(self.source)

    def fill(self, documents: list[Any]) -> None:
        self.source.shop.c.insert_many(documents)

    def run(
        self,
        chunk: Chunk | None = None,
        tell: Callable[[Copied], None] | None = None,
        **changes: Any,
    ) -> Copied:
        unit = self.unit()
        return copy(
            self.source,
            self.target,
            unit,
            chunk or chunk_of(unit),
            spec(**changes),
            self.folder,
            self.stop,
            tell or self.told.append,
        )

    def rejected(self) -> list[bytes]:
        unit = self.unit()
        return list(rejected_documents(self.folder, unit.id, ChunkId(f"{unit.id}#0")))


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.source_client, pair.target_client, tmp_path)


# --- everything arrives ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_type_of_key_arrives(bench: Bench, name: str) -> None:
    """I22, for each type of `_id`, twice: what is there already is found present."""
    documents = as_documents(KINDS[name](SHARES.get(name, 100)))
    bench.fill(documents)

    first, again = bench.run(), bench.run()

    n = len(documents)
    assert there(bench.target) == there(bench.source)
    assert (first.position, first.documents, first.present, first.rejected) == (n, n, 0, 0)
    assert (again.position, again.documents, again.present, again.rejected) == (n, n, n, 0)


@pytest.mark.parametrize("options", [{}, CLUSTERED, {"collation": {"locale": "sv"}}])
def test_all_types_together(bench: Bench, options: dict[str, Any]) -> None:
    """I22, I31: block by block; the last keys are those of the server's own order."""
    bench.source.shop.create_collection("c", **options)
    bench.target.shop.create_collection("c", **options)
    fill(bench.source, [*as_documents(mixed(3_500)), *map(bad_utf8, range(5))])

    result = bench.run()

    mine = there(bench.source)
    assert there(bench.target) == mine
    assert result.bytes == sum(map(len, mine))
    assert len(bench.told) >= 4
    for part in bench.told:
        last = RawBSONDocument(mine[part.position - 1])
        assert part.last_key == to_key(_id_only(last))
    assert bench.told[-1] == result


def _id_only(document: RawBSONDocument) -> bytes:
    """`{_id}` by the bytes before field `n`, or all of a document that has nothing else."""
    raw = bytes(document.raw)
    end = raw.rfind(b"\x10n\0")
    if end < 0:
        return raw
    body = raw[4:end]
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


def test_a_range_of_many(bench: Bench) -> None:
    """I21: from the lower edge, included, to the upper, not included."""
    bench.fill([{"_id": n} for n in range(100)])
    result = bench.run(chunk_of(bench.unit(), key(10), key(30)))
    assert there(bench.target) == [bson.encode({"_id": n}) for n in range(10, 30)]
    assert (result.position, result.last_key) == (20, key(29))


def test_an_empty_range_is_a_success(bench: Bench) -> None:
    bench.fill([{"_id": 1}])
    result = bench.run(chunk_of(bench.unit(), key(5), key(9)))
    assert result == Copied(0, None, 0, 0, 0, 0)
    assert bench.told == []


def test_an_empty_timestamp_arrives_as_it_is(bench: Bench) -> None:
    """I22: what a server would fill in."""
    bench.fill([{"_id": 1, "at": 1}])
    bench.source.shop.c.update_one({"_id": 1}, {"$set": {"at": Timestamp(0, 0)}})
    bench.run()
    assert there(bench.target) == there(bench.source)


# --- insertion order ------------------------------------------------------------------------------


def capped(bench: Bench) -> Chunk:
    for client in (bench.source, bench.target):
        client.shop.create_collection("c", capped=True, size=1 << 20)
    bench.fill([{"_id": (n * 7919) % 3_000} for n in range(3_000)])
    return chunk_of(bench.unit(), natural=True)


def test_a_capped_collection_keeps_its_order(bench: Bench) -> None:
    """Nothing is told before the end: there is no key to go on at."""
    result = bench.run(capped(bench))
    assert list(bench.target.shop.c.find()) == list(bench.source.shop.c.find())
    assert (result.documents, result.last_key) == (3_000, None)
    assert bench.told == []


def test_a_capped_collection_begins_anew(bench: Bench) -> None:
    """I22: after a stop in the middle, with counts that begin from nothing."""
    chunk = capped(bench)
    bench.target.shop.c.insert_many(list(bench.source.shop.c.find().limit(1_500)))
    chunk.done = Done(1_000, 1_000, 9, 9, 9, key(1))
    result = bench.run(chunk)
    assert list(bench.target.shop.c.find()) == list(bench.source.shop.c.find())
    assert (result.documents, result.present, result.rejected) == (3_000, 1_500, 0)


# --- going on -------------------------------------------------------------------------------------


def done(part: Copied) -> Done:
    """As the journal keeps it."""
    return Done(
        part.position, part.documents, part.bytes, part.present, part.rejected, part.last_key
    )


def stopped(bench: Bench, after: int) -> Copied:
    """The last news of a copy that was stopped behind so many blocks."""

    def tell(part: Copied) -> None:
        bench.told.append(part)
        if len(bench.told) == after:
            bench.stop.set()

    with pytest.raises(Stopped):
        bench.run(tell=tell)
    bench.stop.clear()
    return bench.told[-1]


def test_it_goes_on_behind_the_last_key(bench: Bench) -> None:
    """I17, I31: what was acknowledged is there and is not sent again; the sums go on."""
    bench.fill(as_documents(mixed(5_000)))
    mine = there(bench.source)
    part = stopped(bench, 2)
    assert part.position == 2 * BATCH
    assert there(bench.target) == mine[: part.position]
    bench.target.shop.c.delete_many({})

    result = bench.run(chunk_of(bench.unit(), done=done(part)))

    assert there(bench.target) == mine[part.position :]
    assert (result.position, result.documents, result.present) == (5_000, 5_000, 0)
    assert result.bytes == sum(map(len, mine))


def test_the_last_key_may_be_gone(bench: Bench) -> None:
    """Strictly behind it, whether or not it is still there."""
    bench.fill([{"_id": n} for n in range(3_000)])
    part = stopped(bench, 1)
    assert part.last_key == key(999)
    bench.source.shop.c.delete_one({"_id": 999})
    result = bench.run(chunk_of(bench.unit(), done=done(part)))
    assert result.position == 3_000
    assert len(there(bench.target)) == 3_000


def test_what_was_not_told_is_found_present(bench: Bench) -> None:
    """I16: killed between the insert and its event."""
    bench.fill([{"_id": n} for n in range(3_000)])
    first = stopped(bench, 2)
    told = bench.told[0]
    assert first.position == 2_000
    result = bench.run(chunk_of(bench.unit(), done=done(told)))
    assert (result.documents, result.present) == (3_000, 1_000)
    assert there(bench.target) == there(bench.source)


def test_at_the_end_only_the_sums_are_told(bench: Bench) -> None:
    bench.fill([{"_id": n} for n in range(10)])
    last = bench.run()
    bench.target.shop.c.delete_many({})
    assert bench.run(chunk_of(bench.unit(), done=done(last))) == last
    assert there(bench.target) == []


def test_another_collection_of_that_name(bench: Bench) -> None:
    bench.fill([{"_id": 1}])
    unit = bench.unit()
    bench.source.shop.c.drop()
    bench.fill([{"_id": 2}])
    with pytest.raises(OtherCollection):
        copy(
            bench.source,
            bench.target,
            unit,
            chunk_of(unit),
            spec(),
            bench.folder,
            bench.stop,
            print,
        )
    assert there(bench.target) == []


# --- what the target refuses ----------------------------------------------------------------------


def test_a_unique_index_rejects_by_name(bench: Bench) -> None:
    """P10: each is named, and lies durable in the folder before it is counted."""
    bench.target.shop.c.create_index("e", unique=True)
    bench.fill([{"_id": n, "e": n // 2} for n in range(2_500)])
    durable: list[tuple[int, int]] = []

    def tell(part: Copied) -> None:
        bench.told.append(part)
        durable.append((part.rejected, len(bench.rejected())))

    result = bench.run(tell=tell)

    odd = [bson.encode({"_id": n, "e": n // 2}) for n in range(1, 2_500, 2)]
    assert (result.position, result.documents, result.rejected) == (2_500, 1_250, 1_250)
    assert durable == [(500, 500), (1_000, 1_000), (1_250, 1_250)]
    assert bench.rejected() == odd
    named = [each for part in bench.told for each in part.rejections]
    assert [each.key for each in named] == [key(n) for n in range(1, 2_500, 2)]
    assert {each.code for each in named} == {"EMONGO11000"}
    assert result.rejections == ()


def test_rejected_again_it_lies_there_once(bench: Bench) -> None:
    bench.target.shop.c.create_index("e", unique=True)
    bench.fill([{"_id": n, "e": 1} for n in range(3)])
    assert bench.run().rejected == bench.run().rejected == 2
    assert bench.rejected() == [bson.encode({"_id": n, "e": 1}) for n in (1, 2)]


@pytest.mark.parametrize("policy", ["skip", "overwrite", "stop"])
def test_on_conflict(bench: Bench, policy: str) -> None:
    bench.fill([{"_id": n, "v": "new"} for n in range(4)])
    bench.target.shop.c.insert_many([{"_id": 1, "v": "old"}, {"_id": 2, "v": "new"}])
    before = {1: "old", 2: "new"}
    if policy == "stop":
        with pytest.raises(Conflict):
            bench.run(on_conflict=policy)
        assert bench.told == []
        return
    result = bench.run(on_conflict=policy)
    found = {each["_id"]: each["v"] for each in bench.target.shop.c.find()}
    if policy == "skip":
        assert found == {0: "new", **before, 3: "new"}
        assert (result.documents, result.present, result.rejected) == (3, 1, 1)
        assert bench.rejected() == [bson.encode({"_id": 1, "v": "new"})]
    else:
        assert set(found.values()) == {"new"}
        assert (result.documents, result.present, result.rejected) == (4, 1, 0)


# --- as an effect ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moody_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A target that can be told to fail."""
    options = ("--setParameter", "enableTestCommands=1")
    with Mongod(tmp_path_factory.mktemp("moody") / "db", name="moody", options=options) as mongod:
        yield mongod


def run_effect(
    pair: Pair, target: str, folder: Path, chunk: Chunk, unit: Unit
) -> tuple[Any, list[Progressed]]:
    source, other = connect("source", pair.source.uri), connect("target", target)
    told: list[Progressed] = []
    try:
        executor = MongoExecutor(Ends(source=source, target=other), spec(mode="direct"), folder)
        effect = Effect(TaskKey(TaskKind.COPY, chunk.id), 2, 3, unit=unit, chunk=chunk)
        return executor.run(effect, threading.Event(), told.append), told
    finally:
        source.close()
        other.close()


def test_progress_is_told_block_by_block(pair: Pair, bench: Bench, tmp_path: Path) -> None:
    bench.fill([{"_id": n} for n in range(2_500)])
    unit = bench.unit()
    outcome, told = run_effect(pair, pair.target.uri, tmp_path, chunk_of(unit), unit)
    assert [each.result.documents for each in told] == [1_000, 2_000, 2_500]
    assert {(each.attempt, each.epoch) for each in told} == {(2, 3)}
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Copied)
    assert outcome.result.documents == 2_500


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (16500, Cause.UNAVAILABLE),
        (11602, Cause.UNAVAILABLE),
        (112, Cause.TRANSIENT),
        (14031, Cause.FATAL),
    ],
)
@pytest.mark.parametrize("where", ["errorCode", "writeConcernError"])
def test_no_document_is_rejected_for_the_target(
    pair: Pair,
    bench: Bench,
    moody_server: Mongod,
    tmp_path: Path,
    code: int,
    cause: Cause,
    where: str,
) -> None:
    """P10: a target that throttles, fails over or is full refuses nobody by name."""
    bench.fill([{"_id": n} for n in range(10)])
    unit = bench.unit()
    failure = code if where == "errorCode" else {"code": code, "errmsg": "no"}
    with Client(moody_server.uri) as client:
        client.drop_database("shop")
        data = {"failCommands": ["insert"], "appName": "ferrylog", where: failure}
        point = {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data}
        client.admin.command(point)
        outcome, told = run_effect(pair, moody_server.uri, tmp_path, chunk_of(unit), unit)
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        assert isinstance(outcome, Failed)
        assert outcome.cause is cause
        assert told == []
        assert not (tmp_path / "rejected").exists()

        again, _ = run_effect(pair, moody_server.uri, tmp_path, chunk_of(unit), unit)
        assert isinstance(again, Succeeded)
        assert there(client) == there(bench.source)
