"""What is to be undone, read from a job's history: all that was started, in the reverse order.

An operation is a task whose kind changes a target. Whatever became of it, it may have had an
effect once it was started; so all that were are undone, each once (I37, I38). A state forgets what
is settled; the history does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from statemachine.events import (
    AnyEvent,
    ChunkPlanned,
    DumpCompleted,
    FileFound,
    JobImported,
    Started,
    TaskEvent,
    UndoCompleted,
    UndoSkipped,
    VerifyCompleted,
)
from statemachine.state import ChunkFile, Undo
from statemachine.words import ChunkId, TaskKey, TaskKind, Verb, undo_task, unit_of

OPERATIONS: Final = frozenset(
    {
        TaskKind.CREATE,
        TaskKind.RESTORE,
        TaskKind.COPY,
        TaskKind.INDEX,
        TaskKind.FINISH,
        TaskKind.SHAPE,
        TaskKind.APPLY,
        TaskKind.SETTLE,
        TaskKind.FOLLOW,
        TaskKind.OPERATION,
    }
)
"""Task kinds that change a target."""
CARRY: Final = (TaskKind.RESTORE, TaskKind.COPY)


@dataclass(slots=True)
class _Carried:
    """What the history tells of one chunk."""

    planned: ChunkPlanned | None = None
    file: ChunkFile | None = None
    documents: int = 0
    digest: str = ""


@dataclass(slots=True)
class _Told:
    began: dict[TaskKey, None] = field(default_factory=dict)
    """Operations in the order of their first start."""
    acknowledged: set[TaskKey] = field(default_factory=set)
    """Of them, those that told something of what they did, or may have where they ran."""
    undone: set[str] = field(default_factory=set)
    chunks: dict[str, _Carried] = field(default_factory=dict)


def undo_plan(history: Iterable[AnyEvent], to: str = "") -> tuple[Undo, ...]:
    """Undos in the order of undoing; `to`: only of what was started after this operation, an
    entity or `<task kind> <entity>`. Raises `ValueError` when that was never started."""
    told = _Told()
    for event in history:
        _hear(told, event)
    began = list(told.began)
    if to:
        last = [n for n, key in enumerate(began) if to in (key.entity, f"{key.kind} {key.entity}")]
        if not last:
            raise ValueError(f"{to} was never started")
        began = began[last[-1] + 1 :]
    wanted = [key for key in reversed(began) if undo_task(*key).entity not in told.undone]
    return tuple(_undo(told, number, key) for number, key in enumerate(wanted, 1))


def _hear(told: _Told, event: AnyEvent) -> None:
    if isinstance(event, TaskEvent) and event.verb in (Verb.PROGRESSED, Verb.COMPLETED):
        told.acknowledged.add(event.task)
    match event:
        case Started() if event.task.kind in OPERATIONS:
            told.began.setdefault(event.task)
        case ChunkPlanned():
            _chunk(told, event.chunk).planned = event
        case FileFound():
            _chunk(told, event.chunk).file = ChunkFile(
                event.file,
                event.documents,
                event.bytes,
                event.file_bytes,
                event.sha256,
                event.at,
                event.place,
            )
        case DumpCompleted():
            _chunk(told, event.entity).file = ChunkFile(
                event.file, event.documents, event.bytes, event.file_bytes, event.sha256
            )
        case VerifyCompleted() if event.equal:
            chunk = _chunk(told, event.entity)
            chunk.documents, chunk.digest = event.target_documents, event.target_digest
        case UndoCompleted() | UndoSkipped():
            told.undone.add(event.entity)
        case JobImported():  # their logs lie where they ran: that none is here tells nothing
            told.acknowledged.update(told.began)


def _chunk(told: _Told, chunk: str) -> _Carried:
    return told.chunks.setdefault(chunk, _Carried())


def _undo(told: _Told, number: int, key: TaskKey) -> Undo:
    undo = Undo(number, key.kind, key.entity, unit_of(key), acknowledged=key in told.acknowledged)
    if key.kind not in CARRY:
        return undo
    carried = told.chunks.get(key.entity, _Carried())
    undo = replace(
        undo,
        chunk=ChunkId(key.entity),
        file=carried.file,
        documents=carried.documents,
        digest=carried.digest,
    )
    planned = carried.planned
    if planned is None:
        return undo
    return replace(undo, lower=planned.lower, upper=planned.upper, natural=planned.natural)
