"""BSON made by hand: one document for each kind of flaw, and odd ones that have none."""

import struct
from typing import NamedTuple

from executors.flaws import Code

MINUS_ONE = b"\xff\xff\xff\xff"


def i32(number: int) -> bytes:
    return struct.pack("<i", number)


def document(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return i32(len(body) + 5) + body + b"\0"


def text(value: bytes) -> bytes:
    return i32(len(value) + 1) + value + b"\0"


def binary(subtype: int, value: bytes, length: int | None = None) -> bytes:
    return i32(len(value) if length is None else length) + bytes([subtype]) + value


def old_binary(inside: int, value: bytes) -> bytes:
    return binary(2, i32(inside) + value)


def scoped(scope: bytes, length: int | None = None) -> bytes:
    """A code with scope."""
    rest = text(b"x") + scope
    return i32(len(rest) + 4 if length is None else length) + rest


ID = b"\x10_id\0\1\0\0\0"
"""`_id: 1`, 9 bytes: the next element begins at 13, and its value, with a name of one, at 16."""


def field(kind: int, value: bytes, name: bytes = b"a") -> bytes:
    """`{_id: 1, a: value}`."""
    return document(ID, bytes([kind]) + name + b"\0" + value)


def with_id(kind: int, value: bytes) -> bytes:
    return document(bytes([kind]) + b"_id\0" + value)


def nested(levels: int, kind: int = 0x03) -> bytes:
    """So many documents in one another below the outermost."""
    inner = document()
    for _ in range(levels - 1):
        inner = document(bytes([kind]) + b"0\0" + inner)
    return field(kind, inner)


def sized(size: int) -> bytes:
    """A document of so many bytes."""
    return field(0x05, binary(0, bytes(size - len(field(0x05, binary(0, b""))))))


class Flawed(NamedTuple):
    code: Code
    at: int
    path: str
    why: str
    document: bytes


C = Code
ENVELOPES = {
    "nothing": Flawed(C.CUT_LENGTH, 0, "", "4 bytes expected, 0 left", b""),
    "half a length": Flawed(C.CUT_LENGTH, 0, "", "4 bytes expected, 2 left", b"\5\0"),
    "length 0": Flawed(C.TOO_SHORT, 0, "", "document length 0", bytes(5)),
    "length 4": Flawed(C.TOO_SHORT, 0, "", "document length 4", i32(4) + b"\0"),
    "length -1": Flawed(C.TOO_SHORT, 0, "", "document length -1", MINUS_ONE + b"\0"),
    "length 2^31-1": Flawed(C.TOO_LONG, 0, "", "length 2147483647", i32(2**31 - 1) + bytes(9)),
    "over 16 MiB + 16 KiB": Flawed(C.TOO_LONG, 0, "", "16793600 is the most", i32(16793601)),
    "cut": Flawed(C.CUT, 0, "", "length 14, 13 bytes left", document(ID)[:-1]),
    "no NUL at its end": Flawed(
        C.NO_END, 13, "", "14 bytes ends with 0x70, not with NUL", document(ID)[:-1] + b"\x70"
    ),
}
"""What is seen without a look inside."""

FLAWED = ENVELOPES | {
    "bytes behind": Flawed(C.SURPLUS, 14, "", "4 bytes behind", document(ID) + b"\xde\xad\xbe\xef"),
    "type 0x77": Flawed(C.TYPE, 16, "a", "element type 0x77", field(0x77, b"")),
    "type 0x14": Flawed(C.TYPE, 16, "a", "element type 0x14", field(0x14, b"")),
    "type 0x80": Flawed(C.TYPE, 16, "a", "element type 0x80", field(0x80, b"")),
    "name without end": Flawed(
        C.NAME, 14, "aaaa", "name without end, 4 bytes left", document(ID, b"\x0aaaaa")
    ),
    "type and no name": Flawed(C.NAME, 14, "", "name without end, 0", document(ID, b"\x0a")),
    "double cut": Flawed(C.VALUE, 16, "a", "8 bytes expected, 7 left", field(0x01, bytes(7))),
    "ObjectId cut": Flawed(C.VALUE, 16, "a", "12 bytes expected, 3 left", field(0x07, bytes(3))),
    "boolean cut": Flawed(C.VALUE, 16, "a", "1 byte expected, 0 left", field(0x08, b"")),
    "date cut": Flawed(C.VALUE, 16, "a", "8 bytes expected, 1 left", field(0x09, b"1")),
    "int32 cut": Flawed(C.VALUE, 16, "a", "4 bytes expected, 3 left", field(0x10, bytes(3))),
    "timestamp cut": Flawed(C.VALUE, 16, "a", "8 bytes expected, 4 left", field(0x11, bytes(4))),
    "int64 cut": Flawed(C.VALUE, 16, "a", "8 bytes expected, 0 left", field(0x12, b"")),
    "decimal cut": Flawed(C.VALUE, 16, "a", "16 bytes expected, 15", field(0x13, bytes(15))),
    "string length cut": Flawed(C.VALUE, 16, "a", "4 bytes expected, 2", field(0x02, b"\1\0")),
    "string length 0": Flawed(C.STRING_LENGTH, 16, "a", "string length 0", field(0x02, i32(0))),
    "string length -1": Flawed(
        C.STRING_LENGTH, 16, "a", "string length -1", field(0x02, MINUS_ONE)
    ),
    "string beyond": Flawed(
        C.STRING_LENGTH, 16, "a", "string length 9, 3 bytes left", field(0x02, i32(9) + b"ab\0")
    ),
    "string eats the end": Flawed(
        C.STRING_LENGTH, 16, "a", "string length 3, 2 bytes left", field(0x02, i32(3) + b"a\0")
    ),
    "string without NUL": Flawed(
        C.STRING_END, 21, "a", "string of 2 bytes ends with 0x62", field(0x02, i32(2) + b"ab")
    ),
    "long string without NUL": Flawed(
        C.STRING_END, 119, "a", "ends with 0x61", field(0x02, i32(100) + b"a" * 100)
    ),
    "code without NUL": Flawed(C.STRING_END, 20, "a", "0x62", field(0x0D, i32(1) + b"b")),
    "symbol without NUL": Flawed(C.STRING_END, 20, "a", "0x62", field(0x0E, i32(1) + b"b")),
    "DBPointer's string": Flawed(
        C.STRING_LENGTH, 16, "a", "string length 0", field(0x0C, i32(0) + bytes(12))
    ),
    "DBPointer cut": Flawed(
        C.VALUE, 22, "a", "12 bytes expected, 11 left", field(0x0C, text(b"x") + bytes(11))
    ),
    "binary length cut": Flawed(C.VALUE, 16, "a", "5 bytes expected, 4", field(0x05, bytes(4))),
    "binary length -1": Flawed(
        C.BINARY_LENGTH, 16, "a", "binary length -1", field(0x05, binary(0, b"", -1))
    ),
    "binary beyond": Flawed(
        C.BINARY_LENGTH, 16, "a", "length 3, 2 bytes left", field(0x05, binary(0, b"ab", 3))
    ),
    "nested length cut": Flawed(C.VALUE, 16, "a", "4 bytes expected, 1", field(0x03, b"\5")),
    "nested length 4": Flawed(
        C.NESTED_LENGTH, 16, "a", "nested document length 4", field(0x03, i32(4) + b"\0")
    ),
    "nested length -1": Flawed(
        C.NESTED_LENGTH, 16, "a", "nested document length -1", field(0x03, MINUS_ONE + b"\0")
    ),
    "nested beyond": Flawed(
        C.NESTED_LENGTH, 16, "a", "length 64, 5 bytes left", field(0x03, i32(64) + b"\0")
    ),
    "nested eats the end": Flawed(
        C.NESTED_LENGTH, 16, "a", "length 6, 5 bytes left", field(0x04, i32(6) + b"\0")
    ),
    "nested ends early": Flawed(
        C.NESTED_END,
        20,
        "a",
        "elements end 1 byte before",
        field(0x03, i32(6) + b"\0\0"),
    ),
    "nested without NUL": Flawed(
        C.NESTED_END, 20, "a", "5 bytes ends with 0x01", field(0x03, i32(5) + b"\1")
    ),
    "ends early": Flawed(
        C.NESTED_END,
        13,
        "",
        "elements end 3 bytes before",
        document(ID, bytes(3)),
    ),
    "flaw in a nested one": Flawed(
        C.BOOLEAN,
        30,
        "a.1.b",
        "boolean 7",
        field(0x03, document(b"\x031\0" + document(b"\x08b\0\7"))),
    ),
    "boolean 7": Flawed(C.BOOLEAN, 16, "a", "boolean 7", field(0x08, b"\7")),
    "pattern without end": Flawed(C.REGEX, 16, "a", "end of its pattern", field(0x0B, b"x")),
    "options without end": Flawed(C.REGEX, 16, "a", "end of its options", field(0x0B, b"x\0i")),
    "code with scope of -1": Flawed(
        C.SCOPE, 16, "a", "code with scope of length -1", field(0x0F, scoped(document(), -1))
    ),
    "code with scope too short": Flawed(
        C.SCOPE, 16, "a", "code with scope of length 8", field(0x0F, scoped(document(), 8))
    ),
    "code with scope beyond": Flawed(
        C.SCOPE, 16, "a", "length 16, 15 bytes left", field(0x0F, scoped(document(), 16))
    ),
    "scope ends early": Flawed(
        C.SCOPE, 26, "a", "scope of length 5 in 6", field(0x0F, scoped(document() + b"\0"))
    ),
    "scope ends late": Flawed(
        C.SCOPE, 26, "a", "scope of length 14 in 13", field(0x0F, scoped(document(ID), 23))
    ),
    "scope without NUL": Flawed(
        C.NESTED_END, 30, "a", "ends with 0x01", field(0x0F, scoped(i32(5) + b"\1"))
    ),
    "181 documents deep": Flawed(C.DEPTH, 1273, "a.0.0.", "180 documents", nested(181)),
    "181 arrays deep": Flawed(C.DEPTH, 1273, "a.0.0.", "180 documents", nested(181, 0x04)),
    "50000 deep": Flawed(C.DEPTH, 1273, "a.0.0.", "180 documents", nested(50_000)),
    "_id an array": Flawed(C.ARRAY_ID, 4, "_id", "_id is an array", with_id(0x04, document())),
    "_id undefined": Flawed(C.BAD_ID, 4, "_id", "_id is undefined", with_id(0x06, b"")),
    "_id a regex": Flawed(C.BAD_ID, 4, "_id", "regular expression", with_id(0x0B, b"a\0\0")),
    "_id an array, further back": Flawed(
        C.ARRAY_ID,
        17,
        "_id",
        "_id is an array",
        document(b"\x10user_id\0\1\0\0\0", b"\x04_id\0" + document()),
    ),
    "one of them MinKey": Flawed(
        C.TWO_IDS, 13, "_id", "2 fields named _id", document(ID, b"\xff_id\0")
    ),
    "two of them": Flawed(C.TWO_IDS, 13, "_id", "2 fields named _id", document(ID, ID)),
    "old binary, longer inside": Flawed(
        C.OLD_BINARY, 16, "a", "length 9 inside 7 bytes", field(0x05, old_binary(9, b"abc"))
    ),
    "old binary, shorter inside": Flawed(
        C.OLD_BINARY, 16, "a", "length 1 inside 7 bytes", field(0x05, old_binary(1, b"abc"))
    ),
    "old binary, -1 inside": Flawed(
        C.OLD_BINARY, 16, "a", "length -1 inside", field(0x05, old_binary(-1, b"abc"))
    ),
    "old binary without room": Flawed(
        C.OLD_BINARY, 16, "a", "2 bytes, 4 are the least", field(0x05, binary(2, b"ab"))
    ),
    "structure before the rest": Flawed(
        C.BOOLEAN,
        27,
        "c",
        "boolean 2",
        document(b"\x04_id\0" + document(), b"\x05b\0" + binary(2, b"ab"), b"\x08c\0\2"),
    ),
}

SOUND = {
    "nothing in it": document(),
    "no _id": document(b"\x10a\0\1\0\0\0"),
    "double": field(0x01, bytes(8)),
    "undefined": field(0x06, b""),
    "ObjectId": field(0x07, bytes(12)),
    "booleans": document(ID, b"\x08a\0\0", b"\x08b\0\1"),
    "null": field(0x0A, b""),
    "regex": field(0x0B, b"x\0i\0"),
    "regex with unknown options": field(0x0B, b"x\0zq\0"),
    "DBPointer": field(0x0C, text(b"x") + bytes(12)),
    "code": field(0x0D, text(b"x")),
    "symbol": field(0x0E, text(b"x")),
    "code with scope": field(0x0F, scoped(document(ID))),
    "int32": field(0x10, bytes(4)),
    "timestamp": field(0x11, b"12345678"),
    "int64": field(0x12, bytes(8)),
    "MaxKey": field(0x7F, b""),
    "MinKey": field(0xFF, b""),
    "NaN decimal": field(0x13, bytes(15) + b"\x7c"),
    "short string": field(0x02, text(b"x" * 63)),
    "long string": field(0x02, text(b"x" * 64)),
    "longer string": field(0x02, text(b"x" * 1000)),
    "NUL in a string": field(0x02, text(b"a\0b")),
    "binary": field(0x05, binary(0, b"abc")),
    "empty binary": field(0x05, binary(0, b"")),
    "old binary": field(0x05, old_binary(3, b"abc")),
    "UUID of 3 bytes": field(0x05, binary(4, b"abc")),
    "empty encrypted": field(0x05, binary(6, b"")),
    "invalid UTF-8": field(0x02, text(b"\xff\xfe")),
    "name of invalid UTF-8": field(0x0A, b"", name=b"\xff"),
    "date beyond 9999": field(0x09, struct.pack("<q", 2**62)),
    "a name twice": document(ID, b"\x0aa\0", b"\x0aa\0"),
    "a dollar": field(0x0A, b"", name=b"$set"),
    "a dot": field(0x0A, b"", name=b"a.b"),
    "no name": field(0x0A, b"", name=b""),
    "an array with odd names": field(0x04, document(b"\x0ax\0", b"\x0ax\0", b"\x0a\0")),
    "180 documents deep": nested(180),
    "180 arrays deep": nested(180, 0x04),
    "a nested _id that is an array": field(0x03, document(b"\x04_id\0" + document())),
    "an _id with a regex inside": with_id(0x03, document(b"\x0ba\0a\0\0")),
    "16 MiB": sized(16 << 20),
}
"""What servers store to the byte, or, without `_id`, with one of theirs."""

IDS = {
    kind: with_id(kind, value)
    for kind, value in {
        0x01: bytes(8),
        0x02: text(b"a"),
        0x03: document(),
        0x05: binary(0, b"a"),
        0x07: bytes(12),
        0x08: b"\1",
        0x09: bytes(8),
        0x0A: b"",
        0x0C: text(b"x") + bytes(12),
        0x0D: text(b"x"),
        0x0E: text(b"x"),
        0x0F: scoped(document()),
        0x10: bytes(4),
        0x11: bytes(8),
        0x12: bytes(8),
        0x13: bytes(16),
        0x7F: b"",
        0xFF: b"",
    }.items()
}
"""An `_id` of each type that servers take."""
