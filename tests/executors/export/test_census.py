"""A census decides the columns: every document fits them, and text is only what must be (G3)."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import bson
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson import Timestamp as At
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from executors.batches import Block
from executors.boundaries import to_text
from executors.export import census as asking
from executors.export.census import census
from executors.export.columns import Column, from_text
from executors.export.errors import BadName, TooManyColumns
from executors.export.places import MAX_DATE, MIN_DATE
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents
from executors.survey import survey
from executors.transforms.heldback import Reject
from statemachine.events import ExportSpec
from tests.conftest import Pair
from tests.executors.examples import Client, Looks, spec, unit_of

pytestmark = pytest.mark.server

Plain = dict[str, Any]
WHEN = datetime(2024, 1, 2, tzinfo=UTC)
UUID = Binary(bytes(range(16)), 4)


@pytest.fixture
def source(pair: Pair) -> Client:
    return pair.source_client


def fill(source: Client, found: list[Plain]) -> None:
    source.shop.create_collection("c")
    if found:
        source.shop.c.insert_many(found)


def form(**changes: Any) -> ExportSpec:
    return ExportSpec(format="parquet", **changes)


def counted(source: Client, *, export: ExportSpec | None = None, **more: Any) -> list[Column]:
    """The columns, less `_id`, which is first."""
    changes = more.pop("changes", {})
    asked = spec(kind="export", export=export or form(), **changes)
    result = census(source, unit_of(source), asked, Looks(), **more)
    return list(from_text(result.columns))


def plain(columns: list[Column]) -> Plain:
    """Fields to kinds: of a struct its fields, of a list its element in brackets."""
    return {each.field: _plain(each) for each in columns}


def _plain(column: Column) -> Any:
    if column.element is not None:
        return [_plain(column.element)]
    return plain([*column.members]) if column.members else column.kind


def kinds(source: Client, **more: Any) -> Plain:
    columns = plain(counted(source, **more))
    assert next(iter(columns)) == "_id"
    return {field: kind for field, kind in columns.items() if field != "_id"}


def wanting(query: Plain) -> Plain:
    return {"queries": (("shop.*", to_text(bson.encode(query))),)}


def only(projection: Plain) -> ExportSpec:
    return form(projection=to_text(bson.encode(projection)))


ONE_OF_EACH: dict[str, tuple[Any, str]] = {
    "double": (1.5, "double"),
    "string": ("s", "string"),
    "bool": (False, "bool"),
    "int": (1, "int32"),
    "long": (Int64(1), "int64"),
    "decimal": (Decimal128("1.10"), "decimal"),
    "date": (WHEN, "timestamp"),
    "object_id": (ObjectId(), "object_id"),
    "uuid": (UUID, "uuid"),
    "bytes": (b"abc", "binary"),
    "old uuid": (Binary(bytes(16), 3), "json"),
    "short uuid": (Binary(bytes(15), 4), "json"),
    "own binary": (Binary(b"abc", 128), "json"),
    "far date": (DatetimeMS(MAX_DATE + 1), "json"),
    "early date": (DatetimeMS(MIN_DATE - 1), "json"),
    "last date": (DatetimeMS(MAX_DATE), "timestamp"),
    "first date": (DatetimeMS(MIN_DATE), "timestamp"),
    "regex": (Regex("a", "i"), "json"),
    "timestamp": (At(1, 2), "json"),
    "code": (Code("x"), "json"),
    "scoped": (Code("x", {"y": 1}), "json"),
    "min": (MinKey(), "json"),
    "max": (MaxKey(), "json"),
    "null": (None, "json"),
    "empty": ({}, "json"),
    "nothing": ([], "json"),
    "nulls": ([None], "json"),
}


@pytest.mark.parametrize("types", ["exchange", "native"])
def test_each_type_of_bson_has_its_kind(source: Client, types: Any) -> None:
    fill(source, [{name: value for name, (value, _) in ONE_OF_EACH.items()}])
    found = kinds(source, export=form(types=types))
    assert found == {name: kind for name, (_, kind) in ONE_OF_EACH.items()}


def test_nothing_has_one_column(source: Client) -> None:
    """DuckDB refuses a file without any."""
    fill(source, [])
    assert counted(source) == [Column("_id", "_id", "json")]


NESTED = {"s": {"a": 1, "deep": {"b": "x"}}, "l": [1, 2], "ls": [{"c": 1}], "ll": [[1.5]]}


def test_uniform_objects_and_arrays_are_structs_and_lists(source: Client) -> None:
    fill(source, [NESTED] * 1 + [{"s": {"a": 2}}, {"l": [None]}, {"l": []}, {"s": None}])
    assert kinds(source) == {
        "s": {"a": "int32", "deep": {"b": "string"}},
        "l": ["int32"],
        "ls": [{"c": "int32"}],
        "ll": [["double"]],
    }


LATE: dict[str, tuple[Plain, Plain, Any, Any]] = {
    # what most documents hold, what one holds, what the field becomes: exchange, native
    "a new field": ({}, {"x": 1}, "int32", "int32"),
    "long beside int": ({"x": 1}, {"x": Int64(1)}, "int64", "json"),
    "int beside long": ({"x": Int64(1)}, {"x": 1}, "int64", "json"),
    "int beside double": ({"x": 1.5}, {"x": 1}, "double", "json"),
    "double beside int": ({"x": 1}, {"x": 1.5}, "double", "json"),
    "double beside long": ({"x": Int64(1)}, {"x": 1.5}, "json", "json"),
    "long beside double": ({"x": 1.5}, {"x": Int64(1)}, "json", "json"),
    "decimal beside int": ({"x": 1}, {"x": Decimal128("1")}, "json", "json"),
    "text beside int": ({"x": 1}, {"x": "1"}, "json", "json"),
    "undefined": ({"x": "s"}, {"x": "UNDEFINED"}, "json", "json"),
    "an object beside text": ({"x": "s"}, {"x": {"y": 1}}, "json", "json"),
    "an array beside its element": ({"x": 1}, {"x": [1]}, "json", "json"),
    "first value": ({"x": None}, {"x": WHEN}, "timestamp", "timestamp"),
    "a far date": ({"x": WHEN}, {"x": DatetimeMS(MAX_DATE + 1)}, "json", "json"),
    "an early date": ({"x": WHEN}, {"x": DatetimeMS(MIN_DATE - 1)}, "json", "json"),
    "an edge of dates": ({"x": WHEN}, {"x": DatetimeMS(MIN_DATE)}, "timestamp", "timestamp"),
    "a far date inside": (
        {"x": {"y": {"z": WHEN}}},
        {"x": {"y": {"z": DatetimeMS(2**62)}}},
        {"y": {"z": "json"}},
        {"y": {"z": "json"}},
    ),
    "a far date in an array": ({"x": [WHEN]}, {"x": [WHEN, DatetimeMS(2**62)]}, ["json"], ["json"]),
    "a far date in arrays": (
        {"x": [[WHEN]]},
        {"x": [[], [DatetimeMS(-(2**62))]]},
        [["json"]],
        [["json"]],
    ),
    "a far date in an object of arrays": (
        {"x": [[{"y": WHEN}]]},
        {"x": [[{}, {"y": DatetimeMS(2**62)}]]},
        [[{"y": "json"}]],
        [[{"y": "json"}]],
    ),
    "a binary of one's own": ({"x": b"x"}, {"x": Binary(b"x", 128)}, "json", "json"),
    "one in an array": ({"x": [b"x"]}, {"x": [b"x", Binary(b"x", 5)]}, ["json"], ["json"]),
    "one in an object": (
        {"x": [{"y": b"x"}]},
        {"x": [{"y": Binary(b"x", 5)}]},
        [{"y": "json"}],
        [{"y": "json"}],
    ),
    "bytes beside a UUID": ({"x": UUID}, {"x": bytes(16)}, "json", "json"),
    "a UUID beside bytes": ({"x": bytes(16)}, {"x": UUID}, "json", "json"),
    "a UUID of old": ({"x": UUID}, {"x": Binary(bytes(16), 3)}, "json", "json"),
    "a short UUID": ({"x": UUID}, {"x": Binary(bytes(15), 4)}, "json", "json"),
    "a long UUID": ({"x": UUID}, {"x": Binary(bytes(17), 4)}, "json", "json"),
    "extreme UUIDs": ({"x": UUID}, {"x": Binary(b"\xff" * 16, 4)}, "uuid", "uuid"),
    "longer bytes": ({"x": b""}, {"x": bytes(5000)}, "binary", "binary"),
    "a field inside": ({"x": {"y": 1}}, {"x": {"z": 1}}, *[{"y": "int32", "z": "int32"}] * 2),
    "an empty object": ({"x": {"y": 1}}, {"x": {}}, *[{"y": "int32"}] * 2),
    "an element of another type": ({"x": [1]}, {"x": [1, "s"]}, ["json"], ["json"]),
    "an array in an array": ({"x": [1]}, {"x": [[1]]}, ["json"], ["json"]),
    "an element at last": ({"x": []}, {"x": [None, 1]}, ["int32"], ["int32"]),
    "an object in an array": ({"x": [{}]}, {"x": [{"y": 1}]}, *[[{"y": "int32"}]] * 2),
    "no field is mistaken for a path": (
        {"x": {"y": 1}, "x.y": "s"},
        {"x": {"y": 2}, "x.y": 1},
        *[{"y": "int32"}] * 2,
    ),
}


@pytest.mark.parametrize("types", ["exchange", "native"])
def test_one_document_among_many_is_found(
    source: Client, types: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind all that were looked at here: the server finds it. All cases lie in one collection,
    each in a field of its own."""
    monkeypatch.setattr(asking, "REPLY_DOCUMENT_BYTES", 1 << 20)
    usual: Plain = {}
    for number, (most, _, _, _) in enumerate(LATE.values()):
        usual |= {name.replace("x", f"f{number}", 1): value for name, value in most.items()}
    late = [
        {name.replace("x", f"f{number}", 1): value for name, value in one.items()}
        for number, (_, one, _, _) in enumerate(LATE.values())
    ]
    fill(source, [{"_id": n, **usual} for n in range(20)])
    for number, one in enumerate(late):
        raw = bson.encode({"_id": 100 + number, **usual, **one})
        source.shop.c.insert_one(bson.raw_bson.RawBSONDocument(_undefined(raw)))
    found = kinds(source, export=form(types=types))
    expected = {name: case[2 + (types == "native")] for name, case in LATE.items()}
    assert {name: found[f"f{number}"] for number, name in enumerate(LATE)} == expected


def _undefined(raw: bytes) -> bytes:
    """The driver cannot write it."""
    at = raw.find(b"\x0a\0\0\0UNDEFINED\0")
    if at < 0:
        return raw
    kind = raw.rindex(b"\x02", 0, at)
    whole = raw[:kind] + b"\x06" + raw[kind + 1 : at] + raw[at + 14 :]
    return len(whole).to_bytes(4, "little") + whole[4:]


ODD = {
    "a.b": 1,
    "$c": 1.5,
    "": "s",
    "d\ne": True,
    "a(b": 1,
    "ü": 1,
    "e\\z": 1,
    "nested": {"f.g": 1},
}


def test_any_name_of_a_field_has_a_column(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a document with another type under it is found, also where `a: {b: 1}` could be taken
    for it."""
    monkeypatch.setattr(asking, "REPLY_DOCUMENT_BYTES", 1 << 20)
    many: list[Plain] = [{"_id": n, **ODD} for n in range(20)]
    fill(source, [*many, {"a": {"b": "s"}}, *({name: Int64(1)} for name in ODD)])
    columns = counted(source)
    assert plain(columns) == {
        "_id": "json", "a.b": "int64", "$c": "json", "": "json", "d\ne": "json", "a(b": "int64",
        "ü": "int64", "e\\z": "int64", "nested": "json", "a": {"b": "string"},
    }  # fmt: skip
    assert [each.name for each in columns] == [
        "_id", "a_b", "_c", "_", "d_e", "a_b__2", "ü", "e_z", "nested", "a",
    ]  # fmt: skip


def test_beneath_a_name_that_is_no_path_dates_are_text(source: Client) -> None:
    """No bounds can be asked for there; what needs none has its type."""
    fill(source, [{"a.b": {"when": WHEN, "who": UUID, "what": b"x", "count": 1}}])
    assert kinds(source) == {
        "a.b": {"when": "json", "who": "json", "what": "json", "count": "int32"}
    }


def test_names_that_differ_by_case_are_kept_apart(source: Client) -> None:
    fill(source, [{"Name": 1, "name": "s", "NAME": 2.5, "x": {"A": 1, "a": "s"}}])
    columns = counted(source)
    assert [(each.field, each.name, each.kind) for each in columns[1:4]] == [
        ("Name", "Name", "int32"),
        ("name", "name__2", "string"),
        ("NAME", "NAME__3", "double"),
    ]
    assert [each.name for each in columns[4].members] == ["A", "a__2"]


def test_columns_stand_as_they_were_met(source: Client) -> None:
    fill(source, [{"_id": 1, "z": 1, "y": 1}, {"_id": 2, "a": 1, "z": 2}])
    assert [each.field for each in counted(source)] == ["_id", "z", "y", "a"]


# --- what of the documents ---


def test_what_the_query_does_not_want_has_no_columns(source: Client) -> None:
    fill(source, [{"n": n, "x": 1} for n in range(600)] + [{"n": -1, "x": "s", "y": 1}])
    assert kinds(source, changes=wanting({"n": {"$gte": 0}})) == {"n": "int32", "x": "int32"}
    assert kinds(source, changes=wanting({"n": -1})) == {"n": "int32", "x": "string", "y": "int32"}


def test_a_repeated_export_counts_its_own_documents(source: Client) -> None:
    fill(source, [{"n": n, "x": 1} for n in range(9)] + [{"n": 9, "x": "s"}, {"n": "s", "z": 1}])

    def between(above: Any, upto: Any) -> Plain:
        bounds = {
            "above": to_text(bson.encode({"": above})),
            "upto": to_text(bson.encode({"": upto})),
        }
        return kinds(source, export=form(since="n", **bounds))

    assert between(0, 8) == {"n": "int32", "x": "int32"}
    assert between(8, 9) == {"n": "int32", "x": "string"}


PROJECTIONS: list[tuple[Plain, Plain]] = [
    ({"a": 1}, {"_id": "int32", "a": "int64"}),
    ({"a": True, "_id": False}, {"a": "int64"}),
    ({"_id": 0}, {"a": "int64", "b": {"c": "double", "d": "string"}, "x": "json"}),
    ({"x": 0, "b": 0.0}, {"_id": "int32", "a": "int64"}),
    ({"_id": 1}, {"_id": "int32"}),
    ({"b.c": 1}, {"_id": "int32", "b": {"c": "double"}}),
    ({"b.c": 0, "x": 0}, {"_id": "int32", "a": "int64", "b": {"d": "string"}}),
    ({"a": {"$toString": "$a"}}, {"_id": "int32", "a": "string"}),
    ({"q": 1, "_id": 0}, {"_id": "json"}),
]


@pytest.mark.parametrize(("projection", "found"), PROJECTIONS, ids=str)
def test_only_what_is_exported_has_columns(
    source: Client, projection: Plain, found: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the server can be asked for it or not."""
    monkeypatch.setattr(asking, "REPLY_DOCUMENT_BYTES", 1 << 20)
    many = [{"_id": n, "a": n, "b": {"c": 1.5, "d": "s"}, "x": n} for n in range(20)]
    fill(
        source,
        [*many, {"_id": 20, "a": Int64(1)}, {"_id": 21, "x": "s"}, {"_id": 22, "b": {"c": 1}}],
    )
    assert plain(counted(source, export=only(projection))) == found


def test_what_own_code_makes_has_columns(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every document that it lets through, in every range."""
    monkeypatch.setattr(asking, "RANGE_DOCUMENTS", 100)
    fill(source, [{"_id": n, "a": 1} for n in range(700)] + [{"_id": 700, "a": "s"}])

    def through(blocks: Iterator[Block], reject: Reject, stop: StopToken) -> Iterator[Block]:
        for block in blocks:
            found = [bson.decode(raw) for raw in documents(block.data)]
            for each in found:
                if each["_id"] == 3:
                    reject(bson.encode(each), "ETRANSFORM011", "no")
            made = [{"_id": str(e["_id"]), "b": e["a"]} for e in found if e["_id"] != 3]
            yield Block(b"".join(map(bson.encode, made)), len(made))

    columns = counted(source, through=through)
    assert plain(columns) == {"_id": "string", "b": "json"}


def test_a_snapshot_is_counted_as_of_its_time(source: Client) -> None:
    fill(source, [{"a": 1}])
    asked = spec(include=("shop.*",), exclude=(), consistency="snapshot")
    cluster_time = survey(source, asked).cluster_time
    source.shop.c.insert_one({"a": "s", "b": 1})
    assert kinds(source, cluster_time=cluster_time) == {"a": "int32"}
    assert kinds(source) == {"a": "json", "b": "int32"}


# --- how the server is asked ---


def test_every_range_is_looked_through(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_id`s of all types, the greatest among them; ranges side by side."""
    monkeypatch.setattr(asking, "RANGE_DOCUMENTS", 100)
    monkeypatch.setattr(asking, "REPLY_DOCUMENT_BYTES", 1 << 20)
    ids: list[Any] = [MinKey(), *range(900), "s", WHEN, ObjectId(), MaxKey()]
    fill(source, [{"_id": each, "n": 1} for each in ids])
    odd = [MinKey(), 7, 450, 899, "s", MaxKey()]
    for number, each in enumerate(odd):
        source.shop.c.update_one({"_id": each}, {"$set": {f"f{number}": number}})
    found = kinds(source)
    assert found == {"n": "int32", **{f"f{number}": "int32" for number in range(len(odd))}}


def test_capped_collections_too(source: Client) -> None:
    source.shop.create_collection("c", capped=True, size=1 << 20)
    source.shop.c.insert_many([{"n": n} for n in range(600)] + [{"n": "s"}])
    assert kinds(source) == {"n": "json"}


def test_a_time_series_is_its_measurements(source: Client) -> None:
    """All of them: the server cannot cut them into ranges."""
    source.shop.create_collection("c", timeseries={"timeField": "at", "metaField": "of"})
    many = [{"at": WHEN, "of": {"k": n % 3}, "v": 1.5} for n in range(600)]
    source.shop.c.insert_many([*many, {"at": WHEN, "of": {"k": 4}, "v": "s", "w": 1}])
    assert kinds(source) == {"at": "timestamp", "of": {"k": "int32"}, "v": "json", "w": "int32"}


def test_a_stop_ends_it(source: Client) -> None:
    fill(source, [{"n": n} for n in range(9)])
    for looks in (0, 1):  # at the first documents, at the question
        with pytest.raises(Stopped):
            census(source, unit_of(source), spec(export=form()), Looks(looks))


def test_a_server_that_knows_nothing_of_binaries_has_them_as_text(
    source: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others than MongoDB's own may not know the operator; what is wrong with a query stays so."""
    fill(source, [{"b": b"x", "l": [b"y"], "u": UUID, "n": n} for n in range(9)])
    read = asking.read_range
    refused = list[bytes]()

    def refusing(client: Client, what: Any, *given: Any, **more: Any) -> Any:
        if b"$_internalSchemaBinDataSubType" in (what.filter or b""):
            refused.append(what.filter)
            raise OperationFailure("unknown operator", 2)
        return read(client, what, *given, **more)

    monkeypatch.setattr(asking, "read_range", refusing)
    assert kinds(source) == {"b": "json", "l": ["json"], "u": "uuid", "n": "int32"}
    assert len(refused) == 1
    monkeypatch.setattr(asking, "read_range", read)
    with pytest.raises(OperationFailure):
        kinds(source, changes=wanting({"$no": 1}))


# --- limits ---


def test_ten_thousand_fields_are_too_many(source: Client) -> None:
    fill(source, [{f"f{10 * n + each}": 1 for each in range(10)} for n in range(1000)])
    with pytest.raises(TooManyColumns, match="5000") as caught:
        counted(source)
    assert "--projection" in caught.value.remedy and "jsonl" in caught.value.remedy
    assert kinds(source, export=only({"f1": 1, "f9999": 1})) == {"f1": "int32", "f9999": "int32"}


def test_one_of_many_fields_that_are_asked_for_together(source: Client) -> None:
    fill(source, [{"_id": n, **{f"f{each}": each for each in range(2000)}} for n in range(260)])
    source.shop.c.insert_one({"_id": 1000, "f7": Int64(7)})
    found = kinds(source)
    assert (found.pop("f7"), set(found.values())) == ("int64", {"int32"})


def test_columns_inside_count_too(source: Client) -> None:
    wide = {f"m{n}": n for n in range(450)}
    fill(source, [{f"f{n}": wide} for n in range(12)])
    with pytest.raises(TooManyColumns, match="5401 columns"):
        counted(source)


def test_an_object_whose_names_are_data_is_text(source: Client) -> None:
    """However slowly its names turn up, and whatever lies beneath them."""
    fill(source, [{"by_id": {f"k{n}": 1}, "fat": {f"k{n % 200}": wide_one()}} for n in range(600)])
    assert kinds(source) == {"by_id": "json", "fat": "json"}
    source.shop.c.drop()
    fill(source, [{"m": {f"k{n}": 1}} for n in range(500)])
    assert len(kinds(source)["m"]) == 500


def wide_one() -> Plain:
    return {f"m{n}": n for n in range(20)}


def test_names_have_a_limit(source: Client) -> None:
    fill(source, [{"x": {"n" * 1025: 1}, "y": {"n" * 1024: 1}}])
    assert kinds(source) == {"x": "json", "y": {"n" * 1024: "int32"}}
    source.shop.c.insert_one({"n" * 1025: 1})
    with pytest.raises(BadName, match="1025 bytes"):
        counted(source)


def deep(levels: int, inside: Callable[[Any], Any], value: Any) -> Any:
    for _ in range(levels):
        value = inside(value)
    return value


WAYS: dict[str, Callable[[Any], Any]] = {
    "objects": lambda value: {"m": value},
    "arrays": lambda value: [value],
    "both": lambda value: [{"m": value}],
    "odd": lambda value: {"m.m": value},
    "many": lambda value: {"m": value, "n.n": "", **dict.fromkeys("abcdefgh", 1)},
}


FOUND: dict[str, Callable[[Any], Any]] = {
    "many": lambda kind: {"m": kind, "n.n": "string", **dict.fromkeys("abcdefgh", "int32")},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_deep_is_text(source: Client, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And servers take the question."""
    monkeypatch.setattr(asking, "REPLY_DOCUMENT_BYTES", 1 << 20)
    inside, found = WAYS[way], FOUND.get(way, WAYS[way])
    most = 7 if way == "both" else 15
    fill(source, [{"_id": n, "x": deep(most, inside, WHEN)} for n in range(20)])
    expected: Any = "json" if way == "odd" else "timestamp"
    assert kinds(source) == {"x": deep(most, found, expected)}
    source.shop.c.insert_one({"x": deep(most, inside, DatetimeMS(2**62))})
    assert kinds(source) == {"x": deep(most, found, "json")}
    source.shop.c.insert_one({"x": deep(60, inside, 1)})
    levels = 7 if way == "both" else 15
    assert kinds(source) == {"x": deep(levels, found, "json")}


def test_the_largest_documents(source: Client) -> None:
    fill(source, [{"_id": n, "s": "x" * 16_000_000} for n in range(3)])
    source.shop.c.insert_one({"s": 1})
    assert kinds(source) == {"s": "json"}


def test_a_name_twice_inside_is_text(source: Client) -> None:
    """No struct can hold it; Extended JSON can."""
    raw = bson.encode({"_id": 1, "x": {"a": 1, "b": 2}}).replace(b"\x10b\0", b"\x10a\0")
    source.shop.c.insert_one(bson.raw_bson.RawBSONDocument(raw))
    assert kinds(source) == {"x": "json"}


# --- any documents ---

SCALARS = st.sampled_from(
    [value for value, _ in ONE_OF_EACH.values() if not isinstance(value, list | dict)]
)
NAMES = st.sampled_from(["a", "b", "A", "c.d", "$e", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(found=DOCUMENTS, types=st.sampled_from(["exchange", "native"]))
def test_any_documents_fit_and_no_more_is_text_than_must_be(
    servers: Pair, found: list[Plain], types: Any
) -> None:
    """Against an oracle that looks at every value, in Python."""
    source = servers.source_client
    source.shop.drop_collection("c")
    fill(source, [{"_id": n, **each} for n, each in enumerate(found)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "REPLY_DOCUMENT_BYTES", 2 << 20)
        seen = kinds(source, export=form(types=types))
    assert seen == Oracle(types).members(found, ok=True)


class Oracle:
    """What columns must be, from all documents at once."""

    def __init__(self, types: str) -> None:
        self.types = types

    def members(self, objects: list[Plain], *, ok: bool) -> Plain:
        names = dict.fromkeys(name for each in objects for name in each)
        return {
            name: self.place(
                [each[name] for each in objects if name in each],
                ok=ok and name not in ("c.d", "$e", ""),
            )
            for name in names
        }

    def place(self, values: list[Any], *, ok: bool) -> Any:
        values = [each for each in values if each is not None]
        kinds = {self.kind(each, ok=ok) for each in values}
        if kinds == {"struct"}:
            return self.members(values, ok=ok) or "json"
        if kinds == {"list"}:
            inside = [each for value in values for each in value if each is not None]
            return [self.place(inside, ok=ok)] if inside else "json"
        if len(kinds) == 1:
            return kinds.pop()
        widened = {frozenset({"int32", "int64"}): "int64", frozenset({"int32", "double"}): "double"}
        return "json" if self.types == "native" else widened.get(frozenset(kinds), "json")

    def kind(self, value: Any, *, ok: bool) -> str:
        if isinstance(value, dict):
            return "struct"
        if isinstance(value, list):
            return "list"
        found = next(k for v, k in ONE_OF_EACH.values() if type(v) is type(value) and v == value)
        return cast("str", found if ok or found not in ("timestamp", "uuid", "binary") else "json")
