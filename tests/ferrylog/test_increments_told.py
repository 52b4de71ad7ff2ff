"""How chains and followers are told: status, notes, exit codes (G7, Y13, A23)."""

import pytest

from ferrylog import clock
from ferrylog.past import Past
from ferrylog.views.chained import is_milestone, note_on_increments, result_of_increments
from ferrylog.views.human import status_text
from ferrylog.views.increments import chain_report, follow_report
from ferrylog.views.model import exit_code, phase, status_report
from ferrylog.views.notes import note_on
from ferrylog.views.told import Told
from statemachine.events import AnyEvent, CaptureProgressed, MetadataDifference
from statemachine.state import State
from statemachine.stimuli import CutoverAsked, Progressed, Settled
from statemachine.words import Cause
from tests.statemachine.chain import (
    CAPTURE,
    FOLLOW,
    SETTLE_JOB,
    WHOLE,
    Chain,
    captured,
    following,
    increment,
    part,
    round_,
    settle,
    shard,
)
from tests.statemachine.examples import examples
from tests.statemachine.story import Story

OURS = (
    "capture_", "moment_", "chain_", "increment_", "shard_", "shape_", "apply_", "settle_",
    "follow_", "cutover_",
)  # fmt: skip
SAID = [event for event in examples() if event.kind.startswith(OURS)]
TOLD = [event for event in SAID if note_on_increments(event)]


def said(state: State) -> str:
    past = Past()
    past.state, past.at_ms = state, clock.now_ms()
    return status_text(status_report("j", past, running=False))


def test_a_chain_under_way() -> None:
    story = Chain().full().shaped()
    story.tell(Progressed(shard(1), 1, story.state.epoch, part(100)))
    assert phase(story.state) == "increments"
    report = chain_report(story.state)
    assert report is not None and report.increment is not None
    assert (report.phase, report.increments, report.applied) == ("waiting", 2, 0)
    one = report.increment
    assert (one.number, one.shards, one.applied, one.in_flight) == (1, 2, 0, 2)
    assert (report.documents, report.erased) == (5, 1)
    text = said(story.state)
    assert "chain: waiting, 0 of 2 increments applied; increment 1: 0 of 2 shards" in text
    story.succeed(shard(1), WHOLE)
    again = chain_report(story.state)
    assert again is not None and again.increment is not None
    assert (again.increment.applied, again.increment.percent) == (1, 50.0)


def test_a_chain_at_its_end() -> None:
    story = Chain(1).full()
    story.applied(1)
    report = chain_report(story.state)
    assert report is not None
    assert (report.phase, report.applied, report.increment) == ("done", 1, None)
    assert phase(story.state) == "done"
    assert exit_code(story.state) == 0


def test_what_differs_at_the_end_of_a_chain_is_a_mismatch() -> None:
    story = Chain(1).full().shaped()
    for index in range(2):
        story.succeed(shard(1, index), WHOLE)
    differing = (MetadataDifference(what="index n_1", source="there", target=""),)
    story.succeed(settle(1), Settled(differing))
    assert exit_code(story.state) == 4


def test_what_differs_at_the_end_is_named() -> None:
    story = Chain(1).full()
    story.applied(1)
    past = Past()
    past.state, past.at_ms = story.state, clock.now_ms()
    story.state.differing = 1
    found = (MetadataDifference(what="shop.c: index n_1", source="{}", target=""),)
    report = status_report("j", past, running=False, told=Told(differing={"job": found}))
    text = status_text(report)
    assert "described differently in 1 thing" in text
    assert "    shop.c: index n_1: {} on the source, missing on the target" in text
    assert "more: see" not in text


@pytest.mark.parametrize(("code", "left"), [("ECHAIN006", 4), ("EDUMP069", 4), ("EAPPLY001", 1)])
def test_what_a_chain_failed_of_tells_the_shell(code: str, left: int) -> None:
    story = Chain(1).full().shaped()
    story.fail(shard(1), Cause.PERMANENT, code=code)
    assert exit_code(story.state) == left


def test_no_chain_and_no_follower() -> None:
    story = Story().planned()
    assert (chain_report(story.state), follow_report(story.state)) == (None, None)


def test_a_follower() -> None:
    """What checks rely on: phase, applied, lag_s."""
    story = following()
    assert phase(story.state) == "follow"
    report = follow_report(story.state)
    assert report is not None and report.applied is None
    assert "follows: 0.0 s behind, as of the bulk copy" in said(story.state)
    story.succeed(FOLLOW, round_(1))
    story.tell(CutoverAsked("me"))
    report = follow_report(story.state)
    assert report is not None
    assert (report.applied, report.lag_s, report.cutover) == ("101.0", 0.12, True)
    assert (report.documents, report.erased) == (3, 1)
    text = said(story.state)
    assert "follows: 0.1 s behind, as of 1970-01-01T00:01:41.000Z" in text
    assert "cutting over" in text
    story.succeed(FOLLOW, round_(2))
    story.succeed(FOLLOW, round_(3, drained=True))
    story.succeed(SETTLE_JOB, Settled())
    assert exit_code(story.state) == 0


def test_a_follower_that_is_silent_may_be_further_behind() -> None:
    story = following()
    story.succeed(FOLLOW, round_(1))
    lags = {silent: follow_report(story.state, silent) for silent in (0, 4000, 60_000)}
    assert [each and each.lag_s for each in lags.values()] == [0.12, 0.12, 60.12]


def test_a_bulk_copy_is_not_yet_following() -> None:
    assert follow_report(Story(follow=True).planned().state) is None


def test_a_capture() -> None:
    story = increment()
    assert phase(story.state) == "capture"
    story.succeed(CAPTURE, captured())
    assert phase(story.state) == "plan"


@pytest.mark.parametrize("event", TOLD, ids=lambda event: event.kind)
def test_every_event_of_increments_is_a_sentence(event: AnyEvent) -> None:
    told = note_on(event)
    assert told.endswith(".") and len(told) > 20
    assert event.kind not in told


def test_events_that_every_task_has_are_told_as_ever() -> None:
    own = {event.kind for event in TOLD}
    others = {event.kind for event in SAID} - own
    assert all(kind.split("_", 1)[1] in LIFE for kind in others), others


LIFE = {
    "started", "retry_scheduled", "dead_lettered", "cancelled", "in_doubt", "resolved", "requeued",
}  # fmt: skip


def test_milestones() -> None:
    names = {event.kind for event in SAID if is_milestone(event)}
    assert "increment_completed" in names and "apply_progressed" not in names
    progress = next(event for event in SAID if isinstance(event, CaptureProgressed))
    assert not is_milestone(progress)


@pytest.mark.parametrize("stage", ["capture", "shape", "apply", "settle", "follow"])
def test_every_result_is_a_sentence(stage: str) -> None:
    event = next(event for event in SAID if event.kind == f"{stage}_completed")
    made = event.model_dump(mode="json")
    assert result_of_increments(stage, made).endswith((".", ")"))
