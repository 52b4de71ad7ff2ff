"""Source to chunk file: one file per attempt, and no attempt touches those after it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from executors import dump as module
from executors.boundaries import to_key, to_text
from executors.chunkfile import read_blocks
from executors.clients import connect
from executors.dump import dump
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.survey import survey
from statemachine.stimuli import Dumped
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, spec, there, unit_of

pytestmark = pytest.mark.server


@pytest.fixture
def source(pair: Pair) -> Iterator[Client]:
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(10)])
    deployment = connect("source", pair.source.uri)
    yield deployment.client
    deployment.close()


def dumped(source: Client, folder: Path, attempt: int, stop: threading.Event) -> Dumped:
    unit = unit_of(source)
    return dump(source, unit, chunk_of(unit), spec(), folder, attempt, stop)


def test_an_attempt_throws_away_what_older_ones_left(source: Client, tmp_path: Path) -> None:
    """A killed attempt leaves half a file, one whose file was given up leaves a whole one."""
    (tmp_path / "shop.c").mkdir()
    for name in ("0-2.flb", "0-3.flb.tmp", "0-10.flb", "0-11.flb.tmp", "00-1.flb", "1-1.flb"):
        (tmp_path / "shop.c" / name).write_bytes(b"?")
    assert dumped(source, tmp_path, 10, threading.Event()).documents == 10
    left = sorted(path.name for path in (tmp_path / "shop.c").iterdir())
    assert left == ["0-10.flb", "0-11.flb.tmp", "00-1.flb", "1-1.flb"]


def test_one_that_wakes_up_late_touches_nothing(
    source: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hung in its first question, was given up, and another attempt took its place."""
    asleep, awake, stop = threading.Event(), threading.Event(), threading.Event()
    ended: list[type[BaseException]] = []
    real = module.must_be_same

    def hanging(*words: Any) -> None:
        if threading.current_thread() is late:
            asleep.set()
            awake.wait(10)
        real(*words)

    def run() -> None:
        try:
            dumped(source, tmp_path, 1, stop)
        except Stopped as error:
            ended.append(type(error))

    late = threading.Thread(target=run)
    monkeypatch.setattr(module, "must_be_same", hanging)
    late.start()
    assert asleep.wait(10)
    stop.set()
    done = dumped(source, tmp_path, 2, threading.Event())
    awake.set()
    late.join(10)
    assert ended == [Stopped]
    assert [path.name for path in (tmp_path / "shop.c").iterdir()] == [Path(done.file).name]


# --- which documents ------------------------------------------------------------------------------


def file_of(folder: Path, done: Dumped) -> list[bytes]:
    return [each for block, _ in read_blocks(folder / done.file) for each in documents(block.data)]


def test_of_a_query_only_what_it_wants(source: Client, tmp_path: Path) -> None:
    """In each range that was planned; the first query that fits the name counts (I21)."""
    unit = unit_of(source)
    queries = (
        ("shop.c", to_text(bson.encode({"_id": {"$gte": 3}}))),
        ("shop.*", to_text(bson.encode({"_id": 0}))),
    )
    chunk = chunk_of(unit, upper=to_key(bson.encode({"_id": 7})))
    stop = threading.Event()
    done = dump(source, unit, chunk, spec(queries=queries), tmp_path, 1, stop)
    assert file_of(tmp_path, done) == [bson.encode({"_id": n}) for n in range(3, 7)]


def test_of_a_time_series_its_buckets(source: Client, tmp_path: Path) -> None:
    """I22: to the byte."""
    source.shop.create_collection("ts", timeseries={"timeField": "t", "metaField": "m"})
    readings = [{"t": bson.DatetimeMS(n * 10**7), "m": n % 3, "v": n} for n in range(60)]
    source.shop.ts.insert_many(readings)
    unit = unit_of(source, "shop.ts")
    done = dump(source, unit, chunk_of(unit), spec(), tmp_path, 1, threading.Event())
    assert file_of(tmp_path, done) == there(source, "shop.system.buckets.ts")
    assert (tmp_path / "shop.ts").is_dir()


def test_a_snapshot_is_as_of_its_time(source: Client, tmp_path: Path) -> None:
    """What was changed, removed and added since is not in it, whenever it is read."""
    unit, before = unit_of(source), there(source)
    asked = spec(include=("shop.*",), exclude=(), consistency="snapshot")
    cluster_time = survey(source, asked).cluster_time
    source.shop.c.update_one({"_id": 1}, {"$set": {"v": 1}})
    source.shop.c.delete_one({"_id": 2})
    source.shop.c.insert_one({"_id": 99})
    stop = threading.Event()
    done = dump(source, unit, chunk_of(unit), asked, tmp_path, 1, stop, cluster_time=cluster_time)
    assert file_of(tmp_path, done) == before
    later = dump(source, unit, chunk_of(unit), asked, tmp_path, 2, stop)
    assert file_of(tmp_path, later) == there(source) != before
