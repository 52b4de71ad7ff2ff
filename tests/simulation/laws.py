"""The laws of states and of ends (see the invariants' numbers); `chronicle` has those of histories.

Each function raises `AssertionError` with the law's number. They look at the state and the
world; where the state has counters, they count anew.
"""

import json
from collections.abc import Mapping, Sequence

from journal.protocol import Recorded
from statemachine.events import (
    ChunkDropped,
    ChunkPlanned,
    ChunkReplaced,
    DocumentRejected,
    JobCompleted,
    UnitExcluded,
)
from statemachine.evolve import fold
from statemachine.policy import POOLS
from statemachine.snapshot import freeze, thaw
from statemachine.state import State, digest, keeps_files
from statemachine.words import (
    JobStatus,
    Pool,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    index_task,
    unit_of,
)
from tests.simulation.news import REPAIRED
from tests.simulation.past import Moment
from tests.simulation.valves import workers_of
from tests.simulation.world import World, cut


def same(live: State, replayed: State) -> None:
    """I8: the state in memory is the fold of the journal, down to the order of its queues."""
    assert live == replayed, "I8"
    for place, queue in replayed.queues.items():
        assert list(live.queues[place]) == list(queue), "I8: another order"


def pieces_compose(records: Sequence[Recorded], at: int, whole: State) -> None:
    """I7, I9: folding in two pieces, with a snapshot between them, is folding at once."""
    events = [recorded.event for recorded in records]
    snapshot = json.dumps(freeze(fold(events[:at])))
    assert digest(fold(events[at:], thaw(json.loads(snapshot)))) == digest(whole), "I9"


def counters(state: State) -> None:
    """I14, I25: every planned chunk is in exactly one place; the sums agree; 100 iff complete."""
    incremental = state.spec is not None and state.spec.incremental
    held: dict[UnitId, int] = dict.fromkeys(state.units, 0)
    for chunk in state.chunks.values():
        held[chunk.unit] += 1
        if TaskKey(TaskKind.SPLIT, chunk.id) in state.tasks:
            continue
        standing = [TaskKey(kind, chunk.id) in state.tasks for kind in state.stages]
        assert standing == sorted(standing, reverse=True), "I14: a stage without the one before"
        assert any(standing), "I14: a chunk that nobody works on"
    for unit in state.units.values():
        if unit.status not in GONE:
            assert held[unit.id] + unit.settled + unit.dropped == unit.planned, "I14"
        assert 0 <= unit.weight_done <= unit.weight, "I25"
        assert 0 <= unit.restored <= unit.planned, "I25"
        if unit.status is UnitStatus.COMPLETED and unit.type == "collection":
            assert unit.settled + unit.dropped == unit.planned, "I25"
            assert unit.planned or state.from_dump or incremental, "I25"
            assert unit.weight_done == unit.weight, "I25"
    for (kind, status, priority), queue in state.queues.items():
        for key in queue:
            task = state.tasks[key]
            assert key.kind is kind and task.status is status, "I14"
            assert task.priority == priority and priority in state.priorities, "I27"
    queued = [task for task in state.tasks.values() if task.status is not Status.COMPLETED]
    assert sum(len(queue) for queue in state.queues.values()) == len(queued), "I14"
    open_units = [u for u, unit in state.units.items() if unit.status in OPEN]
    assert sorted(state.open_units) == sorted(open_units), "I14"
    ripe = {u for u in open_units if not held[u] and _has_no_work(state, u)}
    assert set(state.ripe) == ripe, "I29"
    flawed = [chunk for chunk in state.flawed.values() if chunk.dropped]
    assert len(flawed) == sum(unit.dropped for unit in state.units.values()), "I25"


def _has_no_work(state: State, unit_id: UnitId) -> bool:
    unit = state.units[unit_id]
    left = [
        key
        for key, task in state.tasks.items()
        if unit_of(key) == unit_id and not (key.kind in NEVER_FAIL and task.status in ENDS)
        if task.status is not Status.COMPLETED
    ]
    planned = unit.type == "view" or unit.status is UnitStatus.PROCESSING
    return planned and not left


OF_CHUNKS = (
    TaskKind.DUMP,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.VERIFY,
    TaskKind.SPLIT,
)
ENDS = (Status.COMPLETED, Status.FAILED)
NEVER_FAIL = (TaskKind.INDEX, TaskKind.FINISH)
"""The data: their dead letters keep no unit from its end."""
GONE = (UnitStatus.FAILED, UnitStatus.EXCLUDED)
OPEN = (UnitStatus.PENDING, UnitStatus.PROCESSING)


def files(state: State) -> None:
    """A limit on everything: chunk files counted and never above the limit by new dumps."""
    held = [chunk.file for chunk in state.chunks.values() if chunk.file is not None]
    ours = [file for file in held if file.place == "work"]
    assert state.files == len(ours) + len(state.releasing), "files"


def pool(state: State, pool: Pool) -> None:
    """I26: no start makes more work than there are workers, whatever their number was before."""
    settings = state.settings
    assert settings is not None
    workers = workers_of(pool, settings)
    busy = [
        key
        for key, task in state.tasks.items()
        if task.status is Status.PROCESSING and key.kind in POOLS[pool]
    ]
    assert len(busy) <= workers, "I26"


# --- ends ---


def ended(world: World, state: State, records: Sequence[Recorded]) -> None:
    """I12, I19, I22, I29: what a right end is, by the kind of the job and its policy."""
    assert state.spec is not None and state.settings is not None
    if state.status is JobStatus.ROLLED_BACK:
        return  # what that is stands with the laws of histories
    if state.spec.kind in ("migrate", "restore") and world.past is None:
        for unit, documents in world.target.items():
            due = world.source[unit]
            assert all(due.get(key) == text for key, text in documents.items()), "I22: extra"
    if state.status is JobStatus.FAILED:
        told = state.from_dump or state.code in ("EDEADLINE001", "ESNAP001", "EOPS001")
        assert state.settings.on_exhausted == "fail-job" or told, "I19"
        assert state.code and state.why, "I19: failed for nothing"
        return
    assert state.status is JobStatus.COMPLETED, state.status
    assert state.closed, "I29"
    assert not state.chunks and not state.releasing and not state.files, "I14"
    assert not any(breaker.opened and breaker.probe for breaker in state.breakers.values()), "I43"
    if world.past is not None and state.spec.kind != "dump":
        same_documents(world, world.past.end, dropped_of(world, records))
    hidden = {unit for unit in world.hidden if unit not in state.added}
    assert set(state.units) == set(world.source) - hidden, "I29"
    for unit in state.units:
        status = state.units[unit].status
        if status is UnitStatus.FAILED:
            _skipped(state, unit)
        elif status is UnitStatus.EXCLUDED:
            asked = [r.event for r in records if isinstance(r.event, UnitExcluded)]
            assert unit in {event.unit for event in asked}, "excluded in silence"
        else:
            _finished(world, state, unit, records)
    last = next(r.event for r in reversed(records) if isinstance(r.event, JobCompleted))
    units = state.units.values()
    dropped = state.dropped + sum(unit.dropped for unit in units)
    assert last.rejected == sum(unit.rejected for unit in units), "I25"
    assert last.mismatched == sum(unit.mismatched + unit.differing for unit in units), "I25"
    assert last.damaged == sum(unit.damaged for unit in units), "I25"
    assert last.dead_letters == state.count(Status.FAILED) + dropped, "I25"


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
    assert found.damaged == world.unreadable.get(unit, 0), "damage in silence"
    _touched(world, state, unit)
    if keeps_files(state.spec):
        _dumped(world, state, unit)
        return
    if state.spec.kind in ("migrate", "restore") and world.past is None:
        assert unit in world.target, "I22: never created"
    if unit in world.views:
        return
    if state.spec.kind == "plan":
        assert not world.target and not world.built, "I46"
        assert not world.files or world.from_dump, "I46"
        assert found.planned == found.settled, "I46"
        assert found.planned or world.from_dump, "I46"
        return
    if state.spec.kind == "verify":
        assert found.mismatched == sum(_differs(world, unit, state, records)), "verify"
        return
    if world.past is None:
        _carried(world, state, unit, records)
    else:
        lost = found.dropped
        assert found.restored_documents == len(world.source[unit]) or lost, "I25"
    for index in world.indexes.get(unit, ()):
        key = index_task(unit, index)
        given_up = key in state.tasks and state.tasks[key].status is Status.FAILED
        dropped = key.entity in {r.event.about for r in records if r.event.kind == "index_dropped"}
        built = (unit, index) in world.built
        assert built or given_up or dropped, "an index is missing in silence"
        assert dropped or key in state.tasks, "an index is gone in silence"


def _touched(world: World, state: State, unit: UnitId) -> None:
    """I29: the last touch of every unit that gets one; what it saw last is what is told."""
    assert state.spec is not None
    key = TaskKey(TaskKind.FINISH, unit)
    writes = state.spec.kind in ("migrate", "restore")
    wanted = world.compared and (writes or state.spec.kind == "verify")
    wanted |= writes and unit in world.expiring
    wanted &= world.past is None  # what follows has a last touch of its own
    wanted |= state.spec.kind == "verify" and world.from_dump and unit not in world.views
    assert (key in state.tasks) == wanted, "I29"
    if not wanted or state.tasks[key].status is Status.FAILED:
        return
    assert state.tasks[key].status is Status.COMPLETED, "I29"
    assert unit in world.switched or unit not in world.expiring, "I29"
    assert state.units[unit].differing == world.looked[unit, state.tasks[key].attempt], "I25"


def _dumped(world: World, state: State, unit: UnitId) -> None:
    """I22, I29: the manifest that was written last names all there is, but for what was
    dropped."""
    task = state.tasks[TaskKey(TaskKind.MANIFEST, "job")]
    assert task.status is Status.COMPLETED, "I29"
    manifest = world.manifests[task.attempt]
    assert unit in manifest, "I29: a unit that is named nowhere"
    files = {**world.files, **world.lost}  # since the manifest was written
    names = [name for chunk, name in manifest.items() if chunk.startswith(f"{unit}#")]
    named = [item for name in names for item in files[name].items()]
    lost = [each for each in state.flawed.values() if each.unit == unit and each.dropped]
    gone = {key for each in lost for key in world.range(unit, each.lower, each.upper)}
    gone |= world.refused.get(unit, set()) if world.exports else set()
    due = [item for item in world.source[unit].items() if item[0] not in gone]
    assert sorted(named) == sorted(due), "I22"


def _carried(world: World, state: State, unit: UnitId, records: Sequence[Recorded]) -> None:
    """I22: all is there but what was refused by name, and what lies in chunks that were dropped."""
    found, target = state.units[unit], world.target[unit]
    lost: set[int] = set()
    for chunk in state.flawed.values():
        if chunk.unit == unit and chunk.dropped:
            lost |= set(world.range(unit, chunk.lower, chunk.upper))
    refused = world.refused.get(unit, set())
    due = {key for key in world.source[unit] if key not in refused and key not in lost}
    assert due <= set(target), "I22: missing"
    assert not set(target) & refused, "I22: refused, and there"
    counted = len([key for key in target if key not in lost])
    assert found.restored_documents >= counted, "I25"
    if not lost:
        assert (found.restored_documents, found.rejected) == (len(due), len(refused)), "I25"
    assert found.mismatched == 0, "I22"
    if not lost:
        assert found.repaired >= sum(key % REPAIRED == 0 for key in due), "P10"
    named = {
        r.event.key
        for r in records
        if isinstance(r.event, DocumentRejected) and r.event.chunk.startswith(f"{unit}#")
    }
    assert {str(key) for key in refused - lost} <= named, "rejected in silence"


def _differs(world: World, unit: UnitId, state: State, records: Sequence[Recorded]) -> list[bool]:
    """By chunk: whether the target differs from the source in its range."""
    target = world.target.get(unit, {})
    gone = {r.event.chunk for r in records if isinstance(r.event, ChunkReplaced)}
    gone |= {chunk.id for chunk in state.flawed.values() if chunk.dropped}
    planned = [r.event for r in records if isinstance(r.event, ChunkPlanned)]
    chunks = [each for each in planned if each.chunk not in gone]
    return [
        world.range(unit, each.lower, each.upper) != cut(target, each.lower, each.upper)
        for each in chunks
        if each.unit == unit
    ]


def same_documents(world: World, goal: Moment, dropped: Mapping[str, set[int]]) -> None:
    """I33: to the document, and under the same names; but for what was dropped by its key."""
    there = {name: held for name, held in world.target.items() if name not in world.views}
    assert set(there) == set(goal.by_name), "I33: other collections"
    for uuid, name in goal.names.items():
        found, due = there[name], goal.held[uuid]
        wrong = {key for key in found.keys() | due.keys() if found.get(key) != due.get(key)}
        assert wrong <= dropped.get(uuid, set()), "I33: other documents"


def dropped_of(world: World, records: Sequence[Recorded]) -> dict[str, set[int]]:
    """By UUID, keys of chunks of the first copy that the job went on without, and said so."""
    assert world.past is not None
    uuids = {name: uuid for uuid, name in world.past.moments[0].names.items()}
    events = [recorded.event for recorded in records]
    chunks = {event.chunk: event for event in events if isinstance(event, ChunkPlanned)}
    dropped: dict[str, set[int]] = {}
    for event in events:
        if isinstance(event, ChunkDropped):
            chunk = chunks[event.chunk]
            keys = world.range(chunk.unit, chunk.lower, chunk.upper)
            dropped.setdefault(uuids[chunk.unit], set()).update(keys)
        elif isinstance(event, UnitExcluded):  # it was gone; whoever follows will hear of it
            assert uuids[event.unit] not in world.past.end.names, "excluded, and there"
            dropped.setdefault(uuids[event.unit], set()).update(world.source[event.unit])
    return dropped
