"""`ferrylog jobs export` and `import`: one job goes on in another journal."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.jobs import find_job, journal_to_write
from ferrylog.moving import arriving, export_job, import_job
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from journal.sqlite import SqliteJournal


class MovedReport(Report):
    schema_: Literal["ferrylog.moved/1"] = Field("ferrylog.moved/1", alias="schema")
    job: str
    journal: str
    file: str


def export(
    job: Annotated[str, typer.Argument(metavar="JOB")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", resolve_path=True, help="Default: JOB.ndjson")
    ] = None,
    key_file: o.KeyFile = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Let a job leave this journal: from here on it cannot run here; its file goes on elsewhere.

    Chunk files in the work folder may travel along; what is missing there is dumped again. Undo
    logs must, or nobody takes back what the job did here.
    """
    o.Common(journal, json, verbose, quiet)
    file = out if out is not None else Path.cwd() / f"{job}.ndjson"
    SqliteJournal.read_only(journal).close()
    with journal_to_write(journal) as written:
        moved = export_job(written, find_job(written, job), file, o.key(key_file))
    report = MovedReport(job=moved, journal=str(journal), file=str(file))
    if json:
        typer.echo(report.as_json())
    else:
        typer.echo(one_line(f"job {moved} has left {journal}"))
        typer.echo(one_line(f"go on with: ferrylog jobs import {shlex.quote(str(file))}"))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", resolve_path=True)],
    key_file: o.KeyFile = None,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="It left from here and arrived nowhere else.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Take an exported job into this journal, every hash as it was; `resume` goes on with it."""
    o.Common(journal, json, verbose, quiet)
    found = arriving(file, o.key(key_file))
    with journal_to_write(journal) as written:
        moved = import_job(written, file, found, take_back=take_back)
    report = MovedReport(job=moved, journal=str(journal), file=str(file))
    if json:
        typer.echo(report.as_json())
    else:
        words = shlex.join(("ferrylog", "resume", moved, "--journal", str(journal)))
        typer.echo(one_line(f"job {moved} is here"))
        typer.echo(one_line(f"go on with: {words}"))
