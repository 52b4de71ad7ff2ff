"""One document through code of the user's own: what it gets, what stays, what is rejected."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Decimal128, Int64

from executors.structure import walk
from executors.transforms.apply import MAX_WHY, Rejected, through
from executors.transforms.code import Code
from tests.conformance.corpus import needs_corpus, valid_bson
from tests.executors.transforms import owncode


def code(function: Callable[[dict[str, Any]], Any] | None, model: Any = None) -> Code:
    return Code(function, model, "")


def field(kind: int, name: str, value: bytes) -> bytes:
    return bytes([kind]) + name.encode() + b"\0" + value


def document(*fields: bytes) -> bytes:
    body = b"".join((field(0x10, "_id", b"\1\0\0\0"), *fields))
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


SYMBOL = field(0x0E, "symbol", b"\2\0\0\0a\0")
POINTER = field(0x0C, "pointer", b"\2\0\0\0c\0" + bytes(12))
UNDEFINED = field(0x06, "undefined", b"")
PATTERN = field(0x0B, "pattern", b"a\0gi\0")
OLD_BINARY = field(0x05, "old", b"\6\0\0\0\2\2\0\0\0ab")
FAR = field(0x09, "far", (1 << 60).to_bytes(8, "little"))
TWICE = field(0x10, "twice", b"\1\0\0\0") + field(0x10, "twice", b"\2\0\0\0")
LONG = field(0x12, "long", (5).to_bytes(8, "little"))
STRANGE = (SYMBOL, POINTER, UNDEFINED, PATTERN, OLD_BINARY, FAR, TWICE, LONG)


def add(found: dict[str, Any]) -> dict[str, Any]:
    found["added"] = 1
    return found


def add_inside(found: dict[str, Any]) -> dict[str, Any]:
    found["in"]["added"] = 1
    return found


def test_what_is_untouched_keeps_its_bytes() -> None:
    """F18: types that decoding and encoding would change, order, two fields of one name."""
    raw = document(*STRANGE)
    assert through(raw, code(owncode.same)) == raw
    added = through(raw, code(add))
    assert added == document(*STRANGE, field(0x10, "added", b"\1\0\0\0"))


def test_what_is_untouched_inside_keeps_its_bytes() -> None:
    """F18: a document inside that the code changes keeps the rest of what it holds."""
    inside = b"".join(STRANGE)
    nested = field(0x03, "in", (len(inside) + 5).to_bytes(4, "little") + inside + b"\0")
    more = inside + field(0x10, "added", b"\1\0\0\0")
    wanted = field(0x03, "in", (len(more) + 5).to_bytes(4, "little") + more + b"\0")
    assert through(document(SYMBOL, nested), code(add_inside)) == document(SYMBOL, wanted)


def test_an_array_goes_by_its_places() -> None:
    """F18: the names of an array's elements mean nothing."""
    items = field(0x0E, "1", b"\2\0\0\0a\0") + field(0x10, "0", b"\1\0\0\0")
    array = field(0x04, "list", (len(items) + 5).to_bytes(4, "little") + items + b"\0")

    def append(found: dict[str, Any]) -> dict[str, Any]:
        assert found["list"] == ["a", 1]
        found["list"].append(2)
        return found

    changed = through(document(array), code(append))
    assert isinstance(changed, bytes)
    assert bson.decode(changed)["list"] == ["a", 1, 2]
    assert b"\x0e0\0" in changed  # still a symbol, in its place


@needs_corpus
@pytest.mark.parametrize("function", [owncode.same, add])
def test_the_corpus_goes_through(function: Callable[[dict[str, Any]], Any]) -> None:
    """F18: whatever decoders must take keeps its bytes; what Python cannot decode is rejected."""
    seen = 0
    for case in valid_bson():
        raw = document(case.bson[4:-1])
        if b"\0_id\0" in raw[10:] or walk(raw).documents != 1:
            continue
        found = through(raw, code(function))
        if isinstance(found, Rejected):
            assert found.code == "ETRANSFORM010", case.name
            continue
        seen += 1
        rest = b"" if function is owncode.same else field(0x10, "added", b"\1\0\0\0")
        assert found == document(case.bson[4:-1], rest), case.name
    assert seen > 100


def test_types_are_those_of_the_driver() -> None:
    """F18: dates are aware, in UTC; a UUID is one; 64 bits stay 64."""
    when, uuid = datetime(2026, 1, 2, tzinfo=UTC), UUID(int=7)
    raw = bson.encode({"_id": 1, "w": when, "l": Int64(5), "d": Decimal128("1.0")})

    def look(found: dict[str, Any]) -> dict[str, Any]:
        assert found["w"] == when
        assert type(found["l"]) is Int64
        return {**found, "u": uuid, "l2": found["l"] + Int64(1)}

    changed = through(raw, code(look))
    assert isinstance(changed, bytes)
    assert changed[4:].startswith(raw[4:-1])
    assert bson.decode(changed)["u"].as_uuid() == uuid


@pytest.mark.parametrize(
    ("do", "wanted"),
    [
        ("raise", "ETRANSFORM011"),
        ("leave", "ETRANSFORM011"),
        ("interrupt", "ETRANSFORM011"),
        ("speechless", "ETRANSFORM011"),
        ("none", "ETRANSFORM012"),
        ("list", "ETRANSFORM012"),
        ("other_id", "ETRANSFORM013"),
        ("no_id", "ETRANSFORM013"),
        ("set", "ETRANSFORM014"),
        ("large", "ETRANSFORM015"),
    ],
)
def test_what_is_no_result_is_rejected(do: str, wanted: str) -> None:
    """A15: each with a code of its own."""
    raw = bson.encode({"_id": 1, "do": do, "secret": "hunter2"})
    found = through(raw, code(owncode.as_told))
    assert isinstance(found, Rejected)
    assert found.code == wanted


def test_reasons_hold_nothing_of_the_document() -> None:
    """A15: type, place and message; neither what is quoted nor what the document holds."""
    raw = bson.encode({"_id": 1, "do": "raise", "secret": "hunter2"})
    found = through(raw, code(owncode.as_told))
    assert isinstance(found, Rejected)
    assert found.why.startswith("ValueError: no '…' … here (_raises, line ")
    assert "hunter2" not in found.why

    def talks(_: dict[str, Any]) -> None:
        raise ValueError("word " * 1000)

    long = through(raw, code(talks))
    assert isinstance(long, Rejected)
    assert len(long.why) < MAX_WHY + 40


def test_a_model_says_which_field() -> None:
    """A15: where and how it does not fit, never what it holds."""
    model = owncode.Numbered
    for value, why in (
        (5, ""),
        ("hunter2", "Numbered: n: int_parsing"),
        (1 << 40, "Numbered: n: value_error"),
        (owncode.LEAVES, "Numbered: SystemExit"),
    ):
        raw = bson.encode({"_id": 1, "n": value})
        found = through(raw, code(None, model))
        assert found == (Rejected("ETRANSFORM016", why) if why else raw)
    missing = through(bson.encode({"_id": 1}), code(owncode.same, model))
    assert missing == Rejected("ETRANSFORM016", "Numbered: n: missing")


def test_what_python_cannot_read_is_rejected() -> None:
    """A15: it stays as it is, beside the others."""
    raw = document(field(0x02, "s", b"\2\0\0\0\xff\0"))
    found = through(raw, code(owncode.same))
    assert isinstance(found, Rejected)
    assert found.code == "ETRANSFORM010"


def test_memory_is_not_the_documents_fault() -> None:
    """F3: it is tried alone, elsewhere."""

    def greedy(_: dict[str, Any]) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        through(document(), code(greedy))
