"""`ferrylog inspect rollback`: what was undone, in which order."""

import typer

from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.views.rollback import rollback_report, rollback_text
from journal.sqlite import SqliteJournal


def rollback(
    job: o.Job = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Show what a rollback undid, and check that it is the exact reverse of what was started, each
    once: from the journal alone; exit 4 when it is not."""
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as read:
        found = find_job(read, job)
        history = (event for page in read.pages(found) for event in page.events)
        report = rollback_report(found, history)
    typer.echo(report.as_json() if json else rollback_text(report))
    raise typer.Exit(4 if report.order else 0)
