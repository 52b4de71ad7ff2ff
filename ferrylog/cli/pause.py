"""`ferrylog pause`: what runs goes on to its end, or is left in doubt; nothing new starts."""

from typing import Annotated

import typer

from ferrylog.asking import ask, wanted_job
from ferrylog.cli import options as o
from ferrylog.cli.answers import show
from ferrylog.jobs import operator
from ferrylog.requests import WHY
from statemachine.stimuli import PauseAsked


def pause(
    job: o.Job = None,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Do not wait for what runs: it is done again.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Pause the running job; `ferrylog resume` goes on where it left off."""
    common = o.Common(journal, json, verbose, quiet)
    wish = PauseAsked(operator(), WHY, immediate=immediate)
    show(common, [ask(journal, wanted_job(journal, job), wish)])
