"""What a journal told so far, as its laws see it."""

from collections import Counter

from journal.protocol import Recorded
from statemachine.events import (
    ChunkPlanned,
    DeadLettered,
    JobSpec,
    RunSettings,
    ShardPlanned,
)
from statemachine.state import State, keeps_files
from statemachine.words import Key, Pool, TaskKey, TaskKind, UnitId, Verb, unit_of
from tests.simulation import laws
from tests.simulation.valves import POOLS, Valve
from tests.simulation.world import World

AT_WORK = (Verb.STARTED, Verb.PROGRESSED)
TRIED = (Verb.COMPLETED, Verb.DEAD_LETTERED)


class History:
    """Shared by the laws: the fold of what the journal holds, and what they noted themselves."""

    def __init__(self, world: World, spec: JobSpec, settings: RunSettings) -> None:
        self.world, self.spec, self.settings = world, spec, settings
        self.state = State()
        """The fold of what the journal holds."""
        self.records: list[Recorded] = []
        self.last: dict[TaskKey, Verb] = {}
        self.attempts: Counter[TaskKey] = Counter()
        self._ends: Counter[TaskKey] = Counter()
        self._failures: Counter[TaskKey] = Counter()
        self._doubts: Counter[TaskKey] = Counter()
        self._not_before: dict[TaskKey, int] = {}
        self._delays: dict[TaskKey, int] = {}
        self._positions: dict[TaskKey, int] = {}
        self._undecided: set[TaskKey] = set()
        self._owed: set[TaskKey] = set()
        """Dead letters whose consequence has not been said."""
        self._chunks: dict[str, ChunkPlanned] = {}
        self._units: dict[UnitId, str] = {}
        self._surveyed = self._pausing = self._over = self._at_once = False
        self._waited: Counter[TaskKey] = Counter()
        """Milliseconds of delays for what was unavailable."""
        self._waits: Counter[TaskKey] = Counter()
        self._heirs: tuple[ChunkPlanned, list[ChunkPlanned]] | None = None
        """A chunk that was replaced, and what was planned for it so far."""
        self._gone: set[str] = set()
        """Chunks that were replaced, dropped or are being split."""
        self._requests: set[int] = set()
        self._files: dict[str, str] = {}
        """Of a dump: chunks and the names of their files."""
        self._changed: dict[UnitId, int] = {}
        """Units, and when something of them was done last."""
        self._looked: dict[UnitId, int] = {}
        """Units, and when their last touch began."""
        self.valves = {pool: Valve() for pool in Pool}
        self.phase = ""
        """Of the restore of a chain."""
        self.increment = self.completed = self.increment_due = 0
        self.shards: dict[str, ShardPlanned] = {}
        """Of the increment under way."""
        self.applied: set[str] = set()
        self.last_keys: dict[str, Key] = {}
        self.lost: DeadLettered | None = None
        """What the job is about to fail of."""
        self.captured = self.moments = 0
        """Up to which cluster time; how often it had to go on to a later one."""
        self.token = ""
        """Where the stream of changes goes on."""
        self.outdated = self.cutover = self.told_of_it = self.drained = False
        self._moment_of: dict[TaskKey, int] = {}
        """When a task was started last: after how many such times."""

    def _standing(self) -> dict[TaskKey, Verb]:
        """The tasks of units that were not given up."""
        return {
            key: verb
            for key, verb in self.last.items()
            if (unit := unit_of(key)) is None or self._units[unit] != "skipped"
        }

    def _gate(self, kind: TaskKind) -> bool:
        """I23, I29: whether the turn of such tasks has come."""
        opened = [unit for unit, standing in self._units.items() if standing == "open"]
        planned = [self._is(TaskKind.PLAN, unit) for unit in opened if unit not in self.world.views]
        tried = [self.last.get(TaskKey(TaskKind.CREATE, unit)) in TRIED for unit in opened]
        if keeps_files(self.spec) and kind is TaskKind.MANIFEST:
            return self._surveyed and not opened
        if self.spec.kind == "restore" and kind in (TaskKind.CREATE, TaskKind.RESTORE):
            created = kind is TaskKind.CREATE or all(tried)
            return self._surveyed and all(planned) and created
        if kind is TaskKind.FOLLOW:
            return self._surveyed and not opened
        if self.spec.kind == "restore" and kind in (TaskKind.APPLY, TaskKind.SETTLE):
            left = set(self.shards) - self.applied
            return self.phase == "waiting" and (kind is TaskKind.APPLY or not left)
        return True

    def _is(self, kind: TaskKind, entity: str) -> bool:
        return self.last.get(TaskKey(kind, entity)) is Verb.COMPLETED

    def _once_more(self, key: TaskKey) -> None:
        """What it looked at has changed."""
        if self.last.get(key) is Verb.COMPLETED:
            del self.last[key]
            self._forget(key)

    def _forget(self, key: TaskKey) -> None:
        """Its budget is whole again."""
        for budget in (self._failures, self._delays, self._doubts, self._waited, self._waits):
            budget.pop(key, None)

    def _at_work(self) -> list[TaskKey]:
        return [key for key, verb in self._standing().items() if verb in AT_WORK]

    def _leave(self, chunk: str) -> None:
        """The chunk's tasks are no more."""
        self._gone.add(chunk)
        for kind in laws.OF_CHUNKS:
            key = TaskKey(kind, chunk)
            self._undecided.discard(key)
            self.last.pop(key, None)
            self.valves[POOLS[kind]].leaves(key)
