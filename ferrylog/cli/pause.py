"""`ferrylog pause`: ask the running process to finish what is in flight and stop."""

import typer

from ferrylog.cli import options as o
from ferrylog.errors import NotRunning
from ferrylog.recall import recall
from ferrylog.wiring import find_job, operator
from journal.inbox import Inbox
from journal.lease import held
from journal.sqlite import SqliteJournal


def pause(
    job: o.Job = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Controlled pause: what runs goes on to its end, nothing new starts."""
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job if job is not None else opened.latest_job())
        state = recall(opened, wanted).state
        running = held(journal) and wanted == opened.latest_job()
    if state.resting or not running:
        raise NotRunning(wanted, state.status)
    Inbox(journal).leave(wanted, "pause", by=operator())
    typer.echo(f"asked job {wanted} to pause; `ferrylog status` shows when it has", err=True)
