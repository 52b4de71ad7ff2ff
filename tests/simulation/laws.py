"""The laws of states and of ends (see the invariants' numbers); `chronicle` has those of histories.

Each function raises `AssertionError` with the law's number. They look at the state and the
world; where the state has counters, they count anew.
"""

import json
from collections.abc import Sequence

from journal.protocol import Recorded
from statemachine.events import ChunkPlanned, JobCompleted
from statemachine.evolve import fold
from statemachine.policy import POOLS, workers_of
from statemachine.snapshot import freeze, thaw
from statemachine.state import State, digest
from statemachine.words import (
    JobStatus,
    Status,
    TaskKey,
    UnitId,
    UnitStatus,
    index_task,
    unit_of,
)
from tests.simulation.world import World, cut


def same(live: State, replayed: State) -> None:
    """I8: the state in memory is the fold of the journal, down to the order of its queues."""
    assert live == replayed, "I8"
    for place, queue in replayed.queues.items():
        assert list(live.queue(*place)) == list(queue), "I8: another order"


def pieces_compose(records: Sequence[Recorded], at: int, whole: State) -> None:
    """I7, I9: folding in two pieces, with a snapshot between them, is folding at once."""
    events = [recorded.event for recorded in records]
    snapshot = json.dumps(freeze(fold(events[:at])))
    assert digest(fold(events[at:], thaw(json.loads(snapshot)))) == digest(whole), "I9"


def counters(state: State) -> None:
    """I14, I25: every planned chunk is in exactly one place; the sums agree; 100 iff complete."""
    held: dict[UnitId, int] = dict.fromkeys(state.units, 0)
    for chunk in state.chunks.values():
        held[chunk.unit] += 1
        standing = [TaskKey(kind, chunk.id) in state.tasks for kind in state.stages]
        assert standing == sorted(standing, reverse=True), "I14: a stage without the one before"
        assert any(standing), "I14: a chunk that nobody works on"
    for unit in state.units.values():
        if unit.status is not UnitStatus.FAILED:
            assert held[unit.id] + unit.settled == unit.planned, "I14"
        assert 0 <= unit.weight_done <= unit.weight, "I25"
        if unit.status is UnitStatus.COMPLETED and unit.type == "collection":
            assert unit.settled == unit.planned > 0, "I25"
            assert unit.weight_done == unit.weight, "I25"
    for (kind, status, priority), queue in state.queues.items():
        for key in queue:
            task = state.tasks[key]
            assert key.kind is kind and task.status is status, "I14"
            assert task.priority == priority, "I27"
    queued = [task for task in state.tasks.values() if task.status is not Status.COMPLETED]
    assert sum(len(queue) for queue in state.queues.values()) == len(queued), "I14"
    open_units = [u for u, unit in state.units.items() if unit.status in OPEN]
    assert sorted(state.open_units) == sorted(open_units), "I14"


OPEN = (UnitStatus.PENDING, UnitStatus.PROCESSING)


def files(state: State) -> None:
    """A limit on everything: chunk files counted and never above the limit by new dumps."""
    whole = [chunk.file for chunk in state.chunks.values() if chunk.file is not None]
    assert state.files == len(whole) + len(state.releasing), "files"


def pools(state: State) -> None:
    """I26: never more at work than there are workers."""
    settings = state.settings
    if settings is None:
        return
    for pool, kinds in POOLS.items():
        assert state.busy(kinds) <= workers_of(pool, settings), "I26"


# --- ends ---


def ended(world: World, state: State, records: Sequence[Recorded]) -> None:
    """I12, I19, I22, I29: what a right end is, by the kind of the job and its policy."""
    assert state.spec is not None and state.settings is not None
    if state.spec.kind == "migrate":
        for unit, documents in world.target.items():
            due = world.due(unit)
            assert all(due.get(key) == text for key, text in documents.items()), "I22: extra"
    if state.status is JobStatus.FAILED:
        assert state.settings.on_exhausted == "fail-job", "I19"
        assert state.code and state.why and state.count(Status.FAILED), "I19: failed for nothing"
        return
    assert state.status is JobStatus.COMPLETED, state.status
    assert state.closed, "I29"
    assert not state.chunks and not state.releasing and not state.files, "I14"
    assert set(state.units) == set(world.source), "I29"
    for unit in world.source:
        if state.units[unit].status is UnitStatus.FAILED:
            _skipped(state, unit)
        else:
            _finished(world, state, unit, records)
    last = next(r.event for r in reversed(records) if isinstance(r.event, JobCompleted))
    units = state.units.values()
    assert last.rejected == sum(unit.rejected for unit in units), "I25"
    assert last.mismatched == sum(unit.mismatched for unit in units), "I25"
    assert last.dead_letters == state.count(Status.FAILED), "I25"


def _skipped(state: State, unit: UnitId) -> None:
    """Decision 1: only where the policy says so, and never in silence."""
    assert state.settings is not None
    assert state.settings.on_exhausted == "skip-unit", "I19"
    left = [task for key, task in state.tasks.items() if unit_of(key) == unit]
    assert left and all(task.status is Status.FAILED for task in left), "I19"


def _finished(world: World, state: State, unit: UnitId, records: Sequence[Recorded]) -> None:
    assert state.spec is not None
    found = state.units[unit]
    assert found.status is UnitStatus.COMPLETED, "I29"
    if unit in world.views:
        return
    if state.spec.kind == "verify":
        assert found.mismatched == sum(_differs(world, unit, records)), "verify"
        return
    due, refused = world.due(unit), world.refused.get(unit, set())
    assert world.target[unit] == due, "I22: missing"
    assert (found.restored_documents, found.rejected) == (len(due), len(refused)), "I25"
    assert found.mismatched == 0, "I22"
    named = {r.event.key for r in records if r.event.kind == "document_rejected"}  # type: ignore[union-attr]
    assert {str(key) for key in refused} <= named, "rejected in silence"
    for index in world.indexes.get(unit, ()):
        given_up = state.tasks[index_task(unit, index)].status is Status.FAILED
        assert ((unit, index) in world.built) or given_up, "an index is missing in silence"
        assert given_up or (unit, index) not in world.bad_indexes


def _differs(world: World, unit: UnitId, records: Sequence[Recorded]) -> list[bool]:
    """By chunk: whether the target differs from the source in its range."""
    target = world.target[unit]
    chunks = [r.event for r in records if isinstance(r.event, ChunkPlanned)]
    return [
        world.range(unit, each.lower, each.upper) != cut(target, each.lower, each.upper)
        for each in chunks
        if each.unit == unit
    ]
