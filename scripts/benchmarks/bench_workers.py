"""Measure dump, restore and direct copy with 1, 2, 4 and 8 workers, in one run, as ratios.

usage: scripts/bench workers [--workers 1,2,4,8] [--rounds N] [--only small,medium] [--scale F]
                             [--json FILE]

As `scripts/bench data`, ours alone: how many times the throughput of one worker is reached, and
what it costs. Servers and client share the machine, so more workers than cores gain by what waits.
"""

from collections.abc import Sequence

from bench_data import NONE, Ours
from common import Contender, Place, clear, compete, loaded, numbers, options, sets, two_servers
from results import Results


def contenders(place: Place, name: str, workers: Sequence[int]) -> list[Contender]:
    """Per number of workers; each is compared with the fewest of its kind."""
    found: list[Contender] = []
    for number in workers:
        ours = Ours(place, name, workers=number)
        for kind, run in (
            ("dump", lambda ours=ours: ours.dump("none", *NONE)),
            ("restore", lambda ours=ours: ours.restore("none")),
            ("direct", lambda ours=ours: ours.migrate("--mode", "direct")),
        ):
            one = () if number == workers[0] else (f"{kind}, {workers[0]}",)
            found.append(Contender(f"{kind}, {number}", run, one))
    return found


def main() -> None:
    parser = options(__doc__, rounds=3, only="small,medium")
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4, 8])
    asked = parser.parse_args()
    results = Results.begin("workers")
    with two_servers() as place:
        for name, count in sets(asked.only, asked.scale):
            size = loaded(place.source.uri, name, count)
            all_of_them = contenders(place, name, asked.workers)
            found = compete(all_of_them, asked.rounds)
            by_kind = sorted(all_of_them, key=lambda each: each.name.partition(",")[0])
            title = f"{name}: {count:,} documents, {size / 1e6:,.0f} MB; rounds: {asked.rounds}"
            results.contest(title, by_kind, found, amount=size / 1e6)
            clear(place.source.uri)
            results.save(asked.json)


if __name__ == "__main__":
    main()
