"""Old shapes of events to today's: history is never rewritten, it is read anew.

The shape of a kind counts up from 1. Events of a later shape carry it as their first field,
`{"shape":2,…`; a step leads from each shape to the next. A golden file of each shape that was
ever released stands in `tests/golden/events`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

Fields = dict[str, Any]
Step = Callable[[Fields], Fields]

STEPS: Final[Mapping[str, tuple[Step, ...]]] = {}
"""By kind: the first step leads from shape 1 to 2, and so on. No shape has changed yet."""


class NewerShape(ValueError):
    """Written by a later ferrylog."""


def stamp(kind: str, data: bytes) -> bytes:
    """Mark the fields of a kind whose shape has changed with today's shape."""
    shape = b'{"shape":%d' % (len(STEPS[kind]) + 1)
    return shape + (b"}" if data == b"{}" else b"," + data[1:])


def upcast(kind: str, data: bytes) -> bytes:
    """The fields in today's shape, without the mark. Raises `ValueError`."""
    steps = STEPS[kind]
    fields = json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError(f"{kind} holds no object")  # noqa: TRY004 — of the data, not of a caller
    shape = fields.pop("shape", 1)
    if not isinstance(shape, int) or not 1 <= shape <= len(steps) + 1:
        raise NewerShape(f"{kind} has shape {shape!r}; this ferrylog knows 1 to {len(steps) + 1}")
    for step in steps[shape - 1 :]:
        fields = step(fields)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
