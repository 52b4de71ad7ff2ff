"""The bytes of what a document was decoded for and nobody changed.

To decode a document and encode it again may change what nobody touched: a symbol becomes a string,
one of two fields of the same name is gone. So what comes back equal to what a mere round trip
makes of a field gets the field's own bytes.
"""

from collections.abc import Iterator
from typing import Final

from executors.rawbson import elements, wrap

_DOCUMENT, _ARRAY = 0x03, 0x04
_NESTED: Final = (_DOCUMENT, _ARRAY)


def untouched(raw: bytes, told: bytes, result: bytes) -> bytes:
    """`result` with the bytes of `raw` wherever it is what `told` is: `raw`, decoded and encoded.

    Fields that share a name stay together, or are replaced together.
    """
    if result == told:
        return raw
    return result if told == raw else _merged(raw, told, result, _DOCUMENT)


def _merged(raw: bytes, told: bytes, result: bytes, kind: int) -> bytes:
    before, between = _by_name(raw, kind), _by_name(told, kind)
    body = []
    for name, element in _named(result, kind):
        mine, its = before.get(name, []), between.get(name)
        if its == [element]:
            body.append(b"".join(mine))
        elif its is not None and len(mine) == 1 and _alike(mine[0], its[0], element):
            body.append(_inside(mine[0], its[0], element))
        else:
            body.append(element)
    return wrap(b"".join(body))


def _alike(*of: bytes) -> bool:
    """Whether one can look inside all three together."""
    return of[0][0] in _NESTED and len({each[0] for each in of}) == 1


def _inside(raw: bytes, told: bytes, result: bytes) -> bytes:
    values = [each[each.index(b"\0", 1) + 1 :] for each in (raw, told, result)]
    head = result[: result.index(b"\0", 1) + 1]
    return head + _merged(values[0], values[1], values[2], result[0])


def _by_name(document: bytes, kind: int) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, element in _named(document, kind):
        found.setdefault(name, []).append(element)
    return found


def _named(document: bytes, kind: int) -> Iterator[tuple[bytes, bytes]]:
    """Names and whole elements; those of an array have their places as names, whatever is
    written."""
    for place, (type_, name, begin, end) in enumerate(elements(document)):
        if kind == _ARRAY:
            name = b"%d" % place  # noqa: PLW2901 — the one it should have
        yield name, b"%c%b\0%b" % (type_, name, document[begin:end])
