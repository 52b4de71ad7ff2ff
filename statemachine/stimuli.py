"""What reaches the engine: outcomes of effects, requests of people, the passing of time."""

from dataclasses import dataclass
from typing import Literal

from statemachine.events import Difference, IndexSpec, JobSpec, RunSettings
from statemachine.words import BsonText, Cause, Key, TaskKey, UnitId


@dataclass(frozen=True, slots=True)
class JobAsked:
    """A new job is wanted."""

    by: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A process took the job over, holding the journal's lease."""

    by: str
    host: str
    pid: int
    version: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class PauseAsked:
    by: str
    why: str
    request: int = 0


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


# --- results: what a task that succeeded brings back ---


@dataclass(frozen=True, slots=True)
class FoundUnit:
    unit: UnitId
    target: str
    type: Literal["collection", "view"]
    uuid: str
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Surveyed:
    units: tuple[FoundUnit, ...]


@dataclass(frozen=True, slots=True)
class Created:
    built: tuple[str, ...]
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """`n` boundaries cut the `_id` space into `n + 1` chunks, in order."""

    boundaries: tuple[Key, ...]
    documents: int
    """Estimate over all chunks."""
    natural: bool


@dataclass(frozen=True, slots=True)
class Dumped:
    file: str
    documents: int
    bytes: int
    file_bytes: int
    blocks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Rejection:
    key: Key
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Restored:
    """How far a restore came, counted over all its attempts; `position` in the chunk file."""

    position: int
    documents: int
    bytes: int
    present: int
    rejected: int
    rejections: tuple[Rejection, ...] = ()
    """Those since the last news."""


@dataclass(frozen=True, slots=True)
class Built:
    """An index stands."""


@dataclass(frozen=True, slots=True)
class Verified:
    equal: bool
    source_documents: int
    target_documents: int
    source_digest: str
    target_digest: str
    rejected: int
    differing: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """A chunk file is gone."""


Result = Surveyed | Created | Planned | Dumped | Restored | Built | Verified | Released


# --- outcomes ---


@dataclass(frozen=True, slots=True)
class Succeeded:
    task: TaskKey
    attempt: int
    epoch: int
    result: Result


@dataclass(frozen=True, slots=True)
class Progressed:
    """Part of a restore is acknowledged; more follows."""

    task: TaskKey
    attempt: int
    epoch: int
    result: Restored


@dataclass(frozen=True, slots=True)
class Failed:
    """The world said no."""

    task: TaskKey
    attempt: int
    epoch: int
    cause: Cause
    code: str
    why: str
    jitter: float = 0.5
    """Drawn by the shell, in 0..1: the rules know no chance."""


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """A restore found its chunk file cut, changed or missing, before it wrote anything of it."""

    task: TaskKey
    attempt: int
    epoch: int
    why: str


Outcome = Succeeded | Failed | FileDamaged
Stimulus = (
    JobAsked | RunBegan | PauseAsked | ExportAsked | ImportAsked | Tick | Progressed | Outcome
)
