"""Every point of one run is a place to die: resumed from each, the end is the same (I12)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from random import Random

import pytest

from journal.protocol import Recorded
from statemachine.decide.operations import no_rollback
from statemachine.events import ChunkPlanned, ChunkReplaced, JobSpec
from statemachine.state import State, is_whole, reads_dump
from statemachine.stimuli import CutoverAsked
from statemachine.words import JobStatus, UnitId, UnitStatus
from tests.counts import count
from tests.simulation.faulty import Fate
from tests.simulation.groups import planned
from tests.simulation.host import Host
from tests.simulation.link_hands import lay_out_links
from tests.simulation.past import Moment, Past, first_moment
from tests.simulation.shell import How
from tests.simulation.world import Calm, World, lay_out
from tests.statemachine.examples import SETTINGS as EXAMPLE
from tests.statemachine.examples import SPEC

SETTINGS = EXAMPLE.model_copy(
    update={"retry_base_ms": 100, "retry_cap_ms": 1000, "files_ahead": 3, "breaker_ms": 100}
)
CASES: dict[str, dict[str, object]] = {
    "coordinated": {},
    "direct": {"mode": "direct"},
    "dump": {"kind": "dump", "target": "file:/dump"},
    "restore": {"kind": "restore", "source": "file:/dump", "metadata": True},
    "chain": {"kind": "restore", "source": "file:/dump", "links": 3},
    "increment": {"kind": "dump", "target": "file:/dump", "incremental": True, "parent": "00"},
    "follow": {"follow": True},
    "verify a dump": {"kind": "verify", "source": "file:/dump", "metadata": True},
    "group": {"kind": "group", "undo": True},
    "taken back": {"undo": True},
    "chain, taken back": {"kind": "restore", "source": "file:/dump", "links": 2, "undo": True},
}
"""What sets one kind of job apart from another."""
APPENDS = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FAILED, Fate.UNKNOWN)
MAX_STEPS = 500


@dataclass(frozen=True)
class Point:
    """The `number`-th append or the `number`-th news of an effect, counted over all processes."""

    number: int
    fate: Fate | None
    """Of an append; `None`: the effect is done, its news was not told yet."""


@dataclass(frozen=True)
class End:
    """What must not depend on where the process died."""

    status: JobStatus
    units: dict[UnitId, UnitStatus]
    target: dict[UnitId, dict[int, str]]
    built: frozenset[tuple[UnitId, str]]
    completed: frozenset[tuple[str, str]]
    """Tasks, by the kind of their last event and their entity."""
    restored: int
    rejected: int
    dumped: list[str]
    """What the last manifest names, whatever its chunks are called."""
    rows: dict[str, str]
    """Of a group."""
    undone: int


def small_world(spec: JobSpec) -> World:
    """Five chunks, two indexes, a view, a document that is refused, a unit that expires; of a dump
    one unit lies in place and one is unpacked, with damage. Of a group, see `small_group`."""
    if spec.kind == "group":
        return small_group()
    one, two, view = UnitId("db.a"), UnitId("db.b"), UnitId("db.v")
    sizes = {one: 11, two: 5, view: 0}
    source = {unit: {key: f"{unit}/{key}" for key in range(n)} for unit, n in sizes.items()}
    world = World(
        Calm(),
        source,
        views={view},
        indexes={one: ("i0",), two: ("i1",)},
        refused={two: {3}},
        per_chunk=4,
        expiring={two},
        compared=spec.metadata,
    )
    if is_whole(spec):
        small_past(world, spec.links)
    if reads_dump(spec):
        world.from_dump = world.salvage = True
        if not spec.links:
            world.unpacked, world.unreadable = {two}, {two: 2}
        lay_out(world)
    if spec.links:
        lay_out_links(world)
    if spec.kind == "verify":
        world.target = {unit: dict(documents) for unit, documents in source.items()}
        del world.target[one][1]
    return world


def small_group() -> World:
    """The fourth of six operations fails when it has done its work; a seventh row is nobody's."""
    one, two, three = ("x", None, "1"), ("x", "1", "2"), ("y", "0", None)
    operations = (
        planned("a", [one]),
        planned("b", [two, ("z", None, "3")], "a", ["d"]),
        planned("c", [three], "a"),
        planned("d", [("x", "2", "4"), ("y", None, "5")], "bc"),
        planned("e", [("z", "3", None)], "d"),
        planned("f", [], "e"),
    )
    rows = {"y": "0", "w": "ours"}
    return World(Calm(), {}, group=operations, rows=rows, hopeless={"d"})


def small_past(world: World, links: int) -> None:
    """Documents come, change and go; one collection takes another's name and a new one its own;
    one is dropped, and nothing else changes; at last nothing at all."""
    world.refused.clear()
    first = first_moment(world.source, world.views)
    one, two = first.names
    a, b, c = UnitId("db.a"), UnitId("db.b"), UnitId("db.c")
    changed = {key: f"{key}@1" for key in range(3, 15, 3)}
    new = {key: f"{key}@1" for key in range(5)}
    second = Moment({one: c, two: a, "new": b}, {**first.held, one: changed, "new": new})
    third = Moment({one: a, "new": b}, {one: {**changed, 1: "1@2"}, "new": new})
    world.past = Past([first, second, third, third][: links + 1 if links else None])


def run(path: Path, points: frozenset[Point], case: str) -> tuple[End, int, int]:
    """The end, and how many appends and news of effects there were. One news per turn."""
    appends, effects = numbers(1), numbers(1)
    last = Counter[str]()
    over = False

    def fate() -> Fate:
        last["append"] = next(appends)
        fates = [p.fate for p in points if p.fate and p.number == last["append"]]
        return fates[0] if fates and not over else Fate.FINE

    spec = SPEC.model_copy(update=CASES[case])
    world = small_world(spec)
    if spec.incremental:
        world.source = {}
    host = Host(path, world, spec, SETTINGS, fate)
    try:
        for _ in range(MAX_STEPS):
            if host.ended and spec.undo and host.engine and not no_rollback(host.engine.state):
                host.leave()
                host.begin(SETTINGS, How())
                continue
            if host.ended:
                over, counted = True, (last["append"], last["effect"])
                host.check_end(SETTINGS)
                return _end(host), *counted
            if host.waits_for_operator:
                host.begin(SETTINGS)
                continue
            host.pass_time(10)
            state = host.engine.state if host.engine else State()
            asked = [CutoverAsked("me", 1)] if spec.follow and not state.cutover else []
            news = host.step(next(iter(host.flying)))
            last["effect"] = next(effects)
            if Point(last["effect"], None) in points:
                host.die()
            else:
                host.turn([*asked, news] if news else asked)
        raise AssertionError("I30: no end in sight")
    finally:
        host.journal.close()


def _end(host: Host) -> End:
    assert host.engine is not None
    state: State = host.engine.state
    records = host.chronicle.records
    roots = _roots(records)
    done = {
        (r.event.kind, _root(roots, r.event.about))
        for r in records
        if r.event.kind.endswith("_completed") and r.event.kind != "split_completed"
    }
    return End(
        status=state.status,
        units={unit.id: unit.status for unit in state.units.values()},
        target=host.world.target,
        built=frozenset(host.world.built),
        completed=frozenset(done),
        restored=sum(unit.restored_documents for unit in state.units.values()),
        rejected=sum(unit.rejected for unit in state.units.values()),
        dumped=_dumped(host),
        rows=host.world.rows,
        undone=sum(kind == "undo_completed" for kind, _ in done),
    )


def _root(roots: dict[str, str], about: str) -> str:
    """Of an undo: what it takes back, by the same root."""
    kind, space, entity = about.partition(" ")
    return f"{kind} {roots.get(entity, entity)}" if space else roots.get(about, about)


def _dumped(host: Host) -> list[str]:
    world = host.world
    manifest = world.manifests[max(world.manifests)] if world.manifests else {}
    assert not manifest or set(world.source) <= set(manifest), "I29"
    files = [world.files[name] for name in manifest.values() if name]
    return sorted(text for documents in files for text in documents.values())


def _roots(records: Sequence[Recorded]) -> dict[str, str]:
    """What was cut off a chunk counts as the chunk: two deaths make it a suspect."""
    roots: dict[str, str] = {}
    parent = ""
    for event in (recorded.event for recorded in records):
        if isinstance(event, ChunkReplaced):
            parent = roots.get(event.chunk, event.chunk)
        elif isinstance(event, ChunkPlanned) and parent:
            roots[event.chunk] = parent
        else:
            parent = ""
    if roots:
        count("crash sweep: runs in which a chunk was cut in two")
    return roots


def points_of(appends: int, effects: int) -> Iterator[Point]:
    for fate in APPENDS:
        yield from (Point(number, fate) for number in range(1, appends + 1))
    yield from (Point(number, None) for number in range(1, effects + 1))


def sweep(folder: Path, plans: list[frozenset[Point]], expected: End, case: str) -> None:
    for plan in plans:
        path = folder / "journal.db"
        try:
            found, _, _ = run(path, plan, case)
            assert found == expected, "I12"
        except BaseException as error:
            error.add_note(f"died at {sorted(plan, key=str)}")
            raise
        for file in folder.iterdir():
            file.unlink()


def calm_run(tmp_path: Path, case: str) -> tuple[End, list[Point]]:
    (tmp_path / "calm").mkdir()
    end, appends, effects = run(tmp_path / "calm" / "journal.db", frozenset(), case)
    points = list(points_of(appends, effects))
    back = CASES[case].get("undo")
    assert end.status is (JobStatus.ROLLED_BACK if back else JobStatus.COMPLETED)
    assert bool(end.undone) == bool(back)
    assert len(end.completed) > (20 if end.built else 6)
    assert bool(end.dumped) == (CASES[case].get("kind") == "dump")
    return end, points


def lane(*ordinary: str) -> list[object]:
    """All cases; the others are run in the deep lane."""
    return [
        each if each in ordinary else pytest.param(each, marks=pytest.mark.deep) for each in CASES
    ]


SLOW = {"taken back", "direct", "restore", "chain", "follow", "chain, taken back"}


@pytest.mark.parametrize("case", lane(*(CASES.keys() - SLOW)))
def test_death_at_every_point_changes_nothing(tmp_path: Path, case: str) -> None:
    """I3, I4, I12, I17: before each commit, after it, in a commit that failed or of which nobody
    knows, and after each effect before its outcome."""
    end, points = calm_run(tmp_path, case)
    assert len(points) > 40
    (tmp_path / "runs").mkdir()
    sweep(tmp_path / "runs", [frozenset({point}) for point in points], end, case)
    count("crash sweep: single deaths", len(points))


def double(tmp_path: Path, pairs: int, seed: int, case: str) -> None:
    end, points = calm_run(tmp_path, case)
    random = Random(seed)
    plans = [frozenset(random.sample(points, 2)) for _ in range(pairs // 2)]
    # The second death soon after the first: in the recovery.
    for _ in range(pairs - len(plans)):
        first = random.choice(points)
        second = Point(first.number + random.randint(0, 3), random.choice((*APPENDS, None)))
        plans.append(frozenset({first, second}))
    (tmp_path / "runs").mkdir()
    sweep(tmp_path / "runs", plans, end, case)
    count("crash sweep: double deaths", len(plans))


@pytest.mark.parametrize("case", lane("taken back", "group"))
def test_two_deaths_change_nothing(tmp_path: Path, case: str) -> None:
    """I12, I13: also when the second one strikes the recovery from the first."""
    double(tmp_path, 60, seed=1, case=case)


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES)
def test_many_pairs_of_deaths_change_nothing(tmp_path: Path, case: str) -> None:
    """I12, I13: as above."""
    double(tmp_path, 1500, seed=2, case=case)
