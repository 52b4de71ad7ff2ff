"""`ferrylog cleanup`: remove what nobody needs any more. Made for cron."""

import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from ferrylog import clock
from ferrylog.cleanup.items import KINDS, OLDER_THAN_MS, Kind
from ferrylog.cleanup.sweep import Swept, Wanted, alone_or_beside, find, held_since_ms, sweep
from ferrylog.cli import options as o
from ferrylog.cli.moment import STEP, UNITS
from ferrylog.errors import Usage
from ferrylog.views.cleanup import CleanupReport, cleanup_report, cleanup_text, summary
from ferrylog.wiring import deployment
from journal.sqlite import SqliteJournal

FAILED: Final = 1
AGE: Final = re.compile(r"(?:\d{1,9}[smhdw])+|0", re.ASCII)


def cleanup(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help=f"{', '.join(KINDS)}; may be given again."),
    ] = None,
    older_than: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=AGE", help="As files=2h or jobs=90d; may be given again."),
    ] = None,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Also what no journal names: nobody knows whose.")
    ] = False,
    other_journal: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", resolve_path=True, help="Its jobs' files stay, too."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Remove what failed and finished jobs left: staging collections, chunk files, undo logs,
    requests, snapshots. Never what a job names that has not ended, and never events."""
    o.Common(journal, json, verbose, quiet)
    wanted = Wanted(
        only=[_kind(each) for each in only or KINDS],
        older_than_ms=ages(older_than or ()),
        foreign=foreign,
        others=tuple(other_journal or ()),
    )
    uri = o.uri("target", target, target_uri_file) if target or target_uri_file else None
    report = cleaned(journal, uri, wanted, clock.now_ms(), dry_run=dry_run)
    if json:
        typer.echo(report.as_json())
    elif not quiet and (text := cleanup_text(report)):
        typer.echo(text)
    if not quiet:
        typer.echo(summary(report), err=True)
    if report.failed:
        raise typer.Exit(FAILED)


def cleaned(
    path: Path, uri: str | None, wanted: Wanted, now_ms: int, *, dry_run: bool
) -> CleanupReport:
    """Find, remove, tell. While another process holds the journal, what is its own stays."""
    with ExitStack() as stack:
        opened = stack.enter_context(SqliteJournal.read_only(path))
        reached = stack.enter_context(deployment("target", uri))
        since = (
            held_since_ms(path)
            if dry_run
            else alone_or_beside(path, platform.node(), now_ms, stack)
        )
        items, left = find(opened, reached, wanted, now_ms, held_since_ms=since)
        swept = [Swept(each) for each in items] if dry_run else list(sweep(opened, items))
    return cleanup_report(str(path), swept, left, dry_run=dry_run)


def ages(given: Sequence[str]) -> dict[Kind, int]:
    """How old things of each kind have to be. Raises `Usage`."""
    found = dict(OLDER_THAN_MS)
    for text in given:
        kind, _, age = text.partition("=")
        found[_kind(kind)] = duration_ms(age)
    return found


def duration_ms(text: str) -> int:
    """`90s`, `10m`, `2h30m`, `1d`, `2w`. Raises `Usage`."""
    if not AGE.fullmatch(text):
        raise Usage(f"{text!r} is no length of time", remedy="write 90s, 10m, 2h30m, 1d or 2w")
    steps = (timedelta(**{UNITS[unit]: int(number)}) for number, unit in STEP.findall(text))
    return sum(steps, timedelta()) // timedelta(milliseconds=1)


def _kind(text: str) -> Kind:
    for kind in get_args(Kind):
        if text == kind:
            return kind  # type: ignore[no-any-return]
    raise Usage(f"{text!r} is nothing that is cleaned up", remedy=f"one of {', '.join(KINDS)}")
