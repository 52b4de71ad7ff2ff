"""`ferrylog commit`: nobody takes the job back any more; what was kept for that is freed."""

from typing import Literal

import typer
from pydantic import Field

from executors.folder import remove_if_empty
from executors.preflight import examine_deployments
from executors.undo.catalogue import free
from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.engine import Engine
from ferrylog.errors import Refused
from ferrylog.jobs import find_migration, journal_to_write, operator
from ferrylog.recall import recall
from ferrylog.views.model import Report
from ferrylog.wiring import deployment, job_folder, raise_first
from journal.opening import work_path
from statemachine.decide.asked import refusal
from statemachine.stimuli import CommitAsked


class CommitReport(Report):
    schema_: Literal["ferrylog.commit/1"] = Field("ferrylog.commit/1", alias="schema")
    job: str
    freed: tuple[str, ...]


def commit(
    job: o.Job = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """End the right to roll a job back, and free what was kept for it: the collections that it
    replaced, and its undo logs. Again, it frees what is left."""
    o.Common(journal, json, verbose, quiet)
    with journal_to_write(journal) as written:
        wanted = find_migration(written, job)
        past = recall(written, wanted)
        state = past.state
        assert state.spec is not None
        wish = CommitAsked(operator())
        if not state.committed and (why := refusal(state, wish)):
            raise Refused("commit", why)
        folder = job_folder(written, wanted, state)
        with deployment("target", o.uri("target", target, target_uri_file, state.spec.target)) as (
            reached
        ):
            assert reached is not None
            raise_first(examine_deployments(None, reached, state.spec))
            if not state.committed:  # first of all: what is half freed could not be taken back
                Engine(written, wanted, past).tell([wish], now=clock.now_ms())
            freed = free(reached.client, folder)
            remove_if_empty(folder)
            remove_if_empty(work_path(journal))
        report = CommitReport(job=wanted, freed=freed)
    if json:
        typer.echo(report.as_json())
    elif not quiet:
        for each in freed:
            typer.echo(f"freed {each}", err=True)
        typer.echo(f"job {wanted} is committed", err=True)
