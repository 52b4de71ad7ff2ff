"""What is not as it should be is said once, and once when it is again."""

import pytest

from statemachine.decide import decide
from statemachine.errors import UnknownEntity
from statemachine.events import AlertCleared, AlertRaised
from statemachine.evolve import evolve, fold
from statemachine.state import State, digest
from statemachine.stimuli import ExportAsked, Gauge, Measured, PauseAsked, Surveyed
from statemachine.words import Alert, Millis, TaskKey, TaskKind
from tests.statemachine.story import UNIT, Story


def gauge(value: float, alert: Alert = Alert.SLOW, entity: str = "job") -> Gauge:
    return Gauge(alert, entity, value, 0.5, "slower than usual")


def test_an_alert_is_raised_once_and_cleared_once() -> None:
    """F17: above the limit, not at it; it lasts until the first measure that is not above."""
    story = Story()
    assert story.tell(Measured((gauge(0.5),))) == []
    assert story.tell(Measured((gauge(0.6),))) == ["alert_raised"]
    raised = story.events[-1]
    assert raised == AlertRaised(
        alert=Alert.SLOW, entity="job", value=0.6, limit=0.5, why="slower than usual"
    )
    assert list(story.state.alerts) == [(Alert.SLOW, "job")]
    assert story.tell(Measured((gauge(0.9),)), Measured((gauge(0.51),))) == []
    assert story.tell(Measured((gauge(0.5),))) == ["alert_cleared"]
    assert story.events[-1] == AlertCleared(alert=Alert.SLOW, entity="job", value=0.5)
    assert story.tell(Measured((gauge(0.5),))) == []
    assert not story.state.alerts
    assert story.tell(Measured((gauge(0.7),))) == ["alert_raised"], "and again"
    assert digest(fold(story.events)) == digest(story.state)


def test_what_is_not_told_any_more_is_over() -> None:
    """F17: an entity that has ended has no gauge."""
    story = Story()
    story.tell(Measured((gauge(1, Alert.STALLED, UNIT),)))
    assert story.tell(Measured(())) == ["alert_cleared"]
    assert story.events[-1] == AlertCleared(alert=Alert.STALLED, entity=UNIT, value=0.0)


def test_alerts_are_told_apart_by_kind_and_entity() -> None:
    """F17, M11."""
    story = Story()
    gauges = (gauge(1), gauge(1, Alert.ERROR_RATE), gauge(1, entity=UNIT))
    assert story.tell(Measured(gauges)) == ["alert_raised"] * 3
    assert story.tell(Measured((*gauges[:2], gauge(0, entity=UNIT)))) == ["alert_cleared"]
    assert list(story.state.alerts) == [(Alert.SLOW, "job"), (Alert.ERROR_RATE, "job")]


def test_one_alert_of_two_gauges() -> None:
    """The later measure counts."""
    story = Story()
    assert story.tell(Measured((gauge(1), gauge(0)))) == []
    assert story.tell(Measured((gauge(0), gauge(1)))) == ["alert_raised"]


def test_a_job_that_rests_has_none() -> None:
    """F17, I13: whoever left cannot be slow."""
    for rest in (
        lambda story: story.tell(PauseAsked("me", "", immediate=True)),
        lambda story: story.tell(ExportAsked("me", "here")),
        lambda story: story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(())),
    ):
        story = Story()
        story.tell(Measured((gauge(1),)))
        rest(story)
        assert story.state.resting
        assert story.tell(Measured((gauge(1),))) == ["alert_cleared"]
        assert story.tell(Measured((gauge(1),))) == []


def test_nobody_measures_what_nobody_asked_for() -> None:
    assert decide(State(), Measured((gauge(1),)), Millis(0)) == []


def test_an_alert_that_nobody_raised_is_not_cleared() -> None:
    """I11."""
    story = Story()
    with pytest.raises(UnknownEntity, match="alert slow of job"):
        evolve(story.state, AlertCleared(alert=Alert.SLOW, entity="job", value=0.0))
