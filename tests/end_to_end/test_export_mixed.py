"""A collection in which every field holds what it likes: all of it is in the Parquet files."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId, Regex
from bson import Timestamp as At
from pyarrow import dataset

from tests.conftest import Pair
from tests.end_to_end.test_export import manifest
from tests.end_to_end.test_main_job import Terminal

pytestmark = pytest.mark.server

DOCUMENTS = 1500
WHEN = datetime(2024, 2, 29, tzinfo=UTC)
TEN: list[Any] = [
    1, "s", 2.5, {"x": 1}, [1, "s"], WHEN, Regex("r"), At(1, 2), Decimal128("1.5"), True, None,
]  # fmt: skip


def mixed(number: int) -> dict[str, Any]:
    found = {
        "_id": number,
        "ten": TEN[number % len(TEN)],
        "even": number,
        "a.b": {"c": number % 3, "when": WHEN},
        "list": [{"n": number}, {"n": None}] * (number % 3),
        "Name": "n",
        "name": number / 2,
    }
    rare = {
        900: {"even": Int64(2**40)},
        901: {"when": DatetimeMS(2**60)},
        902: {"list": [{"n": "text"}]},
        903: {"new": ObjectId(), "key": Binary(bytes(16), 4)},
    }
    usual = {"when": WHEN, "gone": None} if number % 2 else {}
    return found | usual | rare.get(number, {})


def test_nothing_is_null_that_was_not(pair: Pair, tmp_path: Path) -> None:
    """G3: columns by what all documents hold; each value that is not null is there, counted by the
    server and by a reader, and by the manifest type for type."""
    collection = pair.source_client.shop.mixed
    collection.insert_many([mixed(number) for number in range(DOCUMENTS)])
    terminal = Terminal(tmp_path, pair)
    del terminal.environment["FERRYLOG_TARGET"]
    done = terminal("export", "-d", "shop", "--out", str(tmp_path / "out"), "--chunk-docs", "400")
    assert done.returncode == 0, done.stderr
    (told,) = manifest(tmp_path / "out")["collections"]
    columns = {each["field"]: each for each in told["columns"]}
    kinds = {field: each["kind"] for field, each in columns.items()}
    assert kinds == {
        "_id": "int32", "ten": "json", "even": "int64", "a.b": "struct", "list": "list",
        "Name": "string", "name": "double", "when": "json", "gone": "json", "new": "object_id",
        "key": "uuid",
    }  # fmt: skip
    table = dataset.dataset(tmp_path / "out" / "shop.mixed", format="parquet").to_table()
    assert table.num_rows == DOCUMENTS
    there = types_of(collection)
    for field, column in columns.items():
        name = column["name"]
        assert len(table[name]) - table[name].null_count == there[field].total(), field
        counted: Counter[str] = Counter()
        for file in told["files"]:
            counted.update(file["census"].get(name, {}))
        assert counted == there[field], field
    assert len(told["files"]) >= 3


def types_of(collection: Any) -> dict[str, Counter[str]]:
    """Fields to types to values that are not null, as the server counts them."""
    rows = collection.aggregate(
        [
            {"$project": {"all": {"$objectToArray": "$$ROOT"}}},
            {"$unwind": "$all"},
            {"$group": {"_id": {"k": "$all.k", "t": {"$type": "$all.v"}}, "n": {"$sum": 1}}},
        ]
    )
    found: dict[str, Counter[str]] = {}
    for row in rows:
        types = found.setdefault(row["_id"]["k"], Counter())
        if row["_id"]["t"] != "null":
            types[row["_id"]["t"]] += row["n"]
    return found
