"""The laws of histories: the journal is read event by event, folded, and held against them.

A broken law raises `AssertionError` with its number.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from journal.protocol import Recorded
from statemachine.events import (
    AnyEvent,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    Completed,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    InDoubt,
    JobCompleted,
    JobExported,
    JobFailed,
    JobPaused,
    JobResumed,
    JobSpec,
    PauseRequested,
    PlanCompleted,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    RetryScheduled,
    RunSettings,
    RunStarted,
    Started,
    TaskEvent,
    UnitCompleted,
    UnitRegistered,
    UnitSkipped,
)
from statemachine.evolve import evolve
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import State
from statemachine.words import Cause, TaskKey, TaskKind, UnitId, Verb, unit_of
from tests.simulation import laws
from tests.simulation.hands import DOCUMENT
from tests.simulation.world import World

AT_WORK = (Verb.STARTED, Verb.PROGRESSED)
ENDS = (Verb.RETRY_SCHEDULED, Verb.DEAD_LETTERED, Verb.CANCELLED, Verb.IN_DOUBT, Verb.COMPLETED)


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
        self._surveyed = self._pausing = self._over = False

    def read(self, new: Sequence[Recorded]) -> None:
        """All of this module's laws, for each of these events."""
        for recorded in new:
            self._envelope(recorded)
            self._about_the_job(recorded.event)
            self._about_units(recorded.event)
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
        if unit and event.kind != "dump_invalidated":
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
            assert event.kind in ("run_started", "result_ignored"), "I13"
            return
        match event:
            case RunStarted():
                assert event.epoch == self.state.epoch + 1, "I5"
                self._undecided = set(self._at_work())
            case PauseRequested():
                assert not self._pausing or event.by != "ferrylog", "I19: asked twice"
                self._pausing = True
                self._owed.clear()
            case JobPaused():
                assert not self._at_work() and not self._undecided, "I28: paused at work"
                assert Verb.IN_DOUBT not in self._standing().values(), "I28: paused in doubt"
                assert not self._owed, "I19: a dead letter without a consequence"
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
                self._units[event.unit] = "open"
            case UnitCompleted():
                assert self._units[event.unit] == "open", "I29"
                self._units[event.unit] = "completed"
            case UnitSkipped():
                assert self.settings.on_exhausted == "skip-unit", "I19"
                assert self._units[event.unit] == "open", "I19: given up twice"
                self._units[event.unit] = "skipped"
                self._owed = {key for key in self._owed if unit_of(key) != event.unit}
            case ChunkPlanned():
                self._chunks[event.chunk] = event
            case PlanCompleted():
                self._partition(UnitId(event.entity))
            case ChunkReleased() | ChunkKept():
                kinds = (TaskKind.RESTORE, TaskKind.VERIFY)[: 1 + self.spec.verify]
                done = [self.last.get(TaskKey(k, event.chunk)) is Verb.COMPLETED for k in kinds]
                unit = UnitId(event.chunk.rpartition("#")[0])
                assert all(done) or self._units[unit] == "skipped", "I23"
            case DocumentRejected():
                refused = self.world.refused[UnitId(event.chunk.rpartition("#")[0])]
                assert int(event.key) in refused, "a document rejected that was not refused"
            case _:
                pass

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
        match event:
            case Started():
                self._started(recorded, event, before)
            case RestoreProgressed():
                self._progressed(event)
            case RetryScheduled():
                self._failures[key] += 1
                self._retry(event)
            case DeadLettered():
                self._failures[key] += before in AT_WORK
                self._dead(event)
            case InDoubt():
                assert before in AT_WORK and key in self._undecided, "I16"
                self._undecided.discard(key)
                self._doubts[key] += 1
            case Resolved():
                assert before is Verb.IN_DOUBT, "I16: one decision for each doubt"
            case _ if isinstance(event, Completed):
                assert before in AT_WORK, "I20: a success that masks what was recorded"
                self._completed(event)
            case _:
                pass
        if event.verb is Verb.INVALIDATED:
            assert before is Verb.COMPLETED, "I24"
            self._failures[key] += 1
            self._positions.pop(TaskKey(TaskKind.RESTORE, event.entity), None)
        if event.verb is Verb.REQUEUED:
            assert before is Verb.DEAD_LETTERED, "I19"
            for budget in (self._failures, self._delays, self._doubts):
                budget.pop(key, None)
        assert self._failures[key] <= self.settings.max_retries, "I18: the budget"
        assert self._doubts[key] <= MAX_INTERRUPTIONS, "I18: interruptions are bounded"
        self.last[key] = event.verb

    def _started(self, recorded: Recorded, event: Started, before: Verb | None) -> None:
        """I15, I16, I18, I19, I23, I28."""
        key = event.task
        unit = unit_of(key)
        assert not self._pausing, "I28: a start during a pause"
        assert before is not Verb.COMPLETED, "I15"
        assert before not in (*AT_WORK, Verb.IN_DOUBT) and not self._undecided, "I16"
        assert before is not Verb.DEAD_LETTERED, "I19"
        assert not self._owed, "I19: a dead letter without a consequence"
        again = ("open", "completed") if key.kind is TaskKind.INDEX else ("open",)
        assert unit is None or self._units[unit] in again, "a start for a unit that has ended"
        assert self._ends[key] == self.attempts[key], "I18: an attempt without an end"
        self.attempts[key] += 1
        assert event.attempt == self.attempts[key], "I18: attempt numbers are consecutive"
        due, now = self._not_before.pop(key, 0), recorded.recorded_at_ms
        went_back = due > now + self.settings.retry_cap_ms  # the clock, since it was scheduled
        assert now >= due or went_back, "I18: not before"
        stages = {TaskKind.RESTORE: TaskKind.DUMP, TaskKind.VERIFY: TaskKind.RESTORE}
        if key.kind in stages and self.spec.kind == "migrate":
            earlier = TaskKey(stages[key.kind], key.entity)
            assert self.last.get(earlier) is Verb.COMPLETED, "I23"

    def _retry(self, event: RetryScheduled) -> None:
        """I18: the delay lies in its interval and never shrinks."""
        key, settings = event.task, self.settings
        doubled = settings.retry_base_ms * 2 ** (self._failures[key] - 1)
        ceiling = min(settings.retry_cap_ms, doubled)
        assert ceiling // 2 <= event.delay_ms <= ceiling, "I18: jitter in its interval"
        assert event.delay_ms >= self._delays.get(key, 0), "I18: delays do not shrink"
        self._not_before[key], self._delays[key] = event.not_before_ms, event.delay_ms

    def _dead(self, event: DeadLettered) -> None:
        """I19: one consequence, unless a pause is under way or only an index is lost."""
        lost_index = event.task.kind is TaskKind.INDEX and (
            event.cause is Cause.PERMANENT or self.settings.on_exhausted != "pause"
        )
        if not self._pausing and not lost_index:
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
            case RestoreCompleted():
                self._on_target(event, None)
            case _:
                self._surveyed |= event.kind == "survey_completed"

    def _progressed(self, event: RestoreProgressed) -> None:
        assert event.attempt == self.attempts[event.task], "I20"
        assert event.position > self._positions.get(event.task, 0), "I31: it goes forward"
        self._positions[event.task] = event.position
        self._on_target(event, event.position // DOCUMENT)

    def _on_target(self, event: RestoreProgressed | RestoreCompleted, count: int | None) -> None:
        """The first `count` documents of the chunk are on the target, or refused by it."""
        condemned = (event.entity, self.attempts[event.task]) in self.world.condemned
        assert not condemned, "I24: restored from a damaged file"
        chunk = self._chunks[event.entity]
        documents = list(self.world.range(chunk.unit, chunk.lower, chunk.upper).items())[:count]
        target, refused = self.world.target[chunk.unit], self.world.refused.get(chunk.unit, set())
        missing = [key for key, text in documents if target.get(key) != text and key not in refused]
        assert not missing, "I17: restored, but not there"
        assert event.documents + event.rejected == len(documents), "I25"
