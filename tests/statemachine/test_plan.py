"""A dry run: what a migration would do, and nothing done."""

from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.state import digest
from statemachine.stimuli import FoundUnit, Planned, Surveyed
from statemachine.words import (
    BsonText,
    Cause,
    JobStatus,
    Key,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
from tests.statemachine.story import UNIT, Story, began
from tests.statemachine.test_state import sums

SURVEY, PLAN = TaskKey(TaskKind.SURVEY, "job"), TaskKey(TaskKind.PLAN, UNIT)
VIEW = UnitId("shop.v")
PLAN_VIEW = TaskKey(TaskKind.PLAN, VIEW)


def surveyed() -> Story:
    story = Story(kind="plan")
    unit = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 100, 1000)
    view = FoundUnit(VIEW, VIEW, "view", "", BsonText("{}"), (), 0, 0)
    story.succeed(SURVEY, Surveyed((unit, view)))
    return story


def test_it_surveys_and_plans_and_that_is_all() -> None:
    """I46: no task that writes is ever there, let alone wanted."""
    story = surveyed()
    assert [effect.task for effect in wanted_effects(story.state)] == [PLAN, PLAN_VIEW]
    assert story.succeed(PLAN_VIEW, Planned((), 0, natural=False)) == [
        "plan_completed",
        "unit_completed",
    ]
    assert story.state.units[VIEW].status is UnitStatus.COMPLETED
    plan = Planned((Key("1"), Key("2")), 100, natural=False)
    assert story.succeed(PLAN, plan) == [
        *["chunk_planned"] * 3,
        "plan_completed",
        "unit_completed",
        "job_completed",
    ]
    assert list(wanted_effects(story.state)) == []
    assert not story.state.chunks
    assert sums(story) == {"named": 3, "planned": 3, "settled": 3}
    touched = {event.kind.partition("_")[0] for event in story.events if "_started" in event.kind}
    assert touched == {"run", "survey", "plan"}
    assert digest(fold(story.events)) == digest(story.state)


def test_what_would_go_wrong_is_said() -> None:
    """I46, P10."""
    story = surveyed()
    conflicts = (("ECONFLICT001", "it exists"), ("ESPACE001", "too big"))
    kinds = story.succeed(PLAN, Planned((), 0, natural=True, conflicts=conflicts))
    assert kinds[:2] == ["conflict_foreseen", "conflict_foreseen"]
    told = [event for event in story.events if event.kind == "conflict_foreseen"]
    assert [(event.about, event.code, event.why) for event in told] == [  # type: ignore[union-attr]
        (UNIT, code, why) for code, why in conflicts
    ]


def test_a_view_is_looked_at_and_not_cut() -> None:
    """I46: what stands in its place is foreseen, too; nothing of it is carried."""
    story = surveyed()
    conflicts = (("EPLAN004", "taken"),)
    assert story.succeed(PLAN_VIEW, Planned((), 0, natural=False, conflicts=conflicts)) == [
        "conflict_foreseen",
        "plan_completed",
        "unit_completed",
    ]
    planned = next(event for event in story.events if event.kind == "plan_completed")
    assert (planned.about, planned.chunks) == (VIEW, 0)  # type: ignore[union-attr]
    assert story.state.units[VIEW].planned == 0


def test_a_view_that_cannot_be_looked_at_keeps_the_job_from_its_end() -> None:
    """I29, A8."""
    story = surveyed()
    story.fail(PLAN_VIEW, Cause.PERMANENT)
    story.succeed(PLAN, Planned((), 100, natural=False))
    assert story.state.status is JobStatus.PAUSED
    assert story.state.units[VIEW].status is UnitStatus.PENDING


def test_a_dry_run_that_fails_is_tried_again() -> None:
    """A7: as any other job."""
    story = surveyed()
    story.succeed(PLAN_VIEW, Planned((), 0, natural=False))
    assert story.fail(PLAN, Cause.TRANSIENT) == ["plan_retry_scheduled"]
    assert story.tell(began()) == ["run_started"]
    story.now += 10_000
    assert story.tell() == ["plan_started"]


def test_an_empty_source_is_planned_at_once() -> None:
    """I29."""
    story = Story(kind="plan")
    assert story.succeed(SURVEY, Surveyed(())) == ["survey_completed", "job_completed"]
