"""To pause, to stop, at once or when what runs has ended; and to go on."""

from dataclasses import replace

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.state import digest
from statemachine.stimuli import (
    Asked,
    Failed,
    PauseAsked,
    Progressed,
    Released,
    SetAsked,
    SplitAsked,
    StopAsked,
    Succeeded,
)
from statemachine.words import Cause, ChunkId, JobStatus, Status, TaskKey, TaskKind
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    RESTORE,
    RESTORED,
    UNIT,
    Story,
    began,
)

OTHER = ChunkId(f"{UNIT}#1")
OTHER_DUMP = TaskKey(TaskKind.DUMP, OTHER)
PAUSE, PAUSE_NOW = PauseAsked("me", "lunch", 1), PauseAsked("me", "fire", 2, immediate=True)
STOP, STOP_NOW = StopAsked("me", "enough", 3), StopAsked("me", "now", 4, immediate=True)
DOUBTS = ["dump_in_doubt", "dump_in_doubt"]


def story_of(*wishes: Asked) -> Story:
    """Two dumps at work, two chunks waiting; then these wishes."""
    story = Story(undo=True).planned(chunks=4)
    story.tell(*wishes)
    return story


@pytest.mark.parametrize(
    ("first", "wish", "kinds", "status"),
    [
        ((), PAUSE, ["pause_requested"], "pausing"),
        ((), PAUSE_NOW, ["pause_requested", *DOUBTS, "job_paused"], "paused"),
        ((), STOP, ["stop_requested"], "stopping"),
        ((), STOP_NOW, ["stop_requested", *DOUBTS, "job_stopped"], "stopped"),
        ((PAUSE,), PAUSE_NOW, ["pause_requested", *DOUBTS, "job_paused"], "paused"),
        ((PAUSE,), STOP, ["stop_requested"], "stopping"),
        ((PAUSE,), STOP_NOW, ["stop_requested", *DOUBTS, "job_stopped"], "stopped"),
        ((STOP,), STOP_NOW, ["stop_requested", *DOUBTS, "job_stopped"], "stopped"),
        ((PAUSE_NOW,), STOP, ["stop_requested", "job_stopped"], "stopped"),
        ((PAUSE_NOW,), STOP_NOW, ["stop_requested", "job_stopped"], "stopped"),
    ],
)
def test_ways_to_rest(first: tuple[Asked, ...], wish: Asked, kinds: list[str], status: str) -> None:
    """A18, A20, M2: a pause becomes a stop, what is asked at once hastens what is under way."""
    story = story_of(*first)
    assert story.tell(wish) == kinds
    assert story.state.status == status
    assert story.state.immediate is getattr(wish, "immediate")  # noqa: B009
    assert digest(fold(story.events)) == digest(story.state)


@pytest.mark.parametrize(
    ("first", "wish", "why"),
    [
        ((PAUSE,), replace(PAUSE, request=9), "the job is pausing"),
        ((PAUSE_NOW,), replace(PAUSE_NOW, request=9), "the job is paused"),
        ((STOP,), replace(PAUSE, request=9), "the job is stopping"),
        ((STOP,), replace(STOP, request=9), "the job is stopping already"),
        ((STOP_NOW,), replace(STOP_NOW, request=9), "the job is stopped"),
        ((STOP_NOW,), replace(PAUSE, request=9), "the job is stopped"),
    ],
)
def test_ways_that_lead_nowhere(first: tuple[Asked, ...], wish: Asked, why: str) -> None:
    """M2: told, not done."""
    story = story_of(*first)
    assert refusal(story.state, wish) == why
    assert story.tell(wish) == ["request_refused"]


@pytest.mark.parametrize(("wish", "end"), [(PAUSE, "job_paused"), (STOP, "job_stopped")])
def test_what_runs_ends_and_nothing_starts(wish: Asked, end: str) -> None:
    """A10, A18, I28: every task in flight reaches its outcome; nothing is in doubt at the end."""
    story = story_of(wish)
    assert story.succeed(DUMP, DUMPED) == ["dump_completed"]
    assert story.fail(OTHER_DUMP, Cause.TRANSIENT) == ["dump_retry_scheduled", end]
    assert not story.state.count(Status.IN_DOUBT)
    assert list(wanted_effects(story.state)) == []
    story.now += 10**6
    assert story.tell() == []


def test_a_stop_waits_for_files_on_their_way_out() -> None:
    """I28."""
    story = Story(verify=False).planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.fail(OTHER_DUMP, Cause.TRANSIENT)
    assert story.tell(STOP) == ["stop_requested"]
    release = TaskKey(TaskKind.RELEASE, CHUNK)
    assert story.succeed(release, Released()) == ["chunk_released", "job_stopped"]


def test_what_was_cut_short_costs_no_budget() -> None:
    """I16, I18: an operator's haste is no death of the process; its late outcomes are no news."""
    for wish in (PAUSE_NOW, STOP_NOW):
        story = Story().planned(chunks=2)
        story.succeed(DUMP, DUMPED)
        story.tell(Progressed(RESTORE, 1, 1, replace(RESTORED, position=25, documents=5)))
        for _ in range(5):
            story.tell(replace(wish, request=0))
            assert story.status(OTHER_DUMP) is Status.IN_DOUBT
            assert story.state.tasks[OTHER_DUMP].interruptions == 0
            attempt, epoch = story.attempt(OTHER_DUMP), story.state.epoch
            late = Failed(OTHER_DUMP, attempt, epoch, Cause.FATAL, "E", "")
            assert story.tell(late, Succeeded(OTHER_DUMP, attempt, epoch, DUMPED)) == [
                "result_ignored",
                "result_ignored",
            ]
            kinds = story.tell(began())
            assert "split_requested" not in kinds
            assert not story.state.immediate
        assert kinds[:4] == ["run_started", "dump_resolved", "restore_resolved", "job_resumed"]
        assert story.state.chunks[CHUNK].done.position == 25
        assert (story.attempt(OTHER_DUMP), story.state.tasks[OTHER_DUMP].failures) == (6, 0)


def test_a_death_after_all_counts_again() -> None:
    """I18: haste excuses the run it ended, not the next."""
    story = Story().planned(chunks=2)
    story.tell(PAUSE_NOW)
    story.tell(began())
    story.tell(began())
    assert story.state.tasks[DUMP].interruptions == 1


def test_a_file_removed_while_the_job_rests_is_gone_all_the_same() -> None:
    story = Story(verify=False).planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.tell(PAUSE_NOW)
    assert story.state.status is JobStatus.PAUSED
    assert story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released()) == ["chunk_released"]


def test_a_stop_is_ended_by_a_resume() -> None:
    """A19, M2: also one that was not reached; the wish to undo is withdrawn with it."""
    for wish in (STOP, STOP_NOW):
        story = story_of(replace(wish, rollback=True))
        assert story.state.rollback
        assert story.state.why == wish.why
        assert "job_resumed" in story.tell(began())
        assert story.state.status is JobStatus.RUNNING
        assert (story.state.rollback, story.state.why) == (False, "")


def test_only_a_stop_undoes() -> None:
    """M2: what was asked with a stop before is not asked by a pause."""
    story = story_of(replace(STOP_NOW, rollback=True), began())
    story.tell(replace(PAUSE, request=9))
    assert story.state.status is JobStatus.PAUSING
    assert not story.state.rollback
    story.tell(StopAsked("me", "", rollback=True))
    assert story.state.rollback


def test_a_resting_job_still_listens() -> None:
    """M2: settings, splits; what they change is there when somebody resumes."""
    story = story_of(PAUSE_NOW)
    assert story.tell(SetAsked("me", "dump_workers", 1, 5)) == ["setting_changed"]
    assert story.tell(SplitAsked("me", CHUNK, 6)) == ["split_requested"]
    assert story.state.count(Status.IN_DOUBT) == 1, "of the other"
    kinds = story.tell(began())
    assert kinds == ["run_started", "dump_resolved", "job_resumed", "split_started", "dump_started"]


def test_a_failure_that_needs_a_pause_asks_for_none_while_stopping() -> None:
    """I19."""
    story = story_of(STOP)
    assert story.fail(DUMP, Cause.FATAL) == ["dump_cancelled"]
    assert story.fail(OTHER_DUMP, Cause.PERMANENT) == ["dump_dead_lettered", "job_stopped"]
