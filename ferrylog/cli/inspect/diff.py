"""`ferrylog inspect diff`: two jobs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from ferrylog.cli import options as o
from ferrylog.cli.inspect.timeline import history
from ferrylog.recall import recall
from ferrylog.views.compare import Facts, Side, diff_report, diff_text, facts, side
from ferrylog.wiring import find_job
from journal.sqlite import SqliteJournal


def diff(
    job_a: Annotated[str, typer.Argument(metavar="JOB_A")],
    job_b: Annotated[str, typer.Argument(metavar="JOB_B")],
    other_journal: Annotated[
        Path | None,
        typer.Option(resolve_path=True, metavar="PATH", help="Where JOB_B stands, if elsewhere."),
    ] = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Compare what two jobs were asked, how they were run, and what came of it."""
    o.Common(journal, json, verbose, quiet)
    report = diff_report(_told(journal, job_a), _told(other_journal or journal, job_b))
    typer.echo(report.as_json() if json else diff_text(report))


def _told(path: Path, name: str) -> tuple[Side, Facts]:
    with SqliteJournal.read_only(path) as journal:
        job = find_job(journal, name)
        line = history(journal, job)
        return side(str(path), line), facts(recall(journal, job), line)
