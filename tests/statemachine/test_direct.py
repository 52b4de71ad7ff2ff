"""Direct mode: from source to target without a file, without a pause of its own accord."""

from collections.abc import Sequence
from typing import Any

import pytest

from statemachine.effects import wanted_effects
from statemachine.events import PauseRequested
from statemachine.evolve import fold
from statemachine.state import STAGES, Done, digest, stages_of
from statemachine.stimuli import (
    Built,
    Copied,
    PauseAsked,
    Progressed,
    Rejection,
    RequeueAsked,
    SplitAsked,
)
from statemachine.words import Cause, ChunkId, JobStatus, Key, Status, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import CHUNK, EQUAL, UNIT, VERIFY, Story, began
from tests.statemachine.test_state import sums

COPY = TaskKey(TaskKind.COPY, CHUNK)
OTHER = ChunkId(f"{UNIT}#1")
OTHER_COPY = TaskKey(TaskKind.COPY, OTHER)
INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
COPIED = Copied(10, Key("z"), 10, 100, 0, 0)
BAD = Rejection(Key("1"), "EMONGO121", "no")


def direct(chunks: int = 1, indexes: int = 0, verify: bool = True, **settings: Any) -> Story:
    told = SETTINGS.model_copy(update=settings)
    return Story(told, mode="direct", verify=verify).planned(chunks, indexes)


def test_the_whole_way() -> None:
    """A1, A16, I25: copy, then verify; no file is written, none to release."""
    story = direct(indexes=1)
    assert story.status(COPY) is Status.PROCESSING
    assert story.succeed(COPY, COPIED) == ["copy_completed", "verify_started", "index_started"]
    assert story.succeed(INDEX, Built()) == ["index_completed"]
    assert story.succeed(VERIFY, EQUAL) == ["verify_completed", "unit_completed", "job_completed"]
    assert sums(story) == {
        "named": 1,
        "planned": 1,
        "restored": 1,
        "settled": 1,
        "weight": 200,
        "weight_done": 200,
        "restored_documents": 10,
        "restored_bytes": 100,
        "source_documents": 10,
        "target_documents": 10,
    }
    assert (story.state.files, story.state.done_documents, story.state.done_bytes) == (0, 10, 100)
    assert digest(fold(story.events)) == digest(story.state)


def test_without_a_verification_the_copy_is_all() -> None:
    """A30."""
    story = direct(verify=False)
    assert story.succeed(COPY, COPIED) == ["copy_completed", "unit_completed", "job_completed"]


@pytest.mark.parametrize(
    ("kind", "mode", "verify", "stages"),
    [
        ("migrate", "coordinated", True, ["dump", "restore", "verify"]),
        ("migrate", "coordinated", False, ["dump", "restore"]),
        ("migrate", "direct", True, ["copy", "verify"]),
        ("migrate", "direct", False, ["copy"]),
        ("verify", "coordinated", False, ["verify"]),
        ("verify", "direct", True, ["verify"]),
        ("dump", "coordinated", True, ["dump"]),
        ("dump", "direct", False, ["dump"]),
        ("restore", "coordinated", True, ["restore", "verify"]),
        ("restore", "direct", False, ["restore"]),
        ("plan", "coordinated", False, []),
        ("plan", "direct", True, []),
        ("export", "coordinated", True, ["dump"]),
        ("export", "direct", False, ["dump"]),
        ("group", "coordinated", True, []),
        ("group", "direct", False, []),
    ],
)
def test_what_is_done_with_a_chunk(
    kind: str, mode: str, verify: bool, stages: Sequence[str]
) -> None:
    """A1: by the kind and the mode of the job."""
    spec = SPEC.model_copy(update={"kind": kind, "mode": mode, "verify": verify})
    assert list(stages_of(spec)) == stages
    assert len(STAGES) == 14


def test_copies_share_the_workers_of_restores() -> None:
    """A17, I26."""
    story = direct(chunks=6)
    assert story.state.size(TaskKind.COPY, Status.PROCESSING) == 2


def test_a_copy_goes_on_behind_what_was_acknowledged() -> None:
    """I16, I31: the position counts documents read, the key says where; news in order only."""
    story = direct()
    first = Copied(4, Key("d"), 3, 30, 1, 1, (BAD,))
    assert story.tell(Progressed(COPY, 1, 1, first)) == ["document_rejected", "copy_progressed"]
    assert story.state.chunks[CHUNK].done == Done(4, 3, 30, 1, 1, Key("d"))
    assert story.tell(Progressed(COPY, 1, 1, first)) == ["result_ignored"]
    assert story.tell(began())[:3] == ["run_started", "copy_in_doubt", "copy_resolved"]
    resolved = next(event for event in story.events if event.kind == "copy_resolved")
    assert (resolved.decision, resolved.position) == ("continue", 4)  # type: ignore[union-attr]
    [effect] = [each for each in wanted_effects(story.state) if each.task == COPY]
    assert effect.chunk is not None
    assert effect.chunk.done.last_key == "d"
    assert sums(story)["restored_documents"] == 3


def test_a_copy_without_progress_begins_anew() -> None:
    """I16."""
    story = direct()
    story.tell(began())
    resolved = next(event for event in story.events if event.kind == "copy_resolved")
    assert (resolved.decision, resolved.position) == ("discard", 0)  # type: ignore[union-attr]


def test_what_was_rejected_is_carried_again() -> None:
    """A34, decision 7: without a file nothing is waited for."""
    story = direct(chunks=2)
    story.succeed(COPY, Copied(10, Key("z"), 9, 90, 3, 1, (BAD,)))
    story.succeed(VERIFY, EQUAL)
    assert list(story.state.flawed) == [CHUNK]
    assert story.tell(RequeueAsked("me", CHUNK, 1)) == [
        "chunk_replaced",
        "chunk_planned",
        "copy_started",
    ]
    assert sums(story) == {"named": 3, "planned": 2, "weight": 200}


def test_a_copy_is_cut_in_its_middle() -> None:
    """I25: what it wrote so far will be found there."""
    story = direct()
    story.tell(Progressed(COPY, 1, 1, Copied(4, Key("d"), 3, 30, 1, 1)))
    assert story.tell(SplitAsked("me", CHUNK, 1)) == ["split_requested", "split_started"]
    assert sums(story) == {"named": 1, "planned": 1, "weight": 200}
    assert (story.state.done_documents, story.state.releasing) == (0, {})


# --- no pause of its own accord ---


def test_a_dead_letter_pauses_only_when_nothing_else_is_left() -> None:
    """A1, A8, I30: without the coordinator's pause the rest goes on to its end first."""
    story = direct(chunks=4)
    assert story.fail(COPY, Cause.PERMANENT) == ["copy_dead_lettered", "copy_started"]
    for n in (1, 2, 3):
        story.succeed(TaskKey(TaskKind.COPY, f"{UNIT}#{n}"), COPIED)
    for n in (1, 2):
        story.succeed(TaskKey(TaskKind.VERIFY, f"{UNIT}#{n}"), EQUAL)
    kinds = story.succeed(TaskKey(TaskKind.VERIFY, f"{UNIT}#3"), EQUAL)
    assert kinds == ["verify_completed", "pause_requested", "job_paused"]
    assert story.state.why == "nothing is left to do but 1 dead letter"
    asked = story.events[-2]
    assert isinstance(asked, PauseRequested)
    assert (asked.by, asked.request, asked.immediate) == ("ferrylog", 0, False)
    assert story.tell(began()) == ["run_started", "job_resumed", "copy_requeued", "copy_started"]


def test_dead_letters_are_counted_for_people() -> None:
    story = direct(chunks=2)
    story.fail(COPY, Cause.PERMANENT)
    assert story.fail(OTHER_COPY, Cause.PERMANENT)[-2:] == ["pause_requested", "job_paused"]
    assert story.state.why == "nothing is left to do but 2 dead letters"


def test_a_pause_under_way_is_not_asked_again() -> None:
    """I19."""
    story = direct(chunks=2)
    story.tell(PauseAsked("me", "lunch"))
    story.fail(COPY, Cause.PERMANENT)
    assert story.fail(OTHER_COPY, Cause.PERMANENT) == ["copy_dead_lettered", "job_paused"]
    assert story.state.why == "lunch"


def test_what_waits_is_left_to_do() -> None:
    """I30: a retry, a file on its way out, and the job does not pause yet."""
    story = direct(chunks=2)
    story.fail(COPY, Cause.PERMANENT)
    assert story.fail(OTHER_COPY, Cause.TRANSIENT) == ["copy_retry_scheduled"]
    story.state.tasks[OTHER_COPY].status = Status.FAILED
    story.state.queues.clear()
    story.state.queues[TaskKind.COPY, Status.FAILED, 0] = {COPY: None, OTHER_COPY: None}
    story.state.releasing[CHUNK] = "f"
    assert story.tell() == []
    story.state.releasing.clear()
    assert story.tell() == ["pause_requested", "job_paused"]


def test_a_survey_that_fails_leaves_nothing_to_do() -> None:
    """A8: it belongs to no unit."""
    story = Story(mode="direct")
    kinds = story.fail(TaskKey(TaskKind.SURVEY, "job"), Cause.PERMANENT)
    assert kinds == ["survey_dead_lettered", "pause_requested", "job_paused"]
    assert story.state.why.startswith("survey of job was given up")


@pytest.mark.parametrize(
    ("policy", "end"), [("skip-unit", "unit_skipped"), ("fail-job", "job_failed")]
)
def test_the_other_policies_hold(policy: str, end: str) -> None:
    """A8."""
    story = direct(on_exhausted=policy)
    assert end in story.fail(COPY, Cause.PERMANENT)


def test_a_fatal_failure_pauses_all_the_same() -> None:
    """A20: what only the operator heals."""
    story = direct()
    assert story.fail(COPY, Cause.FATAL) == ["copy_cancelled", "pause_requested", "job_paused"]


def test_an_outage_at_the_indexes_is_no_reason_to_pause_at_once() -> None:
    """A8: the index is a dead letter like any other."""
    story = direct(indexes=1, max_retries=1)
    story.succeed(COPY, COPIED)
    assert story.fail(INDEX, Cause.TRANSIENT) == ["index_dead_lettered"]
    assert story.succeed(VERIFY, EQUAL)[-1] == "job_completed"


def test_several_deaths_of_units_pause_at_the_end_only() -> None:
    """A8, I19: the same holds for what a recovery gives up."""
    story = direct(chunks=2)
    for chunk in story.state.chunks.values():
        chunk.natural = True
    story.state.tasks[COPY].interruptions = 49
    kinds = story.tell(began())
    assert "copy_dead_lettered" in kinds
    assert "pause_requested" not in kinds
    assert story.state.status is JobStatus.RUNNING
