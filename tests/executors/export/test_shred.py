"""Documents to columns: every value comes out, or its document is named."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.export import rows
from executors.export.atoms import CONVERTED
from executors.export.columns import Column, to_text
from executors.export.errors import Miscounted
from executors.export.model import Converted, Recipe
from executors.export.parquet import ParquetFiles
from executors.export.shred import Shredder
from tests.executors.export.documents import (
    NoFit,
    V,
    columns_of,
    expected,
    fields_of,
    raw,
    same,
    shapes,
)

CASES = shapes(4).flatmap(
    lambda shape: st.tuples(
        st.just(columns_of(shape)), st.lists(fields_of(columns_of(shape)), max_size=6)
    )
)


def written(path: Path, converted: Converted, columns: tuple[Column, ...], types: Any) -> list[Any]:
    """The rows that a reader finds."""
    file = ParquetFiles(Recipe("parquet", types=types, columns=to_text(columns)), "a.b", 1 << 30)(
        path
    )
    for piece in converted.pieces:
        file.add(piece)
    file.close()
    return list(pq.read_table(path, page_checksum_verification=True).to_pylist())


def check(path: Path, columns: tuple[Column, ...], documents: Any, types: Any) -> None:
    rows, misfits = [], []
    for place, fields in enumerate(documents):
        try:
            rows.append(expected(fields, columns, types))
        except NoFit:
            misfits.append(place)
    converted = Shredder(columns, types).shred(b"".join(map(raw, documents)))
    assert [place for place, _, _ in converted.misfits] == misfits
    found = written(path, converted, columns, types)
    assert len(found) == len(rows)
    for there, wanted in zip(found, rows, strict=True):
        for column in columns:
            assert same(there[column.name], wanted[column.name], column), (column, there, wanted)


@settings(max_examples=40, deadline=None)
@given(CASES, st.sampled_from(["exchange", "native"]))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, case: Any, types: Any
) -> None:
    """G3: values of all types in columns of all kinds, and no other value, nor null, ever."""
    check(tmp_path_factory.getbasetemp() / "shred.parquet", *case, types)


@pytest.mark.deep
@settings(max_examples=1500, deadline=None)
@given(CASES, st.sampled_from(["exchange", "native"]))
def test_what_is_read_is_what_was_written_at_length(
    tmp_path_factory: pytest.TempPathFactory, case: Any, types: Any
) -> None:
    """G3."""
    check(tmp_path_factory.getbasetemp() / "shred.parquet", *case, types)


def shredded(columns: tuple[Column, ...], *documents: bytes, types: Any = "exchange") -> Converted:
    return Shredder(columns, types).shred(b"".join(documents))


def one(kind: Any, field: str = "a") -> tuple[Column, ...]:
    return (Column(field, field, kind),)


ZERO = V("decimal", (6176 << 49 + 64).to_bytes(16, "little"))
ODD = {
    "symbol": V("symbol", "x"),
    "undefined": V("undefined"),
    "dbPointer": V("dbPointer", ("x", bytes(12))),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_a_driver_decodes_as_something_else_is_not_that(odd: V, tmp_path: Path) -> None:
    """G3: a symbol is no string; text of every type says which it was."""
    plain = raw([("a", V("string", "y"))])
    found = shredded(one("string"), plain, raw([("a", odd)]))
    assert found.misfits == ((1, "EEXPORT032", f"the column a, string, cannot hold {odd.type}"),)
    check(tmp_path / "f", one("json"), [[("a", odd)], [("a", V("string", "y"))]], "native")


def test_a_name_twice_is_no_name_once(tmp_path: Path) -> None:
    """G3: neither value is lost: the document is named, or its text has both."""
    inner = [("b", V("int", 1)), ("b", V("int", 2))]
    twice = [("a", V("object", inner))]
    columns = (Column("a", "a", "struct", members=(Column("b", "b", "int32"),)),)
    ((place, code, why),) = shredded(columns, raw(twice)).misfits
    assert (place, code, why) == (0, "EEXPORT032", "it has 'b' twice in a")
    check(tmp_path / "f", one("json"), [twice], "exchange")


def test_text_that_is_not_utf8_is_one_documents_misfit() -> None:
    """G3: those beside it in the block are not."""
    good = raw([("a", V("string", "xy"))])
    found = shredded(one("string"), good, good.replace(b"xy", b"\xff\xfe"), good)
    assert [(place, code) for place, code, _ in found.misfits] == [(1, "EEXPORT030")]
    assert found.pieces[0].documents == 2


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("double", V("long", 2**53 + 1), "a whole number beyond 2^53"),
        ("timestamp", V("date", 2**60), "a date beyond the years 1 to 9999"),
        ("uuid", V("binData", (3, bytes(16))), "no 16 bytes of subtype 4"),
        ("uuid", V("binData", (4, bytes(15))), "no 16 bytes of subtype 4"),
        ("int32", V("long", 1), "long"),
        ("binary", V("binData", (5, b"")), "binData"),
        ("object_id", V("javascriptWithScope", ("x", [])), "code"),
    ],
)
def test_a_value_that_does_not_fit_is_told(kind: Any, value: V, why: str) -> None:
    """G3: by its column and type, never by itself."""
    ((_, code, told),) = shredded(one(kind), raw([("a", value)])).misfits
    assert code == "EEXPORT032"
    assert told == f"the column a, {kind}, cannot hold {why}"


def test_a_field_that_no_column_has() -> None:
    """G3: it came after the census; with a null in it too."""
    inside = (Column("s", "s", "struct", members=one("int32")),)
    document = raw([("s", V("object", [("new", V("null"))]))])
    assert shredded(inside, document).misfits == (
        (0, "EEXPORT031", "no column was planned for the field 'new' in s"),
    )


def test_native_keeps_numbers_apart() -> None:
    """G3."""
    whole = raw([("a", V("int", 1))])
    for kind in ("int64", "double"):
        assert not shredded(one(kind), whole).misfits
        assert len(shredded(one(kind), whole, types="native").misfits) == 1


def test_many_misfits_are_found_each() -> None:
    """G4: and all that fit are kept."""
    documents = [raw([("a", V("int" if n % 7 else "long", n))]) for n in range(1000)]
    found = shredded(one("int32"), *documents)
    assert [place for place, _, _ in found.misfits] == list(range(0, 1000, 7))
    assert found.pieces[0].documents == 1000 - len(found.misfits)


def test_ten_types_in_one_field(tmp_path: Path) -> None:
    """G3: text for each, and the file says how many of which."""
    values = [V("int", 1), V("long", 2), V("double", 0.5), V("string", "x"), V("bool", True)]
    values += [V("objectId", bytes(12)), V("date", 0), ZERO, V("minKey")]
    values += [V("array", [V("null")]), V("object", []), V("regex", ("x", "mi")), V("null")]
    documents = [[("a", each)] for each in values]
    check(tmp_path / "f", one("json"), documents, "exchange")
    (piece,) = shredded(one("json"), *map(raw, documents)).pieces
    assert piece.counts.present == {"a": 12}
    assert piece.counts.census["a"] == {each.type: 1 for each in values if each.type != "null"}


def test_documents_without_their_id_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: as a time series has them; they need no look at each."""
    monkeypatch.delattr(rows, "_one_by_one")
    columns = (Column("t", "t", "timestamp"), Column("_id", "_id", "int32"))
    document = raw([("t", V("date", 0)), ("_id", V("int", 1))])
    assert shredded(columns, document, document).pieces[0].documents == 2


def test_one_of_16_mb(tmp_path: Path) -> None:
    """G1: the largest document there is."""
    wide = [("a", V("string", "x" * 8_000_000)), ("b", V("binData", (0, bytes(8_000_000))))]
    check(tmp_path / "f", (*one("json"), *one("binary", "b")), [wide], "exchange")


def test_a_value_that_would_be_lost_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: if ever a null stands for a value, it is a fault of ours and no file."""
    monkeypatch.setitem(CONVERTED["exchange"], "string", lambda values: [None for _ in values])
    with pytest.raises(Miscounted, match="1 values in 'a', 1 nulls made"):
        shredded(one("string"), raw([("a", V("string", "x"))]))


def test_values_that_are_taken_more_or_less_than_once_stop_everything() -> None:
    """G3: they are counted by themselves, whatever the columns are."""
    with pytest.raises(Miscounted, match="1 values in '', 2 taken"):
        shredded((*one("string"), Column("a", "b", "string")), raw([("a", V("string", "x"))]))
