"""`ferrylog health`: what is not as it should be, and letting go on what nobody runs. For cron."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.cli.cleanup import duration_ms
from ferrylog.cli.rollback import source_to_ask
from ferrylog.cli.running import Sides, a_run, sides_of
from ferrylog.cli.settings import run_settings
from ferrylog.endpoints import endpoints_of
from ferrylog.health.examine import Asked, examine
from ferrylog.health.issues import Limits
from ferrylog.health.recover import RECOVERABLE, NotRecovered, Recovered
from ferrylog.health.recover import recover as recovering
from ferrylog.past import Past
from ferrylog.rollbacks import going_on
from ferrylog.views.health import EXIT_CODES, HealthReport, health_report, health_text, summary
from ferrylog.wiring import deployment
from journal.sqlite import SqliteJournal
from statemachine.state import State
from statemachine.words import JobId


def health(
    recover: Annotated[bool, typer.Option("--recover", help="Let go on what nobody runs.")] = False,
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", resolve_path=True, help="Of `dump --out`; may be given again."),
    ] = None,
    stuck_after: Annotated[
        str, typer.Option(metavar="AGE", help="Without any event of the job.")
    ] = "30m",
    max_failed: Annotated[int, typer.Option(min=0, help="In the last hour.")] = Limits.failed,
    max_orphans: Annotated[int, typer.Option(min=0)] = Limits.orphans,
    max_queue: Annotated[int, typer.Option(min=0)] = Limits.queue,
    max_rollback_failures: Annotated[
        float, typer.Option(min=0, max=100, metavar="PERCENT")
    ] = Limits.rollback_failures,
    max_dead_letters: Annotated[int, typer.Option(min=0)] = Limits.dead_letters,
    min_free: Annotated[
        float, typer.Option(min=0, max=100, metavar="PERCENT", help="Of a volume.")
    ] = Limits.free,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Look at jobs, lease, inbox, disks, left-overs, and servers and chains that are named; exit 0
    healthy, 3 degraded, 4 critical."""
    common = o.Common(journal, json, verbose, quiet)
    limits = Limits(
        duration_ms(stuck_after),
        max_failed,
        max_orphans,
        max_queue,
        max_rollback_failures,
        max_dead_letters,
        min_free,
    )
    asked = Asked(
        limits,
        o.uri("source", source, source_uri_file) if source or source_uri_file else None,
        o.uri("target", target, target_uri_file) if target or target_uri_file else None,
        tuple(chain or ()),
    )
    report = _look(common, asked, recover=recover)
    if json:
        typer.echo(report.as_json())
    elif not quiet:
        typer.echo(health_text(report))
    if not quiet:
        typer.echo(summary(report), err=True)
    raise typer.Exit(EXIT_CODES[report.overall_status])


def _look(common: o.Common, asked: Asked, *, recover: bool) -> HealthReport:
    """After recovering, what is left."""
    now = clock.now_ms()
    found = examine(common.journal, asked, now)
    became: list[Recovered | NotRecovered] = []
    if recover and any(each.type in RECOVERABLE for each in found.issues):
        became = list(recovering(common.journal, partial(_go_on, common, asked)))
        now = clock.now_ms()
        found = examine(common.journal, asked, now)
    return health_report(
        str(common.journal),
        now,
        found,
        [each for each in became if isinstance(each, Recovered)],
        [each for each in became if isinstance(each, NotRecovered)],
    )


def _go_on(common: o.Common, asked: Asked, journal: SqliteJournal, job: JobId, past: Past) -> State:
    """As `ferrylog resume` or `rollback` does, with the servers that were named, or as the journal
    knows them."""
    settings = run_settings(past.state.settings)
    with (
        _sides(past.state, asked) as sides,
        endpoints_of(past.state, None, None) as places,
        a_run(common, journal, sides, settings, places) as run,
    ):
        return run.resume(job, past).state


@contextmanager
def _sides(state: State, asked: Asked) -> Iterator[Sides]:
    """What is taken back may be so without its source; a group has one side."""
    spec = state.spec
    assert spec is not None
    if going_on(state):
        with (
            source_to_ask(spec, asked.source, None) as left,
            deployment("target", o.uri("target", asked.target, None, spec.target)) as right,
        ):
            yield left, right
        return
    source = asked.target if spec.kind == "group" else asked.source
    with sides_of(spec, source, None, asked.target, None) as sides:
        yield sides
