"""What a dry run found: what would be carried, how long it may take, what will go wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from pydantic import Field

from executors.conflicts import KINDS, Kind
from ferrylog.estimate import GUESSED_SIZE, Duration, Learned, duration
from ferrylog.redact import one_line
from ferrylog.views.model import dead_letters
from ferrylog.views.shapes import DeadLetter, Report
from ferrylog.views.spans import size, span
from statemachine.events import ConflictForeseen, JobSpec, RunSettings
from statemachine.policy import files_limit
from statemachine.state import State, Unit

UNKNOWN: Final = Kind("foreseen by another version of ferrylog", "")


class PlannedUnit(Report):
    """Documents and bytes are estimates of the server."""

    namespace: str
    target: str
    type: str
    chunks: int
    documents: int
    bytes: int
    indexes: int


class PlannedTotals(Report):
    units: int
    chunks: int
    documents: int
    bytes: int
    indexes: int


class TimeReport(Report):
    seconds: float
    least_s: float
    most_s: float
    origin: str
    """How that is known."""


class SpaceReport(Report):
    """Bytes; `None` where nobody tells."""

    work_dir: str
    files: int
    """Chunk files lie there at most, at any time; counted by their bytes."""
    files_free: int | None
    compression: float
    """Of a chunk file, as a share of its documents."""
    compression_origin: str
    target: int
    """Documents before the target compresses them; its indexes come on top."""
    target_free: int | None


class ForeseenReport(Report):
    namespace: str
    code: str
    what: str
    why: str
    remedy: str
    certain: bool
    """As things stand, the job cannot end with everything there."""


class PlanReport(Report):
    schema_: Literal["ferrylog.plan/1"] = Field("ferrylog.plan/1", alias="schema")
    job: str
    status: str
    ok: bool
    """The plan is whole, and no conflict in it is certain."""
    source: str
    target: str
    mode: str
    unfinished: str
    """A job of the same work that `ferrylog start` would go on with: this plan is of a new one."""
    units: tuple[PlannedUnit, ...]
    totals: PlannedTotals
    time: TimeReport
    space: SpaceReport
    conflicts: tuple[ForeseenReport, ...]
    dead_letters: tuple[DeadLetter, ...]
    """Of the dry run itself: what could not be planned."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where bytes will go, and how many are free there; `None` where nobody tells."""

    work_dir: str
    files_free: int | None
    target_free: int | None


def plan_report(
    job: str,
    state: State,
    conflicts: Iterable[ConflictForeseen],
    unfinished: str,
    learned: Learned,
    room: Room,
) -> PlanReport:
    """Of a dry run, wherever it stands."""
    spec, settings = state.spec, state.settings
    assert spec is not None and settings is not None
    units = tuple(_unit(unit) for unit in state.units.values())
    foreseen = tuple(_foreseen(event) for event in conflicts)
    return PlanReport(
        job=job,
        status=state.status,
        ok=state.terminal and not any(each.certain for each in foreseen),
        source=spec.source,
        target=spec.target,
        mode=spec.mode,
        unfinished=unfinished,
        units=units,
        totals=_totals(units),
        time=_time(expected(state, learned)),
        space=_space(spec, settings, state, learned, room),
        conflicts=foreseen,
        dead_letters=dead_letters(state),
    )


def expected(state: State, learned: Learned) -> Duration:
    """How long a job may take that does what was planned."""
    units = state.units.values()
    documents = sum(unit.documents_estimate for unit in units)
    return duration(documents, sum(unit.bytes_estimate for unit in units), learned.paces)


def kind_of(code: str) -> Kind:
    """What a code means; an older journal, or a newer one, may hold others."""
    return KINDS.get(code, UNKNOWN)


def _time(found: Duration) -> TimeReport:
    seconds = {name: round(getattr(found, name), 3) for name in ("seconds", "least_s", "most_s")}
    return TimeReport(**seconds, origin=found.origin)


def _unit(unit: Unit) -> PlannedUnit:
    return PlannedUnit(
        namespace=unit.id,
        target=unit.target,
        type=unit.type,
        chunks=unit.planned,
        documents=unit.documents_estimate,
        bytes=unit.bytes_estimate,
        indexes=len(unit.indexes),
    )


def _totals(units: Sequence[PlannedUnit]) -> PlannedTotals:
    return PlannedTotals(
        units=len(units),
        chunks=sum(unit.chunks for unit in units),
        documents=sum(unit.documents for unit in units),
        bytes=sum(unit.bytes for unit in units),
        indexes=sum(unit.indexes for unit in units),
    )


def _foreseen(event: ConflictForeseen) -> ForeseenReport:
    kind = kind_of(event.code)
    return ForeseenReport(
        namespace=event.unit,
        code=event.code,
        what=kind.what,
        why=event.why,
        remedy=kind.remedy,
        certain=kind.certain,
    )


def _space(
    spec: JobSpec, settings: RunSettings, state: State, learned: Learned, room: Room
) -> SpaceReport:
    units = state.units.values()
    share = learned.size if learned.size is not None else GUESSED_SIZE[spec.compression]
    ahead = files_limit(settings) if spec.mode == "coordinated" else 0
    return SpaceReport(
        work_dir=room.work_dir,
        files=int(_biggest(units, ahead) * share),
        files_free=room.files_free,
        compression=round(share, 3),
        compression_origin="finished jobs" if learned.size is not None else "a guess",
        target=sum(unit.bytes_estimate for unit in units),
        target_free=room.target_free,
    )


def _biggest(units: Iterable[Unit], ahead: int) -> float:
    """Bytes of the documents of so many chunks, the biggest of all units."""
    size = 0.0
    planned = [(unit.bytes_estimate / unit.planned, unit.planned) for unit in units if unit.planned]
    for each, chunks in sorted(planned, reverse=True):
        size += each * min(chunks, ahead)
        ahead -= min(chunks, ahead)
    return size


# --- for people ---


def plan_text(report: PlanReport) -> str:
    totals, width = report.totals, max((len(unit.namespace) for unit in report.units), default=0)
    lines = [
        f"dry run {report.job} · {report.status} · nothing was written to the target",
        f"  {report.source} → {report.target} ({report.mode})",
        *_unfinished_lines(report.unfinished),
        *(_unit_line(unit, width) for unit in report.units),
        f"  in all {_amount(totals)} of {totals.units:,} collections and views",
        _time_line(report.time),
        *_space_lines(report),
    ]
    lines += [
        f"  not planned: {letter.task} of {letter.entity}: {letter.code}: {letter.why}"
        for letter in report.dead_letters
    ]
    lines += _conflict_lines(report.conflicts)
    return "\n".join(one_line(line) for line in lines)


def _unfinished_lines(job: str) -> list[str]:
    if not job:
        return []
    return [f"  job {job} is unfinished: `ferrylog start` goes on with it; this is of a new one"]


def _unit_line(unit: PlannedUnit, width: int) -> str:
    what = "a view" if unit.type == "view" else _amount(unit)
    return f"  {unit.namespace:<{width}}  {what}"


def _amount(what: PlannedUnit | PlannedTotals) -> str:
    return (
        f"{what.chunks:,} chunks, about {what.documents:,} documents, {size(what.bytes)}, "
        f"{what.indexes:,} indexes beside _id"
    )


def _time_line(time: TimeReport) -> str:
    least, likely, most = (
        span(int(each * 1000)) for each in (time.least_s, time.seconds, time.most_s)
    )
    return f"  time: about {likely}, between {least} and {most} ({time.origin})"


def _space_lines(report: PlanReport) -> list[str]:
    space = report.space
    on_target = _beside(space.target, space.target_free)
    lines = [f"  target: about {on_target}; compression saves some, indexes take some"]
    if report.mode == "coordinated":
        how = f"{space.compression:.0%} of their documents: {space.compression_origin}"
        files = _beside(space.files, space.files_free)
        lines.append(f"  chunk files: at most about {files} in {space.work_dir} ({how})")
    return lines


def _beside(needed: int, free: int | None) -> str:
    if free is None:
        return f"{size(needed)}, nobody tells how much is free"
    return f"{size(needed)}, {size(free)} free{' - TOO LITTLE' if needed > free else ''}"


def _conflict_lines(conflicts: Sequence[ForeseenReport]) -> list[str]:
    """By collection, what is certain first; then what that means for the job."""
    lines: list[str] = []
    ordered = sorted(conflicts, key=lambda each: (each.namespace, not each.certain, each.code))
    for namespace, group in groupby(ordered, key=lambda each: each.namespace):
        lines += ["", f"  {namespace}"]
        for each in group:
            mark = "WILL FAIL" if each.certain else "may"
            lines += [
                f"    {mark:<9}  [{each.code}] {each.what}: {each.why}",
                f"    {'':<9}  → {each.remedy}",
            ]
    certain = sum(each.certain for each in conflicts)
    if certain:
        will = f"{certain} of {len(conflicts)} conflicts will come"
        verdict = f"as things stand a job cannot carry everything: {will} (exit 3)"
    elif conflicts:
        verdict = f"{len(conflicts)} conflicts may come; none is certain"
    else:
        verdict = "no conflict foreseen"
    return [*lines, "", verdict]
