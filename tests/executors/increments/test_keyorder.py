"""The order of keys against the index of a real server: the same order, the same equalities
(I31: last keys ascend; I21: ranges of keys are disjoint)."""

import itertools
import math
import struct
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import BulkWriteError

from executors.increments.keyorder import order
from tests.conftest import Pair
from tests.executors.examples import RAW
from tests.executors.test_boundaries import (
    EXACT,
    READABLE,
    Element,
    binary,
    one,
    raw,
    scoped,
    text,
    values,
)

DUPLICATE = 11000
NUMBERS: tuple[Any, ...] = (
    *(0, 0.0, -0.0, Int64(0), Decimal128("0"), Decimal128("-0E+3"), Decimal128("0E-6176")),
    *(1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.000"), Decimal128("1E0"), -1, -1.5),
    *(math.nan, Decimal128("NaN"), Decimal128("sNaN"), math.inf, -math.inf),
    *(Decimal128("Infinity"), Decimal128("-Infinity")),
    *(0.1, Decimal128("0.1"), Decimal128("-0.1"), -0.1, Decimal128("0.1000000000000000055")),
    Decimal128("0.1000000000000000055511151231257827"),
    *(2**53, 2.0**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2.0**63, -(2.0**63)),
    *(2**53 + 2, 2**60 + 1, 2.0**60, 2**60 - 1, 2**62 + 3, Decimal128(str(2**60 + 1))),
    *(Decimal128("9223372036854775807.5"), Decimal128("9223372036854775807")),
    *(5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308),
    *(Decimal128("1E-6176"), Decimal128("-1E-6176"), Decimal128("9E+6144"), Decimal128("-9E+6144")),
    *(Decimal128("3E-324"), Decimal128("2E-324"), Decimal128("1.8E+308"), Decimal128("1.7E+308")),
    *(Decimal128("9" * 34), Decimal128("-" + "9" * 34), Decimal128("1" + "0" * 33), 1e33, 1e34),
    *(Decimal128("0." + "3" * 34), 1 / 3, Decimal128("123.45"), 123.45, Decimal128("123.450")),
)
OTHERS: tuple[Any, ...] = (
    *("", "a", "a\0", "a\0b", "ab", "b", "A", "ä", "😀", "\uffff"),
    *(Binary(b"", 0), Binary(b"a", 0), Binary(b"a", 5), Binary(b"b", 0), Binary(b"aa", 0)),
    *(Binary(b"a" * 300, 0), ObjectId(bytes(12)), ObjectId(b"\xff" * 12), True, False, None),
    *(DatetimeMS(0), DatetimeMS(-1), DatetimeMS(2**63 - 1), DatetimeMS(-(2**63))),
    *(Timestamp(0, 0), Timestamp(0, 1), Timestamp(2**32 - 1, 0), Timestamp(1, 2**32 - 1)),
    *(MinKey(), MaxKey(), Code("f"), Code("f\0"), Code("g"), Code("f", {}), Code("f", {"a": 1})),
    *({}, {"a": 1}, {"a": 1.0}, {"a": Int64(2)}, {"a": 1, "b": 1}, {"b": 0}, {"a": {}}, {"a": []}),
    *({"a": None}, {"a": MinKey()}, {"a": MaxKey()}, {"a": "x"}, {"a": "x\0"}, {"a": "x", "b": 1}),
    *({"": 1}, {"aa": 0}, {"a": {"b": {"c": Decimal128("0.1")}}}, {"a": {"b": {"c": 0.1}}}),
    *({"a": [1]}, {"a": [1, 2]}, {"a": [1.0, "x"]}, {"a": [[]]}, {"a": [{}]}, {"a": [None]}),
    *({"a": True}, {"a": DatetimeMS(-5)}, {"a": Binary(b"xy", 3)}, {"a": Timestamp(1, 1)}),
    *({"a": bson.Regex("x", "i")}, {"a": bson.Regex("x")}, {"a": bson.Regex("xy")}),
    *({"a": Decimal128("1E-6176"), "b": 1}, {"a": 2**60 + 1, "b": 0}, {"a": 2**60 + 1, "b": 1}),
)
RAWS: tuple[Element, ...] = (
    (0x03, raw((0x06, b"a", b""))),
    (0x03, raw((0x06, b"a", b""), (0x10, b"b", b"\1\0\0\0"))),
    (0x0E, text(b"a")),
    (0x0E, text(b"a\0z")),
    (0x03, raw((0x0E, b"a", text(b"x")))),
    (0x0C, text(b"a.b") + b"123456789012"),
    (0x0C, text(b"a.b") + b"123456789013"),
    (0x0C, text(b"a.bc") + b"023456789012"),
    (0x0D, text(b"f\0x")),
    scoped(b"f\0", raw()),
    scoped(b"f", raw((0x10, b"b", b"\1\0\0\0"))),
    scoped(b"g", raw()),
    binary(2, b"\2\0\0\0ab"),
    (0x13, b"\xff" * 14 + b"\x6f\x6c"),
    (0x13, struct.pack("<QQ", 10**34 & (2**64 - 1), 0x3040 << 48 | 10**34 >> 64)),
    (0x03, raw((0x04, b"a", raw((0x0A, b"7", b""))))),
    (0x03, raw((0x0F, b"a", scoped(b"f", raw((0x10, b"b", b"\1\0\0\0")))[1]))),
    (0x03, raw((0x08, b"a", b"\0"))),
)


REFUSED = ("odd boolean",)
"""For one of these a server refuses the whole insert."""


def assert_orders_as_a_server(pair: Pair, ids: list[bytes]) -> int:
    """The number of ids that the server took."""
    collection = pair.source_client.shop.get_collection("c", codec_options=RAW)
    collection.delete_many({})
    refused: dict[int, int] = {}
    try:
        collection.insert_many([RawBSONDocument(each) for each in ids], ordered=False)
    except BulkWriteError as error:
        refused = {each["index"]: each["code"] for each in error.details["writeErrors"]}
    found = [bytes(each.raw) for each in collection.find().sort("_id", 1)]
    assert len(found) == len(ids) - len(refused)
    for lower, upper in itertools.pairwise(found):
        assert order(lower) < order(upper), (lower, upper)
    keys = set(map(order, found))
    for index, code in refused.items():
        if code == DUPLICATE:
            assert order(ids[index]) in keys, ids[index]
        else:
            assert order(ids[index])  # total, all the same
    return len(found)


@pytest.mark.server
def test_it_is_the_order_of_the_server_s_index(pair: Pair) -> None:
    """Every type, at its edges, alone and inside documents; equal numbers are one key (I31)."""
    plain = [bson.encode({"_id": value}) for value in (*NUMBERS, *OTHERS)]
    inside = [bson.encode({"_id": {"a": value, "b": 1}}) for value in (*NUMBERS, *OTHERS)]
    named = [bson.encode({"_id": value}) for value, _ in READABLE.values()]
    odd = [element for name, element in EXACT.items() if name not in REFUSED] + [*RAWS]
    exact = [one(element) for element in odd]
    nested = [one((0x03, one(element, b"a"))) for element in odd]
    ids = [*plain, *inside, *named, *exact, *nested]
    assert assert_orders_as_a_server(pair, ids) > 250


numbers = st.one_of(
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.builds(lambda n, d: n + d, st.integers(50, 62).map(lambda n: 2**n), st.integers(-3, 3)),
    st.builds(
        lambda sign, digits, exponent: Decimal128(f"{sign}{digits}E{exponent}"),
        st.sampled_from(["", "-"]),
        st.integers(0, 10**34 - 1),
        st.one_of(st.integers(-40, 10), st.integers(-6176, 6111)),
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(
        lambda drawn: Decimal128(f"{drawn:.33e}") if abs(drawn) > 1e-290 else Decimal128("0")
    ),
).map(lambda drawn: bson.encode({"_id": drawn}))


@pytest.mark.server
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(values.map(one), numbers), min_size=2, max_size=120))
def test_any_ids_lie_in_the_server_s_order(pair: Pair, ids: list[bytes]) -> None:
    assert_orders_as_a_server(pair, ids)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(values)
def test_it_is_total(value: Element) -> None:
    """Of values too that no server takes as an `_id`: arrays, regular expressions, undefined."""
    assert order(one(value))[0]


def test_deep_values() -> None:
    """As deep as servers take them."""
    document = raw()
    for _ in range(180):
        document = raw((0x03, b"a", document))
    assert order(one((0x03, document)))
