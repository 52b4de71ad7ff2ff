"""Laws of a job's life: runs, pauses, ends, requests, breakers."""

from statemachine.events import (
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    JobCompleted,
    JobExported,
    JobFailed,
    JobPaused,
    JobReopened,
    JobResumed,
    JobStopped,
    PauseRequested,
    RunStarted,
    SettingChanged,
    StopRequested,
)
from statemachine.words import Pool, TaskKind, Verb
from tests.simulation.history import AT_WORK, History
from tests.simulation.valves import Valve

REQUEUES = (
    "job_reopened",
    "chunk_replaced",
    "chunk_planned",
    *(f"{kind}_requeued" for kind in TaskKind),
)


class JobLaws(History):
    """I5, I13, I19, I20, I28, I29, I43."""

    def _about_the_job(self, event: AnyEvent) -> None:
        """I13, I19, I28, I29."""
        if self._over:
            told = ("run_started", "result_ignored", "request_refused", "index_dropped", *REQUEUES)
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
            case JobExported():
                assert event.epoch == self.state.epoch + 1, "I5"
                self._pausing = True  # nothing starts before somebody resumes it elsewhere
            case JobResumed():
                self._pausing = False
                self._waited.clear()
                self._waits.clear()
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
