"""Fresh chunks and tasks that follow each other are kept as runs: short, and nothing lost."""

import json
from typing import Any

import pytest

from statemachine.snapshot import freeze, thaw
from statemachine.state import Chunk, ChunkFile, Done, State, Task
from statemachine.words import ChunkId, Key, Status, TaskKey, TaskKind, UnitId
from tests.statemachine.story import UNIT

COUNT = 6


def state_of(odd: int = 0, **changes: Any) -> State:
    """Six chunks that wait for their dump; one of them is different."""
    state = State()
    for n in range(COUNT):
        chunk = Chunk(
            ChunkId(f"{UNIT}#{n}"),
            UNIT,
            Key(str(n)) if n else None,
            Key(str(n + 1)) if n < COUNT - 1 else None,
            documents=10 + n,
            natural=False,
        )
        for name, value in changes.items() if n == odd else ():
            setattr(chunk, name, value)
        state.chunks[chunk.id] = chunk
        state.tasks[TaskKey(TaskKind.DUMP, chunk.id)] = Task()
    return state


def kept(state: State) -> tuple[int, int]:
    """Entries for chunks and for tasks, of a snapshot that gives back the same, in order."""
    data = json.loads(json.dumps(freeze(state)))
    again = thaw(data)
    assert again == state
    assert list(again.chunks.items()) == list(state.chunks.items())
    assert list(again.tasks.items()) == list(state.tasks.items())
    return len(data["chunks"]), len(data["tasks"])


def test_those_that_follow_each_other_are_one() -> None:
    """I9: with their numbers of documents and their boundaries."""
    assert kept(state_of()) == (1, 1)
    assert kept(State()) == (0, 0)


ODD: list[dict[str, Any]] = [
    {"unit": UnitId("shop.two"), "id": ChunkId("shop.two#2")},
    {"id": ChunkId(f"{UNIT}#9")},
    {"lower": Key("x")},
    {"natural": True},
    {"priority": 3},
    {"bisected": True},
    {"dropped": True},
    {"verified": (1, 2, 3)},
    {"file": ChunkFile("f", 1, 2, 3, "ab")},
    {"done": Done(1, 2, 3)},
    {"done": Done(0, 0, 0, 0, 0, Key("k"))},
]


@pytest.mark.parametrize("changes", ODD, ids=str)
@pytest.mark.parametrize("odd", [0, 2, COUNT - 1])
def test_what_is_different_ends_a_run(changes: dict[str, Any], odd: int) -> None:
    """I9: wherever it stands."""
    if changes == {"lower": Key("x")}:
        pieces = 1 if odd == 0 else 2
    else:
        pieces = 2 if odd in (0, COUNT - 1) else 3
    assert kept(state_of(odd, **changes))[0] == pieces


def test_a_number_that_is_missing_ends_a_run() -> None:
    """I9: the boundaries may meet all the same."""
    state = state_of()
    del state.chunks[ChunkId(f"{UNIT}#3")]
    state.chunks[ChunkId(f"{UNIT}#4")].lower = Key("3")
    assert kept(state)[0] == 2


def test_others_between_them() -> None:
    """I9: every second one has a file."""
    state = state_of()
    for n in (1, 3):
        state.chunks[ChunkId(f"{UNIT}#{n}")].file = ChunkFile("f", 1, 2, 3, "ab")
    assert kept(state)[0] == 5


@pytest.mark.parametrize(
    "task", [Task(Status.WAITING), Task(attempt=1), Task(priority=3), Task(why="bad")], ids=str
)
@pytest.mark.parametrize("odd", [0, 2, COUNT - 1])
def test_a_task_that_is_different_ends_a_run(task: Task, odd: int) -> None:
    """I9."""
    state = state_of()
    state.tasks[TaskKey(TaskKind.DUMP, f"{UNIT}#{odd}")] = task
    assert kept(state)[1] == (2 if odd in (0, COUNT - 1) else 3)


def test_tasks_of_different_kinds() -> None:
    """I9: of the same priority, one behind the other, and one that is urgent."""
    state = state_of()
    for n in range(COUNT):
        state.tasks[TaskKey(TaskKind.VERIFY, f"{UNIT}#{n}")] = Task(priority=2)
    state.tasks[TaskKey(TaskKind.PLAN, UNIT)] = Task(priority=2)
    assert kept(state)[1] == 3
