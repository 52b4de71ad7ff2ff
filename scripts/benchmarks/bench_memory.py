"""Measure peak memory as the collection grows: dump, restore, migrate and direct.

usage: scripts/bench memory [--times 1,10,100] [--only small,medium,large] [--scale F]
                            [--workers 4] [--limit 512m] [--json FILE]

Two throw-away servers on this machine. The smallest collection is 16 MB in chunks of 2 MiB, enough
to keep every worker busy; the others are 10 and 100 times that. Each step is the whole program with
its journal, `--no-verify`, with as many workers of each side; printed is the peak of its process,
and how many times that of the smallest collection the peak on the greatest is. The second table has
documents of 300 KB, 8 workers of each side, and `--limit`, which must hold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common import SETS, Place, clear, loaded, numbers, options, two_servers
from results import Results

BASE: Final = 16_000_000
"""Bytes of the smallest collection."""
CHUNKS: Final = ("--chunk-bytes", str(2 << 20))
MOST_WORKERS: Final = 8
STEPS: Final = ("dump", "restore", "migrate", "direct")


def peaks(place: Place, workers: int, *more: str) -> dict[str, float]:
    """MiB of each step on what the source holds."""
    read, write = ("--dump-workers", str(workers)), ("--restore-workers", str(workers))
    source = ("--source", place.source.uri, "-d", "bench")
    target = ("--target", place.target.uri)
    out = place.fresh("dump") / "d"
    dump = place.ferrylog("dump", *source, "--out", str(out), *read, *CHUNKS, *more)

    def filled(step: str, *words: str) -> float:
        place.empty()
        return place.ferrylog(step, *words, *target, "--no-verify", *write, *more).peak_mb

    return {
        "dump": dump.peak_mb,
        "restore": filled("restore", "--from", str(out)),
        "migrate": filled("start", *source, *read, *CHUNKS),
        "direct": filled("start", *source, *read, *CHUNKS, "--mode", "direct"),
    }


def grown(
    place: Place, name: str, counts: Sequence[int], measure: Callable[[], Mapping[str, float]]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {step: [] for step in STEPS}
    for count in counts:
        clear(place.source.uri)
        loaded(place.source.uri, name, count)
        for step, peak in measure().items():
            found[step].append(peak)
    return found


def main() -> None:
    parser = options(__doc__, rounds=1, only="small,medium,large")
    parser.add_argument("--times", type=numbers, default=[1, 10, 100])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--limit", default="300m")
    asked = parser.parse_args()
    results = Results.begin("memory")
    rows: list[list[str]] = []
    with two_servers() as place:
        for name in asked.only.split(","):
            smallest = max(10, int(BASE * asked.scale / SETS[name][1]))
            counts = [smallest * times for times in asked.times]
            found = grown(place, name, counts, lambda: peaks(place, asked.workers))
            rows += rows_of(f"{name}, {smallest:,}", found)
            for step, each in found.items():
                results.reach("flat", f"{name}, {step}", [each[-1] / each[0]])
        count = max(10, int(SETS["large"][0] * asked.scale))
        limit = ("--memory-limit", asked.limit)
        held = grown(place, "large", [count], lambda: peaks(place, MOST_WORKERS, *limit))
    columns = ["documents", "step", *(f"{times} ×" for times in asked.times), "last to first"]
    results.table("Peak memory, MB, as the collection grows", columns, rows, words=2)
    title = (
        f"Peak memory, MB: {count:,} documents of 300 KB, 8 workers, --memory-limit {asked.limit}"
    )
    results.table(title, STEPS, [[f"{held[step][0]:.0f}" for step in STEPS]], words=0)
    results.save(asked.json)


def rows_of(name: str, found: Mapping[str, Sequence[float]]) -> list[list[str]]:
    return [
        [name, step, *(f"{peak:.0f}" for peak in each), f"{each[-1] / each[0]:.2f}"]
        for step, each in found.items()
    ]


if __name__ == "__main__":
    main()
