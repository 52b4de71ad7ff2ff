"""Keys and options as text and back, exact to the byte, whatever a server may hold (I6)."""

import base64
import json
import math
import struct
from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.boundaries import from_key, from_text, to_key, to_text
from executors.rawbson import equals_query, id_of, in_query
from statemachine.words import Key

exactly = settings(max_examples=400, deadline=None, derandomize=True, database=None)

Element = tuple[int, bytes]
"""The type and the bytes of a value."""


def raw(*elements: tuple[int, bytes, bytes]) -> bytes:
    """A document put together by hand: type, name, value."""
    body = b"".join(b"%c%b\0%b" % element for element in elements)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def one(element: Element, name: bytes = b"_id") -> bytes:
    return raw((element[0], name, element[1]))


def text(content: bytes) -> bytes:
    """A BSON string, whether or not it is UTF-8."""
    return struct.pack("<i", len(content) + 1) + content + b"\0"


def assert_exact(document: bytes) -> None:
    """There and back by both ways, and through a UTF-8 JSON file on the way."""
    key, whole = to_key(document), to_text(document)
    for written in (key, whole):
        assert json.loads(json.dumps(written).encode()) == written
        written.encode()
    assert bytes(from_key(key).raw) == document
    assert from_text(whole) == document


# --- every type by name ---------------------------------------------------------------------------

READABLE: dict[str, tuple[Any, str]] = {
    "objectid": (ObjectId(b"\0" * 11 + b"\1"), '{"$oid":"000000000000000000000001"}'),
    "int32": (7, '{"$numberInt":"7"}'),
    "int64": (Int64(7), '{"$numberLong":"7"}'),
    "double": (7.0, '{"$numberDouble":"7.0"}'),
    "small double": (5e-324, '{"$numberDouble":"5e-324"}'),
    "negative zero": (-0.0, '{"$numberDouble":"-0.0"}'),
    "nan": (math.nan, '{"$numberDouble":"NaN"}'),
    "infinity": (-math.inf, '{"$numberDouble":"-Infinity"}'),
    "decimal": (Decimal128("1.30"), '{"$numberDecimal":"1.30"}'),
    "decimal nan": (Decimal128("NaN"), '{"$numberDecimal":"NaN"}'),
    "decimal zero": (Decimal128("-0E+3"), '{"$numberDecimal":"-0E+3"}'),
    "string": ("key", '"key"'),
    "empty": ("", '""'),
    "unicode": ("ä😀", '"ä😀"'),
    "nul": ("a\0b", '"a\\u0000b"'),
    "quote": ('"\\', '"\\"\\\\"'),
    "like base64 of ours": ("bson:AAAA", '"bson:AAAA"'),
    "date": (DatetimeMS(0), '{"$date":{"$numberLong":"0"}}'),
    "date before 1970": (DatetimeMS(-1), '{"$date":{"$numberLong":"-1"}}'),
    "date beyond year 9999": (
        DatetimeMS(2**63 - 1),
        '{"$date":{"$numberLong":"9223372036854775807"}}',
    ),
    "binary": (Binary(b"\0\1", 0), '{"$binary":{"base64":"AAE=","subType":"00"}}'),
    "uuid": (
        Binary(b"\1" * 16, 4),
        '{"$binary":{"base64":"AQEBAQEBAQEBAQEBAQEBAQ==","subType":"04"}}',
    ),
    "own binary": (Binary(b"", 255), '{"$binary":{"base64":"","subType":"ff"}}'),
    "true": (True, "true"),
    "null": (None, "null"),
    "timestamp": (Timestamp(5, 1), '{"$timestamp":{"t":5,"i":1}}'),
    "min key": (MinKey(), '{"$minKey":1}'),
    "max key": (MaxKey(), '{"$maxKey":1}'),
    "embedded": ({"b": 1, "a": {}}, '{"b":{"$numberInt":"1"},"a":{}}'),
    "array": ([1, "x"], '[{"$numberInt":"1"},"x"]'),
    "code": (Code("f()"), '{"$code":"f()"}'),
}


@pytest.mark.parametrize("name", READABLE)
def test_people_can_read_it(name: str) -> None:
    """Canonical Extended JSON with its type, as operators meet it in events."""
    value, shown = READABLE[name]
    document = bson.encode({"_id": value})
    assert to_key(document) == shown
    assert to_text(document) == f'{{"_id":{shown}}}'
    assert_exact(document)


EXACT: dict[str, Element] = {
    "nan with a payload": (0x01, b"\1\0\0\0\0\0\xf8\x7f"),
    "signalling nan": (0x01, b"\1\0\0\0\0\0\xf0\x7f"),
    "negative nan": (0x01, b"\0\0\0\0\0\0\xf8\xff"),
    "decimal nan with a payload": (0x13, b"\1" + b"\0" * 14 + b"\x7c"),
    "signalling decimal": (0x13, b"\0" * 15 + b"\x7e"),
    "decimal of another form": (0x13, b"\xff" * 14 + b"\x6f\x6c"),
    "string that is no utf-8": (0x02, text(b"\xff\xfe")),
    "surrogate in a string": (0x02, text(b"\xed\xa0\x80")),
    "overlong nul": (0x02, text(b"\xc0\x80")),
    "code that is no utf-8": (0x0D, text(b"\xff")),
    "symbol": (0x0E, text(b"sym")),
    "symbol that is no utf-8": (0x0E, text(b"\xff")),
    "undefined": (0x06, b""),
    "pointer": (0x0C, text(b"a.b") + b"123456789012"),
    "regular expression": (0x0B, b"^a\0imx\0"),
    "regular expression with odd options": (0x0B, b"(\0zyx\0"),
    "regular expression that is no utf-8": (0x0B, b"\xff\0\0"),
    "scoped code": (0x0F, struct.pack("<i", 17) + text(b"f()") + raw()),
    "odd boolean": (0x08, b"\x07"),
    "old binary": (0x05, struct.pack("<iB", 6, 2) + struct.pack("<i", 2) + b"ab"),
    "old binary that lies": (0x05, struct.pack("<iB", 6, 2) + struct.pack("<i", 9) + b"ab"),
    "short uuid": (0x05, struct.pack("<iB", 1, 4) + b"a"),
    "old uuid": (0x05, struct.pack("<iB", 16, 3) + b"a" * 16),
    "vector": (0x05, struct.pack("<iB", 4, 9) + b"\x03\0ab"),
    "broken vector": (0x05, struct.pack("<iB", 1, 9) + b"\xff"),
    "sensitive": (0x05, struct.pack("<iB", 2, 8) + b"ab"),
    "last timestamp": (0x11, b"\xff" * 8),
    "first date": (0x09, b"\0" * 7 + b"\x80"),
    "name twice": (0x03, raw((0x10, b"a", b"\1\0\0\0"), (0x10, b"a", b"\2\0\0\0"))),
    "name that is no utf-8": (0x03, raw((0x10, b"\xff", b"\1\0\0\0"))),
    "empty name": (0x03, raw((0x0A, b"", b""))),
    "array with other names": (0x04, raw((0x0A, b"7", b""), (0x0A, b"x", b""))),
    "reference": (0x03, bson.encode({"a": DBRef("c", 1, "d", more=2)})),
    "reference in another order": (0x03, bson.encode({"$id": 1, "$ref": "c"})),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_extended_json_cannot_say(name: str) -> None:
    """Odd values, alone and inside a document, come back to the byte."""
    element = EXACT[name]
    assert_exact(one(element))
    assert_exact(one((0x03, one(element, b"inside"))))


WRAPPERS = (
    *("$oid", "$symbol", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"),
    *("$binary", "$uuid", "$code", "$scope", "$timestamp", "$regularExpression", "$regex"),
    *("$dbPointer", "$date", "$ref", "$id", "$minKey", "$maxKey", "$undefined", "$type"),
)
CONTENTS: tuple[Any, ...] = (
    *("", "x", "1", "0" * 24, "NaN", "2020-01-01T00:00:00Z", "Z", "AAAA", "٣"),
    *(0, 1, -1, 1.5, None, True, [], {}, [1], {"x": 1}),
    *({"t": 1, "i": 2}, {"t": "x", "i": 2}, {"t": -1, "i": 2**40}, {"t": 1}),
    *(
        {"base64": "", "subType": "0"},
        {"base64": "!", "subType": "zz"},
        {"base64": 1, "subType": 1},
    ),
    *({"base64": "AA==", "subType": "100"}, {"base64": "AA==", "subType": "fff"}),
    *({"pattern": "(", "options": "i"}, {"pattern": 1, "options": 2}, {"pattern": "x"}),
    *({"$ref": "a", "$id": ObjectId(b"1" * 12)}, {"$ref": "a", "$id": {"$oid": "x"}}),
    *({"$numberLong": "1"}, {"$numberLong": "x"}, {"$numberLong": {}}, {"$numberLong": "9" * 30}),
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_fields_that_look_like_extended_json(wrapper: str) -> None:
    """A document that says `$oid` is not an ObjectId, whatever stands behind the name."""
    for content in CONTENTS:
        assert_exact(bson.encode({"_id": {wrapper: content}}))
        assert_exact(bson.encode({"_id": {wrapper: content, "more": 1}}))
        assert_exact(bson.encode({"_id": [{"a": {wrapper: content}}]}))
        assert_exact(bson.encode({wrapper: content, "_id": 1}))


@pytest.mark.parametrize("depth", [10, 100, 180, 1_000])
def test_deep_documents(depth: int) -> None:
    """A server takes 180 levels; deeper ones fail nowhere either."""
    document = raw()
    for _ in range(depth):
        document = raw((0x03, b"a", document))
    assert_exact(one((0x03, document)))


def test_large_documents() -> None:
    assert_exact(bson.encode({"_id": "x" * (1 << 20)}))
    assert_exact(bson.encode({"_id": Binary(bytes(1 << 20), 0)}))


# --- everything else, drawn -----------------------------------------------------------------------

names = st.one_of(
    st.sampled_from([name.encode() for name in ("_id", "", "a", "a.b", "$a", *WRAPPERS)]),
    st.binary(max_size=6).map(lambda drawn: drawn.replace(b"\0", b"")),
    st.text(max_size=6).filter(lambda drawn: "\0" not in drawn).map(str.encode),
)
texts = st.one_of(st.text(max_size=20).map(str.encode), st.binary(max_size=20))
without_nul = st.binary(max_size=8).map(lambda drawn: drawn.replace(b"\0", b""))


def fixed(kind: int, size: int) -> st.SearchStrategy[Element]:
    return st.binary(min_size=size, max_size=size).map(lambda value: (kind, value))


def binary(subtype: int, content: bytes) -> Element:
    return 0x05, struct.pack("<iB", len(content), subtype) + content


def documents_of(values: st.SearchStrategy[Element]) -> st.SearchStrategy[bytes]:
    def build(drawn: list[tuple[bytes, Element]]) -> bytes:
        return raw(*((kind, name, value) for name, (kind, value) in drawn))

    return st.lists(st.tuples(names, values), max_size=5).map(build)


def arrays_of(values: st.SearchStrategy[Element]) -> st.SearchStrategy[bytes]:
    def build(drawn: list[Element]) -> bytes:
        return raw(*((kind, b"%d" % n, value) for n, (kind, value) in enumerate(drawn)))

    return st.lists(values, max_size=4).map(build)


def scoped(code: bytes, scope: bytes) -> Element:
    body = text(code) + scope
    return 0x0F, struct.pack("<i", len(body) + 4) + body


simple = st.one_of(
    fixed(0x01, 8),
    st.floats().map(lambda drawn: (0x01, struct.pack("<d", drawn))),
    texts.map(lambda drawn: (0x02, text(drawn))),
    st.builds(binary, st.integers(0, 255), st.binary(max_size=20)),
    st.just((0x06, b"")),
    fixed(0x07, 12),
    st.sampled_from([(0x08, b"\0"), (0x08, b"\1")]),
    fixed(0x09, 8),
    st.just((0x0A, b"")),
    st.tuples(without_nul, without_nul).map(lambda two: (0x0B, two[0] + b"\0" + two[1] + b"\0")),
    st.tuples(texts, st.binary(min_size=12, max_size=12)).map(lambda p: (0x0C, text(p[0]) + p[1])),
    texts.map(lambda drawn: (0x0D, text(drawn))),
    texts.map(lambda drawn: (0x0E, text(drawn))),
    fixed(0x10, 4),
    fixed(0x11, 8),
    fixed(0x12, 8),
    fixed(0x13, 16),
    st.sampled_from([(0x7F, b""), (0xFF, b"")]),
)
values: st.SearchStrategy[Element] = st.recursive(
    simple,
    lambda inner: st.one_of(
        documents_of(inner).map(lambda drawn: (0x03, drawn)),
        arrays_of(inner).map(lambda drawn: (0x04, drawn)),
        st.builds(scoped, texts, documents_of(inner)),
    ),
    max_leaves=8,
)


@exactly
@given(values)
def test_any_key_comes_back_to_the_byte(value: Element) -> None:
    assert_exact(one(value))


@exactly
@given(documents_of(values))
def test_any_document_comes_back_to_the_byte(document: bytes) -> None:
    assert from_text(to_text(document)) == document


@exactly
@given(st.lists(st.tuples(names.filter(lambda name: name != b"_id"), values), max_size=4), values)
def test_the_key_of_any_document_is_found(
    fields: list[tuple[bytes, Element]], key: Element
) -> None:
    """Before, between and behind fields of every type."""
    others = [(kind, name, value) for name, (kind, value) in fields]
    for at in range(len(others) + 1):
        document = raw(*others[:at], (key[0], b"_id", key[1]), *others[at:])
        assert id_of(document) == one(key)


@exactly
@given(st.lists(values, min_size=1, max_size=12))
def test_queries_hold_the_very_bytes(keys: list[Element]) -> None:
    """What is asked of the server is what lies there, not what Python makes of it."""
    for key in keys:
        asked = raw((0x03, b"_id", raw((key[0], b"$eq", key[1]))))
        assert bytes(equals_query(one(key)).raw) == asked
    several = raw(*((kind, b"%d" % n, value) for n, (kind, value) in enumerate(keys)))
    asked = raw((0x03, b"_id", raw((0x04, b"$in", several))))
    assert bytes(in_query([one(key) for key in keys]).raw) == asked


@exactly
@given(values, values)
def test_different_keys_have_different_texts(one_value: Element, other: Element) -> None:
    """The core compares nothing but identity of texts."""
    assert (to_key(one(one_value)) == to_key(one(other))) == (one_value == other)


# --- texts that are none of ours ------------------------------------------------------------------

FOREIGN: tuple[str, ...] = (
    *("", "x", "{", "bson:", "bson:!", "bson:A", "bson:AAAA"),
    *('{"a":{"$oid":"x"}}', '{"a":{"$date":""}}', '{"a":{"$numberDecimal":"x"}}'),
    *('{"a":{"$binary":{}}}', '{"a":{"$timestamp":{"t":1}}}', '{"a":{"$numberLong":"9e99"}}'),
    '{"a":' * 5_000 + "1" + "}" * 5_000,
)
NO_DOCUMENTS = ("[]", "1", "null", '"x"', "true")
"""Keys, but no documents."""


@pytest.mark.parametrize("foreign", [*FOREIGN, *NO_DOCUMENTS], ids=lambda each: ascii(each[:25]))
def test_a_text_of_somebody_else_is_no_document(foreign: str) -> None:
    """As `from_text` promises, whatever the JSON library stumbles over."""
    with pytest.raises(ValueError):  # noqa: PT011 — any of its kinds
        from_text(foreign)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: ascii(each[:25]))
def test_a_text_of_somebody_else_is_no_key(foreign: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — any of its kinds
        from_key(Key(foreign))


def test_a_base64_text_is_the_document() -> None:
    document = one(EXACT["name twice"])
    assert to_text(document) == "bson:" + base64.b64encode(document).decode()
    assert to_key(one((0x0B, b"a\0i\0"))) == to_key(bson.encode({"_id": Regex("a", "i")}))
