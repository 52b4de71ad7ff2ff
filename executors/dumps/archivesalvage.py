"""What is whole of an archive that is damaged."""

import re
from collections.abc import Iterator
from typing import Final

from executors.dumps.archive import END, Body, Entry, Prelude, Run
from executors.dumps.archivestream import Source
from executors.dumps.errors import DamagedDump
from executors.dumps.model import Damage
from executors.rawbson import int32
from executors.structure import LARGEST, resync

SEARCHED: Final = 3 * LARGEST
"""Bytes that are held to find where whole documents begin again: what can be two of them, behind
the one that is damaged."""
_FIRST_FIELD: Final = re.compile(rb"\x02db\0")
_LONGEST_HEAD: Final = 1 << 16
"""Bytes; a namespace has 255, and was stored by servers that knew no limit."""


def salvaged(source: Source, prelude: Prelude, damage: list[Damage]) -> Iterator[Run]:
    """As `Body.runs`, but damage is passed over and told in `damage`.

    All documents are sound inside. Behind damage, documents belong to the block in which it lies
    until another block begins.
    """
    body = Body(source, prelude, deep=True)
    inside: Entry | None = None
    while inside or not source.at_end():
        try:
            if inside:
                yield from body.documents(inside)
                inside = None
            else:
                entry, end = body.head()
                if end:
                    yield end
                else:
                    inside = entry
        except DamagedDump as error:
            at = source.at if error.at is None else min(source.at, error.at)
            if inside:
                body.distrust(inside)
            else:
                source.back_to(at + 1)  # a head may have swallowed what follows it
            if not _find_whole(source, body, inside is not None):
                inside = None
            damage.append(Damage(source.name, at, source.at - at, error.detail, error.why))
    try:
        body.must_be_over()
    except DamagedDump as error:
        damage.append(Damage(source.name, source.at, 0, error.detail, error.why))


def _find_whole(source: Source, body: Body, inside: bool) -> bool:
    """Pass over damage, to the head of a block or, `inside` a block, to where whole documents
    begin again: whether it is these. At worst, to the end."""
    while True:
        data, at = source.window(SEARCHED)
        ended = len(data) - at < SEARCHED
        head = _next_head(data, at, body)
        if inside:
            begin = resync(data, at, _end_of_block(data, head))
            if begin is not None and (ended or begin - at <= LARGEST):
                whole = head is not None or not _is_last(data, begin)
                source.skip_to(begin if whole else len(data))
                return whole
        if head is not None or ended:
            source.skip_to(len(data) if head is None else head)
            return False
        source.skip_to(at + LARGEST)


def _end_of_block(data: bytes, head: int | None) -> int:
    """Where the block ends behind which a head was found, or not."""
    if head is None:
        return len(data)
    return head - 4 if data[head - 4 : head] == END else head


def _is_last(data: bytes, begin: int) -> bool:
    """Whether the archive ends with this document, without an end mark: then it is but a part of
    one that was cut."""
    return len(data) - begin - int32(data, begin)[0] < len(END)


def _next_head(data: bytes, at: int, body: Body) -> int | None:
    for found in _FIRST_FIELD.finditer(data, at + 4):
        begin = found.start() - 4
        size = int32(data, begin)[0]
        if 0 < size <= _LONGEST_HEAD and body.is_head(data[begin : begin + size]):
            return begin
    return None
