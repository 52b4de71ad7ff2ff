"""What an update changed, applied to a document: the `$v: 2` diffs of servers, byte for byte.

A diff of a document has the sections `d` (fields that go), `u` (fields that change, and stay where
they stand), `i` (fields that are put behind all others) and `s<name>` (a diff of what lies there);
of an array `a: true`, perhaps `l` (its new length), `u<index>` and `s<index>` in their order.

The rules are those by which secondaries apply the oplog (`document_diff_applier.cpp`), and so is
the promise: a diff that meets a document other than the one it was made of (a later one, of a
sequence that is applied again) does what it can, and the whole sequence leads to the same end.
"""

from typing import Final, NamedTuple

from executors.rawbson import elements, int32

DOCUMENT: Final = 0x03
ARRAY: Final = 0x04
NULL: Final = 0x0A


class _Change(NamedTuple):
    """What becomes of one field; of `d` nothing, of `s` a diff of its value."""

    how: bytes
    kind: int = NULL
    value: bytes = b""


def patched(document: bytes, diff: bytes) -> bytes:
    """The document after the diff (`rawUpdateDescription.diff`); both raw BSON.

    Raises `ValueError` for a diff of a form that is not known here.
    """
    changes = _changes(diff)
    placed = set[bytes]()
    pieces: list[bytes] = []
    for kind, name, begin, end in elements(document):
        change = changes.get(name)
        if change is None:
            pieces.append(_element(kind, name, document[begin:end]))
        elif change.how == b"u":
            pieces.append(_element(change.kind, name, change.value))
            placed.add(name)
        elif change.how == b"s":
            pieces.append(_element(*_inside(kind, name, document[begin:end], change)))
    for name, change in changes.items():
        if change.how in (b"u", b"i") and name not in placed:
            pieces.append(_element(change.kind, name, change.value))
    return _whole(pieces)


def _changes(diff: bytes) -> dict[bytes, _Change]:
    """By field; in the order in which new ones are added: of `u` before those of `i`."""
    found: dict[bytes, dict[bytes, _Change]] = {b"d": {}, b"u": {}, b"i": {}, b"s": {}}
    for kind, name, begin, end in elements(diff):
        if name in (b"d", b"u", b"i"):
            for inner, field, value, after in elements(diff, begin, end):
                found[name][field] = _Change(name, inner, diff[value:after])
        elif name[:1] == b"s" and kind == DOCUMENT:
            found[b"s"][name[1:]] = _Change(b"s", kind, diff[begin:end])
        else:
            raise ValueError(f"an update in a form that is not known: section {name!r}")
    return found[b"d"] | found[b"u"] | found[b"i"] | found[b"s"]


def _patched_array(array: bytes, diff: bytes) -> bytes:
    """Too short an array grows by nulls."""
    length, changes = _array_changes(diff)
    pieces: list[bytes] = []
    for index, (kind, _, begin, end) in enumerate(elements(array)):
        if length is not None and index >= length:
            break
        change = changes.pop(index, None)
        element = (kind, b"%d" % index, array[begin:end])
        if change is not None and change.how == b"u":
            element = (change.kind, element[1], change.value)
        elif change is not None:
            element = _inside(*element, change)
        pieces.append(_element(*element))
    end = max([length or 0, *(index + 1 for index in changes)])
    for index in range(len(pieces), end):
        change = changes.get(index)
        new = (change.kind, change.value) if change and change.how == b"u" else (NULL, b"")
        pieces.append(_element(new[0], b"%d" % index, new[1]))
    return _whole(pieces)


def _array_changes(diff: bytes) -> tuple[int | None, dict[int, _Change]]:
    """The new length, if it has one, and what changes at which index."""
    length, changes = None, dict[int, _Change]()
    for kind, name, begin, end in elements(diff):
        if name == b"l":
            length = int32(diff, begin)[0]
        elif name[:1] in (b"u", b"s"):
            changes[int(name[1:])] = _Change(name[:1], kind, diff[begin:end])
        elif name != b"a":
            raise ValueError(f"an update of an array in a form that is not known: {name!r}")
    return length, changes


def _inside(kind: int, name: bytes, value: bytes, change: _Change) -> tuple[int, bytes, bytes]:
    """The field with the diff of what it holds applied; null where it holds something of another
    type: the diff comes again then, and a later one brings what it holds in the end."""
    array = _is_of_array(change.value)
    if kind == DOCUMENT and not array:
        return kind, name, patched(value, change.value)
    if kind == ARRAY and array:
        return kind, name, _patched_array(value, change.value)
    return NULL, name, b""


def _is_of_array(diff: bytes) -> bool:
    return next((name == b"a" for _, name, _, _ in elements(diff)), False)


def _element(kind: int, name: bytes, value: bytes) -> bytes:
    return b"%c%b\0%b" % (kind, name, value)


def _whole(pieces: list[bytes]) -> bytes:
    """The elements as a document."""
    body = b"".join(pieces)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"
