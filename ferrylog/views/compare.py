"""Two jobs side by side: what they were asked, how they were run, what came of it."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final, Literal

from pydantic import Field

from ferrylog.past import Past
from ferrylog.redact import one_line
from ferrylog.views.model import Report, dead_letters
from ferrylog.views.spans import span
from ferrylog.views.timeline import TimelineReport, UnitLine
from statemachine.state import Unit

Value = str | int | float | bool | None
UNIT_FIELDS: Final = (
    "target",
    "type",
    "status",
    "documents_estimate",
    "bytes_estimate",
    "planned",
    "settled",
    "dumped_documents",
    "restored_documents",
    "restored_bytes",
    "present",
    "rejected",
    "mismatched",
    "source_documents",
    "target_documents",
)
STAGE_FIELDS: Final = ("duration_ms", "started", "completed", "retries", "lost", "dead_letters")
WIDTH: Final = 34
"""Columns of each job's values."""


class Row(Report):
    section: str
    """`spec`, `settings`, `result`, or `unit NAMESPACE`."""
    name: str
    a: Value
    b: Value
    """`None`: this job has no such thing."""
    differs: bool


class Side(Report):
    journal: str
    job: str
    asked_by: str
    began: str
    last: str


class DiffReport(Report):
    schema_: Literal["ferrylog.diff/1"] = Field("ferrylog.diff/1", alias="schema")
    a: Side
    b: Side
    differing: int
    rows: tuple[Row, ...]


Facts = Mapping[tuple[str, str], Value]


def diff_report(a: tuple[Side, Facts], b: tuple[Side, Facts]) -> DiffReport:
    """Every fact of either job, those of the first in its order, then the others'."""
    left, right = a[1], b[1]
    sections = list(dict.fromkeys(section for section, _ in (*left, *right)))
    keys = sorted({**left, **right}, key=lambda key: sections.index(key[0]))
    rows = tuple(
        Row(
            section=key[0],
            name=key[1],
            a=left.get(key),
            b=right.get(key),
            differs=left.get(key) != right.get(key),
        )
        for key in keys
    )
    return DiffReport(a=a[0], b=b[0], differing=sum(row.differs for row in rows), rows=rows)


def side(journal: str, line: TimelineReport) -> Side:
    return Side(
        journal=journal, job=line.job, asked_by=line.asked_by, began=line.began, last=line.last
    )


def facts(past: Past, line: TimelineReport) -> Facts:
    """All that is compared, by section and name."""
    return dict(_facts(past, line))


def _facts(past: Past, line: TimelineReport) -> Iterator[tuple[tuple[str, str], Value]]:
    state = past.state
    for section, model in (("spec", state.spec), ("settings", state.settings)):
        for name, value in model.model_dump(mode="json").items() if model is not None else ():
            yield (section, name), _plain(value)
    units = state.units.values()
    yield from _in(
        "result",
        status=str(state.status),
        code=state.code,
        why=state.why,
        units=len(units),
        chunks=sum(unit.planned for unit in units),
        documents=sum(unit.restored_documents for unit in units),
        bytes=sum(unit.restored_bytes for unit in units),
        present=sum(unit.present for unit in units),
        rejected=sum(unit.rejected for unit in units),
        mismatched_chunks=sum(unit.mismatched for unit in units),
        dead_letters=len(dead_letters(state)),
        retries=state.retries,
        lost_attempts=sum(stage.lost for unit in line.units for stage in unit.stages),
        runs=len(line.runs),
        events=line.events,
        duration_ms=line.duration_ms,
        active_ms=past.rates.active_ms,
    )
    drawn = {unit.namespace: unit for unit in line.units}
    for unit in units:
        yield from _unit(unit, drawn.get(unit.id))


def _unit(unit: Unit, drawn: UnitLine | None) -> Iterator[tuple[tuple[str, str], Value]]:
    section = f"unit {unit.id}"
    yield from _in(section, **{name: getattr(unit, name) for name in UNIT_FIELDS})
    yield from _in(section, indexes=len(unit.indexes))
    for stage in drawn.stages if drawn is not None else ():
        values = {f"{stage.stage}_{name}": getattr(stage, name) for name in STAGE_FIELDS}
        yield from _in(section, **values)


def _in(section: str, **values: Value) -> Iterator[tuple[tuple[str, str], Value]]:
    for name, value in values.items():
        yield (section, name), _plain(value)


def _plain(value: Any) -> Value:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, str) else value


def diff_text(report: DiffReport) -> str:
    a, b = report.a, report.b
    lines = [
        f"  {'':<28} {_cell(f'A: {a.job}')} {_cell(f'B: {b.job}')}",
        f"  {'asked for by':<28} {_cell(a.asked_by)} {_cell(b.asked_by)}",
        f"  {'from':<28} {_cell(a.began)} {_cell(b.began)}",
        f"  {'to':<28} {_cell(a.last)} {_cell(b.last)}",
    ]
    if a.journal != b.journal:
        lines += [f"  journal of A: {a.journal}", f"  journal of B: {b.journal}"]
    for section, rows in groupby(report.rows, key=lambda row: row.section):
        lines += _section(section, list(rows))
    lines += ["", f"{report.differing} of {len(report.rows)} facts differ (marked *)"]
    return "\n".join(one_line(line).rstrip() for line in lines)


def _section(section: str, rows: list[Row]) -> list[str]:
    """All of the job's own facts; of a unit only what differs, or that one job has none such."""
    for mark, other in (("A", [row.b for row in rows]), ("B", [row.a for row in rows])):
        if section.startswith("unit ") and all(value is None for value in other):
            return ["", f"* {section}: only {mark} has it"]
    shown = [row for row in rows if row.differs or not section.startswith("unit ")]
    alike = f": {len(rows) - len(shown)} facts agree" if len(shown) < len(rows) else ""
    return [
        "",
        f"  {section}{alike}",
        *(
            f"{'*' if row.differs else ' '}   {row.name:<26} {_shown(row.name, row.a)} "
            f"{_shown(row.name, row.b)}"
            for row in shown
        ),
    ]


def _shown(name: str, value: Value) -> str:
    if value is None:
        return _cell("-")
    if name.endswith("duration_ms") or name == "active_ms":
        return _cell(span(int(value)))
    return _cell(f"{value:,}" if type(value) is int else str(value))


def _cell(text: str) -> str:
    shown = one_line(text)
    return f"{shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + '…':<{WIDTH}}"
