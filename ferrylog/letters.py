"""Dead letters: what was given up, refused or left out, and how to ask for it again.

The id of a dead letter is the `seq` of the event that tells of it, over all jobs of a journal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from journal import audit
from journal.audit import Wanted
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from statemachine.events import (
    ChunkDropped,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    DumpInvalidated,
    Resolved,
    Started,
)
from statemachine.state import Chunk, State
from statemachine.stimuli import DropAsked, RequeueAsked
from statemachine.words import ChunkId, JobId, Key, Status, TaskKey, TaskKind, UnitId, unit_of

Level = Literal["job", "unit", "chunk", "document", "index"]
LEVELS: Final[dict[TaskKind, Level]] = {
    TaskKind.SURVEY: "job",
    TaskKind.CREATE: "unit",
    TaskKind.PLAN: "unit",
    TaskKind.INDEX: "index",
    TaskKind.FINISH: "unit",
    TaskKind.MANIFEST: "job",
}
"""Of a task that was given up; of all others: chunk."""
CARRYING: Final = (TaskKind.RESTORE, TaskKind.COPY)


class NoDeadLetter(OperatorError):
    """Nothing that was ever given up has this id."""

    code, exit_code = "EDEAD001", 2

    def __init__(self, number: int, why: str) -> None:
        super().__init__(
            f"{number} is no dead letter: {why}", remedy="`ferrylog dead-letters list` names them"
        )


class NotDead(OperatorError):
    """It was a dead letter once."""

    code, exit_code = "EDEAD002", 2

    def __init__(self, number: int, what: str) -> None:
        super().__init__(
            f"{number} ({what}) is not dead any more: it was requeued, dropped or carried since",
            remedy="`ferrylog dead-letters list` names those that are",
        )


class NotDroppable(OperatorError):
    """The job goes on without it in any case, or cannot."""

    code, exit_code = "EDEAD003", 2

    def __init__(self, number: int, why: str, remedy: str) -> None:
        super().__init__(f"{number} cannot be dropped: {why}", remedy=remedy)


@dataclass(frozen=True, slots=True)
class Letter:
    """One of them."""

    id: int
    at_ms: int
    level: Level
    entity: str
    """Of its task; the chunk of a document."""
    unit: UnitId | None
    code: str
    why: str
    attempts: int
    task: TaskKind | None = None
    """What was given up; `None`: the chunk is settled, without a document or without all."""
    key: Key | None = None
    """Of a document: its `_id`."""
    dropped: bool = False
    """Left out for good, unless somebody requeues it."""

    @property
    def chunk(self) -> ChunkId:
        """Of a chunk or a document."""
        return ChunkId(self.entity)

    @property
    def droppable(self) -> bool:
        return self.task is not None and self.level not in ("job", "unit")

    def requeue(self, by: str) -> RequeueAsked:
        return RequeueAsked(by, self.entity, task=self.task)

    def drop(self, by: str) -> DropAsked:
        """Raises `NotDroppable`."""
        if self.task in (None, TaskKind.FINISH):
            why = "it was dropped already" if self.dropped else "the job goes on without it anyway"
            raise NotDroppable(self.id, why, "nothing has to be done")
        if self.level in ("job", "unit"):
            raise NotDroppable(
                self.id,
                f"the job cannot go on without this of {self.entity}",
                "exclude the unit: `ferrylog set JOB exclude=NAMESPACE`; or requeue it",
            )
        return DropAsked(by, self.entity, self.task)


def letters(journal: SqliteJournal, job: JobId, state: State) -> list[Letter]:
    """All that are dead now, by id. Raises `DamagedJournal`."""
    found = [*_given_up(journal, job, state)]
    for chunk in state.flawed.values():
        found += _left_out(journal, job, chunk)
    return sorted(found, key=lambda letter: letter.id)


def letter(journal: SqliteJournal, job: JobId, state: State, number: int) -> Letter:
    """The one with this id. Raises `NoDeadLetter`, `NotDead` and `DamagedJournal`."""
    recorded = _event(journal, job, number)
    event = recorded.event
    known = (
        _given_up(journal, job, state, event.entity)
        if isinstance(event, DeadLettered)
        else _left_out(journal, job, state.flawed[event.chunk])
        if isinstance(event, DocumentRejected | ChunkDropped) and event.chunk in state.flawed
        else ()
    )
    for each in known:
        if each.id == number:
            return each
    raise NotDead(number, f"{event.kind} of {event.about}")


def _event(journal: SqliteJournal, job: JobId, number: int) -> Recorded:
    for recorded in audit.find(journal, Wanted(job, after=number - 1, until=number)):
        if isinstance(recorded.event, DeadLettered | DocumentRejected | ChunkDropped):
            return recorded
        raise NoDeadLetter(number, f"it is {recorded.event.kind} of {recorded.event.about}")
    raise NoDeadLetter(number, f"events are numbered from 1 to {journal.last_seq()}")


def job_of(journal: SqliteJournal, number: int) -> JobId:
    """The job whose event has this number. Raises `NoDeadLetter`."""
    rows = journal.query("SELECT job FROM events WHERE seq = ?", (min(number, 2**62),))
    if not rows:
        raise NoDeadLetter(number, f"events are numbered from 1 to {journal.last_seq()}")
    return JobId(str(rows[0][0]))


def _given_up(
    journal: SqliteJournal, job: JobId, state: State, entity: str | None = None
) -> Iterator[Letter]:
    """Tasks that have failed for good; those of one entity only."""
    failed = (
        key
        for (_, status, _), queue in state.queues.items()
        if status is Status.FAILED
        for key in queue
        if entity in (None, key.entity)
    )
    for key in failed:
        wanted = Wanted(job, entity=key.entity, kind=f"{key.kind}_dead_lettered")
        for recorded in audit.find(journal, wanted, tail=1):
            assert isinstance(recorded.event, DeadLettered)
            yield _of_task(key, recorded, recorded.event)


def _of_task(key: TaskKey, recorded: Recorded, event: DeadLettered) -> Letter:
    return Letter(
        id=recorded.seq,
        at_ms=recorded.recorded_at_ms,
        level=LEVELS.get(key.kind, "chunk"),
        entity=key.entity,
        unit=unit_of(key),
        code=event.code,
        why=event.why,
        attempts=event.attempt,
        task=key.kind,
    )


def _left_out(journal: SqliteJournal, job: JobId, chunk: Chunk) -> list[Letter]:
    """The documents that were rejected since the chunk was last begun from nothing, and the chunk
    itself where it was dropped."""
    found = list[Letter]()
    attempts, dumped, code = 0, 0, ""
    for recorded in audit.find(journal, Wanted(job, entity=chunk.id, type="chunk")):
        match recorded.event:
            case Started() as event if event.task.kind in (*CARRYING, TaskKind.DUMP):
                attempts = event.attempt
            case DumpInvalidated():
                found.clear()
                dumped = 0
            case DumpCompleted():
                dumped = len(found)
            case Resolved(decision="discard") as event if event.task.kind in CARRYING:
                del found[dumped:]  # of a verification, it says nothing of what the target holds
            case DeadLettered() as event:
                code, attempts = event.code, event.attempt
            case DocumentRejected() as event:
                found.append(_of_document(chunk, recorded, event, attempts))
            case ChunkDropped() as event:
                found.append(_of_chunk(chunk, recorded, event, code, attempts))
            case _:
                pass
    last = {letter.key: letter for letter in found}  # refused once more by a later attempt
    return list(last.values())


def _of_document(
    chunk: Chunk, recorded: Recorded, event: DocumentRejected, attempts: int
) -> Letter:
    return Letter(
        id=recorded.seq,
        at_ms=recorded.recorded_at_ms,
        level="document",
        entity=chunk.id,
        unit=chunk.unit,
        code=event.code,
        why=event.why,
        attempts=attempts,
        key=event.key,
    )


def _of_chunk(
    chunk: Chunk, recorded: Recorded, event: ChunkDropped, code: str, attempts: int
) -> Letter:
    return Letter(
        id=recorded.seq,
        at_ms=recorded.recorded_at_ms,
        level="chunk",
        entity=chunk.id,
        unit=chunk.unit,
        code=code,
        why=event.why,
        attempts=attempts,
        dropped=True,
    )
