"""Reports as text for people."""

from collections.abc import Iterator

from ferrylog.redact import one_line
from ferrylog.views import exported, increments
from ferrylog.views.fidelity import findings
from ferrylog.views.limits import limits_line
from ferrylog.views.shapes import ChunkReport, PoolReport, StatusReport, UnitReport
from ferrylog.views.spans import duration, size

LETTERS = 10
"""Dead letters that are shown; `ferrylog dead-letters list` has all."""
NAME = 60
"""Columns of names; a longer one moves what follows it."""


def status_text(report: StatusReport) -> str:
    lines = [*_head(report), *_pools(report)]
    width = max((len(one_line(unit.namespace)) for unit in report.units), default=0)
    width = min(width, NAME)
    lines += [_unit_line(report.kind, unit, width) for unit in report.units]
    lines += map(_chunk_line, report.chunks or ())
    lines += [*exported.lines(report), *increments.lines(report)]
    lines += [*mishaps(report), *findings(report), *_answers(report)]
    return "\n".join(one_line(line) for line in lines)


def _head(report: StatusReport) -> Iterator[str]:
    totals, rate = report.totals, report.rate
    phase = f" ({report.phase})" if report.phase != "done" else ""
    running = " · running now" if report.running else ""
    left = f" · about {duration(report.eta_s)} left" if report.eta_s is not None else ""
    yield f"job {report.job} · {report.kind} · {report.status}{phase}{running}"
    yield f"  {route(report)}"
    yield (
        f"  {bar(totals.percent)} {totals.percent:5.1f} %   "
        f"{totals.documents.done:,} of about {totals.documents.total_estimate:,} documents"
        + (f", {size(totals.bytes)}" if report.kind != "verify" else "")
    )
    yield (
        f"  {rate.average_docs_s:,.0f} documents/s on average, {rate.current_docs_s:,.0f} at last, "
        f"{rate.peak_docs_s:,.0f} at best{left}"
    )
    if report.group is not None:
        group = report.group
        yield (
            f"  {group.title or 'a group'}: {group.completed:,} of {group.operations:,} operations "
            f"applied, {group.failed:,} failed, {group.dropped:,} dropped"
        )
    if report.rollback is not None:
        back = report.rollback
        down = f", down to {back.to}" if back.to else ""
        yield (
            f"  rollback{down}: {back.undone:,} of {back.total:,} undone, {back.skipped:,} "
            f"skipped, {back.kept:,} kept"
        )
    control = report.control
    if control is not None:
        at_once = " at once" if control.immediate else ""
        undone = ", with rollback" if control.rollback else ""
        yield f"  {control.asked}{at_once}{undone}: {control.by}, {control.at}: {control.why}"
    elif report.why and report.status not in ("completed", "rolled_back"):
        yield f"  {reason(report.code, report.why)}"


def reason(code: str, why: str) -> str:
    """Both, the code once."""
    return why if why.startswith(code) else f"{code}: {why}"


def route(report: StatusReport) -> str:
    """From where to where, and how; a dump and its restore have but one way."""
    how = report.mode if report.kind in ("migrate", "plan") else report.layout
    return f"{report.source} → {report.target}" + (f" ({how})" if how else "")


def _pools(report: StatusReport) -> Iterator[str]:
    if report.running:
        yield from (f"  {line}" for line in limits_line(report.settings))
        yield "  " + " · ".join(pool_line(name, pool) for name, pool in report.pools.items())


def pool_line(name: str, pool: PoolReport) -> str:
    text = f"{name} pool: {pool.busy} of {pool.workers} busy, {pool.pending:,} pending"
    text += f", {pool.waiting:,} waiting" if pool.waiting else ""
    return text if pool.breaker.state == "closed" else f"{text}, breaker {pool.breaker.state}"


def _unit_line(kind: str, unit: UnitReport, width: int) -> str:
    """A view has nothing to carry."""
    chunks, documents = unit.chunks, unit.documents
    sides = {"dump": chunks.dump, "export": chunks.dump, "verify": chunks.verify}
    side = sides.get(kind, chunks.restore)
    done = f"{side.completed}/{chunks.total} chunks"
    what = "a view" if unit.type == "view" else f"{documents.done:,} documents"
    series = " of a time series" if unit.type == "timeseries" else ""
    rejected = f", {documents.rejected:,} rejected" if documents.rejected else ""
    dropped = f", {unit.dropped:,} chunks left out" if unit.dropped else ""
    priority = f", priority {unit.priority}" if unit.priority else ""
    return (
        f"  {bar(unit.percent)} {unit.percent:5.1f} %  {one_line(unit.namespace):<{width}}  "
        f"{unit.status:<10}  {done:>14}  {what}{series}{rejected}{dropped}"
        f"{priority}"
    )


def _chunk_line(chunk: ChunkReport) -> str:
    sides = ", ".join(
        f"{kind} {side.status}" + (f" ({side.attempts})" if side.attempts > 1 else "")
        for kind, side in chunk.sides.items()
    )
    state = "" if chunk.state == "open" else f" {chunk.state}, {chunk.rejected:,} rejected"
    why = f": {chunk.code}: {chunk.why}" if chunk.code else ""
    priority = f", priority {chunk.priority}" if chunk.priority else ""
    place = f"{chunk.lower or '…'} to {chunk.upper or '…'}"
    return f"    {chunk.chunk}  {place}  {sides}{state}{priority}{why}"


def mishaps(report: StatusReport) -> Iterator[str]:
    if report.retries:
        yield f"  {report.retries:,} {'retry' if report.retries == 1 else 'retries'}"
    for letter in report.dead_letters[:LETTERS]:
        yield f"  given up: {letter.task} of {letter.entity}: {letter.code}: {letter.why}"
    hidden = len(report.dead_letters) - LETTERS
    if hidden > 0:
        yield f"  and {hidden:,} more: see `ferrylog dead-letters list`"
    if report.dropped_indexes:
        yield f"  {report.dropped_indexes:,} indexes left out"
    if report.mismatched_chunks:
        yield f"  {report.mismatched_chunks} chunks differ between source and target"
    for alert in report.alerts:
        why = f": {alert.why}" if alert.why else ""
        yield f"  alert: {alert.alert} of {alert.entity}{why}"


def _answers(report: StatusReport) -> Iterator[str]:
    """Those that ask for something to be done; who asked for a rest was said above."""
    for number, each in enumerate(report.answers):
        if each.remedy:
            if number or report.control is None:
                yield f"  {each.question} {each.answer}"
            yield f"  → {each.remedy}"


def bar(percent: float, cells: int = 24) -> str:
    full = int(percent / 100 * cells)
    return "[" + "#" * full + "." * (cells - full) + "]"
