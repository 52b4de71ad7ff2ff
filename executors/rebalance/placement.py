"""The placement file: which endpoint holds which key range of a collection. It is the truth.

    {"schema": "ferrylog.placement/1", "ns": "shop.orders", "ranges": [
        {"lower": null, "upper": {"$oid": "…"}, "endpoint": "a"},
        {"lower": {"$oid": "…"}, "upper": null, "endpoint": "b"}]}

Ranges hold their lower boundary and not their upper; null is open. Boundaries are Extended JSON,
or `{"$bson": "bson:…"}` where that cannot say them. The ranges cover the whole key space in order,
without a gap. The file is replaced as a whole: readers see it before a switch, or after.
"""

import base64
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

from executors.boundaries import from_json, from_key, from_text, to_key
from executors.chunkfile import fresh_file, sync_directory
from executors.increments.keyorder import order
from executors.rebalance.errors import BadPlacement
from statemachine.words import Key

SCHEMA: Final = "ferrylog.placement/1"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""Of an endpoint."""
MAX_BYTES: Final = 64 << 20
"""Of the file: a million ranges."""
_ABOVE_ALL: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Placed:
    """One range and who holds it."""

    lower: Key | None
    upper: Key | None
    endpoint: str


@dataclass(frozen=True, slots=True)
class Placement:
    namespace: str
    ranges: tuple[Placed, ...]
    """In order, from open to open, without a gap."""


def begin(lower: Key | None) -> bytes:
    """Where a range begins, to compare with `end` and with others."""
    return b"" if lower is None else order(bytes(from_key(lower).raw))


def end(upper: Key | None) -> bytes:
    return _ABOVE_ALL if upper is None else order(bytes(from_key(upper).raw))


def owners(placement: Placement, lower: Key | None, upper: Key | None) -> list[str]:
    """Who holds something of the range, each once, in the order of keys."""
    held = [
        each.endpoint
        for each in placement.ranges
        if begin(each.lower) < end(upper) and begin(lower) < end(each.upper)
    ]
    return list(dict.fromkeys(held))


def moved(placement: Placement, lower: Key | None, upper: Key | None, to: str) -> Placement:
    """The same with the range at that endpoint; neighbours at one endpoint become one range."""
    cut: list[Placed] = []
    for each in placement.ranges:
        if begin(each.lower) < begin(lower):
            ends = each.upper if end(each.upper) <= begin(lower) else lower
            cut.append(Placed(each.lower, ends, each.endpoint))
        if end(upper) < end(each.upper):
            begins = each.lower if end(upper) <= begin(each.lower) else upper
            cut.append(Placed(begins, each.upper, each.endpoint))
    cut.append(Placed(lower, upper, to))
    cut.sort(key=lambda each: begin(each.lower))
    joined = (list(group) for _, group in groupby(cut, key=lambda each: each.endpoint))
    ranges = (Placed(each[0].lower, each[-1].upper, each[0].endpoint) for each in joined)
    return Placement(placement.namespace, tuple(ranges))


# --- the file ---


def read(path: Path) -> Placement:
    """Raises `BadPlacement`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
        placement = parsed(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise BadPlacement(str(path), error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise BadPlacement(str(path), str(error)) from None
    return placement


def parsed(found: Any) -> Placement:
    """The content of such a file. Raises `ValueError`."""
    _must_have(found, {"schema", "ns", "ranges"}, "the file")
    if found["schema"] != SCHEMA:
        raise ValueError(f"its schema is {found['schema']!r}, not {SCHEMA}")
    if not isinstance(found["ns"], str) or not all(found["ns"].partition(".")):
        raise ValueError(f"ns is to be db.collection, not {found['ns']!r}")
    if not isinstance(found["ranges"], list):
        raise ValueError("ranges is no list")  # noqa: TRY004 — of what was typed
    ranges = tuple(_placed(each, number) for number, each in enumerate(found["ranges"], 1))
    _must_cover(ranges)
    return Placement(found["ns"], ranges)


def as_json(placement: Placement) -> dict[str, Any]:
    ranges = [
        {"lower": shown(each.lower), "upper": shown(each.upper), "endpoint": each.endpoint}
        for each in placement.ranges
    ]
    return {"schema": SCHEMA, "ns": placement.namespace, "ranges": ranges}


def write(path: Path, placement: Placement) -> None:
    """Replace the file, readable for whom it was; durable when this returns. Raises `OSError`."""
    path = path.resolve()
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(as_json(placement), indent=1, ensure_ascii=False)
    with fresh_file(temporary) as file:
        os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        file.write(text.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Whoever changes a placement file of this directory waits for its turn. Raises `OSError`."""
    fd = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


# --- keys for people ---


def key_of(value: Any) -> Key | None:
    """A boundary as somebody typed it, in Extended JSON; null is open. Raises `ValueError`."""
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() == {"$bson"}:
        return to_key(bytes(from_key(Key(str(value["$bson"]))).raw))
    return to_key(from_text(from_json(json.dumps({"_id": value}))))


def shown(key: Key | None) -> Any:
    """The same, as JSON data."""
    if key is None:
        return None
    value = None if key.startswith("bson:") else json.loads(key)
    if value is not None:
        return value
    return {"$bson": f"bson:{base64.b64encode(from_key(key).raw).decode()}"}  # `null` is open


def said(lower: Key | None, upper: Key | None) -> str:
    """A range in words."""
    return f"[{'…' if lower is None else lower}, {'…' if upper is None else upper})"


def _placed(found: Any, number: int) -> Placed:
    _must_have(found, {"lower", "upper", "endpoint"}, f"range {number}")
    endpoint = found["endpoint"]
    if not isinstance(endpoint, str) or not NAME.fullmatch(endpoint):
        raise ValueError(f"range {number} has no name of an endpoint")
    return Placed(key_of(found["lower"]), key_of(found["upper"]), endpoint)


def _must_have(found: Any, names: set[str], what: str) -> None:
    if not isinstance(found, dict) or found.keys() != names:
        raise ValueError(f"{what} is to have {', '.join(sorted(names))}, and nothing else")


def _must_cover(ranges: tuple[Placed, ...]) -> None:
    if not ranges or ranges[0].lower is not None or ranges[-1].upper is not None:
        raise ValueError("its ranges do not begin and end with null")
    for number, (one, other) in enumerate(pairwise(ranges), 1):
        if one.upper is None or other.lower is None or end(one.upper) != begin(other.lower):
            raise ValueError(f"range {number + 1} does not begin where range {number} ends")
    for number, each in enumerate(ranges, 1):
        if begin(each.lower) >= end(each.upper):
            raise ValueError(f"range {number} is empty")
