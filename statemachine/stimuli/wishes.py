"""What operators ask of a job."""

from dataclasses import dataclass

from statemachine.state import Undo
from statemachine.words import (
    ChunkId,
    TaskKind,
    UnitId,
)


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """Nothing new is to start; `immediate`: what runs is to be cancelled."""

    by: str
    why: str
    request: int = 0
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked:
    by: str
    why: str
    request: int = 0
    immediate: bool = False
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class SetAsked:
    """A setting of the run is to change."""

    by: str
    name: str
    """A field of `RunSettings`."""
    value: int | str
    request: int = 0


@dataclass(frozen=True, slots=True)
class PriorityAsked:
    by: str
    entity: str
    """A unit or a chunk."""
    priority: int
    request: int = 0


@dataclass(frozen=True, slots=True)
class ExcludeAsked:
    by: str
    unit: UnitId
    request: int = 0


@dataclass(frozen=True, slots=True)
class AddAsked:
    """More of the source is to be carried."""

    by: str
    include: tuple[str, ...]
    request: int = 0


@dataclass(frozen=True, slots=True)
class SplitAsked:
    by: str
    chunk: ChunkId
    request: int = 0


@dataclass(frozen=True, slots=True)
class RequeueAsked:
    """A dead letter is to be tried again."""

    by: str
    entity: str
    """Of a task, or a chunk with rejected documents."""
    request: int = 0
    task: TaskKind | None = None
    """`None`: the chunk's rejected documents."""


@dataclass(frozen=True, slots=True)
class DropAsked:
    """The job is to go on without what a dead letter stands for."""

    by: str
    entity: str
    task: TaskKind
    request: int = 0


@dataclass(frozen=True, slots=True)
class CutoverAsked:
    """Following is to end."""

    by: str
    request: int = 0


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """What the job did is to be taken back; `undos`: all of that, in the order of undoing."""

    by: str
    why: str
    undos: tuple[Undo, ...]
    request: int = 0
    to: str = ""
    """Only what was started after this operation."""
    force: bool = False
    continue_on_error: bool = False


@dataclass(frozen=True, slots=True)
class CommitAsked:
    """Nobody is to take the job back any more."""

    by: str
    request: int = 0


Asked = (
    PauseAsked
    | StopAsked
    | SetAsked
    | PriorityAsked
    | ExcludeAsked
    | AddAsked
    | SplitAsked
    | RequeueAsked
    | DropAsked
    | CutoverAsked
    | RollbackAsked
    | CommitAsked
)
"""What operators ask of a job; each gets an answer in the journal."""
