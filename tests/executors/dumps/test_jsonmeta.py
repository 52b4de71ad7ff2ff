"""Metadata files, there and back, and what is wrong with them (fault 29)."""

import json
from typing import Any

import bson
import pytest
from bson import json_util
from hypothesis import given
from hypothesis import strategies as st

from executors.boundaries import from_text, to_text
from executors.dumps.errors import DamagedDump
from executors.dumps.extjson import MAX_DEPTH, as_bson, as_json, parsed
from executors.dumps.jsonmeta import EMPTY, MAX_BYTES, metadata_json, parse
from statemachine.events import IndexSpec


def _said(text: str | bytes) -> bytes:
    return as_bson(parsed(text if isinstance(text, bytes) else text.encode()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$numberInt":"7"}', 7),
        ('{"$numberLong":"7"}', bson.Int64(7)),
        ('{"$numberLong":7}', bson.Int64(7)),
        ('{"$numberDouble":"1.0"}', 1.0),
        ('{"$numberDouble":"-Infinity"}', float("-inf")),
        ("1", 1),
        ("1.0", 1.0),
        ("2147483648", bson.Int64(2147483648)),
        ('{"$numberDecimal":"1.20"}', bson.Decimal128("1.20")),
        ('{"$oid":"0123456789abcdef01234567"}', bson.ObjectId("0123456789abcdef01234567")),
        ('{"$date":{"$numberLong":"-1"}}', bson.DatetimeMS(-1)),
        ('{"$date":"1970-01-01T00:00:01.5Z"}', bson.DatetimeMS(1500)),
        ('{"$date":"1970-01-01T01:00:00.000+0100"}', bson.DatetimeMS(0)),
        ('{"$date":1500}', bson.DatetimeMS(1500)),
        ('{"$binary":{"base64":"YWJj","subType":"05"}}', bson.Binary(b"abc", 5)),
        ('{"$binary":{"base64":"YWJj","subType":"02"}}', bson.Binary(b"abc", 2)),
        ('{"$binary":"YWJj","$type":"80"}', bson.Binary(b"abc", 128)),
        ('{"$timestamp":{"t":4294967295,"i":2}}', bson.Timestamp(4294967295, 2)),
        ('{"$regularExpression":{"pattern":"a","options":"mi"}}', bson.Regex("a", "im")),
        ('{"$code":"x"}', bson.Code("x")),
        ('{"$code":"x","$scope":{"a":1}}', bson.Code("x", {"a": 1})),
        ('{"$minKey":1}', bson.MinKey()),
        ('{"$maxKey":1}', bson.MaxKey()),
        ("null", None),
        ('[true,{"a":"b"}]', [True, {"a": "b"}]),
        ('{"$regex":"^a","$options":"i"}', {"$regex": "^a", "$options": "i"}),
        ('{"$type":"string"}', {"$type": "string"}),
        ('{"$ref":"a","$id":1}', {"$ref": "a", "$id": 1}),
    ],
)
def test_every_form_of_extended_json_is_read(text: str, value: object) -> None:
    """Canonical, relaxed, and what mongodump 3 and the old shell wrote; operators stay."""
    assert _said(f'{{"v":{text}}}') == bson.encode({"v": value})


def test_order_and_repeated_names_stay() -> None:
    raw = _said('{"b":1,"a":2,"b":3}')
    assert raw == bson.encode({"b": 1, "a": 2})[:-1].replace(b"\x13", b"\x1a", 1) + (
        b"\x10b\0\x03\0\0\0\0"
    )
    assert as_json(raw) == '{"b":{"$numberInt":"1"},"a":{"$numberInt":"2"},"b":{"$numberInt":"3"}}'


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (100000.0, "100000.0"),
        (1e6, "1E+06"),
        (123456789.5, "1.234567895E+08"),
        (0.0001, "0.0001"),
        (1e-5, "1E-05"),
        (-5e-324, "-5E-324"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_a_double_is_written_as_mongodump_writes_it(number: float, text: str) -> None:
    assert as_json(bson.encode({"": number})) == f'{{"":{{"$numberDouble":"{text}"}}}}'


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 31), (1 << 31) - 1)
    | st.integers(-(1 << 63), (1 << 63) - 1).map(bson.Int64)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary().map(lambda data: bson.Binary(data, 128))
    | st.just(bson.MinKey()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc.", min_size=1), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abc.", min_size=1), _VALUES))
def test_documents_come_back_to_the_byte(document: dict[str, Any]) -> None:
    raw = bson.encode(document)
    text = as_json(raw)
    assert _said(text) == raw
    assert json_util.loads(text) is not None


def _index(**fields: Any) -> dict[str, Any]:
    return {"v": 2, "key": {"a": 1}, "name": "a_1"} | fields


def _metadata(*indexes: Any, **fields: Any) -> bytes:
    return json.dumps({"options": {}, "indexes": list(indexes)} | fields).encode()


def test_a_file_of_mongodump_is_understood() -> None:
    found = parse(
        b'{"options":{"capped":true,"size":{"$numberInt":"4096"}},"indexes":['
        b'{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},'
        b'{"v":{"$numberInt":"2"},"unique":true,"key":{"a":{"$numberDouble":"-1.0"}},"name":"a"}'
        b'],"uuid":"0679db720f4944de90ae27472664e94a","collectionName":"c","type":"collection"}',
        "db/c.metadata.json",
    )
    assert bson.decode(found.options) == {"capped": True, "size": 4096}
    [index] = found.indexes
    assert (index.name, index.unique) == ("a", True)
    assert bson.decode(from_text(index.spec)) == {
        "v": 2,
        "unique": True,
        "key": {"a": -1.0},
        "name": "a",
    }
    assert (found.uuid, found.collection, found.type) == (
        "0679db720f4944de90ae27472664e94a",
        "c",
        "collection",
    )


def test_older_files_say_less() -> None:
    found = parse(b'\xef\xbb\xbf{"indexes":null}', "f")
    assert (found.options, found.indexes, found.uuid, found.type) == (EMPTY, (), "", "")
    legacy = _index(v=1, key={"a": 1, "b": True, "c": ""})
    assert len(parse(_metadata(legacy), "f").indexes) == 1


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "EDUMP030"),
        (b"{ this is not json", "EDUMP030"),
        (b"{} {}", "EDUMP030"),
        (b'{"options":NaN}', "EDUMP030"),
        (b"\xff\xfe{}", "EDUMP030"),
        (b"1" * 5000, "EDUMP030"),
        (b"[]", "EDUMP031"),
        (b'"text"', "EDUMP031"),
        (_metadata(options=5), "EDUMP031"),
        (_metadata(options=[]), "EDUMP031"),
        (_metadata(indexes={}), "EDUMP031"),
        (_metadata("x"), "EDUMP031"),
        (_metadata(uuid=5), "EDUMP031"),
        (_metadata(collectionName=[]), "EDUMP031"),
        (_metadata(type=1), "EDUMP031"),
        (_metadata(options={"a": {"$numberInt": "x"}}), "EDUMP031"),
        (_metadata(options={"a": {"$numberInt": "9" * 12}}), "EDUMP031"),
        (_metadata(options={"a": {"$oid": "xyz"}}), "EDUMP031"),
        (_metadata(options={"a": {"$date": {}}}), "EDUMP031"),
        (_metadata(options={"a": {"$oid": "x", "b": 1}}), "EDUMP031"),
        (_metadata(options={"a\0b": 1}), "EDUMP031"),
        (b'{"options":{"a":"\\ud800"}}', "EDUMP031"),
        (_metadata(_index(key={})), "EDUMP032"),
        (_metadata(_index(key=5)), "EDUMP032"),
        (_metadata(_index(key={"a": "bogus"})), "EDUMP032"),
        (_metadata(_index(v=1, key={"a": "bogus"})), "EDUMP032"),
        (_metadata(_index(key={"a": 0})), "EDUMP032"),
        (_metadata(_index(key={"a": True})), "EDUMP032"),
        (_metadata(_index(key={"a": {}})), "EDUMP032"),
        (_metadata(_index(key={"": 1})), "EDUMP032"),
        (_metadata(_index(key={"$a": 1})), "EDUMP032"),
        (_metadata(_index(name="")), "EDUMP032"),
        (_metadata(_index(name=5)), "EDUMP032"),
        (_metadata({"v": 2, "key": {"a": 1}}), "EDUMP032"),
        (_metadata(_index(), _index()), "EDUMP032"),
        (b'{"a":' * 100_000, "EDUMP033"),
        (b'{"options":' + b'{"a":' * 300 + b"1" + b"}" * 301, "EDUMP033"),
        (b" " * (MAX_BYTES + 1), "EDUMP033"),
    ],
)
def test_damaged_metadata_is_refused(data: bytes, detail: str) -> None:
    with pytest.raises(DamagedDump) as refused:
        parse(data, "db/c.metadata.json")
    assert (refused.value.detail, refused.value.file) == (detail, "db/c.metadata.json")
    assert refused.value.remedy


@pytest.mark.parametrize(
    "key",
    [
        {"a": "hashed"},
        {"a": "2dsphere", "b": -1},
        {"_fts": "text", "_ftsx": 1},
        {"$**": 1},
        {"a": {"$numberDecimal": "-1"}},
        {"a.$id": 1},
        {"a": 1.5},
    ],
)
def test_every_kind_of_index_is_taken(key: dict[str, Any]) -> None:
    assert len(parse(_metadata(_index(key=key)), "f").indexes) == 1


def test_as_deep_as_can_be() -> None:
    depth = MAX_DEPTH - 1
    data = b'{"options":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
    assert len(parse(data, "f").options) == 12 + (depth - 1) * 8


def test_what_is_written_is_what_mongodump_writes() -> None:
    """The expected bytes are those of mongodump 100.18 from mongod 6.0.5."""
    unique = bson.encode({"v": 2, "unique": True, "key": {"a": -1}, "name": 'q"\u2028'})
    written = metadata_json(
        options=bson.encode({"validator": {"a": {"$gt": 1e6}}}),
        indexes=(IndexSpec(name='q"\u2028', unique=True, spec=to_text(unique)),),
        uuid="0679db720f4944de90ae27472664e94a",
        collection="é<&",
        type_="collection",
    )
    assert written.decode() == (
        '{"options":{"validator":{"a":{"$gt":{"$numberDouble":"1E+06"}}}},"indexes":['
        '{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},'
        '{"v":{"$numberInt":"2"},"unique":true,"key":{"a":{"$numberInt":"-1"}},'
        '"name":"q\\"\\u2028"}],"uuid":"0679db720f4944de90ae27472664e94a",'
        '"collectionName":"é<&","type":"collection"}'
    )


def test_clustered_collections_views_and_time_series_have_no_plain_id_index() -> None:
    clustered = bson.encode({"clusteredIndex": {"v": 2, "key": {"_id": 1}, "name": "mine"}})
    written = metadata_json(
        options=clustered, indexes=(), uuid="", collection="c", type_="collection"
    )
    assert b'"name":"mine","unique":true,"clustered":true' in written
    assert parse(written, "f").indexes == ()
    for type_ in ("view", "timeseries"):
        told = metadata_json(options=EMPTY, indexes=(), uuid="", collection="c", type_=type_)  # type: ignore[arg-type]
        assert told == b'{"indexes":[],"collectionName":"c","type":"%b"}' % type_.encode()


def test_what_json_cannot_say_is_not_written_as_something_else() -> None:
    for document in ({"a": {"$oid": "x"}}, {"a": {"$numberInt": "1"}}):
        with pytest.raises(ValueError, match="."):
            metadata_json(
                options=bson.encode(document),
                indexes=(),
                uuid="",
                collection="c",
                type_="collection",
            )
