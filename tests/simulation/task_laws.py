"""Laws of tasks: each attempt, its budget, its turn, and that its outcome is true in the world."""

from journal.protocol import Recorded
from statemachine.events import (
    Cancelled,
    Completed,
    CopyCompleted,
    CopyProgressed,
    DeadLettered,
    DumpCompleted,
    DumpInvalidated,
    FinishCompleted,
    InDoubt,
    ManifestCompleted,
    Requeued,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    RetryScheduled,
    Started,
    TaskEvent,
)
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import is_whole, stages_of
from statemachine.words import (
    Cause,
    OperationId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    Verb,
    unit_of,
)
from tests.simulation import laws
from tests.simulation.history import AT_WORK
from tests.simulation.job_laws import JobLaws
from tests.simulation.news import DOCUMENT
from tests.simulation.valves import POOLS, UNAVAILABLE, interval, workers_of

READERS = (TaskKind.SURVEY, TaskKind.PLAN)
ENDS = (Verb.RETRY_SCHEDULED, Verb.DEAD_LETTERED, Verb.CANCELLED, Verb.IN_DOUBT, Verb.COMPLETED)


CARRIERS = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.COPY)


class TaskLaws(JobLaws):
    """I15-I20, I23-I27, I31, I46."""

    def _about_a_task(self, recorded: Recorded, event: TaskEvent) -> None:
        key, before = event.task, self.last.get(event.task)
        if event.verb in ENDS and before in AT_WORK:
            self._ends[key] += 1
        self._about_its_pool(recorded, event, at_work=before in AT_WORK)
        self._about_its_attempt(recorded, event, before)
        self._about_its_budget(event, before)
        self.last[key] = event.verb

    def _about_its_pool(self, recorded: Recorded, event: TaskEvent, *, at_work: bool) -> None:
        """I43."""
        key = event.task
        valve = self.valves[POOLS[key.kind]]
        match event:
            case Started():
                valve.starts(key, recorded.recorded_at_ms, self.state.settings)
            case RetryScheduled() | DeadLettered() if at_work:
                valve.fails(key, event.cause)
            case Cancelled():
                valve.leaves(key)
            case _ if event.verb in (Verb.COMPLETED, Verb.PROGRESSED):
                valve.failures = 0
            case _:
                pass

    def _about_its_attempt(self, recorded: Recorded, event: TaskEvent, before: Verb | None) -> None:
        match event:
            case Started():
                self._numbered(event)
                self._started(recorded, event, before)
            case RestoreProgressed() | CopyProgressed():
                self._progressed(event)
            case InDoubt():
                assert before in AT_WORK, "I16"
                known = event.task in self._undecided or self._at_once
                assert known or self._over, "I16"  # of a job that has failed, to be taken back
            case Resolved():
                assert before is Verb.IN_DOUBT, "I16: one decision for each doubt"
                self._undecided.discard(event.task)
            case DeadLettered():
                self._undecided.discard(event.task)
                self._dead(event)
            case _ if isinstance(event, Completed):
                assert before in AT_WORK, "I20: a success that masks what was recorded"
                self._completed(event)
            case _ if event.kind == "survey_invalidated":
                self._surveyed = False
                self._once_more(TaskKey(TaskKind.MANIFEST, "job"))
            case Requeued() if event.task.kind is TaskKind.INDEX:
                self._once_more(TaskKey(TaskKind.FINISH, str(unit_of(event.task))))
            case _:
                pass

    def _about_its_budget(self, event: TaskEvent, before: Verb | None) -> None:
        """I18, I19, I24: failures, waits and doubts, each bounded."""
        key = event.task
        match event:
            case RetryScheduled():
                self._doubts.pop(key, None)
                self._retry(event)
            case DeadLettered():
                self._failures[key] += before in AT_WORK and event.cause is not UNAVAILABLE
            case InDoubt():
                self._doubts[key] += not self._at_once
            case _ if event.verb is Verb.PROGRESSED:
                for waits in (self._waited, self._waits, self._doubts):
                    waits.pop(key, None)
            case Cancelled():
                for waits in (self._doubts, self._waited, self._waits, self._delays):
                    waits.pop(key, None)
            case _ if isinstance(event, Completed):
                self._doubts.pop(key, None)
            case Requeued():
                assert before is Verb.DEAD_LETTERED, "I19"
                self._forget(key)
            case DumpInvalidated():
                assert before is Verb.COMPLETED, "I24"
                self._failures[key] += 1
                self._positions.pop(TaskKey(TaskKind.RESTORE, event.entity), None)
            case _:
                pass
        assert self._failures[key] <= max(1, self._budget(key)), "I18: the budget"
        assert self._doubts[key] <= MAX_INTERRUPTIONS, "I18: interruptions are bounded"

    def _budget(self, key: TaskKey) -> int:
        if key.kind is TaskKind.OPERATION:
            return self.operations[OperationId(key.entity)].tries
        return self.settings.max_retries

    def _numbered(self, event: Started) -> None:
        """I15, I18: consecutive, and never twice; when all begins anew there may be a gap."""
        key, last = event.task, self.attempts[event.task]
        assert event.attempt > last, "I15: an attempt for the second time"
        anew = self._moment_of.get(key, 0) != self.moments
        assert event.attempt == last + 1 or anew, "I18: attempt numbers are consecutive"
        assert self._ends[key] == last, "I18: an attempt without an end"
        self._moment_of[key] = self.moments
        self.attempts[key] = event.attempt
        self._ends[key] = event.attempt - 1

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
        again = ("open", "completed") if key.kind in laws.NEVER_FAIL else ("open",)
        assert unit is None or self._units[unit] in again, "a start for a unit that has ended"
        assert self.spec.kind != "plan" or key.kind in READERS, "I46"
        due, now = self._not_before.pop(key, 0), recorded.recorded_at_ms
        went_back = due > now + self.settings.retry_cap_ms  # the clock, since it was scheduled
        assert now >= due or went_back, "I18: not before"
        self._in_order(key)

    def _in_order(self, key: TaskKey) -> None:
        """I23, I29: after the stage before it, behind its gate, and the last touch last."""
        assert self._gate(key.kind), "I23: before its turn"
        stages = stages_of(self.spec)
        if key.kind in stages[1:]:
            assert self._is(stages[stages.index(key.kind) - 1], key.entity), "I23"
        if key.kind is TaskKind.RESTORE:
            unit = str(unit_of(key))
            assert self._is(TaskKind.CREATE, unit), "I23: a restore into nothing"
        if key.kind is TaskKind.FINISH:
            assert not self._left_of(UnitId(key.entity)), "I29: not the last"
            self._looked[UnitId(key.entity)] = len(self.records)

    def _left_of(self, unit: UnitId) -> list[TaskKey]:
        """What of a unit has not ended, but for its last touch."""
        ends = (Status.COMPLETED, Status.FAILED)
        return [
            key
            for key, task in self.state.tasks.items()
            if unit_of(key) == unit and key.kind is not TaskKind.FINISH
            if task.status not in ends or (task.status is Status.FAILED and key.kind in CARRIERS)
        ]

    def _in_turn(self, key: TaskKey) -> None:
        """I27: retries leave room for what is fresh; what is fresh goes by priority, then first in
        first out."""
        state, settings = self.state, self.state.settings
        assert settings is not None
        task, pool = state.tasks[key], POOLS[key.kind]
        if key.kind is TaskKind.UNDO:
            return  # they have an order of their own
        if key.kind in CARRIERS:
            self._alone(key)
            if self._doubts[key] or state.quarantine:
                return  # suspects go before all
        workers = workers_of(pool, settings)
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
        earlier = next((other for other in same if self._could_start(other)), None)
        assert earlier == key, "I27: not the first in"

    def _alone(self, key: TaskKey) -> None:
        """Who was at work when the process died carries documents alone: else a death would tell
        nothing."""
        beside = [
            other
            for other, task in self.state.tasks.items()
            if task.status is Status.PROCESSING and other.kind in CARRIERS
        ]
        suspects = [other for other in (*beside, key) if self._doubts[other]]
        assert not beside or not suspects, "a suspect is not alone"

    def _could_start(self, key: TaskKey) -> bool:
        state, settings = self.state, self.state.settings
        assert settings is not None
        if key.kind in CARRIERS and (state.quarantine or self._suspect_at_work()):
            return False  # or perhaps it could, beside a suspect that cannot
        if key.kind is TaskKind.DUMP:
            writing = sum(
                1
                for other, task in state.tasks.items()
                if other.kind is TaskKind.DUMP and task.status is Status.PROCESSING
            )
            return state.files + writing < max(settings.files_ahead, settings.dump_workers)
        if key.kind is TaskKind.RESTORE:
            created = self._is(TaskKind.CREATE, str(unit_of(key)))
            whole = state.chunks[key.entity].file is not None  # type: ignore[index]
            return created and whole and self._gate(key.kind)
        if key.kind is TaskKind.FINISH:
            return not self._left_of(UnitId(key.entity))
        if key.kind is TaskKind.OPERATION:
            waits = self.operations[OperationId(key.entity)].wait_for
            return all(self._is(TaskKind.OPERATION, each) for each in waits)
        return self._gate(key.kind)

    def _suspect_at_work(self) -> bool:
        return any(
            self._doubts[key] and task.status is Status.PROCESSING
            for key, task in self.state.tasks.items()
            if key.kind in CARRIERS
        )

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
        assert event.delay_ms >= min(last, settings.retry_cap_ms), "I18: delays do not shrink"
        assert int(low) <= event.delay_ms <= max(high, last), "I18: jitter in its interval"
        self._not_before[key], self._delays[key] = event.not_before_ms, event.delay_ms

    def _dead(self, event: DeadLettered) -> None:
        """I19: one consequence, unless a pause is under way or only an index is lost; in direct
        mode the job goes on while it can."""
        lost_index = event.task.kind in laws.NEVER_FAIL and (
            event.cause is Cause.PERMANENT or self.settings.on_exhausted != "pause"
        )
        on_and_on = (
            self.spec.mode == "direct"
            and (self.settings.on_exhausted == "pause" or self._skips_nothing())
            and unit_of(event.task) is not None
        )
        of_a_group = event.task.kind in (TaskKind.OPERATION, TaskKind.UNDO)
        on_and_on |= of_a_group and not self._consequence_of(event)
        if not self._pausing and not lost_index and not on_and_on:
            self._owed.add(event.task)

    def _skips_nothing(self) -> bool:
        return is_whole(self.spec) and self.settings.on_exhausted == "skip-unit"

    # --- outcomes are true in the world already ---

    def _completed(self, event: Completed) -> None:
        """I17, I24, I29."""
        unit = unit_of(event.task)
        if unit is not None and event.task.kind is not TaskKind.FINISH:
            self._changed[unit] = len(self.records)
        match event:
            case DumpCompleted():
                chunk = self._chunks[event.entity]
                documents = self.world.range(chunk.unit, chunk.lower, chunk.upper)
                read = event.documents + event.erased + event.rejected
                assert read == len(documents), "I17"
                found = self.world.files.get(event.file)
                assert found is None or found.items() <= documents.items(), "I17"
                assert found is None or len(found) == read - event.rejected, "I17"
                self._files[event.entity] = event.file
            case FinishCompleted():
                seen = self.world.looked[event.entity, self.attempts[event.task]]
                assert len(event.differing) == seen, "I17"
            case ManifestCompleted():
                written = self.world.manifests[self.attempts[event.task]]
                assert written == self._to_be_named(), "I17: others are named"
            case RestoreCompleted() | CopyCompleted():
                self._on_target(event, None)
            case _:
                self._surveyed |= event.kind in ("survey_completed", "capture_completed")

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
