"""`ferrylog rollback`: what a job did is taken back, in the exact reverse order."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger

from executors.clients import Deployment
from executors.undo.foretelling import foretell
from ferrylog.asking import ask
from ferrylog.cli import options as o
from ferrylog.cli.answers import show
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import run_settings
from ferrylog.endpoints import endpoints_of
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.jobs import find_job, find_migration, journal_to_write, operator
from ferrylog.past import Past
from ferrylog.recall import recall
from ferrylog.rollbacks import ASKED, TakingBack, planned, refuse
from ferrylog.views.rollback import foretold, rollback_text
from ferrylog.wiring import deployment, job_folder
from journal.lease import held
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.stimuli import StopAsked
from statemachine.words import JobId, TaskKind


def rollback(
    job: o.Job = None,
    to: Annotated[
        str, typer.Option("--to", metavar="OP", help="Only what was started after this operation.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Say what would be done, in order.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="What the job made goes, whatever others wrote to it since."),
    ] = False,
    continue_on_error: Annotated[
        bool,
        typer.Option(
            "--continue-on-error", help="A failed undo stops only those that wait for it."
        ),
    ] = False,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Of a running job: do not wait for what runs.")
    ] = False,
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    endpoint: o.Endpoints = None,
    endpoint_uri_file: o.EndpointFiles = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Take back what a job or a group did to the target: of a job that has ended, rests, or runs.
    What others changed since is kept and named; exit 3 then."""
    common = o.Common(journal, json, verbose, quiet)
    running = _running(journal, job)
    if dry_run:
        _foretell(common, running or job, to)
        return
    if running is not None:
        if to or force or continue_on_error:
            raise Usage(
                f"a process runs job {running}: there it is taken back whole, and by no force",
                remedy="stop the job first: `ferrylog stop`; then ask again",
            )
        wish = StopAsked(operator(), ASKED, immediate=immediate, rollback=True)
        show(common, [ask(journal, running, wish)])
        return
    with journal_to_write(journal) as written:
        wanted = find_migration(written, job)
        past = recall(written, wanted)
        refuse(past.state)
        spec = past.state.spec
        assert spec is not None
        how = TakingBack(operator(), ASKED, to, force, continue_on_error)
        settings = run_settings(past.state.settings)
        with (
            source_to_ask(spec, source, source_uri_file) as left,
            deployment("target", o.uri("target", target, target_uri_file, spec.target)) as right,
            endpoints_of(past.state, endpoint, endpoint_uri_file) as places,
            a_run(common, written, (left, right), settings, places) as run,
        ):
            end(common, written, run.rollback(Engine(written, wanted, past), how), asked=True)


def _running(path: Path, job: str | None) -> JobId | None:
    """The job of that name, if a process is at work on it."""
    with SqliteJournal.read_only(path) as read:
        latest = read.latest_job() if held(path) else None
        if latest is not None and job in (None, latest):
            return latest
        find_job(read, job)
    return None


def _foretell(common: o.Common, job: str | None, to: str) -> None:
    with SqliteJournal.read_only(common.journal) as read:
        wanted = find_migration(read, job)
        past: Past = recall(read, wanted)
        refuse(past.state)
        undos = planned(read, wanted, to)
        folder = job_folder(read, wanted, past.state)
        gone = {each.unit for each in undos if each.task is TaskKind.CREATE}
        words = {
            f"{each.task} {each.entity}": foretell(
                each, past.state, folder, stays=each.unit not in gone
            )
            for each in undos
        }
        report = foretold(wanted, undos, to, words)
    typer.echo(report.as_json() if common.json else rollback_text(report))


@contextmanager
def source_to_ask(
    spec: JobSpec, given: str | None, file: Path | None
) -> Iterator[Deployment | None]:
    """What was copied can be proven without it, most often: nobody has to name it, and it need not
    be there."""
    if spec.kind != "migrate":
        yield None
        return
    reached = None
    try:
        with deployment("source", o.uri("source", given, file, spec.source)) as reached:
            yield reached
            return
    except OperatorError as error:
        if reached is not None or given is not None or file is not None:
            raise
        logger.warning("the source cannot be asked what it holds: {}", error)
    yield None
