"""A job on its way to another journal."""

import pytest

from statemachine.decide import decide
from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition
from statemachine.events import (
    JobExported,
)
from statemachine.evolve import evolve, fold
from statemachine.state import State
from statemachine.stimuli import (
    ExportAsked,
    ImportAsked,
    JobAsked,
    PauseAsked,
    Succeeded,
    Surveyed,
)
from statemachine.words import (
    JobStatus,
    Millis,
    TaskKey,
    TaskKind,
)
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import DUMP, DUMPED, Story, began

EXPORT, IMPORT = ExportAsked("me", "here"), ImportAsked("you", "there")


def test_a_job_leaves_as_it_stands_and_nothing_goes_on() -> None:
    """P4, I5: the epoch is fenced, nothing is wanted, no run begins, late news changes nothing."""
    story = Story().planned()
    epoch, attempt = story.state.epoch, story.attempt(DUMP)
    assert story.tell(EXPORT) == ["job_exported"]
    assert story.state.status is JobStatus.MOVED
    assert story.state.epoch == epoch + 1
    assert list(wanted_effects(story.state)) == []
    late = Succeeded(DUMP, attempt, epoch, DUMPED)
    assert story.tell(EXPORT, began(), PauseAsked("me", "why")) == []
    assert story.tell(late) == ["result_ignored"]
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, next(event for event in story.events if event.kind == "run_started"))


def test_a_job_arrives_and_its_next_run_resolves_what_was_at_work() -> None:
    """I12, I16: moving a job is a crash with a different host afterwards."""
    story = Story().planned()
    story.tell(EXPORT)
    assert story.tell(IMPORT) == ["job_imported"]
    assert story.state.status is JobStatus.PAUSED
    assert story.tell(IMPORT) == []
    assert list(wanted_effects(story.state)) == []
    kinds = story.tell(began())
    assert kinds[:4] == ["run_started", "dump_in_doubt", "dump_resolved", "job_resumed"]
    assert story.attempt(DUMP) == 2
    assert story.state.epoch == 3


def test_what_has_ended_or_never_begun_does_not_leave() -> None:
    assert decide(State(), EXPORT, Millis(0)) == []
    story = Story()
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(()))
    assert story.state.status is JobStatus.COMPLETED
    assert story.tell(EXPORT, IMPORT) == []


def test_a_job_may_leave_before_its_first_run_and_while_it_pauses() -> None:
    state = fold(decide(State(), JobAsked("me", SPEC), Millis(0)))
    assert [event.kind for event in decide(state, EXPORT, Millis(0))] == ["job_exported"]
    story = Story().planned()
    story.tell(PauseAsked("me", "why"))
    assert story.state.status is JobStatus.PAUSING
    assert story.tell(EXPORT, IMPORT) == ["job_exported", "job_imported"]


@pytest.mark.parametrize("epoch", [1, 3, 2**70])
def test_epochs_follow_each_other(epoch: int) -> None:
    """P4: no run and no leaving takes an epoch that is not the next."""
    story = Story()
    for event in story.events:
        if event.kind == "run_started":
            with pytest.raises(ImpossibleTransition, match="epoch"):
                evolve(story.state, event.model_copy(update={"epoch": epoch}))
    with pytest.raises(ImpossibleTransition, match="epoch"):
        evolve(story.state, JobExported(epoch=epoch, by="me", host="here"))
    assert story.state.epoch == 1


def test_a_job_arrives_without_the_folders_of_its_old_host() -> None:
    story = Story(SETTINGS.model_copy(update={"work_dir": "/mnt/fast"}))
    story.tell(EXPORT, IMPORT)
    assert story.state.settings is not None
    assert story.state.settings.work_dir == ""
    before_any_run = fold(decide(State(), JobAsked("me", SPEC), Millis(0)))
    for asked in (EXPORT, IMPORT):
        for event in decide(before_any_run, asked, Millis(0)):
            evolve(before_any_run, event)
    assert before_any_run.status is JobStatus.PAUSED
    assert before_any_run.settings is None
