"""Dead letters: tried again, or gone on without; rejected documents; a job that has ended."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from statemachine.decide.asked import refusal
from statemachine.errors import UnknownEntity
from statemachine.events import ChunkDropped, ChunkPlanned, IndexDropped, JobCompleted
from statemachine.evolve import evolve, fold
from statemachine.state import digest
from statemachine.stimuli import (
    Built,
    Created,
    DropAsked,
    Dumped,
    ExcludeAsked,
    FoundUnit,
    PauseAsked,
    Planned,
    Progressed,
    Rejection,
    Released,
    RequeueAsked,
    Restored,
    Result,
    SplitAsked,
    Surveyed,
    Verified,
)
from statemachine.words import (
    BsonText,
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    EQUAL,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
    began,
)
from tests.statemachine.test_state import sums

SURVEY = TaskKey(TaskKind.SURVEY, "job")
CREATE, PLAN = TaskKey(TaskKind.CREATE, UNIT), TaskKey(TaskKind.PLAN, UNIT)
INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
RELEASE = TaskKey(TaskKind.RELEASE, CHUNK)
BAD = Rejection(Key("1"), "EMONGO121", "no")
REJECTED = Restored(50, 9, 90, 3, 1, (BAD,))
NEXT = ChunkId(f"{UNIT}#1")


def work(story: Story, *steps: tuple[TaskKey, Result]) -> Story:
    for key, result in steps:
        story.succeed(key, result)
    return story


def at(key: TaskKey) -> Story:
    """To the point where this task is at work."""
    story = Story()
    unit = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 10, 100)
    way: list[tuple[TaskKey, Result]] = [
        (SURVEY, Surveyed((unit,))),
        (CREATE, Created(())),
        (PLAN, Planned((), 10, natural=False)),
        (DUMP, DUMPED),
        (RESTORE, RESTORED),
    ]
    for task, result in way:
        if task == key:
            break
        story.succeed(task, result)
    return story


@pytest.mark.parametrize("key", [SURVEY, CREATE, PLAN, DUMP, RESTORE, VERIFY])
def test_a_dead_letter_of_any_task_is_tried_again(key: TaskKey) -> None:
    """A34, I19: with a fresh budget; not before somebody resumes, where the job paused for it."""
    story = at(key)
    assert story.fail(key, Cause.PERMANENT)[0] == f"{key.kind}_dead_lettered"
    wish = RequeueAsked("me", key.entity, 7, key.kind)
    assert story.tell(wish) == [f"{key.kind}_requeued"]
    event = story.events[-1]
    assert (event.by, event.request) == ("me", 7)  # type: ignore[union-attr]
    task = story.state.tasks[key]
    assert (task.status, task.failures, task.code) == (Status.PENDING, 0, "")
    assert f"{key.kind}_started" in story.tell(began())
    assert task.attempt == 2


def test_a_dead_split_is_tried_again() -> None:
    """A34: or gone on without, with the chunk it was to cut."""
    split = TaskKey(TaskKind.SPLIT, CHUNK)
    for wish, kind in (
        (RequeueAsked("me", CHUNK, 8, TaskKind.SPLIT), "split_requeued"),
        (DropAsked("me", CHUNK, TaskKind.SPLIT, 8), "chunk_dropped"),
    ):
        story = at(DUMP)
        story.tell(SplitAsked("me", CHUNK, 7))
        assert story.fail(split, Cause.PERMANENT) == [
            "split_dead_lettered",
            "pause_requested",
            "job_paused",
        ]
        assert story.tell(wish) == [kind]


def test_a_dead_letter_is_tried_again_while_the_job_goes_on() -> None:
    """A34: an index needs no pause."""
    story = Story().planned(chunks=2, indexes=1)
    other = TaskKey(TaskKind.DUMP, NEXT)
    work(story, (DUMP, DUMPED), (other, DUMPED), (RESTORE, RESTORED))
    story.succeed(TaskKey(TaskKind.RESTORE, NEXT), RESTORED)
    story.fail(INDEX, Cause.PERMANENT)
    assert story.tell(RequeueAsked("me", INDEX.entity, 7, TaskKind.INDEX)) == [
        "index_requeued",
        "index_started",
    ]
    assert story.state.units[UNIT].indexing == 1


# --- rejected documents ---


def test_rejected_documents_are_carried_again() -> None:
    """A34, decision 7, I25: the chunk leaves all sums and begins from nothing under a new name."""
    story = work(Story().planned(chunks=2), (DUMP, DUMPED), (RESTORE, REJECTED))
    story.succeed(VERIFY, Verified(False, 10, 9, "a", "b", 0, ()))
    wish = RequeueAsked("me", CHUNK, 7)
    assert refusal(story.state, wish) == f"a file of {CHUNK} is being removed; ask again"
    story.succeed(RELEASE, Released())
    assert story.tell(wish) == ["chunk_replaced", "chunk_planned", "dump_started"]
    chunk = story.state.chunks[ChunkId(f"{UNIT}#2")]
    assert (chunk.lower, chunk.upper, chunk.documents) == (None, "0", 50)
    assert not story.state.flawed
    assert sums(story) == {"named": 3, "planned": 2, "weight": 300}
    assert (story.state.done_documents, story.state.done_bytes) == (0, 0)
    assert story.state.request == 7
    assert digest(fold(story.events)) == digest(story.state)


def completed(*, indexes: int = 0, verify: bool = True) -> Story:
    """One chunk, one document of ten rejected."""
    story = Story(verify=verify).planned(indexes=indexes)
    work(story, (DUMP, DUMPED), (RESTORE, REJECTED))
    if verify:
        story.succeed(VERIFY, Verified(True, 10, 9, "a", "b", 1, ()))
    if indexes:
        story.fail(INDEX, Cause.PERMANENT)
    story.succeed(RELEASE, Released())
    assert story.state.status is JobStatus.COMPLETED
    return story


def test_a_finished_job_is_reopened_and_ends_again_with_the_right_sums() -> None:
    """A34, I13, I25: nothing runs before somebody resumes."""
    story = completed()
    before = sums(story)
    assert story.tell(RequeueAsked("me", CHUNK, 7)) == [
        "chunk_replaced",
        "chunk_planned",
        "job_reopened",
    ]
    assert story.state.status is JobStatus.PAUSED
    assert story.state.why == "reopened by me"
    assert story.state.units[UNIT].status is UnitStatus.PROCESSING
    assert list(story.state.open_units) == [UNIT]
    assert not story.state.ripe
    assert story.tell(began()) == ["run_started", "job_resumed", "dump_started"]
    again = TaskKey(TaskKind.DUMP, NEXT), TaskKey(TaskKind.RESTORE, NEXT)
    work(story, (again[0], DUMPED), (again[1], replace(RESTORED, present=9)))
    story.succeed(TaskKey(TaskKind.VERIFY, NEXT), EQUAL)
    assert story.succeed(TaskKey(TaskKind.RELEASE, NEXT), Released())[-1] == "job_completed"
    changed = {"restored_documents": 10, "restored_bytes": 100, "present": 9, "named": 2}
    expected = before | changed | {"target_documents": 10}
    del expected["rejected"]
    assert sums(story) == expected
    assert (story.state.done_documents, story.state.done_bytes, story.state.files) == (10, 100, 0)
    ends = [event for event in story.events if isinstance(event, JobCompleted)]
    assert [end.rejected for end in ends] == [1, 0]
    assert digest(fold(story.events)) == digest(story.state)


def test_the_indexes_stay_when_a_chunk_is_carried_again() -> None:
    """A4: what stands is not built twice; what was given up may be requeued, too."""
    story = completed(indexes=1)
    assert [event.dead_letters for event in story.events if isinstance(event, JobCompleted)] == [1]
    assert story.tell(RequeueAsked("me", INDEX.entity, 7, TaskKind.INDEX)) == [
        "index_requeued",
        "job_reopened",
    ]
    assert story.tell(RequeueAsked("me", CHUNK, 8))[0] == "chunk_replaced"
    assert story.tell(began()) == ["run_started", "job_resumed", "dump_started", "index_started"]
    assert story.succeed(INDEX, Built()) == ["index_completed"]
    work(story, (TaskKey(TaskKind.DUMP, NEXT), DUMPED))
    kinds = story.succeed(TaskKey(TaskKind.RESTORE, NEXT), RESTORED)
    assert kinds == ["restore_completed", "verify_started"]
    story.succeed(TaskKey(TaskKind.VERIFY, NEXT), EQUAL)
    assert story.succeed(TaskKey(TaskKind.RELEASE, NEXT), Released())[-1] == "job_completed"


def test_a_dead_index_of_a_finished_job_alone() -> None:
    """A34, I29: the unit has ended; the job goes on for its index."""
    story = completed(indexes=1)
    story.tell(RequeueAsked("me", INDEX.entity, 7, TaskKind.INDEX))
    assert story.tell(began())[-1] == "index_started"
    assert story.succeed(INDEX, Built()) == ["index_completed", "job_completed"]
    ends = [event for event in story.events if isinstance(event, JobCompleted)]
    assert [end.dead_letters for end in ends] == [1, 0]


def test_without_a_verification() -> None:
    """I25: what was never verified is not taken back."""
    story = completed(verify=False)
    story.tell(RequeueAsked("me", CHUNK, 7))
    assert sums(story) == {"named": 2, "planned": 1, "weight": 200}


@pytest.mark.parametrize("leave", ["skip", "exclude"])
def test_rejects_of_a_unit_that_is_gone_stay_as_they_are(leave: str) -> None:
    """A34."""
    settings = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})
    story = Story(settings, verify=False).planned(chunks=2)
    work(story, (DUMP, DUMPED), (RESTORE, REJECTED), (RELEASE, Released()))
    story.tell(PauseAsked("me", ""))
    if leave == "skip":
        story.fail(TaskKey(TaskKind.DUMP, NEXT), Cause.PERMANENT)
    else:
        story.tell(ExcludeAsked("me", UNIT))
    status = story.state.units[UNIT].status
    assert refusal(story.state, RequeueAsked("me", CHUNK)) == f"{UNIT} is {status}"


# --- to go on without ---

FILE = {"dumped_documents": 10, "dumped_bytes": 100}
PART = {"restored_documents": 3, "restored_bytes": 30, "present": 2, "rejected": 7}
WHOLE = {"restored_documents": 10, "restored_bytes": 100}
DROPS: list[tuple[TaskKey, int, dict[str, int]]] = [
    (DUMP, 10, {"rejected": 10}),
    (RESTORE, 6, FILE | PART),
    (VERIFY, 0, FILE | WHOLE),
]


def dropped(key: TaskKey) -> Story:
    """Given up at this stage, a restore in the middle of it; then dropped by request 7."""
    story = at(key)
    if key == RESTORE:
        story.tell(Progressed(RESTORE, 1, 1, Restored(25, 3, 30, 2, 1, (BAD,))))
    story.fail(key, Cause.PERMANENT)
    assert story.tell(DropAsked("me", CHUNK, key.kind, 7)) == ["chunk_dropped"]
    return story


@pytest.mark.parametrize(("key", "missing", "counted"), DROPS, ids=str)
def test_a_job_goes_on_without_a_chunk(key: TaskKey, missing: int, counted: dict[str, int]) -> None:
    """A34, I25: what did not come counts as rejected, the chunk as dropped, at every stage."""
    story = dropped(key)
    event = story.events[-1]
    assert isinstance(event, ChunkDropped)
    assert (event.documents, event.by, event.request) == (missing, "me", 7)
    assert event.why == "dropped by me"
    whole = {"named": 1, "planned": 1, "dropped": 1, "weight": 30, "weight_done": 30}
    assert sums(story) == whole | counted
    assert list(story.state.flawed) == [CHUNK]
    assert story.state.files == len(story.state.releasing) == ("dumped_bytes" in counted)
    story.tell(began())
    story.succeed(RELEASE, Released())
    last = story.events[-1]
    assert isinstance(last, JobCompleted)
    assert (last.dead_letters, last.rejected) == (1, counted.get("rejected", 0))


@pytest.mark.parametrize("key", [DUMP, RESTORE, VERIFY])
def test_a_dropped_chunk_may_come_back(key: TaskKey) -> None:
    """A34, I25: out of all sums, under a new name, as if it had never been dropped."""
    story = dropped(key)
    story.tell(began())
    story.succeed(RELEASE, Released())
    assert story.tell(RequeueAsked("me", CHUNK, 8))[-1] == "job_reopened"
    story.tell(began())
    assert sums(story) == {"named": 2, "planned": 1, "weight": 30}
    assert (story.state.done_documents, story.state.done_bytes) == (0, 0)
    for task, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(task._replace(entity=NEXT), result)
    story.succeed(TaskKey(TaskKind.RELEASE, NEXT), Released())
    last = story.events[-1]
    assert isinstance(last, JobCompleted)
    assert (last.dead_letters, last.rejected) == (0, 0)
    assert digest(fold(story.events)) == digest(story.state)


def test_what_was_dumped_is_known_exactly() -> None:
    """I25: the plan guessed 10, the file holds 7."""
    story = at(DUMP)
    story.succeed(DUMP, Dumped("f", 7, 70, 50, 1, "ab"))
    story.fail(RESTORE, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.RESTORE, 7))
    assert story.state.units[UNIT].rejected == 7


def test_never_less_than_nothing_is_missing() -> None:
    """I25: the plan guessed 10, and 12 came."""
    story = at(VERIFY)
    chunk = story.state.chunks[CHUNK]
    chunk.done = chunk.done._replace(documents=12)
    story.fail(VERIFY, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.VERIFY, 7))
    assert story.state.units[UNIT].rejected == 0


def test_the_indexes_come_without_the_chunk_that_was_dropped() -> None:
    """A4: they wait for the data of the others only."""
    story = Story().planned(chunks=2, indexes=1)
    other = TaskKey(TaskKind.DUMP, NEXT)
    work(story, (other, DUMPED), (other._replace(kind=TaskKind.RESTORE), RESTORED))
    assert INDEX not in story.state.tasks
    story.fail(DUMP, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.DUMP, 7))
    assert INDEX in story.state.tasks


def test_a_verify_job_goes_on_without_a_chunk() -> None:
    """I25, I46: nothing was to be restored, and no index to be built."""
    story = Story(kind="verify", of="j1").planned(chunks=2, indexes=1)
    story.fail(VERIFY, Cause.PERMANENT)
    story.succeed(TaskKey(TaskKind.VERIFY, NEXT), EQUAL)
    assert story.tell(DropAsked("me", CHUNK, TaskKind.VERIFY, 7)) == ["chunk_dropped"]
    assert story.state.units[UNIT].restored == 0
    assert INDEX not in story.state.tasks
    assert story.tell(began())[-1] == "job_completed"


def test_a_job_goes_on_without_an_index() -> None:
    """A34: it is counted among the dead letters to the end."""
    story = Story().planned(chunks=2, indexes=2)
    other = TaskKey(TaskKind.DUMP, NEXT)
    work(story, (DUMP, DUMPED), (other, DUMPED), (RESTORE, RESTORED))
    story.succeed(TaskKey(TaskKind.RESTORE, NEXT), RESTORED)
    story.fail(INDEX, Cause.PERMANENT)
    assert story.tell(DropAsked("me", INDEX.entity, TaskKind.INDEX, 7)) == ["index_dropped"]
    assert [index.name for index in story.state.units[UNIT].indexes] == ["i1"]
    assert (story.state.dropped, story.state.count(Status.FAILED)) == (1, 0)
    assert INDEX not in story.state.tasks
    story.fail(INDEX._replace(entity=f"{UNIT}@i1"), Cause.PERMANENT)
    for chunk in (CHUNK, NEXT):
        story.succeed(TaskKey(TaskKind.VERIFY, chunk), EQUAL)
        story.succeed(TaskKey(TaskKind.RELEASE, chunk), Released())
    last = story.events[-1]
    assert isinstance(last, JobCompleted)
    assert last.dead_letters == 2


def test_a_unit_is_excluded_and_not_dropped() -> None:
    """A34: what belongs to a whole unit is answered by another request."""
    story = at(PLAN)
    story.fail(PLAN, Cause.PERMANENT)
    why = refusal(story.state, DropAsked("me", UNIT, TaskKind.PLAN))
    assert why == f"{UNIT} is no chunk and no index: exclude the unit instead"


@pytest.mark.parametrize(
    "event",
    [
        lambda: IndexDropped(entity=INDEX.entity, by="me", request=1),
        lambda: ChunkDropped(chunk=NEXT, by="me", request=1, documents=1, why=""),
        lambda: ChunkPlanned(
            unit=UNIT, chunk=CHUNK, lower=None, upper=None, documents=1, natural=False
        ).model_copy(update={"unit": "no.such"}),
    ],
)
def test_the_fold_refuses_what_is_not_there(event: Callable[[], ChunkDropped]) -> None:
    """I11."""
    story = Story().planned(indexes=1)
    before = digest(story.state)
    with pytest.raises(UnknownEntity):
        evolve(story.state, event())
    assert digest(story.state) == before
