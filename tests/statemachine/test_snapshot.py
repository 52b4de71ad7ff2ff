"""What is thawed is what was frozen, and goes on the same way."""

import json
from dataclasses import replace

from statemachine.decide import decide
from statemachine.effects import wanted_effects
from statemachine.events import MetadataDifference
from statemachine.evolve import evolve
from statemachine.snapshot import freeze, thaw
from statemachine.state import State, digest
from statemachine.stimuli import (
    AddAsked,
    CommitAsked,
    Created,
    CutoverAsked,
    DropAsked,
    Finished,
    FoundDamage,
    FoundUnit,
    Gauge,
    Measured,
    Planned,
    PriorityAsked,
    Progressed,
    Rejection,
    RequeueAsked,
    Restored,
    RunBegan,
    SetAsked,
    Settled,
    Shaped,
    StopAsked,
    Succeeded,
    Surveyed,
    Tick,
    Undone,
)
from statemachine.words import Alert, BsonText, Cause, Key, Millis, Pool, TaskKey, TaskKind, UnitId
from tests.statemachine.chain import (
    CAPTURE,
    FOLLOW,
    WHOLE,
    Chain,
    captured,
    following,
    increment,
    part,
    round_,
    settle,
    shape,
    shard,
    shards,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.groups import Group, operation, take_all_back, take_back, undo
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    DUMP,
    DUMPED,
    EQUAL,
    FINISH,
    PLAN,
    RESTORE,
    RESTORED,
    SURVEY,
    UNIT,
    VERIFY,
    Story,
    began,
    found,
    parts,
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


def dump(n: int) -> TaskKey:
    return TaskKey(TaskKind.DUMP, f"{UNIT}#{n}")


def asked() -> Story:
    """All that operators, breakers and alerts leave behind; at last a breaker's probe."""
    told = SETTINGS.model_copy(update={"breaker_failures": 1, "dump_workers": 4})
    story = Story(told, undo=True).planned(chunks=5, indexes=1)
    story.tell(PriorityAsked("me", f"{UNIT}#3", -3, 1), PriorityAsked("me", f"{UNIT}#4", 3, 2))
    story.tell(Measured((Gauge(Alert.SLOW, "job", 2, 1), Gauge(Alert.STALLED, CHUNK, 2, 1))))
    story.succeed(DUMP, DUMPED)
    bad = Rejection(Key("1"), "E", "")
    story.succeed(RESTORE, Restored(50, 9, 90, 3, 1, (bad,)))
    story.succeed(dump(1), DUMPED)
    story.succeed(VERIFY, EQUAL)
    view = FoundUnit(UnitId("a.v"), "a.v", "view", "", BsonText("{}"), (), 0, 0)
    story.tell(AddAsked("me", ("a.*", "b.*"), 3))
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((view,)))
    story.tell(StopAsked("me", "now", 4, immediate=True, rollback=True), began(told))
    story.fail(dump(4), Cause.UNAVAILABLE)
    story.now = 10**6
    story.tell(SetAsked("me", "retry", "fixed", 5))
    return story


def given_up() -> Story:
    """A verification: units that are ripe at once, and a job that goes on without a chunk."""
    story = Story(kind="verify", of="j1").planned(chunks=2, indexes=1)
    story.fail(VERIFY, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.VERIFY, 1), began())
    story.tell(Measured((Gauge(Alert.ERROR_RATE, "job", 2, 1),)))
    story.succeed(TaskKey(TaskKind.VERIFY, f"{UNIT}#1"), EQUAL)
    return story


def dumped() -> Story:
    """As of a snapshot; one file of two is there."""
    story = Story(kind="dump")
    story.succeed(SURVEY, Surveyed((found(),), cluster_time="7.1", users=2, roles=1))
    story.succeed(PLAN, Planned((Key("1"),), 10, natural=False))
    story.succeed(DUMP, DUMPED)
    return story


def salvaged() -> Story:
    """Parts of a damaged dump, one with a rejected document, one asked for again."""
    damage = (FoundDamage("x", 7, 9, "EBSON001", "bad"),)
    story = Story(kind="restore", source="file:/d", metadata=True, verify=False)
    story.succeed(SURVEY, Surveyed((found(indexes=1, expires=True),), damage=damage))
    story.succeed(PLAN, replace(parts(2, "work"), damage=damage))
    story.succeed(CREATE, Created(("i0",)))
    for n in range(2):
        story.succeed(TaskKey(TaskKind.RESTORE, f"{UNIT}#{n}"), replace(RESTORED, rejected=1))
    story.succeed(FINISH, Finished())
    story.tell(RequeueAsked("me", CHUNK, 1), began())
    return story


def chained() -> Story:
    """The restore of a chain, in the middle of its second increment."""
    story = Chain(increment_ms=9000).full()
    story.applied(1)
    story.shaped(2)
    story.tell(Progressed(shard(2), 1, story.state.epoch, part(100)))
    story.tell(began())
    story.succeed(shape(2), Shaped(shards()))
    for index in range(2):
        story.succeed(shard(2, index), WHOLE)
    differing = (MetadataDifference(what="index n_1", source="there", target=""),)
    story.succeed(settle(2), Settled(differing))
    return story


def captured_twice() -> Story:
    story = increment()
    story.succeed(CAPTURE, captured())
    story.succeed(PLAN, Planned((Key("1"),), 10, natural=False))
    story.fail(DUMP, Cause.PERMANENT, code="ESNAP001")
    story.fail(dump(1), Cause.PERMANENT, code="ESNAP001")
    story.succeed(CAPTURE, captured())
    return story


def followed() -> Story:
    story = following()
    story.tell(CutoverAsked("me", 1))
    story.succeed(FOLLOW, round_(1))
    story.succeed(FOLLOW, round_(2, drained=True))
    return story


def taken_back() -> Story:
    """A group: a part of it first, with a dead undo that is left out; then the rest, for good."""
    group = Group(*(operation(name) for name in "ab"), operation("c", "a", "b", undo_after=()))
    group.do("a", "b")
    group.fail(TaskKey(TaskKind.OPERATION, "c"), Cause.PERMANENT)
    take_back(group, to="a", force=True, continue_on_error=True)
    group.fail(undo("c"), Cause.PERMANENT)
    group.tell(DropAsked("me", "operation c", TaskKind.UNDO, 1), began())
    group.succeed(undo("b"), Undone(1, 1))
    take_back(group)
    take_all_back(group)
    group.tell(CommitAsked("me", 2))
    return group


def moved_back() -> Story:
    """A migration, with what is known of its chunks."""
    story = Story(undo=True).planned(chunks=2)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.tell(StopAsked("me", "now", 1, immediate=True, rollback=True))
    take_back(story)
    take_all_back(story)
    return story


MAPS = (
    "operations",
    "undos",
    "shards",
    "units", "chunks", "flawed", "filed", "tasks", "alerts", "open_units", "ripe", "releasing",
    "breakers",
)  # fmt: skip


def in_order(state: State) -> list[object]:
    queues = [(key, list(queue)) for key, queue in state.queues.items()]
    return [queues, *(list(getattr(state, name)) for name in MAPS)]


def test_nothing_is_lost_and_no_order_changes() -> None:
    """I9: at every point of a history, the empty one included."""
    fresh, seen = State(), set()
    told = (eventful(), asked(), given_up(), dumped(), salvaged())
    for story in (*told, chained(), captured_twice(), followed(), taken_back(), moved_back()):
        state = State()
        for event in story.events:
            evolve(state, event)
            other = again(state)
            assert other == state
            assert digest(other) == digest(state)
            assert in_order(other) == in_order(state)
            assert list(wanted_effects(other)) == list(wanted_effects(state))
            names = State.__slots__
            seen |= {name for name in names if getattr(state, name) != getattr(fresh, name)}
    assert set(State.__slots__) - seen == {"dropped", "kept", "suspects"}
    assert again(fresh) == fresh


def test_what_operators_changed_is_there() -> None:
    """I9, A32, F4, F17: the example has what it is an example of."""
    state = again(asked().state)
    assert state.priorities == (3, 0, -3)
    assert state.added == ("a.*", "b.*")
    assert list(state.alerts) == [(Alert.SLOW, "job"), (Alert.STALLED, CHUNK)]
    assert list(state.flawed) == [CHUNK]
    assert state.request == 5
    assert state.breakers[Pool.DUMP].opened == 1
    assert state.breakers[Pool.DUMP].probe in state.tasks
    assert state.breakers[Pool.DUMP].probe.__class__ is TaskKey


def test_decides_the_same() -> None:
    """I9: whatever comes next, a thawed state has the same opinion."""
    for story in (eventful(), asked()):
        other = again(story.state)
        key, task = next(iter(story.state.tasks.items()))
        for stimulus in (
            Tick(),
            RunBegan("me", "h", 2, "0", SETTINGS),
            Measured(()),
            SetAsked("me", "retry", "linear", 9),
            Succeeded(key, task.attempt, task.epoch - 1, RESTORED),
        ):
            now = Millis(10**6)
            assert decide(other, stimulus, now) == decide(story.state, stimulus, now)


def test_statuses_are_the_members_themselves() -> None:
    """Decisions compare them by identity."""
    state = again(asked().state)
    assert all(task.status.__class__.__name__ == "Status" for task in state.tasks.values())
    assert all(key.kind.__class__.__name__ == "TaskKind" for key in state.tasks)
    assert state.status.__class__.__name__ == "JobStatus"
    assert all(unit.status.__class__.__name__ == "UnitStatus" for unit in state.units.values())
    assert all(pool.__class__.__name__ == "Pool" for pool in state.breakers)
    probe = state.breakers[Pool.DUMP].probe
    assert probe is not None
    assert probe.kind.__class__.__name__ == "TaskKind"
    raised = again(given_up().state).alerts
    assert [alert.__class__.__name__ for alert, _ in raised] == ["Alert"]


def test_texts_stay_as_they_are() -> None:
    """I6: keys and options are opaque texts, whatever stands in them."""
    story = Story().planned()
    chunk = story.state.chunks[CHUNK]
    chunk.lower, chunk.upper = Key('{"$s":"\\u0000\ud800 é"}'), None
    story.state.units[chunk.unit].options = BsonText("\x00\x7f")
    assert again(story.state) == story.state
