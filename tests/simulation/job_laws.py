"""Laws of a job's life: runs, pauses, ends, requests, breakers."""

from statemachine.events import (
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    DeadLettered,
    JobCompleted,
    JobExported,
    JobFailed,
    JobPaused,
    JobReopened,
    JobResumed,
    JobRolledBack,
    JobStopped,
    PauseRequested,
    RollbackContinued,
    RollbackFailed,
    RollbackStarted,
    RunStarted,
    SettingChanged,
    StopRequested,
)
from statemachine.state import keeps_files
from statemachine.words import Cause, Pool, TaskKey, TaskKind, Verb
from tests.simulation.groups import is_group
from tests.simulation.history import AT_WORK, TRIED
from tests.simulation.undo_laws import UndoLaws
from tests.simulation.valves import Valve

REQUEUES = (
    "job_reopened",
    "chunk_replaced",
    "chunk_planned",
    "file_found",
    *(f"{kind}_requeued" for kind in TaskKind),
)


class JobLaws(UndoLaws):
    """I5, I13, I19, I20, I28, I29, I43."""

    def _about_the_job(self, event: AnyEvent) -> None:
        """I13, I19, I28, I29."""
        if self._over:
            told = ("run_started", "result_ignored", "request_refused", "index_dropped", *REQUEUES)
            assert event.kind in told or self._of_a_rollback(event), "I13"
            self._over = not isinstance(event, JobReopened | RollbackStarted)
            if not isinstance(event, RollbackStarted):
                return
        match event:
            case RunStarted():
                assert event.epoch == self.state.epoch + 1, "I5"
                standing = [item for item in self._standing().items() if self._matters(item[0])]
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
            case JobExported():
                assert event.epoch == self.state.epoch + 1, "I5"
                self._pausing = True  # nothing starts before somebody resumes it elsewhere
            case JobResumed():
                assert not self.taking_back, "I41"
                self._pausing = False
                self._waited.clear()
                self._waits.clear()
            case JobCompleted():
                assert self._surveyed or self.group_committed, "I29: before the survey"
                assert not self.taking_back and not self.rolled_back, "I41: two ends"
                assert "open" not in self._units.values(), "I29: before a unit's end"
                assert not self._owed and not self._pausing, "I19, I28"
                self._nothing_is_left()
                self._over = True
            case JobFailed():
                by_policy = self.settings.on_exhausted == "fail-job"
                allowed = by_policy or self.may_fail(event) or self._no_group(event)
                assert allowed or self._bad_dump(), "I19"
                assert not self.taking_back, "I41"
                self._over = True
            case _:
                self._about_its_way_back(event)

    def _about_its_way_back(self, event: AnyEvent) -> None:
        """I19, I41."""
        match event:
            case RollbackStarted() | RollbackContinued():
                self._pausing = self._at_once = False
                self._owed.clear()
                self._waited.clear()
                self._waits.clear()
                if isinstance(event, RollbackStarted):
                    self._undecided.clear()
            case RollbackFailed():
                self._owed.clear()
            case JobRolledBack():
                assert not self._owed and not self._at_work(), "I41"
                self._over = True
            case _:
                pass

    def _matters(self, key: TaskKey) -> bool:
        """What became of anything else is of no interest in a rollback."""
        return not self.taking_back or key.kind is TaskKind.UNDO

    def _no_group(self, event: JobFailed) -> bool:
        """I36: refused as a whole, before anything was planned."""
        none = event.code == "EOPS001"
        assert not none or not (is_group(self.world.group) or self.operations), "I36"
        return none

    def _bad_dump(self) -> bool:
        """I23: a dump that is not in order ended the job before anything was written."""
        letter = self.records[-1].event
        assert isinstance(letter, DeadLettered), "I19"
        looked = letter.task.kind in (TaskKind.SURVEY, TaskKind.PLAN)
        created = [key for key in self.last if key.kind is TaskKind.CREATE and self._is(*key)]
        assert not created, "I23: something was written"
        return self.world.from_dump and looked and letter.cause is Cause.PERMANENT

    def _nothing_is_left(self) -> None:
        """I29: the manifest names all files of all units; the last touch came last."""
        if keeps_files(self.spec):
            assert self._is(TaskKind.MANIFEST, "job"), "I29"
            written = self.attempts[TaskKey(TaskKind.MANIFEST, "job")]
            assert self.world.manifests[written] == self._to_be_named(), "I29: others are named"
        for unit, when in self._looked.items():
            ended = self.last.get(TaskKey(TaskKind.FINISH, unit)) in TRIED
            assert ended or self._units[unit] == "skipped", "I29: to be looked at once more"
            if self._is(TaskKind.FINISH, unit):
                assert when > self._changed.get(unit, 0), "I29: something came after the last touch"

    def _to_be_named(self) -> dict[str, str]:
        units = {unit for unit, standing in self._units.items() if standing == "completed"}
        whole = [chunk for chunk in self._files if chunk not in self._gone]
        files = {c: self._files[c] for c in whole if self._chunks[c].unit in units}
        return {**files, **dict.fromkeys(units, "")}

    def _about_breakers(self, event: AnyEvent) -> None:
        """I43."""
        match event:
            case BreakerOpened():
                assert self.state.settings is not None
                self.valves[event.pool].opens(event, self.state.settings.breaker_failures)
            case BreakerClosed():
                self.valves[event.pool].closes()
            case SettingChanged(name="breaker_failures"):
                for valve in self.valves.values():
                    valve.excused = True
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
