"""What is told of an export: its files, and what became of fields and types."""

from executors.export.columns import Column, to_text
from ferrylog.views.exported import export_report
from statemachine.events import ExportSpec
from statemachine.state import Chunk, ChunkFile, State, Unit
from statemachine.state.entities import Part
from statemachine.words import BsonText, ChunkId, UnitId
from tests.statemachine.examples import SPEC

COLUMNS = (
    Column("_id", "_id", "object_id"),
    Column("a.b", "a_b", "int32"),
    Column("where", "where", "struct", members=(
        Column("Zip", "Zip", "json"), Column("zip", "zip__2", "decimal"),
    )),
    Column("tags", "tags", "list", element=Column("", "element", "uuid")),
)  # fmt: skip


def state(**form: object) -> State:
    found = State()
    export = ExportSpec.model_validate({"format": "parquet", "prefix": "2026-11-22", **form})
    found.spec = SPEC.model_copy(
        update={"kind": "export", "target": "s3://lake/x", "export": export, "compression": "zstd"}
    )
    unit = Unit(UnitId("shop.orders"), "shop.orders", "collection", "", BsonText(""), (), 7, 70)
    unit.columns = to_text(COLUMNS)
    found.units[unit.id] = unit
    parts = (Part("a", 1, 10, ""), Part("b", 1, 30, ""))
    for number, file in enumerate((
        ChunkFile("f", 5, 50, 7, "abc"),
        ChunkFile("shop.orders", 2, 20, 40, "", parts=parts),
        ChunkFile("shop.orders", 0, 0, 0, ""),
    )):  # fmt: skip
        chunk = Chunk(ChunkId(f"shop.orders#{number}"), unit.id, None, None, 0, natural=False)
        chunk.file = file
        found.filed[chunk.id] = chunk
    return found


def test_files_and_columns() -> None:
    """G7: what lies there, and what is not there as it was."""
    report = export_report(state())
    assert report is not None
    assert (report.files, report.file_bytes) == (3, 47)
    assert report.place == "s3://lake/x/2026-11-22"
    (unit,) = report.units
    assert unit.columns == 5
    assert unit.as_text == {
        "object_id": ("_id",), "json": ("where.Zip",), "decimal": ("where.zip__2",),
        "uuid": ("tags",),
    }  # fmt: skip
    assert unit.renamed == {"a.b": "a_b", "where.zip": "zip__2"}
    native = export_report(state(types="native"))
    assert native is not None
    assert native.units[0].as_text == {"json": ("where.Zip",)}


def test_no_other_job_tells_of_it() -> None:
    """A job that leaves no files for others."""
    other = State()
    assert export_report(other) is None
    other.spec = SPEC
    assert export_report(other) is None
