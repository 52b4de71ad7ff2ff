"""What is to be moved: read from a plan or from words, or worked out so that all endpoints hold
about as many documents; and cut into ranges of so many documents, by a walk over the `_id` index.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import Range, read_range
from executors.boundaries import to_key
from executors.compare import accepted, fields
from executors.protocol import StopToken
from executors.rawbson import documents
from executors.rebalance.errors import BadMoves, CannotRebalance
from executors.rebalance.model import Move
from executors.rebalance.placement import (
    NAME,
    Placed,
    Placement,
    begin,
    end,
    key_of,
    owners,
    said,
)
from executors.select import split
from executors.survey import Namespace, namespaces
from statemachine.words import Key

SCHEMA: Final = "ferrylog.rebalance-plan/1"
MAX_RANGES: Final = 9999
"""Of one rebalance: each is a job of its own."""
Clients = Mapping[str, MongoClient[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A range, whatever its size, that is to go from one endpoint to another."""

    lower: Key | None
    upper: Key | None
    source: str
    target: str


# --- what somebody asks for ---


def of_words(text: str) -> Wanted:
    """`LOWER:UPPER:FROM:TO`; boundaries in Extended JSON, an open one empty or null. Raises
    `BadMoves`."""
    bounds, _, target = text.rpartition(":")
    bounds, _, source = bounds.rpartition(":")
    try:
        lower, rest = _typed(bounds)
        if not rest.startswith(":"):
            raise ValueError("it is to be LOWER:UPPER:FROM:TO")
        upper, rest = _typed(rest[1:])
        if rest:
            raise ValueError(f"{rest!r} stands behind the upper boundary")
        return _wanted(lower, upper, source, target)
    except ValueError as error:
        raise BadMoves(f"{text!r}: {error}") from None


def of_plan(path: Path) -> list[Wanted]:
    """Of a file `{"schema": "ferrylog.rebalance-plan/1", "moves": [{lower, upper, from, to}]}`.
    Raises `BadMoves`."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or found.keys() != {"schema", "moves"}:
            raise ValueError("it is to have schema and moves, and nothing else")
        if found["schema"] != SCHEMA or not isinstance(found["moves"], list):
            raise ValueError(f"its schema is not {SCHEMA}, or moves is no list")
        return [_of_entry(each, number) for number, each in enumerate(found["moves"], 1)]
    except OSError as error:
        raise BadMoves(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadMoves(f"{path}: {error}") from None


def _of_entry(found: Any, number: int) -> Wanted:
    if not isinstance(found, dict) or found.keys() != {"lower", "upper", "from", "to"}:
        raise ValueError(f"move {number} is to have lower, upper, from, to, and nothing else")
    lower, upper = key_of(found["lower"]), key_of(found["upper"])
    return _wanted(lower, upper, found["from"], found["to"])


def _typed(text: str) -> tuple[Key | None, str]:
    """A boundary, and what stands behind it."""
    if not text or text.startswith(":"):
        return None, text
    value, at = json.JSONDecoder().raw_decode(text)
    return key_of(value), text[at:]


def _wanted(lower: Key | None, upper: Key | None, source: Any, target: Any) -> Wanted:
    for name in (source, target):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an endpoint")
    if begin(lower) >= end(upper):
        raise ValueError(f"{said(lower, upper)} is empty")
    if source == target:
        raise ValueError(f"{source} is both where it lies and where it is to go")
    return Wanted(lower, upper, source, target)


def left_to_move(placement: Placement, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Those that are not where they are to be yet. Raises `BadMoves`."""
    ordered = sorted(wanted, key=lambda each: begin(each.lower))
    for one, other in pairwise(ordered):
        if begin(other.lower) < end(one.upper):
            what = f"{said(one.lower, one.upper)} and {said(other.lower, other.upper)}"
            raise BadMoves(f"{what} overlap")
    return [each for each in wanted if _lies_there(placement, each)]


def _lies_there(placement: Placement, wanted: Wanted) -> bool:
    """Whether it is where it is to be taken from. Raises `BadMoves` unless it has moved."""
    held = owners(placement, wanted.lower, wanted.upper)
    if held not in ([wanted.source], [wanted.target]):
        what = said(wanted.lower, wanted.upper)
        raise BadMoves(f"{what} lies on {', '.join(held)}, not on {wanted.source}")
    return held == [wanted.source]


# --- how it is cut ---


def cut(
    clients: Clients, namespace: str, wanted: Iterable[Wanted], documents: int, stop: StopToken
) -> list[Move]:
    """Ranges of so many documents, the last of each of fewer. Raises `BadMoves`,
    `PyMongoError`, `Stopped`."""
    moves: list[Move] = []
    for each in wanted:
        found = _pieces(clients[each.source], namespace, each, documents, stop)
        for move in found:
            moves.append(move)
            if len(moves) > MAX_RANGES:
                raise BadMoves(f"they are more than {MAX_RANGES}: raise --chunk-docs")
    return moves


def _pieces(
    client: MongoClient[Any], namespace: str, wanted: Wanted, most: int, stop: StopToken
) -> Iterator[Move]:
    lower, count = wanted.lower, 0
    for key in _keys(client, namespace, wanted.lower, wanted.upper, stop):
        if count == most:
            here = to_key(key)
            yield Move(namespace, lower, here, wanted.source, wanted.target, count)
            lower, count = here, 0
        count += 1
    yield Move(namespace, lower, wanted.upper, wanted.source, wanted.target, count)


def _keys(
    client: MongoClient[Any],
    namespace: str,
    lower: Key | None,
    upper: Key | None,
    stop: StopToken,
) -> Iterator[bytes]:
    database, collection = split(namespace)
    what = Range(database, collection, lower, upper, keys_only=True)
    for block in read_range(client, what, stop):
        yield from documents(block.data)


# --- even ---


@dataclass(frozen=True, slots=True)
class Slice:
    """Documents `begin` to `end` of the range of that index, counted from its lower boundary."""

    index: int
    begin: int
    end: int
    target: str


def even(
    clients: Clients, placement: Placement, stop: StopToken
) -> tuple[list[Wanted], dict[str, int]]:
    """What has to move so that the endpoints hold as many documents each, give or take one; and
    how many each holds now. Raises `PyMongoError`, `Stopped`."""
    ranges, namespace = placement.ranges, placement.namespace
    counts = [
        sum(1 for _ in _keys(clients[each.endpoint], namespace, each.lower, each.upper, stop))
        for each in ranges
    ]
    held = dict.fromkeys(clients, 0)
    for each, count in zip(ranges, counts, strict=True):
        held[each.endpoint] += count
    slices = slices_of([(each.endpoint, n) for each, n in zip(ranges, counts, strict=True)], held)
    wanted: list[Wanted] = []
    for index in sorted({each.index for each in slices}):
        mine = [each for each in slices if each.index == index]
        placed = ranges[index]
        wanted += _bounded(clients[placed.endpoint], namespace, placed, counts[index], mine, stop)
    return wanted, held


def slices_of(ranges: Sequence[tuple[str, int]], held: Mapping[str, int]) -> list[Slice]:
    """From the upper ends of ranges, in their order, to whoever has too few: `ranges` are the
    endpoint and the documents of each, `held` how many each endpoint has in all."""
    share, more = divmod(sum(held.values()), len(held))
    # The few that no equal share takes stay with who has most: nothing moves for their sake.
    richest = sorted(held, key=lambda name: -held[name])[:more]
    wanted = {name: share + (name in richest) for name in held}
    short = {name: wanted[name] - n for name, n in held.items() if n < wanted[name]}
    over = {name: n - wanted[name] for name, n in held.items() if n > wanted[name]}
    slices: list[Slice] = []
    for index, (endpoint, count) in reversed(list(enumerate(ranges))):
        at = count
        while at and over.get(endpoint, 0):
            target = next(name for name, missing in short.items() if missing)
            taken = min(at, over[endpoint], short[target])
            slices.append(Slice(index, at - taken, at, target))
            over[endpoint] -= taken
            short[target] -= taken
            at -= taken
    return slices[::-1]


def _bounded(
    client: MongoClient[Any],
    namespace: str,
    placed: Placed,
    count: int,
    slices: Sequence[Slice],
    stop: StopToken,
) -> Iterator[Wanted]:
    """The slices of one range, with the keys at which they begin and end."""
    at = {each.begin for each in slices} | {each.end for each in slices}
    keys: dict[int, Key | None] = {}
    for number, key in enumerate(_keys(client, namespace, placed.lower, placed.upper, stop)):
        if number in at:
            keys[number] = to_key(key)
    keys |= {0: placed.lower, count: placed.upper}
    for each in slices:
        # Whoever deletes while this is counted makes a range end early: the next one is missing.
        if each.begin in keys and each.end in keys:
            yield Wanted(keys[each.begin], keys[each.end], placed.endpoint, each.target)


# --- what can be moved at all ---


def refuse_unmovable(clients: Clients, namespace: str) -> None:
    """Raises `CannotRebalance` unless each endpoint has the collection, of one kind. `PyMongoError`
    is raised too."""
    found = {name: _movable(client, namespace, name) for name, client in clients.items()}
    (first, options), *others = found.items()
    for name, its in others:
        if not (accepted(options, its) and accepted(its, options)):
            why = f"has other options than on {first}"
            raise CannotRebalance(namespace, name, why, "make it anew with the same options")


def _movable(client: MongoClient[Any], namespace: str, name: str) -> dict[str, Any]:
    """The options of the collection."""
    database, collection = split(namespace)
    entry = next(namespaces(client, database, name=collection), None)
    if entry is None:
        why = "does not exist"
        remedy = (
            "make it there with its options and indexes and without documents: `ferrylog start "
            f'--source … --target … --ns-include {namespace} --query \'{{"_id": {{"$in": []}}}}\'`'
        )
        raise CannotRebalance(namespace, name, why, remedy)
    options = fields(entry.options)
    if why := _not_movable(entry, options):
        raise CannotRebalance(namespace, name, why, "only plain collections have ranges to move")
    return options


def _not_movable(entry: Namespace, options: dict[str, Any]) -> str:
    if entry.type != "collection":
        return f"is a {entry.type}"
    if options.get("capped"):
        return "is capped"
    if "collation" in options:
        return "has a collation: its order of keys is another than that of the placement file"
    return ""
