"""What hands have in common: what they say, and how large things are."""

from statemachine.effects import Effect
from statemachine.events import IndexSpec
from statemachine.stimuli import Failed, FoundUnit, Outcome, Progressed, Result, Succeeded
from statemachine.words import BsonText, Cause, UnitId
from tests.simulation.world import Crash, World

BLOCK = 3
"""Documents per acknowledged block."""
DOCUMENT = 5
"""Bytes of a document in a chunk file; in memory it is twice that."""

REPAIRED = 7
"""One in so many documents has something that a server fills in."""

News = Progressed | Outcome


def failure(world: World, effect: Effect, cause: Cause, code: str = "ESIM") -> Failed:
    who = (effect.task, effect.attempt, effect.epoch)
    return Failed(*who, cause, code, "simulated", world.lots.jitter())


def success(effect: Effect, result: Result) -> Succeeded:
    return Succeeded(effect.task, effect.attempt, effect.epoch, result)


def break_off(world: World, effect: Effect) -> Failed:
    """In the middle: the effect reports a failure, or takes the process with it."""
    if world.lots.between(0, 1):
        raise Crash
    return failure(world, effect, Cause.TRANSIENT)


def found(world: World, unit: UnitId) -> FoundUnit:
    documents = world.source[unit]
    names = world.indexes.get(unit, ())
    return FoundUnit(
        unit=unit,
        target=unit,
        type="view" if unit in world.views else "collection",
        uuid="",
        options=BsonText("{}"),
        indexes=tuple(IndexSpec(name=n, unique=False, spec=BsonText("{}")) for n in names),
        documents=len(documents),
        bytes=2 * DOCUMENT * len(documents),
        expires=unit in world.expiring,
    )
