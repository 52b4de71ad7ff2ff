"""`ferrylog check`: what would stop a job, before it begins."""

from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from pydantic import Field

from executors.clients import Deployment, connect, secrets_of
from executors.preflight import examine
from executors.storage.errors import WARNINGS
from ferrylog.cli import environment
from ferrylog.cli import exporting as x
from ferrylog.cli import options as o
from ferrylog.errors import Usage
from ferrylog.exportcheck import place_findings
from ferrylog.redact import learn, redact
from ferrylog.views.model import Report
from statemachine.errors import OperatorError
from statemachine.events import ExportSpec, JobSpec


class Finding(Report):
    code: str
    what: str
    remedy: str


class CheckedReport(Report):
    schema_: Literal["ferrylog.check/1"] = Field("ferrylog.check/1", alias="schema")
    ok: bool
    source: str
    target: str
    out: str
    findings: tuple[Finding, ...]


def check(
    context: typer.Context,
    *,
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            envvar="FERRYLOG_OUT",
            metavar="DIR|URL",
            help="Where a dump or an export would go.",
        ),
    ] = None,
    format: Annotated[
        x.Format | None,
        typer.Option(
            "--format",
            envvar=["FERRYLOG_FORMAT", "OUTPUT_FORMAT"],
            case_sensitive=False,
            help="Of an export.",
        ),
    ] = None,
    db: o.Database = None,
    collection: o.Collection = None,
    ns_include: o.Include = None,
    ns_exclude: o.Exclude = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="For following the source, or for increments of it.")
    ] = False,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Look before you leap: reachable, replica set, roles, empty target, a store that takes and
    gives back; each with its remedy."""
    o.Common(o.DEFAULT_JOURNAL, json, verbose, quiet)
    if environment.is_flag(context, "out"):
        if any(environment.is_flag(context, end) for end in ("target", "target_uri_file")):
            raise Usage("--out and --target are two ends of one job", remedy="check one of them")
        target = target_uri_file = None  # of the environment: what is typed goes first
    here, place = None, ""
    wanted: environment.Wanted = (db, collection, ns_include)
    if target is not None or target_uri_file is not None:
        there = o.uri("source", source, source_uri_file)
        here, format = o.uri("target", target, target_uri_file), None
    else:
        there = environment.source_uri(source, source_uri_file)
        wanted = environment.selected(context, *wanted)
        out = environment.out(context, out)
        place = x.target_of(out) if out is not None else ""
    selection = o.selection(*wanted, ns_exclude)
    findings: list[OperatorError] = []
    one = _reach("source", there, findings)
    two = _reach("target", here, findings) if here is not None else None
    spec = None
    if one is not None and (here is None or two is not None):
        spec = _spec(one, two, selection, place, format)
        findings += examine(one, two, spec.model_copy(update={"follow": follow}))
    if place:
        findings += place_findings(place, spec)
    for deployment in (one, two):
        if deployment is not None:
            deployment.close()
    report = _report(one, two, place, findings)
    _print(report, json=json)
    if not report.ok:
        raise typer.Exit(next(each for each in findings if _is_fault(each)).exit_code)


def _report(
    one: Deployment | None,
    two: Deployment | None,
    place: str,
    findings: Sequence[OperatorError],
) -> CheckedReport:
    return CheckedReport(
        ok=not any(map(_is_fault, findings)),
        source=f"{one.where} {one.version}" if one else "",
        target=f"{two.where} {two.version}" if two else "",
        out=place,
        findings=tuple(
            Finding(code=each.code, what=redact(str(each)), remedy=redact(each.remedy))
            for each in findings
        ),
    )


def _is_fault(finding: OperatorError) -> bool:
    """Of others nobody need be afraid."""
    return not isinstance(finding, WARNINGS)


def _reach(
    role: Literal["source", "target"], uri: str, findings: list[OperatorError]
) -> Deployment | None:
    learn(secrets_of(uri))
    try:
        return connect(role, uri)
    except OperatorError as error:
        findings.append(error)
        return None


def _spec(
    source: Deployment,
    target: Deployment | None,
    selection: tuple[tuple[str, ...], tuple[str, ...]],
    place: str,
    form: x.Format | None,
) -> JobSpec:
    kind: Literal["migrate", "dump", "export"] = "dump" if place else "migrate"
    return JobSpec(
        kind="export" if form is not None else kind,
        mode="coordinated",
        source=source.where,
        target=target.where if target else place,
        source_id=source.identity,
        target_id=target.identity if target else place,
        include=selection[0],
        exclude=selection[1],
        chunk_docs=1,
        chunk_bytes=1,
        compression="none",
        write_concern="majority",
        drop=False,
        on_conflict="stop",
        verify=not place,
        export=ExportSpec(format=form.value) if form is not None else None,
    )


def _print(report: CheckedReport, *, json: bool) -> None:
    if json:
        typer.echo(report.as_json())
        return
    ends = (("source", report.source), ("target", report.target), ("out", report.out))
    for role, found in ends:
        if found:
            typer.echo(f"{role}: {found}")
    for finding in report.findings:
        typer.echo(f"[{finding.code}] {finding.what}\n  → {finding.remedy}")
    typer.echo("ready" if report.ok else f"{len(report.findings)} findings")
