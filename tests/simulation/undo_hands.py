"""The hands of operations of a group, and those that take back what any operation did.

Before a hand changes anything it writes to the world's logs what brings that back: they are
durable. Each undo may run as often as anybody likes.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from statemachine.effects import Effect
from statemachine.stimuli import Operated, Undone
from statemachine.words import Cause, Found, TaskKind, UnitId
from tests.simulation.groups import change, changes_of
from tests.simulation.news import BLOCK, News, break_off, failure, success
from tests.simulation.world import World

Log = dict[Any, Any]


def log_of(world: World, effect: Effect) -> Log:
    """Of the operation that is carried out, or taken back."""
    if effect.undo is not None:
        return world.logs.setdefault(f"{effect.undo.task} {effect.undo.entity}", {})
    return world.logs.setdefault(f"{effect.task.kind} {effect.task.entity}", {})


def replaced(world: World, effect: Effect) -> bool:
    """Whether a later attempt has begun: whoever is at work looks at that before each step."""
    later = world.latest.get(effect.task, 0)
    return effect.task.kind in (TaskKind.OPERATION, TaskKind.UNDO) and effect.attempt < later


# --- what is written before anything is changed ---


def found_there(world: World, effect: Effect) -> Found:
    """What lay there before the first attempt."""
    assert effect.unit
    there = world.target.get(effect.unit.id)
    found: Found = "nothing" if there is None else "documents" if there else "empty"
    said: Found = log_of(world, effect).setdefault("found", found)
    return said


def note_block(world: World, effect: Effect, block: list[tuple[int, str]]) -> None:
    """Into a collection that held documents: which of these are not there yet."""
    assert effect.unit
    if effect.unit.found == "documents":
        target, log = world.target[effect.unit.id], log_of(world, effect)
        log.update({key: text for key, text in block if key not in target})


def note_made(world: World, effect: Effect, there: bool) -> None:
    if not there:
        log_of(world, effect)["made"] = True


def note_all(world: World, effect: Effect) -> None:
    """All that stands there: nobody else is at work."""
    log_of(world, effect).setdefault("before", deepcopy((world.target, world.mark)))


def note_rows(world: World, effect: Effect, keys: list[int]) -> None:
    """What lies under the keys of a shard."""
    assert effect.shard
    unit = UnitId(effect.shard.target)
    for key in keys:
        log_of(world, effect).setdefault((unit, key), world.target[unit].get(key))


# --- a group ---


def _operation(world: World, effect: Effect) -> Iterator[News | None]:
    assert effect.operation
    world.latest[effect.task] = effect.attempt
    for key, before, after in changes_of(effect.operation.forward):
        assert world.rows.get(key) in (before, after), "I36: out of turn"
        change(world.rows, key, after)
        if world.lots.strikes("partial"):
            yield break_off(world, effect)
            return
        yield None
    if effect.operation.id in world.hopeless:
        yield failure(world, effect, Cause.PERMANENT, "EHOPELESS")
        return
    yield success(effect, Operated())


# --- taking back ---


def _undo(world: World, effect: Effect) -> Iterator[News | None]:
    assert effect.undo
    world.latest[effect.task] = effect.attempt
    stubborn = world.stubborn and effect.attempt == 1 and world.lots.between(0, 5) == 0
    for broken in UNDOS[effect.undo.task](world, effect):
        if broken and world.lots.strikes("partial"):
            yield break_off(world, effect)
            return
        yield None
    if stubborn:
        yield failure(world, effect, Cause.PERMANENT, "ESTUBBORN")
        return
    yield success(effect, Undone(1))


def _operation_back(world: World, effect: Effect) -> Iterator[bool]:
    assert effect.operation
    for key, after, before in changes_of(effect.operation.compensation):
        if world.rows.get(key) == after:
            change(world.rows, key, before)
        yield True


def _create_back(world: World, effect: Effect) -> Iterator[bool]:
    """Whatever was put into a collection of our own goes with it."""
    assert effect.unit
    found = log_of(world, effect).get("found")
    assert effect.unit.found in ("", found), "I40: it is not known what lay there"
    if found == "nothing":
        world.target.pop(effect.unit.id, None)
    elif found == "empty":
        world.target[effect.unit.id].clear()
    yield True


def _chunk_back(world: World, effect: Effect) -> Iterator[bool]:
    assert effect.undo and effect.undo.unit
    target, log = world.target.get(effect.undo.unit, {}), log_of(world, effect)
    ours = [key for key, text in log.items() if target.get(key) == text]
    for at in range(0, len(ours), BLOCK):
        for key in ours[at : at + BLOCK]:
            target.pop(key, None)
        yield True


def _index_back(world: World, effect: Effect) -> Iterator[bool]:
    assert effect.undo and effect.undo.unit
    name = effect.undo.entity.rpartition("@")[2].replace("%40", "@").replace("%25", "%")
    if log_of(world, effect).get("made"):
        world.built.discard((effect.undo.unit, name))
    yield True


def _finish_back(world: World, effect: Effect) -> Iterator[bool]:
    assert effect.unit
    if log_of(world, effect).get("made"):
        world.switched.discard(effect.unit.id)
    yield True


def _all_back(world: World, effect: Effect) -> Iterator[bool]:
    log = log_of(world, effect)
    if "before" in log:
        target, mark = deepcopy(log["before"])
        world.target.clear()
        world.target.update(target)
        world.mark = mark
    yield True


def _shard_back(world: World, effect: Effect) -> Iterator[bool]:
    for key, text in log_of(world, effect).items():
        unit, number = key
        documents = world.target[unit]
        if text is None:
            documents.pop(number, None)
        else:
            documents[number] = text
        yield True


def _nothing_back(world: World, effect: Effect) -> Iterator[bool]:
    yield from ()


UNDOS: dict[TaskKind, Callable[[World, Effect], Iterator[bool]]] = {
    TaskKind.OPERATION: _operation_back,
    TaskKind.CREATE: _create_back,
    TaskKind.RESTORE: _chunk_back,
    TaskKind.COPY: _chunk_back,
    TaskKind.INDEX: _index_back,
    TaskKind.FINISH: _finish_back,
    TaskKind.SHAPE: _all_back,
    TaskKind.FOLLOW: _all_back,
    TaskKind.APPLY: _shard_back,
    TaskKind.SETTLE: _nothing_back,
}
UNDO_HANDS: dict[TaskKind, Callable[[World, Effect], Iterator[News | None]]] = {
    TaskKind.OPERATION: _operation,
    TaskKind.UNDO: _undo,
}
