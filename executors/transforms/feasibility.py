"""Whether the user's own code lets most documents through: a sample of each collection tells,
before anything is written."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import Block
from executors.protocol import StopToken
from executors.rejected import name_of
from executors.rows import rows
from executors.select import USERS, query_of
from executors.source import data_of
from executors.survey import survey
from executors.transforms.errors import NoTimeSeries, TooManyMalformed
from executors.transforms.heldback import Through
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.stimuli import FoundUnit
from statemachine.words import UnitId, UnitType

SAMPLED: Final = 1000
"""Documents of one collection."""
MOST_SAMPLED: Final = 10_000
"""Of all collections."""
SAMPLED_BYTES: Final = 64 << 20
"""Of one collection."""
FIRST: Final = 50
"""Documents that go each by itself: what is under way when the time is over is waited for."""
LOT: Final = 10
"""Documents between two looks at the time, from then on."""
LONGEST_S: Final = 10.0
"""For all of them: code that takes long for each document is tried with fewer."""
REASONS: Final = 3
"""That are told, the most frequent first."""
EXAMPLES: Final = 3


@dataclass(slots=True)
class Sample:
    """What became of some documents of one collection."""

    unit: UnitId
    tried: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def reject(self, document: bytes, code: str, why: str) -> None:
        self.rejected += 1
        self.reasons[f"{code}: {why}"] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name_of(document))

    def exceeds(self, percent: float) -> bool:
        return self.rejected * 100 > percent * self.tried

    def said(self) -> str:
        reasons = ", ".join(f"{count} × {why}" for why, count in self.reasons.most_common(REASONS))
        such = ", ".join(self.examples)
        return f"{self.unit}: {self.rejected} of {self.tried}: {reasons} (such as _id {such})"


def must_be_feasible(
    client: MongoClient[Any],
    spec: JobSpec,
    through: Through,
    percent: float,
    monotonic_s: Callable[[], float],
) -> None:
    """Raises `TooManyMalformed`, `NoTimeSeries`, what `survey` raises, and what is wrong with the
    code."""
    units = [each for each in survey(client, spec).units if each.unit not in USERS]
    refuse_time_series(units)
    until_s, left = monotonic_s() + LONGEST_S, MOST_SAMPLED
    samples: list[Sample] = []
    for unit in units:
        stop = Until(until_s, monotonic_s)
        if unit.type != "collection" or left <= 0 or stop.late():
            continue
        samples.append(sampled(client, unit.unit, unit.type, spec, through, stop, left))
        left -= samples[-1].tried
    if bad := [each.said() for each in samples if each.exceeds(percent)]:
        raise TooManyMalformed(bad, percent)


def refuse_time_series(units: Iterable[FoundUnit]) -> None:
    """Raises `NoTimeSeries`."""
    if buckets := [each.unit for each in units if each.type == "timeseries"]:
        raise NoTimeSeries(buckets)


@dataclass(frozen=True, slots=True)
class Until:
    """A token that never stops what is under way, and tells when nothing more should begin."""

    until_s: float
    monotonic_s: Callable[[], float]

    def is_set(self) -> bool:
        return False

    def late(self) -> bool:
        return self.monotonic_s() > self.until_s


def foresee_rejections(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    through: Through,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> tuple[tuple[str, str], ...]:
    """The same for a dry run: a conflict where documents would be rejected. Raises as `sampled`."""
    if unit.id in USERS or unit.type == "view":
        return ()
    if unit.type == "timeseries":
        return (("EPLAN018", str(NoTimeSeries([unit.id]))),)
    stop = Until(monotonic_s() + LONGEST_S, monotonic_s)
    sample = sampled(client, unit.id, unit.type, spec, through, stop)
    return (("EPLAN017", sample.said()),) if sample.rejected else ()


def sampled(
    client: MongoClient[Any],
    unit: UnitId,
    kind: UnitType,
    spec: JobSpec,
    through: Through,
    stop: Until,
    most: int = SAMPLED,
) -> Sample:
    """Some documents of the collection through the code. Raises `PyMongoError`, and what `through`
    raises."""
    sample = Sample(unit)

    def blocks() -> Iterator[Block]:
        size = 0
        for lot in _lots(_some(client, unit, kind, spec, min(most, SAMPLED), stop)):
            if size >= SAMPLED_BYTES or stop.late():
                return
            data = b"".join(lot)
            size += len(data)
            sample.tried += len(lot)
            yield Block(data, len(lot))

    for _ in through(blocks(), sample.reject, stop):
        pass
    return sample


def _lots(found: Iterator[bytes]) -> Iterator[list[bytes]]:
    yield from ([document] for document in islice(found, FIRST))
    while lot := list(islice(found, LOT)):
        yield lot


def _some(
    client: MongoClient[Any],
    unit: UnitId,
    kind: UnitType,
    spec: JobSpec,
    most: int,
    stop: StopToken,
) -> Iterator[bytes]:
    """Random ones; where a query says which are wanted, the first that it finds."""
    database, collection = data_of(unit, kind)
    query = query_of(unit, spec.queries)
    command: dict[str, Any] = (
        {"aggregate": collection, "pipeline": [{"$sample": {"size": most}}], "cursor": {}}
        if query is None
        else {"find": collection, "filter": RawBSONDocument(query), "limit": most}
    )
    return rows(client, database, command, stop)
