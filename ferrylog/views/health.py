"""How a journal is, for people, for machines, and as an exit code for cron."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from pydantic import Field

from ferrylog.clock import when
from ferrylog.health.examine import Health
from ferrylog.health.recover import NotRecovered, Recovered
from ferrylog.redact import one_line, redact
from ferrylog.views.shapes import Report

Overall = Literal["healthy", "degraded", "critical"]
EXIT_CODES: Final[dict[Overall, int]] = {"healthy": 0, "degraded": 3, "critical": 4}
SHOWN: Final = 10
"""Entities of an issue that are named."""


class IssueReport(Report):
    type: str
    count: float
    limit: float
    severity: Literal["degraded", "critical"]
    entities: tuple[str, ...]
    """The first of them."""
    message: str
    recommendation: str
    """A command, exactly as it can be typed."""


class RecoveredReport(Report):
    type: str
    entity: str
    how: str
    status: str
    """Of the job, afterwards."""


class NotRecoveredReport(Report):
    type: str
    entity: str
    why: str
    recommendation: str


class HealthReport(Report):
    schema_: Literal["ferrylog.health/1"] = Field("ferrylog.health/1", alias="schema")
    journal: str
    checked_at: str
    overall_status: Overall
    running: str | None
    """The job that a process runs now."""
    jobs: int
    """That were looked at: all but those that ended over 30 days ago."""
    last_seq: int
    issues: tuple[IssueReport, ...]
    recovered: tuple[RecoveredReport, ...]
    not_recovered: tuple[NotRecoveredReport, ...]


def health_report(
    journal: str,
    now_ms: int,
    health: Health,
    recovered: Sequence[Recovered] = (),
    not_recovered: Sequence[NotRecovered] = (),
) -> HealthReport:
    severities = {issue.severity for issue in health.issues}
    overall: Overall = (
        "critical" if "critical" in severities else "degraded" if severities else "healthy"
    )
    return HealthReport(
        journal=journal,
        checked_at=when(now_ms),
        overall_status=overall,
        running=health.runs,
        jobs=health.jobs,
        last_seq=health.last_seq,
        issues=tuple(
            IssueReport(
                type=each.type,
                count=each.count,
                limit=each.limit,
                severity=each.severity,
                entities=tuple(each.entities[:SHOWN]),
                message=redact(each.message),
                recommendation=redact(each.recommendation),
            )
            for each in health.issues
        ),
        recovered=tuple(
            RecoveredReport(type=each.type, entity=each.entity, how=each.how, status=each.status)
            for each in recovered
        ),
        not_recovered=tuple(
            NotRecoveredReport(
                type=each.type,
                entity=each.entity,
                why=redact(each.why),
                recommendation=each.recommendation,
            )
            for each in not_recovered
        ),
    )


def health_text(report: HealthReport) -> str:
    return "\n".join(one_line(line) for line in _lines(report))


def _lines(report: HealthReport) -> Iterator[str]:
    runs = f"a process runs job {report.running}" if report.running else "nobody runs a job"
    yield f"{report.journal}: {report.overall_status}; {report.jobs} jobs, {runs}"
    for done in report.recovered:
        yield f"  recovered {done.type} {done.entity}: {done.how}; now {done.status}"
    for each in report.not_recovered:
        yield f"  NOT recovered {each.type} {each.entity}: {each.why}"
        yield f"    → {each.recommendation}"
    for issue in report.issues:
        yield f"  {issue.severity} {issue.type}: {issue.message}"
        yield from (f"    {entity}" for entity in issue.entities)
        yield f"    → {issue.recommendation}"


def summary(report: HealthReport) -> str:
    """In one line."""
    told = ", ".join(f"{each.type} {each.count:g}" for each in report.issues)
    done = f"; recovered {len(report.recovered)}" if report.recovered else ""
    return one_line(f"health: {report.overall_status}{f' ({told})' if told else ''}{done}")
