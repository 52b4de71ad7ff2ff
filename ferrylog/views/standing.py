"""Where an entity stands, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Final

from statemachine.events import (
    AnyEvent,
    JobFailed,
    JobSpec,
    PauseRequested,
    UnitCompleted,
    UnitSkipped,
    VerifyCompleted,
)
from statemachine.state import stages_of
from statemachine.transitions import JOB_TRANSITIONS
from statemachine.words import JobStatus, Status, TaskKind

DONE: Final = {
    TaskKind.SURVEY: "surveyed",
    TaskKind.CREATE: "created",
    TaskKind.PLAN: "planned",
    TaskKind.DUMP: "dumped",
    TaskKind.RESTORE: "restored",
    TaskKind.INDEX: "built",
    TaskKind.COPY: "copied",
    TaskKind.SPLIT: "split",
    TaskKind.VERIFY: "verified",
}
HOW: Final = {
    Status.PENDING: "It waits for its turn to be {done}.",
    Status.WAITING: "It waits to be {done} once more, after a failure.",
    Status.PROCESSING: "It is being {done}; the journal does not tell more yet.",
    Status.IN_DOUBT: "Whether it was {done} is in doubt.",
    Status.FAILED: "It was given up before it was {done}; `ferrylog resume` tries it again.",
}


def job_status(events: Sequence[AnyEvent]) -> JobStatus:
    """Of the job, from its own events."""
    status = JobStatus.PENDING
    for event in events:
        status = JOB_TRANSITIONS[status].get(event.kind, status)
    return status


def job_standing(events: Sequence[AnyEvent]) -> str:
    status = job_status(events)
    if status in (JobStatus.PAUSING, JobStatus.PAUSED):
        asked = [event for event in events if isinstance(event, PauseRequested)]
        return f"The job is {status}: {asked[-1].why}." if asked else f"The job is {status}."
    failed = [event for event in events if isinstance(event, JobFailed)]
    if failed:
        return f"The job has failed: {failed[-1].code}: {failed[-1].why}."
    if status is JobStatus.MOVED:
        return "The job has left this journal and goes on in another."
    if status is JobStatus.COMPLETED:
        return "The job is completed."
    return "The job is unfinished: no event tells of an end or a pause."


def unit_standing(events: Sequence[AnyEvent]) -> str:
    for event in events:
        if isinstance(event, UnitCompleted):
            return "It is finished."
        if isinstance(event, UnitSkipped):
            return f"The job went on without it: {event.why}."
    return "It is not finished."


def chunk_standing(
    spec: JobSpec, statuses: Mapping[TaskKind, Status], own: Sequence[AnyEvent]
) -> str:
    stages = stages_of(spec)
    for stage in stages:
        status = statuses.get(stage, Status.PENDING)
        if status is not Status.COMPLETED:
            return HOW[status].format(done=DONE[stage])
    *others, last = [DONE[stage] for stage in stages]
    text = f"{', '.join(others)} and {last}" if others else last
    verified = [event for event in own if isinstance(event, VerifyCompleted)]
    if verified and not verified[-1].equal:
        return f"It is finished ({text}), and source and target differ."
    return f"It is finished: {text}."


def index_standing(statuses: Mapping[TaskKind, Status]) -> str:
    status = statuses.get(TaskKind.INDEX, Status.PENDING)
    if status is Status.COMPLETED:
        return "It stands on the target."
    return HOW[status].format(done=DONE[TaskKind.INDEX])
