"""Files of columns: what other programs find in them, and what never becomes one."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from executors.export import extra
from executors.export.columns import Column, to_text
from executors.export.counts import Counts
from executors.export.errors import Miscounted, NoPyarrow
from executors.export.model import Piece, Recipe
from executors.export.parquet import ParquetFiles, counts_in
from executors.export.shred import Shredder
from tests.executors.export.documents import V, raw

ID = Column("_id", "_id", "object_id")
TEXT = Column("text", "text", "string")
EVERY = (
    ID,
    Column("string", "string", "string"),
    Column("bool", "bool", "bool"),
    Column("int32", "int32", "int32"),
    Column("int64", "int64", "int64"),
    Column("double", "double", "double"),
    Column("date", "date", "timestamp"),
    Column("decimal", "decimal", "decimal"),
    Column("uuid", "uuid", "uuid"),
    Column("binary", "binary", "binary"),
    Column("any", "any", "json"),
    Column("place", "place", "struct", members=(Column("x", "x", "double"), TEXT)),
    Column("tags", "tags", "list", element=Column("", "element", "string")),
    Column(
        "lines",
        "lines",
        "list",
        element=Column("", "element", "struct", members=(Column("n", "n", "int32"),)),
    ),
)
FULL = [
    ("_id", V("objectId", bytes(range(12)))),
    ("string", V("string", "é\0")),
    ("bool", V("bool", True)),
    ("int32", V("int", -1)),
    ("int64", V("long", 2**62)),
    ("double", V("double", 0.1)),
    ("date", V("date", 1)),
    ("decimal", V("decimal", (15 << 0 | 6175 << 113).to_bytes(16, "little"))),
    ("uuid", V("binData", (4, bytes(range(16))))),
    ("binary", V("binData", (0, b"\xff"))),
    ("any", V("regex", ("x", "i"))),
    ("place", V("object", [("x", V("double", 1.0)), ("text", V("null"))])),
    ("tags", V("array", [V("string", "a"), V("null")])),
    ("lines", V("array", [V("object", [("n", V("int", 1))]), V("object", [])])),
]
HEX = bytes(range(12)).hex()
UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def recipe(columns: tuple[Column, ...], **fields: Any) -> Recipe:
    return Recipe("parquet", columns=to_text(columns), **fields)


def pieces(columns: tuple[Column, ...], *documents: Any, types: Any = "exchange") -> Any:
    return Shredder(columns, types).shred(b"".join(map(raw, documents))).pieces


def filled(
    path: Path, columns: tuple[Column, ...], *documents: Any, types: Any = "exchange"
) -> Path:
    file = ParquetFiles(recipe(columns, types=types), "shop.c", 1 << 30)(path)
    for piece in pieces(columns, *documents, types=types):
        file.add(piece)
    file.close()
    return path


def test_duckdb_reads_it(tmp_path: Path) -> None:
    """G3: with the types that one expects there, at every level."""
    path = filled(tmp_path / "f.parquet", EVERY, FULL, [])
    with duckdb.connect() as db:
        found = db.sql(f"FROM read_parquet('{path}')")
        kinds = dict(zip(found.columns, map(str, found.types), strict=True))
        full, nothing = found.project("* REPLACE (epoch_ms(date) AS date)").fetchall()
    assert kinds == {
        "_id": "VARCHAR",
        "string": "VARCHAR",
        "bool": "BOOLEAN",
        "int32": "INTEGER",
        "int64": "BIGINT",
        "double": "DOUBLE",
        "date": "TIMESTAMP WITH TIME ZONE",
        "decimal": "VARCHAR",
        "uuid": "VARCHAR",
        "binary": "BLOB",
        "any": "VARCHAR",
        "place": 'STRUCT(x DOUBLE, "text" VARCHAR)',
        "tags": "VARCHAR[]",
        "lines": "STRUCT(n INTEGER)[]",
    }
    assert nothing == (None,) * len(EVERY)
    row = dict(zip(kinds, full, strict=True))
    assert json.loads(row.pop("any")) == {"$regularExpression": {"pattern": "x", "options": "i"}}
    assert row == {
        "_id": HEX,
        "string": "é\0",
        "bool": True,
        "int32": -1,
        "int64": 2**62,
        "double": 0.1,
        "date": 1,
        "decimal": "1.5",
        "uuid": UUID,
        "binary": b"\xff",
        "place": {"x": 1.0, "text": None},
        "tags": ["a", None],
        "lines": [{"n": 1}, {"n": None}],
    }


def test_pandas_reads_it(tmp_path: Path) -> None:
    """G3."""
    table = pd.read_parquet(filled(tmp_path / "f.parquet", EVERY, FULL, []))
    assert list(table.columns) == [each.name for each in EVERY]
    row = table.iloc[0]
    assert (row["_id"], row["decimal"], row["uuid"]) == (HEX, "1.5", UUID)
    assert row["date"].value == 1_000_000
    assert row["place"] == {"x": 1.0, "text": None}
    assert list(row["tags"]) == ["a", None]
    assert table.iloc[1].isna().all()


def test_native_holds_the_bytes_themselves(tmp_path: Path) -> None:
    """G3: and says of each field what it was."""
    path = filled(tmp_path / "f.parquet", EVERY, FULL, types="native")
    (row,) = pq.read_table(path).to_pylist()
    assert row["_id"] == bytes(range(12))
    assert row["uuid"] == bytes(range(16))
    assert row["decimal"] == FULL[7][1].of
    found = pq.read_schema(path)
    assert found.metadata[b"ferrylog.namespace"] == b"shop.c"
    assert json.loads(found.metadata[b"ferrylog.columns"]) == json.loads(to_text(EVERY))
    assert found.field("uuid").metadata == {b"ferrylog.field": b"uuid", b"ferrylog.bson": b"uuid"}
    with duckdb.connect() as db:
        (ids,) = db.sql(f"SELECT _id FROM read_parquet('{path}')").fetchall()
    assert ids == (bytes(range(12)),)


def test_names_of_any_kind(tmp_path: Path) -> None:
    """G3: dots, dollars, slashes, and names that differ by their case are told apart by theirs."""
    fields = ("a.b", "$x", "c/d", "é", 'q"', "A", "a", "sp ace")
    columns = tuple(Column(each, each if each != "A" else "A_2", "int32") for each in fields)
    path = filled(
        tmp_path / "f.parquet", columns, [(each, V("int", n)) for n, each in enumerate(fields)]
    )
    with duckdb.connect() as db:
        found = db.sql(f"FROM read_parquet('{path}')")
        assert found.columns == [each.name for each in columns]
        assert found.fetchall() == [tuple(range(len(fields)))]
    assert list(pd.read_parquet(path).iloc[0]) == list(range(len(fields)))
    assert counts_in(path).present == {each.name.replace(".", "\\."): 1 for each in columns}


def test_no_document_is_a_valid_file_too(tmp_path: Path) -> None:
    """G1: an empty collection."""
    path = filled(tmp_path / "f.parquet", EVERY)
    assert pd.read_parquet(path).shape == (0, len(EVERY))
    with duckdb.connect() as db:
        assert db.sql(f"SELECT count(*) FROM read_parquet('{path}')").fetchall() == [(0,)]
    assert counts_in(path) == Counts()


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    """G3: digest and size are those of its bytes; it knows how many values of which type it has."""
    path = tmp_path / "f.parquet"
    file = ParquetFiles(recipe(EVERY), "shop.c", 1 << 30)(path)
    for piece in (*pieces(EVERY, FULL, FULL), *pieces(EVERY, [])):
        file.add(piece)
    documents, size, sha256 = file.close()
    data = path.read_bytes()
    assert (documents, size, sha256) == (3, len(data), hashlib.sha256(data).hexdigest())
    counts = counts_in(path)
    assert counts.present["tags.element"] == 2
    assert counts.census["lines"] == {"array": 2}
    pages = pq.read_metadata(path).row_group(0).column(0)
    assert pages.compression == "ZSTD"
    assert pages.statistics.has_min_max


def test_a_flipped_bit_is_found_by_a_reader(tmp_path: Path) -> None:
    """G3: each page has its checksum."""
    path = filled(tmp_path / "f.parquet", (TEXT,), [("text", V("string", "x" * 500))])
    data = bytearray(path.read_bytes())
    data[pq.read_metadata(path).row_group(0).column(0).data_page_offset - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="checksum"):
        pq.read_table(path, page_checksum_verification=True)


def row_groups(path: Path) -> list[int]:
    found = pq.read_metadata(path)
    return [found.row_group(each).num_rows for each in range(found.num_row_groups)]


def test_row_groups_are_cut_by_bytes(tmp_path: Path) -> None:
    """G1, G8: what waits in memory is bounded, by less memory for a worker too; nothing is cut."""
    (piece,) = pieces((TEXT,), *[[("text", V("string", "x" * 1000))] for _ in range(100)])
    files = ParquetFiles(recipe((TEXT,)), "shop.c", 4_000_000)
    one, other = files(tmp_path / "1"), files(tmp_path / "2")
    for file in (one, one, other, one, one, one, one, one, other):
        file.add(piece)
        assert one.held + other.held <= 500_000
    assert one.close()[0] == 700
    assert other.close()[0] == 200
    assert row_groups(tmp_path / "1") == [400, 300]
    assert row_groups(tmp_path / "2") == [200]


def test_a_file_that_waits_takes_no_handle(tmp_path: Path) -> None:
    """G8: there may be one for each of many folders."""
    files = ParquetFiles(recipe((TEXT,)), "shop.c", 1 << 30)
    opened = [files(tmp_path / str(n)) for n in range(200)]
    (piece,) = pieces((TEXT,), [("text", V("string", "x"))])
    for each in opened:
        each.add(piece)
    handles = {str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.exists()}
    assert not [each for each in handles if each.startswith(str(tmp_path))]
    assert all(each.close()[0] == 1 for each in opened)


def test_a_file_in_which_a_value_is_missing_is_never_whole(tmp_path: Path) -> None:
    """G3: the statistics that were written are compared with what the documents held."""
    files = ParquetFiles(recipe(EVERY), "shop.c", 1 << 30)
    (piece,) = pieces(EVERY, FULL)
    for path in ("string", "tags.element", "lines.element.n", "place.x"):
        file = files(tmp_path / path)
        told = {**piece.counts.present, path: 7}
        file.add(Piece(piece.data, 1, "", Counts(told)))
        with pytest.raises(Miscounted, match=f"7 values of {path} became"):
            file.close()
        file.discard()
    more = files(tmp_path / "more")
    more.add(Piece(piece.data, 1, "", Counts({**piece.counts.present, "tags.element": 0})))
    with pytest.raises(Miscounted, match="0 values of tags.element became 1"):
        more.close()
    fewer = files(tmp_path / "fewer")
    fewer.add(piece)
    fewer._documents += 1
    with pytest.raises(Miscounted, match="2 documents became 1 rows"):
        fewer.close()


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    """G8: it is told as what it is; the rest of the attempt can be thrown away."""
    folder = tmp_path / "gone"
    folder.mkdir()
    file = ParquetFiles(recipe((TEXT,)), "shop.c", 1 << 30)(folder / "f")
    file.add(*pieces((TEXT,), [("text", V("string", "x"))]))
    file.write()
    (folder / "f").unlink()
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        file.close()
    file.discard()
    file.discard()


def test_nothing_of_pyarrow_is_loaded_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: it is an extra, and large; without it an export to Parquet says what to install."""
    code = "import sys, executors.export.task, executors.export.convert, executors.export.writers;"
    code += "assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    extra.require()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoPyarrow) as told:
        extra.require()
    assert (told.value.code, told.value.exit_code) == ("EEXPORT001", 2)
    assert "pip install 'ferrylog[export]'" in told.value.remedy
