"""Whatever happens on a source while it is followed, and wherever a round is killed or its record
is lost, the target is alike in the end (I12, I22, I33)."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from executors.increments.apply import Target
from tests.conftest import Pair
from tests.executors.increments.following import Bench, Killed, Writer, copied, time_of, writing

pytestmark = pytest.mark.server


@pytest.fixture
def bench(pair: Pair) -> Bench:
    return Bench(pair)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_target_is_alike(bench: Bench, seed: int) -> None:
    """I22, I33: documents, names, options and indexes change while rounds run."""
    writer = Writer(bench.source, seed)
    for name in "ab":
        bench.source.shop[name].insert_many([{"_id": n, "x": n} for n in range(60)])
    bench.since = time_of(bench.source)
    for _ in range(5):
        writer.insert()
        writer.update()
        writer.delete()
    copied(bench)
    with writing(writer, 150) as thread:
        while thread.is_alive():
            bench.round(ms=50)
    bench.drain()
    settled = bench.settle()
    bench.must_be_alike()
    assert settled.differing == (), writer.done


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_round_is_done_again(
    bench: Bench, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12, I33: killed anywhere, also between the last write and its record."""
    chance = random.Random(seed)
    write = Target.apply

    def killed(self: Target, found: Any) -> Any:
        if before := chance.random() < 0.1:
            raise Killed
        written = write(self, found)
        if not before and chance.random() < 0.1:
            raise Killed
        return written

    writer = Writer(bench.source, 100 + seed)
    with writing(writer, 150) as thread:
        while thread.is_alive():
            monkeypatch.setattr(Target, "apply", killed)
            token = bench.token
            with suppress(Killed):
                bench.round(ms=50)
                if chance.random() < 0.3:  # recorded nowhere
                    bench.token = token
                    bench.anew()
    monkeypatch.setattr(Target, "apply", write)
    bench.anew()
    bench.drain()
    settled = bench.settle()
    bench.must_be_alike()
    assert settled.differing == (), writer.done


def swapped(shop: Any) -> None:
    shop.a.rename("c")
    shop.b.rename("a")
    shop.c.rename("b")
    shop.a.update_one({"_id": 1}, {"$set": {"w": 1}})


def replaced(shop: Any) -> None:
    shop.b.update_many({}, {"$set": {"w": 1}})
    shop.a.update_one({"_id": 1}, {"$set": {"w": 1}})
    shop.a.rename("b", dropTarget=True)


def succeeded(shop: Any) -> None:
    shop.a.rename("c")
    shop.a.insert_one({"_id": 5, "v": "new"})
    shop.b.drop()
    shop.c.rename("b")


def shifted(shop: Any) -> None:
    shop.b.rename("c")
    shop.a.rename("b")
    shop.a.insert_one({"_id": 5, "v": "new"})
    shop.a.rename("d")
    shop.d.drop()
    shop.create_collection("d", viewOn="c", pipeline=[])


@pytest.mark.parametrize("change", [swapped, replaced, succeeded, shifted])
def test_every_round_is_done_twice(bench: Bench, change: Callable[[Any], None]) -> None:
    """I12: its record was lost; names have moved by then, and each keeps its documents."""
    for name in "ab":
        bench.source.shop[name].insert_many([{"_id": n, "v": name} for n in range(9)])
    bench.drain()
    change(bench.source.shop)
    drained = False
    while not drained:
        token = bench.token
        bench.round(cutover=True)
        bench.token = token
        bench.anew()
        drained = bench.round(cutover=True).drained
        bench.anew()
    bench.must_be_alike()
    told = [change for each in bench.rounds for change in each.changes]
    assert not any("whole" in change for change in told)
