"""`ferrylog inspect events`: who did what, when, and why."""

import json as js
from dataclasses import replace
from itertools import islice
from typing import Annotated, Final

import typer

from ferrylog.cli import options as o
from ferrylog.cli.inspect.forensic import forensic_events
from ferrylog.cli.inspect.names import a_kind, an_entity
from ferrylog.cli.moment import parse_time
from ferrylog.clock import when
from ferrylog.jobs import find_job
from ferrylog.redact import ascii_json, one_line
from journal.audit import LAST, Wanted, find
from journal.codec import encode
from journal.overview import types
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.words import JobId

MAX_TAIL: Final = 100_000
"""Kept in memory to turn them round."""


def events(
    job: o.Job = None,
    entity: Annotated[
        str | None, typer.Option(help="A chunk, an index, job; a unit with all below it.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Such as dump_completed, or *_lettered.")] = None,
    epoch: Annotated[int | None, typer.Option(min=0, max=LAST, help="Of this run.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO 8601, or such as -10m.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    after: Annotated[
        int, typer.Option(min=0, max=LAST, metavar="SEQ", help="Later than this.")
    ] = 0,
    until_seq: Annotated[
        int, typer.Option(min=0, max=LAST, metavar="SEQ", help="Up to this.", show_default=False)
    ] = LAST,
    tail: Annotated[
        int | None, typer.Option(min=1, max=MAX_TAIL, metavar="N", help="The last so many.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    forensic: Annotated[
        bool, typer.Option("--forensic", help="Show what is there even if it is damaged.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Print a job's events in order; with --json one object a line."""
    o.Common(journal, json, verbose, quiet)
    wanted = Wanted(
        JobId(job or ""),
        entity=entity,
        kind=kind,
        epoch=epoch,
        since_ms=parse_time(since) if since is not None else None,
        until_ms=parse_time(until) if until is not None else None,
        after=after,
        until=until_seq,
    )
    if forensic:
        forensic_events(journal, wanted, tail=tail, limit=limit, json=json)
        return
    with SqliteJournal.read_only(journal) as opened:
        found = find(opened, _named(opened, wanted), tail=tail)
        for recorded in islice(found, limit):
            typer.echo(as_json(recorded) if json else _as_line(recorded))


def _named(journal: SqliteJournal, wanted: Wanted) -> Wanted:
    """The question with every name in it known. Raises `Usage` and `NoSuchJob`."""
    job = find_job(journal, wanted.job or None)
    entity = an_entity(journal, job, wanted.entity) if wanted.entity is not None else None
    return replace(
        wanted,
        job=job,
        entity=entity,
        below=entity is not None and "unit" in types(journal, job, entity),
        kind=a_kind(wanted.kind) if wanted.kind is not None else None,
    )


def as_json(recorded: Recorded) -> str:
    """One line; `data` is what the journal holds."""
    data = encode(recorded.event).decode()
    if not data.isascii() or "\x7f" in data:
        data = ascii_json(js.loads(data))
    return (
        f'{{"seq": {recorded.seq}, "job": {ascii_json(recorded.job)}, "epoch": {recorded.epoch}, '
        f'"recorded_at": "{when(recorded.recorded_at_ms)}", "kind": "{recorded.event.kind}", '
        f'"entity": {ascii_json(recorded.event.about)}, "data": {data}, '
        f'"hash": "{recorded.hash.hex()}"}}'
    )


def _as_line(recorded: Recorded) -> str:
    data = recorded.event.model_dump(mode="json", exclude={"kind", "entity"})
    said = "  ".join(f"{name}={_short(value)}" for name, value in data.items())
    return one_line(
        f"{recorded.seq:>7}  {when(recorded.recorded_at_ms)}  {recorded.epoch:>3}  "
        f"{recorded.event.kind:<24} {recorded.event.about}  {said}"
    )


def _short(value: object) -> str:
    text = js.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
