"""`ferrylog ops`: a user's own group of commands, each with what takes it back."""

import json as encoder
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from executors.clients import Deployment, shown
from executors.operation.rights import objections
from executors.operation.showing import commands_of
from ferrylog import clock
from ferrylog.cli import options as o
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import DEFAULTS, run_settings
from ferrylog.endpoints import reached, uris_of
from ferrylog.errors import Usage
from ferrylog.jobs import journal_to_write, unfinished
from ferrylog.opsfile import OpsFile, read_ops
from ferrylog.redact import ascii_json, printable
from ferrylog.wiring import deployment, raise_first
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.stimuli import PlannedOperation

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="A user's own operations.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="YAML or JSON; see the docs.")
]
TARGET: Final = ""
"""The name under which an operation that names no endpoint finds its place."""


@app.command()
def run(
    file: File,
    target: o.TargetOrUri = None,
    target_uri_file: o.TargetFile = None,
    endpoint: o.Endpoints = None,
    endpoint_uri_file: o.EndpointFiles = None,
    continue_on_error: Annotated[
        bool,
        typer.Option("--continue-on-error", help="A failure stops only what waits for it."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dryRun", help="Print the commands; send none.")
    ] = False,
    new: o.New = False,
    restore_workers: o.RestoreWorkers = None,
    retry: o.RetryPolicy = None,
    jitter: o.RetryJitter = None,
    retry_base: o.RetryBase = None,
    retry_cap: o.RetryCap = None,
    patience: o.Patience = None,
    breaker_failures: o.BreakerFailures = None,
    tick: o.Timer = None,
    work_dir: o.WorkDir = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Run a group of operations: all of them, or none: what fails is rolled back (exit 6)."""
    common = o.Common(journal, json, verbose, quiet)
    ops = read_ops(file)
    _warn(common, ops)
    if dry_run:
        _foretell(common, ops)
        return
    uris = _uris(ops, endpoint, endpoint_uri_file)
    main = _target(uris, target, target_uri_file)
    settings = run_settings(
        DEFAULTS,
        restore_workers=restore_workers,
        work_dir=work_dir,
        retry=retry,
        jitter=jitter,
        retry_base=retry_base,
        retry_cap=retry_cap,
        patience=patience,
        breaker_failures=breaker_failures,
        tick=tick,
    )
    with deployment("target", main) as side, reached(uris) as places:
        assert side is not None
        raise_first(list(_objections(ops, {TARGET: side, **places})))
        spec = _spec(ops, side, places, continue_on_error=continue_on_error)
        with (
            journal_to_write(journal) as written,
            a_run(common, written, (None, side), settings, places) as running,
        ):
            if not new:
                _refuse_unfinished(written, spec)
            end(common, written, running.group(clock.new_job_id(), spec, ops.operations))


@app.command()
def validate(
    file: File,
    target: o.TargetOrUri = None,
    target_uri_file: o.TargetFile = None,
    endpoint: o.Endpoints = None,
    endpoint_uri_file: o.EndpointFiles = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Look at a file of operations; with a target also at what its user may do there."""
    common = o.Common(journal, json, verbose, quiet)
    ops = read_ops(file)
    asked = any((target, target_uri_file, endpoint, endpoint_uri_file))
    if asked:
        uris = _uris(ops, endpoint, endpoint_uri_file)
        main = _target(uris, target, target_uri_file)
        with deployment("target", main) as side, reached(uris) as places:
            assert side is not None
            raise_first(list(_objections(ops, {TARGET: side, **places})))
    _warn(common, ops)
    if json:
        typer.echo(ascii_json(_report(ops, "ops-validate") | {"rights": asked}))
    elif not quiet:
        rights = "the user has the rights" if asked else "no server was asked"
        typer.echo(f"{file}: in order, operations: {len(ops.operations)}; {rights}", err=True)


# --- where operations run ---


def _uris(ops: OpsFile, given: list[str] | None, files: list[str] | None) -> dict[str, str]:
    """Connection strings of the endpoints: given now, or without credentials in the file."""
    found = uris_of(given, files)
    if strange := [name for name in found if name not in ops.endpoints]:
        known = ", ".join(ops.endpoints) or "none"
        raise Usage(f"the file names no endpoint {strange[0]}; it names {known}")
    for name, uri in ops.endpoints.items():
        if name not in found:
            if uri is None:
                raise Usage(f"no URI is given for endpoint {name}", remedy=f"--endpoint {name}=URI")
            found[name] = uri
    return found


def _target(uris: Mapping[str, str], target: str | None, file: Path | None) -> str:
    """That of the job: the first endpoint, where a group names its places and no other."""
    return o.uri("target", target, file, next(iter(uris.values()), None))


def _objections(ops: OpsFile, places: Mapping[str, Deployment]) -> Iterator[OperatorError]:
    for each in ops.operations:
        yield from objections(places[each.target].client, each)


def _spec(
    ops: OpsFile, side: Deployment, places: Mapping[str, Deployment], *, continue_on_error: bool
) -> JobSpec:
    """Of documents, which a group carries none of, it says what says nothing."""
    return JobSpec(
        kind="group",
        mode="coordinated",
        source=side.where,
        target=side.where,
        source_id=side.identity,
        target_id=side.identity,
        chunk_docs=o.CHUNK_DOCS,
        chunk_bytes=o.CHUNK_BYTES,
        compression="none",
        write_concern="majority",
        drop=False,
        on_conflict="stop",
        verify=False,
        undo=True,
        title=ops.title,
        endpoints=tuple((name, each.where) for name, each in places.items()),
        endpoint_ids=tuple(each.identity for each in places.values()),
        continue_on_error=continue_on_error or ops.continue_on_error,
    )


def _refuse_unfinished(journal: SqliteJournal, spec: JobSpec) -> None:
    """Begun anew, a group would take for somebody else's what it has done already."""
    for job, past in unfinished(journal):
        known = past.state.spec
        if known is not None and (known.kind, known.title, known.target_id) == (
            "group",
            spec.title,
            spec.target_id,
        ):
            raise Usage(
                f"job {job} is this group, unfinished",
                remedy=f"`ferrylog resume {job}` goes on, `ferrylog rollback {job}` takes it back; "
                "--new begins another",
            )


# --- what is said before ---


def _warn(common: o.Common, ops: OpsFile) -> None:
    for each in ops.warnings if not common.quiet else ():
        typer.echo(f"warning: {printable(each)}", err=True)


def _foretell(common: o.Common, ops: OpsFile) -> None:
    """The commands in their order, then those of a rollback in theirs."""
    if common.json:
        typer.echo(ascii_json(_report(ops, "ops-plan")))
        return
    lines = [ops.title, "", "forward:", *_lines(ops, ops.in_order, back=False)]
    lines += ["", "a rollback of all of it:", *_lines(ops, ops.in_order[::-1], back=True)]
    typer.echo(printable("\n".join(lines)))


def _lines(ops: OpsFile, operations: tuple[PlannedOperation, ...], *, back: bool) -> Iterator[str]:
    for number, each in enumerate(operations, 1):
        after = f" (after {', '.join(each.wait_for)})" if each.wait_for and not back else ""
        yield f"{number:4} {each.id}{_place(ops, each)}{after}"
        for sent in commands_of(each.compensation if back else each.forward):
            yield f"       {sent.database}: {sent.command}"


def _place(ops: OpsFile, operation: PlannedOperation) -> str:
    if not operation.target:
        return ""
    uri = ops.endpoints[operation.target]
    return f" on {operation.target}" + (f" ({shown(uri)})" if uri else "")


def _report(ops: OpsFile, view: str) -> dict[str, Any]:
    return {
        "schema": f"ferrylog.{view}/1",
        "title": ops.title,
        "valid": True,
        "warnings": list(ops.warnings),
        "operations": [
            {
                "id": each.id,
                "on": each.target,
                "wait_for": list(each.wait_for),
                "rollback_wait_for": list(each.rollback_wait_for),
                "tries": each.tries,
                "forward": _commands(each.forward),
                "compensation": _commands(each.compensation),
            }
            for each in ops.in_order
        ],
        "rollback": [each.id for each in ops.in_order[::-1]],
    }


def _commands(action: Any) -> list[dict[str, Any]]:
    return [
        {"database": sent.database, "command": encoder.loads(sent.command)}
        for sent in commands_of(action)
    ]
