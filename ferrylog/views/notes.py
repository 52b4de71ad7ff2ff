"""One event in words: for happenings that are no attempt."""

from collections.abc import Mapping
from typing import Final

from ferrylog.clock import when
from ferrylog.views.chained import note_on_increments
from ferrylog.views.spans import size
from ferrylog.views.undone import note_on_operations
from statemachine.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    BatchResized,
    BreakerClosed,
    BreakerOpened,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    ConflictForeseen,
    DamageFound,
    DeadLettered,
    DocumentRejected,
    DocumentsRepaired,
    DumpInvalidated,
    FileFound,
    IndexDropped,
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
    JobPaused,
    JobReopened,
    JobRequested,
    JobResumed,
    JobStopped,
    NamespacesAdded,
    PauseRequested,
    PriorityChanged,
    RequestRefused,
    Requeued,
    ResultIgnored,
    RunStarted,
    SettingChanged,
    SplitRequested,
    StopRequested,
    SurveyInvalidated,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
)
from statemachine.policy import US
from statemachine.words import BatchCause

BATCH_CAUSES: Final[Mapping[BatchCause, str]] = {
    "learned": "that is what served in a job before",
    "faster": "the last took less time than they should",
    "slower": "the last took more time than they should",
    "throttled": "the server asked for less",
    "cache": "the server's cache is full",
    "memory": "memory is short",
    "set": "it was set so",
}


def note_on(event: AnyEvent, *, others: int = 0) -> str:
    """A sentence. `others`: how many more of its kind it stands for."""
    said = _of_the_job(event) or _of_its_conduct(event) or _of_a_dump(event, others)
    said = said or note_on_increments(event) or note_on_operations(event)
    return said or _of_its_parts(event, others) or f"{event.kind}."


def _of_the_job(event: AnyEvent) -> str:  # noqa: C901, PLR0912 — an arm per event
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
        case PauseRequested() | StopRequested():
            return _asked_to_rest(event)
        case JobPaused():
            return "The pause was reached: nothing runs any more."
        case JobStopped():
            return "The stop was reached: nothing runs any more."
        case JobResumed():
            return f"{event.by} asked to go on."
        case JobReopened():
            return f"{event.by} requeued a dead letter after the end: there is work again."
        case JobExported():
            return f"{event.by} let the job leave this journal, on host {event.host}."
        case JobImported():
            return f"{event.by} let the job into this journal, on host {event.host}."
        case JobCompleted():
            return (
                f"The job ended: {event.rejected:,} documents rejected, "
                f"{event.dead_letters:,} tasks given up, {event.mismatched:,} chunks, options or "
                f"indexes that differ, {event.damaged:,} places of a dump that cannot be read."
            )
        case JobFailed():
            return f"The job failed: {event.code}: {event.why}."
        case _:
            return ""


def _asked_to_rest(event: PauseRequested | StopRequested) -> str:
    what = "a pause" if isinstance(event, PauseRequested) else "a stop"
    how = ", at once: what runs is cancelled" if event.immediate else ""
    undone = ", and what the job created to be undone" if _rolls_back(event) else ""
    return f"{event.by} asked for {what}{how}{undone}: {event.why}."


def _rolls_back(event: PauseRequested | StopRequested) -> bool:
    return isinstance(event, StopRequested) and event.rollback


def _of_its_conduct(event: AnyEvent) -> str:
    """How it runs: what operators changed, and what protects it."""
    match event:
        case SettingChanged():
            return f"{event.by} set {event.name} from {event.was} to {event.value}."
        case PriorityChanged():
            return (
                f"{event.by} gave {event.entity} the priority {event.priority} "
                f"instead of {event.was}: the higher goes first."
            )
        case NamespacesAdded():
            return f"{event.by} wants more of the source carried: {', '.join(event.include)}."
        case SurveyInvalidated():
            return f"The source has to be surveyed again: {event.why}."
        case RequestRefused():
            return f"{event.by} asked for a {event.verb}, which was refused: {event.why}."
        case BreakerOpened():
            return (
                f"After {event.failures} failure{'s' * (event.failures > 1)} in a row nothing of "
                f"the {event.pool} pool starts before {when(event.until_ms)}, "
                f"then one task probes: {event.why}."
            )
        case BreakerClosed():
            return f"Something of the {event.pool} pool succeeded: it works as before."
        case AlertRaised():
            return (
                f"Alert {event.alert}: {event.value:g}, above the limit of {event.limit:g}"
                f"{': ' if event.why else ''}{event.why}."
            )
        case AlertCleared():
            return f"The alert {event.alert} is over: {event.value:g}."
        case BatchResized():
            was = f" instead of {event.was_documents:,}" if event.was_documents else ""
            return (
                f"Write commands hold {event.documents:,} documents, {size(event.bytes)} at most"
                f"{was}: {BATCH_CAUSES[event.cause]}."
            )
        case ResultIgnored():
            return (
                f"News of {event.task} attempt {event.attempt} came too late or twice and changed "
                f"nothing: {event.what}."
            )
        case _:
            return ""


def _of_a_dump(event: AnyEvent, others: int) -> str:
    match event:
        case FileFound():
            return (
                f"Its documents lie in {event.file} from byte {event.at:,} on: "
                f"{event.documents:,} documents, {size(event.bytes)}, in {event.file_bytes:,} "
                f"bytes of SHA-256 {event.sha256}."
            )
        case DamageFound():
            more = f"; and {others:,} more such places" if others else ""
            return (
                f"{event.file}, offset {event.at:,}: {event.bytes:,} bytes cannot be read and were "
                f"passed over: {event.code}: {event.why}{more}."
            )
        case DocumentsRepaired():
            return (
                f"{event.documents:,} documents have an empty timestamp, which the target filled "
                "in: it was put back."
            )
        case _:
            return ""


def _of_its_parts(event: AnyEvent, others: int) -> str:  # noqa: C901, PLR0912 — an arm per event
    match event:
        case UnitRegistered():
            return (
                f"Found: a {event.type} of {_about(event)} with {len(event.indexes)} indexes "
                "beside the one on _id."
            )
        case ChunkPlanned():
            return "The key range was fixed."
        case UnitCompleted():
            return "All of its chunks are settled and every index was tried: it is finished."
        case UnitSkipped():
            return f"The job goes on without it: {event.why}."
        case UnitExcluded():
            return f"{event.by} took it out of the job; what the target has of it stays there."
        case ConflictForeseen():
            return f"The dry run foresees {event.code}: {event.why}."
        case SplitRequested(by=by) if by == US:
            return f"Something in it fails, so it is to be cut in two: {event.why}."
        case SplitRequested():
            return f"{event.by} asked for it to be cut in two."
        case ChunkReplaced(why="split"):
            return "It was cut, and its parts took its place."
        case ChunkReplaced():
            return (
                f"{event.by} had it carried again, as a new chunk of the same range: {event.why}."
            )
        case ChunkDropped():
            return (
                f"{event.by} left it out: the job goes on without about {event.documents:,} of "
                f"its documents: {event.why}."
            )
        case IndexDropped():
            return f"{event.by} let the job go on without it."
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
        case _:
            return ""


def _about(event: UnitRegistered) -> str:
    """A dump that was not counted tells the size of its file."""
    if event.bytes and not event.documents:
        return size(event.bytes)
    return f"about {event.documents:,} documents"
