"""G3: what JSONL says of a document is what it holds, to the byte where it is canonical."""

import json
import math
import shutil
import struct
import subprocess
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import (
    Binary,
    Code,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.dumps.extjson import as_bson, parsed
from executors.export import jsontext
from executors.export.jsontext import LOT, Form, Misfit, canonical, canonical_element, texts_of
from executors.rawbson import wrap
from tests.conformance.corpus import needs_corpus, valid_bson

IDENTITY = ObjectId("5f0102030405060708090a0b")
EVERYTHING: dict[str, Any] = {
    "_id": IDENTITY,
    "int": 7,
    "long": Int64(7),
    "double": 7.0,
    "large": 1.5e300,
    "negative zero": -0.0,
    "infinite": -math.inf,
    "nan": math.nan,
    "text": 'ä"\\\n\0\u2028\u2029\x85💶%s %',
    "": "",
    "a.b$%s": None,
    "ends\u2028of\u2029lines\x85": 1,
    "when": datetime(2024, 2, 3, 4, 5, 6, 789000),  # noqa: DTZ001
    "before": datetime(1, 1, 1),  # noqa: DTZ001
    "decimal": Decimal128("-1.50E+10"),
    "uuid": Binary.from_uuid(UUID(int=5)),
    "old": Binary(b"abc", 2),
    "bytes": b"\xff\x00",
    "regex": Regex('a/"b', "im"),
    "code": Code("x = 1"),
    "scoped": Code("x", {"y": Int64(1), "z": {"$w": 1}}),
    "stamp": Timestamp(4294967295, 1),
    "ends": [MinKey(), MaxKey()],
    "ref": DBRef("c", IDENTITY, "d", extra=1),
    "list": [1, [], [[2.5, "x"]], {}, {"a": []}, None, True, False],
    "$operator": {"$gt": 5, "$regex": "x"},
}


def element(kind: int, value: bytes, name: bytes = b"v") -> bytes:
    return wrap(b"%c%b\0%b" % (kind, name, value))


def back(text: str | Misfit) -> bytes:
    assert isinstance(text, str)
    return as_bson(parsed(text.encode()))


SYMBOL = element(0x0E, b"\x03\0\0\0ab\0")


def scoped(scope: bytes) -> bytes:
    return element(0x0F, struct.pack("<i", 10 + len(scope)) + b"\2\0\0\0x\0" + scope)


ODD = {
    "symbol": SYMBOL,
    "undefined": element(0x06, b""),
    "pointer": element(0x0C, b"\x02\0\0\0c\0" + IDENTITY.binary),
    "name twice": wrap(b"\x10v\0\1\0\0\0\x10v\0\2\0\0\0"),
    "year 292278994": element(0x09, b"\xff" * 7 + b"\x7f"),
    "year before 1": element(0x09, b"\0" * 7 + b"\x80"),
    "code with a symbol in its scope": scoped(SYMBOL),
}
UNSAYABLE = {
    "looks like an ObjectId": bson.encode({"v": {"$oid": str(IDENTITY)}}),
    "looks like a date": bson.encode({"v": [{"$date": "yesterday"}]}),
    "two names that look like a number": element(
        0x03, wrap(b"\x02$numberInt\0\x02\0\0\0" + b"1\0\x02$numberInt\0\x02\0\0\0" + b"1\0")
    ),
    "old binary that lies": element(0x05, b"\x08\0\0\0\x02\x09\0\0\0abcd"),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_type_comes_back_byte_for_byte(name: str) -> None:
    """G3."""
    raw = bson.encode({name: EVERYTHING[name]})
    [text] = texts_of([raw], "canonical")
    assert back(text) == raw
    assert "\n" not in str(text)
    assert str(text).splitlines() == [text]


def test_all_at_once_and_each_in_its_place() -> None:
    raws = [bson.encode(EVERYTHING | {"n": n, f"f{n % 3}": n}) for n in range(LOT + 5)]
    texts = texts_of(raws, "canonical")
    assert [back(text) for text in texts] == raws


@pytest.mark.parametrize("name", ODD)
def test_what_no_decoder_tells_apart_is_said_by_its_bytes(name: str) -> None:
    plain = bson.encode({"v": 1})
    texts = texts_of([plain, ODD[name], plain], "canonical")
    assert [back(text) for text in texts] == [plain, ODD[name], plain]


@pytest.mark.parametrize("name", UNSAYABLE)
def test_what_would_be_read_as_something_else_is_a_misfit(name: str) -> None:
    plain = bson.encode({"v": 1})
    [_, misfit, _] = texts_of([plain, UNSAYABLE[name], plain], "canonical")
    assert isinstance(misfit, Misfit)
    assert (misfit.index, misfit.code) == (1, "EJSON011")
    [text] = texts_of([UNSAYABLE[name]], "relaxed")
    assert isinstance(text, str)


@pytest.mark.parametrize("form", ["canonical", "relaxed"])
def test_text_that_is_no_utf8_is_a_misfit_among_whole_ones(form: Form) -> None:
    raws = [bson.encode({"n": n}) for n in range(LOT + 100)]
    for at in (0, 40, LOT + 1):
        raws[at] = element(0x02, b"\x02\0\0\0\xff\0")
    found = texts_of(raws, form)
    misfits = [each for each in found if isinstance(each, Misfit)]
    assert [(each.index, each.code) for each in misfits] == [
        (0, "EJSON010"),
        (40, "EJSON010"),
        (LOT + 1, "EJSON010"),
    ]
    assert found[LOT + 2] == texts_of([raws[LOT + 2]], form)[0]


def test_bytes_that_are_no_document_are_a_misfit() -> None:
    [misfit] = texts_of([element(0x02, b"\x09\0\0\0a\0")], "canonical")
    assert isinstance(misfit, Misfit)
    assert misfit.code.startswith("EBSON")


USUAL = {
    "a NaN with other bits": (
        element(0x01, b"\x01\0\0\0\0\0\xf8\xff"),
        bson.encode({"v": math.nan}),
    ),
    "options out of order": (element(0x0B, b"a\0mi\0"), element(0x0B, b"a\0im\0")),
    "an array with other names": (
        element(0x04, wrap(b"\x0a7\0\x10\0\1\0\0\0")),
        element(0x04, wrap(b"\x0a0\0\x101\0\1\0\0\0")),
    ),
    "a decimal that is too long": (
        element(0x13, b"\xff" * 14 + b"\x41\x30"),
        element(0x13, Decimal128(str(Decimal128.from_bid(b"\xff" * 14 + b"\x41\x30"))).bid),
    ),
}


@pytest.mark.parametrize("name", USUAL)
def test_of_several_encodings_the_usual_one_comes_back(name: str) -> None:
    """As every reader of Extended JSON has it: a NaN is a NaN, whatever its bits."""
    raw, usual = USUAL[name]
    assert [back(text) for text in texts_of([raw], "canonical")] == [usual]
    both = [wrap(scoped(each)[4:-1] + SYMBOL[4:-1]) for each in (raw, usual)]
    assert [back(text) for text in texts_of(both[:1], "canonical")] == both[1:]


def test_relaxed_is_what_people_read() -> None:
    [text] = texts_of([bson.encode(EVERYTHING)], "relaxed")
    told = json.loads(str(text))
    assert (told["int"], told["long"], told["double"]) == (7, 7, 7.0)
    assert told["when"] == {"$date": "2024-02-03T04:05:06.789Z"}
    assert told["before"] == {"$date": {"$numberLong": "-62135596800000"}}
    assert told["infinite"] == {"$numberDouble": "-Infinity"}
    assert json_util.loads(str(text))["text"] == EVERYTHING["text"]


def test_relaxed_says_the_same_of_what_it_walks() -> None:
    values = {k: v for k, v in EVERYTHING.items() if k not in ("ref", "$operator")}
    raw = bson.encode(values)
    [plain] = texts_of([raw], "relaxed")
    [walked] = texts_of([wrap(raw[4:-1] + SYMBOL[4:-1])], "relaxed")
    assert json.loads(str(walked)) == json.loads(str(plain)) | {"v": {"$symbol": "ab"}}


def test_any_number_of_shapes_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document with names of its own: those that were said are not held for ever."""
    monkeypatch.setattr(jsontext, "REMEMBERED", 3)
    monkeypatch.setattr(jsontext, "SHORT", 100)
    values = jsontext._Values(jsontext._CANONICAL, {}, frozenset())
    many = [{f"f{n}": n, "x" * (n % 2 * 100): True} for n in range(20)]
    texts = values.of(many)
    assert [parsed(text.encode())[0] for text in texts] == [
        (f"f{n}", (("$numberInt", str(n)),)) for n in range(20)
    ]
    assert len(values._templates) <= 3
    assert all(len(each) <= 100 for each in values._templates.values())


def test_the_deepest_document_of_servers_is_said() -> None:
    """In a thread, whose stack is its own."""
    value: Any = 1
    for depth in range(179):
        value = {"a": value} if depth % 2 else [value]
    raw = bson.encode({"a": value})
    found: list[str | Misfit] = []
    thread = Thread(target=lambda: found.extend(texts_of([raw], "canonical")))
    thread.start()
    thread.join()
    assert back(found[0]) == raw


def test_values_for_columns_of_other_formats() -> None:
    """Each stands for itself; an object that looks like Extended JSON stays."""
    values = list(EVERYTHING.values())
    told = canonical(bson.decode(bson.encode({"v": values}))["v"])
    assert as_bson(parsed(f'{{"v":[{",".join(told)}]}}'.encode())) == bson.encode({"v": values})
    assert canonical([{"$oid": 5}, 1]) == ['{"$oid":{"$numberInt":"5"}}', '{"$numberInt":"1"}']
    assert canonical_element(0x0E, b"\x03\0\0\0ab\0") == '{"$symbol":"ab"}'


@needs_corpus
def test_the_corpus_comes_back() -> None:
    """G3: every document of the BSON corpus, alone and all together."""
    raws = [case.bson for case in valid_bson()]
    together = texts_of(raws, "canonical")
    for raw, text in zip(raws, together, strict=True):
        assert texts_of([raw], "canonical") == [text]
        if back(text) != raw:
            assert raw[4] in (0x01, 0x04, 0x13), "what has several encodings"
            assert texts_of([back(text)], "canonical") == [text]


@needs_corpus
@pytest.mark.skipif(shutil.which("bsondump") is None, reason="no bsondump")
def test_bsondump_says_the_same(tmp_path: Path) -> None:
    """Told by another's reader of both: numbers may be printed with other digits."""
    raws = [case.bson for case in valid_bson()]
    texts = texts_of(raws, "canonical")
    file = tmp_path / "all.bson"
    file.write_bytes(b"".join(raws))
    theirs = subprocess.run(["bsondump", file], capture_output=True, check=True).stdout
    for text, line in zip(texts, theirs.decode().splitlines(), strict=True):
        if isinstance(text, str):
            assert back(text) == as_bson(parsed(line.encode())) or "numberDouble" in text, line


names = st.text(st.characters(exclude_characters="\0$", exclude_categories=["Cs"]), max_size=6)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1).map(Int64),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=5),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes().map(lambda when: when.replace(microsecond=when.microsecond // 1000 * 1000)),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(names, values, max_size=5), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_documents_come_back(documents: list[dict[str, Any]]) -> None:
    raws = [bson.encode(each) for each in documents]
    assert [back(text) for text in texts_of(raws, "canonical")] == raws
    for text, raw in zip(texts_of(raws, "canonical"), raws, strict=True):
        options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=False)
        assert bson.encode(json_util.loads(str(text), json_options=options)) == raw
