"""What an export would do: looked up and counted, and nothing written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from executors.boundaries import from_text
from executors.clients import Deployment
from executors.dumps.model import NeverStops
from executors.export import extra
from executors.export.census import census
from executors.export.place import refuse_taken, root_of
from executors.plan import is_capped, plan
from executors.preflight import examine_dump_source
from executors.storage.urls import open_store
from executors.survey import survey
from ferrylog.redact import one_line
from ferrylog.views.exported import columns_line, mapped, place
from ferrylog.views.shapes import MappedReport, Report
from ferrylog.views.spans import size
from ferrylog.wiring import raise_first
from statemachine.events import JobSpec
from statemachine.state import Unit, takes_census, transforms
from statemachine.stimuli import FoundUnit


class PlannedExport(Report):
    """Documents and bytes are estimates of the server."""

    namespace: str
    chunks: int
    documents: int
    bytes: int
    """Of the whole collection, as BSON."""
    columns: MappedReport | None
    """Of Parquet; not of what code of the user's own will make."""


class ExportPlanReport(Report):
    schema_: Literal["ferrylog.export-plan/1"] = Field("ferrylog.export-plan/1", alias="schema")
    source: str
    place: str
    format: str
    units: tuple[PlannedExport, ...]
    notes: tuple[str, ...]


def export_plan(source: Deployment, spec: JobSpec, work: Path) -> ExportPlanReport:
    """Raises what would stop the job: what `refuse_taken`, `survey`, `census` raise, `NoPyarrow`,
    findings about the source."""
    assert spec.export is not None
    if takes_census(spec):
        extra.require()
    raise_first(examine_dump_source(source, spec))
    refuse_taken(open_store(root_of(spec), work), spec)
    found = survey(source.client, spec)
    return ExportPlanReport(
        source=spec.source,
        place=place(spec, spec.export),
        format=spec.export.format,
        units=tuple(_planned(source, each, spec) for each in found.units if each.type != "view"),
        notes=found.notes,
    )


def _planned(source: Deployment, found: FoundUnit, spec: JobSpec) -> PlannedExport:
    unit = Unit(
        found.unit,
        found.target,
        found.type,
        found.uuid,
        found.options,
        found.indexes,
        found.documents,
        found.bytes,
    )
    capped = is_capped(from_text(unit.options))
    cut = plan(source.client, unit, spec, NeverStops(), capped=capped)
    if takes_census(spec) and not transforms(spec):
        unit.columns = census(source.client, unit, spec, NeverStops()).columns
    assert spec.export is not None
    return PlannedExport(
        namespace=unit.id,
        chunks=len(cut.boundaries) + 1,
        documents=cut.documents,
        bytes=found.bytes,
        columns=mapped(unit, spec.export) if unit.columns else None,
    )


def plan_text(report: ExportPlanReport) -> str:
    return "\n".join(map(one_line, _lines(report)))


def _lines(report: ExportPlanReport) -> Iterator[str]:
    yield f"{report.source} → {report.place} ({report.format})"
    for unit in report.units:
        yield (
            f"  {unit.namespace}: about {unit.documents:,} documents in {unit.chunks:,} chunks, "
            f"{size(unit.bytes)} as BSON"
        )
        if unit.columns is not None:
            yield f"  {columns_line(unit.columns)}"
    yield from (f"  note: {note}" for note in report.notes)
    yield "nothing was written"
