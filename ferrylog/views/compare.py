"""Two jobs side by side: what they were asked, how they were run, what came of it.

A dry run has what it expects where a job has what came; beside a job, only that is compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from pydantic import Field

from ferrylog.past import Past
from ferrylog.redact import one_line
from ferrylog.views.fidelity import damaged_places
from ferrylog.views.foretold import Forecast, Judged, Mishap, Outcome, judged
from ferrylog.views.model import Report, dead_letters
from ferrylog.views.spans import span
from ferrylog.views.timeline import TimelineReport, UnitLine
from ferrylog.views.work import done
from statemachine.state import State, Unit

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
    "differing",
    "source_documents",
    "target_documents",
)
SUMS: Final = (
    "planned", "done_documents", "done_bytes", "present", "rejected", "mismatched", "differing",
)  # fmt: skip
STAGE_FIELDS: Final = ("duration_ms", "started", "completed", "retries", "lost", "dead_letters")
WIDTH: Final = 34
"""Columns of each job's values."""


class Row(Report):
    section: str
    """`spec`, `settings`, `result`, or `unit NAMESPACE`; of a dry run beside a job also `foreseen`
    and `surprises`."""
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


@dataclass(frozen=True, slots=True)
class Told:
    """All that is compared of one job, by section and name."""

    side: Side
    facts: Facts
    forecast: Forecast | None
    """Of a dry run."""
    outcome: Outcome


def diff_report(a: Told, b: Told) -> DiffReport:
    """Every fact of either job, those of the first in its order, then the others'."""
    left, right = _comparable(a, b), _comparable(b, a)
    sections = list(dict.fromkeys(section for section, _ in (*left, *right)))
    keys = sorted({**left, **right}, key=lambda key: sections.index(key[0]))
    rows = [
        Row(
            section=key[0],
            name=key[1],
            a=left.get(key),
            b=right.get(key),
            differs=left.get(key) != right.get(key),
        )
        for key in keys
    ]
    rows += _foretold(a, b)
    differing = sum(row.differs for row in rows)
    return DiffReport(a=a.side, b=b.side, differing=differing, rows=tuple(rows))


def _comparable(one: Told, other: Told) -> Facts:
    """Without what a dry run beside it does not speak of."""
    if one.forecast is not None or other.forecast is None:
        return one.facts
    spoken = {section for section, _ in other.facts}
    return {
        key: value for key, value in one.facts.items() if key in other.facts or key[0] not in spoken
    }


def _foretold(a: Told, b: Told) -> Iterator[Row]:
    """What a dry run foresaw beside what came of the other; nothing for two of one kind."""
    if a.forecast is not None and b.forecast is None:
        for each in judged(a.forecast, b.outcome):
            yield _row(each, a=each.foreseen, b=each.came)
    elif b.forecast is not None and a.forecast is None:
        for each in judged(b.forecast, a.outcome):
            yield _row(each, a=each.came, b=each.foreseen)


def _row(judged: Judged, *, a: Value, b: Value) -> Row:
    return Row(section=judged.section, name=judged.name, a=a, b=b, differs=judged.differs)


def told(
    journal: str,
    past: Past,
    line: TimelineReport,
    forecast: Forecast | None,
    mishaps: Mapping[Mishap, int],
) -> Told:
    """Of one job of that journal."""
    side = Side(
        journal=journal, job=line.job, asked_by=line.asked_by, began=line.began, last=line.last
    )
    outcome = Outcome(past.rates.active_ms, mishaps)
    return Told(side, dict(_facts(past, line, forecast)), forecast, outcome)


Fact = tuple[tuple[str, str], Value]


def _facts(past: Past, line: TimelineReport, forecast: Forecast | None) -> Iterator[Fact]:
    state = past.state
    for section, model in (("spec", state.spec), ("settings", state.settings)):
        for name, value in model.model_dump(mode="json").items() if model is not None else ():
            if isinstance(value, dict):  # of a job that exports: in which form
                yield from _in(
                    section, **{f"{name}_{inner}": each for inner, each in value.items()}
                )
            else:
                yield (section, name), _plain(value)
    units = [_unit(state, unit) for unit in state.units.values()]
    sums = {name: sum(int(unit[name] or 0) for unit in units) for name in SUMS}
    yield from _in(
        "result",
        status=str(state.status),
        code=state.code,
        why=state.why,
        units=len(units),
        chunks=sums["planned"],
        documents=sums["done_documents"],
        bytes=sums["done_bytes"],
        present=sums["present"],
        rejected=sums["rejected"],
        mismatched_chunks=sums["mismatched"],
        differing_metadata=sums["differing"],
        dead_letters=len(dead_letters(state)),
        active_ms=int(forecast.time.seconds * 1000) if forecast else past.rates.active_ms,
    )
    if forecast is None:
        yield from _run(past, line)
    drawn = {unit.namespace: unit for unit in line.units if forecast is None}
    for namespace, unit in zip(state.units, units, strict=True):
        yield from _in(f"unit {namespace}", **unit)
        yield from _stages(f"unit {namespace}", drawn.get(namespace))


def _run(past: Past, line: TimelineReport) -> Iterator[Fact]:
    """How it went; a dry run expects nothing of this."""
    yield from _in(
        "result",
        retries=past.state.retries,
        lost_attempts=sum(stage.lost for unit in line.units for stage in unit.stages),
        runs=len(line.runs),
        events=line.events,
        duration_ms=line.duration_ms,
        repaired=sum(unit.repaired for unit in past.state.units.values()),
        damaged_places=damaged_places(past.state),
        users_left=past.state.users,
        roles_left=past.state.roles,
        cluster_time=past.state.cluster_time,
    )


def _unit(state: State, unit: Unit) -> dict[str, Value]:
    values = {name: _plain(getattr(unit, name)) for name in UNIT_FIELDS}
    documents, size = done(state, unit)
    values |= {"done_documents": documents, "done_bytes": size, "indexes": len(unit.indexes)}
    return values | _expected(state, unit)


def _expected(state: State, unit: Unit) -> dict[str, Value]:
    """What a dry run expects of the job: that it carries what was estimated."""
    spec = state.spec
    if spec is None or spec.kind != "plan":
        return {}
    names = ["restored_documents", "done_documents"]
    names += ["dumped_documents"] if spec.mode == "coordinated" else []
    names += ["source_documents", "target_documents"] if spec.verify else []
    documents = dict.fromkeys(names, unit.documents_estimate)
    return {**documents, "restored_bytes": unit.bytes_estimate, "done_bytes": unit.bytes_estimate}


def _stages(section: str, drawn: UnitLine | None) -> Iterator[Fact]:
    for stage in drawn.stages if drawn is not None else ():
        values = {f"{stage.stage}_{name}": getattr(stage, name) for name in STAGE_FIELDS}
        yield from _in(section, **values)


def _in(section: str, **values: Value) -> Iterator[Fact]:
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
