"""`ferrylog jobs`: what a journal holds, and how a job or all of it gets elsewhere."""

import typer

from ferrylog.cli.jobs.backup import backup
from ferrylog.cli.jobs.listing import jobs
from ferrylog.cli.jobs.move import export, import_

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, callback=jobs)
app.command("export")(export)
app.command("import")(import_)
app.command("backup")(backup)
