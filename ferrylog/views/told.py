"""What the journal tells about a job beside its state: who asked, when things happened."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ferrylog.past import Past
from journal import audit, overview
from journal.audit import Wanted
from journal.sqlite import SqliteJournal
from statemachine.events import (
    AlertRaised,
    DamageFound,
    FinishCompleted,
    MetadataDifference,
    PauseRequested,
    RetryScheduled,
    SettleCompleted,
    StopRequested,
    SurveyCompleted,
)
from statemachine.state import State
from statemachine.words import (
    THE_JOB,
    Alert,
    JobId,
    JobStatus,
    Status,
    TaskKey,
    TaskKind,
    UnitStatus,
)

HELD: Final = (JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.STOPPING, JobStatus.STOPPED)
RECENT: Final = 100
"""Retries of each kind of task whose codes are counted: what troubles now, not long ago."""
ALERTS: Final = 200
"""Raised ones that are looked through for those that last."""
AT_WORK: Final = 200
"""Tasks whose start is looked up; no more can be at work."""
DAMAGE: Final = 10
"""Places of a dump that are told one by one; all are counted."""
DIFFERING: Final = 100
"""Units whose metadata differs and is told one by one."""


@dataclass(frozen=True, slots=True)
class Told:
    """Up to one event; nothing is told where there was no journal to ask."""

    asked: PauseRequested | StopRequested | None = None
    """The last pause or stop of a job that rests, or is about to."""
    asked_ms: int = 0
    completed_ms: Mapping[str, int] = field(default_factory=dict)
    """By unit."""
    raised: Mapping[tuple[Alert, str], tuple[AlertRaised, int]] = field(default_factory=dict)
    """The alerts that last, and since when."""
    began_ms: Mapping[TaskKey, int] = field(default_factory=dict)
    """Of the tasks at work."""
    retries: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """The recent ones by cause and code."""
    notes: tuple[str, ...] = ()
    """Of the survey: what lies there and is not carried."""
    damage: tuple[DamageFound, ...] = ()
    """The first places of a dump that cannot be read."""
    differing: Mapping[str, tuple[MetadataDifference, ...]] = field(default_factory=dict)
    """By unit, of the first that differ."""


def told(journal: SqliteJournal, job: JobId, past: Past) -> Told:
    """Up to the last event of `past`. Raises `DamagedJournal`."""
    state, until = past.state, past.position.seq
    asked, asked_ms = _asked(journal, job, state, until)
    completed = UnitStatus.COMPLETED
    some = any(unit.status is completed for unit in state.units.values())
    return Told(
        asked=asked,
        asked_ms=asked_ms,
        completed_ms=overview.times(journal, job, "unit_completed", until=until) if some else {},
        raised=_raised(journal, job, state, until) if state.alerts else {},
        began_ms=_began(journal, job, state, until),
        retries=_retries(journal, job, until) if state.retries else {},
        notes=_notes(journal, job, until) if state.closed else (),
        damage=_damage(journal, job, state, until),
        differing=_differing(journal, job, state, until),
    )


def _asked(
    journal: SqliteJournal, job: JobId, state: State, until: int
) -> tuple[PauseRequested | StopRequested | None, int]:
    if state.status not in HELD:
        return None, 0
    pausing = state.status in (JobStatus.PAUSING, JobStatus.PAUSED)
    kind = "pause_requested" if pausing else "stop_requested"
    for recorded in audit.find(journal, Wanted(job, kind=kind, until=until), tail=1):
        event = recorded.event
        # A job that was paused in another way says in its state why.
        if isinstance(event, PauseRequested | StopRequested) and event.why == state.why:
            return event, recorded.recorded_at_ms
    return None, 0


def _raised(
    journal: SqliteJournal, job: JobId, state: State, until: int
) -> dict[tuple[Alert, str], tuple[AlertRaised, int]]:
    wanted = Wanted(job, kind="alert_raised", until=until)
    found = dict[tuple[Alert, str], tuple[AlertRaised, int]]()
    for recorded in audit.find(journal, wanted, tail=ALERTS):
        event = recorded.event
        if isinstance(event, AlertRaised) and (event.alert, event.entity) in state.alerts:
            found[event.alert, event.entity] = (event, recorded.recorded_at_ms)
    return found


def _began(journal: SqliteJournal, job: JobId, state: State, until: int) -> dict[TaskKey, int]:
    at_work = (
        key
        for (_, status, _), queue in state.queues.items()
        if status is Status.PROCESSING
        for key in queue
    )
    return {
        key: overview.latest_ms(journal, job, key.entity, f"{key.kind}_started", until=until)
        for key in islice(at_work, AT_WORK)
    }


def _retries(journal: SqliteJournal, job: JobId, until: int) -> Counter[tuple[str, str]]:
    counts = Counter[tuple[str, str]]()
    for kind in TaskKind:
        wanted = Wanted(job, kind=f"{kind}_retry_scheduled", until=until)
        for recorded in audit.find(journal, wanted, tail=RECENT):
            if isinstance(recorded.event, RetryScheduled):
                counts[recorded.event.cause, recorded.event.code] += 1
    return counts


def _notes(journal: SqliteJournal, job: JobId, until: int) -> tuple[str, ...]:
    """Of every survey, each once."""
    wanted = Wanted(job, kind="survey_completed", until=until)
    events = (recorded.event for recorded in audit.find(journal, wanted))
    surveys = (event.notes for event in events if isinstance(event, SurveyCompleted))
    return tuple(dict.fromkeys(note for notes in surveys for note in notes))


def _damage(
    journal: SqliteJournal, job: JobId, state: State, until: int
) -> tuple[DamageFound, ...]:
    if not state.damaged and not any(unit.damaged for unit in state.units.values()):
        return ()
    found = audit.find(journal, Wanted(job, kind="damage_found", until=until))
    events = (recorded.event for recorded in islice(found, DAMAGE))
    return tuple(event for event in events if isinstance(event, DamageFound))


def _differing(
    journal: SqliteJournal, job: JobId, state: State, until: int
) -> dict[str, tuple[MetadataDifference, ...]]:
    """As each unit was found last; under the job's own name what was found at the end of a chain or
    of following."""
    found = dict[str, tuple[MetadataDifference, ...]]()
    differing = (unit.id for unit in state.units.values() if unit.differing)
    for unit in islice(differing, DIFFERING):
        wanted = Wanted(job, entity=unit, kind="finish_completed", until=until)
        for recorded in audit.find(journal, wanted, tail=1):
            if isinstance(recorded.event, FinishCompleted):
                found[unit] = recorded.event.differing
    settled = Wanted(job, kind="settle_completed", until=until)
    for recorded in audit.find(journal, settled, tail=1) if state.differing else ():
        if isinstance(recorded.event, SettleCompleted):
            found[THE_JOB] = recorded.event.differing
    return found
