"""`ferrylog inspect`: the journal as evidence."""

import json as js
from collections.abc import Iterator
from typing import Annotated, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.clock import when
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from ferrylog.wiring import find_job, renew
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal

app = typer.Typer(help="Ask the journal.", no_args_is_help=True, rich_markup_mode=None)


class CheckReport(Report):
    schema_: Literal["ferrylog.check-journal/1"] = Field("ferrylog.check-journal/1", alias="schema")
    journal: str
    last_seq: int
    jobs: int


@app.command()
def events(
    job: o.Job = None,
    entity: Annotated[str | None, typer.Option(help="A chunk, a unit, job.")] = None,
    kind: Annotated[str | None, typer.Option(help="Such as dump_completed.")] = None,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Later than this.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Print a job's events in order; with --json one object a line."""
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        shown = _wanted(opened.read(wanted), entity, kind, after)
        for count, recorded in enumerate(shown, 1):
            typer.echo(js.dumps(as_json(recorded)) if json else _as_line(recorded))
            if count == limit:
                break


def _wanted(
    records: Iterator[Recorded], entity: str | None, kind: str | None, after: int
) -> Iterator[Recorded]:
    return (
        recorded
        for recorded in records
        if recorded.seq > after
        and entity in (None, recorded.event.about)
        and kind in (None, recorded.event.kind)
    )


def as_json(recorded: Recorded) -> dict[str, object]:
    return {
        "seq": recorded.seq,
        "job": recorded.job,
        "epoch": recorded.epoch,
        "recorded_at": when(recorded.recorded_at_ms),
        "kind": recorded.event.kind,
        "entity": recorded.event.about,
        "data": recorded.event.model_dump(mode="json", exclude={"kind"}),
        "hash": recorded.hash.hex(),
    }


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


@app.command()
def check(
    renew_tip: Annotated[
        bool, typer.Option("--renew-tip", help="Vouch that no event is missing.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Verify pages, order, every hash chain, every event and the tip; exit 4 on damage."""
    o.Common(journal, json, verbose, quiet)
    if renew_tip:
        renew(journal)
    with SqliteJournal.read_only(journal) as opened:
        report = _check(opened)
    if json:
        typer.echo(report.model_dump_json(by_alias=True))
    else:
        typer.echo(f"{journal}: {report.last_seq} events of {report.jobs} jobs, no damage")


def _check(journal: SqliteJournal) -> CheckReport:
    last = journal.check()
    return CheckReport(journal=str(journal.path), last_seq=last, jobs=len(journal.jobs()))
