"""What a run may take, and who waits for it (F3, F4, F7, F17)."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from executors.pressure import Load
from executors.protocol import Stopped
from ferrylog import clock
from ferrylog.cli.limits import limits, megabytes, size
from ferrylog.cli.settings import DEFAULTS, run_settings
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.governing import disk, governor, memory
from ferrylog.governing.backoff import FIRST_S, LONGEST_S, Backoff
from ferrylog.governing.disk import Disks, Patience, level_of
from ferrylog.governing.governor import Governor
from ferrylog.governing.memory import COPIES, FULL, NEAR, Memory, group_limits
from ferrylog.governing.processor import Processor
from ferrylog.governing.rates import Bucket
from ferrylog.views.limits import limits_line
from statemachine.events import RunSettings
from statemachine.policy import open_ms
from statemachine.state import State
from statemachine.words import Alert, BatchCause, ChunkId, Status, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS

MIB = 1 << 20


class Token:
    """Set from outside, or after so many looks."""

    def __init__(self, looks: int = 10_000) -> None:
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def settings(**told: Any) -> RunSettings:
    return SETTINGS.model_copy(update=told)


def governing(folder: Path, **told: Any) -> Governor:
    return Governor(settings(**told), [folder], None, lambda _: None)


# --- memory ---


def test_batches_are_let_in_while_they_fit() -> None:
    """F3: what they take at most stays below 80 % of the limit; each side always has one."""
    room, limit = Memory(50 * MIB), 100 * MIB
    fits = int((FULL * 100 - 50) // (COPIES["read"] * 2))
    assert [room.lets_in("read", 2 * MIB, limit) for _ in range(fits + 1)] == [True] * fits + [
        False
    ]
    assert room.lets_in("write", 16 * MIB, limit), "who frees something must go on"
    assert not room.lets_in("write", MIB, limit)
    room.leaves("write", 16 * MIB)
    room.leaves("read", 2 * MIB)
    assert room.lets_in("read", 2 * MIB, limit)


def test_a_batch_counts_as_what_it_turned_out_to_be() -> None:
    room, limit = Memory(0), 100 * MIB
    assert room.lets_in("read", MIB, limit)
    room.holds("read", MIB, 16 * MIB)
    assert not room.lets_in("read", MIB, limit)
    room.leaves("read", 16 * MIB)
    assert room.lets_in("read", 12 * MIB, limit)


def test_what_everything_else_takes_is_seen() -> None:
    """F3: near the limit nobody is let in beside the one, whatever the sums say."""
    room, limit = Memory(10 * MIB), 100 * MIB
    assert not room.look(int(NEAR * limit), limit)
    assert room.look(int(NEAR * limit) + 1, limit)
    assert room.lets_in("read", MIB, limit)
    assert not room.lets_in("read", 1, limit)
    room.look(20 * MIB, limit)
    assert room.lets_in("read", MIB, limit)


def test_the_container_is_the_machine(tmp_path: Path) -> None:
    """F3: the smallest limit around the process counts; `max` and nonsense are none."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "memory" / "c").mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (tmp_path / "memory.max").write_text("3000\n")
    assert group_limits(tmp_path, "0::/a/b\n") == [1000, 3000]
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2000")
    assert group_limits(tmp_path, "5:cpu:/\n4:hugetlb,memory:/c\n") == [2000]
    assert group_limits(tmp_path, "0::/not/there\n") == [3000]
    assert 0 < memory.default_limit() < memory.machine_bytes()


# --- rates and the processor ---


def test_a_rate_is_kept_whatever_the_size_of_batches() -> None:
    """F7: ten batches of half a second's worth take four and a half seconds."""
    bucket, now_s = Bucket(0), 0.0
    for _ in range(10):
        ticket = bucket.take(50, 100, now_s)
        while not bucket.is_due(ticket, 100, now_s):
            now_s += 0.01
    assert 4.2 < now_s < 4.6


def test_a_batch_bigger_than_a_second_goes_and_is_paid_for() -> None:
    bucket = Bucket(0)
    assert bucket.is_due(bucket.take(1000, 10, 0), 10, 0)
    ticket = bucket.take(1, 10, 1)
    assert not bucket.is_due(ticket, 10, 99)
    assert bucket.is_due(ticket, 10, 101)


def test_a_rate_that_is_lifted_owes_nothing() -> None:
    bucket = Bucket(0)
    bucket.take(1000, 1, 0)
    ticket = bucket.take(1, 1, 0)
    assert not bucket.is_due(ticket, 1, 1)
    assert bucket.is_due(ticket, 0, 1)


def test_an_idle_hour_saves_up_nothing() -> None:
    bucket = Bucket(0)
    assert bucket.is_due(bucket.take(100, 100, 3600), 100, 3600)
    ticket = bucket.take(1, 100, 3600)
    assert not bucket.is_due(ticket, 100, 3600.7)
    assert bucket.is_due(ticket, 100, 3600.8)


def test_processor_time_is_a_budget() -> None:
    """F7: at half of two cores, three seconds of work are paid for after three."""
    budget = Processor(2, 0, 0)
    assert not budget.has_time(50, 1, 3)
    assert not budget.has_time(50, 2.9, 3)
    assert budget.has_time(50, 3.1, 3)
    assert budget.has_time(0, 4, 100), "no ceiling owes nothing"


def test_a_ceiling_below_what_the_process_takes_at_rest_is_slow_and_no_end() -> None:
    budget = Processor(2, 0, 0)
    assert not budget.has_time(1, 4.9, 100)
    assert budget.has_time(1, 5, 100)
    budget.went(5)
    assert not budget.has_time(1, 9.9, 200)
    assert budget.has_time(1, 10, 200)


def test_half_a_minute_is_sustained() -> None:
    """F17: a burst is none."""
    budget = Processor(2, 0, 0)
    for second in range(1, 61):
        budget.look(second / 2, second / 2)
        if second == 40:
            assert budget.sustained(20) == 0
    assert budget.sustained(30) == 0.5
    assert len(budget._samples) <= 61


# --- the disk ---


def test_the_reserve_is_smaller_on_small_disks(tmp_path: Path) -> None:
    level = level_of(tmp_path, 0)
    assert level is not None
    assert 0 < level.reserve <= 1 << 30
    assert level_of(tmp_path, 5) == level._replace(reserve=5, free=level_of(tmp_path, 5).free)  # type: ignore[union-attr]
    assert level_of(tmp_path / "none", 0) is None
    assert Disks([tmp_path / "none"]).lowest(0) is None


def test_patience_ends_when_nothing_is_freed() -> None:
    patience = Patience(0)
    assert not patience.is_over(10, 50, hopeful=True)
    assert not patience.is_over(11, 100, hopeful=True)
    assert not patience.is_over(11, 160, hopeful=True)
    assert patience.is_over(11, 161, hopeful=True)
    assert patience.is_over(11, 102, hopeful=False)


# --- the server ---

QUIET = Load(dirty=0.1, used=0.8, queued=3, lagged=False)
FULL_OF_DIRT = Load(dirty=0.3, used=0.8, queued=3, lagged=False)


@pytest.mark.parametrize(
    "load",
    [
        FULL_OF_DIRT,
        Load(dirty=0.1, used=0.96, queued=3, lagged=False),
        Load(dirty=0.1, used=0.8, queued=200, lagged=False),
        Load(dirty=0.1, used=0.8, queued=3, lagged=True),
    ],
)
def test_writers_wait_while_the_server_is_pressed(load: Load) -> None:
    """F7: from the second look that says so; longer and longer; nothing when it is over."""
    back = Backoff()
    assert not back.look(load)
    assert back.pause_s == 0
    assert back.look(load)
    assert (back.pause_s, bool(back.why)) == (FIRST_S, True)
    for _ in range(20):
        back.look(load)
    assert back.pause_s == LONGEST_S
    looks = 0
    while back.pause_s:
        assert not back.look(QUIET)
        looks += 1
    assert looks < 10
    assert not back.look(None)


# --- the governor ---


@pytest.fixture
def loose(tmp_path: Path) -> Iterator[Governor]:
    with governing(tmp_path, disk_reserve=1) as found:
        yield found


def test_nothing_is_waited_for_where_nothing_limits(loose: Governor) -> None:
    began_s, token = clock.monotonic_s(), Token(0)
    for _ in range(100):
        with loose.asks(MIB, token) as room, loose.loads(MIB, token):
            room.holds(2 * MIB)
        loose.read(10**6, 10**9, token)
        loose.writes(10**6, 10**9, token)
        loose.files(MIB, token)
    assert clock.monotonic_s() - began_s < 0.5
    assert loose._memory._held == 0


def test_whoever_waits_sees_the_token(tmp_path: Path) -> None:
    """A wait is a sign of life, and ends with the attempt."""
    slow = governing(tmp_path, read_docs_per_s=1, write_bytes_per_s=1, memory_limit=1)
    with slow.asks(MIB, Token(0)), pytest.raises(Stopped):
        slow.asks(MIB, Token(2))
    slow.read(100, 1, Token(0))
    with pytest.raises(Stopped):
        slow.read(1, 1, Token(2))
    slow.writes(1, 100, Token(0))
    with pytest.raises(Stopped):
        slow.writes(1, 1, Token(2))


def test_room_is_given_back_to_whoever_waits(tmp_path: Path) -> None:
    tight = governing(tmp_path, memory_limit=1)
    went = threading.Event()

    def other() -> None:
        with tight.asks(MIB, Token()):
            went.set()

    thread = threading.Thread(target=other)
    with tight.asks(MIB, Token()):
        thread.start()
        assert not went.wait(0.2)
    assert went.wait(5)
    thread.join()


def test_settings_are_as_they_are_now(tmp_path: Path) -> None:
    """`set` reaches whoever waits."""
    slow = governing(tmp_path, read_docs_per_s=1)
    slow.read(1000, 1, Token(0))
    waiting = threading.Thread(target=slow.read, args=(1, 1, Token()))
    waiting.start()
    lifted = SimpleNamespace(state=State(settings=settings(read_docs_per_s=0)))
    slow(cast("Engine", lifted))
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_disk_without_hope_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDISK001 before the last byte is taken: nothing is restored that would free any."""
    monkeypatch.setattr(disk, "GRACE_S", 0.1)
    full = governing(tmp_path, disk_reserve=1 << 60)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as told:
        full.files(1, Token())
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, str(tmp_path))


def test_what_frees_the_disk() -> None:
    """A file goes when its chunk is verified, and has gone a moment later."""
    state = State(settings=settings())
    assert not governor.frees(state)
    state.queues[TaskKind.VERIFY, Status.PROCESSING, 0] = {TaskKey(TaskKind.VERIFY, "a.b#0"): None}
    assert governor.frees(state)
    state.queues.clear()
    state.releasing[ChunkId("a.b#0")] = "a.b/0-1.flb"
    assert governor.frees(state)


def test_dumping_waits_while_restores_free_the_disk(tmp_path: Path) -> None:
    full = governing(tmp_path, disk_reserve=1 << 60)
    state = State(settings=settings(disk_reserve=1 << 60))
    state.queues[TaskKind.RESTORE, Status.PENDING, 0] = {TaskKey(TaskKind.RESTORE, "a.b#0"): None}
    full(cast("Engine", SimpleNamespace(state=state)))
    waiting = threading.Thread(target=full.files, args=(1, Token()))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    state.settings = settings(disk_reserve=1)
    full(cast("Engine", SimpleNamespace(state=state)))
    waiting.join(5)
    assert not waiting.is_alive()


def test_what_is_measured_becomes_alerts(tmp_path: Path) -> None:
    """F17: memory above 80 % of its limit, a disk near its reserve, a target that is pressed."""
    tight = governing(tmp_path, memory_limit=MIB, disk_reserve=1 << 60)
    raised = {each.alert for each in tight.gauges() if each.value > each.limit}
    assert raised == {Alert.MEMORY, Alert.DISK}
    tight(cast("Engine", SimpleNamespace(state=State(settings=settings(disk_reserve=1)))))
    tight._backoff = Backoff(pause_s=0.5, why="full")
    raised = {each.alert for each in tight.gauges() if each.value > each.limit}
    assert raised == {Alert.THROTTLED}


def test_short_memory_and_a_full_cache_make_commands_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1, F3: told once in a while, with the cause."""
    monkeypatch.setattr(governor, "LOOK_S", 0.01)
    monkeypatch.setattr(governor, "SERVER_S", 0.01)
    causes: list[BatchCause] = []
    tight = Governor(settings(memory_limit=MIB), [tmp_path], lambda: FULL_OF_DIRT, causes.append)
    with tight:
        until_s = clock.monotonic_s() + 5
        while len(causes) < 2 and clock.monotonic_s() < until_s:
            clock.sleep_s(0.01)
        clock.sleep_s(0.1)
    assert sorted(causes) == ["cache", "memory"]
    assert not any(thread.is_alive() for thread in tight._threads)


def test_limits_in_force_are_one_line() -> None:
    """F5: those that somebody set."""
    told = settings(memory_limit=512_000_000, cpu_limit=85, disk_reserve=2_000_000_000)
    told = told.model_copy(update={"read_docs_per_s": 1000, "write_bytes_per_s": 5_000_000})
    assert [*limits_line(told.model_dump())] == [
        "limits: memory 512.0 MB, cpu 85 %, disk reserve 2.0 GB, read 1,000 docs/s, write 5.0 MB/s"
    ]
    assert [*limits_line(settings().model_dump()), *limits_line(None)] == []


def test_the_breaker_of_a_new_job() -> None:
    """F4: ten failures in a row, half a minute, then a probe; the rest is `test_breaker`."""
    assert (DEFAULTS.breaker_failures, DEFAULTS.breaker_ms) == (10, 30_000)
    assert [open_ms(opened, DEFAULTS) for opened in (0, 1, 2)] == [30_000, 60_000, 60_000]
    assert run_settings(DEFAULTS, breaker_wait=0.5).breaker_ms == 500


# --- what is given ---


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("512m", 512 * MIB), ("1.5GiB", 1536 * MIB), ("64 KB", 65536)],
)
def test_sizes(text: str, value: int) -> None:
    assert size("disk_reserve", text) == value


@pytest.mark.parametrize("text", ["", "-1", "m", "80%", "1e9", "9999999t", "1.5.1m", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Usage):
        size("disk_reserve", text)


def test_set_takes_the_megabytes_of_the_options() -> None:
    assert megabytes("read_mb_per_s", "1.5") == 1_500_000
    assert megabytes("write_mb_per_s", "0") == 0
    assert megabytes("write_mb_per_s", "0.000001") == 1
    for text in ("", "5m", "-1", "nan", "1e9", "9999999999"):
        with pytest.raises(Usage):
            megabytes("read_mb_per_s", text)


def test_memory_may_be_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size("memory_limit", "50%") == memory.machine_bytes() // 2
    with pytest.raises(Usage):
        size("memory_limit", "101%")


def test_the_documents_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: MEMORY_LIMIT_MB, CPU_THROTTLE_ENABLED; a flag wins."""
    none = ((None, None), (None, None))
    monkeypatch.setenv("MEMORY_LIMIT_MB", "500")
    monkeypatch.setenv("CPU_THROTTLE_ENABLED", "true")
    told = limits(None, None, None, *none)
    assert (told["memory_limit"], told["cpu_limit"], told["disk_reserve"]) == (500 * MIB, 85, None)
    told = limits("2g", 10, "1m", (5, 1.5), (0, 0.0))
    assert (told["memory_limit"], told["cpu_limit"], told["disk_reserve"]) == (2048 * MIB, 10, MIB)
    rates = [told[name] for name in governor.RATES]
    assert rates == [5, 1_500_000, 0, 0]
    monkeypatch.setenv("CPU_THROTTLE_ENABLED", "perhaps")
    with pytest.raises(Usage):
        limits(None, None, None, *none)
    monkeypatch.setenv("CPU_THROTTLE_ENABLED", "false")
    assert limits(None, None, None, *none)["cpu_limit"] == 0
