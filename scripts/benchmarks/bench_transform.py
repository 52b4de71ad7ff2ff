"""Measure documents that go through code of the user's own, at 1 and 2 processes, in one run.

usage: scripts/bench transform [--rounds N] [--scale F] [--processes N,N] [--json FILE]

- users: `docs/examples/users.py`, a scrypt hash and a model for each: the code is the limit
- mapped: small documents and code that costs next to nothing: the way through the processes is

Each is migrated by the program itself (coordinated, verified), and without any code as well.
Printed are medians of rounds: documents a second, CPU of the program with its processes, and the
speed-up. The sample that is tried before a job begins is part of it.
"""

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from common import ROOT, SETS, Contender, Figures, Place, compete, loaded, options, two_servers
from pymongo import MongoClient
from results import Results, paired, spread

USERS = ROOT / "docs/examples/users.py"
MAPPING = ROOT / "scripts/benchmarks/mapping.py"
COUNTS = {"users": 600, "mapped": 100_000}
CODE = {
    "users": ("--transform", f"{USERS}:migrate", "--validate", f"{USERS}:User"),
    "mapped": ("--transform", f"{MAPPING}:mapped"),
}
CHUNKS = ("--chunk-docs", "100")
"""Of the users: a chunk takes some seconds."""


def fill(place: Place, name: str, count: int) -> None:
    if name == "mapped":
        loaded(place.source.uri, "mapped", count, SETS["small"][1])
        return
    with MongoClient[dict[str, Any]](place.source.uri) as client:
        client.bench.users.insert_many(users(count))


def users(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "name": f"User Nº {number}",
            "email": f" User{number}@Example.org",
            "password": f"secret-{number}",
            "createdAt": datetime(2020, 1, 1, tzinfo=UTC),
        }


def migrate(place: Place, name: str, count: int, processes: int) -> Figures:
    """`processes`: 0 without any code."""
    place.empty()
    ends = ("--source", place.source.uri, "--target", place.target.uri, "-d", "bench", "-c", name)
    own = (*CODE[name], "--transform-workers", str(processes)) if processes else ()
    small = CHUNKS if name == "users" else ()
    took = place.ferrylog("start", *ends, *own, *small)
    with MongoClient[dict[str, Any]](place.target.uri) as client:
        assert client.bench[name].count_documents({}) == count
    return took


def row(name: str, said: str, count: int, figures: list[Figures], speed_up: str) -> list[str]:
    took = statistics.median(each.seconds for each in figures)
    cpu = statistics.median(each.cpu_s for each in figures)
    return [name, said, f"{took:.1f}", f"{count / took:,.0f}", f"{cpu:.1f}", speed_up]


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--processes", default="1,2")
    asked = parser.parse_args()
    numbers = [int(each) for each in asked.processes.split(",")]
    results, rows = Results.begin("transform"), list[list[str]]()
    with two_servers() as place:
        for name, most in COUNTS.items():
            count = max(20, int(most * asked.scale))
            fill(place, name, count)
            run = partial(migrate, place, name, count)
            who = [Contender(str(each), partial(run, each)) for each in (*numbers, 0)]
            found = compete(who, asked.rounds)
            for number in (*numbers, 0):
                said = f"{number} processes" if number else "no code"
                ratio = spread(paired(found[str(numbers[0])], found[str(number)]))
                rows.append(row(name, said, count, found[str(number)], ratio))
    counts = ", ".join(f"{int(n * asked.scale):,} {name}" for name, n in COUNTS.items())
    columns = ["documents", "code in", "s", "documents/s", "CPU s", "speed-up"]
    results.table(f"{counts}; rounds: {asked.rounds}", columns, rows, words=2)
    results.save(asked.json)


if __name__ == "__main__":
    main()
