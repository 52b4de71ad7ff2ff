"""All events."""

from statemachine.events.control import (
    AlertCleared,
    AlertRaised,
    BreakerClosed,
    BreakerOpened,
    NamespacesAdded,
    PriorityChanged,
    RequestRefused,
    SettingChanged,
)
from statemachine.events.increments import (
    ApplyCompleted,
    ApplyProgressed,
    CaptureCompleted,
    CaptureInvalidated,
    CaptureProgressed,
    ChainAccepted,
    CutoverRequested,
    FollowCompleted,
    IncrementCompleted,
    IncrementStarted,
    MomentPassed,
    SettleCompleted,
    ShapeCompleted,
    ShardPlanned,
)
from statemachine.events.job import (
    JobCompleted,
    JobExported,
    JobFailed,
    JobImported,
    JobPaused,
    JobReopened,
    JobRequested,
    JobResumed,
    JobStopped,
    PauseRequested,
    ResultIgnored,
    RunStarted,
    StopRequested,
)
from statemachine.events.operations import (
    GroupCommitted,
    JobCommitted,
    JobRolledBack,
    OperationCompleted,
    OperationDropped,
    OperationPlanned,
    RollbackContinued,
    RollbackFailed,
    RollbackStarted,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.events.outcomes import (
    CensusCompleted,
    CopyCompleted,
    CopyProgressed,
    CreateCompleted,
    DumpCompleted,
    DumpInvalidated,
    FinishCompleted,
    IndexCompleted,
    ManifestCompleted,
    PlanCompleted,
    RestoreCompleted,
    RestoreProgressed,
    SplitCompleted,
    SurveyCompleted,
    SurveyInvalidated,
    VerifyCompleted,
)
from statemachine.events.tasks import (
    Cancelled,
    DeadLettered,
    InDoubt,
    Requeued,
    Resolved,
    RetryScheduled,
    Started,
)
from statemachine.events.units import (
    BatchResized,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    ConflictForeseen,
    DamageFound,
    DocumentRejected,
    DocumentsRepaired,
    FileFound,
    IndexDropped,
    SplitRequested,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
)

Completed = (
    SurveyCompleted
    | CreateCompleted
    | CensusCompleted
    | PlanCompleted
    | DumpCompleted
    | RestoreCompleted
    | CopyCompleted
    | SplitCompleted
    | IndexCompleted
    | VerifyCompleted
    | FinishCompleted
    | ManifestCompleted
    | CaptureCompleted
    | ShapeCompleted
    | ApplyCompleted
    | SettleCompleted
    | FollowCompleted
    | OperationCompleted
    | UndoCompleted
)


AnyEvent = (
    JobRequested
    | RunStarted
    | PauseRequested
    | JobPaused
    | StopRequested
    | JobStopped
    | JobReopened
    | JobResumed
    | JobCompleted
    | JobFailed
    | JobExported
    | JobImported
    | SettingChanged
    | PriorityChanged
    | NamespacesAdded
    | RequestRefused
    | BreakerOpened
    | BreakerClosed
    | AlertRaised
    | AlertCleared
    | ResultIgnored
    | UnitRegistered
    | ChunkPlanned
    | UnitCompleted
    | UnitSkipped
    | UnitExcluded
    | ConflictForeseen
    | FileFound
    | DamageFound
    | SplitRequested
    | ChunkReplaced
    | ChunkDropped
    | IndexDropped
    | ChunkReleased
    | ChunkKept
    | DocumentRejected
    | BatchResized
    | DocumentsRepaired
    | Started
    | RetryScheduled
    | DeadLettered
    | Cancelled
    | InDoubt
    | Resolved
    | Requeued
    | SurveyInvalidated
    | DumpInvalidated
    | RestoreProgressed
    | CopyProgressed
    | CaptureProgressed
    | CaptureInvalidated
    | MomentPassed
    | ChainAccepted
    | IncrementStarted
    | ShardPlanned
    | ApplyProgressed
    | IncrementCompleted
    | CutoverRequested
    | GroupCommitted
    | JobCommitted
    | JobRolledBack
    | OperationDropped
    | OperationPlanned
    | RollbackContinued
    | RollbackFailed
    | RollbackStarted
    | UndoPlanned
    | UndoSkipped
    | Completed
)
