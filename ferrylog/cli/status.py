"""`ferrylog status`: where a job stands, from the journal alone."""

import typer

from ferrylog.cli import options as o
from ferrylog.views.human import status_text
from ferrylog.views.model import follow, status_report
from ferrylog.wiring import find_job
from journal.lease import held
from journal.sqlite import SqliteJournal


def status(
    job: o.Job = None,
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
        state, rates, last = follow(opened.read(wanted))
        running = running and wanted == opened.latest_job()
    assert last is not None
    report = status_report(
        wanted,
        state,
        rates,
        seq=last.seq,
        at_ms=last.recorded_at_ms,
        running=running and not state.resting,
    )
    typer.echo(report.model_dump_json(by_alias=True) if json else status_text(report))
