"""A history with a plot: the real engine and journal, fixed times, hands that read a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ferrylog.engine import Engine
from journal.sqlite import SqliteJournal
from statemachine.effects import Effect
from statemachine.events import Difference, IndexSpec, JobSpec, MetadataDifference, RunSettings
from statemachine.state import ChunkFile, State, reads_dump
from statemachine.stimuli import (
    Built,
    Copied,
    Created,
    Dumped,
    Failed,
    Finished,
    FoundDamage,
    FoundFile,
    FoundUnit,
    JobAsked,
    Manifested,
    Outcome,
    PauseAsked,
    Planned,
    PlannedFiles,
    Progressed,
    Rejection,
    Released,
    Restored,
    Result,
    RunBegan,
    Split,
    Stimulus,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import BsonText, Cause, JobId, Key, Millis, TaskKind, UnitId, UnitType
from tests.statemachine.examples import SETTINGS, SPEC

JOB = JobId("20261122-143000-7f3a")
BEGIN = Millis(1_795_357_800_000)
UNITS = ("shop.orders", "shop.customers")
CHUNK = "shop.orders#1"
KILLED = "killed"
DUMP = SPEC.model_copy(
    update={
        "kind": "dump",
        "target": "file:/backup/shop",
        "target_id": "file:/backup/shop",
        "verify": False,
        "consistency": "snapshot",
    }
)
RESTORE = SPEC.model_copy(
    update={
        "kind": "restore",
        "source": "file:/backup/shop",
        "source_id": "ab" * 32,
        "metadata": True,
        "salvage": True,
    }
)

Answer = Outcome | Progressed | str
"""What hands say to an effect, or that the process dies."""


@dataclass
class Play:
    """Runs a job to its rest; what the script does not say goes well and takes 100 ms."""

    path: Path
    script: Mapping[tuple[TaskKind, str, int], Sequence[tuple[int, Answer]]]
    """By kind, entity, attempt: what is said after how many milliseconds."""
    leaps: Mapping[int, int] = field(default_factory=dict)
    """What a run's clock is wrong by, from the run of that epoch on."""
    spec: JobSpec = SPEC
    settings: RunSettings = SETTINGS
    wishes: list[tuple[int, Stimulus]] = field(default_factory=list)
    """What is asked for, so many milliseconds after the beginning; in order."""
    now: int = BEGIN
    deaths: int = 0
    away: list[tuple[int, int, Answer]] = field(default_factory=list)
    """When, in which order, which news."""

    def run(self, *, pause_at_ms: int | None = None) -> None:
        """Process after process, until the job has ended."""
        if pause_at_ms is not None:
            self.wishes.append((pause_at_ms, PauseAsked("ben@desk", "lunch", request=1)))
        while not self.once().terminal:
            pass

    def once(self) -> State:
        """One process: until the job rests, or the process is killed."""
        with SqliteJournal.create(self.path) as journal:
            engine = Engine(journal, JOB)
            epoch = engine.state.epoch + 1
            self.now += self.leaps.get(epoch, 0)
            first: list[Stimulus] = [] if epoch > 1 else [JobAsked("ann@office", self.spec)]
            began = RunBegan("ann@office", "office", 4710 + epoch, "0.1.0", self.settings)
            self._turn(engine, [*first, began])
            self._to_the_rest(engine)
            self.away.clear()
            self.now += 5000
            return engine.state

    def _to_the_rest(self, engine: Engine) -> None:
        while not engine.state.resting:
            if self.wishes and self.now >= BEGIN + self.wishes[0][0]:
                self._turn(engine, [self.wishes.pop(0)[1]])
                continue
            if not self.away:
                self.now += 1000  # a retry will be due
                self._turn(engine, [])
                continue
            self.away.sort(key=lambda each: each[:2])
            at, _, news = self.away.pop(0)
            self.now = max(self.now, at)
            if isinstance(news, str):
                self.deaths += 1
                return
            self._turn(engine, [news])

    def _turn(self, engine: Engine, stimuli: Sequence[Stimulus]) -> None:
        for effect in engine.turn(stimuli, now=Millis(self.now)):
            told = self.script.get((effect.task.kind, effect.task.entity, effect.attempt))
            news = told or [(100, succeeded(effect, self.spec))]
            for delay, each in news:
                said = _addressed(each, effect)
                self.away.append((self.now + delay, len(self.away), said))


def _addressed(news: Answer, effect: Effect) -> Answer:
    """The same for this very attempt of this very run."""
    if isinstance(news, str):
        return news
    return replace(news, task=effect.task, attempt=effect.attempt, epoch=effect.epoch)


def succeeded(effect: Effect, spec: JobSpec = SPEC) -> Succeeded:
    return Succeeded(effect.task, effect.attempt, effect.epoch, _result(effect, spec))


def brought(result: Result) -> Succeeded:
    """Whatever was asked for brought this."""
    nobody = ("", 0, 0)
    return Succeeded(*nobody, result)  # type: ignore[arg-type]


def _result(effect: Effect, spec: JobSpec) -> Result:
    match effect.task.kind:
        case TaskKind.SURVEY:
            index = IndexSpec(name="when_1", unique=False, spec=BsonText("{}"))
            return Surveyed(
                tuple(
                    FoundUnit(
                        UnitId(name), name, "collection", "", BsonText("{}"), (index,), 20, 2000
                    )
                    for name in UNITS
                )
            )
        case TaskKind.CREATE:
            return Created(())
        case TaskKind.PLAN if reads_dump(spec):
            return PlannedFiles(tuple(part_of_dump(number) for number in range(3)))
        case TaskKind.PLAN:
            return Planned((Key('{"$numberInt":"10"}'), Key('{"$numberInt":"20"}')), 30, False)
        case TaskKind.INDEX:
            return Built()
        case TaskKind.FINISH:
            return Finished()
        case TaskKind.MANIFEST:
            return Manifested("a5" * 32, 60, 6000)
    return _of_a_chunk(effect)


def _of_a_chunk(effect: Effect) -> Result:
    match effect.task.kind:
        case TaskKind.DUMP:
            name = f"{effect.task.entity.rpartition('#')[2]}-{effect.attempt}.flb"
            return Dumped(name, 10, 1000, 400, 2, "5e" * 32)
        case TaskKind.RESTORE:
            return Restored(1000, 10, 1000, 3 if effect.task.entity == CHUNK else 0, 0)
        case TaskKind.COPY:
            return Copied(10, Key('{"$numberInt":"19"}'), 10, 1000, 0, 0)
        case TaskKind.SPLIT:
            return Split((Key('{"$numberInt":"15"}'),), (5, 5))
        case TaskKind.VERIFY:
            return Verified(True, 10, 10, "d1" * 16, "d1" * 16, 0, ())
    return Released()


def part_of_dump(number: int) -> FoundFile:
    """One of three in a file that tells no keys."""
    file = ChunkFile("shop/orders.bson", 10, 1000, 1000, "5e" * 32, 1000 * number, "dump")
    return FoundFile(file)


def failed(cause: Cause, code: str, why: str, jitter: float = 0.5) -> Failed:
    nobody = ("", 0, 0)
    return Failed(*nobody, cause, code, why, jitter)  # type: ignore[arg-type]


def progressed(documents: int) -> Progressed:
    nobody = ("", 0, 0)
    done = Restored(100 * documents, documents, 100 * documents, 0, 0)
    return Progressed(*nobody, done)  # type: ignore[arg-type]


def rejecting(*numbers: int) -> Succeeded:
    """A restore that left out the documents with these ids."""
    nobody = ("", 0, 0)
    done = Restored(1000, 10 - len(numbers), 900, 0, len(numbers), _refused(numbers))
    return Succeeded(*nobody, done)  # type: ignore[arg-type]


def rejected_so_far(*numbers: int) -> Progressed:
    """The same, half-way."""
    nobody = ("", 0, 0)
    done = Restored(500, 5, 500, 0, len(numbers), _refused(numbers))
    return Progressed(*nobody, done)  # type: ignore[arg-type]


def _refused(numbers: Sequence[int]) -> tuple[Rejection, ...]:
    return tuple(
        Rejection(Key(f'{{"$numberInt":"{n}"}}'), "EMONGO121", "document failed validation")
        for n in numbers
    )


def two_failures_and_a_kill(path: Path) -> Play:
    """A chunk whose restore failed twice, was killed once, and then succeeded."""
    cut = failed(Cause.TRANSIENT, "ECONN003", "connection to the target was cut", 0.6)
    slow = failed(Cause.TRANSIENT, "EMONGO050", "operation exceeded time limit", 0.25)
    play = Play(
        path,
        {
            (TaskKind.RESTORE, CHUNK, 1): [(40, cut)],
            (TaskKind.RESTORE, CHUNK, 2): [(30, progressed(3)), (1200, slow)],
            (TaskKind.RESTORE, CHUNK, 3): [(50, progressed(5)), (90, KILLED)],
        },
    )
    play.run()
    return play


def differing() -> Succeeded:
    nobody = ("", 0, 0)
    missing = Difference(key=Key('{"$numberInt":"12"}'), what="missing")
    found = Verified(False, 10, 9, "d1" * 16, "d2" * 16, 0, (missing,))
    return Succeeded(*nobody, found)  # type: ignore[arg-type]


def a_dump(path: Path) -> Play:
    """A snapshot of two collections; one chunk is read once more. Users and roles stay."""
    cut = failed(Cause.TRANSIENT, "ECONN003", "connection to the source was cut")
    units = tuple(map(found, UNITS))
    survey = Surveyed(units, cluster_time="1795357700.3", users=3, roles=1)
    script = {
        (TaskKind.SURVEY, "job", 1): [(100, brought(survey))],
        (TaskKind.DUMP, CHUNK, 1): [(40, cut)],
        (TaskKind.MANIFEST, "job", 1): [(300, brought(Manifested("a5" * 32, 60, 6000)))],
    }
    play = Play(path, script, spec=DUMP)
    play.run()
    return play


def a_restore(path: Path, *, differing: bool = True) -> Play:
    """Of a damaged dump of mongodump's, which tells no counts: a collection, a view, a time
    series; afterwards an option and an index are not as they should be."""
    units = (
        found("shop.orders", documents=0),
        found("shop.totals", "view", documents=0),
        found("shop.weather", "timeseries", documents=0),
    )
    survey = Surveyed(units, notes=("oplog.bson is ignored",))
    damage = tuple(
        FoundDamage("shop/orders.bson", 5000 + 10 * n, 7, "EBSON013", "the bytes end inside")
        for n in range(12)
    )
    plan = PlannedFiles(tuple(map(part_of_dump, range(3))), damage)
    differences = (
        MetadataDifference(what="option validator", source='{"n": 1}', target=""),
        MetadataDifference(what="index when_1", source="", target='{"when": 1}'),
    )
    script = {
        (TaskKind.SURVEY, "job", 1): [(100, brought(survey))],
        (TaskKind.PLAN, "shop.orders", 1): [(100, brought(plan))],
        (TaskKind.RESTORE, CHUNK, 1): [(100, brought(Restored(1000, 10, 1000, 0, 0, (), 2)))],
        (TaskKind.FINISH, "shop.orders", 1): [
            (100, brought(Finished(differences if differing else ())))
        ],
    }
    play = Play(path, script, spec=RESTORE)
    play.run()
    return play


def found(name: str, kind: UnitType = "collection", documents: int = 30) -> FoundUnit:
    """With an index, unless it is a view."""
    index = IndexSpec(name="when_1", unique=False, spec=BsonText("{}"))
    indexes = () if kind == "view" else (index,)
    return FoundUnit(UnitId(name), name, kind, "", BsonText("{}"), indexes, documents, 3000)
