"""Which arm folds which event."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from statemachine.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    Cancelled,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    ConflictForeseen,
    CopyCompleted,
    CopyProgressed,
    CreateCompleted,
    DamageFound,
    DeadLettered,
    DocumentRejected,
    DocumentsRepaired,
    DumpCompleted,
    DumpInvalidated,
    Event,
    FileFound,
    FinishCompleted,
    IndexCompleted,
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
    NamespacesAdded,
    PauseRequested,
    PlanCompleted,
    PriorityChanged,
    RequestRefused,
    Requeued,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    ResultIgnored,
    RetryScheduled,
    RunStarted,
    SettingChanged,
    SplitCompleted,
    SplitRequested,
    Started,
    StopRequested,
    SurveyCompleted,
    SurveyInvalidated,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
    VerifyCompleted,
)
from statemachine.evolve.control import (
    alert_cleared,
    alert_raised,
    breaker_closed,
    breaker_opened,
    namespaces_added,
    priority_changed,
    request_refused,
    setting_changed,
    survey_invalidated,
)
from statemachine.evolve.hands import told
from statemachine.evolve.job import (
    job_exported,
    job_failed,
    job_imported,
    job_moved_on,
    job_reopened,
    job_requested,
    job_resumed,
    pause_requested,
    run_started,
)
from statemachine.evolve.outcomes import (
    carried,
    completed,
    create_completed,
    dump_completed,
    dump_invalidated,
    finish_completed,
    plan_completed,
    progressed,
    survey_completed,
    verify_completed,
)
from statemachine.evolve.replacing import (
    chunk_dropped,
    chunk_planned,
    chunk_replaced,
    documents_repaired,
    file_decided,
    file_found,
    split_requested,
)
from statemachine.evolve.tasks import (
    cancelled,
    dead_lettered,
    in_doubt,
    requeued,
    resolved,
    retry_scheduled,
    started,
)
from statemachine.evolve.units import (
    damage_found,
    index_dropped,
    unit_completed,
    unit_left,
    unit_registered,
)
from statemachine.state import State


def fold(events: Iterable[AnyEvent], state: State | None = None) -> State:
    """The state after these events. A `state` given is consumed: use what is returned."""
    state = state if state is not None else State()
    for event in events:
        evolve(state, event)
    return state


def evolve(state: State, event: AnyEvent) -> None:
    """Change `state` by one fact.

    Raises `ImpossibleTransition` or `UnknownEntity` for an event that cannot follow what
    `state` already holds; no event that the tables refuse has changed anything then.
    """
    ARMS[type(event)](state, event)


ARMS: Final[Mapping[type[Event], Callable[[State, Any], None]]] = {
    JobRequested: job_requested,
    RunStarted: run_started,
    PauseRequested: pause_requested,
    JobPaused: job_moved_on,
    StopRequested: pause_requested,
    JobStopped: job_moved_on,
    JobReopened: job_reopened,
    JobResumed: job_resumed,
    JobCompleted: job_moved_on,
    JobFailed: job_failed,
    JobExported: job_exported,
    JobImported: job_imported,
    SettingChanged: setting_changed,
    PriorityChanged: priority_changed,
    NamespacesAdded: namespaces_added,
    RequestRefused: request_refused,
    BreakerOpened: breaker_opened,
    BreakerClosed: breaker_closed,
    AlertRaised: alert_raised,
    AlertCleared: alert_cleared,
    ResultIgnored: told,
    UnitRegistered: unit_registered,
    UnitCompleted: unit_completed,
    UnitSkipped: unit_left,
    UnitExcluded: unit_left,
    ConflictForeseen: told,
    FileFound: file_found,
    DamageFound: damage_found,
    SplitRequested: split_requested,
    ChunkReplaced: chunk_replaced,
    ChunkDropped: chunk_dropped,
    IndexDropped: index_dropped,
    ChunkPlanned: chunk_planned,
    ChunkReleased: file_decided,
    ChunkKept: file_decided,
    DocumentRejected: told,
    DocumentsRepaired: documents_repaired,
    Started: started,
    RetryScheduled: retry_scheduled,
    DeadLettered: dead_lettered,
    Cancelled: cancelled,
    InDoubt: in_doubt,
    Resolved: resolved,
    Requeued: requeued,
    SurveyCompleted: survey_completed,
    CreateCompleted: create_completed,
    PlanCompleted: plan_completed,
    DumpCompleted: dump_completed,
    DumpInvalidated: dump_invalidated,
    SurveyInvalidated: survey_invalidated,
    RestoreProgressed: progressed,
    RestoreCompleted: carried,
    CopyProgressed: progressed,
    CopyCompleted: carried,
    SplitCompleted: completed,
    IndexCompleted: completed,
    VerifyCompleted: verify_completed,
    FinishCompleted: finish_completed,
    ManifestCompleted: completed,
}
"""What each event does to a state. A test holds that every event has its arm."""
