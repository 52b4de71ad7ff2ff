"""A replayed log taken back: the target is as it was where the replay began (I40)."""

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import bson
import pytest

from executors.increments.ahead import Ahead
from executors.increments.log import replay
from executors.protocol import Stopped
from executors.select import KEPT
from executors.undo.increments import pieces, undo_increment
from executors.undo.log import undo_path
from statemachine.state import Undo
from statemachine.words import TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.increments import test_log as logs
from tests.executors.increments.hearing import Hearing
from tests.executors.increments.test_ddl import a_spec

pytestmark = pytest.mark.server

TASK = TaskKey(TaskKind.APPLY, "link:1#0")
SPEC = a_spec().model_copy(update={"undo": True, "write_concern": "majority"})


def state(client: Any) -> dict[str, Any]:
    """As of the user's own collections; what goes without saying is left out."""
    found = {name: each for name, each in logs._state(client).items() if KEPT not in name}
    described = {name: each for name, each in found["catalogue"].items() if KEPT not in name}
    for entry, _ in described.values():
        for name in ("validationLevel", "validationAction"):
            entry["options"].pop(name, None)
    return {**found, "catalogue": described}


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_is_taken_back(pair: Pair, tmp_path: Path, seed: int) -> None:
    """I40: collections, views, indexes, names and documents, whatever happened; in every other
    run replay and undo are stopped again and again."""
    random, hearing = Random(seed), Hearing(pair.source_client)
    workload, since = logs.Workload(pair.source_client, random), logs._now(pair.source_client)
    for _ in range(80):
        workload.step()
    (tmp_path / logs.JOB).mkdir()
    events, client = hearing.events(), pair.target_client
    first, last = workload.times[20], workload.times[-1]
    parts = logs._written(tmp_path / "one", events, since, first)
    logs._opened(client)
    list(logs._replay(client, tmp_path / "one", parts, first))
    before = state(client)
    parts = logs._written(tmp_path / "two", events, first, last)
    logs._opened(client)
    often = seed % 2 == 1
    again(lambda stop: replayed(client, tmp_path, parts, last, stop), random, often=often)
    assert logs._state(pair.source_client) == workload.states[-1]
    undo = Undo(1, *TASK)
    done = again(
        lambda stop: undo_increment(client, SPEC, tmp_path / logs.JOB, undo, stop),
        random,
        often=often,
    )
    after = state(client)
    assert after["catalogue"] == before["catalogue"]
    assert after == before
    assert done.kept == 0, "\n".join(each for each in done.changes if "kept" in each)
    assert not [name for name in client.w.list_collection_names() if name.startswith(KEPT)]


def replayed(client: Any, folder: Path, parts: Any, until: str, stop: Any) -> None:
    with Ahead(folder / logs.JOB, TASK) as ahead:
        list(replay(client, SPEC, logs.JOB, folder / "two", parts, until, stop, ahead))


def again(act: Any, random: Random, *, often: bool) -> Any:
    for number in range(400):
        with suppress(Stopped):
            most = random.randrange(1, 20 + number) if often else 1_000_000
            return act(logs.StopsSoon(most))
    raise AssertionError("it never ends")


def test_what_is_taken_back_at_once_fits_into_memory(tmp_path: Path) -> None:
    """M9: a row holds but keys and sums of a block whose documents are read."""
    with Ahead(tmp_path, TASK) as ahead:
        for block in range(20):
            keys = range(block * 100, block * 100 + 100)
            ahead.inserted("shop.c", "collection", [_large(key) for key in keys])
        ahead.sync()
        path = undo_path(tmp_path, TASK)
    found = [each for each in pieces(path) if each.about is not None]
    assert len(found) == 10
    assert found[0].end == found[1].at


def _large(key: int) -> bytes:
    return bson.encode({"_id": key, "x": "x" * 20_000})
