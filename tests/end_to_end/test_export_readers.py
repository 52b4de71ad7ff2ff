"""What was exported, as those read it for whom it is: DuckDB, pandas, pyarrow's data sets."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from bson import Decimal128, Int64, ObjectId
from pyarrow import dataset

from tests.conftest import Pair
from tests.program import ferrylog

DOCUMENTS = 600
BEGIN = datetime(2024, 1, 15, tzinfo=UTC)
COUNTRIES = ("de", "fr/it", None)


def fill(pair: Pair) -> None:
    pair.source_client.shop.orders.insert_many(map(order, range(DOCUMENTS)))


def order(n: int) -> dict[str, Any]:
    return {
        "_id": ObjectId(n.to_bytes(12, "big")),
        "n": Int64(n),
        "at": BEGIN + timedelta(days=n // 5),
        "country": COUNTRIES[n % 3],
        "price": Decimal128(f"{n}.50"),
        "where": {"city": f"city {n % 7}", "zip": n},
        "tags": ["a", "b"][: n % 3],
    }


def milliseconds(n: int) -> int:
    return int(order(n)["at"].timestamp()) * 1000


def month_of(when_ms: int) -> str:
    return f"{datetime.fromtimestamp(when_ms / 1000, UTC):%Y-%m}"


def exported(pair: Pair, tmp_path: Path, *more: str) -> Path:
    """The folder of the collection."""
    fill(pair)
    ends = ("--source", pair.source.uri, "--out", str(tmp_path / "out"))
    what = ("-d", "shop", "--format", "parquet", "--chunk-docs", "150", *more)
    done = ferrylog("export", "--journal", tmp_path / "j.db", *ends, *what)
    assert done.returncode == 0, done.stderr
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    return folder


def sql(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def test_several_files_are_one_table(pair: Pair, tmp_path: Path) -> None:
    """G3: one schema over all files, types that every reader has."""
    folder = exported(pair, tmp_path)
    files = f"read_parquet('{folder}/*.parquet')"
    assert len(list(folder.glob("*.parquet"))) > 1
    sums = 'count(*), sum(n), count(DISTINCT _id), sum("where".zip), sum(len(tags))'
    numbers = sum(range(DOCUMENTS))
    (found,) = sql(f'SELECT {sums}, max(epoch_ms("at")) FROM {files}')
    last = milliseconds(DOCUMENTS - 1)
    assert found == (DOCUMENTS, numbers, DOCUMENTS, numbers, DOCUMENTS, last)
    frame = pd.read_parquet(folder).sort_values("n")
    assert list(frame["price"]) == [f"{n}.50" for n in range(DOCUMENTS)]
    assert list(frame["_id"]) == [str(order(n)["_id"]) for n in range(DOCUMENTS)]
    assert str(frame["n"].dtype) == "int64"
    assert str(frame["at"].dtype) == "datetime64[ms, UTC]"
    assert dataset.dataset(folder).to_table().num_rows == DOCUMENTS


@pytest.mark.deep
@pytest.mark.parametrize("reader", ["duckdb", "pyarrow"])
def test_folders_of_a_field_are_a_column(pair: Pair, tmp_path: Path, reader: str) -> None:
    """G3: the value comes from the folder, escaped where it must be; null is null."""
    folder = exported(pair, tmp_path, "--partition", "country")
    assert "country" not in dataset.dataset(next(folder.rglob("*.parquet"))).schema.names
    if reader == "duckdb":
        table = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
        found = dict(sql(f"SELECT country, count(*) FROM {table} GROUP BY country"))
    else:
        read = dataset.dataset(folder, partitioning="hive").to_table().column("country")
        found = {each["values"]: each["counts"] for each in read.value_counts().to_pylist()}
    assert found == dict.fromkeys(COUNTRIES, DOCUMENTS // 3)


@pytest.mark.deep
def test_folders_of_a_date_stand_beside_it(pair: Pair, tmp_path: Path) -> None:
    """G3: by month; the date itself stays in the files."""
    folder = exported(pair, tmp_path, "--partition", "at:month")
    table = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    told = 'at_month::VARCHAR, min(epoch_ms("at")), max(epoch_ms("at")), count(*)'
    found = sql(f"SELECT {told} FROM {table} GROUP BY 1")
    assert sum(count for *_, count in found) == DOCUMENTS
    for month, first, last, _ in found:
        assert month_of(first) == month == month_of(last)
    frame = pd.read_parquet(folder)
    assert len(frame) == DOCUMENTS and frame["n"].is_unique
