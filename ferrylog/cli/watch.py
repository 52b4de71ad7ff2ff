"""`ferrylog watch`: a job as it goes, from another terminal, out of the journal alone."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.past import Past
from ferrylog.recall import recall
from ferrylog.views.ending import go_on
from ferrylog.views.model import exit_code, status_report
from ferrylog.views.shapes import StatusReport
from ferrylog.views.told import told
from ferrylog.views.watch import Pace, dashboard, line
from journal.lease import held
from journal.sqlite import SqliteJournal
from statemachine.state import State
from statemachine.words import JobId

LOOK_S: Final = 0.25
"""Between two looks into the journal."""
REDRAW_S: Final = 0.5
DOCUMENT_S: Final = 1.0
LINE_S: Final = 3.0
"""Between two reports: on a terminal, as JSON, in lines."""


class Face(Protocol):
    """How reports are shown, and how often."""

    every_s: float

    def show(self, report: StatusReport, past: Past) -> None: ...


def watch(
    job: o.Job = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Follow a job until it rests or nobody runs it, and end with its exit code. Ctrl-C leaves it
    alone."""
    o.Common(journal, json, verbose, quiet)
    try:
        with SqliteJournal.read_only(journal) as opened, _face(json=json) as face:
            wanted, state = _follow(opened, job, face)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    code = exit_code(state)
    if code == 5:
        typer.echo(go_on(state, wanted, shlex.quote(str(journal))), err=True)
    raise typer.Exit(code)


def _follow(journal: SqliteJournal, job: str | None, face: Face) -> tuple[JobId, State]:
    """Look until the job rests, or no process is there to run it; each look reads only what is
    new."""
    wanted = find_job(journal, job or (journal.latest_job() if held(journal.path) else None))
    past, shown_s = recall(journal, wanted), None
    while True:
        alive = held(journal.path)  # before the events: the last of them come before the end
        past.follow(journal.pages(wanted, after=past.position.version))
        now_s, over = clock.monotonic_s(), past.state.resting or not alive
        if over or shown_s is None or now_s - shown_s >= face.every_s:
            face.show(_report(journal, wanted, past), past)
            shown_s = now_s
        if over and not past.state.resting:
            typer.echo(f"the job is {past.state.status}, and no process runs it", err=True)
        if over:
            return wanted, past.state
        clock.sleep_s(LOOK_S)


def _report(journal: SqliteJournal, job: JobId, past: Past) -> StatusReport:
    running = not past.state.resting and held(journal.path) and job == journal.latest_job()
    return status_report(job, past, running=running, told=told(journal, job, past))


@contextmanager
def _face(*, json: bool) -> Iterator[Face]:
    if json:
        yield _Documents()
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        console = Console()
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            yield _Screen(console, live)
    else:
        yield _Lines()


class _Screen:
    every_s = REDRAW_S

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live, self._pace = console, live, Pace()

    def show(self, report: StatusReport, past: Past) -> None:
        width, height = self._console.size
        percents = {unit.namespace: unit.percent for unit in report.units}
        active = self._pace.look(past.state, percents, clock.monotonic_s())
        first, *rest = dashboard(report, active, width=width, height=height - 1)
        lines = [Text(first, style="bold"), *(Text(each) for each in rest)]
        for each in lines:
            each.no_wrap = True
        self._live.update(Group(*lines), refresh=True)


class _Lines:
    every_s = LINE_S

    def show(self, report: StatusReport, past: Past) -> None:  # noqa: ARG002 — as the protocol
        typer.echo(line(report))


class _Documents:
    """One for each change."""

    every_s = DOCUMENT_S

    def __init__(self) -> None:
        self._last: tuple[int, bool] | None = None

    def show(self, report: StatusReport, past: Past) -> None:
        now = (past.position.version, report.running)
        if now != self._last:
            self._last = now
            typer.echo(report.as_json())
