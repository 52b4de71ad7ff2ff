"""Source to chunk file: one file per attempt, and no attempt touches those after it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors import dump as module
from executors.clients import connect
from executors.dump import dump
from executors.protocol import Stopped
from statemachine.stimuli import Dumped
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, spec, unit_of

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
