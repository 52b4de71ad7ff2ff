"""What became of the wishes of a terminal, for people and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import typer
from pydantic import Field

from ferrylog.asking import Answer
from ferrylog.cli.options import Common
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from statemachine.decide.asked import VERBS
from statemachine.events import (
    AnyEvent,
    ChunkDropped,
    ChunkReplaced,
    CutoverRequested,
    IndexDropped,
    JobReopened,
    NamespacesAdded,
    PauseRequested,
    PriorityChanged,
    Requeued,
    SettingChanged,
    SplitRequested,
    StopRequested,
    UndoSkipped,
    UnitExcluded,
)
from statemachine.stimuli import StopAsked


class AnswerReport(Report):
    verb: str
    request: int
    answered: bool
    refused: str
    """Why; empty: it was not."""
    events: tuple[dict[str, Any], ...]


class AnswersReport(Report):
    schema_: Literal["ferrylog.answer/1"] = Field("ferrylog.answer/1", alias="schema")
    job: str
    answered: bool
    """Whether all of them are."""
    answers: tuple[AnswerReport, ...]


def show(common: Common, answers: Sequence[Answer]) -> None:
    """At least one answer, all of one job."""
    if common.json:
        typer.echo(_report(answers).as_json())
        return
    if common.quiet:
        return
    for answer in answers:
        for line in lines(answer):
            typer.echo(one_line(line), err=True)
    if not any(answer.request or answer.refused for answer in answers):
        job = answers[0].job
        wishes = [answer.wish for answer in answers]
        back = any(isinstance(wish, StopAsked) and wish.rollback for wish in wishes)
        again = (
            f"`ferrylog rollback {job}` takes it back"
            if back
            else f"`ferrylog resume {job}` goes on"
        )
        typer.echo(f"no process runs job {job}: {again}", err=True)


def lines(answer: Answer) -> Iterator[str]:
    for each in answer.recorded:
        text = _sentence(answer.job, each.event)
        if text:
            yield text
    wish = answer.wish
    if isinstance(wish, StopAsked) and wish.rollback and answer.request:
        yield "when it has stopped, it takes back what it did"


def _sentence(job: str, event: AnyEvent) -> str:
    match event:
        case PauseRequested(immediate=True):
            return f"job {job} is paused; what ran is done again by `ferrylog resume`"
        case PauseRequested():
            return f"job {job} pauses: what runs goes on to its end, nothing new starts"
        case StopRequested(immediate=True):
            return f"job {job} is stopped; what ran is done again by `ferrylog resume`"
        case StopRequested():
            return f"job {job} stops: what runs goes on to its end, nothing new starts"
        case SettingChanged():
            return f"{event.name.replace('_', '-')}: {event.was} → {event.value}"
        case PriorityChanged():
            return f"priority of {event.entity}: {event.was} → {event.priority}"
        case UnitExcluded():
            return f"{event.unit} is left out; what the target has of it stays there"
        case NamespacesAdded():
            return f"{', '.join(event.include)} added: the source is surveyed again"
        case CutoverRequested():
            return f"job {job} cuts over: what is left is carried, then following ends"
        case SplitRequested():
            return f"{event.chunk} is to be split"
        case _:
            return _of_a_dead_letter(job, event)


def _of_a_dead_letter(job: str, event: AnyEvent) -> str:
    match event:
        case Requeued():
            return f"the {event.task.kind} of {event.entity} is to be tried again"
        case ChunkReplaced():
            return f"{event.chunk} is to be carried once more"
        case JobReopened():
            return f"job {job} is open again: `ferrylog resume {job}` goes on"
        case ChunkDropped():
            return f"the job goes on without {event.chunk}"
        case IndexDropped():
            return f"the job goes on without the index {event.entity}"
        case UndoSkipped():
            return f"the rollback goes on without the undo of {event.entity}"
        case _:
            return ""


def _report(answers: Sequence[Answer]) -> AnswersReport:
    reports = tuple(
        AnswerReport(
            verb=VERBS[type(each.wish)],
            request=each.request,
            answered=bool(each.recorded),
            refused=each.refused,
            events=tuple(
                {"seq": one.seq, **one.event.model_dump(mode="json")} for one in each.recorded
            ),
        )
        for each in answers
    )
    answered = all(each.answered for each in reports)
    return AnswersReport(job=answers[0].job, answered=answered, answers=reports)
