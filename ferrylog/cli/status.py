"""`ferrylog status`: where a job stands, from the journal alone."""

from typing import Annotated

import typer

from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.past import collector_at_rest
from ferrylog.recall import recall
from ferrylog.views.human import status_text
from ferrylog.views.model import status_report
from ferrylog.views.told import told
from journal.lease import held
from journal.sqlite import SqliteJournal


def status(
    job: o.Job = None,
    at: Annotated[
        str | None, typer.Option(metavar="SEQ|TIME", help="As it stood there or then.")
    ] = None,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Every open chunk, and what was left out of others.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Show a job's progress; works while it runs, from any terminal."""
    o.Common(journal, json, verbose, quiet)
    running = held(journal)
    with collector_at_rest(), SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        past = recall(opened, wanted, to_seq=o.seq_of(opened, wanted, at))
        running = running and at is None and wanted == opened.latest_job()
        facts = told(opened, wanted, past)
        running = running and not past.state.resting
        report = status_report(wanted, past, running=running, told=facts, chunks=chunks)
    typer.echo(report.as_json() if json else status_text(report))
