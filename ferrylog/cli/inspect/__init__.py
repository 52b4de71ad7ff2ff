"""`ferrylog inspect`: the journal as evidence, and a chain of dumps."""

import typer

from ferrylog.cli.inspect.chain import chain
from ferrylog.cli.inspect.check import check
from ferrylog.cli.inspect.diff import diff
from ferrylog.cli.inspect.events import events
from ferrylog.cli.inspect.explain import explain
from ferrylog.cli.inspect.export import export
from ferrylog.cli.inspect.rollback import rollback
from ferrylog.cli.inspect.timeline import timeline

app = typer.Typer(
    help="Ask the journal, or a chain of dumps.", no_args_is_help=True, rich_markup_mode=None
)
app.command("events")(events)
app.command("explain")(explain)
app.command("timeline")(timeline)
app.command("diff")(diff)
app.command("chain")(chain)
app.command("rollback")(rollback)
app.command("check")(check)
app.command("export")(export)
