"""Reports as text for people."""

from ferrylog.redact import one_line
from ferrylog.views.model import StatusReport, UnitReport


def status_text(report: StatusReport) -> str:
    totals = report.totals
    lines = [
        f"job {report.job} · {report.kind} · {report.status}"
        + (f" ({report.phase})" if report.phase != "done" else "")
        + (" · running now" if report.running else ""),
        f"  {report.source} → {report.target}",
        f"  {bar(totals.percent)} {totals.percent:5.1f} %   "
        f"{totals.documents.restored:,} of about {totals.documents.total_estimate:,} documents, "
        f"{size(totals.bytes)}",
        f"  {report.rate.average_docs_s:,.0f} documents/s on average, "
        f"{report.rate.current_docs_s:,.0f} at last, {report.rate.peak_docs_s:,.0f} at best"
        + (f" · about {duration(report.eta_s)} left" if report.eta_s is not None else ""),
    ]
    if report.why and report.status != "completed":
        lines.append(f"  {one_line(report.why)}")
    width = max((len(unit.namespace) for unit in report.units), default=0)
    lines += [_unit_line(unit, width) for unit in report.units]
    if report.retries:
        lines.append(f"  {report.retries} retries")
    lines += [
        one_line(f"  given up: {letter.task} of {letter.entity}: {letter.code}: {letter.why}")
        for letter in report.dead_letters
    ]
    if report.mismatched_chunks:
        lines.append(f"  {report.mismatched_chunks} chunks differ between source and target")
    return "\n".join(lines)


def _unit_line(unit: UnitReport, width: int) -> str:
    done = f"{unit.chunks.restore.completed}/{unit.chunks.total} chunks"
    rejected = f", {unit.documents.rejected:,} rejected" if unit.documents.rejected else ""
    return (
        f"  {bar(unit.percent)} {unit.percent:5.1f} %  {one_line(unit.namespace):<{width}}  "
        f"{unit.status:<10}  {done:>14}  {unit.documents.restored:,} documents{rejected}"
    )


def bar(percent: float, cells: int = 24) -> str:
    full = int(percent / 100 * cells)
    return "[" + "#" * full + "." * (cells - full) + "]"


def size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
