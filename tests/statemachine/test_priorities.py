"""Who goes first: by priority, by urgency of its kind, then first in, first out."""

from statemachine.evolve import fold
from statemachine.snapshot import freeze, thaw
from statemachine.state import digest
from statemachine.stimuli import (
    Created,
    FoundUnit,
    PauseAsked,
    Planned,
    PriorityAsked,
    Released,
    RequeueAsked,
    Restored,
    Split,
    SplitAsked,
    Surveyed,
)
from statemachine.words import BsonText, Cause, ChunkId, Key, Status, TaskKey, TaskKind, UnitId
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import CHUNK, DUMP, DUMPED, UNIT, Story, began

TWO = UnitId("shop.two")
ONE_WORKER = SETTINGS.model_copy(update={"dump_workers": 1, "restore_workers": 1})


def chunk(n: int, unit: UnitId = UNIT) -> ChunkId:
    return ChunkId(f"{unit}#{n}")


def dump(n: int, unit: UnitId = UNIT) -> TaskKey:
    return TaskKey(TaskKind.DUMP, chunk(n, unit))


def two_units(chunks: int = 3) -> Story:
    """One worker; the first chunk of the first unit at work."""
    story = Story(ONE_WORKER)
    units = tuple(
        FoundUnit(unit, unit, "collection", "00", BsonText("{}"), (), 100, 1000)
        for unit in (UNIT, TWO)
    )
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(units))
    edges = tuple(Key(str(n)) for n in range(chunks - 1))
    for unit in (UNIT, TWO):
        story.succeed(TaskKey(TaskKind.CREATE, unit), Created(()))
    for unit in (UNIT, TWO):
        story.succeed(TaskKey(TaskKind.PLAN, unit), Planned(edges, 100, natural=False))
    return story


def dumped(story: Story) -> list[str]:
    """In which order the chunks are dumped from here on."""
    while at_work := list(story.state.queue(TaskKind.DUMP, Status.PROCESSING)):
        story.succeed(at_work[0], DUMPED)
    return [
        event.about.removeprefix("shop.") for event in story.events if event.kind == "dump_started"
    ]


def test_without_priorities_it_is_first_in_first_out() -> None:
    """A11, I27."""
    expected = [f"{unit}#{n}" for unit in ("orders", "two") for n in range(3)]
    assert dumped(two_units()) == expected


def test_a_unit_before_the_others() -> None:
    """A32, I27: what runs goes on; of the same priority first in, first out."""
    story = two_units()
    assert story.tell(PriorityAsked("me", TWO, 5, 7)) == ["priority_changed"]
    event = story.events[-1]
    assert (event.about, event.priority, event.was) == (TWO, 5, 0)  # type: ignore[union-attr]
    assert story.state.units[TWO].priority == 5
    assert {each.priority for each in story.state.chunks.values() if each.unit == TWO} == {5}
    assert dumped(story) == ["orders#0", "two#0", "two#1", "two#2", "orders#1", "orders#2"]
    assert digest(fold(story.events)) == digest(story.state)


def test_a_chunk_before_and_one_behind_the_others() -> None:
    """A32, I27: negative ones wait until nothing else is left."""
    story = two_units()
    story.tell(PriorityAsked("me", chunk(1), -1, 7), PriorityAsked("me", chunk(2, TWO), 1, 8))
    assert story.state.priorities == (1, 0, -1)
    assert dumped(story) == ["orders#0", "two#2", "orders#2", "two#0", "two#1", "orders#1"]


def test_of_the_same_priority_who_was_given_it_first() -> None:
    """I27: whoever joins a queue joins its end."""
    story = two_units()
    story.tell(PriorityAsked("me", chunk(1, TWO), 2, 7), PriorityAsked("me", chunk(2), 2, 8))
    assert story.state.priorities == (2, 0)
    assert dumped(story)[:3] == ["orders#0", "two#1", "orders#2"]


def test_the_kind_comes_after_the_priority() -> None:
    """I27: a split is more urgent than a dump, but not than one of higher priority."""
    story = two_units()
    story.tell(SplitAsked("me", chunk(1), 7), PriorityAsked("me", chunk(2), 1, 8))
    assert story.succeed(DUMP, DUMPED)[1:] == ["dump_started", "restore_started"]
    assert story.status(dump(2)) is Status.PROCESSING
    assert "split_started" in story.succeed(dump(2), DUMPED)


def test_a_priority_holds_through_all_stages() -> None:
    """A32: the restore of what is urgent is urgent."""
    story = two_units()
    story.tell(PriorityAsked("me", chunk(2), 3, 7))
    for n in (0, 2):
        story.succeed(dump(n), DUMPED)
    restore = TaskKey(TaskKind.RESTORE, chunk(2))
    assert story.state.tasks[restore].priority == 3
    story.succeed(restore._replace(entity=CHUNK), Restored(50, 10, 100, 0, 0))
    story.succeed(restore, Restored(50, 10, 100, 0, 0))
    assert story.state.tasks[restore._replace(kind=TaskKind.VERIFY)].priority == 3


def test_a_priority_moves_what_waits_and_what_was_given_up() -> None:
    """A32, I14: each task stands in one queue, whatever its status."""
    story = Story().planned(chunks=3, indexes=1)
    story.fail(DUMP, Cause.TRANSIENT)
    story.fail(dump(1), Cause.PERMANENT)
    story.tell(PriorityAsked("me", UNIT, 2, 7))
    state = story.state
    for status in (Status.WAITING, Status.FAILED, Status.PROCESSING):
        assert list(state.queues[TaskKind.DUMP, status, 2]) == list(
            state.queue(TaskKind.DUMP, status)
        )
    assert not any(queue for (_, _, priority), queue in state.queues.items() if priority != 2)
    completed = [task for task in state.tasks.values() if task.status is Status.COMPLETED]
    assert {task.priority for task in completed} == {0, 2}, "the survey stays"
    assert "dump_requeued" in story.tell(began())


def test_a_retry_of_higher_priority_goes_first() -> None:
    """A32, I27."""
    told = ONE_WORKER.model_copy(update={"jitter": "none", "retry": "fixed"})
    story = Story(told).planned(chunks=3)
    story.fail(DUMP, Cause.TRANSIENT)
    story.fail(dump(1), Cause.TRANSIENT)
    story.tell(PriorityAsked("me", chunk(1), 1, 7))
    story.now = 1000
    story.succeed(dump(2), DUMPED)
    assert story.status(dump(1)) is Status.PROCESSING


def test_what_comes_later_takes_the_priority_of_its_unit() -> None:
    """A32: its plan, its chunks, its indexes."""
    story = Story()
    unit = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 100, 1000)
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((unit,)))
    story.tell(PriorityAsked("me", UNIT, 4, 7))
    story.succeed(TaskKey(TaskKind.CREATE, UNIT), Created(()))
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((), 10, natural=False))
    assert {task.priority for key, task in story.state.tasks.items() if key.entity != "job"} == {4}
    story = Story(verify=False).planned(indexes=1)
    story.tell(PriorityAsked("me", UNIT, 4, 7))
    story.succeed(DUMP, DUMPED)
    story.succeed(TaskKey(TaskKind.RESTORE, CHUNK), Restored(50, 10, 100, 0, 0))
    assert story.state.tasks[TaskKey(TaskKind.INDEX, f"{UNIT}@i0")].priority == 4


def test_the_parts_of_a_chunk_keep_its_priority() -> None:
    """A32: cut by an operator, or carried again; others are as before."""
    story = Story().planned(chunks=2)
    story.tell(PriorityAsked("me", CHUNK, 6, 7), SplitAsked("me", CHUNK, 8))
    split = TaskKey(TaskKind.SPLIT, CHUNK)
    assert story.state.tasks[split].priority == 6
    story.succeed(split, Split((Key("m"),), (20, 30)))
    assert [each.priority for each in story.state.chunks.values()] == [0, 6, 6]
    story = Story(verify=False).planned(chunks=2)
    story.tell(PriorityAsked("me", CHUNK, 6, 7))
    story.succeed(DUMP, DUMPED)
    story.succeed(TaskKey(TaskKind.RESTORE, CHUNK), Restored(50, 9, 90, 0, 1))
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    story.tell(RequeueAsked("me", CHUNK, 8))
    assert story.state.chunks[chunk(2)].priority == 6


def test_a_priority_changes_while_the_job_rests() -> None:
    """M2: the next run goes by it."""
    story = two_units()
    story.tell(PauseAsked("me", "", immediate=True), PriorityAsked("me", TWO, 1, 7))
    assert story.tell(began(ONE_WORKER))[-1] == "dump_started"
    assert story.status(dump(0, TWO)) is Status.PROCESSING


def test_a_snapshot_keeps_the_order() -> None:
    """I9, I27: thawed or not, the same goes first."""
    story = two_units()
    story.tell(PriorityAsked("me", TWO, 5, 7), PriorityAsked("me", chunk(2), -5, 8))
    assert list(thaw(freeze(story.state)).queue(TaskKind.DUMP, Status.PENDING)) == list(
        story.state.queue(TaskKind.DUMP, Status.PENDING)
    )
