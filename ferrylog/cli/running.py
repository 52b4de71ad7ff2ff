"""What commands that run a job share: the run itself, its last words, its exit code."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from loguru import logger

from executors.clients import Deployment
from ferrylog.cli.options import Common
from ferrylog.cli.settings import digest_every
from ferrylog.engine import Engine
from ferrylog.logs import configure
from ferrylog.redact import one_line
from ferrylog.views.human import status_text
from ferrylog.views.live import Live
from ferrylog.views.model import exit_code, status_report
from ferrylog.views.told import told
from ferrylog.wiring import Run
from journal.sqlite import SqliteJournal
from statemachine.events import RunSettings
from statemachine.state import digest
from statemachine.words import JobStatus


@contextmanager
def a_run(
    common: Common,
    journal: SqliteJournal,
    sides: tuple[Deployment, Deployment],
    settings: RunSettings,
) -> Iterator[Run]:
    quiet = common.quiet or (common.json and not common.verbose)
    live = Live(quiet=quiet, digest_every=digest_every())
    configure(verbose=common.verbose, quiet=quiet, sink=live.print)
    yield Run(journal, *sides, settings, live)


def end(common: Common, journal: SqliteJournal, engine: Engine) -> None:
    """Say how it ended, and leave with that exit code."""
    logger.info("state digest seq={} digest={}", engine.position.seq, digest(engine.state))
    facts = told(journal, engine.job, engine.past)
    report = status_report(engine.job, engine.past, running=False, told=facts)
    if common.json:
        typer.echo(report.as_json())
    elif not common.quiet:
        typer.echo(status_text(report), err=True)
    code = exit_code(engine.state)
    if not common.quiet:
        typer.echo(_last_words(common, engine), err=True)
    raise typer.Exit(code)


def _last_words(common: Common, engine: Engine) -> str:
    journal = shlex.quote(str(common.journal))
    if engine.state.status in (JobStatus.PAUSED, JobStatus.STOPPED):
        resume = f"ferrylog resume {engine.job} --journal {journal}"
        return f"{engine.state.status}: {one_line(engine.state.why)}\nresume with: {resume}"
    if engine.state.status is JobStatus.FAILED:
        return f"failed: {one_line(engine.state.why)}"
    match exit_code(engine.state):
        case 0:
            return f"done · journal {journal} · ask it: ferrylog inspect events --journal {journal}"
        case 3:
            return f"done with rejects · see: ferrylog dead-letters list --journal {journal}"
        case _:
            return (
                "source and target differ · see: ferrylog inspect events --kind verify_completed "
                f"--journal {journal}"
            )
