"""`ferrylog verify --from`: a dump by itself, in four stages; see `executors.examination`."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import typer
from pydantic import Field

from executors.examination import Examination, Examined, examine_dump, examine_stored
from executors.look import Finding
from executors.storage.urls import open_store
from executors.subset import Subset
from ferrylog.cli.ends import end_at
from ferrylog.cli.options import Common
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from statemachine.state import DUMP, is_stored

UNTRIED = "only a restore shows that a server takes it"
STAGES = {
    "manifest": "manifest and metadata",
    "files": "set of files",
    "digests": "digests and checksums",
    "structure": "every document",
}


class StageReport(Report):
    stage: str
    files: int
    """To which it came."""
    findings: int
    skipped: bool


class FindingReport(Report):
    stage: str
    file: str
    at: int | None
    code: str
    why: str


class VerifyDumpReport(Report):
    schema_: Literal["ferrylog.verify-dump/1"] = Field("ferrylog.verify-dump/1", alias="schema")
    dump: str
    equal: bool
    """To what was written: nothing is wrong with what was looked at."""
    subset: str
    files: int
    documents: int
    bytes: int
    stages: tuple[StageReport, ...]
    findings: tuple[FindingReport, ...]
    findings_left: int
    """Beyond those that are listed."""
    notes: tuple[str, ...]


def verify_dump(dump: str, common: Common, subset: str, workers: int) -> None:
    """Look at the dump at a path or a URL without a server, in so many processes; exit 4 when
    something is wrong."""
    end, part = end_at(dump), Subset.parse(subset)
    if is_stored(end):
        with TemporaryDirectory(prefix="ferrylog-") as folder:
            store = open_store(end, Path(folder))
            found = examine_stored(store, Path(folder), subset=part, workers=workers)
    else:
        path = Path(end.removeprefix(DUMP))
        found = examine_dump(path, subset=part, workers=workers)
    report = _report(end.removeprefix(DUMP), found)
    typer.echo(report.as_json() if common.json else "\n".join(_lines(report)))
    raise typer.Exit(0 if report.equal else 4)


def _report(dump: str, found: Examination) -> VerifyDumpReport:
    return VerifyDumpReport(
        dump=dump,
        equal=found.sound,
        subset=found.subset,
        files=found.files,
        documents=found.documents,
        bytes=found.bytes,
        stages=tuple(map(_stage, found.stages)),
        findings=tuple(map(_finding, found.findings)),
        findings_left=sum(each.findings for each in found.stages) - len(found.findings),
        notes=found.notes,
    )


def _stage(each: Examined) -> StageReport:
    return StageReport(
        stage=each.stage, files=each.files, findings=each.findings, skipped=each.skipped
    )


def _finding(each: Finding) -> FindingReport:
    return FindingReport(stage=each.stage, file=each.file, at=each.at, code=each.code, why=each.why)


def _lines(report: VerifyDumpReport) -> Iterator[str]:
    for each in report.stages:
        yield f"{_verdict(each)}  {STAGES[each.stage]}"
    for found in report.findings:
        where = one_line(found.file) + ("" if found.at is None else f", offset {found.at:,}")
        yield f"    {found.code}: {where}: {one_line(found.why)}"
    if report.findings_left:
        yield f"    and {report.findings_left:,} more"
    yield from (f"note: {one_line(note)}" for note in report.notes)
    part = f", of the subset {report.subset}" if report.subset else ""
    read = f"{report.documents:,} documents, {report.bytes:,} bytes in {report.files:,} files{part}"
    verdict = f"nothing is wrong; {UNTRIED}" if report.equal else "the dump is DAMAGED"
    yield f"{read}: {verdict}"


def _verdict(stage: StageReport) -> str:
    if stage.skipped:
        return "skipped"
    if stage.findings:
        return "DAMAGED"
    return "ok     " if stage.files else "none   "
