"""Folders by the values of a field, as readers of Hive's layout take them back."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from executors.export.census import census
from executors.export.columns import Column, from_text, to_text
from executors.export.errors import NoPartition, TooManyFolders
from executors.export.model import Recipe
from executors.export.parquet import MOST_FOLDERS, ParquetFiles
from executors.export.partition import NULL, partition_of
from executors.export.places import NO_FIELD
from executors.export.shred import Shredder
from statemachine.events import ExportSpec
from tests.conftest import Pair
from tests.executors.examples import Looks, spec, unit_of
from tests.executors.export.documents import V, raw

N = Column("n", "n", "int32")
COLUMNS = (
    N,
    Column("state", "state", "string"),
    Column("ok", "ok", "bool"),
    Column("shop", "shop", "object_id"),
    Column("when", "when", "timestamp"),
    Column("price", "price", "double"),
)
DAY = 86_400_000


def pieces(by: str, *values: V, field: str = "", types: Any = "exchange") -> Any:
    """Of documents with these values and a number."""
    documents = [[("n", V("int", n)), (field or by, each)] for n, each in enumerate(values)]
    shredder = Shredder(COLUMNS, types, partition_of(by, COLUMNS))
    return shredder.shred(b"".join(map(raw, documents)))


def folders(by: str, *values: V, **more: Any) -> list[str]:
    return [each.folder for each in pieces(by, *values, **more).pieces]


def laid(root: Path, by: str, *values: V, field: str = "", types: Any = "exchange") -> Path:
    files = ParquetFiles(
        Recipe("parquet", types=types, columns=to_text(COLUMNS), partition=by), "shop.c", 1 << 30
    )
    for piece in pieces(by, *values, field=field, types=types).pieces:
        (root / piece.folder).mkdir(parents=True)
        file = files(root / piece.folder / "part.parquet")
        file.add(piece)
        assert file.close()[0] == piece.documents
    return root


TEXTS = ["a b", "a/b", "a%2Fb", "x=y", "..", "é", "~&+;,$@!()<>|`", 'q"*?:\\', "\n", "7", "true"]


@pytest.mark.parametrize("types", ["exchange", "native"])
def test_readers_take_back_what_folders_say(types: Any, tmp_path: Path) -> None:
    """G3: text of any kind, and null; the column itself is in no file."""
    values = [V("string", each) for each in TEXTS] + [V("null"), V("string", "a b")]
    root = laid(tmp_path, "state", *values, types=types)
    wanted = [*enumerate(TEXTS), (len(TEXTS), None), (len(TEXTS) + 1, "a b")]
    flavor = ds.partitioning(pa.schema([("state", pa.string())]), flavor="hive")
    found = ds.dataset(root, partitioning=flavor).to_table().select(["n", "state"]).to_pylist()
    assert sorted((each["n"], each["state"]) for each in found) == wanted
    with duckdb.connect() as db:
        read = (
            f"read_parquet('{root}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
        )
        assert db.sql(f"SELECT n, state FROM {read} ORDER BY n").fetchall() == wanted
    inside = pq.ParquetFile(root / "state=7" / "part.parquet").schema_arrow.names
    assert inside == [each.name for each in COLUMNS if each.name != "state"]


def test_values_of_every_kind() -> None:
    """G3."""
    assert folders("ok", V("bool", True), V("bool", False)) == ["ok=true/", "ok=false/"]
    assert folders("shop", V("objectId", bytes(12)), types="native") == [f"shop={'0' * 24}/"]
    assert folders("state", V("null"), field="other") == []
    assert folders("state", V("null")) == [f"state={NULL}/"]
    assert folders("n", V("int", -1), field="ok") == []


def test_parts_of_dates_and_the_date_stays(tmp_path: Path) -> None:
    """G3."""
    values = [V("date", 0), V("date", 31 * DAY), V("date", -62_135_596_800_000), V("null")]
    assert folders("when:year", *values, field="when") == [
        "when_year=1970/",
        "when_year=0001/",
        f"when_year={NULL}/",
    ]
    assert folders("when:month", *values[:2], field="when") == [
        "when_month=1970-01/",
        "when_month=1970-02/",
    ]
    root = laid(tmp_path, "when:day", *values[:2], field="when")
    found = ds.dataset(root, partitioning="hive").to_table(columns=["when", "when_day"])
    assert [str(each["when"].date()) for each in found.to_pylist()] == ["1970-01-01", "1970-02-01"]


def test_values_that_no_folder_can_be_called_by() -> None:
    """G3: readers would take them for null, or refuse the folder; the document is named."""
    values = [V("string", each) for each in ("", NULL, "x" * 300, "fine")]
    found = pieces("state", *values, V("int", 1))
    assert [each.folder for each in found.pieces] == ["state=fine/"]
    assert [(place, code) for place, code, _ in found.misfits] == [
        (0, "EEXPORT033"),
        (1, "EEXPORT033"),
        (2, "EEXPORT033"),
        (4, "EEXPORT032"),
    ]


def test_a_misfit_of_one_folder_is_that_document() -> None:
    """G4: its place is that in the block."""
    documents = [
        [("state", V("string", "ab"[n % 2])), ("n", V("int" if n != 5 else "long", n))]
        for n in range(8)
    ]
    found = Shredder(COLUMNS, "exchange", partition_of("state", COLUMNS)).shred(
        b"".join(map(raw, documents))
    )
    assert [place for place, _, _ in found.misfits] == [5]
    assert [(each.folder, each.documents) for each in found.pieces] == [
        ("state=a/", 4),
        ("state=b/", 3),
    ]
    assert found.pieces[1].counts.present["n"] == 3


@pytest.mark.parametrize(
    ("by", "why"),
    [
        ("nowhere", "no column of that name"),
        ("when:hour", "no column of that name"),
        ("n:day", "n is int32, not a date in every document"),
        ("when", "when is a date: write when:day, or month, or year"),
        ("price", "price is double: it takes string, bool"),
    ],
)
def test_what_no_folders_can_be_made_by(by: str, why: str) -> None:
    """G3."""
    with pytest.raises(NoPartition, match=why):
        partition_of(by, COLUMNS)


def test_what_would_clash_or_leave_nothing() -> None:
    """G3."""
    when = COLUMNS[4]
    with pytest.raises(NoPartition, match="there is a column when_day already"):
        partition_of("when:day", (when, Column("x", "When_Day", "int32")))
    with pytest.raises(NoPartition, match="no other column would be left"):
        partition_of("n", (N,))
    assert partition_of("n", (NO_FIELD,)) is None  # of an empty collection
    named_so = Column("a:day", "a:day", "string")
    found = partition_of("a:day", (N, named_so))
    assert found is not None
    assert (found.column, found.period) == (named_so, "")


def test_more_folders_than_a_chunk_may_have(tmp_path: Path) -> None:
    """G8: each would be a file; the error says what to do."""
    files = ParquetFiles(Recipe("parquet", columns=to_text((N,))), "shop.c", 1 << 30)
    opened = [files(tmp_path / str(n)) for n in range(MOST_FOLDERS)]
    with pytest.raises(TooManyFolders) as told:
        files(tmp_path / "more")
    assert told.value.code == "EEXPORT021"
    for each in opened:
        each.discard()


@pytest.mark.server
def test_a_partition_is_refused_before_the_first_file(pair: Pair) -> None:
    """G3: the census knows which fields there are; an empty collection has nothing to refuse."""
    source = pair.source_client
    asked = spec(kind="export", export=ExportSpec(format="parquet", partition="state"))
    source.shop.c.insert_one({"state": 1.5})
    with pytest.raises(NoPartition, match="state is double"):
        census(source, unit_of(source), asked, Looks())
    source.shop.c.delete_many({})
    columns = census(source, unit_of(source), asked, Looks()).columns
    assert partition_of("state", from_text(columns)) is None
