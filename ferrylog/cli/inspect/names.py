"""What an operator calls an entity, and what the journal calls it."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from ferrylog.errors import Usage
from journal import audit, overview
from journal.codec import known_kinds
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import PlanCompleted
from statemachine.words import THE_JOB, JobId

NEAR: Final = 5
"""Names that are offered instead of one that is not there."""


def an_entity(journal: SqliteJournal, job: JobId, text: str) -> str:
    """The entity of that name. Raises `Usage` with near names, or the job that knows it."""
    if overview.knows(journal, job, text):
        return text
    others = [other for other in journal.jobs() if overview.knows(journal, other, text)]
    if others:
        raise Usage(
            f"job {job} knows no {text}, but job {others[-1]} does", remedy=f"name job {others[-1]}"
        )
    near = _near(journal, job, text)
    raise Usage(
        f"job {job} knows no {text}",
        remedy=f"did you mean {', '.join(near)}?"
        if near
        else "`ferrylog inspect timeline` lists its units; a chunk is UNIT#N, an index UNIT@NAME",
    )


def _near(journal: SqliteJournal, job: JobId, text: str) -> list[str]:
    units = [THE_JOB, *overview.names(journal, job, "unit_registered")]
    for mark in "#@":
        name, found, rest = text.rpartition(mark)
        if found and name in units:
            return _siblings(journal, job, name, mark, rest)
        if found:
            return [f"{unit}{mark}{rest}" for unit in _alike(name, units)]
    return _alike(text, units)


def _alike(text: str, units: list[str]) -> list[str]:
    ends = [unit for unit in units if unit.endswith(f".{text}")]
    return list(dict.fromkeys([*ends, *get_close_matches(text, units, NEAR)]))[:NEAR]


def _siblings(journal: SqliteJournal, job: JobId, unit: str, mark: str, rest: str) -> list[str]:
    if mark == "#":
        planned = audit.find(journal, audit.Wanted(job, entity=unit, kind="plan_completed"))
        last = max((event.chunks for event in _plans(planned)), default=0) - 1
        return [f"{unit}#0", f"{unit}#{last}"][: min(2, last + 1)]
    found = overview.entities(journal, job, after=f"{unit}@", count=1000)
    names = [name for name in found if name.startswith(f"{unit}@")]
    return get_close_matches(f"{unit}@{rest}", names, NEAR) or names[:NEAR]


def _plans(records: Iterable[Recorded]) -> Iterator[PlanCompleted]:
    for recorded in records:
        if isinstance(recorded.event, PlanCompleted):
            yield recorded.event


def a_kind(text: str) -> str:
    """A kind of event, or a glob over kinds. Raises `Usage` for a word that is neither."""
    known = known_kinds()
    if text in known or set(text) & set("*?["):
        return text
    near = get_close_matches(text, known, NEAR)
    raise Usage(
        f"there is no event {text}",
        remedy=f"did you mean {', '.join(near)}?" if near else "a glob such as *_started works",
    )
