"""`ferrylog stop`: as a pause, for a job that is not to go on by itself."""

from typing import Annotated

import typer

from ferrylog.asking import ask, wanted_job
from ferrylog.cli import options as o
from ferrylog.cli.answers import show
from ferrylog.jobs import operator
from ferrylog.requests import WHY
from statemachine.stimuli import StopAsked


def stop(
    job: o.Job = None,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Do not wait for what runs: it is done again.")
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Then take back what the job did."),
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Stop a running or a paused job; `ferrylog resume` takes it up again."""
    common = o.Common(journal, json, verbose, quiet)
    wish = StopAsked(operator(), WHY, immediate=immediate, rollback=rollback)
    show(common, [ask(journal, wanted_job(journal, job), wish)])
