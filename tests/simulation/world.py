"""A small world for the engine: sources, files and targets as plain dicts, and hands that fail.

Shares no code with the executors. What is durable survives a crash of the process: files under
their final name, documents on the target. What was in flight is lost at any of its steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from statemachine.effects import Effect
from statemachine.events import Difference, IndexSpec
from statemachine.stimuli import (
    Built,
    Created,
    Dumped,
    Failed,
    FileDamaged,
    FoundUnit,
    Outcome,
    Planned,
    Progressed,
    Released,
    Restored,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import BsonText, Cause, Key, TaskKind, UnitId

BATCH = 3
"""Documents per acknowledged block."""
Documents = dict[int, str]


@dataclass(frozen=True)
class Odds:
    """How often each fault strikes, each in 0..1; a seed switches faults on or off."""

    transient: float = 0.0
    permanent: float = 0.0
    crash: float = 0.0
    crash_before_commit: float = 0.0
    crash_after_commit: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    damage: float = 0.0
    pause: float = 0.0
    bad_index: float = 0.0
    fatal: float = 0.0

    @staticmethod
    def draw(random: Random) -> "Odds":
        highest = Odds(0.15, 0.02, 0.05, 0.03, 0.03, 0.1, 0.1, 0.05, 0.03, 0.3, 0.02)
        values = {
            name: getattr(highest, name) * random.random() * (random.random() < 0.6)
            for name in Odds.__dataclass_fields__
        }
        return Odds(**values)


@dataclass
class World:
    """What exists outside the process."""

    random: Random
    odds: Odds
    source: dict[UnitId, Documents]
    views: set[UnitId] = field(default_factory=set)
    target: dict[UnitId, Documents] = field(default_factory=dict)
    indexes: dict[UnitId, tuple[str, ...]] = field(default_factory=dict)
    built: set[tuple[UnitId, str]] = field(default_factory=set)
    bad_indexes: set[tuple[UnitId, str]] = field(default_factory=set)
    files: dict[str, Documents] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    per_chunk: int = 5
    faults: int = 0

    @staticmethod
    def draw(random: Random, odds: Odds) -> "World":
        source = {
            UnitId(f"db.c{n}"): {key: f"{n}/{key}" for key in range(random.choice([0, 1, 7, 30]))}
            for n in range(random.randint(1, 4))
        }
        world = World(random, odds, source, per_chunk=random.randint(2, 9))
        for unit in source:
            world.indexes[unit] = tuple(f"i{n}@x" for n in range(random.randint(0, 2)))
            for index in world.indexes[unit]:
                if random.random() < odds.bad_index:
                    world.bad_indexes.add((unit, index))
        if random.random() < 0.5:
            world.source[UnitId("db.v")] = {}
            world.views.add(UnitId("db.v"))
        return world

    def calm(self) -> None:
        """Faults stop: from here on the job must reach its end (I30)."""
        self.odds = Odds()


def carry_out(  # noqa: C901 — one arm per kind of task
    world: World, effect: Effect
) -> Iterator[Progressed | Outcome]:
    """The effect step by step; each item is news, the last one the outcome. Abandoning the
    iterator is the death of the process in the middle."""
    random, odds = world.random, world.odds
    task = (effect.task, effect.attempt, effect.epoch)

    def failing() -> Failed | None:
        for cause in (Cause.TRANSIENT, Cause.PERMANENT, Cause.FATAL):
            if random.random() < getattr(world.odds, cause):
                world.faults += 1
                return Failed(*task, cause, f"E{cause}", "simulated", random.random())
        return None

    if effect.task.kind is not TaskKind.RELEASE and (failure := failing()):
        yield failure
        return
    match effect.task.kind:
        case TaskKind.SURVEY:
            yield Succeeded(*task, _survey(world))
        case TaskKind.CREATE:
            assert effect.unit
            world.target.setdefault(effect.unit.id, {})
            yield Succeeded(*task, Created(()))
        case TaskKind.PLAN:
            assert effect.unit
            yield Succeeded(*task, _plan(world, effect.unit.id))
        case TaskKind.DUMP:
            assert effect.chunk
            documents = _range(world.source[effect.chunk.unit], effect)
            name = f"{effect.chunk.id}-{effect.attempt}"
            world.files[name] = documents
            if random.random() < odds.damage:
                world.damaged.add(name)
                world.faults += 1
            sizes = (len(documents), 10 * len(documents), 5 * len(documents), 1)
            yield Succeeded(*task, Dumped(name, *sizes, "00"))
        case TaskKind.RESTORE:
            yield from _restore(world, effect, failing)
        case TaskKind.INDEX:
            assert effect.unit
            entity = effect.task.entity
            name = entity.rpartition("@")[2].replace("%40", "@").replace("%25", "%")
            if (effect.unit.id, name) in world.bad_indexes:
                yield Failed(*task, Cause.PERMANENT, "EINDEX", "simulated")
            else:
                world.built.add((effect.unit.id, name))
                yield Succeeded(*task, Built())
        case TaskKind.VERIFY:
            yield Succeeded(*task, _verify(world, effect))
        case TaskKind.RELEASE:
            world.files.pop(effect.file, None)
            yield Succeeded(*task, Released())


def _survey(world: World) -> Surveyed:
    return Surveyed(
        tuple(
            FoundUnit(
                unit=unit,
                target=unit,
                type="view" if unit in world.views else "collection",
                uuid="",
                options=BsonText("{}"),
                indexes=tuple(
                    IndexSpec(name=name, unique=False, spec=BsonText("{}"))
                    for name in world.indexes.get(unit, ())
                ),
                documents=len(documents),
                bytes=10 * len(documents),
            )
            for unit, documents in world.source.items()
        )
    )


def _plan(world: World, unit: UnitId) -> Planned:
    documents = world.source[unit]
    edges = sorted(documents)[world.per_chunk :: world.per_chunk]
    return Planned(tuple(Key(str(edge)) for edge in edges), len(documents), natural=False)


def _range(documents: Documents, effect: Effect) -> Documents:
    assert effect.chunk
    lower = int(effect.chunk.lower) if effect.chunk.lower is not None else -1
    upper = int(effect.chunk.upper) if effect.chunk.upper is not None else 1 << 60
    return {key: value for key, value in documents.items() if lower <= key < upper}


def _restore(world: World, effect: Effect, failing: object) -> Iterator[Progressed | Outcome]:
    """Blocks of `BATCH` documents; position counts 5 bytes a document, like the file's size."""
    assert effect.chunk
    assert effect.chunk.file
    task = (effect.task, effect.attempt, effect.epoch)
    name = effect.chunk.file.name
    if name not in world.files or name in world.damaged:
        yield FileDamaged(*task, "simulated")
        return
    documents = list(world.files[name].items())
    target = world.target[effect.chunk.unit]
    done = effect.chunk.done
    at = done.position // 5
    present = done.present
    news = Restored(5 * at, done.documents, done.bytes, present, 0)
    while at < len(documents):
        for key, value in documents[at : at + BATCH]:
            assert target.get(key, value) == value, "another document under the same key"
            present += key in target
            target[key] = value
            if world.random.random() < world.odds.transient / 10:
                world.faults += 1
                yield Failed(*task, Cause.TRANSIENT, "ENET", "in the middle of a block", 0.3)
                return
        at = min(at + BATCH, len(documents))
        news = Restored(5 * at, at, 10 * at, present, 0)
        if at < len(documents):
            yield Progressed(*task, news)
    yield Succeeded(*task, replace(news, position=5 * len(documents)))


def _verify(world: World, effect: Effect) -> Verified:
    assert effect.chunk
    left = _range(world.source[effect.chunk.unit], effect)
    right = _range(world.target.get(effect.chunk.unit, {}), effect)
    wrong = [key for key in left.keys() | right.keys() if left.get(key) != right.get(key)]
    differing = tuple(Difference(key=Key(str(key)), what="different") for key in wrong)
    return Verified(left == right, len(left), len(right), "", "", 0, differing)
