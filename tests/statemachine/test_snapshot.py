"""What is thawed is what was frozen, and goes on the same way."""

import json

from statemachine.decide import decide
from statemachine.effects import wanted_effects
from statemachine.snapshot import freeze, thaw
from statemachine.state import State, digest
from statemachine.stimuli import RunBegan, Succeeded, Tick
from statemachine.words import BsonText, Cause, Key, Millis, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS
from tests.statemachine.test_rules import (
    CHUNK,
    DUMP,
    DUMPED,
    RESTORE,
    RESTORED,
    Story,
    began,
)


def again(state: State) -> State:
    return thaw(json.loads(json.dumps(freeze(state))))


def eventful() -> Story:
    story = Story().planned(chunks=4, indexes=2)
    story.succeed(DUMP, DUMPED)
    story.fail(TaskKey(TaskKind.DUMP, f"{CHUNK[:-1]}1"), Cause.TRANSIENT)
    story.succeed(RESTORE, RESTORED)
    story.tell(began())
    return story


def in_order(state: State) -> list[object]:
    queues = [(key, list(queue)) for key, queue in state.queues.items()]
    maps = (state.units, state.chunks, state.tasks, state.open_units, state.releasing)
    return [queues, *(list(each) for each in maps)]


def test_nothing_is_lost_and_no_order_changes() -> None:
    """I9: at every point of a history, the empty one included."""
    story = eventful()
    for state in (State(), Story().state, story.state):
        other = again(state)
        assert other == state
        assert digest(other) == digest(state)
        assert in_order(other) == in_order(state)
        assert list(wanted_effects(other)) == list(wanted_effects(state))


def test_decides_the_same() -> None:
    """I9: whatever comes next, a thawed state has the same opinion."""
    story = eventful()
    other = again(story.state)
    key, task = next((k, t) for k, t in story.state.tasks.items() if k.kind is TaskKind.VERIFY)
    for stimulus in (Tick(), RunBegan("me", "h", 2, "0", SETTINGS)):
        now = Millis(10**6)
        assert decide(other, stimulus, now) == decide(story.state, stimulus, now)
    late = Succeeded(key, task.attempt, task.epoch - 1, RESTORED)
    assert decide(other, late, Millis(0)) == decide(story.state, late, Millis(0))


def test_statuses_are_the_members_themselves() -> None:
    """Decisions compare them by identity."""
    state = again(eventful().state)
    assert all(task.status.__class__.__name__ == "Status" for task in state.tasks.values())
    assert all(key.kind.__class__.__name__ == "TaskKind" for key in state.tasks)
    assert state.status.__class__.__name__ == "JobStatus"
    assert all(unit.status.__class__.__name__ == "UnitStatus" for unit in state.units.values())


def test_texts_stay_as_they_are() -> None:
    """I6: keys and options are opaque texts, whatever stands in them."""
    story = Story().planned()
    chunk = story.state.chunks[CHUNK]
    chunk.lower, chunk.upper = Key('{"$s":"\\u0000\ud800 é"}'), None
    story.state.units[chunk.unit].options = BsonText("\x00\x7f")
    assert again(story.state) == story.state
