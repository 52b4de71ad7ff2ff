"""A source is followed round by round, until somebody cuts over."""

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.stimuli import (
    Created,
    CutoverAsked,
    PauseAsked,
    Planned,
    Rejection,
    Released,
    RequeueAsked,
    Restored,
    Settled,
    Surveyed,
)
from statemachine.words import Cause, JobStatus, Key, Status, TaskKey, TaskKind
from tests.statemachine.chain import FOLLOW, SETTLE_JOB, TOKEN, following, round_
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    DUMP,
    DUMPED,
    PLAN,
    RESTORE,
    SURVEY,
    Story,
    began,
    found,
)


def test_rounds_begin_when_the_bulk_copy_is_done() -> None:
    story = Story(follow=True)
    story.succeed(SURVEY, Surveyed((found(expires=True),), since="100.1"))
    assert story.status(FOLLOW) is Status.PENDING
    story.succeed(CREATE, Created(()))
    story.succeed(PLAN, Planned((), 10, natural=False))
    assert story.status(FOLLOW) is Status.PENDING
    story = following()
    assert story.status(FOLLOW) is Status.PROCESSING
    assert not any(key.kind in (TaskKind.VERIFY, TaskKind.FINISH) for key in story.state.tasks)
    [effect] = wanted_effects(story.state)
    assert (effect.task, effect.since, effect.token) == (FOLLOW, "100.1", "")
    assert (effect.cutover, effect.follow_ms) == (False, SETTINGS.follow_ms)


def test_round_after_round_until_the_cut_over() -> None:
    story = following()
    for n in range(1, 4):
        assert story.succeed(FOLLOW, round_(n)) == ["follow_completed", "follow_started"]
        assert story.state.tasks[FOLLOW].attempt == n + 1
    state = story.state
    assert (state.reached, state.lag_ms, state.token) == ("103.0", 120, TOKEN)
    assert (state.upserted, state.erased) == (9, 3)
    assert story.tell(CutoverAsked("me", 1)) == ["cutover_requested"]
    # The round under way did not know of it, whatever it says.
    story.tell()
    assert story.state.cutover
    story.succeed(FOLLOW, round_(4))
    [effect] = wanted_effects(state)
    assert effect.cutover
    kinds = story.succeed(FOLLOW, round_(5, drained=True))
    assert kinds == ["follow_completed", "settle_started"]
    assert state.drained
    [effect] = wanted_effects(state)
    assert (effect.task, effect.link, effect.last) == (SETTLE_JOB, None, True)
    story.succeed(SETTLE_JOB, Settled())
    assert state.status is JobStatus.COMPLETED
    assert fold(story.events) == state


def test_a_round_that_says_drained_before_anybody_asked_is_one_of_many() -> None:
    story = following()
    story.succeed(FOLLOW, round_(1, drained=True))
    assert not story.state.drained
    assert story.status(FOLLOW) is Status.PROCESSING


def test_a_cut_over_during_the_bulk_copy_comes_after_it() -> None:
    story = Story(follow=True)
    story.tell(CutoverAsked("me"))
    story.succeed(SURVEY, Surveyed((), since="100.1"))
    [effect] = wanted_effects(story.state)
    assert effect.cutover
    assert "under way already" in refusal(story.state, CutoverAsked("me", 9))


def test_a_kill_repeats_the_round() -> None:
    story = following()
    story.succeed(FOLLOW, round_(1))
    story.tell(began())
    assert story.state.tasks[FOLLOW].attempt == 3
    [effect] = wanted_effects(story.state)
    assert effect.token == TOKEN


def test_a_pause_waits_for_the_round() -> None:
    """I28."""
    story = following()
    story.tell(PauseAsked("me", "lunch"))
    assert story.state.status is JobStatus.PAUSING
    story.succeed(FOLLOW, round_(1))
    assert story.state.status is JobStatus.PAUSED
    story.tell(began())
    assert story.status(FOLLOW) is Status.PROCESSING


def test_a_round_that_fails_is_tried_again_then_pauses() -> None:
    story = following()
    story.fail(FOLLOW, Cause.TRANSIENT)
    assert story.status(FOLLOW) is Status.WAITING
    story.tell(began())
    story.now += 10**6
    story.tell(began())
    story.fail(FOLLOW, Cause.PERMANENT, code="ECHAIN020")
    assert story.state.status is JobStatus.PAUSED
    assert "ECHAIN020" in story.state.why


def test_no_unit_can_be_left_behind() -> None:
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit", "max_retries": 1})
    story = Story(told, follow=True)
    story.succeed(SURVEY, Surveyed((found(),), since="100.1"))
    story.succeed(CREATE, Created(()))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.fail(DUMP, Cause.TRANSIENT)
    assert story.state.status is JobStatus.PAUSED


def test_direct_jobs_follow_too() -> None:
    story = Story(follow=True, mode="direct")
    assert story.state.stages == (TaskKind.COPY,)


def test_a_collection_that_is_dropped_while_it_is_copied_is_left_to_the_stream() -> None:
    story = Story(follow=True)
    story.succeed(SURVEY, Surveyed((found(),), since="100.1"))
    story.succeed(CREATE, Created(()))
    story.succeed(PLAN, Planned((Key("1"),), 10, natural=False))
    kinds = story.fail(DUMP, Cause.PERMANENT, code="EGONE001")
    assert kinds == ["unit_excluded", "follow_started"]
    story.succeed(FOLLOW, round_(1))
    assert story.state.status is JobStatus.RUNNING


def test_one_that_is_not_followed_is_not_left() -> None:
    story = Story().planned()
    story.fail(DUMP, Cause.PERMANENT, code="EGONE001")
    assert "unit_excluded" not in [event.kind for event in story.events]
    story = following()
    story.fail(FOLLOW, Cause.PERMANENT, code="EGONE001")
    assert "unit_excluded" not in [event.kind for event in story.events]


def test_what_was_rejected_is_not_carried_again_beneath_rounds() -> None:
    """A chunk as it is now would meet what following has moved on."""
    story = Story(follow=True)
    story.succeed(SURVEY, Surveyed((found(),), since="100.1"))
    story.succeed(CREATE, Created(()))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, Restored(50, 9, 90, 0, 1, (Rejection(Key("1"), "E", ""),)))
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    assert refusal(story.state, RequeueAsked("me", CHUNK, 7)) == ""
    story.succeed(FOLLOW, round_(1))
    assert "rounds of following have gone on" in refusal(story.state, RequeueAsked("me", CHUNK, 7))
