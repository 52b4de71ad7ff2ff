"""A dump of what changed: captured, planned and dumped as of one cluster time (I1, I12)."""

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.policy import MAX_MOMENTS
from statemachine.state import digest
from statemachine.stimuli import (
    AddAsked,
    Captured,
    Capturing,
    Dumped,
    ExcludeAsked,
    Manifested,
    Planned,
    PlannedFiles,
    Progressed,
    Surveyed,
    Tick,
)
from statemachine.words import Cause, JobStatus, Key, Status, TaskKey, TaskKind
from tests.statemachine.chain import CAPTURE, TOKEN, captured, increment
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import DUMP, MANIFEST, PLAN, SURVEY, UNIT, Story, began, found

CHANGED = Dumped("f", 8, 100, 50, 1, "ab", erased=2)
OTHER = TaskKey(TaskKind.DUMP, f"{UNIT}#1")


def planned(chunks: int = 2) -> Story:
    story = increment()
    story.succeed(CAPTURE, captured())
    edges = tuple(Key(str(n)) for n in range(1, chunks))
    story.succeed(PLAN, Planned(edges, 10, natural=False))
    return story


def test_the_whole_way() -> None:
    story = increment()
    assert [key.kind for key in story.state.tasks] == [TaskKind.CAPTURE]
    [effect] = wanted_effects(story.state)
    assert (effect.task, effect.token, effect.changes) == (CAPTURE, "", 0)
    assert effect.capture_bytes == SETTINGS.capture_bytes
    kinds = story.succeed(CAPTURE, captured())
    assert kinds == ["unit_registered", "capture_completed", "plan_started"]
    assert story.state.cluster_time == "200.1"
    story.succeed(PLAN, Planned((Key("1"),), 10, natural=False))
    assert {effect.cluster_time for effect in wanted_effects(story.state)} == {"200.1"}
    story.succeed(DUMP, CHANGED)
    story.succeed(OTHER, CHANGED)
    [effect] = wanted_effects(story.state)
    assert (effect.task, effect.token, effect.cluster_time) == (MANIFEST, TOKEN, "200.1")
    assert [each.file and each.file.erased for each in effect.filed] == [2, 2]
    story.succeed(MANIFEST, Manifested("ab", 16, 200))
    assert story.state.status is JobStatus.COMPLETED
    assert fold(story.events) == story.state


def test_nothing_changed() -> None:
    """A missing delta would be an error; an empty one is a link like any other."""
    story = increment()
    story.succeed(CAPTURE, captured())
    story.succeed(PLAN, PlannedFiles(()))
    story.succeed(MANIFEST, Manifested("ab", 0, 0))
    assert story.state.status is JobStatus.COMPLETED


def test_a_capture_goes_on_at_its_token() -> None:
    story = increment()
    epoch = story.state.epoch
    part = Capturing(TOKEN, "150.1", 30)
    assert story.tell(Progressed(CAPTURE, 1, epoch, part)) == ["capture_progressed"]
    assert story.tell(Progressed(CAPTURE, 1, epoch, part)) == ["result_ignored"]
    quiet = Capturing(TOKEN, "160.1", 30)  # time went on, and nothing changed
    assert story.tell(Progressed(CAPTURE, 1, epoch, quiet)) == ["capture_progressed"]
    kinds = story.tell(began())
    assert kinds[1:] == ["capture_in_doubt", "capture_resolved", "capture_started"]
    resolved = next(event for event in story.events if event.kind == "capture_resolved")
    assert (resolved.decision, resolved.position) == ("continue", 30)  # type: ignore[union-attr]
    [effect] = wanted_effects(story.state)
    assert (effect.token, effect.changes) == (TOKEN, 30)
    assert story.state.reached == "160.1"


def test_a_capture_that_saw_nothing_begins_anew() -> None:
    story = increment()
    story.tell(began())
    resolved = next(event for event in story.events if event.kind == "capture_resolved")
    assert resolved.decision == "discard"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["plan", "dump"])
def test_a_time_that_is_over_lets_the_capture_go_on(kind: str) -> None:
    """What runs ends first: nothing of the old time can come back and be taken for the new."""
    story = planned()
    if kind == "plan":
        story = increment()
        story.succeed(CAPTURE, Captured((found(), found("a.b")), TOKEN, "200.1", 40))
        keys = [PLAN, TaskKey(TaskKind.PLAN, "a.b")]
    else:
        keys = [DUMP, OTHER]
    kinds = story.fail(keys[0], Cause.PERMANENT, code="ESNAP001")
    assert kinds[1:] == ["moment_passed"]
    assert story.state.outdated
    assert [effect.task for effect in wanted_effects(story.state)] == [keys[1]]
    kinds = story.fail(keys[1], Cause.PERMANENT, code="ESNAP001")
    assert kinds[1:] == ["capture_invalidated", "capture_started"]
    state = story.state
    assert (state.units, state.chunks, state.filed, state.open_units) == ({}, {}, {}, {})
    assert list(state.tasks) == [CAPTURE]
    assert (state.closed, state.outdated, state.cluster_time, state.moments) == (
        False,
        False,
        "",
        1,
    )
    assert state.token == TOKEN
    assert state.tasks[CAPTURE].attempt == 2
    story.succeed(CAPTURE, Captured((found(),), TOKEN, "210.1", 44))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.succeed(DUMP, CHANGED)
    story.succeed(MANIFEST, Manifested("ab", 8, 100))
    assert state.status is JobStatus.COMPLETED
    assert fold(story.events) == state


def test_what_was_dumped_as_of_the_old_time_is_dumped_again() -> None:
    story = planned()
    story.succeed(DUMP, CHANGED)
    story.fail(OTHER, Cause.PERMANENT, code="ESNAP001")
    assert story.state.filed == {}
    assert story.state.files == 0
    assert story.state.done_documents == 0


def test_a_restart_while_a_time_is_over() -> None:
    """I12: what was in flight is decided first."""
    story = planned()
    story.fail(DUMP, Cause.PERMANENT, code="ESNAP001")
    kinds = story.tell(began())
    assert kinds[-2:] == ["capture_invalidated", "capture_started"]
    assert list(story.state.tasks) == [CAPTURE]


def test_a_source_of_which_no_time_lasts() -> None:
    story = increment()
    for _ in range(MAX_MOMENTS):
        assert story.state.status is JobStatus.RUNNING
        story.succeed(CAPTURE, captured())
        story.fail(PLAN, Cause.PERMANENT, code="ESNAP001")
    assert (story.state.status, story.state.code) == (JobStatus.FAILED, "ESNAP001")


def test_a_full_dump_has_but_one_time() -> None:
    """ESNAP001 of anything but an increment stays what it was."""
    story = Story(kind="dump", consistency="snapshot")
    assert not story.state.outdated
    story.succeed(SURVEY, Surveyed((found(),), cluster_time="7.1"))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.fail(DUMP, Cause.PERMANENT, code="ESNAP001")
    assert not story.state.outdated
    assert story.status(DUMP) is Status.FAILED


def test_no_unit_can_be_left_out() -> None:
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit", "max_retries": 1})
    story = increment()
    story.tell(began(told))
    story.succeed(CAPTURE, captured())
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.fail(DUMP, Cause.TRANSIENT)
    assert story.state.status is JobStatus.PAUSED
    assert "stays as it was selected" in refusal(story.state, ExcludeAsked("me", UNIT))
    assert "stays as it was selected" in refusal(story.state, AddAsked("me", ("b.*",)))


def test_time_passes() -> None:
    story = planned()
    before = digest(story.state)
    assert story.tell(Tick()) == []
    assert digest(story.state) == before
