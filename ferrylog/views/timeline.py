"""A job's history on one screen: runs, units stage by stage, pauses, silences, the clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import Field

from ferrylog.clock import when
from ferrylog.views.shapes import Report
from journal.overview import Mark
from journal.protocol import Recorded
from statemachine.effects import OF_INCREMENTS
from statemachine.events import (
    JobCompleted,
    JobFailed,
    JobPaused,
    JobReopened,
    JobRequested,
    JobResumed,
    JobRolledBack,
    JobStopped,
    PauseRequested,
    RollbackFailed,
    RollbackStarted,
    RunStarted,
    StopRequested,
)
from statemachine.words import THE_JOB, TaskKey, TaskKind, UnitId, Verb, unit_of

CELLS: Final = 60
"""Columns of the drawing."""
MAX_LISTED: Final = 100
"""Silences and steps back of the clock that are listed; all are counted."""
ORDER: Final = (
    TaskKind.CREATE,
    TaskKind.CENSUS,
    TaskKind.PLAN,
    TaskKind.DUMP,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.SPLIT,
    TaskKind.INDEX,
    TaskKind.VERIFY,
    TaskKind.FINISH,
    TaskKind.CAPTURE,
    TaskKind.SHAPE,
    TaskKind.APPLY,
    TaskKind.SETTLE,
    TaskKind.FOLLOW,
)
LETTERS: Final = {
    TaskKind.CENSUS: "n",
    TaskKind.COPY: "x",
    TaskKind.CAPTURE: "k",
    TaskKind.SHAPE: "h",
    TaskKind.SETTLE: "t",
    TaskKind.FOLLOW: "w",
}
"""In a drawing, where another kind has the first letter of its name."""
JOB_KINDS: Final = ("job_*", "run_started", "pause_requested", "stop_requested", "rollback_*")
"""Which events of the job are read whole; the others only as marks."""

End = Literal[
    "completed", "failed", "paused", "stopped", "gone", "running", "nothing to do", "rolled back",
    "rollback failed",
]  # fmt: skip
UnitEnd = Literal["unfinished", "completed", "skipped", "excluded"]
ENDS: Final[dict[str, UnitEnd]] = {
    "unit_completed": "completed",
    "unit_skipped": "skipped",
    "unit_excluded": "excluded",
    "increment_completed": "completed",
}


class RunLine(Report):
    epoch: int
    by: str
    host: str
    pid: int
    version: str
    first_seq: int
    last_seq: int
    began: str
    last: str
    """Its last event; nobody knows how long a process lived after that."""
    duration_ms: int
    end: End
    why: str
    began_cell: int
    last_cell: int


class StageLine(Report):
    stage: str
    began: str
    last: str
    duration_ms: int
    started: int
    completed: int
    retries: int
    lost: int
    dead_letters: int


class UnitLine(Report):
    namespace: str
    status: UnitEnd
    stages: tuple[StageLine, ...]
    drawing: str
    """One character a cell: the stage with the most events then; a blank where nothing was."""


class PauseLine(Report):
    what: Literal["pause", "stop"]
    by: str
    why: str
    asked: str
    reached: str | None
    resumed: str | None


class Silence(Report):
    """A stretch without events while a run was alive."""

    after_seq: int
    began: str
    duration_ms: int


class StepBack(Report):
    """The clock went back between two events; their order is that of seq."""

    seq: int
    before: str
    at: str
    by_ms: int


class TimelineReport(Report):
    schema_: Literal["ferrylog.timeline/1"] = Field("ferrylog.timeline/1", alias="schema")
    job: str
    kind: str
    asked_by: str
    events: int
    began: str
    last: str
    duration_ms: int
    runs: tuple[RunLine, ...]
    units: tuple[UnitLine, ...]
    pauses: tuple[PauseLine, ...]
    silences: tuple[Silence, ...]
    silences_total: int
    steps_back: tuple[StepBack, ...]
    steps_back_total: int


@dataclass(slots=True)
class _Stage:
    began_ms: int
    last_ms: int
    counts: dict[Verb, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Unit:
    status: UnitEnd = "unfinished"
    stages: dict[TaskKind, _Stage] = field(default_factory=dict)
    cells: dict[int, dict[TaskKind, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    first: Mark
    last: Mark
    high_ms: int


_TASKS: Final = {f"{kind}_{verb}": (kind, verb) for kind in TaskKind for verb in Verb}


@dataclass(slots=True)
class Timeline:
    """Fed with every mark of a job in order; keeps sums only, whatever the job's length."""

    began_ms: int
    """Of the job's first event."""
    last_ms: int
    """Of the latest: the right end of the drawing."""
    silence_ms: int
    """How long nothing must have happened to be worth a line."""
    events: int = 0
    units: dict[str, _Unit] = field(default_factory=dict)
    runs: dict[int, _Run] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    silences_total: int = 0
    steps_back: list[StepBack] = field(default_factory=list)
    steps_back_total: int = 0

    def hear(self, marks: Iterable[Mark]) -> None:
        before: Mark | None = None
        for mark in marks:
            self.events += 1
            if before is not None and mark.at_ms != before.at_ms:
                self._moved(before, mark)
            before = mark
            self._run(mark)
            task = _TASKS.get(mark.kind)
            if task is not None:
                self._task(mark, *task)
            elif mark.kind in ENDS:
                self.units.setdefault(mark.entity, _Unit()).status = ENDS[mark.kind]
            elif mark.kind == "job_completed" and THE_JOB in self.units:
                self.units[THE_JOB].status = "completed"
            elif mark.kind == "chunk_replaced":
                self._reopened(mark.entity.rpartition("#")[0])
            elif mark.kind == "unit_registered":
                self.units.setdefault(mark.entity, _Unit())

    def _reopened(self, name: str) -> None:
        """A finished unit with a part that is carried again."""
        unit = self.units.get(name)
        if unit is not None and unit.status == "completed":
            unit.status = "unfinished"

    def _run(self, mark: Mark) -> None:
        run = self.runs.get(mark.epoch)
        if run is None:
            self.runs[mark.epoch] = _Run(mark, mark, mark.at_ms)
        else:
            run.last = mark
            run.high_ms = max(run.high_ms, mark.at_ms)

    def _moved(self, before: Mark, mark: Mark) -> None:
        waited = mark.at_ms - before.at_ms
        if waited < 0:
            self.steps_back_total += 1
            if len(self.steps_back) < MAX_LISTED:
                self.steps_back.append(
                    StepBack(
                        seq=mark.seq,
                        before=when(before.at_ms),
                        at=when(mark.at_ms),
                        by_ms=-waited,
                    )
                )
        elif waited >= self.silence_ms and before.epoch == mark.epoch:
            self.silences_total += 1
            if len(self.silences) < MAX_LISTED:
                self.silences.append(
                    Silence(after_seq=before.seq, began=when(before.at_ms), duration_ms=waited)
                )

    def _task(self, mark: Mark, kind: TaskKind, verb: Verb) -> None:
        name = unit_of(TaskKey(kind, mark.entity))
        if name is None and kind in OF_INCREMENTS:
            name = UnitId(mark.entity.partition("#")[0])  # the increment, or the job: a line too
        if name is None:
            return
        unit = self.units.get(name)
        if unit is None:
            unit = self.units[name] = _Unit()
        stage = unit.stages.get(kind)
        if stage is None:
            stage = unit.stages[kind] = _Stage(mark.at_ms, mark.at_ms)
        stage.last_ms = max(stage.last_ms, mark.at_ms)
        stage.counts[verb] = stage.counts.get(verb, 0) + 1
        cell = unit.cells.setdefault(self.cell(mark.at_ms), {})
        cell[kind] = cell.get(kind, 0) + 1

    def cell(self, at_ms: int) -> int:
        """Where a time lies in the drawing."""
        span = max(1, self.last_ms - self.began_ms)
        return max(0, min(CELLS - 1, (at_ms - self.began_ms) * CELLS // span))


def timeline_report(
    job: str, requested: JobRequested, line: Timeline, of_job: list[Recorded], *, running: bool
) -> TimelineReport:
    """`of_job`: the job's events of `JOB_KINDS`, in order."""
    return TimelineReport(
        job=job,
        kind=requested.spec.kind,
        asked_by=requested.by,
        events=line.events,
        began=when(line.began_ms),
        last=when(line.last_ms),
        duration_ms=max(0, line.last_ms - line.began_ms),
        runs=tuple(_runs(line, of_job, running=running)),
        units=tuple(_unit(name, unit) for name, unit in line.units.items()),
        pauses=tuple(_pauses(of_job)),
        silences=tuple(line.silences),
        silences_total=line.silences_total,
        steps_back=tuple(line.steps_back),
        steps_back_total=line.steps_back_total,
    )


def _runs(line: Timeline, of_job: list[Recorded], *, running: bool) -> Iterable[RunLine]:
    started = [each for each in of_job if isinstance(each.event, RunStarted)]
    by_epoch: dict[int, list[Recorded]] = {}
    for each in of_job:
        by_epoch.setdefault(each.epoch, []).append(each)
    ended = False
    for recorded in started:
        event, run = recorded.event, line.runs[recorded.epoch]
        assert isinstance(event, RunStarted)
        ended = ended and not _is_taken_back(by_epoch[event.epoch])
        end, why = ("nothing to do", "") if ended else _end(by_epoch[event.epoch])
        ended = (ended or end in ("completed", "failed", "rolled back")) and not _is_reopened(
            by_epoch[event.epoch]
        )
        if end == "gone" and running and recorded is started[-1]:
            end = "running"
        yield RunLine(
            epoch=event.epoch,
            by=event.by,
            host=event.host,
            pid=event.pid,
            version=event.version,
            first_seq=recorded.seq,
            last_seq=run.last.seq,
            began=when(recorded.recorded_at_ms),
            last=when(run.last.at_ms),
            duration_ms=max(0, run.high_ms - recorded.recorded_at_ms),
            end=end,
            why=why,
            began_cell=line.cell(recorded.recorded_at_ms),
            last_cell=line.cell(run.high_ms),
        )


def _is_reopened(within: list[Recorded]) -> bool:
    return any(isinstance(recorded.event, JobReopened) for recorded in within)


def _is_taken_back(within: list[Recorded]) -> bool:
    return any(isinstance(recorded.event, RollbackStarted) for recorded in within)


def _end(within: list[Recorded]) -> tuple[End, str]:
    """How a run ended, by its own events; `gone`: without a word."""
    asked: PauseRequested | StopRequested | None = None
    for event in (recorded.event for recorded in within):
        match event:
            case PauseRequested() | StopRequested():
                asked = event
            case JobResumed():
                asked = None
            case JobPaused() | JobStopped():
                end: End = "paused" if isinstance(event, JobPaused) else "stopped"
                return end, f"by {asked.by}: {asked.why}" if asked else ""
            case JobCompleted():
                return "completed", ""
            case JobFailed():
                return "failed", f"{event.code}: {event.why}"
            case JobRolledBack():
                return "rolled back", f"{event.undone:,} undone, {event.kept:,} kept"
            case RollbackFailed():
                return "rollback failed", event.why
            case _:
                pass
    return "gone", ""


def _pauses(of_job: list[Recorded]) -> Iterable[PauseLine]:
    """Each pause or stop once, however often it was asked for; a stop ends a pause."""
    asked: Recorded | None = None
    reached: Recorded | None = None
    for recorded in of_job:
        event = recorded.event
        if asked is not None and _is_over(asked, recorded):
            yield _pause(asked, reached, recorded)
            asked = reached = None
        if isinstance(event, PauseRequested | StopRequested) and asked is None:
            asked = recorded
        elif isinstance(event, JobPaused | JobStopped):
            reached = recorded
    if asked is not None:
        yield _pause(asked, reached, None)


def _is_over(asked: Recorded, later: Recorded) -> bool:
    if isinstance(later.event, StopRequested):
        return isinstance(asked.event, PauseRequested)
    return isinstance(later.event, JobResumed | JobFailed | RollbackStarted)


def _pause(asked: Recorded, reached: Recorded | None, over: Recorded | None) -> PauseLine:
    assert isinstance(asked.event, PauseRequested | StopRequested)
    resumed = over if over is not None and isinstance(over.event, JobResumed) else None
    return PauseLine(
        what="pause" if isinstance(asked.event, PauseRequested) else "stop",
        by=asked.event.by,
        why=asked.event.why,
        asked=when(asked.recorded_at_ms),
        reached=when(reached.recorded_at_ms) if reached else None,
        resumed=when(resumed.recorded_at_ms) if resumed else None,
    )


def _unit(name: str, unit: _Unit) -> UnitLine:
    return UnitLine(
        namespace=name,
        status=unit.status,
        stages=tuple(_stage(kind, unit.stages[kind]) for kind in ORDER if kind in unit.stages),
        drawing="".join(_letter(unit.cells.get(cell, {})) for cell in range(CELLS)),
    )


def _letter(cell: dict[TaskKind, int]) -> str:
    if not cell:
        return " "
    most = max(cell, key=lambda kind: cell[kind])
    return LETTERS.get(most, str(most)[0])


def _stage(kind: TaskKind, stage: _Stage) -> StageLine:
    return StageLine(
        stage=kind,
        began=when(stage.began_ms),
        last=when(stage.last_ms),
        duration_ms=max(0, stage.last_ms - stage.began_ms),
        started=stage.counts.get(Verb.STARTED, 0),
        completed=stage.counts.get(Verb.COMPLETED, 0),
        retries=stage.counts.get(Verb.RETRY_SCHEDULED, 0),
        lost=stage.counts.get(Verb.IN_DOUBT, 0),
        dead_letters=stage.counts.get(Verb.DEAD_LETTERED, 0),
    )
