"""Events to bytes and back, and the hash that chains them."""

import json
import struct
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Annotated, Final, get_args

from pydantic import Field, TypeAdapter, ValidationError

from journal.upcast import STEPS, stamp, upcast
from statemachine.events import AnyEvent

_EVENTS: TypeAdapter[list[AnyEvent]] = TypeAdapter(
    list[Annotated[AnyEvent, Field(discriminator="kind")]]
)
_HEAD: Final = struct.Struct("<qqq4q")

GENESIS: Final = b"\0" * 32
"""The hash before a job's first event."""


@cache
def known_kinds() -> frozenset[str]:
    """Every kind that this ferrylog writes and reads."""
    classes = [cls for part in get_args(AnyEvent) for cls in (get_args(part) or (part,))]
    return frozenset(
        kind for cls in classes for kind in get_args(cls.model_fields["kind"].annotation)
    )


def encode(event: AnyEvent) -> bytes:
    """The event's fields as JSON, its kind left out (a column of its own)."""
    rest = type(event).__pydantic_serializer__.to_json(event)[len(_front(event.kind)) :]
    data = b"{" + rest[1:] if len(rest) > 1 else b"{}"
    return stamp(event.kind, data) if event.kind in STEPS else data


def decode(rows: Sequence[tuple[str, bytes]]) -> list[AnyEvent]:
    """The events of `(kind, data)` rows. Raises `NoEvent` for the first that is none.

    One call for many rows: the validator costs half as much on a list.
    """
    try:
        items = b",".join([_whole(kind, data) for kind, data in rows])
        events = _EVENTS.validate_json(b"[" + items + b"]")
        if len(events) == len(rows):
            return events
        raise ValueError("more than one event")
    except ValueError as error:  # a ValidationError is one
        if len(rows) == 1:
            raise NoEvent(0, _why(rows[0][0], error)) from None
    for at, row in enumerate(rows):
        try:
            decode([row])
        except NoEvent as bad:
            raise NoEvent(at, bad.why) from None
    raise AssertionError("together no events, one by one events")


class NoEvent(ValueError):
    """The row at this index holds no event that this ferrylog knows."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index
        self.why = why


def _why(kind: str, error: ValueError) -> str:
    if kind not in known_kinds():
        return f"unknown kind {kind!r}"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'][2:]))}: {first['msg']}"


def _whole(kind: str, data: bytes) -> bytes:
    if kind in STEPS:
        data = upcast(kind, data)
    return b"%s}" % _front(kind) if data == b"{}" else b"%s,%s" % (_front(kind), data[1:])


@cache
def _front(kind: str) -> bytes:
    """How the JSON of an event begins: its kind is always the first field."""
    return b'{"kind":' + json.dumps(kind).encode()


def chain(
    before: bytes,
    *,
    job: str,
    version: int,
    epoch: int,
    recorded_at_ms: int,
    kind: str,
    entity: str,
    data: bytes,
) -> bytes:
    """SHA-256 over the hash before and every field, each with its length: no two rows collide."""
    return link(before, job.encode(), version, epoch, recorded_at_ms, kind, entity, data)


def link(
    before: bytes,
    job: bytes,
    version: int,
    epoch: int,
    recorded_at_ms: int,
    kind: str,
    entity: str,
    data: bytes,
) -> bytes:
    """See `chain`."""
    k, e = kind.encode(), entity.encode()
    head = _HEAD.pack(version, epoch, recorded_at_ms, len(job), len(k), len(e), len(data))
    return sha256(b"".join((before, head, job, k, e, data))).digest()
