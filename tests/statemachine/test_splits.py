"""An operator finds a chunk too big: it is cut in two, wherever it stands."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import AnyEvent, ChunkReplaced, SplitRequested
from statemachine.evolve import evolve, fold
from statemachine.state import digest
from statemachine.stimuli import (
    Failed,
    FileDamaged,
    Progressed,
    Released,
    Restored,
    Split,
    SplitAsked,
    Stimulus,
    Succeeded,
)
from statemachine.words import Cause, ChunkId, Key, Status, TaskKey, TaskKind, UnitStatus
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

SPLIT = TaskKey(TaskKind.SPLIT, CHUNK)
RELEASE = TaskKey(TaskKind.RELEASE, CHUNK)
ASKED = SplitAsked("me", CHUNK, 7)
HALVES = Split((Key("m"),), (20, 30))
FIRST, SECOND = ChunkId(f"{UNIT}#2"), ChunkId(f"{UNIT}#3")
BASE = {"named": 2, "planned": 2, "weight": 300}
MANY = SETTINGS.model_copy(update={"dump_workers": 400})


def pending() -> Story:
    """Its dump waits behind the other's."""
    story = Story(SETTINGS.model_copy(update={"dump_workers": 1}), verify=True)
    story.planned(chunks=2)
    story.fail(DUMP, Cause.FATAL)
    assert story.status(DUMP) is Status.PENDING
    return story


def dumping() -> Story:
    return Story().planned(chunks=2)


def waiting() -> Story:
    story = dumping()
    story.fail(DUMP, Cause.TRANSIENT)
    return story


def dead() -> Story:
    story = dumping()
    story.fail(DUMP, Cause.PERMANENT)
    return story


def restoring() -> Story:
    story = dumping()
    story.succeed(DUMP, DUMPED)
    return story


def progressed() -> Story:
    story = restoring()
    story.tell(Progressed(RESTORE, 1, 1, Restored(25, 4, 40, 2, 1)))
    return story


def damaged() -> Story:
    story = progressed()
    story.tell(FileDamaged(RESTORE, 1, 1, "cut"))
    return story


def verifying() -> Story:
    story = restoring()
    story.succeed(RESTORE, Restored(50, 9, 90, 3, 1))
    assert story.status(VERIFY) is Status.PROCESSING
    return story


STAGES = [pending, dumping, waiting, dead, restoring, progressed, damaged, verifying]


@pytest.mark.parametrize("stage", STAGES)
def test_a_chunk_that_is_cut_leaves_no_trace_in_the_sums(stage: Callable[[], Story]) -> None:
    """I14, I21, I25: planned, weight, dumped, restored, present, files, right afterwards; what
    lies on the target already will be found there."""
    story = stage()
    has_file = story.state.chunks[CHUNK].file is not None
    attempts = {key: task.attempt for key, task in story.state.tasks.items()}
    assert "split_requested" in story.tell(ASKED)
    assert sums(story) == BASE
    assert (story.state.done_documents, story.state.done_bytes) == (0, 0)
    assert story.state.releasing == ({CHUNK: "f"} if has_file else {})
    assert story.state.files == has_file
    assert [key for key in story.state.tasks if key.entity == CHUNK] == [SPLIT]
    for key in (DUMP, RESTORE, VERIFY):
        late: list[Stimulus] = [
            Succeeded(key, attempts.get(key, 1), 1, DUMPED),
            Failed(key, attempts.get(key, 1), 1, Cause.PERMANENT, "E", ""),
        ]
        assert story.tell(*late) == ["result_ignored", "result_ignored"]
    assert digest(fold(story.events)) == digest(story.state)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_its_parts_cover_its_range_and_go_all_the_way(stage: Callable[[], Story]) -> None:
    """I14, I21, I25: no gap, no overlap, numbered on; the sums at the end are those of any."""
    story = stage()
    story.tell(ASKED)
    if story.status(SPLIT) is Status.PENDING:
        story.tell(began())
    assert story.succeed(SPLIT, HALVES)[:4] == [
        "split_completed",
        "chunk_replaced",
        "chunk_planned",
        "chunk_planned",
    ]
    parts = [story.state.chunks[each] for each in (FIRST, SECOND)]
    assert [(part.lower, part.upper) for part in parts] == [(None, "m"), ("m", "0")]
    assert [part.documents for part in parts] == [20, 30]
    assert not any(part.bisected for part in parts)
    assert sums(story) == BASE | {"named": 4, "planned": 3}
    assert SPLIT not in story.state.tasks
    carry(story, FIRST, SECOND, ChunkId(f"{UNIT}#1"))
    assert sums(story) == BASE | {
        "named": 4,
        "planned": 3,
        "restored": 3,
        "settled": 3,
        "weight_done": 300,
        "dumped_documents": 30,
        "dumped_bytes": 300,
        "restored_documents": 30,
        "restored_bytes": 300,
        "source_documents": 30,
        "target_documents": 30,
    }
    assert story.state.units[UNIT].status is UnitStatus.COMPLETED
    assert digest(fold(story.events)) == digest(story.state)


def carry(story: Story, *chunks: ChunkId) -> None:
    """Whatever runs, of these chunks, succeeds until nothing runs any more."""
    results = {TaskKind.DUMP: DUMPED, TaskKind.RESTORE: RESTORED, TaskKind.VERIFY: EQUAL}
    while True:
        at_work = [key for key, task in story.state.tasks.items() if key.entity in chunks]
        at_work = [key for key in at_work if story.status(key) is Status.PROCESSING]
        if not at_work:
            break
        story.succeed(at_work[0], results[at_work[0].kind])
    for chunk in list(story.state.releasing):
        story.succeed(TaskKey(TaskKind.RELEASE, chunk), Released())


def test_more_parts_than_two() -> None:
    """I21."""
    story = dumping()
    story.tell(ASKED)
    story.succeed(SPLIT, Split((Key("a"), Key("b")), (1, 2, 3)))
    edges = [(chunk.lower, chunk.upper) for chunk in story.state.chunks.values()]
    assert edges == [("0", None), (None, "a"), ("a", "b"), ("b", "0")]
    completed = next(event for event in story.events if event.kind == "split_completed")
    assert (completed.about, completed.chunks) == (CHUNK, 3)  # type: ignore[union-attr]


def test_what_cannot_be_cut_stays_whole_under_another_name() -> None:
    """I21."""
    story = dumping()
    story.tell(ASKED)
    story.succeed(SPLIT, Split((), (0,)))
    part = story.state.chunks[FIRST]
    assert (part.lower, part.upper, part.documents) == (None, "0", 0)
    assert sums(story)["weight"] == (50 + 1) * 3, "an empty chunk weighs something"


def test_a_part_may_be_cut_again() -> None:
    """I21."""
    story = Story(MANY).planned(chunks=2)
    story.tell(ASKED)
    story.succeed(SPLIT, HALVES)
    story.tell(SplitAsked("me", SECOND, 8))
    story.succeed(TaskKey(TaskKind.SPLIT, SECOND), Split((Key("x"),), (10, 20)))
    assert sums(story) == BASE | {"named": 6, "planned": 4}


def test_an_empty_chunk_is_cut_with_its_weight() -> None:
    """I25: what weighs something leaves with as much."""
    story = Story(MANY).planned(chunks=200)
    assert story.state.chunks[CHUNK].documents == 0
    story.succeed(DUMP, replace(DUMPED, documents=0, bytes=0))
    story.tell(ASKED)
    assert sums(story) == {"named": 200, "planned": 200, "weight": 600}
    story.succeed(SPLIT, Split((), (0,)))
    assert sums(story) == {"named": 201, "planned": 200, "weight": 600}


def test_a_split_reads_the_range_it_is_to_cut() -> None:
    """P7: the effect has the chunk; the file it had is removed beside it."""
    story = restoring()
    story.tell(ASKED)
    effects = {each.task: each for each in wanted_effects(story.state)}
    chunk = effects[SPLIT].chunk
    assert chunk is not None
    assert (chunk.lower, chunk.upper, chunk.file) == (None, "0", None)
    assert effects[RELEASE].file == "f"
    assert RESTORE not in effects


def test_a_split_that_fails_is_tried_again() -> None:
    """A7: by the same policy; it is no document's fault."""
    story = dumping()
    story.tell(ASKED)
    assert story.fail(SPLIT, Cause.TRANSIENT, code="EDOC") == ["split_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["split_started"]


def test_the_indexes_wait_for_the_parts() -> None:
    """A4: they open when the data of all is there, not while a chunk is being cut."""
    story = Story().planned(chunks=2, indexes=1)
    story.succeed(DUMP, DUMPED)
    story.tell(ASKED)
    story.succeed(SPLIT, HALVES)
    index = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
    for chunk in (ChunkId(f"{UNIT}#1"), FIRST, SECOND):
        assert index not in story.state.tasks
        story.succeed(TaskKey(TaskKind.DUMP, chunk), DUMPED)
        story.succeed(TaskKey(TaskKind.RESTORE, chunk), RESTORED)
    assert index in story.state.tasks


def test_a_verify_job_may_cut_its_chunks_too() -> None:
    story = Story(kind="verify", of="j1").planned(chunks=2)
    story.tell(ASKED)
    story.succeed(SPLIT, HALVES)
    assert sums(story) == {"named": 4, "planned": 3, "weight": 100}
    assert story.status(TaskKey(TaskKind.VERIFY, FIRST)) is Status.PROCESSING


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (SplitRequested(chunk=FIRST, by="me", request=1, why=""), UnknownEntity),
        (ChunkReplaced(chunk=FIRST, by="me", request=1, why=""), UnknownEntity),
        (ChunkReplaced(chunk=CHUNK, by="me", request=1, why=""), ImpossibleTransition),
    ],
)
def test_the_fold_refuses_what_was_not_cut(event: AnyEvent, error: type[Exception]) -> None:
    """I11."""
    story = dumping()
    before = digest(story.state)
    with pytest.raises(error):
        evolve(story.state, event)
    assert digest(story.state) == before
