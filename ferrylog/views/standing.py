"""Where an entity stands, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Final

from ferrylog.clock import when
from statemachine.events import (
    AnyEvent,
    BreakerOpened,
    ChunkDropped,
    FinishCompleted,
    IndexDropped,
    JobFailed,
    JobImported,
    JobReopened,
    JobSpec,
    PauseRequested,
    StopRequested,
    UnitCompleted,
    UnitExcluded,
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
    TaskKind.FINISH: "finished",
    TaskKind.MANIFEST: "made whole",
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
    if status in HELD:
        return f"The job is {status}{_why_held(events)}."
    failed = [event for event in events if isinstance(event, JobFailed)]
    if failed:
        return f"The job has failed: {failed[-1].code}: {failed[-1].why}."
    if status is JobStatus.MOVED:
        return "The job has left this journal and goes on in another."
    if status is JobStatus.COMPLETED:
        return "The job is completed."
    if status in BACK:
        return BACK[status]
    return "The job is unfinished: no event tells of an end or a pause."


BACK: Final = {
    JobStatus.ROLLING_BACK: "What the job did is being taken back.",
    JobStatus.ROLLBACK_PAUSED: "Its rollback rests: `ferrylog rollback` goes on with it.",
    JobStatus.ROLLBACK_FAILED: "Its rollback stopped at an undo that failed: when the cause is "
    "removed, `ferrylog rollback` goes on with it.",
    JobStatus.ROLLED_BACK: "What the job did is taken back.",
}
HELD: Final = (JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.STOPPING, JobStatus.STOPPED)


def _why_held(events: Sequence[AnyEvent]) -> str:
    for event in reversed(events):
        match event:
            case PauseRequested() | StopRequested():
                return f": {event.why}"
            case JobReopened():
                return f": {event.by} requeued a dead letter after its end"
            case JobImported():
                return f": {event.by} let it into this journal"
            case _:
                pass
    return ""


def unit_standing(
    events: Sequence[AnyEvent], *, reopened: bool = False, own: Sequence[AnyEvent] = ()
) -> str:
    """`reopened`: a chunk of it is carried again since it was finished. `own`: all its events."""
    for event in events:
        match event:
            case UnitCompleted() if reopened:
                return "It was finished, and a part of it is carried again."
            case UnitCompleted():
                return f"It is finished{_described(own)}."
            case UnitSkipped():
                return f"The job went on without it: {event.why}."
            case UnitExcluded():
                return f"{event.by} took it out of the job."
            case _:
                pass
    return "It is not finished."


def _described(own: Sequence[AnyEvent]) -> str:
    finished = [event for event in own if isinstance(event, FinishCompleted)]
    if not finished or not finished[-1].differing:
        return ""
    what = ", ".join(each.what for each in finished[-1].differing)
    return f", and source and target are described differently: {what}"


def chunk_standing(
    spec: JobSpec,
    statuses: Mapping[TaskKind, Status],
    own: Sequence[AnyEvent],
    parts: Sequence[str] = (),
) -> str:
    """`parts`: the chunks that took its place."""
    if parts:
        took = "took its place" if len(parts) > 1 else "took its place: the same range once more"
        return f"It is no more: {' and '.join(parts)} {took}."
    dropped = [event for event in own if isinstance(event, ChunkDropped)]
    if dropped:
        return f"The job goes on without it: {dropped[-1].why}."
    split = statuses.get(TaskKind.SPLIT)
    if split is not None:
        return HOW[split].format(done=DONE[TaskKind.SPLIT])
    stages = stages_of(spec)
    for stage in stages:
        status = statuses.get(stage, Status.PENDING)
        if status is not Status.COMPLETED:
            return HOW[status].format(done=DONE[stage])
    if not stages:
        return "It is planned: a dry run does no more with it."
    *others, last = [DONE[stage] for stage in stages]
    text = f"{', '.join(others)} and {last}" if others else last
    verified = [event for event in own if isinstance(event, VerifyCompleted)]
    if verified and not verified[-1].equal:
        return f"It is finished ({text}), and source and target differ."
    return f"It is finished: {text}."


def index_standing(statuses: Mapping[TaskKind, Status], own: Sequence[AnyEvent] = ()) -> str:
    if own and isinstance(own[-1], IndexDropped):
        return f"{own[-1].by} let the job go on without it."
    status = statuses.get(TaskKind.INDEX, Status.PENDING)
    if status is Status.COMPLETED:
        return "It stands on the target."
    return HOW[status].format(done=DONE[TaskKind.INDEX])


def pool_standing(own: Sequence[AnyEvent]) -> str:
    if own and isinstance(own[-1], BreakerOpened):
        return f"Nothing of it starts before {when(own[-1].until_ms)}; then one task probes."
    return "It works."
