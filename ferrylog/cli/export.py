"""`ferrylog export`: collections to Parquet or JSON lines, in a folder or an object store."""

from typing import Annotated, Literal, NoReturn

import typer
from pydantic import Field

from executors.clients import Deployment
from ferrylog import clock
from ferrylog.cli import environment
from ferrylog.cli import exporting as x
from ferrylog.cli import options as o
from ferrylog.cli.beginning import same_job, start_or_continue
from ferrylog.cli.running import a_run, end
from ferrylog.cli.settings import defaults
from ferrylog.cli.together import spread
from ferrylog.exportplan import export_plan, plan_text
from ferrylog.jobs import journal_to_write
from ferrylog.since import bounded
from ferrylog.views.shapes import Report
from ferrylog.wiring import deployment
from journal.opening import work_path
from statemachine.events import ExportSpec, JobSpec, RunSettings


class NothingNew(Report):
    """Instead of a job's status."""

    schema_: Literal["ferrylog.nothing-new/1"] = Field("ferrylog.nothing-new/1", alias="schema")
    source: str
    target: str
    include: tuple[str, ...]
    documents: int = 0


@spread
def export(
    context: typer.Context,
    *,
    source: x.Source = None,
    source_uri_file: o.SourceFile = None,
    out: x.Out = None,
    form: x.Form,
    wanted: x.Wanted,
    code: x.Code,
    running: x.Running,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look and count, columns too; write nothing.")
    ] = False,
    new: o.New = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Export collections to Parquet or JSON lines: resumable, every chunk journaled."""
    common = o.Common(journal, json, verbose, quiet)
    named = environment.selected(context, wanted.db, wanted.collection, wanted.ns_include)
    selection = o.selection(*named, wanted.ns_exclude)
    target = x.target_of(environment.out(context, out))
    left = form.spec(clock.now_ms())
    uri = environment.source_uri(source, source_uri_file)
    with deployment("source", uri) as side:
        assert side is not None
        spec = _spec(side, target, selection, left, wanted, code)
        spec = spec.model_copy(update={"compression": form.compression.value})
        if dry_run:
            settings = running.settings(defaults(uri))
            _tell_plan(common, side, _new(common, side, spec, settings))
        with journal_to_write(journal) as written:
            same = None if new else same_job(written, spec)
            settings = running.settings(same[1].state.settings if same else defaults(uri))
            if same is None:
                spec = _new(common, side, spec, settings)
            with a_run(common, written, (side, None), settings) as run:
                engine = start_or_continue(run, spec, same, malformed=code.max_malformed)
                end(common, written, engine)


def _new(common: o.Common, source: Deployment, spec: JobSpec, settings: RunSettings) -> JobSpec:
    """With `--since` only what is new. When nothing is, says so and leaves: that is a success."""
    if spec.export is None or not spec.export.since:
        return spec
    found = bounded(source, spec, work_path(common.journal), settings.read_preference)
    if found is not None:
        return found
    report = NothingNew(source=spec.source, target=spec.target, include=spec.include)
    if common.json:
        typer.echo(report.as_json())
    elif not common.quiet:
        typer.echo(f"nothing new beneath {spec.target}: nothing was written", err=True)
    raise typer.Exit(0)


def _tell_plan(common: o.Common, source: Deployment, spec: JobSpec) -> NoReturn:
    report = export_plan(source, spec, work_path(common.journal))
    typer.echo(report.as_json() if common.json else plan_text(report))
    raise typer.Exit(0)


def _spec(
    source: Deployment,
    target: str,
    selection: tuple[tuple[str, ...], tuple[str, ...]],
    left: ExportSpec,
    wanted: x.Wanted,
    code: x.Code,
) -> JobSpec:
    transform, model = code.names()
    return JobSpec(
        kind="export",
        mode="coordinated",
        source=source.where,
        target=target,
        source_id=source.identity,
        target_id=target,
        include=selection[0],
        exclude=selection[1],
        chunk_docs=wanted.chunk_docs,
        chunk_bytes=wanted.chunk_bytes,
        compression="none",
        write_concern="majority",
        drop=False,
        on_conflict="stop",
        verify=False,
        queries=o.queries(wanted.query),
        consistency=wanted.consistency.value,
        transform=transform,
        model=model,
        export=left,
    )
