"""What an export leaves: where it lies, how many files, and what became of BSON's types."""

from collections.abc import Iterator, Sequence
from typing import Final

from executors.export.columns import Column, from_text
from ferrylog.views.shapes import ExportReport, MappedReport, StatusReport
from ferrylog.views.spans import size
from statemachine.events import ExportSpec, JobSpec
from statemachine.state import Chunk, State, Unit

MAPPED: Final[dict[str, tuple[str, ...]]] = {
    "exchange": ("json", "object_id", "decimal", "uuid"),
    "native": ("json",),
}
"""By `ExportSpec.types`: kinds of columns whose values are written as text."""
NAMES: Final = 10
"""Of columns that are shown of a kind; `--json` has all."""


def export_report(state: State) -> ExportReport | None:
    """Of any other job nothing."""
    spec = state.spec
    if spec is None or spec.export is None:
        return None
    files = [file for chunk in state.filed.values() for file in _files(chunk)]
    form = spec.export
    return ExportReport(
        format=form.format,
        form=form.types if form.format == "parquet" else form.json_form,
        compression=spec.compression,
        place=place(spec, form),
        files=len(files),
        file_bytes=sum(files),
        since=form.since,
        above=form.above,
        upto=form.upto,
        partition=form.partition,
        units=tuple(mapped(unit, form) for unit in state.units.values() if unit.columns),
    )


def place(spec: JobSpec, form: ExportSpec) -> str:
    """Where the manifest lies."""
    return "/".join(filter(None, (spec.target, form.prefix)))


def _files(chunk: Chunk) -> Sequence[int]:
    """Bytes of each; a chunk without documents may have none."""
    if chunk.file is None or not (chunk.file.parts or chunk.file.sha256):
        return ()
    return [part.file_bytes for part in chunk.file.parts] or [chunk.file.file_bytes]


def mapped(unit: Unit, form: ExportSpec) -> MappedReport:
    columns = from_text(unit.columns)
    found: dict[str, list[str]] = {}
    for name, column in _leaves(columns):
        if column.kind in MAPPED[form.types]:
            found.setdefault(column.kind, []).append(name)
    return MappedReport(
        namespace=unit.id,
        columns=sum(column.leaves() for column in columns),
        as_text={kind: tuple(names) for kind, names in found.items()},
        renamed=dict(_renamed(columns)),
    )


def _renamed(columns: Sequence[Column], above: str = "") -> Iterator[tuple[str, str]]:
    for column in columns:
        field = above + column.field
        if column.name != column.field and column.field:
            yield field, column.name
        inner = (column.element,) if column.element is not None else column.members
        yield from _renamed(inner, f"{field}." if column.members else above)


def _leaves(columns: Sequence[Column], above: str = "") -> Iterator[tuple[str, Column]]:
    for column in columns:
        name = above + column.name
        if column.element is not None:
            for _, leaf in _leaves((column.element,)):
                yield name, leaf
        elif column.members:
            yield from _leaves(column.members, f"{name}.")
        else:
            yield name, column


# --- for people ---


def lines(report: StatusReport) -> Iterator[str]:
    """As of now: the files of chunks that are done."""
    export = report.export
    if export is None:
        return
    documents = report.totals.documents.dumped
    files = f"{export.files:,} file{'s' * (export.files != 1)}"
    whole = "" if report.phase == "done" else " so far"
    yield (
        f"  {files} with {documents:,} documents{whole}, {size(export.file_bytes)} of "
        f"{size(report.totals.bytes)}, in {export.place}"
    )
    if export.since:
        after = f" after {export.above}" if export.above else ""
        yield f"  only what is new by {export.since}:{after} up to {export.upto}"
    for unit in export.units:
        yield f"  {columns_line(unit)}"


def columns_line(unit: MappedReport) -> str:
    text = "; ".join(f"{_shown(names)} ({kind})" for kind, names in unit.as_text.items())
    told = f", as text: {text}" if text else ""
    names = [f"{name} for {field}" for field, name in unit.renamed.items()]
    called = f", called {_shown(names)}" if names else ""
    return f"{unit.namespace}: {unit.columns:,} columns{told}{called}"


def _shown(names: Sequence[str]) -> str:
    hidden = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {hidden:,} more" if hidden > 0 else "")
