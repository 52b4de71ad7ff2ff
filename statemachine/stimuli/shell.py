"""What the shell tells the rules by itself: beginnings, moves, measurements, the time."""

from dataclasses import dataclass

from statemachine.events import (
    JobSpec,
    RunSettings,
)
from statemachine.words import (
    Alert,
    BatchCause,
    BsonText,
    OperationId,
    UnitId,
)


@dataclass(frozen=True, slots=True)
class JobAsked:
    """A new job is wanted."""

    by: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation of a group that is wanted; see `events.OperationPlanned`."""

    id: OperationId
    forward: BsonText
    compensation: BsonText
    wait_for: tuple[OperationId, ...] = ()
    rollback_wait_for: tuple[OperationId, ...] = ()
    target: str = ""
    tries: int = 3


@dataclass(frozen=True, slots=True)
class GroupAsked:
    """A new group of operations is wanted."""

    by: str
    spec: JobSpec
    operations: tuple[PlannedOperation, ...]


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A process took the job over, holding the journal's lease."""

    by: str
    host: str
    pid: int
    version: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class Gauge:
    """One measured value that may raise or clear an alert."""

    alert: Alert
    entity: str
    """`job`, or what it is about."""
    value: float
    limit: float
    """Above it the alert is raised; at most so much, it is cleared."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the shell measured: alerts of these kinds that are not among them are cleared."""

    gauges: tuple[Gauge, ...]


@dataclass(frozen=True, slots=True)
class Resized:
    """Write commands for the unit hold another number of documents than the journal last said."""

    unit: UnitId
    documents: int
    bytes: int
    cause: BatchCause
    batch_ms: int


@dataclass(frozen=True, slots=True)
class ExportAsked:
    """The job is to go on in another journal."""

    by: str
    host: str


@dataclass(frozen=True, slots=True)
class ImportAsked:
    """The job's history arrived in this journal, whole."""

    by: str
    host: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; capacity may be free, a retry may be due."""
