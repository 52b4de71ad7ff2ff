"""When a task that failed starts again, and when it does not."""

from typing import Any

import pytest

from statemachine.decide.schedule import LOOKED_AT, is_retry, next_wake_ms
from statemachine.events import (
    RetryScheduled,
    RunSettings,
)
from statemachine.policy import (
    LEAST_WAIT_MS,
    backoff_ms,
    delay_bounds_ms,
    exhausted,
    next_tick_ms,
    retries_of,
)
from statemachine.state import Breaker, Task
from statemachine.stimuli import (
    AddAsked,
    Copied,
    Failed,
    Progressed,
    Succeeded,
)
from statemachine.words import (
    Cause,
    JobStatus,
    Key,
    Millis,
    Status,
    TaskKey,
    TaskKind,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import DUMP, DUMPED, RESTORE, RESTORED, UNIT, Story, began


def settings(**changes: Any) -> RunSettings:
    return SETTINGS.model_copy(update={"retry_base_ms": 100, "retry_cap_ms": 1000, **changes})


@pytest.mark.parametrize(
    ("retry", "ceilings"),
    [
        ("none", [100, 100, 100, 100, 100]),
        ("fixed", [100, 100, 100, 100, 100]),
        ("linear", [100, 200, 300, 400, 500]),
        ("exponential", [100, 200, 400, 800, 1000]),
    ],
)
@pytest.mark.parametrize(("jitter", "floor"), [("none", 1.0), ("full", 0.0), ("equal", 0.5)])
def test_the_bounds_of_delays(retry: str, ceilings: list[int], jitter: str, floor: float) -> None:
    """A9, A31: the ceiling grows by the policy up to the cap; jitter draws between it and the
    floor; waits for a deployment that serves nobody make it grow as failures do."""
    told = settings(retry=retry, jitter=jitter)
    for n, ceiling in enumerate(ceilings):
        for task in (Task(failures=n), Task(waits=n), Task(failures=n - n // 2, waits=n // 2)):
            assert delay_bounds_ms(task, told) == (floor * ceiling, ceiling)
            assert backoff_ms(task, 0.0, told) == floor * ceiling
            assert backoff_ms(task, 0.5, told) == (1 + floor) / 2 * ceiling
            assert backoff_ms(task, 1.0, told) == ceiling


@pytest.mark.parametrize(
    ("last", "bounds"), [(0, (100, 100)), (100, (100, 300)), (300, (100, 900)), (900, (100, 1000))]
)
def test_decorrelated_delays_grow_from_the_last_one(last: int, bounds: tuple[int, int]) -> None:
    """A31: from the base to three times the last delay, up to the cap, whatever the policy."""
    for retry in ("fixed", "linear", "exponential"):
        told = settings(retry=retry, jitter="decorrelated")
        assert delay_bounds_ms(Task(failures=7, delay_ms=last), told) == bounds


def test_a_base_above_the_cap() -> None:
    told = settings(retry_base_ms=5000)
    for jitter in ("none", "decorrelated"):
        told = told.model_copy(update={"jitter": jitter})
        assert delay_bounds_ms(Task(delay_ms=900), told) == (1000, 1000)


@pytest.mark.parametrize("jitter", ["none", "full", "equal", "decorrelated"])
def test_no_delay_is_shorter_than_the_one_before(jitter: str) -> None:
    """I18: whatever is drawn, also after a lucky draw; never above the cap."""
    task, told, delays = Task(), settings(jitter=jitter), []
    for drawn in (0.3, 0.9, 0.0, 1.0, 0.1, 0.5):
        task.delay_ms = backoff_ms(task, drawn, told)
        task.failures += 1
        delays.append(task.delay_ms)
    assert delays == sorted(delays)
    assert delays[-1] <= 1000


def test_no_delay_is_longer_than_the_cap() -> None:
    """I18: also when somebody lowers the cap meanwhile."""
    lower = settings(retry_cap_ms=50)
    assert backoff_ms(Task(delay_ms=800, failures=3), 1.0, lower) == 50


def test_each_number_is_in_the_journal() -> None:
    """A31, I18: what was drawn, what came of it, when it is due; a replay draws nothing."""
    story = Story(settings(jitter="full")).planned()
    story.now = 5000
    story.fail(DUMP, Cause.TRANSIENT, jitter=0.25)
    event = next(event for event in story.events if isinstance(event, RetryScheduled))
    assert (event.jitter, event.delay_ms, event.not_before_ms) == (0.25, 25, 5025)
    assert (event.attempt, event.cause, event.code, event.why) == (
        1,
        Cause.TRANSIENT,
        "ESOURCE002",
        "bad",
    )


# --- the budget ---


@pytest.mark.parametrize(
    ("cause", "task", "changes", "ends"),
    [
        (Cause.PERMANENT, Task(), {}, True),
        (Cause.TRANSIENT, Task(failures=1), {}, False),
        (Cause.TRANSIENT, Task(failures=2), {}, True),
        (Cause.TRANSIENT, Task(waits=99), {}, False),
        (Cause.TRANSIENT, Task(), {"max_retries": 1}, True),
        (Cause.TRANSIENT, Task(), {"retry": "none"}, True),
        (Cause.UNAVAILABLE, Task(), {"retry": "none"}, True),
        (Cause.UNAVAILABLE, Task(failures=99), {}, False),
        (Cause.UNAVAILABLE, Task(waited_ms=119_999), {}, False),
        (Cause.UNAVAILABLE, Task(waited_ms=120_000), {}, True),
        (Cause.UNAVAILABLE, Task(), {"patience_ms": 0}, True),
    ],
)
def test_what_ends_a_task(cause: Cause, task: Task, changes: dict[str, Any], ends: bool) -> None:
    """A7, A8, I18: failures by the budget, waits by patience, neither by the other's."""
    assert exhausted(cause, task, Breaker(), settings(**changes)) is ends


def test_patience_is_that_of_the_pool_too() -> None:
    """A28: behind an open breaker all wait, and only one probes."""
    told = settings(patience_ms=1000)
    assert not exhausted(Cause.UNAVAILABLE, Task(waited_ms=400), Breaker(waited_ms=599), told)
    assert exhausted(Cause.UNAVAILABLE, Task(waited_ms=400), Breaker(waited_ms=600), told)


@pytest.mark.parametrize("mode", ["coordinated", "direct"])
@pytest.mark.parametrize("policy", ["pause", "skip-unit", "fail-job"])
def test_a_server_that_is_gone_pauses_the_job_and_blames_nobody(mode: str, policy: str) -> None:
    """F4, A18, I30: after about its patience, however many chunks there are; no dead letters."""
    told = settings(patience_ms=120_000, on_exhausted=policy)
    story = Story(told, mode=mode).planned(chunks=40)
    kind = TaskKind.COPY if mode == "direct" else TaskKind.DUMP
    while story.state.status is JobStatus.RUNNING:
        for key in list(story.state.queue(kind, Status.PROCESSING)):
            if story.state.status is JobStatus.RUNNING:
                story.fail(key, Cause.UNAVAILABLE)
        due = next_wake_ms(story.state, Millis(story.now))
        if due is not None and story.state.status is JobStatus.RUNNING:
            story.now = due
            story.tell()
    assert story.now < 4 * 120_000
    assert not story.state.count(Status.FAILED)
    for key in list(story.state.queue(kind, Status.PROCESSING)):
        story.fail(key, Cause.UNAVAILABLE)
    ends = (JobStatus.FAILED,) if policy == "fail-job" else (JobStatus.PAUSED,)
    assert story.state.status in ends
    if policy != "fail-job":
        story.tell(began(told))
        assert not any(task.waited_ms for task in story.state.tasks.values())


def test_an_outage_is_waited_out_and_costs_no_attempt() -> None:
    """A28, I18: delays count against patience, not failures against the budget."""
    story = Story(settings(max_retries=1, jitter="none", patience_ms=1000)).planned()
    delays = []
    for _ in range(4):
        assert story.fail(DUMP, Cause.UNAVAILABLE) == ["dump_retry_scheduled"]
        task = story.state.tasks[DUMP]
        delays.append(task.delay_ms)
        assert next_wake_ms(story.state, Millis(story.now)) == story.now + task.delay_ms
        story.now += task.delay_ms
        assert story.tell() == ["dump_started"]
    assert delays == [100, 200, 400, 800]
    assert (task.waits, task.waited_ms, task.failures) == (4, 1500, 0)
    assert story.fail(DUMP, Cause.UNAVAILABLE)[:2] == ["dump_cancelled", "pause_requested"]
    story.tell(began())
    assert (task.waits, task.waited_ms, task.delay_ms, task.failures) == (0, 0, 0, 0)


def test_progress_renews_patience() -> None:
    """I18: what comes further is not stuck; its budget of failures stays spent."""
    story = Story(settings(patience_ms=100)).planned()
    story.succeed(DUMP, DUMPED)
    story.fail(RESTORE, Cause.TRANSIENT)
    story.now += 1000
    story.tell()
    story.fail(RESTORE, Cause.UNAVAILABLE)
    story.now += 1000
    story.tell(Succeeded(DUMP, 9, 1, DUMPED))
    task = story.state.tasks[RESTORE]
    assert (task.waits, task.failures, task.waited_ms) == (1, 1, 150)
    story.tell(Progressed(RESTORE, 3, 1, RESTORED))
    assert (task.waits, task.waited_ms, task.failures) == (0, 0, 1)
    assert story.fail(RESTORE, Cause.UNAVAILABLE) == ["restore_retry_scheduled"]


@pytest.mark.parametrize(
    ("asked", "delay"), [(0, 100), (99, 100), (100, 100), (700, 700), (1000, 1000), (9999, 1000)]
)
def test_a_throttling_server_says_how_long(asked: int, delay: int) -> None:
    """A28: at least as long as it wants, at most the cap."""
    story = Story(settings(jitter="none")).planned()
    news = Failed(DUMP, 1, 1, Cause.UNAVAILABLE, "E", "", 0.5, retry_after_ms=asked)
    assert story.tell(news) == ["dump_retry_scheduled"]
    assert story.state.tasks[DUMP].delay_ms == delay


def test_nobody_asks_an_outage_again_at_once() -> None:
    """A limit on everything: also where the policy knows no delay; a failure of another cause
    has none, and what a server asks for is of no account there."""
    told = settings(retry_base_ms=0, retry_cap_ms=0)
    story = Story(told).planned(chunks=2)
    assert story.fail(DUMP, Cause.UNAVAILABLE) == ["dump_retry_scheduled"]
    assert story.state.tasks[DUMP].not_before_ms == LEAST_WAIT_MS == 100
    story.now = 99
    assert story.tell() == []
    story.now = 100
    assert story.tell() == ["dump_started"]
    other = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    story.tell(Failed(other, 1, 1, Cause.TRANSIENT, "E", "", 0.5, retry_after_ms=500))
    assert (story.status(other), story.attempt(other)) == (Status.PROCESSING, 2)


def test_how_far_the_clock_looks() -> None:
    """A limit on everything: a thousand retries of each kind, in the order in which they failed;
    those that are due already wait for a worker, not for the clock."""
    assert LOOKED_AT == 1000
    story = Story(settings()).planned(chunks=1002)
    for n in range(1002):
        key = TaskKey(TaskKind.DUMP, f"{UNIT}#{n}")
        story.state.tasks[key].not_before_ms = 5000 - n
    story.state.queues = {
        (TaskKind.DUMP, Status.WAITING, 0): {
            TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"): None for n in range(1002)
        }
    }
    assert next_wake_ms(story.state, Millis(0)) == 5000 - 999
    assert next_wake_ms(story.state, Millis(4500)) == 4501
    assert next_wake_ms(story.state, Millis(5000)) is None


# --- whose turn it is ---


def test_a_quarter_for_retries() -> None:
    """I27: at least one."""
    assert [retries_of(n) for n in (1, 4, 7, 8, 12, 64)] == [1, 1, 1, 2, 3, 16]


def failing(workers: int, chunks: int) -> Story:
    """As many dumps as there are workers have failed; the same number of others is at work."""
    told = settings(dump_workers=workers, breaker_failures=1000, jitter="none", retry="fixed")
    story = Story(told).planned(chunks=chunks)
    for n in range(workers):
        story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), Cause.TRANSIENT)
    return story


def started(story: Story, since: int) -> list[str]:
    return [
        event.about.rpartition("#")[2]
        for event in story.events[since:]
        if event.kind == "dump_started"
    ]


def test_retries_leave_room_for_fresh_work() -> None:
    """I27: a quarter of the workers, rounded down, at least one; the first in first out."""
    story = failing(workers=8, chunks=40)
    story.now = 100
    seen = len(story.events)
    for n in range(8, 12):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert started(story, seen) == ["0", "1", "16", "17"], "two retries, then what is fresh"
    seen = len(story.events)
    story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), DUMPED)
    story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#0"), DUMPED)
    assert started(story, seen) == ["2", "3"], "as one ends, the next"


def test_without_fresh_work_retries_have_all_workers() -> None:
    """I27, I30."""
    story = failing(workers=4, chunks=5)
    story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#4"), DUMPED)
    seen = len(story.events)
    story.now = 100
    story.tell()
    assert started(story, seen) == ["0", "1", "2", "3"]


def test_what_comes_fresh_goes_before_the_retries_that_are_too_many() -> None:
    """I27: they had all workers; the next free one is not theirs, however many wait."""
    story = failing(workers=4, chunks=5)
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#4"), Cause.TRANSIENT)
    story.now = 100
    story.tell()
    story.tell(AddAsked("me", ("a.*",), 1))
    assert story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#0"), DUMPED)[1] == "survey_started"
    kinds = story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), DUMPED)
    assert kinds[:2] == ["dump_completed", "dump_started"], "the last retry"


def test_who_waited_for_an_outage_is_a_retry_too() -> None:
    """I27."""
    tasks = (Task(), Task(waits=1), Task(failures=1), Task(failures=1, waits=1))
    assert [is_retry(task) for task in tasks] == [False, True, True, True]


def test_the_rest_of_the_workers_after_what_is_fresh() -> None:
    """I27: one retry, the last fresh one, then the other retries."""
    story = failing(workers=4, chunks=9)
    story.now = 99
    for n in range(4, 8):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert story.state.size(TaskKind.DUMP, Status.PROCESSING) == 1
    seen = len(story.events)
    story.now = 100
    story.tell()
    assert started(story, seen) == ["0", "1", "2"]


def test_a_copy_keeps_its_place_over_a_retry() -> None:
    """A19, A31: it goes on behind the last key that the target acknowledged."""
    story = Story(mode="direct").planned()
    copy = TaskKey(TaskKind.COPY, f"{UNIT}#0")
    story.tell(Progressed(copy, 1, 1, Copied(4, Key("d"), 4, 40, 0, 0)))
    story.fail(copy, Cause.TRANSIENT)
    story.now += 60_000
    story.tell()
    assert story.state.chunks[f"{UNIT}#0"].done.last_key == "d"  # type: ignore[index]


# --- the tick ---


def test_ticks_follow_the_work() -> None:
    """A5, A33: halved down to an eighth by what happens, doubled up to the whole by nothing."""
    told = settings(tick_ms=2000)
    ticks = [2000]
    for busy in (True,) * 5 + (False,) * 5:
        ticks.append(next_tick_ms(ticks[-1], busy=busy, settings=told))
    assert ticks == [2000, 1000, 500, 250, 250, 250, 500, 1000, 2000, 2000, 2000]


def test_the_shortest_tick() -> None:
    """A33: never nothing."""
    told = settings(tick_ms=1)
    assert next_tick_ms(1, busy=True, settings=told) == 1
    assert next_tick_ms(0, busy=True, settings=told) == 1
    assert next_tick_ms(0, busy=False, settings=settings(tick_ms=10)) == 1


def test_delays_double_and_stay_below_the_cap() -> None:
    """A9, I18: equal jitter; each interval begins where the one before ends."""
    tasks = [Task(failures=n) for n in (0, 1, 2)]
    assert [backoff_ms(task, 0.0, SETTINGS) for task in tasks] == [500, 1000, 2000]
    assert [backoff_ms(task, 1.0, SETTINGS) for task in tasks] == [1000, 2000, 4000]
    assert backoff_ms(Task(failures=1000), 1.0, SETTINGS) == SETTINGS.retry_cap_ms


def test_a_retry_does_not_wait_for_a_clock_that_went_back() -> None:
    """I18, I30: a delay has a cap; what seems further away was scheduled by another clock."""
    story = Story().planned()
    story.now = 10**9
    assert story.fail(DUMP, Cause.TRANSIENT) == ["dump_retry_scheduled"]
    due = story.state.tasks[DUMP].not_before_ms
    story.now = due - 1
    assert story.tell() == []
    story.now = due - SETTINGS.retry_cap_ms
    assert story.tell() == []
    story.now = due - SETTINGS.retry_cap_ms - 1
    assert story.tell() == ["dump_started"]
