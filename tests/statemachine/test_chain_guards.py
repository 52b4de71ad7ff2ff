"""What went wrong once in chains of increments, or nearly did: each by its name (I20, I32, I34)."""

import pytest

from statemachine.decide.schedule import tick
from statemachine.events import IncrementStarted
from statemachine.evolve import evolve
from statemachine.policy import MAX_DEATHS
from statemachine.stimuli import (
    Applying,
    Capturing,
    Created,
    FileDamaged,
    Planned,
    Progressed,
    RequeueAsked,
    Restored,
    Settled,
    Shaped,
    Succeeded,
    Surveyed,
    Tick,
)
from statemachine.words import Cause, JobStatus, Key, Millis, Phase, Status, TaskKind, index_task
from tests.statemachine.chain import (
    CAPTURE,
    TOKEN,
    WHOLE,
    Chain,
    captured,
    increment,
    link,
    part,
    settle,
    shape,
    shard,
    shards,
)
from tests.statemachine.story import CREATE, DUMP, PLAN, RESTORE, SURVEY, UNIT, began, found, parts


def test_late_news_of_an_older_moment_is_none() -> None:
    """I20: whoever was given up while the old moment lasted may still end, and say so; it read the
    source as of then."""
    story = increment()
    story.succeed(CAPTURE, captured())
    old = Succeeded(PLAN, story.attempt(PLAN), story.state.epoch, Planned((Key("5"),), 9, True))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.fail(DUMP, Cause.PERMANENT, code="ESNAP001")
    story.succeed(CAPTURE, captured())
    assert story.tell(old) == ["result_ignored"]
    assert story.attempt(PLAN) > old.attempt


@pytest.mark.parametrize("links", [(), (1,), (2, 1), (1, 3)])
def test_a_missing_link_ends_the_job(links: tuple[int, ...]) -> None:
    """I32: what was asked for is a number of increments; fewer, or others, are none of it."""
    story = Chain(2)
    story.succeed(SURVEY, Surveyed((found(),), links=tuple(map(link, links))))
    assert (story.state.status, story.state.phase) == (JobStatus.FAILED, Phase.FAILED)
    assert not story.state.links
    assert not any(key.kind is TaskKind.CREATE for key in story.state.tasks)


def test_a_dead_letter_of_a_chain_that_ended() -> None:
    """I35: an index is tried again; done stays done."""
    story = Chain(1)
    story.succeed(SURVEY, Surveyed((found(indexes=1),), links=(link(1),)))
    story.succeed(PLAN, parts(1))
    story.succeed(CREATE, Created(()))
    story.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
    index = index_task(UNIT, "i0")
    story.fail(index, Cause.PERMANENT)
    story.applied(1)
    assert (story.state.status, story.state.phase) == (JobStatus.COMPLETED, Phase.DONE)
    story.tell(RequeueAsked("me", index.entity, 1, TaskKind.INDEX), began())
    story.fail(index, Cause.PERMANENT)
    assert (story.state.status, story.state.phase) == (JobStatus.COMPLETED, Phase.DONE)


def test_a_late_success_does_not_mask_a_failure() -> None:
    """I34: shards that end well after one was lost change nothing any more."""
    story = Chain(1).full().shaped(1, 3)
    late = [Succeeded(shard(1, n), 1, story.state.epoch, WHOLE) for n in (0, 1, 2)]
    story.fail(shard(1, 1), Cause.PERMANENT, code="EAPPLY001")
    assert story.tell(*late, Tick()) == ["result_ignored"] * 3
    story.tell(began(), *late)
    assert (story.state.status, story.state.phase) == (JobStatus.FAILED, Phase.FAILED)


def test_shards_that_wait_for_a_file_are_not_forgotten_by_a_restart() -> None:
    """I32, I34: the increment does not end without them, however often somebody resumes."""
    story = Chain(1).full().shaped()
    story.succeed(shard(1, 1), WHOLE)
    for _ in range(3):
        who = (shard(1), story.attempt(shard(1)), story.state.epoch)
        kinds = story.tell(FileDamaged(*who, "gone"))
        assert kinds[:2] == ["apply_dead_lettered", "pause_requested"]
        assert story.state.applied == 0
        story.tell(began())
        story.succeed(shape(1), Shaped(shards()))
    story.succeed(shard(1), WHOLE)
    story.succeed(settle(1), Settled())
    assert story.state.status is JobStatus.COMPLETED


def test_a_loop_of_reboots_does_not_move_a_deadline() -> None:
    """Y10: it is an instant in the journal; whoever begins again finds it there."""
    story = Chain(1, increment_ms=1000).full()
    for _ in range(4):
        story.now += 250
        story.tell(began())
        assert story.state.deadline_ms == 1000
    story.now += 1
    assert story.tell(began())[-1] == "job_failed"
    assert story.state.code == "EDEADLINE001"


def test_a_deadline_passes_while_the_job_rests() -> None:
    story = Chain(1, deadline_ms=1000)
    story.now = 1000
    assert tick(story.state, Millis(1000)) == []
    story.now = 5000
    assert story.tell(began())[-1] == "job_failed"


def test_progress_of_a_capture_does_not_go_back() -> None:
    """I20: news told twice, and in another order."""
    story = increment()
    epoch = story.state.epoch
    first, second = (Capturing(TOKEN, f"{t}.0", t) for t in (150, 160))
    story.tell(Progressed(CAPTURE, 1, epoch, first), Progressed(CAPTURE, 1, epoch, second))
    assert story.tell(Progressed(CAPTURE, 1, epoch, first)) == ["result_ignored"]
    assert (story.state.reached, story.state.changes) == ("160.0", 160)


def test_nothing_starts_between_a_moment_that_passed_and_the_next_capture() -> None:
    """I12: also not the manifest, nor a dump that waits for its retry."""
    story = increment()
    story.succeed(CAPTURE, captured())
    story.succeed(PLAN, Planned((Key("1"), Key("2")), 10, natural=False))
    waits, runs = ((TaskKind.DUMP, f"{UNIT}#{n}") for n in (0, 1))
    story.fail(DUMP, Cause.TRANSIENT)
    assert story.status(DUMP) is Status.WAITING
    story.fail(
        next(key for key in story.state.tasks if key == runs), Cause.PERMANENT, code="ESNAP001"
    )
    story.now += 10**9
    kinds = story.tell(Tick())
    assert not [kind for kind in kinds if kind.endswith("_started")]
    assert waits in story.state.tasks


def test_a_shard_goes_on_behind_what_was_told_last() -> None:
    """I31: a position of an older attempt that comes late is behind."""
    story = Chain(1).full().shaped()
    story.tell(Progressed(shard(1), 1, story.state.epoch, part(200)))
    again = Applying(200, Key("200"), 5, 1, 400)
    assert story.tell(Progressed(shard(1), 1, story.state.epoch, again)) == ["result_ignored"]


def test_an_increment_starts_when_the_one_before_is_settled() -> None:
    """I32: the barrier, in the table and in the rules."""
    story = Chain(2).full().shaped()
    for index in range(2):
        assert story.state.increment == 1
        story.succeed(shard(1, index), WHOLE)
    story.now += 10**9
    story.tell(Tick())
    assert story.state.increment == 1
    with pytest.raises(Exception, match="impossible"):
        evolve(story.state, IncrementStarted(increment=2, digest="", deadline_ms=Millis(0)))


def test_no_document_of_an_increment_is_left_out() -> None:
    """I33: a link without it would be wrong for all that follow; an operator has to look."""
    story = increment()
    story.succeed(CAPTURE, captured())
    story.succeed(PLAN, Planned((), 1, natural=False))
    kinds = story.fail(DUMP, Cause.PERMANENT, code="EMONGO001")
    assert kinds == ["dump_dead_lettered", "pause_requested", "job_paused"]
    for _ in range(MAX_DEATHS + 1):
        story.tell(began())
    assert story.status(DUMP) is Status.PROCESSING
    assert not any(event.kind in ("split_requested", "chunk_dropped") for event in story.events)
