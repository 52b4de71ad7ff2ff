"""What a journal alone says of a chain that was applied: shard by shard, crash by crash.

    python -m tests.end_to_end.applied --journal ferrylog.db

It reads `inspect events --json` and shares no code with the program: the order of keys is that of
the BSON specification, written here again.
"""

import argparse
import base64
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

FERRYLOG = (sys.executable, "-m", "ferrylog")
FOLDED = ("shop.labels",)
"""Collections whose collation takes upper and lower case for one, as the trials make them."""

Told = dict[str, Any]


def events(journal: Path) -> list[Told]:
    """Of the newest job."""
    done = subprocess.run(
        [*FERRYLOG, "inspect", "events", "--json", "--journal", str(journal)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- the order of keys ------------------------------------------------------------------------


def place(key: str, *, folded: bool = False) -> tuple[Any, ...]:
    """Where a key in canonical Extended JSON stands among others."""
    assert not key.startswith("bson:"), "a key that Extended JSON cannot say"
    return _place(json.loads(key), folded=folded)


def _place(value: Any, *, folded: bool) -> tuple[Any, ...]:
    match value:
        case None:
            return (5,)
        case {"$numberInt": text} | {"$numberLong": text}:
            return (10, int(text))
        case {"$numberDouble": text}:
            return (10, float(text))
        case {"$numberDecimal": text}:
            return (10, Decimal(text))
        case str():
            return (15, (value.lower() if folded else value).encode())
        case {"$binary": {"base64": text, "subType": kind}}:
            raw = base64.b64decode(text)
            return (30, len(raw), int(kind, 16), raw)
        case {"$oid": text}:
            return (35, text)
        case bool():
            return (40, value)
        case {"$date": {"$numberLong": text}}:
            return (45, int(text))
        case dict():
            return (20, *_elements(value.items(), folded=folded))
        case list():
            return (25, *_elements(((str(n), v) for n, v in enumerate(value)), folded=folded))
    raise ValueError(f"no place for {value!r}")


def _elements(items: Iterable[tuple[str, Any]], *, folded: bool) -> Iterator[tuple[Any, ...]]:
    for name, value in items:
        kind, *rest = _place(value, folded=folded)
        yield (kind, name, tuple(rest))


# --- shards -----------------------------------------------------------------------------------


@dataclass
class Shard:
    id: str
    namespace: str
    rows: int
    """Documents and erasures planned."""
    keys: list[str] = field(default_factory=list)
    """Last keys, in the order of the journal."""
    done: int = 0
    """Rows that the target had acknowledged by the last event."""
    position: int = 0
    batch: int = 0
    """The most rows between two events of one attempt."""
    crashes: int = 0
    again: int = 0
    """The most rows that one crash can have repeated: those of the first event behind it, as what
    was journaled before is not sent again."""
    again_in_all: int = 0
    doubted: bool = False
    completed: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def increasing(self) -> bool:
        places = [place(key, folded=self.namespace in FOLDED) for key in self.keys]
        return all(one < other for one, other in pairwise(places))

    def took(self, event: Told) -> None:
        data = event["data"]
        match event["kind"]:
            case "apply_progressed" | "apply_completed":
                self._progressed(event["seq"], data, done=event["kind"] == "apply_completed")
            case "apply_in_doubt":
                self.crashes += 1
                self.doubted = True
            case "apply_resolved":
                if data["position"] != self.position:
                    why = f"goes on at {data['position']}, journaled was {self.position}"
                    self.problems.append(f"seq {event['seq']}: {why} (I31)")

    def _progressed(self, seq: int, data: Told, *, done: bool) -> None:
        rows = data["documents"] + data["erased"]
        new = rows - self.done
        if self.completed or (new <= 0 and not done):
            self.problems.append(f"seq {seq}: {new} new rows (I31)")
        if self.doubted:
            self.again = max(self.again, new)
            self.again_in_all += new
        self.doubted, self.done, self.completed = False, rows, done
        self.batch = max(self.batch, new)
        self.position = data.get("position", self.position)
        if data["last_key"] is not None and data["last_key"] != (self.keys or [""])[-1]:
            self.keys.append(data["last_key"])


@dataclass
class Story:
    """Of one job that applied a chain."""

    shards: dict[str, Shard] = field(default_factory=dict)
    kills_applying: int = 0
    """Runs that ended with a shard at work."""
    runs: int = 0
    progressed: int = 0
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        names = ("shard", "namespace", "rows", "progressed", "increasing", "crashes")
        lines = ["{:<12} {:<22} {:>7} {:>10} {:>10} {:>7} {:>12}".format(*names, "again, most")]
        for each in self.shards.values():
            increasing = "yes" if each.increasing else "NO"
            lines.append(
                f"{each.id:<12} {each.namespace:<22} {each.rows:>7} {len(each.keys):>10}"
                f" {increasing:>10} {each.crashes:>7} {each.again:>12}"
            )
        again = [each.again for each in self.shards.values()]
        lines.append(
            f"{len(self.shards)} shards, {self.progressed} progress events, {self.runs} runs, "
            f"{self.kills_applying} of them ended while applying; a crash repeated at most "
            f"{max(again, default=0)} rows of a shard, in all "
            f"{sum(each.again_in_all for each in self.shards.values())}"
        )
        return "\n".join([*lines, *self.problems])


def read(told: Sequence[Told]) -> Story:
    """The story, with everything in it that must not stand there."""
    found, order, doubts = Story(), _Order(), Counter[int]()
    for event in told:
        kind = event["kind"]
        found.runs += kind == "run_started"
        found.progressed += kind == "apply_progressed"
        found.problems += order.took(event)
        if kind == "shard_planned":
            data = event["data"]
            rows = data["documents"] + data["erased"]
            found.shards[data["shard"]] = Shard(data["shard"], data["namespace"], rows)
        elif kind.startswith("apply_"):
            found.shards[event["entity"]].took(event)
            doubts[found.runs] += kind == "apply_in_doubt"
    found.kills_applying = sum(count > 0 for count in doubts.values())
    batch = max((each.batch for each in found.shards.values()), default=0)
    for each in found.shards.values():
        found.problems += [f"{each.id}: {what}" for what in each.problems]
        if not each.increasing:
            found.problems.append(f"{each.id}: last keys do not increase (I31)")
        if each.again > batch:
            found.problems.append(f"{each.id}: more than a batch again (I31)")
    return found


class _Order:
    """No link before its turn, none completed before all its shards (I32)."""

    def __init__(self) -> None:
        self._current = self._completed = 0
        self._open: dict[int, set[str]] = defaultdict(set)

    def took(self, event: Told) -> Iterator[str]:
        kind, data, said = event["kind"], event["data"], f"seq {event['seq']} {event['kind']}"
        if kind == "increment_started":
            if (data["increment"], self._completed) != (self._current + 1, self._current):
                yield f"{said}: {data['increment']} begins behind {self._current} (I32)"
            self._current = data["increment"]
        elif kind == "increment_completed":
            if data["increment"] != self._current or self._open[self._current]:
                yield f"{said}: with open shards, or out of order (I32)"
            self._completed = data["increment"]
        elif kind == "shard_planned":
            self._open[data["increment"]].add(data["shard"])
        elif kind.startswith("apply_"):
            if _number(event["entity"]) != self._current or self._completed == self._current:
                yield f"{said} {event['entity']}: not its link's turn (I32)"
            if kind == "apply_completed":
                self._open[self._current].discard(event["entity"])


def _number(shard: str) -> int:
    return int(shard.partition("#")[0].rpartition(":")[2])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, default=Path("ferrylog.db"))
    found = read(events(parser.parse_args().journal))
    print(found.table())
    sys.exit(4 if found.problems else 0)


if __name__ == "__main__":
    main()
