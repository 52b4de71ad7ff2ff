"""A job on one screen: what a glance from another terminal tells. Lines of text, nothing else."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ferrylog.redact import one_line
from ferrylog.views.fidelity import glance
from ferrylog.views.human import mishaps, pool_line, route
from ferrylog.views.limits import limits_line
from ferrylog.views.shapes import PhaseReport, StatusReport
from ferrylog.views.spans import duration, size
from ferrylog.views.work import done
from statemachine.state import State
from statemachine.words import Status, UnitId, unit_of

EIGHTHS: Final = " ▏▎▍▌▋▊▉"
NAME: Final = 36
"""Columns of a unit's name."""


class Active(NamedTuple):
    """A unit that somebody works on."""

    namespace: str
    percent: float
    at_work: int
    docs_s: float


@dataclass(slots=True)
class Pace:
    """Documents per second of each unit, from one look to the next."""

    _documents: dict[UnitId, int] = field(default_factory=dict)
    _at_s: float = 0.0

    def look(self, state: State, percents: dict[str, float], at_s: float) -> list[Active]:
        """The units at work, the busiest first."""
        at_work = Counter(
            unit_of(key)
            for (_, status, _), queue in state.queues.items()
            if status is Status.PROCESSING
            for key in queue
        )
        before, span_s = self._documents, max(0.001, at_s - self._at_s)
        now = {unit.id: done(state, unit).documents for unit in state.units.values()}
        moved = {each: count - before.get(each, count) for each, count in now.items()}
        self._documents, self._at_s = now, at_s
        found = [
            Active(each, percents.get(each, 0.0), at_work[each], max(0, moved[each]) / span_s)
            for each in now
            if at_work[each] or moved[each] > 0
        ]
        return sorted(found, key=lambda unit: (-unit.at_work, -unit.docs_s))


def dashboard(report: StatusReport, active: list[Active], *, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` characters; units take what room is left."""
    lines = [*_head(report, width), *_conduct(report)]
    room = height - len(lines) - 1
    shown = active[: max(0, room)]
    if shown:
        lines += ["", *map(_unit, shown)] if room > len(shown) else [*map(_unit, shown)]
    hidden = len(active) - len(shown)
    if hidden and len(lines) < height:
        lines.append(f"  and {hidden:,} more at work")
    return [one_line(line)[:width] for line in lines[:height]]


def _head(report: StatusReport, width: int) -> Iterator[str]:
    totals, cells = report.totals, max(10, min(60, width - 60))
    phase = f" · {report.phase}" if report.phase != "done" else ""
    left = f"   about {duration(report.eta_s)} left" if report.eta_s is not None else ""
    alone = "" if report.running or report.phase == "done" else " · no process runs it"
    yield f"job {report.job} · {report.kind} · {report.status}{phase}{alone}"
    yield route(report)
    yield (
        f"{unicode_bar(totals.percent, cells)} {totals.percent:5.1f} %   "
        f"{duration(report.elapsed_s)}{left}"
    )
    for each in report.phases:
        yield _phase(each, cells)


def _phase(phase: PhaseReport, cells: int) -> str:
    weight = f"weighs {phase.weight:.0f} %" if phase.weight else "beside"
    return (
        f"{unicode_bar(phase.percent, cells)} {phase.percent:5.1f} %   {phase.phase:<8} "
        f"{phase.done:,}/{phase.total:,}, {weight}"
    )


def _conduct(report: StatusReport) -> Iterator[str]:
    rate, documents = report.rate, report.totals.documents
    yield (
        f"{rate.current_docs_s:,.0f} docs/s now, {rate.average_docs_s:,.0f} on average, "
        f"{rate.peak_docs_s:,.0f} at best, {size(rate.bytes_s)}/s"
    )
    yield (
        f"{documents.done:,} of about {documents.total_estimate:,} documents, "
        f"{size(report.totals.bytes)}, {report.stats.active_units:,} units active"
    )
    yield from limits_line(report.settings)
    yield " · ".join(pool_line(name, pool) for name, pool in report.pools.items())
    yield from (line.strip() for line in (*mishaps(report), *glance(report)))
    for each in report.answers:
        if each.remedy:
            yield f"{each.answer} → {each.remedy}"


def _unit(unit: Active) -> str:
    name = one_line(unit.namespace)
    name = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    return (
        f"  {unicode_bar(unit.percent, 16)} {unit.percent:5.1f} %  {name:<{NAME}}  "
        f"{unit.at_work} at work, {unit.docs_s:,.0f} docs/s"
    )


def line(report: StatusReport) -> str:
    """The same in one line, where nothing can be drawn anew."""
    left = f"  about {duration(report.eta_s)} left" if report.eta_s is not None else ""
    return one_line(
        f"{report.recorded_at}  {report.status}  {report.phase}  {report.totals.percent:.1f} %  "
        f"{report.totals.documents.done:,} documents  {report.rate.current_docs_s:,.0f} docs/s"
        f"  {report.retries:,} retries  {len(report.alerts)} alerts{left}"
    )


def unicode_bar(percent: float, cells: int) -> str:
    """To the eighth of a cell."""
    eighths = int(max(0.0, min(100.0, percent)) / 100 * cells * 8)
    full, rest = divmod(eighths, 8)
    part = EIGHTHS[rest] if full < cells else ""
    return "│" + ("█" * full + part).ljust(cells) + "│"
