"""`ferrylog rebalance`: key ranges of a collection go from one endpoint to another, one by one."""

import json as json_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from executors.clients import Deployment
from executors.protocol import StopToken
from executors.rebalance.model import COMPENSATIONS, Plan, operations
from executors.rebalance.placement import read, shown
from executors.rebalance.planning import (
    Wanted,
    cut,
    even,
    left_to_move,
    of_plan,
    of_words,
    refuse_unmovable,
)
from ferrylog import rebalance as moving
from ferrylog.cli import options as o
from ferrylog.cli.running import a_run
from ferrylog.cli.settings import run_settings
from ferrylog.endpoints import reached, uris_of
from ferrylog.errors import Usage
from ferrylog.jobs import journal_to_write
from ferrylog.recall import recall
from ferrylog.views.ending import last_words
from ferrylog.views.rebalance import (
    as_commands,
    range_line,
    rebalance_report,
    rebalance_text,
)
from journal.errors import NoSuchJob
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec, RunSettings
from statemachine.state import State
from statemachine.stimuli import PlannedOperation
from statemachine.words import JobId, JobStatus

Endpoints = Mapping[str, Deployment]
MAX_DOCS: Final = 1_000_000
"""Of one range: what is known of each copied document is held in memory."""


@dataclass(frozen=True)
class Asked:
    """What somebody wants moved; `wanted` is `None` where it is to be worked out."""

    namespace: str
    file: Path
    how: str
    wanted: Sequence[Wanted] | None
    chunk_docs: int


class Never:
    """A token for what is short, and ends by a signal like any command."""

    def is_set(self) -> bool:
        return False


def rebalance(
    endpoint: o.Endpoints = None,
    endpoint_uri_file: o.EndpointFiles = None,
    ns: Annotated[str, typer.Option("--ns", metavar="DB.COLLECTION")] = "",
    placement: Annotated[
        Path | None,
        typer.Option("--placement", resolve_path=True, help="The file that says what lies where."),
    ] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A file with the ranges.")] = None,
    move: Annotated[
        list[str] | None,
        typer.Option("--move", metavar="LOWER:UPPER:FROM:TO", help="A range; may come again."),
    ] = None,
    even_out: Annotated[
        bool, typer.Option("--even", help="As many documents on each endpoint.")
    ] = False,
    chunk_docs: Annotated[
        int, typer.Option("--chunk-docs", min=1, max=MAX_DOCS, help="Documents per range.")
    ] = o.CHUNK_DOCS,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Of a range that was written meanwhile.")
    ] = moving.RETRIES,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Say what would be moved.")
    ] = False,
    via_mongos: Annotated[
        bool,
        typer.Option("--via-mongos", help="Print it as moveRange commands for `ops run`."),
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="How far the last one came; asks no server.")
    ] = False,
    patience: o.Patience = None,
    retry_base: o.RetryBase = None,
    tick: o.Timer = None,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Move key ranges between endpoints: copied, compared, switched, deleted; or rolled back. The
    same command again goes on with what is left."""
    common = o.Common(journal, json, verbose, quiet)
    if status:
        _show(common, _last(journal))
        return
    asked = _asked(ns, placement, plan, move, even_out=even_out, chunk_docs=chunk_docs)
    settings = run_settings(work_dir=work_dir, patience=patience, retry_base=retry_base, tick=tick)
    with reached(uris_of(endpoint, endpoint_uri_file)) as endpoints:
        _must_differ(endpoints)
        if dry_run or via_mongos:
            _foretell(common, _planned(asked, endpoints), via_mongos=via_mongos)
            return
        if not journal.exists():
            _planned(asked, endpoints)  # what makes no sense makes no journal
        with journal_to_write(journal) as written:
            found = _begun(written, asked, endpoints)
            raise typer.Exit(_carried_out(common, written, found, endpoints, settings, retries))


# --- what is asked ---


def _asked(
    ns: str,
    placement: Path | None,
    plan: Path | None,
    move: list[str] | None,
    *,
    even_out: bool,
    chunk_docs: int,
) -> Asked:
    if not ns or placement is None:
        raise Usage("a rebalance needs --ns and --placement", remedy="see docs/rebalance.md")
    if sum((bool(plan), bool(move), even_out)) != 1:
        raise Usage("say what to move, in one way: --move, --plan or --even")
    if even_out:
        return Asked(ns, placement, "--even", None, chunk_docs)
    wanted = of_plan(plan) if plan else [of_words(each) for each in move or ()]
    told = [[shown(w.lower), shown(w.upper), w.source, w.target] for w in wanted]
    return Asked(ns, placement, json_module.dumps(told), wanted, chunk_docs)


def _must_differ(endpoints: Endpoints) -> None:
    """Raises `Usage`."""
    if len(endpoints) < 2:
        raise Usage("a rebalance is between two endpoints, or more", remedy="--endpoint NAME=URI")
    seen: list[tuple[str, Deployment]] = []
    for name, each in endpoints.items():
        for other, before in seen:
            if each.overlaps(before):
                raise Usage(f"endpoints {other} and {name} are one deployment, {each.where}")
        seen.append((name, each))


# --- the plan ---


def _begun(journal: SqliteJournal, asked: Asked, endpoints: Endpoints) -> moving.Rebalance:
    """The rebalance of the same wish that has something left; else a new one."""
    root = moving.root_of(asked.namespace, asked.file)
    before = moving.newest(journal, root)
    if before is not None:
        moving.must_be_over(before, asked.how)
        if before.plan.asked == asked.how and before.left:
            _must_be_known(moving.needed(before.plan), endpoints)
            typer.echo(f"going on with {before.id}: {len(before.left)} ranges are left", err=True)
            return before
    return moving.begun(moving.next_name(before, root), _planned(asked, endpoints))


def _planned(asked: Asked, endpoints: Endpoints) -> Plan:
    placed = read(asked.file)
    if placed.namespace != asked.namespace:
        raise Usage(f"{asked.file} is about {placed.namespace}, not {asked.namespace}")
    clients = {name: each.client for name, each in endpoints.items()}
    stop: StopToken = Never()
    if asked.wanted is None:
        _must_be_known([each.endpoint for each in placed.ranges], endpoints)
        refuse_unmovable(clients, asked.namespace)
        wanted, _ = even(clients, placed, stop)
    else:
        names = {name for each in asked.wanted for name in (each.source, each.target)}
        _must_be_known(sorted(names), endpoints)
        refuse_unmovable({name: clients[name] for name in sorted(names)}, asked.namespace)
        wanted = left_to_move(placed, asked.wanted)
    moves = cut(clients, asked.namespace, wanted, asked.chunk_docs, stop)
    return Plan(str(asked.file), asked.how, tuple(moves))


def _must_be_known(names: Sequence[str], endpoints: Endpoints) -> None:
    for name in names:
        if name not in endpoints:
            raise Usage(f"no URI is given for endpoint {name}", remedy=f"--endpoint {name}=URI")


def _foretell(common: o.Common, plan: Plan, *, via_mongos: bool) -> None:
    if via_mongos:
        typer.echo(json_module.dumps(as_commands(plan), indent=1, ensure_ascii=False))
        return
    found = moving.begun("", plan)
    if common.json:
        typer.echo(rebalance_report(found, dry_run=True).as_json())
        return
    for each in found.ranges:
        typer.echo(range_line(each, len(found.ranges)), err=True)
        for operation in operations(plan, each.number):
            typer.echo(f"  {operation.id}, taken back by {COMPENSATIONS[operation.id]}", err=True)
    if not found.ranges:
        typer.echo("nothing to move", err=True)


# --- the run ---


def _carried_out(
    common: o.Common,
    journal: SqliteJournal,
    found: moving.Rebalance,
    endpoints: Endpoints,
    settings: RunSettings,
    retries: int,
) -> int:
    total = len(found.ranges)

    def run_group(job: JobId, spec: JobSpec, planned: tuple[PlannedOperation, ...]) -> State:
        with a_run(common, journal, (None, None), settings, endpoints) as run:
            if job in journal.jobs():
                return run.resume(job, recall(journal, job)).state
            return run.group(job, spec, planned).state

    def ended(each: moving.Range) -> None:
        if common.quiet:
            return
        typer.echo(range_line(each, total), err=True)
        if each.state is not None and each.state.status is not JobStatus.COMPLETED:
            typer.echo(last_words(each.state, str(each.job), str(common.journal)), err=True)

    def wanted(job: JobId) -> bool:
        return moving.asked_to_rest(journal, job)

    code = moving.Mover(found, endpoints, run_group, ended, wanted, retries).run()
    _show(common, moving.recalled(journal, found.id) if total else found)
    if code != 0 and not common.quiet:
        typer.echo("the same command goes on with what is left", err=True)
    return code


def _last(journal: Path) -> moving.Rebalance:
    """Raises `NoSuchJob`."""
    with SqliteJournal.read_only(journal) as written:
        found = moving.newest(written)
    if found is None:
        raise NoSuchJob("a rebalance", journal)
    return found


def _show(common: o.Common, found: moving.Rebalance) -> None:
    if common.json:
        typer.echo(rebalance_report(found).as_json())
    elif not common.quiet:
        typer.echo(rebalance_text(found), err=True)
