"""One event in words: for happenings that are no attempt."""

from statemachine.events import (
    AnyEvent,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    DeadLettered,
    DocumentRejected,
    DumpInvalidated,
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
    JobPaused,
    JobRequested,
    JobResumed,
    PauseRequested,
    Requeued,
    ResultIgnored,
    RunStarted,
    UnitCompleted,
    UnitRegistered,
    UnitSkipped,
)


def note_on(event: AnyEvent, *, others: int = 0) -> str:  # noqa: C901, PLR0912 — an arm per event
    """A sentence. `others`: how many more of its kind it stands for."""
    match event:
        case JobRequested():
            return f"{event.by} asked for this job."
        case RunStarted():
            return (
                f"Run {event.epoch} began: {event.by}, on host {event.host}, process {event.pid}, "
                f"ferrylog {event.version}."
            )
        case PauseRequested(by="ferrylog"):
            return f"ferrylog paused the job by itself: {event.why}."
        case PauseRequested():
            return f"{event.by} asked for a pause: {event.why}."
        case JobPaused():
            return "The pause was reached: nothing runs any more."
        case JobResumed():
            return f"{event.by} asked to go on."
        case JobExported():
            return f"{event.by} let the job leave this journal, on host {event.host}."
        case JobImported():
            return f"{event.by} let the job into this journal, on host {event.host}."
        case JobCompleted():
            return (
                f"The job ended: {event.rejected} documents rejected, "
                f"{event.dead_letters} tasks given up, {event.mismatched} chunks that differ."
            )
        case JobFailed():
            return f"The job failed: {event.code}: {event.why}."
        case UnitRegistered():
            return (
                f"Found on the source: a {event.type} of about {event.documents:,} documents "
                f"with {len(event.indexes)} indexes beside the one on _id."
            )
        case ChunkPlanned():
            return "The key range was fixed."
        case UnitCompleted():
            return "All of its chunks are settled and every index was tried: it is finished."
        case UnitSkipped():
            return f"The job goes on without it: {event.why}."
        case ChunkReleased():
            return "Its chunk file is no longer needed and was removed."
        case ChunkKept():
            return f"Its chunk file stays in the work folder: {event.why}."
        case DocumentRejected():
            more = f"; and {others:,} more" if others else ""
            return f"A document was rejected: _id {event.key}: {event.code}: {event.why}{more}."
        case DumpInvalidated():
            return f"The chunk file was damaged or gone: {event.why}. It has to be dumped again."
        case DeadLettered():
            return (
                f"The {event.task.kind} was given up without a new attempt: "
                f"{event.code}: {event.why}."
            )
        case Requeued():
            return (
                f"{event.by} asked for the {event.task.kind} to be tried again, with a fresh "
                "number of attempts."
            )
        case ResultIgnored():
            return (
                f"News of {event.task} attempt {event.attempt} came too late or twice and changed "
                f"nothing: {event.what}."
            )
        case _:
            return f"{event.kind}."
