"""`ferrylog inspect export`: a job's history as a file that stands for itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.moving import write_evidence
from ferrylog.views.model import Report
from journal.sqlite import SqliteJournal


class ExportReport(Report):
    schema_: Literal["ferrylog.exported/1"] = Field("ferrylog.exported/1", alias="schema")
    job: str
    file: str
    sealed: bool


def export(
    job: o.Job = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", resolve_path=True, help="Default: JOB.evidence.ndjson"),
    ] = None,
    key_file: o.KeyFile = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Write every event of a job with its hash, and a manifest; `inspect check FILE` verifies it
    without the journal. The job may be running."""
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        file = out if out is not None else Path.cwd() / f"{wanted}.evidence.ndjson"
        write_evidence(opened, wanted, file, o.key(key_file))
    report = ExportReport(job=wanted, file=str(file), sealed=key_file is not None)
    if json:
        typer.echo(report.as_json())
    else:
        typer.echo(f"job {wanted}: {file}\nverify with: ferrylog inspect check {file}")
