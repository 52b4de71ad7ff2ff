"""`ferrylog check`: what would stop a job, before it begins."""

from typing import Annotated, Literal

import typer
from pydantic import Field

from executors.clients import Deployment, connect, secrets_of
from executors.preflight import examine
from ferrylog.cli import options as o
from ferrylog.redact import learn, redact
from ferrylog.views.model import Report
from statemachine.errors import OperatorError
from statemachine.events import JobSpec


class Finding(Report):
    code: str
    what: str
    remedy: str


class CheckedReport(Report):
    schema_: Literal["ferrylog.check/1"] = Field("ferrylog.check/1", alias="schema")
    ok: bool
    source: str
    target: str
    findings: tuple[Finding, ...]


def check(
    source: o.Source = None,
    source_uri_file: o.SourceFile = None,
    target: o.Target = None,
    target_uri_file: o.TargetFile = None,
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
    """Look before you leap: reachable, replica set, roles, empty target; each with its remedy."""
    o.Common(o.DEFAULT_JOURNAL, json, verbose, quiet)
    include, exclude = o.selection(db, collection, ns_include, ns_exclude)
    there = o.uri("source", source, source_uri_file)
    here = (
        o.uri("target", target, target_uri_file)
        if target is not None or target_uri_file is not None
        else None
    )
    findings: list[OperatorError] = []
    one = _reach("source", there, findings)
    two = _reach("target", here, findings) if here is not None else None
    if one is not None and (here is None or two is not None):
        spec = _spec(one, two, include, exclude).model_copy(update={"follow": follow})
        findings += examine(one, two, spec)
    report = CheckedReport(
        ok=not findings,
        source=f"{one.where} {one.version}" if one else "",
        target=f"{two.where} {two.version}" if two else "",
        findings=tuple(
            Finding(code=each.code, what=redact(str(each)), remedy=redact(each.remedy))
            for each in findings
        ),
    )
    for deployment in (one, two):
        if deployment is not None:
            deployment.close()
    _print(report, json=json)
    if findings:
        raise typer.Exit(findings[0].exit_code)


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
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> JobSpec:
    return JobSpec(
        kind="migrate",
        mode="coordinated",
        source=source.where,
        target=target.where if target else "",
        source_id=source.identity,
        target_id=target.identity if target else "",
        include=include,
        exclude=exclude,
        chunk_docs=1,
        chunk_bytes=1,
        compression="none",
        write_concern="majority",
        drop=False,
        on_conflict="stop",
        verify=True,
    )


def _print(report: CheckedReport, *, json: bool) -> None:
    if json:
        typer.echo(report.as_json())
        return
    for role, found in (("source", report.source), ("target", report.target)):
        if found:
            typer.echo(f"{role}: {found}")
    for finding in report.findings:
        typer.echo(f"[{finding.code}] {finding.what}\n  → {finding.remedy}")
    typer.echo("ready" if report.ok else f"{len(report.findings)} findings")
