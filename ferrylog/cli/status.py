"""`ferrylog status`: where a job stands, from the journal alone."""

from typing import Annotated

import typer

from ferrylog.cli import options as o
from ferrylog.recall import recall
from ferrylog.views.human import status_text
from ferrylog.views.model import status_report
from ferrylog.wiring import find_job
from journal.lease import held
from journal.sqlite import SqliteJournal


def status(
    job: o.Job = None,
    at: Annotated[
        str | None, typer.Option(metavar="SEQ|TIME", help="As it stood there or then.")
    ] = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Show a job's progress; works while it runs, from any terminal."""
    o.Common(journal, json, verbose, quiet)
    running = held(journal)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        past = recall(opened, wanted, to_seq=o.seq_of(opened, wanted, at))
        running = running and at is None and wanted == opened.latest_job()
    report = status_report(wanted, past, running=running and not past.state.resting)
    typer.echo(report.as_json() if json else status_text(report))
