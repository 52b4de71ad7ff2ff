"""What a dry run foresaw beside what came: which conflicts came true, and what nobody foresaw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from ferrylog.estimate import Duration
from ferrylog.views.plan import kind_of
from ferrylog.views.spans import span
from statemachine.events import (
    AnyEvent,
    Cancelled,
    ConflictForeseen,
    DeadLettered,
    DocumentRejected,
    FinishCompleted,
    VerifyCompleted,
)
from statemachine.words import THE_JOB, unit_of

MISHAPS: Final = (
    "*_dead_lettered", "*_cancelled", "document_rejected", "verify_completed", "finish_completed",
)  # fmt: skip
"""Kinds of events that may tell of something that did not go as asked."""

Mishap = tuple[str, str]
"""The unit and the code of something that did not go as asked; `mismatch` for documents that
differ, `metadata` for options and indexes."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of a dry run."""

    time: Duration
    conflicts: tuple[ConflictForeseen, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a job that was run, as far as it came."""

    active_ms: int
    mishaps: Mapping[Mishap, int]
    """How often each came."""


class Judged(NamedTuple):
    """One thing that was foreseen or that came."""

    section: str
    name: str
    foreseen: str | None
    came: str
    differs: bool


def mishap(event: AnyEvent) -> Mishap | None:
    """What the event tells that did not go as asked, if anything."""
    match event:
        case DeadLettered() | Cancelled():
            return unit_of(event.task) or THE_JOB, event.code
        case DocumentRejected():
            return event.chunk.rpartition("#")[0], event.code
        case VerifyCompleted(equal=False):
            return event.entity.rpartition("#")[0], "mismatch"
        case FinishCompleted() if event.differing:
            return event.entity, "metadata"
    return None


def judged(forecast: Forecast, outcome: Outcome) -> Iterator[Judged]:
    """The time, every conflict that was foreseen, then every surprise."""
    time, taken = forecast.time, outcome.active_ms
    least, likely, most = (
        span(int(each * 1000)) for each in (time.least_s, time.seconds, time.most_s)
    )
    outside = not time.least_s * 1000 <= taken <= time.most_s * 1000
    yield Judged("foreseen", "time", f"{likely} ({least} to {most})", span(taken), outside)
    for conflict in forecast.conflicts:
        yield _conflict(conflict, outcome)
    expected = {
        (each.unit, code) for each in forecast.conflicts for code in kind_of(each.code).comes_as
    }
    for (unit, code), count in outcome.mishaps.items():
        if (unit, code) not in expected:
            yield Judged("surprises", f"{unit} {code}", None, _times(count), True)


def _conflict(conflict: ConflictForeseen, outcome: Outcome) -> Judged:
    kind = kind_of(conflict.code)
    came = {code: outcome.mishaps.get((conflict.unit, code), 0) for code in kind.comes_as}
    told = ", ".join(f"{code} {_times(count)}" for code, count in came.items() if count)
    nothing = "did not come" if kind.comes_as else "no journal can tell"
    name = f"{conflict.unit} {conflict.code}"
    missed = bool(kind.comes_as) and not told
    return Judged("foreseen", name, kind.what, f"came: {told}" if told else nothing, missed)


def _times(count: int) -> str:
    return f"{count:,} times" if count > 1 else "once"
