"""The laws: what must hold after every step, whatever happened (see the invariants' numbers).

Each function raises `AssertionError` with the law's number. They look at the journal and the
world; where they look at the state, they compute its counters anew.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from journal.protocol import Recorded
from statemachine.events import (
    DumpCompleted,
    DumpInvalidated,
    InDoubt,
    JobPaused,
    JobResumed,
    PauseRequested,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    RetryScheduled,
    RunSettings,
    Started,
    TaskEvent,
    VerifyCompleted,
)
from statemachine.evolve import fold
from statemachine.policy import DUMP_POOL, RESTORE_POOL
from statemachine.state import State, digest
from statemachine.words import (
    JobStatus,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
    Verb,
    index_task,
)
from tests.simulation.world import World


def live_is_replay(state: State, records: Sequence[Recorded]) -> None:
    """I8: the state in memory is the fold of the journal."""
    assert digest(state) == digest(fold(recorded.event for recorded in records)), "I8"


def pieces_compose(records: Sequence[Recorded], at: int) -> None:
    """I9: folding in two pieces is folding at once."""
    events = [recorded.event for recorded in records]
    assert digest(fold(events[at:], fold(events[:at]))) == digest(fold(events)), "I9"


def envelopes(records: Sequence[Recorded]) -> None:
    """I2, I5: seq increases, versions have no gap, epochs never go back."""
    assert [r.version for r in records] == list(range(1, len(records) + 1)), "I2"
    assert all(a.seq < b.seq for a, b in pairwise(records)), "I2"
    assert all(a.epoch <= b.epoch for a, b in pairwise(records)), "I5"


def counters(state: State) -> None:
    """I14, I25: every planned chunk is in exactly one place; the sums agree; 100 iff complete."""
    for unit in state.units.values():
        open_chunks = [chunk for chunk in state.chunks.values() if chunk.unit == unit.id]
        if unit.status is not UnitStatus.FAILED:
            assert len(open_chunks) + unit.settled == unit.planned, "I14"
        for chunk in open_chunks:
            standing = [TaskKey(kind, chunk.id) in state.tasks for kind in state.stages]
            assert standing == sorted(standing, reverse=True), "I14: a stage without the one before"
            assert any(standing), "I14: a chunk that nobody works on"
        assert 0 <= unit.weight_done <= unit.weight, "I25"
        if unit.status is UnitStatus.COMPLETED and unit.type == "collection":
            assert unit.settled == unit.planned > 0, "I25"
            assert unit.weight_done == unit.weight, "I25"
    for (kind, status), queue in state.queues.items():
        for key in queue:
            assert key.kind is kind, "I14"
            assert state.tasks[key].status is status, "I14"
    assert sum(len(queue) for queue in state.queues.values()) == len(state.tasks), "I14"


def pools(state: State) -> None:
    """I26: never more at work than there are workers."""
    settings = state.settings
    if settings is None:
        return
    for pool, limit in (
        (DUMP_POOL, settings.dump_workers),
        (RESTORE_POOL, settings.restore_workers),
    ):
        assert sum(len(state.queue(kind, Status.PROCESSING)) for kind in pool) <= limit, "I26"


def effects_before_outcomes(world: World, records: Sequence[Recorded]) -> None:
    """I17: an outcome in the journal is already true in the world."""
    files: dict[str, tuple[str, int]] = {}
    for recorded in records:
        match recorded.event:
            case DumpCompleted() as event:
                files[event.entity] = (event.file, event.documents)
            case DumpInvalidated() as event:
                files.pop(event.entity, None)
            case VerifyCompleted() as event:
                files.pop(event.entity, None)
            case _:
                pass
    released = {r.event.about for r in records if r.event.kind == "chunk_released"}
    for chunk, (name, documents) in files.items():
        if chunk not in released and name in world.files:
            assert len(world.files[name]) == documents, "I17"
    for recorded in records:
        if isinstance(recorded.event, RestoreProgressed | RestoreCompleted):
            unit = recorded.event.entity.rpartition("#")[0]
            assert recorded.event.documents <= len(world.target[unit]), "I17"  # type: ignore[index]


def story(records: Sequence[Recorded], settings: RunSettings) -> None:  # noqa: C901, PLR0912, PLR0915
    """I15, I16, I18, I19, I23, I28: one pass over the history, task by task."""
    attempts: Counter[TaskKey] = Counter()
    failures: Counter[TaskKey] = Counter()
    not_before: dict[TaskKey, int] = {}
    delays: dict[TaskKey, list[int]] = defaultdict(list)
    last: dict[TaskKey, Verb] = {}
    pausing = False
    for recorded in records:
        event = recorded.event
        if isinstance(event, PauseRequested):
            pausing = True
        elif isinstance(event, JobPaused):
            undecided = [k for k, verb in last.items() if verb in (Verb.STARTED, Verb.IN_DOUBT)]
            assert not undecided, "I28: paused with work in flight or in doubt"
        elif isinstance(event, JobResumed):
            pausing = False
        if not isinstance(event, TaskEvent):
            continue
        key = event.task
        match event:
            case Started():
                assert not pausing, "I28: a start during a pause"
                assert last.get(key) is not Verb.COMPLETED, "I15"
                assert last.get(key) is not Verb.IN_DOUBT, "I16"
                assert last.get(key) is not Verb.DEAD_LETTERED, "I19"
                attempts[key] += 1
                assert event.attempt == attempts[key], "I18: attempt numbers are consecutive"
                assert recorded.recorded_at_ms >= not_before.get(key, 0), "I18: not before"
                if key.kind is TaskKind.RESTORE:
                    dump = TaskKey(TaskKind.DUMP, key.entity)
                    assert last.get(dump) is Verb.COMPLETED, "I23"
            case RetryScheduled():
                failures[key] += 1
                not_before[key] = event.not_before_ms
                delays[key].append(event.delay_ms)
                ceiling = min(
                    settings.retry_cap_ms, settings.retry_base_ms * 2 ** (failures[key] - 1)
                )
                assert ceiling // 2 <= event.delay_ms <= ceiling, "I18: jitter in its interval"
                assert delays[key] == sorted(delays[key]), "I18: delays do not shrink"
            case InDoubt():
                assert last.get(key) in (Verb.STARTED, Verb.PROGRESSED), "I16"
            case Resolved():
                assert last.get(key) is Verb.IN_DOUBT, "I16: one decision for each doubt"
            case _:
                pass
        if event.verb is Verb.REQUEUED:
            failures[key] = 0
            delays[key].clear()
        if event.verb is Verb.DEAD_LETTERED and last[key] in (Verb.STARTED, Verb.PROGRESSED):
            failures[key] += 1
        if event.verb is Verb.INVALIDATED:
            failures[key] += 1
        assert failures[key] <= settings.max_retries, "I18: the budget"
        last[key] = event.verb


def partition(world: World, records: Sequence[Recorded]) -> None:
    """I21: the planned ranges are ordered, share their edges and are open at both ends."""
    ranges: dict[str, list[tuple[str | None, str | None]]] = defaultdict(list)
    planned: set[str] = set()
    for recorded in records:
        if recorded.event.kind == "chunk_planned":
            event = recorded.event
            ranges[event.unit].append((event.lower, event.upper))  # type: ignore[union-attr]
        elif recorded.event.kind == "plan_completed":
            planned.add(recorded.event.about)
    assert set(ranges) == planned, "I21: chunks without their plan, or a plan without chunks"
    for unit, pairs in ranges.items():
        assert pairs[0][0] is None, "I21"
        assert pairs[-1][1] is None, "I21"
        assert all(a[1] == b[0] for a, b in pairwise(pairs)), "I21"
        edges = [int(upper) for _, upper in pairs[:-1] if upper is not None]
        assert edges == sorted(set(edges)), "I21"
        assert unit in world.source, "I21"


def finished(world: World, state: State) -> None:
    """I12, I22, I29: the end is the same whatever happened on the way."""
    assert state.status is JobStatus.COMPLETED, state.status
    assert state.closed, "I29"
    for unit, documents in world.source.items():
        if unit not in world.views:
            assert world.target[unit] == documents, "I22"
        assert state.units[unit].status is UnitStatus.COMPLETED, "I29"
        assert state.units[unit].mismatched == 0, "I22"
        if unit not in world.views:
            assert state.units[unit].restored_documents == len(documents), "I25"
        for index in world.indexes.get(unit, ()):
            given_up = state.tasks[index_task(unit, index)].status is Status.FAILED
            assert ((unit, index) in world.built) or given_up, "an index is missing in silence"
            assert given_up or (unit, index) not in world.bad_indexes
    assert not state.chunks, "I14"
