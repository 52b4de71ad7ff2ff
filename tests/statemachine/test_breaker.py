"""The breaker of a pool: it opens at N failures in a row, lets one probe through, closes."""

from typing import Any

import pytest

from statemachine.decide.schedule import LONGEST_OPEN_MS, next_wake_ms
from statemachine.events import BreakerOpened
from statemachine.evolve import fold
from statemachine.policy import MAX_BREAKER_MS, open_ms
from statemachine.state import Breaker, digest
from statemachine.stimuli import (
    DropAsked,
    ExcludeAsked,
    Failed,
    PauseAsked,
    Progressed,
    SetAsked,
    SplitAsked,
    Succeeded,
)
from statemachine.words import Cause, ChunkId, Millis, Pool, Status, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import DUMPED, RESTORED, UNIT, Story, began


def dump(n: int) -> TaskKey:
    return TaskKey(TaskKind.DUMP, f"{UNIT}#{n}")


def restore(n: int) -> TaskKey:
    return TaskKey(TaskKind.RESTORE, f"{UNIT}#{n}")


def story_of(**changes: Any) -> Story:
    """Two workers, many chunks; retries far away, so that each failure is of a fresh chunk."""
    told = {"breaker_failures": 3, "breaker_ms": 5000, "max_retries": 99, "jitter": "none"}
    told |= {"retry_base_ms": 10**6, "retry_cap_ms": 10**6, **changes}
    return Story(SETTINGS.model_copy(update=told)).planned(chunks=60)


def opened() -> Story:
    """At 0, until 5000; the dump of chunk 3 is still at work."""
    story = story_of()
    for n in range(3):
        story.fail(dump(n), Cause.TRANSIENT)
    return story


def probing() -> Story:
    """The dump of chunk 4 probes."""
    story = opened()
    story.fail(dump(3), Cause.TRANSIENT)
    story.now = 5000
    assert story.tell() == ["dump_started"]
    return story


@pytest.mark.parametrize("cause", [Cause.TRANSIENT, Cause.UNAVAILABLE])
def test_it_opens_exactly_at_the_limit(cause: Cause) -> None:
    """F4, I43: with the N-th failure in a row, not before; what runs goes on."""
    story = story_of()
    assert story.fail(dump(0), cause) == ["dump_retry_scheduled", "dump_started"]
    assert story.fail(dump(1), cause) == ["dump_retry_scheduled", "dump_started"]
    story.now = 70
    assert story.fail(dump(2), cause) == ["dump_retry_scheduled", "breaker_opened"]
    event = story.events[-1]
    assert isinstance(event, BreakerOpened)
    assert (event.pool, event.failures, event.open_ms, event.until_ms, event.why) == (
        Pool.DUMP,
        3,
        5000,
        5070,
        "ESOURCE002: bad",
    )
    assert story.status(dump(3)) is Status.PROCESSING
    assert story.fail(dump(3), cause) == ["dump_retry_scheduled"], "opened already"


def test_a_success_begins_the_count_anew() -> None:
    """F4, I43: in a row means in a row."""
    story = story_of()
    for n in (0, 1, 2):
        assert "breaker_opened" not in story.fail(dump(2 * n), Cause.TRANSIENT)
        story.succeed(dump(2 * n + 1), DUMPED)
    assert story.state.breakers[Pool.DUMP].failures == 0


def test_progress_is_a_success() -> None:
    """F4."""
    story = story_of(breaker_failures=2)
    story.succeed(dump(0), DUMPED)
    story.succeed(dump(1), DUMPED)
    story.fail(restore(0), Cause.TRANSIENT)
    story.tell(Progressed(restore(1), 1, 1, RESTORED))
    assert story.fail(restore(1), Cause.TRANSIENT) == ["restore_retry_scheduled"]


def test_progress_closes_an_open_one() -> None:
    """I43: what was at work all the time serves as well as a probe."""
    story = story_of(breaker_failures=2, restore_workers=3)
    for n in range(3):
        story.succeed(dump(n), DUMPED)
    story.fail(restore(0), Cause.TRANSIENT)
    assert "breaker_opened" in story.fail(restore(1), Cause.TRANSIENT)
    assert story.tell(Progressed(restore(2), 1, 1, RESTORED)) == [
        "restore_progressed",
        "breaker_closed",
    ]


def test_a_probe_fails_by_itself() -> None:
    """I43: however many failures in a row somebody allows by now."""
    story = probing()
    story.tell(SetAsked("me", "breaker_failures", 1000, 1))
    assert "breaker_opened" in story.fail(dump(4), Cause.TRANSIENT)


def test_what_says_nothing_of_the_deployment_is_not_counted() -> None:
    """F4: permanent failures and those that only an operator heals."""
    story = story_of(breaker_failures=1, on_exhausted="skip-unit")
    assert story.fail(dump(0), Cause.PERMANENT) == [
        "dump_dead_lettered",
        "unit_skipped",
        "job_completed",
    ]
    story = story_of(breaker_failures=1)
    assert "breaker_opened" not in story.fail(dump(0), Cause.FATAL)
    assert story.state.breakers[Pool.DUMP] == Breaker()


def test_the_last_failure_of_a_task_counts_too() -> None:
    """F4, I19."""
    story = story_of(breaker_failures=1, max_retries=1)
    assert story.fail(dump(0), Cause.TRANSIENT) == [
        "dump_dead_lettered",
        "breaker_opened",
        "pause_requested",
    ]
    assert story.state.breakers[Pool.DUMP].failures == 1


def test_nothing_of_the_pool_starts_while_it_is_open() -> None:
    """I43: the other pool goes on."""
    story = opened()
    assert story.succeed(dump(3), DUMPED)[:2] == ["dump_completed", "breaker_closed"]
    story = opened()
    story.fail(dump(3), Cause.TRANSIENT)
    assert next_wake_ms(story.state, Millis(story.now)) == 5000
    for story.now in (0, 1, 4999):
        assert story.tell() == []
    story = story_of()
    story.succeed(dump(0), DUMPED)
    for n in (1, 2, 3):
        story.fail(dump(n), Cause.TRANSIENT)
    assert story.state.breakers[Pool.DUMP].opened == 1
    assert story.state.breakers[Pool.RESTORE] == Breaker()
    story.fail(restore(0), Cause.PERMANENT, code="EMONGO073")
    story.tell(began())
    [alone] = story.state.queue(TaskKind.DUMP, Status.PROCESSING)
    story.succeed(alone, DUMPED)
    assert story.status(restore(0)) is Status.PROCESSING


def test_one_alone_probes() -> None:
    """I43: two workers are free; the second waits for what the first finds."""
    story = probing()
    breaker = story.state.breakers[Pool.DUMP]
    assert (breaker.probe, breaker.opened) == (dump(4), 1)
    story.now = 10**5
    assert story.tell() == []
    assert story.succeed(dump(4), DUMPED) == [
        "dump_completed",
        "breaker_closed",
        "dump_started",
        "dump_started",
        "restore_started",
    ]
    assert breaker is not story.state.breakers[Pool.DUMP] == Breaker()


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    """F4, I43: up to a limit; every success sets it back."""
    story = probing()
    assert story.state.settings is not None
    patient = story.state.settings.model_copy(update={"patience_ms": 10**9})
    story.state.settings = patient
    probe, stays = 4, []
    for _ in range(6):
        kinds = story.fail(dump(probe), Cause.UNAVAILABLE)
        assert kinds == ["dump_retry_scheduled", "breaker_opened"]
        event = story.events[-1]
        assert isinstance(event, BreakerOpened)
        assert (
            event.until_ms
            == story.now + event.open_ms
            == next_wake_ms(story.state, Millis(story.now))
        )
        stays.append(event.open_ms)
        story.now = event.until_ms - 1
        assert story.tell() == []
        story.now = event.until_ms
        assert story.tell() == ["dump_started"]
        probe += 1
    assert stays == [10_000, 20_000, 40_000, 60_000, 60_000, 60_000]
    assert story.state.breakers[Pool.DUMP].opened == 7
    story.succeed(dump(probe), DUMPED)
    assert story.state.breakers[Pool.DUMP] == Breaker()


def test_how_long_it_stays_open() -> None:
    """A limit on everything: a minute, or what was asked for if that is more."""
    assert MAX_BREAKER_MS == 60_000
    assert [open_ms(n, SETTINGS) for n in (0, 1, 4, 1000)] == [5000, 10_000, 60_000, 60_000]
    patient = SETTINGS.model_copy(update={"breaker_ms": 90_000})
    assert [open_ms(n, patient) for n in (0, 1)] == [90_000, 90_000]


def test_news_of_the_time_before_does_not_open_it_again() -> None:
    """I43: only the probe's failure counts while it probes; any success closes it."""
    story = opened()
    story.now = 5000
    assert story.tell() == ["dump_started"]
    assert story.fail(dump(3), Cause.TRANSIENT) == ["dump_retry_scheduled"]
    assert story.state.breakers[Pool.DUMP].probe == dump(4)


WAYS: dict[str, Any] = {
    "permanent": lambda story: story.fail(dump(4), Cause.PERMANENT),
    "no document's": lambda story: story.fail(dump(4), Cause.PERMANENT, code="EDOC"),
    "split": lambda story: story.tell(SplitAsked("me", ChunkId(f"{UNIT}#4"))),
    "fatal": lambda story: story.fail(dump(4), Cause.FATAL),
    "excluded": lambda story: story.tell(ExcludeAsked("me", UNIT)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_probe_that_told_nothing_makes_room_for_another(way: str) -> None:
    """I43, I30: the breaker stays as it is, but nobody waits for what never comes."""
    story = probing()
    WAYS[way](story)
    breaker = story.state.breakers[Pool.DUMP]
    assert breaker.opened == 1
    assert breaker.probe != dump(4)
    assert digest(fold(story.events)) == digest(story.state)


def test_another_probe_follows_at_once() -> None:
    """I30: the time of the breaker is up; a split is as good a probe as a dump."""
    story = probing()
    split = TaskKey(TaskKind.SPLIT, f"{UNIT}#4")
    assert story.tell(SplitAsked("me", ChunkId(split.entity))) == [
        "split_requested",
        "split_started",
    ]
    assert story.state.breakers[Pool.DUMP].probe == split


def test_a_new_run_begins_with_closed_breakers() -> None:
    """I30: somebody most likely removed the cause."""
    story = probing()
    kinds = story.tell(began())
    assert "breaker_closed" not in kinds
    assert kinds[-2:] == ["dump_resolved", "dump_started"], "alone: the process died with it"
    assert story.succeed(dump(4), DUMPED)[-3:].count("dump_started") == 2
    assert story.state.breakers[Pool.DUMP] == Breaker()


def test_a_pause_while_it_is_open_is_reached() -> None:
    """I28."""
    story = opened()
    story.tell(PauseAsked("me", ""))
    assert story.fail(dump(3), Cause.TRANSIENT) == ["dump_retry_scheduled", "job_paused"]


def test_a_clock_that_went_back_does_not_keep_it_open() -> None:
    """I43, I30: no breaker stays open for more than a day; this one seems to."""
    assert LONGEST_OPEN_MS == 86_400_000
    story = story_of()
    story.now = 10**12
    for n in range(4):
        story.fail(dump(n), Cause.TRANSIENT)
    until = 10**12 + 5000
    story.now = until - LONGEST_OPEN_MS
    assert story.tell() == []
    story.now -= 1
    assert story.tell() == ["dump_started"]


def test_late_news_neither_opens_nor_closes() -> None:
    """I20, I43."""
    story = opened()
    late = Failed(dump(0), 1, 1, Cause.TRANSIENT, "E", "")
    assert story.tell(late, Succeeded(dump(0), 1, 1, DUMPED)) == ["result_ignored"] * 2
    assert story.state.breakers[Pool.DUMP].opened == 1


def test_a_letter_behind_an_open_breaker_may_be_dropped() -> None:
    story = story_of(breaker_failures=1, max_retries=1)
    story.fail(dump(0), Cause.TRANSIENT)
    assert story.tell(DropAsked("me", dump(0).entity, TaskKind.DUMP, 1)) == ["chunk_dropped"]
