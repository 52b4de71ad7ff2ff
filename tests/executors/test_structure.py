"""What is a flaw and what is not: by hand, against the C decoder, against a real server."""

import random
import struct
import time
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.errors import DocumentTooLarge, OperationFailure

from executors.flaws import Code, Flaw
from executors.rawbson import Slab
from executors.structure import DEEPEST, LARGEST, WHOLE, envelope_flaw, flaw, resync, walk
from tests.conftest import Pair
from tests.executors.bsons import (
    ENVELOPES,
    FLAWED,
    ID,
    IDS,
    SOUND,
    document,
    field,
    i32,
    nested,
    sized,
    text,
    with_id,
)
from tests.fuzz.agreement import disagreement

GENEROUS = settings(deadline=None, max_examples=300)


# By hand


@pytest.mark.parametrize("name", FLAWED)
def test_each_flaw_is_named_with_place_path_and_figures(name: str) -> None:
    case = FLAWED[name]
    found = flaw(case.document)
    assert found is not None
    assert (found.code, found.at) == (case.code, case.at)
    deep = case.path.endswith(".")
    assert found.path.startswith(case.path) if deep else found.path == case.path
    assert case.why in found.why
    assert found.whole == (case.code in WHOLE)
    assert str(found).startswith(case.code) and str(found).isprintable()


@pytest.mark.parametrize("name", SOUND)
def test_what_servers_store_has_no_flaw(name: str) -> None:
    assert flaw(SOUND[name]) is None


@pytest.mark.parametrize("kind", IDS)
def test_an_id_of_any_type_that_servers_take_has_no_flaw(kind: int) -> None:
    assert flaw(IDS[kind]) is None


def test_every_code_has_a_case() -> None:
    assert {case.code for case in FLAWED.values()} == set(Code)
    assert len(set(Code)) == len({code.meaning for code in Code})


@pytest.mark.parametrize("name", FLAWED)
def test_offsets_are_of_the_bytes_given(name: str) -> None:
    """Whatever holds the bytes, and wherever in it the document lies."""
    case, before, behind = FLAWED[name], b"\xff" * 7, b"\xff" * 3
    around = before + case.document + behind
    span = (len(before), len(around) - len(behind))
    expected = flaw(case.document)
    assert expected is not None
    for data in (around, bytearray(around), memoryview(around)):
        found = flaw(data, *span)
        assert found is not None and found.at == case.at + len(before)
        assert (found.code, found.path, found.why) == (expected.code, expected.path, expected.why)


def test_the_path_is_printable_and_short() -> None:
    found = flaw(field(0x08, b"\7", name=b"\x1b[31m\xff\n" + b"x" * 5000))
    assert found is not None
    assert found.path.startswith(r"\x1b[31m\xff\n") and found.path.isprintable()
    assert len(found.path) <= 201


def test_the_limits_are_exact() -> None:
    """At the limit all is well; one more is a flaw."""
    assert flaw(nested(DEEPEST)) is None and flaw(nested(DEEPEST + 1)) is not None
    assert flaw(sized(LARGEST)) is None
    too_long = flaw(sized(LARGEST + 1))
    assert too_long is not None and too_long.code is Code.TOO_LONG


# Envelopes


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_is_judged_without_a_look_inside(name: str) -> None:
    case = ENVELOPES[name]
    found = envelope_flaw(case.document)
    assert found is not None and (found.code, found.at) == (case.code, case.at)


@pytest.mark.parametrize("name", sorted(FLAWED.keys() - ENVELOPES.keys()))
def test_an_envelope_with_a_flaw_inside_passes(name: str) -> None:
    assert envelope_flaw(FLAWED[name].document) is None


def test_a_walk_ends_behind_the_last_whole_document() -> None:
    rows = [document(ID), document(), field(0x02, text(b"abc"))]
    block = b"".join(rows)
    assert walk(block) == (3, len(block), None)
    assert walk(memoryview(block)) == (3, len(block), None)
    assert walk(block, len(rows[0])) == (2, len(block), None)
    assert walk(b"") == (0, 0, None)
    for cut in range(1, len(rows[2])):  # more may come: no flaw
        assert walk(block[:-cut]) == (2, len(rows[0]) + len(rows[1]), None)


@pytest.mark.parametrize("name", sorted(ENVELOPES.keys() - {"nothing", "half a length", "cut"}))
def test_a_walk_ends_at_a_flawed_envelope(name: str) -> None:
    case = ENVELOPES[name]
    ahead = document(ID) * 2
    block = ahead + case.document + bytes(100)
    assert walk(block) == (2, len(ahead), envelope_flaw(block, len(ahead)))
    found = walk(block).flaw
    assert found is not None and (found.code, found.at) == (case.code, len(ahead) + case.at)


@GENEROUS
@given(st.binary(max_size=60))
def test_a_walk_says_what_the_envelopes_say_one_by_one(data: bytes) -> None:
    at = documents = 0
    found: Flaw | None = None
    while at < len(data) and not (found := envelope_flaw(data, at)):
        at += int.from_bytes(data[at : at + 4], "little")
        documents += 1
    incomplete = found is not None and found.code in (Code.CUT_LENGTH, Code.CUT)
    assert walk(data) == (documents, at, None if incomplete else found)


# Against the C decoder

_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=80),
    st.binary(max_size=20),
    st.builds(bson.ObjectId, st.binary(min_size=12, max_size=12)),
    st.datetimes(),
    st.builds(bson.Decimal128.from_bid, st.binary(min_size=16, max_size=16)),
    st.builds(bson.Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(bson.Regex, st.text("ab", max_size=3), st.integers(0, 3)),
    st.builds(bson.Code, st.text(max_size=5)),
    st.builds(bson.Code, st.text(max_size=5), st.dictionaries(st.text("xy"), st.integers(0, 9))),
    st.builds(bson.Binary, st.binary(max_size=9), st.sampled_from((0, 2, 5, 128))),
    st.builds(bson.DBRef, st.text("ab"), st.integers(0, 9)),
    st.sampled_from((bson.MinKey(), bson.MaxKey())),
)
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
_DOCUMENTS = st.dictionaries(
    _NAMES.filter(lambda name: name != "_id"),
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
).map(bson.encode)


@GENEROUS
@given(_DOCUMENTS)
def test_what_the_driver_writes_has_no_flaw(raw: bytes) -> None:
    assert flaw(raw) is None


@GENEROUS
@given(_DOCUMENTS, st.data())
def test_a_changed_or_cut_document_is_judged_as_the_driver_does(
    raw: bytes, data: st.DataObject
) -> None:
    """One byte changed, cut, or some of it repeated: no exception, and the C decoder's verdict,
    but for what `tests/fuzz/agreement.py` lists."""
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[at] = data.draw(st.integers(0, 255) | st.sampled_from((0, 1, 2, 3, 4, 5, 15, 255)))
    for damaged in (bytes(changed), raw[:at], raw[:at] + raw[at // 2 :]):
        assert disagreement(damaged) is None


@GENEROUS
@given(st.binary(max_size=40), st.binary(max_size=10))
def test_garbage_in_a_right_envelope_is_judged_as_the_driver_does(body: bytes, name: bytes) -> None:
    assert disagreement(document(body)) is None
    assert disagreement(field(body[0] if body else 0, body, name.replace(b"\0", b""))) is None


# Against a real server


REFUSED_BY_SERVERS = {
    "an operator's name in an _id": with_id(0x03, document(b"\x10$a\0\1\0\0\0")),
    "over 16 MiB": sized((16 << 20) + 1),
}
"""Whole in structure: policy for what users insert, not damage. They become rejected documents."""


def _verdict(pair: Pair, raw: bytes) -> str:
    """What the server says to these bytes as a document: "" when it stored them."""
    collection = pair.target_client["raw"]["c"]
    collection.delete_many({})
    try:
        reply = collection.database.command({"insert": "c", "documents": [Slab(raw)]})
    except OperationFailure as error:
        return str(error)
    except DocumentTooLarge as error:  # the driver's own
        return str(error)
    return str(reply.get("writeErrors", "")) or _kept(pair, raw)


def _kept(pair: Pair, raw: bytes) -> str:
    options: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
    (kept,) = pair.target_client["raw"].get_collection("c", options).find({})
    found = bytes(kept.raw)
    assert found == raw or (b"_id\0" not in raw and found.endswith(raw[4:]))
    return ""


@pytest.mark.server
def test_servers_store_what_has_no_flaw_and_refuse_what_has_one(pair: Pair) -> None:
    """I22: by kind of flaw and by type of `_id`. What is wrong with the envelope goes without
    saying: it would be another message. Old binaries servers store; drivers do not read them."""
    for name, raw in SOUND.items():
        assert not _verdict(pair, raw), name
    for kind, raw in IDS.items():
        assert not _verdict(pair, raw), f"{kind:x}"
    for name in FLAWED.keys() - ENVELOPES.keys() - {"bytes behind"}:
        case = FLAWED[name]
        stored = not _verdict(pair, case.document)
        assert stored == (case.code is Code.OLD_BINARY), name
    for name, raw in REFUSED_BY_SERVERS.items():
        assert _verdict(pair, raw) and flaw(raw) is None, name


# Behind damage


def _row(n: int) -> list[bytes]:
    """Documents with others inside that have an `_id` too, which must not be taken for theirs."""
    return [
        bson.encode(
            {
                "_id": i,
                "inside": {"_id": i, "b": False},
                "some": [{"_id": j, "v": "x" * i} for j in range(3)],
                "last": {"_id": bson.ObjectId(), "ab": False, "list": [{"_id": 1}]},
            }
        )
        for i in range(n)
    ]


def test_the_next_whole_document_is_found_behind_any_damage() -> None:
    """Never one that is nested in another; wherever the search begins, whatever was lost."""
    rows = _row(4)
    data, second = b"".join(rows), len(rows[0])
    for at in range(1, second + 1):
        assert resync(data, at) == second
        assert resync(data[at:], 1) in (second - at or 1, second - at + len(rows[1]))
    third = second + len(rows[1])
    for at in range(second + 1, third + 1):
        assert resync(memoryview(data), at) == third


@pytest.mark.parametrize("left", [1, 3, 4, 6, 9, 11, 60])
def test_a_document_before_a_cut_one_is_found(left: int) -> None:
    rows = [document(ID, b"\x02a\0" + text(b"x" * 300))] * 3
    data = b"".join(rows)[: 2 * len(rows[0]) + left]
    assert resync(data, 3) == len(rows[0])


def test_a_document_between_two_damaged_ones_is_found() -> None:
    rows = [document(ID, b"\x02a\0" + text(b"x" * 300))] * 3
    broken = bytearray(b"".join(rows))
    broken[50:60] = b""
    broken[-20] = 7
    assert resync(bytes(broken), 1) == len(rows[0]) - 10


def test_the_last_document_and_one_whose_id_comes_late_are_found() -> None:
    late = document(b"\x02name\0" + text(b"x" * 70), b"\x10_id\0\1\0\0\0")
    garbage = random.Random(1).randbytes(5000)
    assert resync(garbage + late, 0) == 5000
    assert resync(garbage + late * 2, 0) == 5000
    assert resync(garbage + late + b"\1" * 50, 0, 5000 + len(late)) == 5000


def test_documents_that_begin_with_different_fields_are_found_too() -> None:
    data = document(ID) + document(b"\x02name\0" + text(b"x"), ID)
    assert resync(b"\1\2\3" + data, 0) == 3


def test_the_largest_document_is_found() -> None:
    assert resync(b"\1\2\3" + sized(LARGEST), 0) == 3


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_what_is_nested_at_the_very_end_is_not_taken_for_a_document(levels: int) -> None:
    inner = document(ID, b"\x02a\0" + text(b"x"))
    for _ in range(levels):
        inner = document(b"\x03a\0" + inner)
    assert resync(inner, 1) is None


def test_without_a_whole_document_nothing_is_found() -> None:
    assert resync(b"", 0) is None
    assert resync(document(ID), 1) is None
    assert resync(b"\x10_id\0" * 1000, 0) is None
    assert resync(document(b"\x10a\0\1\0\0\0") * 3, 0) is None  # no _id
    assert resync(document(b"\x03a\0" + document(ID)) * 3, 0) is None  # of its own


def _nested_beginnings(size: int) -> bytes:
    """At every few bytes what looks like a long document, wrong only at its far end."""
    one = i32(size // 2) + b"\x02_id\0" + text(b"")
    return one * (size // len(one))


@pytest.mark.parametrize(
    "garbage",
    [
        bytes,
        lambda size: b"\1" * size,
        lambda size: b"\0\x0a" * (size // 2),
        lambda size: random.Random(1).randbytes(size),
        lambda size: bytes(random.Random(1).choices(range(20), k=size)),
        _nested_beginnings,
    ],
)
def test_a_search_through_garbage_is_fast_and_ends(garbage: Callable[[int], bytes]) -> None:
    """No minutes for megabytes, whatever they are made of; and the document behind is found."""
    data = garbage(1 << 20)
    row = field(0x02, text(b"x"))
    begun = time.process_time()
    assert resync(data + row, 0) == len(data)
    assert time.process_time() - begun < 20


def test_a_search_gives_up_where_it_would_take_for_ever() -> None:
    """Each of 80,000 beginnings leads through all that follow, to one flaw at the end."""
    head, end = b"\x12_id\0" + bytes(4), b"\x08a\0\7\0"
    beginnings, one = 80_000, len(head) + 4
    row = b"".join(head + i32(one * left + len(end) + 4) for left in reversed(range(beginnings)))
    begun = time.process_time()
    assert resync(row + end + document(ID), 0) is None
    assert time.process_time() - begun < 60
    assert resync(row + end + document(ID), len(row)) == len(row + end)


@GENEROUS
@given(st.binary(max_size=200), st.integers(0, 20))
def test_whatever_is_found_is_a_whole_document(data: bytes, at: int) -> None:
    for each in (data, data + document(ID), document(ID, data) + document(ID)):
        found = resync(each, at)
        if found is not None:
            assert found >= at
            length = struct.unpack_from("<i", each, found)[0]
            wrong = flaw(each, found, found + length)
            assert wrong is None or wrong.whole
