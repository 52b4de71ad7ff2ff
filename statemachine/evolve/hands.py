"""Small hands of the arms: tasks in their queues, look-ups, ripeness, breakers."""

from collections import OrderedDict

from statemachine.errors import UnknownEntity
from statemachine.events import (
    TASK_OF,
    AnyEvent,
    Event,
    TaskEvent,
)
from statemachine.policy import COUNTED, POOL_OF
from statemachine.state import Chunk, State, Task, Unit, restores_chain
from statemachine.words import (
    Cause,
    ChunkId,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
)


def told(state: State, event: AnyEvent) -> None:
    """For people; no decision depends on it. But nothing is told of a job that nobody asked for."""
    if state.spec is None:
        raise UnknownEntity(entity=event.about, event=event.kind)


def answered(state: State, request: int) -> None:
    """A request that comes twice is no news."""
    state.request = max(state.request, request)


def hurt(state: State, key: TaskKey, cause: Cause) -> None:
    """One more failure in a row of the pool, if another server might have done better."""
    if cause in COUNTED:
        breaker = state.breakers[POOL_OF[key.kind]]
        breaker.failures += 1
    probed(state, key)


def healed(state: State, event: TaskEvent) -> None:
    state.breakers[POOL_OF[TASK_OF[event.kind]]].failures = 0


def probed(state: State, key: TaskKey) -> None:
    """The probe, if this was it, has told what it had to tell."""
    breaker = state.breakers[POOL_OF[key.kind]]
    if breaker.probe == key:
        breaker.probe = None


def put(state: State, key: TaskKey, task: Task) -> None:
    state.tasks[key] = task
    enter(state, key, task)


def remove(state: State, key: TaskKey) -> None:
    task = state.tasks.pop(key, None)
    if task is not None:
        leave(state, key, task)
        probed(state, key)
        state.quarantine.pop(key, None)


def once_more(state: State, key: TaskKey) -> None:
    """What was done is done again when its turn comes; its attempts count on."""
    if stands(state, key, Status.COMPLETED):
        done = state.tasks[key]
        put(state, key, Task(attempt=done.attempt, priority=done.priority))


def enter(state: State, key: TaskKey, task: Task) -> None:
    if task.status is Status.COMPLETED:
        return
    place = (key.kind, task.status, task.priority)
    queue = state.queues.get(place)
    if queue is None:
        queue = state.queues[place] = OrderedDict()
    queue[key] = None


def leave(state: State, key: TaskKey, task: Task) -> None:
    if task.status is not Status.COMPLETED:
        del state.queues[key.kind, task.status, task.priority][key]


def stands(state: State, key: TaskKey, status: Status) -> bool:
    task = state.tasks.get(key)
    return task is not None and task.status is status


def ripen(state: State, unit: Unit) -> None:
    """Note whether the unit has no work left: every chunk settled, every index tried."""
    done = unit.id in state.open_units and _carried(state, unit)
    if done and finishes(state, unit):
        key = TaskKey(TaskKind.FINISH, unit.id)
        if key not in state.tasks:
            put(state, key, Task(priority=unit.priority))
        done = state.tasks[key].status in (Status.COMPLETED, Status.FAILED)
    if done:
        state.ripe[unit.id] = None
    else:
        state.ripe.pop(unit.id, None)


def _carried(state: State, unit: Unit) -> bool:
    """Whether nothing is left of the unit but its last touch."""
    if unit.type == "view":
        keys = (TaskKey(TaskKind.CREATE, unit.id), TaskKey(TaskKind.PLAN, unit.id))
        return all(state.tasks[k].status is Status.COMPLETED for k in keys if k in state.tasks)
    whole = unit.settled + unit.dropped == unit.planned
    made = unit.created or state.spec is None or state.spec.kind != "restore"
    return unit.status is UnitStatus.PROCESSING and whole and made and not unit.indexing


def finishes(state: State, unit: Unit) -> bool:
    """Whether the unit gets a last touch, when all else is done."""
    spec = state.spec
    if spec is None or spec.kind not in ("migrate", "restore", "verify"):
        return False
    if spec.follow or restores_chain(spec):  # settled when the last change is in
        return False
    if spec.kind == "verify":  # beside what a dump holds there may lie more
        return spec.metadata or (state.from_dump and unit.type != "view")
    return spec.metadata or unit.expires or bool(spec.swap)


def open_chunks(state: State, unit: Unit) -> list[Chunk]:
    """The unit's chunks with work left: they are numbered, so nothing is searched."""
    numbered = (ChunkId(f"{unit.id}#{number}") for number in range(unit.named))
    return [state.chunks[each] for each in numbered if each in state.chunks]


def the_unit(state: State, unit_id: str, event: Event) -> Unit:
    try:
        return state.units[unit_id]  # type: ignore[index]
    except KeyError:
        raise UnknownEntity(entity=unit_id, event=event.kind) from None


def the_chunk(state: State, chunk_id: str, event: Event) -> Chunk:
    try:
        return state.chunks[chunk_id]  # type: ignore[index]
    except KeyError:
        raise UnknownEntity(entity=chunk_id, event=event.kind) from None
