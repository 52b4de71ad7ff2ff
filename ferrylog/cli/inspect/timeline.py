"""`ferrylog inspect timeline`: a job's history on one screen."""

from heapq import merge
from typing import Annotated

import typer

from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.views.drawing import timeline_text
from ferrylog.views.timeline import JOB_KINDS, Timeline, TimelineReport, timeline_report
from journal import audit, overview
from journal.audit import Wanted
from journal.lease import held
from journal.sqlite import SqliteJournal
from statemachine.words import THE_JOB, JobId


def timeline(
    job: o.Job = None,
    silence: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How long a silence gets a line.")
    ] = 60,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Show runs, units stage by stage, pauses, silences, and where the clock went back."""
    o.Common(journal, json, verbose, quiet)
    running = held(journal)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        running = running and wanted == opened.latest_job()
        report = history(opened, wanted, silence_ms=silence * 1000, running=running)
    typer.echo(report.as_json() if json else timeline_text(report))


def history(
    journal: SqliteJournal, job: JobId, *, silence_ms: int = 60_000, running: bool = False
) -> TimelineReport:
    """Of a job of the journal; one pass over its marks. Raises `DamagedJournal`."""
    _, requested = audit.request(journal, job)
    began, last = overview.span(journal, job)
    line = Timeline(began, last, silence_ms)
    line.hear(overview.marks(journal, job))
    asked = (Wanted(job, entity=THE_JOB, kind=kind) for kind in JOB_KINDS)
    of_job = list(
        merge(*(audit.find(journal, each) for each in asked), key=lambda recorded: recorded.seq)
    )
    return timeline_report(job, requested, line, of_job, running=running)
