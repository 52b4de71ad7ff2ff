"""Documents that servers delete by their age: not while they are being restored.

What expires is made without expiry, or with one so far away that it deletes nothing the real
one would keep, and switched on when everything else is done.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import bson
from bson import Decimal128

from executors.batches import TOLERANT
from executors.boundaries import from_text
from statemachine.events import IndexSpec

FAR: Final = 2**31 - 1
"""Seconds: the longest that servers take for an index. It marks what waits to be switched on."""
AFTER: Final = "expireAfterSeconds"


def delayed(index: Mapping[str, Any]) -> dict[str, Any]:
    """The index with its expiry far away."""
    return {**index, AFTER: FAR} if seconds_of(index) is not None else dict(index)


def sleeps(index: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether this is the wanted index with its expiry far away. Servers add to descriptions:
    nothing is compared but what nobody else would choose."""
    asked = {"name": wanted["name"], "key": wanted["key"], AFTER: FAR}
    return all(index.get(name) == value for name, value in asked.items())


def switched_off(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a collection without expiry."""
    return {name: value for name, value in options.items() if name != AFTER}


def seconds_of(index: Mapping[str, Any]) -> int | None:
    """After which an index lets documents expire; `None` when it does not, or when servers make
    something else of what is said (not a number: they take it for `FAR`) or refuse it."""
    value = index.get(AFTER)
    if isinstance(value, Decimal128):
        value = float(value.to_decimal())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < FAR else None


def expires(options: bytes, indexes: Iterable[IndexSpec]) -> bool:
    """Whether a collection of these options (raw BSON) and indexes has anything to switch on."""
    described = (bson.decode(from_text(index.spec), TOLERANT) for index in indexes)
    return AFTER in bson.decode(options, TOLERANT) or any(
        seconds_of(index) is not None for index in described
    )
