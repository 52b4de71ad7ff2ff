"""What a job carries: its own selection, and what operators added to it later."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors.clients import connect
from executors.dispatch import MongoExecutor
from executors.protocol import Stopped
from executors.survey import survey
from statemachine.effects import Effect
from statemachine.stimuli import Outcome, Planned, Succeeded, Surveyed
from statemachine.words import THE_JOB, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import spec, unit_of

pytestmark = pytest.mark.server

NAMES = ("blog.posts", "blog.tmp", "shop.items", "shop.orders")


@pytest.fixture
def filled(pair: Pair) -> Pair:
    for name in NAMES:
        database, _, collection = name.partition(".")
        pair.source_client[database][collection].insert_one({"_id": 1})
    return pair


class Hands:
    """The executor of a job, and its outcomes."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.source = connect("source", pair.source.uri)
        self.target = connect("target", pair.target.uri)
        self.folder = folder

    def run(self, effect: Effect, **changes: object) -> Outcome:
        executor = MongoExecutor(self.source, self.target, spec(**changes), self.folder)
        return executor.run(effect, threading.Event(), lambda _: None)


@pytest.fixture
def hands(filled: Pair, tmp_path: Path) -> Iterator[Hands]:
    made = Hands(filled, tmp_path)
    yield made
    made.source.close()
    made.target.close()


@pytest.mark.parametrize(
    ("include", "exclude", "added", "found"),
    [
        (("shop.*",), (), (), {"shop.items", "shop.orders"}),
        (("shop.*",), (), ("blog.posts",), {"blog.posts", "shop.items", "shop.orders"}),
        (("shop.*",), ("*.tmp",), ("blog.*",), {*NAMES} - {"blog.tmp"}),
        (("shop.*",), ("*.tmp",), ("blog.*", "blog.tmp"), {*NAMES}),
        (("shop.*",), ("*.items",), ("shop.items",), {"shop.items", "shop.orders"}),
        ((), ("*.tmp",), (), {*NAMES} - {"blog.tmp"}),
        ((), ("*.tmp",), ("blog.tmp",), {*NAMES}),
        ((), (), ("blog.tmp",), {*NAMES}),
        (("shop.orders",), (), ("admin.*", "nobody.*"), {"shop.orders"}),
        (("shop.orders",), (), ("*.posts",), {"shop.orders", "blog.posts"}),
    ],
)
def test_selection(
    hands: Hands,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    added: tuple[str, ...],
    found: set[str],
) -> None:
    """Exclude wins over include; what was added later by name wins over both."""
    effect = Effect(TaskKey(TaskKind.SURVEY, THE_JOB), 1, 1, unit=None, include=added)
    outcome = hands.run(effect, include=include, exclude=exclude)
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Surveyed)
    assert {unit.unit for unit in outcome.result.units} == found


def test_it_stops(filled: Pair) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        survey(filled.source_client, (), (), stop=stop)


@pytest.mark.parametrize("kind", ["plan", "migrate"])
def test_a_dry_run_foresees(hands: Hands, filled: Pair, kind: str) -> None:
    """I46: with the plan of a dry run comes what will go wrong; nothing is written."""
    filled.target_client.shop.orders.insert_one({"_id": 2})
    unit = unit_of(filled.source_client, "shop.orders")
    outcome = hands.run(Effect(TaskKey(TaskKind.PLAN, unit.id), 1, 1, unit=unit), kind=kind)
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, Planned)
    assert bool(outcome.result.conflicts) == (kind == "plan")
    assert list(filled.target_client.shop.orders.find()) == [{"_id": 2}]
    assert list(hands.folder.iterdir()) == []
