"""A job, told stimulus by stimulus: the hands and eyes of the tests of the rules."""

from collections.abc import Sequence
from typing import Any

from statemachine.decide import decide
from statemachine.events import (
    AnyEvent,
    IndexSpec,
    RunSettings,
)
from statemachine.evolve import evolve
from statemachine.state import ChunkFile, State
from statemachine.stimuli import (
    Created,
    Dumped,
    Failed,
    FoundFile,
    FoundUnit,
    JobAsked,
    Planned,
    PlannedFiles,
    Restored,
    Result,
    RunBegan,
    Stimulus,
    Succeeded,
    Surveyed,
    Tick,
    Verified,
)
from statemachine.words import (
    BsonText,
    Cause,
    ChunkId,
    Key,
    Millis,
    Place,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitType,
)
from tests.statemachine.examples import SETTINGS, SPEC

UNIT = UnitId("shop.orders")
CHUNK = ChunkId("shop.orders#0")
DUMP = TaskKey(TaskKind.DUMP, CHUNK)
RESTORE = TaskKey(TaskKind.RESTORE, CHUNK)
VERIFY = TaskKey(TaskKind.VERIFY, CHUNK)
SURVEY, MANIFEST = TaskKey(TaskKind.SURVEY, "job"), TaskKey(TaskKind.MANIFEST, "job")
CREATE, PLAN = TaskKey(TaskKind.CREATE, UNIT), TaskKey(TaskKind.PLAN, UNIT)
FINISH = TaskKey(TaskKind.FINISH, UNIT)
DUMPED = Dumped("f", 10, 100, 50, 1, "ab")
RESTORED = Restored(50, 10, 100, 0, 0)
EQUAL = Verified(True, 10, 10, "a", "a", 0, ())


class Story:
    """A job, stimulus by stimulus; collects every event."""

    def __init__(self, settings: RunSettings = SETTINGS, **spec: object) -> None:
        self.state = State()
        self.events: list[AnyEvent] = []
        self.now = 0
        self.tell(JobAsked("me", SPEC.model_copy(update=spec)), began(settings))

    def tell(self, *stimuli: Stimulus) -> list[str]:
        """Kinds of what happens because of them, ticks included."""
        before = len(self.events)
        for stimulus in stimuli:
            self._happen(stimulus)
        while self._happen(Tick()):
            pass
        return [event.kind for event in self.events[before:]]

    def _happen(self, stimulus: Stimulus) -> Sequence[AnyEvent]:
        events = decide(self.state, stimulus, Millis(self.now))
        for event in events:
            evolve(self.state, event)
        self.events += events
        return events

    def succeed(self, key: TaskKey, result: Result) -> list[str]:
        return self.tell(Succeeded(key, self.attempt(key), self.state.epoch, result))

    def fail(
        self, key: TaskKey, cause: Cause, jitter: float = 0.5, code: str = "ESOURCE002"
    ) -> list[str]:
        """By default with a code that blames no document of the chunk."""
        attempt = self.attempt(key)
        return self.tell(Failed(key, attempt, self.state.epoch, cause, code, "bad", jitter))

    def attempt(self, key: TaskKey) -> int:
        return self.state.tasks[key].attempt if key in self.state.tasks else 0

    def planned(self, chunks: int = 1, indexes: int = 0) -> "Story":
        """To the point where the unit's dumps have started."""
        self.succeed(SURVEY, Surveyed((found(indexes=indexes),)))
        if CREATE in self.state.tasks:
            self.succeed(CREATE, Created(()))
        edges = tuple(Key(str(n)) for n in range(chunks - 1))
        self.succeed(PLAN, Planned(edges, 100, natural=False))
        return self

    def status(self, key: TaskKey) -> Status:
        return self.state.tasks[key].status


def began(settings: RunSettings = SETTINGS) -> RunBegan:
    return RunBegan("me", "host", 1, "0", settings)


def found(
    unit: str = UNIT, *, view: bool = False, indexes: int = 0, expires: bool = False
) -> FoundUnit:
    """What a survey brings; a view has no UUID."""
    specs = tuple(
        IndexSpec(name=f"i{n}", unique=False, spec=BsonText("{}")) for n in range(indexes)
    )
    kind, uuid, size = VIEW if view else COLLECTION
    return FoundUnit(
        UnitId(unit), unit, kind, uuid, BsonText("{}"), specs, size, 10 * size, expires
    )


COLLECTION: tuple[UnitType, str, int] = ("collection", "00", 100)
VIEW: tuple[UnitType, str, int] = ("view", "", 0)


def parts(count: int = 1, place: Place = "dump", unit: str = UNIT) -> PlannedFiles:
    """Ten documents each, one part behind the other."""
    edges: list[Any] = [None, *map(str, range(1, count)), None]
    return PlannedFiles(
        tuple(
            FoundFile(ChunkFile(f"{unit}/{n}", 10, 100, 50, "ab", 0, place), edges[n], edges[n + 1])
            for n in range(count)
        )
    )
