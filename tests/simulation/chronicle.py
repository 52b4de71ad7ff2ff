"""The laws of histories: the journal is read event by event, folded, and held against them.

A broken law raises `AssertionError` with its number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from journal.protocol import Recorded
from statemachine.events import (
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    Cancelled,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    Completed,
    CopyCompleted,
    CopyProgressed,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    InDoubt,
    JobCompleted,
    JobExported,
    JobFailed,
    JobPaused,
    JobReopened,
    JobResumed,
    JobSpec,
    JobStopped,
    PauseRequested,
    PlanCompleted,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    RetryScheduled,
    RunSettings,
    RunStarted,
    SettingChanged,
    SplitRequested,
    Started,
    StopRequested,
    TaskEvent,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
)
from statemachine.evolve import evolve
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import State
from statemachine.words import Cause, Pool, Status, TaskKey, TaskKind, UnitId, Verb, unit_of
from tests.simulation import laws
from tests.simulation.hands import DOCUMENT
from tests.simulation.world import World

UNAVAILABLE = Cause.UNAVAILABLE
REQUEUES = (
    "job_reopened",
    "chunk_replaced",
    "chunk_planned",
    *(f"{kind}_requeued" for kind in TaskKind),
)
READERS = (TaskKind.SURVEY, TaskKind.PLAN)
POOLS = {
    kind: Pool.RESTORE
    if kind in (TaskKind.CREATE, TaskKind.RESTORE, TaskKind.COPY, TaskKind.INDEX)
    else Pool.DUMP
    for kind in TaskKind
}
AT_WORK = (Verb.STARTED, Verb.PROGRESSED)
ENDS = (Verb.RETRY_SCHEDULED, Verb.DEAD_LETTERED, Verb.CANCELLED, Verb.IN_DOUBT, Verb.COMPLETED)


def interval(settings: RunSettings, n: int, last: int) -> tuple[float, float]:
    """Within which the delay after failure number `n + 1` is drawn."""
    base, cap = settings.retry_base_ms, settings.retry_cap_ms
    factor = {"fixed": 1, "linear": n + 1, "exponential": 2**n}[settings.retry]
    ceiling = min(cap, base * factor)
    return {
        "none": (ceiling, ceiling),
        "full": (0, ceiling),
        "equal": (ceiling / 2, ceiling),
        "decorrelated": (min(base, cap), min(cap, max(base, 3 * last))),
    }[settings.jitter]


@dataclass
class Valve:
    """I43: what a breaker must do, told by the failures that the journal holds."""

    failures: int = 0
    until: int | None = None
    probe: TaskKey | None = None

    def fails(self, cause: Cause) -> None:
        self.failures += cause in (Cause.TRANSIENT, UNAVAILABLE)

    def opens(self, event: BreakerOpened, limit: int) -> None:
        if self.until is None:
            assert event.failures == self.failures >= limit, "I43: exactly at the limit"
        else:
            assert self.probe, "I43: opened again without a probe"
        self.until, self.probe = event.until_ms, None

    def closes(self) -> None:
        assert self.until is not None and not self.failures, "I43: closed for nothing"
        self.until, self.probe = None, None

    def leaves(self, key: TaskKey) -> None:
        """The task has ended without a word on the deployment."""
        if self.probe == key:
            self.probe = None

    def starts(self, key: TaskKey, now: int, settings: RunSettings | None) -> None:
        assert settings is not None
        if self.until is None:
            assert self.failures < settings.breaker_failures or self.excused, "I43: not opened"
            return
        went_back = self.until > now + DAY_MS
        assert now >= self.until or went_back, "I43: a call while it is open"
        assert self.probe is None, "I43: more than one probe"
        self.probe = key

    excused: bool = False
    """The limit was lowered by an operator below what had failed already."""


DAY_MS = 86_400_000


class Chronicle:
    """What the journal told so far."""

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
        self.valves = {pool: Valve() for pool in Pool}

    def read(self, new: Sequence[Recorded]) -> None:
        """All of this module's laws, for each of these events."""
        for recorded in new:
            self._envelope(recorded)
            self._about_the_job(recorded.event)
            self._about_units(recorded.event)
            self._about_requests(recorded.event)
            if isinstance(recorded.event, TaskEvent):
                self._about_a_task(recorded, recorded.event)
            self.records.append(recorded)
            self._fold(recorded.event)

    def _fold(self, event: AnyEvent) -> None:
        """I11, I25, I26: legal at every prefix; done work only shrinks where a file was lost."""
        unit = unit_of(event.task) if isinstance(event, TaskEvent) else None
        before = self.state.units[unit].weight_done if unit else 0
        evolve(self.state, event)
        if isinstance(event, Started):
            laws.pools(self.state)
        if unit and event.kind not in ("dump_invalidated", "split_completed"):
            assert self.state.units[unit].weight_done >= before, "I25"

    def _envelope(self, recorded: Recorded) -> None:
        """I2, I5: seq increases, versions have no gap, epochs never go back."""
        assert recorded.version == len(self.records) + 1, "I2"
        if self.records:
            assert recorded.seq > self.records[-1].seq, "I2"
            assert recorded.epoch >= self.records[-1].epoch, "I5"

    # --- the job ---

    def _about_the_job(self, event: AnyEvent) -> None:
        """I13, I19, I28, I29."""
        if self._over:
            told = ("run_started", "result_ignored", "request_refused", *REQUEUES)
            assert event.kind in told, "I13"
            self._over = not isinstance(event, JobReopened)
            return
        match event:
            case RunStarted():
                assert event.epoch == self.state.epoch + 1, "I5"
                standing = self._standing().items()
                self._undecided = {k for k, v in standing if v in (*AT_WORK, Verb.IN_DOUBT)}
                self._at_once = False
                self.valves = {pool: Valve() for pool in Pool}
            case PauseRequested() | StopRequested():
                assert not self._pausing or event.by != "ferrylog", "I19: asked twice"
                self._pausing, self._at_once = True, event.immediate
                self._owed.clear()
            case JobPaused() | JobStopped():
                assert not self._at_work(), "I28: paused at work"
                doubts = Verb.IN_DOUBT in self._standing().values()
                assert not doubts or self._was_immediate(), "I28: paused in doubt"
                assert not self._owed, "I19: a dead letter without a consequence"
            case BreakerOpened():
                assert self.state.settings is not None
                self.valves[event.pool].opens(event, self.state.settings.breaker_failures)
            case BreakerClosed():
                self.valves[event.pool].closes()
            case SettingChanged(name="breaker_failures"):
                for valve in self.valves.values():
                    valve.excused = True
            case JobExported():
                assert event.epoch == self.state.epoch + 1, "I5"
                self._pausing = True  # nothing starts before somebody resumes it elsewhere
            case JobResumed():
                self._pausing = False
            case JobCompleted():
                assert self._surveyed, "I29: before the survey"
                assert "open" not in self._units.values(), "I29: before a unit's end"
                assert not self._owed and not self._pausing, "I19, I28"
                self._over = True
            case JobFailed():
                assert self.settings.on_exhausted == "fail-job", "I19"
                self._over = True
            case _:
                pass

    def _was_immediate(self) -> bool:
        asked = (PauseRequested, StopRequested)
        events = [r.event for r in self.records if isinstance(r.event, asked)]
        return any(event.immediate for event in events)

    def _about_requests(self, event: AnyEvent) -> None:
        """I20: a request is answered once, however often it comes."""
        request = getattr(event, "request", 0)
        if request:
            assert request not in self._requests, "I20: a request answered twice"
            self._requests.add(request)

    def _standing(self) -> dict[TaskKey, Verb]:
        """The tasks of units that were not given up."""
        return {
            key: verb
            for key, verb in self.last.items()
            if (unit := unit_of(key)) is None or self._units[unit] != "skipped"
        }

    def _at_work(self) -> list[TaskKey]:
        return [key for key, verb in self._standing().items() if verb in AT_WORK]

    # --- units and chunks ---

    def _about_units(self, event: AnyEvent) -> None:
        """I21, I23, I29."""
        match event:
            case UnitRegistered():
                assert event.unit not in self._units and not self._surveyed, "I29"
                assert event.unit not in self.world.hidden or event.unit in self.state.added
                self._units[event.unit] = "open"
            case UnitCompleted():
                assert self._units[event.unit] == "open", "I29"
                self._units[event.unit] = "completed"
            case UnitSkipped():
                assert self.settings.on_exhausted == "skip-unit", "I19"
                assert self._units[event.unit] == "open", "I19: given up twice"
                self._units[event.unit] = "skipped"
                self._owed = {key for key in self._owed if unit_of(key) != event.unit}
            case UnitExcluded():
                assert self._units[event.unit] == "open", "excluded after its end"
                self._units[event.unit] = "skipped"
                self._owed = {key for key in self._owed if unit_of(key) != event.unit}
            case ChunkPlanned():
                assert event.chunk not in self._chunks, "I14: a chunk planned twice"
                self._chunks[event.chunk] = event
                self._inherit(event)
            case SplitRequested():
                self._leave(event.chunk)
            case ChunkReplaced():
                assert self._heirs is None, "I14"
                self._leave(event.chunk)
                self._heirs = (self._chunks[event.chunk], [])
                unit = self._chunks[event.chunk].unit
                if self._units[unit] == "completed":
                    self._units[unit] = "open"
            case ChunkDropped():
                self._leave(event.chunk)
                self._owed = {key for key in self._owed if key.entity != event.chunk}
            case PlanCompleted():
                self._partition(UnitId(event.entity))
            case ChunkReleased() | ChunkKept():
                kinds = (TaskKind.RESTORE, TaskKind.VERIFY)[: 1 + self.spec.verify]
                done = [self.last.get(TaskKey(k, event.chunk)) is Verb.COMPLETED for k in kinds]
                unit = UnitId(event.chunk.rpartition("#")[0])
                left = self._units[unit] == "skipped" or event.chunk in self._gone
                assert all(done) or left, "I23"
            case DocumentRejected():
                refused = self.world.refused[UnitId(event.chunk.rpartition("#")[0])]
                assert int(event.key) in refused, "a document rejected that was not refused"
            case _:
                pass

    def _inherit(self, event: ChunkPlanned) -> None:
        """I14, I21: what replaces a chunk covers its range, in order, and nothing else."""
        if self._heirs is None:
            return
        parent, heirs = self._heirs
        heirs.append(event)
        if event.upper == parent.upper:
            assert heirs[0].lower == parent.lower, "I21"
            assert all(a.upper == b.lower for a, b in pairwise(heirs)), "I21"
            edges = [int(each.lower) for each in heirs if each.lower is not None]
            assert edges == sorted(set(edges)), "I21"
            self._heirs = None

    def _leave(self, chunk: str) -> None:
        """The chunk's tasks are no more."""
        self._gone.add(chunk)
        for kind in laws.OF_CHUNKS:
            key = TaskKey(kind, chunk)
            self._undecided.discard(key)
            self.last.pop(key, None)
            self.valves[POOLS[kind]].leaves(key)

    def _partition(self, unit: UnitId) -> None:
        """I21: the ranges are ordered, share their edges and are open at both ends."""
        chunks = [each for each in self._chunks.values() if each.unit == unit]
        assert chunks[0].lower is None and chunks[-1].upper is None, "I21"
        assert all(a.upper == b.lower for a, b in pairwise(chunks)), "I21"
        edges = [int(each.upper) for each in chunks if each.upper is not None]
        assert len(edges) == len(chunks) - 1 and edges == sorted(set(edges)), "I21"

    # --- tasks ---

    def _about_a_task(self, recorded: Recorded, event: TaskEvent) -> None:
        key, before = event.task, self.last.get(event.task)
        if event.verb in ENDS and before in AT_WORK:
            self._ends[key] += 1
        valve = self.valves[POOLS.get(key.kind, Pool.DUMP)]
        match event:
            case Started():
                valve.starts(key, recorded.recorded_at_ms, self.state.settings)
                self._started(recorded, event, before)
            case RestoreProgressed() | CopyProgressed():
                valve.failures = 0
                self._waited.pop(key, None)
                self._waits.pop(key, None)
                self._doubts.pop(key, None)
                self._progressed(event)
            case RetryScheduled():
                valve.fails(event.cause)
                self._retry(event)
            case DeadLettered():
                if before in AT_WORK:
                    valve.fails(event.cause)
                self._failures[key] += before in AT_WORK and event.cause is not UNAVAILABLE
                self._dead(event)
            case InDoubt():
                assert before in AT_WORK, "I16"
                assert key in self._undecided or self._at_once, "I16"
                self._doubts[key] += not self._at_once
            case Cancelled():
                valve.leaves(key)
            case Resolved():
                assert before is Verb.IN_DOUBT, "I16: one decision for each doubt"
                self._undecided.discard(key)
            case _ if isinstance(event, Completed):
                assert before in AT_WORK, "I20: a success that masks what was recorded"
                self._completed(event)
            case _:
                pass
        if isinstance(event, Completed):
            valve.failures = 0
        if isinstance(event, DeadLettered):
            self._undecided.discard(key)
        if event.kind == "survey_invalidated":
            self._surveyed = False
        if event.kind == "dump_invalidated":
            assert before is Verb.COMPLETED, "I24"
            self._failures[key] += 1
            self._positions.pop(TaskKey(TaskKind.RESTORE, event.entity), None)
        if event.verb is Verb.REQUEUED:
            assert before is Verb.DEAD_LETTERED, "I19"
            for budget in (
                self._failures,
                self._delays,
                self._doubts,
                self._waited,
                self._waits,
            ):
                budget.pop(key, None)
        assert self._failures[key] <= max(1, self.settings.max_retries), "I18: the budget"
        assert self._doubts[key] <= MAX_INTERRUPTIONS, "I18: interruptions are bounded"
        self.last[key] = event.verb

    def _started(self, recorded: Recorded, event: Started, before: Verb | None) -> None:
        """I15, I16, I18, I19, I23, I28."""
        key = event.task
        unit = unit_of(key)
        assert not self._pausing, "I28: a start during a pause"
        assert before is not Verb.COMPLETED, "I15"
        assert key.kind is TaskKind.SPLIT or key.entity not in self._gone, "I15: it is gone"
        self._in_turn(key)
        assert before not in (*AT_WORK, Verb.IN_DOUBT) and not self._undecided, "I16"
        assert before is not Verb.DEAD_LETTERED, "I19"
        assert not self._owed, "I19: a dead letter without a consequence"
        again = ("open", "completed") if key.kind is TaskKind.INDEX else ("open",)
        assert unit is None or self._units[unit] in again, "a start for a unit that has ended"
        assert self.spec.kind != "plan" or key.kind in READERS, "I46"
        assert self._ends[key] == self.attempts[key], "I18: an attempt without an end"
        self.attempts[key] += 1
        assert event.attempt == self.attempts[key], "I18: attempt numbers are consecutive"
        due, now = self._not_before.pop(key, 0), recorded.recorded_at_ms
        went_back = due > now + self.settings.retry_cap_ms  # the clock, since it was scheduled
        assert now >= due or went_back, "I18: not before"
        carrier = TaskKind.COPY if self.spec.mode == "direct" else TaskKind.RESTORE
        stages = {TaskKind.RESTORE: TaskKind.DUMP, TaskKind.VERIFY: carrier}
        if key.kind in stages and self.spec.kind == "migrate":
            earlier = TaskKey(stages[key.kind], key.entity)
            assert self.last.get(earlier) is Verb.COMPLETED, "I23"

    def _in_turn(self, key: TaskKey) -> None:
        """I27: retries leave room for what is fresh; what is fresh goes by priority, then first in
        first out."""
        state, settings = self.state, self.state.settings
        assert settings is not None
        task, pool = state.tasks[key], POOLS[key.kind]
        workers = settings.dump_workers if pool is Pool.DUMP else settings.restore_workers
        fresh = [
            other
            for (kind, status, _), queue in state.queues.items()
            if status is Status.PENDING and POOLS[kind] is pool
            for other in queue
            if self._could_start(other)
        ]
        if task.status is Status.WAITING:
            retrying = sum(
                1
                for other, each in state.tasks.items()
                if each.status is Status.PROCESSING
                and POOLS[other.kind] is pool
                and each.failures + each.waits
            )
            allowed = not fresh or retrying < max(1, workers // 4)
            assert allowed, "I27: a retry in the place of what is fresh"
            return
        higher = [other for other in fresh if state.tasks[other].priority > task.priority]
        assert not higher, "I27: before one of higher priority"
        same = state.queues[key.kind, Status.PENDING, task.priority]
        earlier = next(other for other in same if self._could_start(other))
        assert earlier == key, "I27: not the first in"

    def _could_start(self, key: TaskKey) -> bool:
        state, settings = self.state, self.state.settings
        assert settings is not None
        if key.kind is TaskKind.DUMP:
            writing = sum(
                1
                for other, task in state.tasks.items()
                if other.kind is TaskKind.DUMP and task.status is Status.PROCESSING
            )
            return state.files + writing < max(settings.files_ahead, settings.dump_workers)
        if key.kind is TaskKind.RESTORE:
            return state.chunks[key.entity].file is not None  # type: ignore[index]
        return True

    def _retry(self, event: RetryScheduled) -> None:
        """I18: the delay lies in its interval and never shrinks; what waits has an end."""
        key, settings = event.task, self.state.settings
        assert settings is not None and settings.retry != "none", "A31"
        n = self._failures[key] + self._waits[key]
        last = self._delays.get(key, 0)
        low, high = interval(settings, n, last)
        if event.cause is UNAVAILABLE:
            assert self._waited[key] < settings.patience_ms, "A9: waited beyond patience"
            self._waited[key] += event.delay_ms
            self._waits[key] += 1
            high = max(high, 100)
        else:
            self._failures[key] += 1
        assert event.delay_ms >= last, "I18: delays do not shrink"
        assert int(low) <= event.delay_ms <= max(high, last), "I18: jitter in its interval"
        self._not_before[key], self._delays[key] = event.not_before_ms, event.delay_ms

    def _dead(self, event: DeadLettered) -> None:
        """I19: one consequence, unless a pause is under way or only an index is lost; in direct
        mode the job goes on while it can."""
        lost_index = event.task.kind is TaskKind.INDEX and (
            event.cause is Cause.PERMANENT or self.settings.on_exhausted != "pause"
        )
        on_and_on = (
            self.spec.mode == "direct"
            and self.settings.on_exhausted == "pause"
            and unit_of(event.task) is not None
        )
        if not self._pausing and not lost_index and not on_and_on:
            self._owed.add(event.task)

    # --- outcomes are true in the world already ---

    def _completed(self, event: Completed) -> None:
        """I17, I24, I29."""
        match event:
            case DumpCompleted():
                chunk = self._chunks[event.entity]
                documents = self.world.range(chunk.unit, chunk.lower, chunk.upper)
                assert event.documents == len(documents), "I17"
                found = self.world.files.get(event.file)
                assert found in (documents, None), "I17"
            case RestoreCompleted() | CopyCompleted():
                self._on_target(event, None)
            case _:
                self._surveyed |= event.kind == "survey_completed"

    def _progressed(self, event: RestoreProgressed | CopyProgressed) -> None:
        assert event.attempt == self.attempts[event.task], "I20"
        assert event.position > self._positions.get(event.task, 0), "I31: it goes forward"
        self._positions[event.task] = event.position
        restored = isinstance(event, RestoreProgressed)
        self._on_target(event, event.position // DOCUMENT if restored else event.position)

    def _on_target(
        self,
        event: RestoreProgressed | RestoreCompleted | CopyProgressed | CopyCompleted,
        count: int | None,
    ) -> None:
        """The first `count` documents of the chunk are on the target, or refused by it."""
        condemned = (event.entity, self.attempts[event.task]) in self.world.condemned
        assert not condemned, "I24: restored from a damaged file"
        chunk = self._chunks[event.entity]
        documents = list(self.world.range(chunk.unit, chunk.lower, chunk.upper).items())[:count]
        target, refused = self.world.target[chunk.unit], self.world.refused.get(chunk.unit, set())
        missing = [key for key, text in documents if target.get(key) != text and key not in refused]
        assert not missing, "I17: restored, but not there"
        assert event.documents + event.rejected == len(documents), "I25"
