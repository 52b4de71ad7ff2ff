"""`ferrylog replay`: the state, rebuilt from the journal and nothing else."""

from typing import Annotated, Any, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.jobs import find_job
from ferrylog.recall import replayed
from ferrylog.views.model import Report
from journal.sqlite import SqliteJournal
from statemachine.state import digest, plain


class ReplayReport(Report):
    schema_: Literal["ferrylog.replay/1"] = Field("ferrylog.replay/1", alias="schema")
    job: str
    seq: int
    status: str
    digest: str
    checked: bool
    state: dict[str, Any]


def replay(
    job: o.Job = None,
    to: Annotated[str | None, typer.Option(metavar="SEQ|TIME", help="Stop there.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="All pages, chains, the tip and the snapshots.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Rebuild a job's state and print it with its digest. Writes nothing; refuses damage."""
    o.Common(journal, json, verbose, quiet)
    with SqliteJournal.read_only(journal) as opened:
        wanted = find_job(opened, job)
        if check:
            opened.check()
        until = o.seq_of(opened, wanted, to)
        past = replayed(opened, wanted, to_seq=until, compare=check)
    state, last = past.state, past.position
    report = ReplayReport(
        job=wanted,
        seq=last.seq,
        status=state.status,
        digest=digest(state),
        checked=check,
        state=plain(state),
    )
    if json:
        typer.echo(report.as_json())
        return
    open_tasks = ", ".join(
        f"{len(queue)} {kind} {where}" for (kind, where, _), queue in state.queues.items() if queue
    )
    typer.echo(f"job {wanted} at seq {last.seq}: {state.status}, epoch {state.epoch}")
    typer.echo(f"  units {len(state.units)}, open chunks {len(state.chunks)}; {open_tasks}")
    typer.echo(f"  digest {report.digest}" + (" · journal checked, no damage" if check else ""))
