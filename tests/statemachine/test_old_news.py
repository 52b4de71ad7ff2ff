"""News that is late, doubled or of another epoch; what was given up stays given up."""

from dataclasses import replace

from statemachine.stimuli import Built, Failed, PauseAsked, Progressed, Released, Succeeded
from statemachine.words import Cause, JobStatus, Status, TaskKey, TaskKind
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

RELEASE = TaskKey(TaskKind.RELEASE, CHUNK)


def test_progress_only_goes_forward() -> None:
    """I20, I31: news of a block that was journaled already takes nothing back."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    first = Progressed(RESTORE, 1, 1, replace(RESTORED, position=10, documents=2))
    second = Progressed(RESTORE, 1, 1, replace(RESTORED, position=20, documents=4))
    assert story.tell(first) == ["restore_progressed"]
    assert story.tell(second) == ["restore_progressed"]
    assert story.tell(second, first) == ["result_ignored", "result_ignored"]
    progressed = next(event for event in story.events if event.kind == "restore_progressed")
    assert (progressed.about, progressed.attempt, progressed.position) == (CHUNK, 1, 10)  # type: ignore[union-attr]
    assert story.state.chunks[CHUNK].done.position == 20
    assert story.state.units[UNIT].restored_documents == 4


def test_a_release_of_an_older_epoch_decides_nothing() -> None:
    """I20: a dead process could not remove the file; the one that runs may just be doing it."""
    story = Story().planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, EQUAL)
    story.tell(began())
    old = Failed(RELEASE, 0, 1, Cause.FATAL, "E", "denied")
    assert story.tell(old, Succeeded(RELEASE, 0, 1, Released())) == []
    assert CHUNK in story.state.releasing
    assert "chunk_released" in story.tell(Succeeded(RELEASE, 0, 2, Released()))


def test_a_release_after_the_end_is_no_news() -> None:
    """I13: nothing but runs follows the end of a job."""
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"})).planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, EQUAL)
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), Cause.PERMANENT)
    assert story.state.status is JobStatus.FAILED
    assert story.succeed(RELEASE, Released()) == []


def test_the_index_of_a_skipped_unit_stays_given_up() -> None:
    """I19: going on after a pause does not bring back what the policy went on without."""
    settings = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})
    story = Story(settings).planned(indexes=1)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    index = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
    assert story.fail(index, Cause.PERMANENT) == ["index_dead_lettered"]
    assert "unit_skipped" in story.fail(VERIFY, Cause.PERMANENT)
    story.tell(PauseAsked("me", "lunch"))
    kinds = story.tell(began())
    assert "index_requeued" not in kinds
    assert story.status(index) is Status.FAILED
    assert story.succeed(index, Built())[0] == "result_ignored"
