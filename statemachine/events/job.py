"""The life of a job."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Event
from statemachine.events.spec import JobSpec, RunSettings
from statemachine.words import (
    TaskKind,
)


class JobRequested(Event):
    """Somebody asked for a job."""

    kind: Literal["job_requested"] = "job_requested"
    by: str
    spec: JobSpec


class RunStarted(Event):
    """A process took the job over; whatever an older epoch started is in doubt from here on."""

    kind: Literal["run_started"] = "run_started"
    epoch: PositiveInt
    by: str
    host: str
    pid: PositiveInt
    version: str
    settings: RunSettings


class PauseRequested(Event):
    """Nothing new starts from here on; what runs goes on to its outcome (A18)."""

    kind: Literal["pause_requested"] = "pause_requested"
    by: str
    why: str
    request: NonNegativeInt
    """Number of the inbox request that asked; 0 when none did."""
    immediate: bool
    """What runs is cancelled, in doubt until somebody resumes."""


class StopRequested(Event):
    """As a pause, by an operator who does not want the job to go on by itself (M2)."""

    kind: Literal["stop_requested"] = "stop_requested"
    by: str
    why: str
    request: NonNegativeInt
    immediate: bool
    rollback: bool
    """What the job created is to be undone."""


class JobStopped(Event):
    """The stop was reached: nothing runs."""

    kind: Literal["job_stopped"] = "job_stopped"


class JobPaused(Event):
    """The pause was reached: nothing runs; after a controlled one nothing is in doubt."""

    kind: Literal["job_paused"] = "job_paused"


class JobResumed(Event):
    """Somebody asked to go on after a pause (A19)."""

    kind: Literal["job_resumed"] = "job_resumed"
    by: str


class JobReopened(Event):
    """A dead letter of a finished job was requeued: there is work again."""

    kind: Literal["job_reopened"] = "job_reopened"
    by: str


class JobExported(Event):
    """The job leaves this journal: no run of an older epoch may append any more (P4)."""

    kind: Literal["job_exported"] = "job_exported"
    epoch: PositiveInt
    by: str
    host: str


class JobImported(Event):
    """The job arrived in this journal; what was at work when it left is in doubt from here on."""

    kind: Literal["job_imported"] = "job_imported"
    by: str
    host: str


class JobCompleted(Event):
    """Every unit reached its end; rejects and differences, if any, are counted here."""

    kind: Literal["job_completed"] = "job_completed"
    rejected: NonNegativeInt
    dead_letters: NonNegativeInt
    mismatched: NonNegativeInt
    """Chunks that differ, and units that are described differently."""
    damaged: NonNegativeInt
    """Places of a dump that could not be read."""


class JobFailed(Event):
    """The job ended without reaching what was asked for."""

    kind: Literal["job_failed"] = "job_failed"
    code: str
    why: str


class ResultIgnored(Event):
    """News of a task that no longer waits for it arrived and changed nothing (I20)."""

    kind: Literal["result_ignored"] = "result_ignored"
    task: TaskKind
    entity: str
    attempt: NonNegativeInt
    epoch: PositiveInt
    what: str

    @property
    def about(self) -> str:
        return self.entity
