"""What becomes of each type of BSON in an export, and whether it comes back (G3).

Documents of others, and one of each type that they lack, go through a server and the whole program
into every form, and are read back. What was found stands in `docs/exported-types.md`, which this
writes anew with `WRITE_GOLDEN=1`.
"""

import json
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import bson
import pytest
import zstandard
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from executors.dumps.extjson import as_bson, as_json, parsed
from executors.rawbson import elements
from tests.conformance import plain
from tests.conformance.corpus import needs_corpus, valid_bson
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal
from tests.executors.bsons import binary, document, i32, scoped, text

pytestmark = [needs_corpus, pytest.mark.server, pytest.mark.deep]

TABLE: Final = Path(__file__).parents[2] / "docs" / "exported-types.md"
FORMS: Final = {
    "JSONL, canonical": ("--format", "jsonl"),
    "JSONL, relaxed": ("--format", "jsonl", "--json-form", "relaxed"),
    "Parquet, exchange": ("--format", "parquet"),
    "Parquet, native": ("--format", "parquet", "--types", "native"),
}
OWN: Final[dict[str, tuple[int, bytes]]] = {
    "null": (0x0A, b""),
    "bool": (0x08, b"\1"),
    "int": (0x10, i32(-7)),
    "double": (0x01, struct.pack("<d", 1e300)),
    "NaN with a payload": (0x01, b"\1\0\0\0\0\0\xf8\x7f"),
    "date": (0x09, struct.pack("<q", 1 << 61)),
    "regex": (0x0B, b"^a.*/\0im\0"),
    "code": (0x0D, text(b"f()")),
    "scoped": (0x0F, scoped(document(b"\x10x\0" + i32(1)))),
    "symbol": (0x0E, text(b"s")),
    "undefined": (0x06, b""),
    "pointer": (0x0C, text(b"c") + bytes(12)),
    "min": (0xFF, b""),
    "max": (0x7F, b""),
    "short UUID": (0x05, binary(4, bytes(15))),
    "no UTF-8": (0x02, text(b"\xff\xfe")),
    "a name twice": (0x03, document(b"\x10a\0" + i32(1), b"\x10a\0" + i32(2))),
    "a null inside": (0x03, document(b"\x0aa\0", b"\x10b\0" + i32(1))),
    "an object of one shape": (0x03, document(b"\x10a\0" + i32(1), b"\x02b\0" + text(b"s"))),
    "an array of two types": (0x04, document(b"\x100\0" + i32(1), b"\x021\0" + text(b"s"))),
    "an object like Extended JSON": (0x03, document(b"\x02$oid\0" + text(b"56"))),
}
NAMES: Final = {
    0x01: "double", 0x02: "string", 0x03: "object", 0x04: "array", 0x05: "binData",
    0x06: "undefined", 0x07: "objectId", 0x08: "bool", 0x09: "date", 0x0A: "null", 0x0B: "regex",
    0x0C: "dbPointer", 0x0D: "javascript", 0x0E: "symbol", 0x0F: "javascriptWithScope",
    0x10: "int", 0x11: "timestamp", 0x12: "long", 0x13: "decimal", 0x7F: "maxKey", 0xFF: "minKey",
}  # fmt: skip
EXACT, SAME, MISSING, REJECTED = "exact", "same value", "null is missing", "rejected"
OTHER: Final = "read as something else, or not at all"
YEARS: Final = range(-62_135_596_800_000, 253_402_300_800_000)
"""1 to 9999, in milliseconds."""


@dataclass
class Row:
    """One type: its documents as the server has them, by `_id`, and what became of each."""

    documents: dict[int, bytes] = field(default_factory=dict)
    found: dict[str, Counter[str]] = field(default_factory=dict)
    """By form."""


@pytest.fixture
def rows(pair: Pair) -> dict[str, Row]:
    """By what they hold; each a collection, called by its place."""
    rows: dict[str, Row] = {}
    cases = [each.bson for each in valid_bson()]
    cases += [document(bytes([kind]) + b"v\0" + value) for kind, value in OWN.values()]
    for number, raw in enumerate(cases):
        rows.setdefault(held(raw), Row()).documents[number] = identified(number, raw)
    for name, row in rows.items():
        for raw in row.documents.values():
            assert plain.insert(pair.source_client.corpus, collection(rows, name), raw), name
    return rows


def collection(rows: dict[str, Row], name: str) -> str:
    return f"c{[*rows].index(name):03}"


def identified(number: int, raw: bytes) -> bytes:
    whole = b"\x10_id\0" + i32(number) + raw[4:-1]
    return i32(len(whole) + 5) + whole + b"\0"


def held(raw: bytes) -> str:
    """What a document is a case of: the type of its one value, and what matters of it."""
    found = [*elements(raw)]
    if len(found) != 1:
        return "several fields"
    kind, _, begin, end = found[0]
    value = raw[begin:end]
    return NAMES[kind] + _more(kind, value)


def _more(kind: int, value: bytes) -> str:
    match kind:
        case 0x01 if (number := struct.unpack("<d", value)[0]) != number:
            return ": NaN" if value[:6] == bytes(6) else ": NaN with a payload"
        case 0x05:
            odd = value[4] == 4 and len(value) != 21
            return f" {value[4]:02x}" + (", not of 16 bytes" if odd else "")
        case 0x09 if struct.unpack("<q", value)[0] not in YEARS:
            return " beyond the years 1 to 9999"
        case 0x02 if not _is_text(value[4:-1]):
            return " that is not UTF-8"
        case 0x03 | 0x04:
            return _inside(kind, [*elements(value)])
    return ""


def _is_text(value: bytes) -> bool:
    try:
        return bool(value.decode()) or not value
    except UnicodeDecodeError:
        return False


def _inside(kind: int, found: list[tuple[int, bytes, int, int]]) -> str:
    types, names = {each[0] for each in found}, [each[1] for each in found]
    if not found:
        return ", empty"
    if kind == 0x04:
        return "" if len(types) == 1 else " of several types"
    if len(set(names)) < len(names):
        return " with a name twice"
    if 0x0A in types:
        return " with a null"
    return " with $ in a name" if any(name.startswith(b"$") for name in names) else ""


LENIENT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)


# --- reading back -----------------------------------------------------------------------------


def lines(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Documents as `restore` reads them, each with how it is called in the table."""
    for path in folder.glob("*.jsonl.zst"):
        with path.open("rb") as file:
            unpacked = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            for line in unpacked.read().splitlines():
                try:
                    yield as_bson(parsed(line)), ""
                except ValueError:  # relaxed, of what looks like Extended JSON and is none
                    yield identified(json.loads(line)["_id"], document()), ""


def rows_in(folder: Path, *, types: str) -> Iterator[tuple[bytes, str]]:
    """Documents as the columns tell them."""
    from pyarrow.parquet import ParquetFile

    for path in folder.glob("*.parquet"):
        with ParquetFile(path, page_checksum_verification=True) as file:
            columns = json.loads(file.schema_arrow.metadata[b"ferrylog.columns"])
            types_of = {each.name: each.type for each in file.schema_arrow}
            for row in file.read().to_pylist():
                raw = b"".join(_fields(columns, row, types))
                there = [each for each in columns if row[each["name"]] is not None][1:]
                yield (
                    i32(len(raw) + 5) + raw + b"\0",
                    ", ".join(
                        dict.fromkeys(_column(each, types_of[each["name"]]) for each in there)
                    ),
                )


def _column(column: dict[str, Any], of_arrow: Any) -> str:
    if column["kind"] == "list":
        return f"list of {_column(column['element'], of_arrow.value_type)}"
    return {"json": "Extended JSON", "struct": "struct"}.get(column["kind"], str(of_arrow))


def _fields(columns: list[dict[str, Any]], row: dict[str, Any], types: str) -> list[bytes]:
    return [
        _element(each, row[each["name"]], each["field"], types)
        for each in columns
        if row[each["name"]] is not None
    ]


def _element(column: dict[str, Any], value: Any, name: str, types: str) -> bytes:
    """Of BSON."""
    kind = column["kind"]
    if kind == "struct":
        raw = b"".join(_fields(column["members"], value, types))
        return b"\x03" + name.encode() + b"\0" + i32(len(raw) + 5) + raw + b"\0"
    if kind == "list":
        inside = [
            _element(column["element"], each, str(at), types)
            if each is not None
            else b"\x0a%d\0" % at
            for at, each in enumerate(value)
        ]
        raw = b"".join(inside)
        return b"\x04" + name.encode() + b"\0" + i32(len(raw) + 5) + raw + b"\0"
    if kind == "json":
        raw = as_bson(parsed(f'{{"v":{value}}}'.encode()))
    else:
        raw = bson.encode({"v": ATOMS[types].get(kind, lambda each: each)(value)})
    return raw[4:5] + name.encode() + b"\0" + raw[7:-1]


EXCHANGE: Final = {
    "int64": Int64,
    "object_id": ObjectId,
    "decimal": Decimal128,
    "uuid": lambda value: Binary(UUID(value).bytes, 4),
}
NATIVE: Final = {
    "int64": Int64,
    "object_id": ObjectId,
    "decimal": Decimal128.from_bid,
    "uuid": lambda value: Binary(value, 4),
}
ATOMS: Final[dict[str, Any]] = {"exchange": EXCHANGE, "native": NATIVE}


def verdict(stored: bytes, back: bytes) -> str:
    if back == stored:
        return EXACT
    if as_json(stored) == as_json(back):
        return SAME
    if _plain(stored) == _plain(back):
        return "another type, " + SAME
    if as_json(_without_nulls(stored)) == as_json(back):
        return MISSING
    return OTHER


def _plain(raw: bytes) -> str:
    """As a person would write it down."""
    found = bson.decode(raw, LENIENT)
    return json_util.dumps(found, json_options=json_util.RELAXED_JSON_OPTIONS)


def _without_nulls(raw: bytes) -> bytes:
    """Of the outermost two levels: deeper ones have none here."""
    return bson.encode(
        {
            name: {k: v for k, v in value.items() if v is not None}
            if isinstance(value, dict)
            else value
            for name, value in bson.decode(raw).items()
            if value is not None
        }
    )


# --- the table --------------------------------------------------------------------------------


def test_every_document_of_others_comes_back(
    rows: dict[str, Row], pair: Pair, tmp_path: Path
) -> None:
    """G3: exactly, or by a stated mapping, or it is rejected by name; nothing becomes null."""
    for number, (form, words) in enumerate(FORMS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        terminal = Terminal(folder, pair)
        del terminal.environment["FERRYLOG_TARGET"]
        done = terminal("export", *words, "--out", str(folder / "out"))
        assert done.returncode == 3, done.stderr
        read: Any = lines
        if "parquet" in words:
            read = partial(rows_in, types=form.rpartition(" ")[2])
        for name, row in rows.items():
            row.found[form] = outcomes(
                row, [*read(folder / "out" / f"corpus.{collection(rows, name)}")]
            )
        letters = terminal.json("dead-letters", "list")["letters"]
        assert len(letters) == sum(row.found[form][REJECTED] for row in rows.values()), form
        if form != "JSONL, relaxed":
            assert not [name for name, row in rows.items() if OTHER in str(row.found[form])], form
    said = told(rows)
    if os.environ.get("WRITE_GOLDEN"):
        TABLE.write_text(said)
    assert TABLE.read_text() == said


def outcomes(row: Row, back: list[tuple[bytes, str]]) -> Counter[str]:
    left = dict(row.documents)
    found: Counter[str] = Counter()
    for raw, column in back:
        number = next(
            struct.unpack("<i", raw[b:e])[0] for _, n, b, e in elements(raw) if n == b"_id"
        )
        judged = verdict(left.pop(number), raw)
        found[": ".join(filter(None, (column, judged)))] += 1
    found.update({REJECTED: len(left)} if left else {})
    return found


def told(rows: dict[str, Row]) -> str:
    page = StringIO()
    page.write(HEAD)
    page.write(f"| BSON | documents | {' | '.join(FORMS)} |\n|{' --- |' * (2 + len(FORMS))}\n")
    for name in sorted(rows):
        row = rows[name]
        cells = [_cell(row.found[form]) for form in FORMS]
        page.write(f"| {name} | {len(row.documents)} | {' | '.join(cells)} |\n")
    return page.getvalue()


def _cell(found: Counter[str]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{count} × {what}" for what, count in sorted(found.items()))


HEAD: Final = """# What becomes of each type of BSON in an export

Generated by `tests/conformance/test_exports.py` from the documents of the BSON corpus of MongoDB's
specifications and one of each type that it lacks: each went through a server and the program, and
was read back. Each row is a collection; what decides a column of Parquet is explained in
[parquet.md](parquet.md).

* *exact*: what was read back is the document of the source, byte for byte. From Parquet with what
  the file says of its columns: of which field each is, and of which kind.
* *same value*: the same canonical Extended JSON; the bytes are the usual ones where BSON has
  several for one value (a NaN's payload, a decimal's unusual form, options of an expression, names
  of an array's items).
* *another type, same value*: the number or the text is the same, its type in BSON is not told.
* *null is missing*: Parquet has one null for both.
* *rejected*: kept whole in the file of rejected documents, named in the journal, exit 3.
* *Extended JSON*: a column of strings, each value as canonical Extended JSON.

"""
