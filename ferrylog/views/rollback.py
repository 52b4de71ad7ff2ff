"""A rollback on one screen: what is to be undone, in which order, and what became of it."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

from pydantic import Field

from ferrylog.redact import one_line
from ferrylog.views.shapes import Report
from statemachine.events import (
    AnyEvent,
    DeadLettered,
    JobRolledBack,
    RollbackFailed,
    RollbackStarted,
    Started,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.state import Undo
from statemachine.undoing import OPERATIONS
from statemachine.words import TaskKind

Standing = Literal["planned", "running", "undone", "skipped", "failed"]


class UndoLine(Report):
    number: int
    operation: str
    """Task kind and entity of what is undone."""
    status: Standing
    documents: int
    kept: int
    changes: tuple[str, ...]
    why: str
    """Of a failure, or of being skipped."""


class RollbackReport(Report):
    schema_: Literal["ferrylog.rollback/1"] = Field("ferrylog.rollback/1", alias="schema")
    job: str
    status: Literal["none", "planned", "running", "failed", "rolled_back"]
    to: str
    undos: tuple[UndoLine, ...]
    undone: int
    skipped: int
    kept: int
    order: tuple[str, ...]
    """What is wrong with the order or the number of the undos; nothing when they are the exact
    reverse of the starts, each once."""


def foretold(
    job: str, undos: Iterable[Undo], to: str, told: dict[str, tuple[str, ...]]
) -> RollbackReport:
    """What a rollback would do; `told`: by operation, in words."""
    lines = []
    for undo in undos:
        name = f"{undo.task} {undo.entity}"
        lines.append(_line(undo.number, name, changes=told.get(name, ())))
    return _report(job, "planned", to, lines, ())


def rollback_report(job: str, history: Iterable[AnyEvent]) -> RollbackReport:
    """Of all rollbacks of the job, the newest last."""
    told = _Told()
    for event in history:
        told.hear(event)
    return _report(job, told.status, told.to, list(told.lines.values()), tuple(told.wrong()))


def _report(
    job: str, status: str, to: str, lines: list[UndoLine], order: tuple[str, ...]
) -> RollbackReport:
    return RollbackReport.model_validate(
        {
            "job": job,
            "status": status,
            "to": to,
            "undos": tuple(lines),
            "undone": sum(line.status == "undone" for line in lines),
            "skipped": sum(line.status == "skipped" for line in lines),
            "kept": sum(line.kept for line in lines),
            "order": order,
        }
    )


def _line(number: int, operation: str, *, changes: tuple[str, ...] = ()) -> UndoLine:
    return UndoLine(
        number=number,
        operation=operation,
        status="planned",
        documents=0,
        kept=0,
        changes=changes,
        why="",
    )


class _Told:
    """Reads a history. Its own account of order shares nothing with the plan's."""

    def __init__(self) -> None:
        self.status = "none"
        self.to = ""
        self.lines: dict[str, UndoLine] = {}
        self._starts: dict[str, int] = {}
        self._undone: list[tuple[str, ...]] = [()]
        """Of each rollback, what was undone, in order."""

    def hear(self, event: AnyEvent) -> None:
        match event:
            case Started() if event.task.kind in OPERATIONS:
                self._starts.setdefault(f"{event.task.kind} {event.entity}", len(self._starts))
            case Started() if event.task.kind is TaskKind.UNDO:
                self._change(event.entity, status="running")
            case UndoPlanned():
                self.lines[event.about] = _line(event.number, event.about)
            case RollbackStarted():
                self.status, self.to = "running", event.to
                self._undone.append(())
            case UndoCompleted():
                self._undone[-1] += (event.entity,)
                told = {"documents": event.documents, "kept": event.kept, "changes": event.changes}
                self._change(event.entity, status="undone", why="", **told)
            case UndoSkipped():
                self._change(event.entity, status="skipped", why=event.why)
            case DeadLettered() if event.task.kind is TaskKind.UNDO:
                self._change(event.entity, status="failed", why=f"{event.code}: {event.why}")
            case RollbackFailed():
                self.status = "failed"
            case JobRolledBack():
                self.status = "rolled_back"

    def _change(self, entity: str, **fields: object) -> None:
        if entity in self.lines:
            self.lines[entity] = self.lines[entity].model_copy(update=fields)

    def wrong(self) -> Iterator[str]:
        every = [entity for undone in self._undone for entity in undone]
        for entity in sorted({each for each in every if every.count(each) > 1}):
            yield f"{entity} is undone {every.count(entity)} times"
        for entity in every:
            if entity not in self._starts:
                yield f"{entity} is undone and was never started"
        for undone in self._undone:
            known = [each for each in undone if each in self._starts]
            for before, after in pairwise(known):
                if self._starts[before] < self._starts[after]:
                    yield f"{after} was started after {before} and is undone after it"


def rollback_text(report: RollbackReport) -> str:
    lines = [
        f"rollback of {report.job}: {report.status}"
        + (f", down to {report.to}" if report.to else "")
        + f" · {report.undone:,} of {len(report.undos):,} undone"
        + (f", {report.skipped:,} skipped" if report.skipped else "")
        + (f", {report.kept:,} kept" if report.kept else "")
    ]
    for undo in report.undos:
        counted = f"{undo.documents:,} documents" if undo.documents else ""
        kept = f"{undo.kept:,} kept" if undo.kept else ""
        words = ", ".join(each for each in (undo.status, counted, kept, undo.why) if each)
        lines.append(one_line(f"{undo.number:>6}  {undo.operation}  {words}"))
        lines += [one_line(f"          {each}") for each in undo.changes]
    lines += [one_line(f"order: {each}") for each in report.order]
    if report.status in ("running", "failed", "rolled_back") and not report.order:
        lines.append("order: the exact reverse of the starts, each once")
    return "\n".join(lines)
