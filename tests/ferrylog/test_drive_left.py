"""What was left behind at the end of a run, where something else is to begin behind it."""

import threading

import pytest

from ferrylog import drive as driving
from statemachine.stimuli import StopAsked
from statemachine.words import JobStatus, TaskKind
from tests.ferrylog.test_drive import Bench, bench

__all__ = ["bench"]
WAITED_FOR = ((TaskKind.INDEX, "shop.orders@when_1"), (TaskKind.CREATE, "shop.orders"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "END_S", 0.1)


def join(bench: Bench) -> threading.Thread:
    waiting = threading.Thread(target=bench.drive.join, daemon=True)
    waiting.start()
    return waiting


def test_nothing_begins_while_somebody_still_writes(bench: Bench) -> None:
    """I37, I40: what hangs is waited for before anything is taken back; it would write again what
    was removed."""
    bench.hands.odd[TaskKind.RESTORE, "shop.orders#1"] = bench.hands.hang
    assert bench.run().state.status is JobStatus.COMPLETED
    waiting = join(bench)
    waiting.join(0.1)
    assert waiting.is_alive()
    bench.hands.over.set()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize("kind", [TaskKind.INDEX, TaskKind.CREATE])
def test_an_index_is_ended_by_its_undo(bench: Bench, kind: TaskKind) -> None:
    """Nobody waits hours for what is dropped then; a creation is as any other."""
    key = next(key for key in WAITED_FOR if key[0] is kind)
    bench.hands.odd[key] = bench.hands.hang
    bench.wake[f"{kind}_started"] = lambda: bench.leave(StopAsked("me", "now", 0, immediate=True))
    assert bench.run().state.status is JobStatus.STOPPED
    assert (*key, 1) in bench.hands.ran
    waiting = join(bench)
    waiting.join(0.2 if kind is TaskKind.CREATE else 60)
    assert waiting.is_alive() is (kind is TaskKind.CREATE)


def test_nobody_is_left(bench: Bench) -> None:
    bench.run()
    join(bench).join(60)
