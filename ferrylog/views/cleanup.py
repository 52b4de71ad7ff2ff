"""What was cleaned up, for people and machines."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Literal

from pydantic import Field

from ferrylog.cleanup.items import Freed, Left
from ferrylog.cleanup.sweep import Swept
from ferrylog.redact import one_line
from ferrylog.views.shapes import Report
from ferrylog.views.spans import size, span


class FreedReport(Report):
    bytes: int
    files: int
    collections: int
    requests: int
    snapshots: int


class RemovedReport(Report):
    kind: str
    what: str
    age_s: float | None
    """`None`: nobody can tell."""
    why: str
    freed: FreedReport
    told: str
    """What else there is to say, such as where an archive lies."""


class LeftReport(Report):
    """Something of ferrylog's that stays, though no job needs it."""

    kind: str
    what: str
    why: str
    frees: FreedReport
    """What its removal would free."""


class CleanupReport(Report):
    schema_: Literal["ferrylog.cleanup/1"] = Field("ferrylog.cleanup/1", alias="schema")
    journal: str
    dry_run: bool
    removed: tuple[RemovedReport, ...]
    """In a dry run: what would go, exactly."""
    freed: FreedReport
    """Over all that was removed."""
    left: tuple[LeftReport, ...]
    failed: tuple[LeftReport, ...]
    """What could not be removed."""


def cleanup_report(
    journal: str, swept: Sequence[Swept], left: Sequence[Left], *, dry_run: bool
) -> CleanupReport:
    gone = [each for each in swept if not each.error]
    return CleanupReport(
        journal=journal,
        dry_run=dry_run,
        removed=tuple(map(_removed, gone)),
        freed=_freed(reduce(Freed.__add__, (each.item.freed for each in gone), Freed())),
        left=tuple(
            LeftReport(kind=each.kind, what=each.what, why=each.why, frees=_freed(each.freed))
            for each in left
        ),
        failed=tuple(
            LeftReport(
                kind=each.item.kind,
                what=each.item.what,
                why=each.error,
                frees=_freed(each.item.freed),
            )
            for each in swept
            if each.error
        ),
    )


def _removed(each: Swept) -> RemovedReport:
    item = each.item
    return RemovedReport(
        kind=item.kind,
        what=item.what,
        age_s=round(item.age_ms / 1000, 1) if item.age_ms is not None else None,
        why=item.why,
        freed=_freed(item.freed),
        told=each.told,
    )


def _freed(freed: Freed) -> FreedReport:
    return FreedReport(
        bytes=freed.bytes,
        files=freed.files,
        collections=freed.collections,
        requests=freed.requests,
        snapshots=freed.snapshots,
    )


def cleanup_text(report: CleanupReport) -> str:
    return "\n".join(one_line(line) for line in _lines(report))


def _lines(report: CleanupReport) -> Iterator[str]:
    verb = "would remove" if report.dry_run else "removed"
    for each in report.removed:
        age = f"{span(round(each.age_s * 1000))} old; " if each.age_s is not None else ""
        yield f"{verb} {each.kind} {each.what}: {_amount(each.freed)}; {age}{each.why}"
        if each.told:
            yield f"  {each.told}"
    yield from (f"FAILED {each.kind} {each.what}: {each.why}" for each in report.failed)
    for stays in report.left:
        yield f"stays {stays.kind} {stays.what}: {_amount(stays.frees)}; {stays.why}"


def summary(report: CleanupReport) -> str:
    """In one line."""
    verb = "would free" if report.dry_run else "freed"
    stays = f", {len(report.left)} things stay" if report.left else ""
    failed = f", {len(report.failed)} FAILED" if report.failed else ""
    return one_line(f"cleanup: {verb} {_amount(report.freed)}{stays}{failed}")


def _amount(freed: FreedReport) -> str:
    counts = (
        (freed.files, "file"),
        (freed.collections, "collection"),
        (freed.requests, "request"),
        (freed.snapshots, "snapshot"),
    )
    told = [f"{count:,} {what}{'s' * (count > 1)}" for count, what in counts if count]
    return ", ".join([size(freed.bytes), *told])
