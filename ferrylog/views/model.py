"""The reports: what `--json` prints and what the human views render."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ferrylog.clock import when
from ferrylog.past import Past
from ferrylog.rates import Rates
from ferrylog.redact import ascii_json
from statemachine.state import State, Unit
from statemachine.words import ChunkId, JobStatus, Status, TaskKind, UnitStatus

T = TypeVar("T", bound=BaseModel)
SIDES = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY)


class Report(BaseModel):
    """Something printed; `schema` names its shape."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def as_json(self) -> str:
        """One line for `--json`."""
        return ascii_json(self.model_dump(mode="json", by_alias=True))


class SideCounts(Report):
    """Chunks by where one of their sides stands; the six sum to the total."""

    pending: int = 0
    waiting: int = 0
    processing: int = 0
    in_doubt: int = 0
    completed: int = 0
    failed: int = 0


class ChunkCounts(Report):
    total: int
    dump: SideCounts
    restore: SideCounts
    verify: SideCounts


class DocumentCounts(Report):
    total_estimate: int
    dumped: int
    restored: int
    present: int
    rejected: int


class UnitReport(Report):
    namespace: str
    target: str
    status: str
    chunks: ChunkCounts
    documents: DocumentCounts
    bytes: int
    percent: float


class Totals(Report):
    chunks: ChunkCounts
    documents: DocumentCounts
    bytes: int
    percent: float


class RateReport(Report):
    current_docs_s: float
    average_docs_s: float
    peak_docs_s: float
    bytes_s: float


class DeadLetter(Report):
    task: str
    entity: str
    code: str
    why: str


class StatusReport(Report):
    schema_: Literal["ferrylog.status/1"] = Field("ferrylog.status/1", alias="schema")
    job: str
    kind: str
    status: str
    phase: str
    running: bool
    """A process holds the journal now."""
    why: str
    epoch: int
    source: str
    target: str
    units: tuple[UnitReport, ...]
    totals: Totals
    rate: RateReport
    eta_s: float | None
    retries: int
    dead_letters: tuple[DeadLetter, ...]
    mismatched_chunks: int
    last_seq: int
    recorded_at: str
    """Of the last event."""


def status_report(job: str, past: Past, *, running: bool) -> StatusReport:
    state, rates = past.state, past.rates
    assert state.spec is not None
    open_chunks = _open_by_unit(state)
    units = tuple(
        _unit_report(state, unit, open_chunks.get(unit.id, [])) for unit in state.units.values()
    )
    totals = _totals(state, units)
    documents_s, bytes_s = rates.current()
    return StatusReport(
        job=job,
        kind=state.spec.kind,
        status=state.status,
        phase=phase(state),
        running=running,
        why=state.why,
        epoch=state.epoch,
        source=state.spec.source,
        target=state.spec.target,
        units=units,
        totals=totals,
        rate=RateReport(
            current_docs_s=round(documents_s, 1),
            average_docs_s=round(rates.average(), 1),
            peak_docs_s=round(rates.peak, 1),
            bytes_s=round(bytes_s, 1),
        ),
        eta_s=_eta_s(state, totals, rates),
        retries=state.retries,
        dead_letters=dead_letters(state),
        mismatched_chunks=sum(unit.mismatched for unit in state.units.values()),
        last_seq=past.position.seq,
        recorded_at=when(past.at_ms),
    )


def phase(state: State) -> str:
    """The first thing that is not finished yet: plan, dump, restore, index, verify, done."""
    if state.terminal:
        return "done"
    busy = {
        kind
        for (kind, status, _), queue in state.queues.items()
        if queue and status not in (Status.COMPLETED, Status.FAILED)
    }
    if not state.closed or busy & {TaskKind.SURVEY, TaskKind.CREATE, TaskKind.PLAN}:
        return "plan"
    for kind in (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.INDEX, TaskKind.VERIFY):
        if kind in busy:
            return str(kind)
    return "verify" if state.stages[-1] is TaskKind.VERIFY else "restore"


def dead_letters(state: State) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter(task=key.kind, entity=key.entity, code=task.code, why=task.why)
        for key, task in state.tasks.items()
        if task.status is Status.FAILED
    )


def exit_code(state: State) -> int:
    """What the job's end means to a shell; see the README."""
    match state.status:
        case JobStatus.COMPLETED if any(unit.mismatched for unit in state.units.values()):
            return 4
        case JobStatus.COMPLETED if _rejects(state):
            return 3
        case JobStatus.COMPLETED:
            return 0
        case JobStatus.FAILED:
            return 1
        case _:
            return 5


def _rejects(state: State) -> bool:
    skipped = any(unit.status is UnitStatus.FAILED for unit in state.units.values())
    rejected = any(unit.rejected for unit in state.units.values())
    return skipped or rejected or state.count(Status.FAILED) > 0


def _open_by_unit(state: State) -> dict[str, list[ChunkId]]:
    found: dict[str, list[ChunkId]] = {}
    for chunk in state.chunks.values():
        found.setdefault(chunk.unit, []).append(chunk.id)
    return found


def _unit_report(state: State, unit: Unit, chunks: Sequence[ChunkId]) -> UnitReport:
    dump, restore, verify = (_side(state, unit, kind, chunks) for kind in SIDES)
    return UnitReport(
        namespace=unit.id,
        target=unit.target,
        status=unit.status,
        chunks=ChunkCounts(total=unit.planned, dump=dump, restore=restore, verify=verify),
        documents=DocumentCounts(
            total_estimate=unit.documents_estimate,
            dumped=unit.dumped_documents,
            restored=unit.restored_documents,
            present=unit.present,
            rejected=unit.rejected,
        ),
        bytes=unit.restored_bytes,
        percent=percent(unit),
    )


def _side(state: State, unit: Unit, kind: TaskKind, chunks: Sequence[ChunkId]) -> SideCounts:
    """A chunk whose turn for this side has not come counts as pending; none, if the job has no
    such side."""
    if kind not in state.stages:
        return SideCounts()
    counts: dict[str, int] = dict.fromkeys(SideCounts.model_fields, 0)
    for chunk in chunks:
        task = state.tasks.get((kind, chunk))  # type: ignore[call-overload]
        counts[task.status if task else Status.PENDING] += 1
    counts["completed"] += unit.settled
    return SideCounts(**counts)


def percent(unit: Unit) -> float:
    """Weighted by documents over all stages; 100 only when the unit is complete (I25)."""
    if unit.status is UnitStatus.COMPLETED:
        return 100.0
    return min(99.9, round(100 * unit.weight_done / unit.weight, 1)) if unit.weight else 0.0


def _totals(state: State, units: Sequence[UnitReport]) -> Totals:
    weight = sum(unit.weight for unit in state.units.values())
    done = sum(unit.weight_done for unit in state.units.values())
    share = round(100 * done / weight, 1) if weight else 0.0
    return Totals(
        chunks=ChunkCounts(
            total=sum(unit.chunks.total for unit in units),
            dump=_sum(SideCounts, [unit.chunks.dump for unit in units]),
            restore=_sum(SideCounts, [unit.chunks.restore for unit in units]),
            verify=_sum(SideCounts, [unit.chunks.verify for unit in units]),
        ),
        documents=_sum(DocumentCounts, [unit.documents for unit in units]),
        bytes=sum(unit.bytes for unit in units),
        percent=100.0 if state.status is JobStatus.COMPLETED else min(99.9, share),
    )


def _sum(model: type[T], parts: Sequence[T]) -> T:
    sums: dict[str, Any] = {
        name: sum(getattr(part, name) for part in parts) for name in model.model_fields
    }
    return model(**sums)


def _eta_s(state: State, totals: Totals, rates: Rates) -> float | None:
    """Seconds to the end at the average pace so far; `None` while the job rests or nobody can
    tell."""
    going = state.status in (JobStatus.RUNNING, JobStatus.PAUSING)
    if not going or not 0 < totals.percent < 100 or not rates.active_ms:
        return None
    spent_s = rates.active_ms / 1000
    return round(spent_s * (100 - totals.percent) / totals.percent, 1)
