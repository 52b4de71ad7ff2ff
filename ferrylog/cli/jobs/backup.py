"""`ferrylog jobs backup`: a copy of the journal, also while a run writes it."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.views.model import Report
from journal import backup as journal_backup


class BackupReport(Report):
    schema_: Literal["ferrylog.backup/1"] = Field("ferrylog.backup/1", alias="schema")
    journal: str
    file: str
    last_seq: int


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", resolve_path=True)],
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Copy the journal as it stands now to FILE, with a tip of its own, and check all of it.

    The copy is for the day the original is lost. It does not fence the original: to go on
    elsewhere while the original is alive, export the job.
    """
    o.Common(journal, json, verbose, quiet)
    last = journal_backup.backup(journal, file)
    report = BackupReport(journal=str(journal), file=str(file), last_seq=last)
    if json:
        typer.echo(report.as_json())
    else:
        typer.echo(f"{file}: {last} events, checked")
