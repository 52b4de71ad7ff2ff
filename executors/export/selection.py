"""What of its documents an export holds."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from executors.boundaries import from_text
from executors.export.errors import BadProjection
from executors.rawbson import elements, wrap
from statemachine.events import JobSpec
from statemachine.words import BsonText

NO: Final = (b"\0", bytes(4), bytes(8))
"""`false` and zeros, of any type of number."""
SWITCHES: Final = (0x01, 0x08, 0x10, 0x12)
"""Types of what says yes or no: double, boolean, int32, int64."""


@dataclass(frozen=True, slots=True)
class Projection:
    fields: bytes | None
    """For the server, raw BSON: it leaves `_id` in, by which a read goes on that was cut. `None`:
    whole documents."""
    without_id: bool
    """It is to be taken out afterwards."""


WHOLE: Final = Projection(None, without_id=False)


def projection_of(spec: JobSpec) -> Projection:
    """Raises `BadProjection`."""
    form = spec.export
    return _projection(form.projection) if form is not None and form.projection else WHOLE


@lru_cache(maxsize=16)
def _projection(text: BsonText) -> Projection:
    raw = from_text(text)
    kept: list[bytes] = []
    without_id = False
    for kind, name, begin, end in elements(raw):
        if name == b"_id":
            if kind not in SWITCHES:
                raise BadProjection("of _id it can only say 1 or 0")
            without_id = raw[begin:end] in NO
            if without_id:
                continue
        elif name.startswith(b"_id."):
            raise BadProjection("_id is in it whole or not at all")
        kept.append(raw[begin - len(name) - 2 : end])
    return Projection(wrap(b"".join(kept)) if kept else None, without_id=without_id)
