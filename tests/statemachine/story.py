"""A job, told stimulus by stimulus: the hands and eyes of the tests of the rules."""

from collections.abc import Sequence

from statemachine.decide import decide
from statemachine.events import (
    AnyEvent,
    RunSettings,
)
from statemachine.evolve import evolve
from statemachine.state import State
from statemachine.stimuli import (
    Created,
    Dumped,
    Failed,
    FoundUnit,
    JobAsked,
    Planned,
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
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)
from tests.statemachine.examples import SETTINGS, SPEC

UNIT = UnitId("shop.orders")
CHUNK = ChunkId("shop.orders#0")
DUMP = TaskKey(TaskKind.DUMP, CHUNK)
RESTORE = TaskKey(TaskKind.RESTORE, CHUNK)
VERIFY = TaskKey(TaskKind.VERIFY, CHUNK)
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
        from statemachine.events import IndexSpec

        specs = tuple(
            IndexSpec(name=f"i{n}", unique=False, spec=BsonText("{}")) for n in range(indexes)
        )
        found = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), specs, 100, 1000)
        self.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((found,)))
        if TaskKey(TaskKind.CREATE, UNIT) in self.state.tasks:
            self.succeed(TaskKey(TaskKind.CREATE, UNIT), Created(()))
        edges = tuple(Key(str(n)) for n in range(chunks - 1))
        self.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned(edges, 100, natural=False))
        return self

    def status(self, key: TaskKey) -> Status:
        return self.state.tasks[key].status


def began(settings: RunSettings = SETTINGS) -> RunBegan:
    return RunBegan("me", "host", 1, "0", settings)
