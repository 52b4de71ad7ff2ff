"""A small world for the engine: sources, files and targets as plain dicts, and faults by lot.

Shares no code with the executors. What is durable survives a crash of the process: files under
their final name, documents on the target. What was in flight is lost at any of its steps.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple, Protocol

from statemachine.stimuli import PlannedOperation
from statemachine.words import TaskKey, UnitId
from tests.simulation.past import Documents, Mark, Past, first_moment


class Crash(Exception):
    """The process dies here."""


@dataclass(frozen=True)
class Odds:
    """How often each fault strikes, each in 0..1; a seed switches every one on or off."""

    # of an effect
    transient: float = 0.2
    unavailable: float = 0.1
    permanent: float = 0.03
    fatal: float = 0.03
    slow: float = 0.1
    """Takes many steps."""
    hung: float = 0.03
    """No news ever comes; the operator kills the process in the end."""
    lost_answer: float = 0.15
    """Applied, but the hand reports a failure, or nothing ever."""
    partial: float = 0.15
    """Applied in part, then a failure, or the death of the process."""
    bad_index: float = 0.3
    refused: float = 0.1
    """Of a document: the target does not take it."""
    poison: float = 0.03
    """Of a document: whoever carries it fails, or dies."""
    unwritten: float = 0.7
    """A manifest, for whatever reason."""
    unreadable: float = 0.5
    """Of a unit of a dump: in places its file holds no documents."""
    # of news
    duplicate: float = 0.2
    late: float = 0.8
    """News of an older epoch is delivered in a newer one."""
    zombie: float = 0.5
    """What a dead process had under way goes on, unheard."""
    # of the process
    crash: float = 0.1
    crash_before_commit: float = 0.05
    crash_after_commit: float = 0.05
    crash_in_recovery: float = 0.3
    """The next few processes die in their first turn."""
    commit_failed: float = 0.04
    """The journal raises: nothing was written."""
    commit_unknown: float = 0.04
    """The journal raises: everything was written."""
    # of the machine
    damage: float = 0.1
    missing: float = 0.05
    disk_full: float = 0.05
    journal_full: float = 0.03
    clock_forward: float = 0.05
    clock_back: float = 0.05
    # of a source that changes
    written: float = 0.5
    window: float = 0.4
    """It can be read as of now, and no more as of any time before."""
    # of the operator
    cutover: float = 0.1
    pause: float = 0.05
    stop: float = 0.03
    set: float = 0.05
    priority: float = 0.05
    exclude: float = 0.01
    add: float = 0.02
    split: float = 0.03
    requeue: float = 0.05
    drop: float = 0.03
    nonsense: float = 0.03
    """A request that does not fit."""
    asked_twice: float = 0.3
    """A request is delivered once more."""
    asked_at_rest: float = 0.3
    """While no process runs the job."""
    rollback: float = 0.3
    """What rests is taken back, or is asked to be while it runs."""
    partly: float = 0.4
    """Only what was started after some operation."""
    persevering: float = 0.5
    """Behind a failed undo the others go on."""
    commit: float = 0.05
    measured: float = 0.05
    resume: float = 0.05
    """A new process, although nothing was wrong with the one before."""
    move: float = 0.03
    """To another journal."""

    @staticmethod
    def draw(random: Random) -> "Odds":
        """Each fault on or off, each between never and its highest."""
        drawn = {
            each.name: each.default * random.random() * (random.random() < 0.5)
            for each in fields(Odds)
        }
        return Odds(**drawn)

    @staticmethod
    def none() -> "Odds":
        return Odds(**{each.name: 0.0 for each in fields(Odds)})


class Lots(Protocol):
    """What decides whether a fault strikes, and which one of several things happens."""

    def strikes(self, fault: str) -> bool: ...
    def between(self, low: int, high: int) -> int: ...
    def jitter(self) -> float: ...


class Calm:
    """Nothing ever goes wrong."""

    def strikes(self, fault: str) -> bool:
        return False

    def between(self, low: int, high: int) -> int:
        return low

    def jitter(self) -> float:
        return 0.5


@dataclass
class Drawn:
    """Drawn by one random generator; counts what struck."""

    random: Random
    odds: Odds
    fired: Counter[str] = field(default_factory=Counter)

    def strikes(self, fault: str) -> bool:
        if self.random.random() >= getattr(self.odds, fault):
            return False
        self.fired[fault] += 1
        return True

    def between(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def jitter(self) -> float:
        return self.random.random()

    def calm(self) -> None:
        self.odds = Odds.none()


@dataclass(repr=False)
class World:
    """What exists outside the process."""

    lots: Lots
    source: dict[UnitId, Documents]
    views: set[UnitId] = field(default_factory=set)
    hidden: set[UnitId] = field(default_factory=set)
    """Units of the source that the job's selection leaves out."""
    poison: dict[UnitId, dict[int, bool]] = field(default_factory=dict)
    """Documents that nobody can carry; whether they kill the process."""
    indexes: dict[UnitId, tuple[str, ...]] = field(default_factory=dict)
    bad_indexes: set[tuple[UnitId, str]] = field(default_factory=set)
    refused: dict[UnitId, set[int]] = field(default_factory=dict)
    """Documents that the target does not take."""
    per_chunk: int = 5
    target: dict[UnitId, Documents] = field(default_factory=dict)
    built: set[tuple[UnitId, str]] = field(default_factory=set)
    files: dict[str, Documents] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    condemned: set[tuple[str, int]] = field(default_factory=set)
    """Restores, by chunk and attempt, that found their chunk file damaged or missing."""
    full: bool = False
    """No space in the work folder."""
    expiring: set[UnitId] = field(default_factory=set)
    """Their documents are deleted by age, when that is switched on."""
    switched: set[UnitId] = field(default_factory=set)
    compared: bool = False
    """The last touch of a unit compares what stands there."""
    looked: dict[tuple[str, int], int] = field(default_factory=dict)
    """What it found missing, by unit and attempt."""
    manifests: dict[int, dict[str, str]] = field(default_factory=dict)
    """Chunks and the names of their files, by the attempt that wrote it."""
    exports: bool = False
    """What a target would refuse, no file can hold."""
    from_dump: bool = False
    """The source is a dump: `source` is what can be read of it."""
    unpacked: set[UnitId] = field(default_factory=set)
    """Their files cannot be read in place."""
    unreadable: dict[UnitId, int] = field(default_factory=dict)
    """Places of a unit's file."""
    salvage: bool = False
    lost: dict[str, Documents] = field(default_factory=dict)
    """Files of a dump that somebody may bring back."""
    past: Past | None = None
    """Of a source that changes; where a chain is restored, one moment for each link."""
    mark: Mark = field(default_factory=Mark)
    """On the target, where a chain is restored."""
    group: tuple[PlannedOperation, ...] = ()
    hopeless: set[str] = field(default_factory=set)
    """Operations that fail for good, when they are applied."""
    rows: dict[str, str] = field(default_factory=dict)
    """What a group works on."""
    logs: dict[str, dict[Any, Any]] = field(default_factory=dict)
    """What brings things back, by kind and entity of the operation that changes them."""
    stubborn: bool = False
    """Here and there an undo fails for good when it is tried first."""
    latest: dict[TaskKey, int] = field(default_factory=dict)
    """Attempts that are at work, or were last."""

    def stands(self) -> "Standing":
        """All that a job may change on its target."""
        target = {unit: dict(documents) for unit, documents in self.target.items()}
        return Standing(target, frozenset(self.built), frozenset(self.switched), dict(self.rows))

    def ranges(self, unit: UnitId) -> Iterator[tuple[str | None, str | None]]:
        """What a chunk covers, one behind the other."""
        edges = [str(key) for key in sorted(self.source[unit])[self.per_chunk :: self.per_chunk]]
        return pairwise([None, *edges, None])

    def repair(self) -> None:
        """The operator brings the files of a dump back, and takes what can be read of it."""
        if self.from_dump:
            self.files.update(self.lost)
            self.lost.clear()
            self.damaged.clear()
            self.poison.clear()
            self.salvage = True

    def range(self, unit: UnitId, lower: str | None, upper: str | None) -> Documents:
        """The source's documents from `lower` (included) to `upper` (not included)."""
        return cut(self.source[unit], lower, upper)

    def due(self, unit: UnitId) -> Documents:
        """What the target must hold in the end."""
        refused = self.refused.get(unit, set())
        return {key: text for key, text in self.source[unit].items() if key not in refused}


class Standing(NamedTuple):
    target: dict[UnitId, Documents]
    built: frozenset[tuple[UnitId, str]]
    switched: frozenset[UnitId]
    rows: dict[str, str]


def cut(documents: Documents, lower: str | None, upper: str | None) -> Documents:
    low = int(lower) if lower is not None else -1
    high = int(upper) if upper is not None else 1 << 60
    return {key: text for key, text in documents.items() if low <= key < high}


def draw_world(random: Random, lots: Lots) -> World:
    """Up to four collections, perhaps a view; some documents and indexes that cannot be."""
    sizes = [random.choice([0, 1, 7, 30, 60]) for _ in range(random.randint(1, 4))]
    world = World(lots, dict(_collections(sizes)), per_chunk=random.randint(2, 9))
    for unit, documents in world.source.items():
        world.indexes[unit] = tuple(f"i{n}@x" for n in range(random.randint(0, 2)))
        for index in world.indexes[unit]:
            if lots.strikes("bad_index"):
                world.bad_indexes.add((unit, index))
        world.refused[unit] = {key for key in documents if lots.strikes("refused")}
        world.poison[unit] = {
            key: random.random() < 0.3 for key in documents if lots.strikes("poison")
        }
    if random.random() < 0.5:
        world.source[UnitId("db.v")] = {}
        world.views.add(UnitId("db.v"))
    if random.random() < 0.5:
        late = UnitId("db.late")
        world.source[late] = {key: f"late/{key}" for key in range(random.randint(0, 9))}
        world.refused[late], world.poison[late] = set(), {}
        world.hidden.add(late)
    return world


def draw_rest(random: Random, world: World) -> None:
    """Who expires, and how well things are taken back, of whatever kind the job is."""
    world.expiring = {unit for unit in world.source if random.random() < 0.3} - world.views
    world.compared = random.random() < 0.4
    world.stubborn = random.random() < 0.4


def draw_dump(random: Random, world: World) -> None:
    """The source is a dump: nobody who carries its parts dies of them, for no part is ever cut."""
    world.from_dump, world.salvage = True, random.random() < 0.7
    for unit in (each for each in world.source if each not in world.views):
        world.poison[unit] = dict.fromkeys(world.poison.get(unit, ()), False)
        if world.past is not None:
            continue  # a link of a chain
        if random.random() < 0.5:
            world.unpacked.add(unit)
        if world.lots.strikes("unreadable"):
            world.unreadable[unit] = random.randint(1, 3)
    lay_out(world)


def draw_there(random: Random, world: World) -> None:
    """What lies on the target before the job comes: nothing, an empty collection, or some of the
    source's own documents, which nobody may take away."""
    for unit in (each for each in world.source if each not in world.views):
        there = random.choice((None, 0, 0.3))
        if there is not None:
            due = world.due(unit).items()
            world.target[unit] = {key: text for key, text in due if random.random() < there}


def draw_past(random: Random, world: World, links: int) -> None:
    """The source changes; of a chain each moment is the end of a link. Everybody takes what it
    holds: what is left out here would be missed by what follows."""
    world.refused.clear()
    world.poison.clear()
    world.past = Past([first_moment(world.source, world.views | world.hidden)])
    for _ in range(links or random.randint(0, 9)):
        world.past.write(random)


def lay_out(world: World) -> None:
    """The files that are read in place."""
    for unit, documents in world.source.items():
        if documents and unit not in world.unpacked:
            for number, (lower, upper) in enumerate(world.ranges(unit)):
                world.files[f"{unit}/{number}"] = world.range(unit, lower, upper)


def _collections(sizes: list[int]) -> Iterator[tuple[UnitId, Documents]]:
    for n, size in enumerate(sizes):
        yield UnitId(f"db.c{n}"), {key: f"{n}/{key}" for key in range(size)}


def draw_copy(random: Random, world: World) -> None:
    """For a verify job: a target that somebody else filled, perhaps with mistakes."""
    world.refused.clear()
    world.poison.clear()
    for unit, documents in world.source.items():
        copy = dict(documents)
        for key in documents:
            if random.random() < 0.05:
                copy[key] = "different"
            elif random.random() < 0.05:
                del copy[key]
        world.target[unit] = copy
