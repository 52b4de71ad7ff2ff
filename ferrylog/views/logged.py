"""Log lines for what happens: every event on its level (A23)."""

from loguru import logger

from ferrylog.redact import redact
from ferrylog.views.chained import is_milestone
from ferrylog.views.fidelity import difference
from ferrylog.views.model import layout
from ferrylog.views.notes import note_on
from ferrylog.views.spans import size
from statemachine.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    CaptureInvalidated,
    CensusCompleted,
    ChunkDropped,
    ChunkReplaced,
    ConflictForeseen,
    DamageFound,
    DeadLettered,
    DocumentRejected,
    DumpInvalidated,
    FinishCompleted,
    IndexDropped,
    InDoubt,
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
    JobPaused,
    JobReopened,
    JobRequested,
    JobResumed,
    JobStopped,
    ManifestCompleted,
    MomentPassed,
    NamespacesAdded,
    PauseRequested,
    PlanCompleted,
    PriorityChanged,
    RequestRefused,
    Requeued,
    Resolved,
    ResultIgnored,
    RetryScheduled,
    RunStarted,
    SettingChanged,
    SettleCompleted,
    SplitRequested,
    StopRequested,
    SurveyCompleted,
    UnitCompleted,
    UnitExcluded,
    UnitSkipped,
    VerifyCompleted,
)


def log(event: AnyEvent) -> None:
    """A23: debug for the small steps, info for milestones, warning for retries, error for ends."""
    match event:
        case JobRequested():
            logger.info("job requested: {} {} → {} ({})", *_route(event))
        case RunStarted():
            logger.info("run started: epoch {}", event.epoch)
        case SurveyCompleted():
            _log_survey(event)
        case CensusCompleted() | PlanCompleted():
            _log_plan(event)
        case UnitCompleted():
            logger.info("{} completed", event.unit)
        case ManifestCompleted():
            logger.info("all is whole: {:,} documents, {}", event.documents, size(event.bytes))
        case InDoubt() | Resolved():
            logger.info("{} {}", event.kind, event.entity)
        case JobPaused() | JobStopped() | JobResumed() | JobExported() | JobImported():
            logger.info("{}", event.kind.replace("_", " "))
        case SettingChanged() | PriorityChanged() | NamespacesAdded() | Requeued() | JobReopened():
            logger.info("{}: {}", event.about, redact(note_on(event)))
        case UnitExcluded() | ChunkReplaced() | BreakerClosed() | AlertCleared():
            logger.info("{}: {}", event.about, redact(note_on(event)))
        case PauseRequested() | StopRequested() | RequestRefused() | BreakerOpened():
            logger.warning("{}: {}", event.about, redact(note_on(event)))
        case AlertRaised() | SplitRequested() | ConflictForeseen() | DumpInvalidated():
            logger.warning("{}: {}", event.about, redact(note_on(event)))
        case DamageFound() | MomentPassed() | CaptureInvalidated():
            logger.warning("{}", redact(note_on(event)))
        case RetryScheduled():
            logger.warning(
                "{} of {} failed (attempt {}), again in {:.1f} s: {} {}",
                event.task.kind,
                event.entity,
                event.attempt,
                event.delay_ms / 1000,
                event.code,
                redact(event.why),
            )
        case DocumentRejected():
            logger.warning("{} rejected {}: {}", event.chunk, event.key, event.code)
        case VerifyCompleted(equal=False):
            logger.error("{} differs between source and target", event.entity)
        case FinishCompleted() | SettleCompleted() if event.differing:
            _log_differing(event)
        case _ if is_milestone(event):
            logger.info("{}: {}", event.about, redact(note_on(event)))
        case DeadLettered():
            logger.error(
                "{} of {} given up: {} {}",
                event.task.kind,
                event.entity,
                event.code,
                redact(event.why),
            )
        case UnitSkipped() | JobFailed():
            logger.error("{}: {}", event.kind.replace("_", " "), redact(event.why))
        case ChunkDropped() | IndexDropped():
            logger.error("{}: {}", event.about, redact(note_on(event)))
        case JobCompleted():
            logger.info("job completed")
        case ResultIgnored():
            logger.debug("ignored: {} for {} {}", event.what, event.task, event.entity)
        case _:
            logger.debug("{} {}", event.kind, event.about)


def _log_plan(event: CensusCompleted | PlanCompleted) -> None:
    if isinstance(event, PlanCompleted):
        logger.info("{} planned: {} chunks", event.entity, event.chunks)
    else:
        logger.info("{}: its columns are known, of {:,} documents", event.entity, event.documents)


def _log_survey(event: SurveyCompleted) -> None:
    as_of = f", as of cluster time {event.cluster_time}" if event.cluster_time else ""
    logger.info("source surveyed: {} collections and views{}", event.units, as_of)
    for note in event.notes:
        logger.warning("{}", redact(note))


def _log_differing(event: FinishCompleted | SettleCompleted) -> None:
    for each in event.differing:
        logger.error("{} differs: {}", event.entity, redact(difference(each)))


def _route(event: JobRequested) -> tuple[str, str, str, str]:
    spec = event.spec
    return spec.kind, spec.source, spec.target, layout(spec) or spec.mode
