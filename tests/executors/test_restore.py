"""Chunk file to target: what lies there already is compared, never assumed (P3, I17, I22, I24)."""

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import Block
from executors.boundaries import to_key
from executors.chunkfile import DamagedFile, Written, write_chunk_file
from executors.clients import connect
from executors.dispatch import MongoExecutor
from executors.ends import Ends
from executors.protocol import Stopped
from executors.rawbson import Slab
from executors.restore import restore
from executors.write import Conflict, CountsDisagree
from ferrylog.embedded import Mongod
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Done, Unit
from statemachine.stimuli import Failed, FileDamaged, Outcome, Progressed, Restored, Succeeded
from statemachine.words import BsonText, Cause, ChunkId, TaskKey, TaskKind, UnitId
from tests.conftest import Pair
from tests.executors.examples import Looks
from tests.program import ferrylog
from tests.statemachine.examples import SPEC

pytestmark = pytest.mark.server

FERRYLOG = Path(sys.executable).with_name("ferrylog")
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
Client = MongoClient[Any]
UNIT = Unit(
    id=UnitId("shop.c"),
    target="shop.c",
    type="collection",
    uuid="",
    options=BsonText("{}"),
    indexes=(),
    documents_estimate=0,
    bytes_estimate=0,
)


def spec(**changes: Any) -> JobSpec:
    return SPEC.model_copy(update=changes)


def document(**fields: Any) -> bytes:
    return bson.encode(fields)


def raw(*elements: tuple[int, bytes, bytes]) -> bytes:
    """A document put together by hand: type, name, value."""
    body = b"".join(b"%c%b\0%b" % element for element in elements)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def target_of(client: Client) -> list[bytes]:
    found = client.shop.get_collection("c", codec_options=RAW).find({}).hint("_id_")
    return [bytes(each.raw) for each in found]


class Bench:
    """A target, and chunk files to restore to it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.stop = threading.Event()

    def chunk(self, documents: Sequence[bytes], *, block: int = 1000) -> Chunk:
        """A chunk with its file, `block` documents to a block."""
        blocks = (
            Block(b"".join(documents[at : at + block]), len(documents[at : at + block]))
            for at in range(0, len(documents), block)
        )
        return chunk_of(write_chunk_file(self.folder / "0-1.flb", blocks, "zstd"))

    def run(self, chunk: Chunk, **changes: Any) -> list[Restored]:
        return list(self.iterate(chunk, **changes))

    def iterate(self, chunk: Chunk, **changes: Any) -> Iterator[Restored]:
        assert chunk.file is not None
        path = self.folder / chunk.file.name
        return restore(self.client, UNIT, chunk, spec(**changes), path, self.folder, self.stop)

    def send(self, *documents: bytes, **changes: Any) -> Restored:
        """The last news of a restore of these documents."""
        return self.run(self.chunk(documents), **changes)[-1]

    def there(self) -> list[bytes]:
        return target_of(self.client)


def chunk_of(written: Written, done: Done | None = None) -> Chunk:
    file = ChunkFile(
        "0-1.flb", written.documents, written.bytes, written.file_bytes, written.sha256
    )
    return Chunk(
        ChunkId("shop.c#0"),
        UnitId("shop.c"),
        lower=None,
        upper=None,
        documents=written.documents,
        natural=False,
        file=file,
        done=done or Done(),
    )


@pytest.fixture
def bench(pair: Pair, tmp_path: Path) -> Bench:
    return Bench(pair.target_client, tmp_path)


# --- documents that are there already -------------------------------------------------------------

KEYS: dict[str, Any] = {
    "objectid": ObjectId(b"123456789012"),
    "int32": 7,
    "int64": Int64(2**40),
    "double": 1.5,
    "nan": float("nan"),
    "negative zero": -0.0,
    "infinity": float("-inf"),
    "string with nul": "a\0b",
    "empty string": "",
    "date": DatetimeMS(1_600_000_000_000),
    "date before 1970": DatetimeMS(-1),
    "date beyond year 9999": DatetimeMS(253_402_300_800_000),
    "last date of all": DatetimeMS(2**63 - 1),
    "binary": Binary(b"\0\1", 0),
    "old binary": Binary(b"\0\1", 2),
    "uuid": Binary(b"u" * 16, 4),
    "broken uuid": Binary(b"u", 4),
    "old uuid": Binary(b"u" * 16, 3),
    "own binary": Binary(b"u", 128),
    "bool": True,
    "null": None,
    "embedded": {"a": 1, "b": {"c": [1, None]}},
    "empty embedded": {},
    "empty name": {"": 1},
    "dotted name": {"a.b": 1},
    "reference": {"$ref": "a", "$id": 1},
    "decimal": Decimal128("1.30"),
    "decimal nan": Decimal128("NaN"),
    "timestamp": Timestamp(5, 1),
    "zero timestamp": Timestamp(0, 0),
    "code": Code("f()"),
    "scoped code": Code("f()", {"x": 1}),
    "min key": MinKey(),
    "max key": MaxKey(),
}
ODD_KEYS = {
    "string that is no utf-8": raw((0x02, b"_id", b"\x03\0\0\0\xff\xfe\0")),
    "name that is no utf-8": raw((0x03, b"_id", raw((0x10, b"\xff", b"\1\0\0\0")))),
    "name twice": raw((0x03, b"_id", raw((0x10, b"a", b"\1\0\0\0"), (0x10, b"a", b"\2\0\0\0")))),
    "symbol": raw((0x0E, b"_id", b"\2\0\0\0a\0")),
    "pointer": raw((0x0C, b"_id", b"\2\0\0\0a\0" + b"x" * 12)),
}


@pytest.mark.parametrize("name", [*KEYS, *ODD_KEYS])
def test_sent_again_it_is_counted_as_present(bench: Bench, name: str) -> None:
    """I16, I22: a restore done twice leaves the target as done once, for each type of `_id`."""
    sent = ODD_KEYS.get(name) or document(_id=KEYS[name], n=1)

    first, again = bench.send(sent), bench.send(sent)

    assert (first.documents, first.present, first.rejected) == (1, 0, 0)
    assert (again.documents, again.present, again.rejected) == (1, 1, 0)
    assert bench.there() == [sent]


def test_a_file_half_of_which_is_there(bench: Bench) -> None:
    """I22: present and new documents in one block, more than are compared in one query."""
    documents = [document(_id=n, pad="x" * (n % 30)) for n in range(5_000)]
    bench.client.shop.c.insert_many([RawBSONDocument(d) for d in documents[::2]])

    news = bench.run(bench.chunk(documents, block=2_500))

    assert [(n.documents, n.present) for n in news] == [(2_500, 1_250), (5_000, 2_500)]
    assert bench.there() == documents


DIFFERENT = {
    "other content": (document(_id=1, v="old"), document(_id=1, v="new")),
    "double for int32": (document(_id=1, v="same"), document(_id=1.0, v="same")),
    "int64 for double": (document(_id=1.0, v="same"), document(_id=Int64(1), v="same")),
    "int32 for decimal": (document(_id=Decimal128("1.0"), v=1), document(_id=1, v=1)),
    "nan": (document(_id=Decimal128("NaN"), v=1), document(_id=float("nan"), v=1)),
    "negative zero": (document(_id=0, v=1), document(_id=-0.0, v=1)),
    "far date": (document(_id=DatetimeMS(2**60), v=1), document(_id=DatetimeMS(2**60), v=2)),
    "other order": (document(_id=1, a=1, b=2), document(_id=1, b=2, a=1)),
}


@pytest.mark.parametrize(("lying", "sent"), DIFFERENT.values(), ids=DIFFERENT)
class TestAnotherDocumentUnderTheSameKey:
    """Equal numbers of different types are one key, but not the same document."""

    def test_stop(self, bench: Bench, lying: bytes, sent: bytes) -> None:
        bench.send(lying)
        with pytest.raises(Conflict) as caught:
            bench.send(sent)
        assert to_key(sent_id(sent)) in str(caught.value)
        assert bench.there() == [lying]

    def test_skip(self, bench: Bench, lying: bytes, sent: bytes) -> None:
        bench.send(lying)
        news = bench.send(sent, on_conflict="skip")
        assert (news.documents, news.present, news.rejected) == (0, 0, 1)
        (rejection,) = news.rejections
        assert (rejection.key, rejection.code) == (to_key(sent_id(sent)), "ECONFLICT001")
        assert bench.there() == [lying]

    def test_overwrite(self, bench: Bench, lying: bytes, sent: bytes) -> None:
        bench.send(lying)
        news = bench.send(sent, on_conflict="overwrite")
        assert (news.documents, news.present, news.rejected) == (1, 0, 0)
        assert bench.there() == [sent]


def sent_id(sent: bytes) -> bytes:
    """`{_id}` of a document, by the driver."""
    options: CodecOptions[dict[str, Any]] = CodecOptions(
        datetime_conversion=DatetimeConversion.DATETIME_MS
    )
    return bson.encode({"_id": bson.decode(sent, options)["_id"]})


@pytest.mark.parametrize(
    "sent",
    [
        document(_id=1, **{"$a": 1, "b.c": 2, "": 3}),
        document(_id=1, **{"$set": {"x": 1}}),
        document(_id=1, a=Timestamp(0, 0), b={"c": Timestamp(0, 0)}),
        document(_id=1),
    ],
    ids=["odd names", "a name like an operator", "empty timestamp", "nothing"],
)
def test_overwrite_takes_every_document_that_insert_takes(bench: Bench, sent: bytes) -> None:
    """A replacement may be refused for names that an insert may hold."""
    bench.send(document(_id=1, v="old"))
    assert bench.send(sent, on_conflict="overwrite").rejected == 0
    assert bench.there() == [sent]


def test_an_empty_timestamp_arrives_as_it_is(bench: Bench) -> None:
    """I22: a server fills in a top-level `Timestamp(0, 0)` of what is inserted; the source may
    hold one all the same, by `$set`."""
    sent = document(_id=1, a=Timestamp(0, 0), b=[Timestamp(0, 0)], c=Timestamp(0, 0))
    assert bench.send(sent).documents == 1
    assert bench.there() == [sent]
    assert bench.send(sent).present == 1


# --- documents that the target refuses ------------------------------------------------------------


def test_a_unique_index_rejects_by_name(bench: Bench) -> None:
    """Another unique index is no `_id` conflict: the document is rejected, the others go in."""
    bench.client.shop.c.create_index("e", unique=True)
    documents = [document(_id=n, e=n // 2) for n in range(10)]

    news = bench.send(*documents, on_conflict="overwrite")

    assert (news.documents, news.present, news.rejected) == (5, 0, 5)
    assert {each.code for each in news.rejections} == {"EMONGO11000"}
    rejected = {each.key for each in news.rejections}
    assert rejected == {to_key(bson.encode({"_id": n})) for n in range(1, 10, 2)}
    assert bench.there() == documents[::2]


def test_a_unique_index_over_values_that_python_cannot_show(bench: Bench) -> None:
    """The server's answer repeats the value: a date beyond year 9999, names that are no UTF-8."""
    bench.client.shop.c.create_index("e", unique=True)
    far = [document(_id=n, e=DatetimeMS(2**60)) for n in (1, 2)]
    value = (0x03, b"e", ODD_KEYS["name that is no utf-8"])
    odd = [raw((0x10, b"_id", struct.pack("<i", n)), value) for n in (3, 4)]

    news = bench.send(*far, *odd)

    assert (news.documents, news.rejected) == (2, 2)
    assert bench.there() == [far[0], odd[0]]


def test_overwriting_into_a_unique_index_rejects(bench: Bench) -> None:
    bench.client.shop.c.create_index("e", unique=True)
    lying = [document(_id=1, e=1), document(_id=2, e=2)]
    bench.send(*lying)
    news = bench.send(document(_id=1, e=2), on_conflict="overwrite")
    assert (news.documents, news.rejected) == (0, 1)
    assert bench.there() == lying


@pytest.mark.parametrize("key", [{"$gt": 1}, {"a": {"$in": [1]}}, {"$eq": 1}])
def test_keys_that_look_like_operators(bench: Bench, key: dict[str, Any]) -> None:
    """This server refuses them with 52; another that takes them must not read them as operators."""
    sent = document(_id=key)
    bench.send(document(_id=1))
    first, again = bench.send(sent), bench.send(sent)
    if first.rejected:
        assert [each.code for each in first.rejections] == ["EMONGO052"]
        assert [each.code for each in again.rejections] == ["EMONGO052"]
        assert bench.there() == [document(_id=1)]
    else:
        assert again.present == 1


def test_the_news_hold_a_limited_number_of_rejections(bench: Bench) -> None:
    bench.client.shop.c.create_index("e", unique=True)
    documents = [document(_id=n, e=1) for n in range(1_500)]
    (news,) = bench.run(bench.chunk(documents, block=1_500))
    assert (news.documents, news.rejected) == (1, 1_499)
    assert len(news.rejections) == 1_000


# --- going on -------------------------------------------------------------------------------------


def test_it_goes_on_behind_the_last_acknowledged_block(bench: Bench) -> None:
    """I17: what lies before the position is not sent again; the sums go on."""
    documents = [document(_id=n) for n in range(40)]
    chunk = bench.chunk(documents, block=10)
    second = bench.run(chunk)[1]
    bench.client.shop.c.drop()
    done = Done(second.position, second.documents, second.bytes, second.present, second.rejected)
    assert chunk.file is not None

    news = bench.run(Chunk(**{**fields_of(chunk), "done": done}))

    assert bench.there() == documents[20:]
    assert [each.documents for each in news] == [30, 40]
    assert news[-1].position == chunk.file.file_bytes
    assert news[-1].bytes == sum(map(len, documents))


def fields_of(chunk: Chunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in Chunk.__slots__}


def test_at_the_end_only_the_sums_are_told(bench: Bench) -> None:
    chunk = bench.chunk([document(_id=1)])
    last = bench.run(chunk)[-1]
    bench.client.shop.c.drop()
    done = Done(last.position, last.documents, last.bytes, last.present, last.rejected)
    (again,) = bench.run(Chunk(**{**fields_of(chunk), "done": done}))
    assert (again.position, again.documents) == (last.position, 1)
    assert bench.there() == []


def test_an_empty_chunk_has_an_end_too(bench: Bench) -> None:
    (news,) = bench.run(bench.chunk([]))
    assert (news.position, news.documents) == (0, 0)


def test_a_stop_leaves_whole_blocks(bench: Bench) -> None:
    documents = [document(_id=n) for n in range(30)]
    parts = bench.iterate(bench.chunk(documents, block=10))
    next(parts)
    bench.stop.set()
    with pytest.raises(Stopped):
        next(parts)
    assert bench.there() == documents[:10]


def test_a_stop_is_seen_inside_a_block(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of conflicts takes a command for each lot; what was not told is done again."""
    monkeypatch.setattr("executors.write.COMPARED_AT_ONCE", 10)
    lying = [document(_id=n, v="old") for n in range(50)]
    bench.send(*lying)
    sent = [document(_id=n, v="new") for n in range(50)]
    chunk, merge = bench.chunk(sent), spec(on_conflict="overwrite")

    path = bench.folder / "0-1.flb"
    with pytest.raises(Stopped):
        list(restore(bench.client, UNIT, chunk, merge, path, bench.folder, Looks(12)))
    changed = sum(b"new" in each for each in bench.there())
    assert changed in (10, 20, 30, 40)

    (news,) = bench.run(chunk, on_conflict="overwrite")
    assert (news.documents, news.present) == (50, changed)
    assert bench.there() == sent


# --- damaged files --------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


DAMAGES: list[Callable[[Path], None]] = [flip, cut, empty, lengthen, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_a_damaged_file_is_refused_before_any_write(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    """I24, even where the damage is behind the position from which the restore goes on."""
    chunk = bench.chunk([document(_id=n, pad=os.urandom(50)) for n in range(100)], block=10)
    damage(bench.folder / "0-1.flb")
    with pytest.raises(DamagedFile):
        next(bench.iterate(chunk))
    assert bench.there() == []


@pytest.fixture
def executor(pair: Pair, tmp_path: Path) -> Iterator[MongoExecutor]:
    source, target = connect("source", pair.source.uri), connect("target", pair.target.uri)
    ends = Ends(source=source, target=target)
    yield MongoExecutor(ends, spec(write_concern="majority"), tmp_path)
    source.close()
    target.close()


def run_effect(executor: MongoExecutor, chunk: Chunk) -> tuple[Outcome, list[Progressed]]:
    """The outcome of the restore of a chunk, and its progress."""
    task = TaskKey(TaskKind.RESTORE, chunk.id)
    told: list[Progressed] = []
    effect = Effect(task, attempt=2, epoch=3, unit=UNIT, chunk=chunk)
    return executor.run(effect, threading.Event(), told.append), told


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_damage_is_an_outcome_of_its_own(
    bench: Bench, executor: MongoExecutor, damage: Callable[[Path], None]
) -> None:
    """I24: nobody is blamed for it, and the rules order a new dump."""
    chunk = bench.chunk([document(_id=n) for n in range(100)], block=10)
    damage(bench.folder / "0-1.flb")
    outcome, told = run_effect(executor, chunk)
    assert isinstance(outcome, FileDamaged)
    assert (outcome.task.entity, outcome.attempt, outcome.epoch) == ("shop.c#0", 2, 3)
    assert "0-1.flb" in outcome.why
    assert told == []
    assert bench.there() == []


def test_progress_is_told_part_by_part(bench: Bench, executor: MongoExecutor) -> None:
    outcome, told = run_effect(
        executor, bench.chunk([document(_id=n) for n in range(30)], block=10)
    )
    assert [each.result.documents for each in told] == [10, 20]
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Restored)
    assert outcome.result.documents == 30


def test_a_conflict_is_permanent(bench: Bench, executor: MongoExecutor) -> None:
    bench.send(document(_id=1, v="old"))
    outcome, _ = run_effect(executor, bench.chunk([document(_id=1, v="new")]))
    assert isinstance(outcome, Failed)
    assert (outcome.cause, outcome.code) == (Cause.PERMANENT, "ECONFLICT001")


def test_a_write_concern_that_cannot_be_met_is_fatal(pair: Pair, bench: Bench) -> None:
    """P2: applied here is not acknowledged there."""
    target = connect("target", pair.target.uri)
    two = MongoExecutor(Ends(target=target), spec(write_concern="2"), bench.folder)
    outcome, _ = run_effect(two, bench.chunk([document(_id=1)]))
    target.close()
    assert isinstance(outcome, Failed)
    assert (outcome.cause, outcome.code) == (Cause.FATAL, "EMONGO100")


# --- the slab -------------------------------------------------------------------------------------


def test_the_driver_is_the_one_the_slab_was_tried_with() -> None:
    """Another line of the driver must pass `TestSlab` before `pyproject.toml` may allow it."""
    assert pymongo.version_tuple[:2] == (4, 20)


class TestSlab:
    """N documents sent as if they were one are N documents to the server."""

    @pytest.mark.parametrize("n", [1, 2, 9, 1_000, 50_000])
    @pytest.mark.parametrize("compressors", ["", "zlib"])
    def test_n_are_n(self, pair: Pair, n: int, compressors: str) -> None:
        documents = [document(_id=k, pad="x" * (k % 7)) for k in range(n)]
        uri = pair.target.uri + (f"?compressors={compressors}" if compressors else "")
        with MongoClient[Any](uri) as client:
            reply = self._insert(client, b"".join(documents))
        assert reply["n"] == n
        assert "writeErrors" not in reply
        assert target_of(pair.target_client) == documents

    def test_errors_count_by_document(self, pair: Pair) -> None:
        client = pair.target_client
        client.shop.c.insert_many([{"_id": 3}, {"_id": 5}])
        reply = self._insert(client, b"".join(document(_id=k) for k in range(10)))
        assert reply["n"] == 8
        assert [each["index"] for each in reply["writeErrors"]] == [3, 5]

    def test_up_to_the_largest_message_part(self, pair: Pair) -> None:
        size = 16 << 20
        half = size // 2 - len(document(_id=1, p=b""))
        documents = [document(_id=k, p=b"x" * half) for k in (1, 2)]
        assert sum(map(len, documents)) == size
        assert self._insert(pair.target_client, b"".join(documents))["n"] == 2

    @staticmethod
    def _insert(client: Client, data: bytes) -> Any:
        command = {"insert": "c", "ordered": False, "documents": [Slab(data)]}
        return client.shop.command(command)


def test_a_wrong_count_is_noticed(bench: Bench) -> None:
    """Should the contract of the slab break, no document is lost in silence (P10)."""
    data = b"".join(document(_id=n) for n in range(3))
    lying = iter([Block(data, 4)])
    chunk = chunk_of(write_chunk_file(bench.folder / "0-1.flb", lying, "zstd"))
    with pytest.raises(CountsDisagree):
        bench.run(chunk)


# --- through the command line ---------------------------------------------------------------------


def history(journal: Path) -> dict[str, list[dict[str, Any]]]:
    """What the journal's newest job holds, by kind of event."""
    shown = ferrylog("inspect", "events", "--json", "--journal", journal)
    assert shown.returncode == 0, shown.stderr
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in shown.stdout.splitlines():
        event = json.loads(line)
        found[event["kind"]].append(event["data"])
    return found


def ends_of(pair: Pair) -> tuple[str, ...]:
    return ("--source", pair.source.uri, "--target", pair.target.uri)


def left_by(journal: Path) -> list[Path]:
    """Files of the work folder but for undo logs, which stay until the commit."""
    found = (path for path in Path(f"{journal}.d").rglob("*") if path.is_file())
    return [path for path in found if "undo" not in path.parts]


def test_rejected_documents_end_with_3(pair: Pair, tmp_path: Path) -> None:
    """P10: the job goes on; each rejected document is named, and kept whole."""
    pair.target_client.shop.c.create_index("e", unique=True)
    pair.source_client.shop.c.insert_many([{"_id": n, "e": min(n, 997)} for n in range(1_000)])
    journal = tmp_path / "ferrylog.db"

    ended = ferrylog("start", *ends_of(pair), "--no-verify", "--journal", journal)

    assert ended.returncode == 3, ended.stderr
    rejected = history(journal)["document_rejected"]
    assert {each["key"] for each in rejected} <= {
        f'{{"$numberInt":"{n}"}}' for n in (997, 998, 999)
    }
    assert [each["code"] for each in rejected] == ["EMONGO11000"] * 2
    assert pair.target_client.shop.c.count_documents({}) == 998
    (kept,) = left_by(journal)
    assert kept.parts[-3:] == ("rejected", "shop.c", "0.bson")
    assert len(bson.decode_all(kept.read_bytes())) == 2


def test_rejected_documents_end_with_3_when_verified(pair: Pair, tmp_path: Path) -> None:
    """Documents that the target refused by name are no surprise to verification, nor is an index
    that was there before; who asks for a comparison of all is told of both sides."""
    pair.target_client.shop.c.create_index("e", unique=True)
    pair.source_client.shop.c.insert_many([{"_id": n, "e": min(n, 997)} for n in range(1_000)])
    journal = ("--journal", tmp_path / "ferrylog.db")
    ended = ferrylog("start", *ends_of(pair), *journal)
    assert ended.returncode == 3, ended.stderr
    assert "2 rejected" in ended.stderr
    verified = ferrylog("verify", "--metadata", "--json", *ends_of(pair), *journal)
    assert verified.returncode == 4, verified.stderr
    (unit,) = json.loads(verified.stdout)["units"]
    assert [each["what"] for each in unit["metadata"]] == ["index e_1"]


def test_merging_skips_what_differs(pair: Pair, tmp_path: Path) -> None:
    """`--on-conflict skip` and a target with equal, different and foreign documents."""
    far = DatetimeMS(2**60)
    pair.source_client.shop.c.insert_many([{"_id": key} for key in (1, 2, far)])
    pair.target_client.shop.c.insert_many([{"_id": 1}, {"_id": 2.0}, {"_id": far}])
    journal = tmp_path / "ferrylog.db"

    merge = ("--on-conflict", "skip", "--no-verify")
    ended = ferrylog("start", *ends_of(pair), *merge, "--journal", journal)

    assert ended.returncode == 3, ended.stderr
    happened = history(journal)
    (rejected,) = happened["document_rejected"]
    assert (rejected["key"], rejected["code"]) == ('{"$numberInt":"2"}', "ECONFLICT001")
    (restored,) = happened["restore_completed"]
    assert (restored["documents"], restored["present"], restored["rejected"]) == (2, 2, 1)


def test_an_empty_timestamp_migrates(pair: Pair, tmp_path: Path) -> None:
    """I22, P1: through the command line, verification included; the journal counts them."""
    source = pair.source_client.shop.c
    source.insert_many([{"_id": n, "at": 1} for n in range(100)])
    source.update_many({"_id": {"$gte": 90}}, {"$set": {"at": Timestamp(0, 0)}})
    journal = tmp_path / "ferrylog.db"
    ended = ferrylog("start", *ends_of(pair), "--chunk-docs", "30", "--journal", journal)
    assert ended.returncode == 0, ended.stderr
    assert target_of(pair.target_client) == target_of(pair.source_client)
    assert sum(each["documents"] for each in history(journal)["documents_repaired"]) == 10


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A target that can be told to keep inserts waiting."""
    options = ("--setParameter", "enableTestCommands=1")
    folder = tmp_path_factory.mktemp("slow")
    with Mongod(folder / "db", name="slow", options=options) as mongod:
        yield mongod


@pytest.fixture
def slow(slow_server: Mongod) -> Iterator[tuple[Mongod, Client]]:
    with MongoClient[Any](slow_server.uri) as client:
        client.drop_database("shop")
        yield slow_server, client
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def hold_inserts(client: Client, *, after: int) -> None:
    """So many inserts of ferrylog go through; the next ones wait."""
    client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"skip": after},
            "data": {
                "failCommands": ["insert"],
                "appName": "ferrylog",
                "blockConnection": True,
                "blockTimeMS": 4_000,
            },
        }
    )


def test_chunk_files_damaged_while_nobody_ran_are_dumped_again(
    pair: Pair, slow: tuple[Mongod, Client], tmp_path: Path
) -> None:
    """I12, I16, I17, I24: killed in the middle of restores; files cut, flipped, gone; resumed."""
    mongod, client = slow
    pad = os.urandom(20_000)
    pair.source_client.shop.c.insert_many(
        [{"_id": n, "pad": pad + struct.pack("<q", n)} for n in range(1_500)]
    )
    journal = tmp_path / "ferrylog.db"
    ends = ("--source", pair.source.uri, "--target", mongod.uri, "--journal", str(journal))
    whole_blocks = ["--batch", "fixed"]  # as many inserts
    hold_inserts(client, after=3)
    with subprocess.Popen(
        [
            FERRYLOG,
            "start",
            *ends,
            "--chunk-docs",
            "300",
            "--restore-workers",
            "2",
            "--quiet",
            *whole_blocks,
        ]
    ) as process:
        _wait_until(lambda: journal.exists() and _all_dumped(journal, 5), process)
        process.send_signal(signal.SIGKILL)
    client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    before = history(journal)
    damaged = _damage_files(Path(f"{journal}.d"), before)
    _assert_what_was_acknowledged_is_there(before, client)

    ended = ferrylog("resume", *ends)

    assert ended.returncode == 0, ended.stderr
    after = history(journal)
    assert {each["entity"] for each in after["dump_invalidated"]} == damaged
    dumps = [each["entity"] for each in after["dump_completed"]]
    assert {chunk for chunk in dumps if dumps.count(chunk) > 1} == damaged
    assert target_of(client) == target_of(pair.source_client)
    assert not left_by(journal)


def _wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def _all_dumped(journal: Path, chunks: int) -> bool:
    with suppress(AssertionError):  # no job in it yet
        return len(history(journal)["dump_completed"]) >= chunks
    return False


def _damage_files(work: Path, happened: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Damage three files that are still needed, each in its own way; the ids of their chunks."""
    restored = {each["entity"] for each in happened["restore_completed"]}
    begun = {each["entity"] for each in happened["restore_progressed"]} - restored
    files = {each["entity"]: each["file"] for each in happened["dump_completed"]}
    open_chunks = sorted(files.keys() - restored, key=lambda chunk: chunk not in begun)
    assert begun, "no restore was caught in the middle"
    (job,) = work.iterdir()
    damages: tuple[Callable[[Path], None], ...] = (flip, cut, Path.unlink)
    for chunk, damage in zip(open_chunks[:3], damages, strict=True):
        damage(job / files[chunk])
    return set(open_chunks[:3])


def _assert_what_was_acknowledged_is_there(
    happened: dict[str, list[dict[str, Any]]], client: Client
) -> None:
    """I17, at the moment of the crash."""
    least = {
        each["entity"]: each["documents"]
        for kind in ("restore_progressed", "restore_completed")
        for each in happened[kind]
    }
    assert 0 < sum(least.values()) <= client.shop.c.count_documents({})
