"""How a job stands, for people and machines: fills the shapes from a past."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from executors.dumps.errors import DETAILS
from executors.increments.errors import BROKEN
from ferrylog import clock
from ferrylog.clock import when
from ferrylog.past import Past
from ferrylog.rates import Rates
from ferrylog.views.answers import Asked, answers
from ferrylog.views.chunks import chunk_reports
from ferrylog.views.counts import Counts
from ferrylog.views.exported import export_report
from ferrylog.views.fidelity import as_of, consistency, damage_reports, damaged_places
from ferrylog.views.increments import chain_report, follow_report, follows
from ferrylog.views.pools import phases, pools, stats
from ferrylog.views.shapes import (
    AlertReport,
    BatchReport,
    ChunkCounts,
    Control,
    DeadLetter,
    DocumentCounts,
    LeftBehind,
    RateReport,
    Report,
    SideCounts,
    StatusReport,
    Totals,
    UnitReport,
)
from ferrylog.views.told import Told
from ferrylog.views.undone import group_report, undone_report
from ferrylog.views.work import done, estimate
from statemachine.events import JobSpec, StopRequested
from statemachine.state import State, Unit
from statemachine.words import THE_JOB, JobStatus, Status, TaskKind, UnitStatus

__all__ = [
    "Report",
    "dead_letters",
    "exit_code",
    "job_percent",
    "percent",
    "phase",
    "rejects",
    "status_report",
]

T = TypeVar("T", bound=BaseModel)
PHASES = (
    TaskKind.DUMP,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.INDEX,
    TaskKind.VERIFY,
    TaskKind.FINISH,
    TaskKind.MANIFEST,
)
"""After the plan, in their order."""
GOING = (JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.STOPPING)
NOTHING_TOLD = Told()


def status_report(
    job: str, past: Past, *, running: bool, told: Told = NOTHING_TOLD, chunks: bool = False
) -> StatusReport:
    """`running`: a process works on the job; else it is shown as of its last event. `chunks`: one
    by one, too."""
    state, rates, counts = past.state, past.rates, Counts.of(past.state)
    assert state.spec is not None
    at_ms = clock.now_ms() if running else past.at_ms
    units = tuple(_unit_report(state, unit, counts, told) for unit in state.units.values())
    totals = _totals(state, units)
    return StatusReport(
        job=job,
        kind=state.spec.kind,
        mode=state.spec.mode,
        status=state.status,
        phase=phase(state),
        running=running,
        code=state.code,
        why=state.why,
        control=_control(told),
        epoch=state.epoch,
        source=state.spec.source,
        target=state.spec.target,
        layout=layout(state.spec),
        consistency=consistency(state),
        cluster_time=state.cluster_time or None,
        as_of=as_of(state),
        stats=stats(state),
        pools=pools(state, at_ms),
        phases=phases(state, totals.chunks),
        units=units,
        totals=totals,
        rate=_rate(rates),
        eta_s=_eta_s(state, totals, rates),
        elapsed_s=round(rates.active_ms / 1000, 1),
        retries=state.retries,
        dead_letters=dead_letters(state),
        dropped_indexes=state.dropped,
        mismatched_chunks=sum(unit.mismatched for unit in state.units.values()),
        differing_metadata=state.differing + sum(unit.differing for unit in state.units.values()),
        differing=told.differing.get(THE_JOB, ()),
        damaged_places=damaged_places(state),
        damage=damage_reports(told.damage),
        left_behind=LeftBehind(users=state.users, roles=state.roles),
        follow=follow_report(state, max(0, clock.now_ms() - past.at_ms)),
        chain=chain_report(state),
        export=export_report(state),
        group=group_report(state),
        rollback=undone_report(state),
        committed=state.committed,
        notes=told.notes,
        settings=state.settings.model_dump(mode="json") if state.settings else None,
        alerts=_alerts(state, told),
        answers=answers(Asked(job, state, told, running, at_ms)),
        chunks=chunk_reports(state) if chunks else None,
        last_seq=past.position.seq,
        recorded_at=when(past.at_ms),
    )


def phase(state: State) -> str:
    """The first thing that is not finished yet: capture, census, plan, dump, restore (or copy),
    index, verify, increments, follow, finish, manifest, operations, rollback, done."""
    if state.terminal:
        return "done"
    if state.undos:
        return "rollback"
    if state.operations:
        return "operations"
    if follows(state):
        return "follow"
    if state.increment:
        return "increments"
    busy = {
        kind
        for (kind, status, _), queue in state.queues.items()
        if queue and status not in (Status.COMPLETED, Status.FAILED)
    }
    stages = state.stages
    for kind in (TaskKind.CAPTURE, TaskKind.CENSUS):
        if kind in busy:
            return str(kind)
    if not state.closed or not stages or busy & {TaskKind.SURVEY, TaskKind.CREATE, TaskKind.PLAN}:
        return "plan"
    for kind in PHASES:
        if kind in busy or (TaskKind.SPLIT in busy and kind is stages[0]):
            return str(kind)
    return str(stages[-1])


def layout(spec: JobSpec) -> str | None:
    """In which form a job leaves files; `None` of one that leaves none."""
    if spec.export is not None:
        return spec.export.format
    return spec.layout if spec.kind == "dump" else None


def dead_letters(state: State) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter(task=key.kind, entity=key.entity, code=task.code, why=task.why)
        for key, task in state.tasks.items()
        if task.status is Status.FAILED
    )


def exit_code(state: State, *, rollback_asked: bool = False) -> int:
    """What the job's end means to a shell; see the README. A rollback that somebody asked for by
    that name has done what was asked; but what others changed since is still there."""
    match state.status:
        case JobStatus.ROLLED_BACK if rollback_asked:
            return 3 if state.undo_kept or state.skipped else 0
        case JobStatus.ROLLED_BACK:
            return 6
        case JobStatus.ROLLBACK_FAILED:
            return 1
        case JobStatus.COMPLETED if _differs(state):
            return 4
        case JobStatus.COMPLETED if rejects(state) or damaged_places(state):
            return 3
        case JobStatus.COMPLETED:
            return 0
        case JobStatus.FAILED:
            return 4 if _read_damage(state) else 1
        case _:
            return 5


def _differs(state: State) -> bool:
    units = state.units.values()
    return state.differing > 0 or any(unit.mismatched or unit.differing for unit in units)


def _read_damage(state: State) -> bool:
    """What failed the job is a dump that is not as whoever wrote it left it."""
    if state.code == "EFILE001":  # a chunk file; only that of a dump cannot be written again
        return state.from_dump
    return state.code in DETAILS or state.code in BROKEN or state.code.startswith("EBSON")


def rejects(state: State) -> bool:
    """Something was left out by failure or by choice; a unit that was taken out is no failure."""
    units = state.units.values()
    left = any(unit.status is UnitStatus.FAILED for unit in units)
    lost = any(unit.rejected or unit.dropped for unit in units)
    return left or lost or state.dropped > 0 or state.count(Status.FAILED) > 0


def _control(told: Told) -> Control | None:
    event = told.asked
    if event is None:
        return None
    return Control(
        asked="stop" if isinstance(event, StopRequested) else "pause",
        by=event.by,
        why=event.why,
        at=when(told.asked_ms),
        immediate=event.immediate,
        rollback=isinstance(event, StopRequested) and event.rollback,
    )


def _alerts(state: State, told: Told) -> tuple[AlertReport, ...]:
    reports = []
    for key in state.alerts:
        event, at_ms = told.raised.get(key, (None, 0))
        reports.append(
            AlertReport(
                alert=key[0],
                entity=key[1],
                value=event.value if event else None,
                limit=event.limit if event else None,
                why=event.why if event else "",
                since=when(at_ms) if event else None,
            )
        )
    return tuple(reports)


# --- units and their sums ---


def _unit_report(state: State, unit: Unit, counts: Counts, told: Told) -> UnitReport:
    chunks, completed = counts.chunks(unit), unit.status is UnitStatus.COMPLETED
    return UnitReport(
        namespace=unit.id,
        type=unit.type,
        target=unit.target,
        status=unit.status,
        priority=unit.priority,
        chunks=chunks,
        dropped=unit.dropped,
        documents=_documents(state, unit),
        bytes=done(state, unit).bytes,
        percent=percent(unit),
        dump_percent=_side_percent(state, unit, chunks, TaskKind.DUMP),
        restore_percent=_side_percent(state, unit, chunks, TaskKind.RESTORE),
        mismatched=unit.mismatched,
        differing=told.differing.get(unit.id, ()),
        damaged=unit.damaged,
        batch=_batch(unit),
        completed_at=when(told.completed_ms[unit.id])
        if completed and unit.id in told.completed_ms
        else None,
    )


def _batch(unit: Unit) -> BatchReport | None:
    if not unit.batch_documents:
        return None
    return BatchReport(documents=unit.batch_documents, bytes=unit.batch_bytes)


def _documents(state: State, unit: Unit) -> DocumentCounts:
    return DocumentCounts(
        total_estimate=estimate(state, unit),
        dumped=unit.dumped_documents,
        restored=unit.restored_documents,
        present=unit.present,
        rejected=unit.rejected,
        done=done(state, unit).documents,
        repaired=unit.repaired,
    )


def _side_percent(state: State, unit: Unit, chunks: ChunkCounts, kind: TaskKind) -> float:
    """Nothing of a job that has no such side."""
    if not {kind, TaskKind.COPY} & {*state.stages}:
        return 0.0
    side = chunks.dump if kind is TaskKind.DUMP else chunks.restore
    whole = unit.status is UnitStatus.COMPLETED
    return 100.0 if whole else _share(side.completed, chunks.total)


def _share(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0


def percent(unit: Unit) -> float:
    """Weighted by documents over all stages; 100 only when the unit is complete (I25)."""
    if unit.status is UnitStatus.COMPLETED:
        return 100.0
    return min(99.9, round(100 * unit.weight_done / unit.weight, 1)) if unit.weight else 0.0


def _totals(state: State, units: Sequence[UnitReport]) -> Totals:
    return Totals(
        chunks=ChunkCounts(
            total=sum(unit.chunks.total for unit in units),
            dump=_sum(SideCounts, [unit.chunks.dump for unit in units]),
            restore=_sum(SideCounts, [unit.chunks.restore for unit in units]),
            verify=_sum(SideCounts, [unit.chunks.verify for unit in units]),
        ),
        documents=_sum(DocumentCounts, [unit.documents for unit in units]),
        bytes=sum(unit.bytes for unit in units),
        percent=job_percent(state),
    )


def job_percent(state: State) -> float:
    """Weighted like that of units; what was taken out weighs what was done with it."""
    if state.status is JobStatus.COMPLETED:
        return 100.0
    if (group := group_report(state)) is not None:
        return min(99.9, group.percent)
    weight = done = 0
    for unit in state.units.values():
        excluded = unit.status is UnitStatus.EXCLUDED
        weight += unit.weight_done if excluded else unit.weight
        done += unit.weight_done
    weight += sum(link.rows for link in state.links)
    done += state.upserted + state.erased if state.links else 0
    return min(99.9, _share(done, weight))


def _sum(model: type[T], parts: Sequence[T]) -> T:
    sums: dict[str, Any] = {
        name: sum(getattr(part, name) for part in parts) for name in model.model_fields
    }
    return model(**sums)


def _rate(rates: Rates) -> RateReport:
    documents_s, bytes_s = rates.current()
    return RateReport(
        current_docs_s=round(documents_s, 1),
        average_docs_s=round(rates.average(), 1),
        peak_docs_s=round(rates.peak, 1),
        bytes_s=round(bytes_s, 1),
    )


def _eta_s(state: State, totals: Totals, rates: Rates) -> float | None:
    """Seconds to the end at the average pace so far; `None` while the job rests or nobody can
    tell."""
    if state.status not in GOING or not 0 < totals.percent < 100 or not rates.active_ms:
        return None
    spent_s = rates.active_ms / 1000
    return round(spent_s * (100 - totals.percent) / totals.percent, 1)
