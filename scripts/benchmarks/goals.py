"""What ferrylog has to reach, as ratios within one run, and whether it does."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from results import Reached, Table, spread

ANY: Final = ""
"""A goal that is of no set of documents."""
AS_SMALL: Final = {"real": "small"}
"""Real documents are small ones: they are held against the same."""


@dataclass(frozen=True)
class Goal:
    key: str
    what: str
    bounds: Mapping[str, float]
    """By set of documents; all of them, or a single one under `ANY`."""
    sense: Literal["at least", "at most"] = "at least"
    unit: str = "times"
    aims: Mapping[str, float] = field(default_factory=dict)
    """What would be better still."""
    worst: bool = False
    """A limit for each single value, not for the median."""

    def bound(self, data: str) -> float | None:
        return self.bounds.get(AS_SMALL.get(data, data), self.bounds.get(ANY))

    def met(self, values: Sequence[float], bound: float) -> bool:
        if self.sense == "at least":
            return (min(values) if self.worst else statistics.median(values)) >= bound
        return (max(values) if self.worst else statistics.median(values)) <= bound

    def asked(self, data: str) -> str:
        bound, aim = self.bound(data), self.aims.get(AS_SMALL.get(data, data))
        told = f"{self.sense} {bound:g} {self.unit}".rstrip()
        return f"{told}, aim {aim:g}" if aim else told


GOALS: Final = (
    Goal(
        "dump",
        "dump: throughput against mongodump",
        {"small": 1.5, "medium": 1.2, "large": 1.2},
        aims={"small": 2},
    ),
    Goal("dump zstd", "dump, zstd: throughput against mongodump --gzip", {ANY: 6}),
    Goal("dump size", "dump, zstd: size against mongodump --gzip", {ANY: 1}, "at most"),
    Goal(
        "restore",
        "restore, majority: throughput against mongorestore with its best workers",
        {"small": 1.9, "medium": 1.1, "large": 1.1},
        aims={"small": 2.3},
    ),
    Goal(
        "restore CPU",
        "restore: client CPU against mongorestore",
        {"medium": 0.5, "large": 0.5},
        "at most",
    ),
    Goal(
        "direct",
        "migrate, direct: throughput against `mongodump --archive | mongorestore --archive`",
        {"small": 1.5, "medium": 1.1},
    ),
    Goal(
        "coordinated",
        "migrate, coordinated: throughput against mongodump, then mongorestore",
        {"small": 1.5, "medium": 1.2},
    ),
    Goal(
        "share",
        "journal, file digests and rollback records: share of a migration",
        {ANY: 3},
        "at most",
        "%",
    ),
    Goal("memory", "peak memory with 4 workers", {ANY: 200}, "at most", "MB", worst=True),
    Goal(
        "flat",
        "peak memory on the largest collection against the smallest",
        {ANY: 1.1},
        "at most",
        worst=True,
    ),
    Goal(
        "export jsonl",
        "export, JSON lines uncompressed: throughput against mongoexport",
        {"medium": 3},
    ),
    Goal(
        "export parquet, pandas",
        "export, Parquet: throughput against `find` and pandas",
        {ANY: 2},
    ),
    Goal(
        "export parquet, arrow",
        "export, Parquet: throughput against pymongoarrow's `find_arrow_all`",
        {ANY: 1.2},
    ),
    Goal(
        "export memory",
        "export: peak memory of all processes with 2 workers",
        {ANY: 500},
        "at most",
        "MB",
        worst=True,
    ),
    Goal("append", "journal: append at 100 a commit against `eventsourcing`", {ANY: 5}),
    Goal("replay", "journal: replay against `eventsourcing`", {ANY: 5}),
    Goal(
        "repeated",
        "resume after a kill: batches repeated per worker",
        {ANY: 1},
        "at most",
        "",
        worst=True,
    ),
    Goal(
        "ready",
        "ready to work after opening a journal with 1,000,000 events",
        {ANY: 1},
        "at most",
        "s",
    ),
)


def judged(reached: Sequence[Reached]) -> Table:
    """Every goal with what was reached; of several findings for one, the first."""
    rows = [row for goal in GOALS for row in rows_of(goal, reached)]
    note = (
        "Reached is the median of the rounds, with the least and the most; a ratio is between two "
        "contenders of one round. The median is judged; of memory and of repeated batches the "
        "worst. Real documents are held against the goals of small ones."
    )
    return Table("", ["goal", "data", "asked for", "reached", "met"], rows, note, words=5)


def rows_of(goal: Goal, reached: Sequence[Reached]) -> Iterator[list[str]]:
    """A row for each set that something was found for, and for each that nothing was."""
    found: dict[str, list[float]] = {}
    for each in reached:
        if each.goal == goal.key:
            found.setdefault(each.data, each.values)
    named = [data for data in goal.bounds if data != ANY]
    for data in dict.fromkeys([*named, *found] or [ANY]):
        if (bound := goal.bound(data)) is None:
            continue
        asked = goal.asked(data)
        if data not in found:
            yield [goal.what, data, asked, "not measured", "?"]
            continue
        met = goal.met(found[data], bound)
        yield [goal.what, data, asked, spread(found[data]), "yes" if met else "**no**"]
