"""`ferrylog jobs`: what the journal holds."""

from typing import Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.clock import when
from ferrylog.errors import Usage
from ferrylog.recall import recall
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from journal.sqlite import SqliteJournal
from statemachine.words import JobId


class JobLine(Report):
    job: str
    kind: str
    status: str
    source: str
    target: str
    epoch: int
    events: int
    began: str
    last: str


class JobsReport(Report):
    schema_: Literal["ferrylog.jobs/1"] = Field("ferrylog.jobs/1", alias="schema")
    jobs: tuple[JobLine, ...]


def jobs(
    context: typer.Context,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """List the jobs of a journal, the oldest first; or move one, or copy all."""
    if context.invoked_subcommand is not None:
        _options_belong_to(context)
        return
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        report = JobsReport(jobs=tuple(_line(opened, job) for job in opened.jobs()))
    if json:
        typer.echo(report.as_json())
        return
    for line in report.jobs:
        text = (
            f"{line.job}  {line.kind:<8}  {line.status:<9}  {line.source} → {line.target}  "
            f"began {line.began}  last {line.last}"
        )
        typer.echo(one_line(text))
    if not report.jobs:
        typer.echo("no jobs", err=True)


def _options_belong_to(context: typer.Context) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise Usage(
                f"--{name} stands before `{context.invoked_subcommand}`",
                remedy=f"write it behind: ferrylog jobs {context.invoked_subcommand} … --{name} …",
            )


def _line(journal: SqliteJournal, job: JobId) -> JobLine:
    past = recall(journal, job)
    state = past.state
    assert state.spec is not None
    return JobLine(
        job=job,
        kind=state.spec.kind,
        status=state.status,
        source=state.spec.source,
        target=state.spec.target,
        epoch=state.epoch,
        events=past.position.version,
        began=when(past.rates.began_ms),
        last=when(past.at_ms),
    )
