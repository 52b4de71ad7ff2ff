"""What commands that run a job share: the run itself, its last words, its exit code."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from loguru import logger

from executors.clients import Deployment
from ferrylog.cli.environment import source_uri
from ferrylog.cli.options import Common, uri
from ferrylog.cli.settings import digest_every
from ferrylog.engine import Engine
from ferrylog.logs import configure
from ferrylog.views.ending import last_words
from ferrylog.views.human import status_text
from ferrylog.views.live import Live
from ferrylog.views.model import exit_code, status_report
from ferrylog.views.told import told
from ferrylog.wiring import Run, deployment
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec, RunSettings
from statemachine.state import digest, is_dump

Sides = tuple[Deployment | None, Deployment | None]


@contextmanager
def sides_of(
    spec: JobSpec,
    source: str | None,
    source_uri_file: Path | None,
    target: str | None,
    target_uri_file: Path | None,
) -> Iterator[Sides]:
    """The deployments of a job that stands in the journal: named again, or as it remembers them.
    A group has a target only. What exports is also named by the environment of a pipeline."""
    uris = [
        None
        if is_dump(known) or (role, spec.kind) == ("source", "group")
        else source_uri(given, file, known)
        if (role, spec.kind) == ("source", "export")
        else uri(role, given, file, known)
        for role, given, file, known in (
            ("source", source, source_uri_file, spec.source),
            ("target", target, target_uri_file, spec.target),
        )
    ]
    with deployment("source", uris[0]) as left, deployment("target", uris[1]) as right:
        yield left, right


@contextmanager
def a_run(
    common: Common,
    journal: SqliteJournal,
    sides: Sides,
    settings: RunSettings,
    endpoints: Mapping[str, Deployment] | None = None,
) -> Iterator[Run]:
    quiet = common.quiet or (common.json and not common.verbose)
    live = Live(quiet=quiet, digest_every=digest_every())
    configure(verbose=common.verbose, quiet=quiet, sink=live.print)
    yield Run(journal, *sides, settings, live, endpoints or {})


def end(common: Common, journal: SqliteJournal, engine: Engine, *, asked: bool = False) -> NoReturn:
    """Say how it ended, and leave with that exit code. `asked`: as of `tell_end`."""
    raise typer.Exit(tell_end(common, journal, engine, asked=asked))


def tell_end(common: Common, journal: SqliteJournal, engine: Engine, *, asked: bool = False) -> int:
    """Say how it ended; the exit code that this means. `asked`: for a rollback, which is what was
    wanted then, and not what is left of a failure."""
    logger.info("state digest seq={} digest={}", engine.position.seq, digest(engine.state))
    facts = told(journal, engine.job, engine.past)
    report = status_report(engine.job, engine.past, running=False, told=facts)
    if common.json:
        typer.echo(report.as_json())
    elif not common.quiet:
        typer.echo(status_text(report), err=True)
    code = exit_code(engine.state, rollback_asked=asked)
    if not common.quiet:
        where = shlex.quote(str(common.journal))
        typer.echo(last_words(engine.state, engine.job, where), err=True)
    return code
