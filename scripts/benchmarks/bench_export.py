"""Measure exports to JSON lines and to Parquet against what else makes such files, as ratios.

usage: scripts/bench export [--rounds N] [--only small,medium] [--scale F] [--workers N]
                            [--formats jsonl,parquet] [--times 1,10] [--json FILE]

One throw-away server on this machine, 2 workers, default chunks. Each contender is a process of its
own, and each round runs all of them, beginning with another. JSON lines are canonical, on both
sides: `mongoexport --jsonFormat canonical`, where it is on PATH, writes them uncompressed, ours are
measured so and as zstd. Parquet is zstd on all sides: a loop of `find`, a pandas data frame per
100,000 documents and `to_parquet`; and pymongoarrow's `find_arrow_all` with `write_table`. Ours is
the whole program with its journal, the census, and every file synced. Peak memory is that of all
processes of a contender together, what they share counted in each. The last table has it on
collections that grow (`--times` 1 and 10 of a base of 16 MB in small chunks).
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench_memory import BASE, rows_of
from common import (
    PROGRAM,
    SETS,
    Contender,
    Figures,
    Place,
    clear,
    compete,
    loaded,
    numbers,
    options,
    sets,
    two_servers,
)
from results import Results, paired
from tree import measured_with_all

MONGOEXPORT: Final = "mongoexport"
PANDAS: Final = "find + pandas"
ARROW: Final = "find_arrow_all"
TEXT: Final = "jsonl, none"
TEXT_ZSTD: Final = "jsonl, zstd"
PARQUET: Final = "parquet, zstd"
OURS: Final[Mapping[str, tuple[str, ...]]] = {
    TEXT: ("--format", "jsonl", "--compression", "none"),
    TEXT_ZSTD: ("--format", "jsonl", "--compression", "zstd"),
    PARQUET: ("--format", "parquet", "--compression", "zstd"),
}
GOALS: Final = (
    ("export jsonl", MONGOEXPORT, TEXT),
    ("export parquet, pandas", PANDAS, PARQUET),
    ("export parquet, arrow", ARROW, PARQUET),
)
SMALL_CHUNKS: Final = ("--chunk-bytes", str(2 << 20))


@dataclass(frozen=True)
class Exports:
    """Of one collection of a place."""

    place: Place
    name: str
    workers: int

    def ours(self, form: str, *more: str) -> Figures:
        out = self.fresh()
        journal = self.place.fresh("journal") / "j.db"
        program = (*PROGRAM, "export", "--quiet", "--journal", str(journal))
        ends = ("--source", self.place.source.uri, "--out", str(out / "x"))
        what = ("-d", "bench", "-c", self.name, "--dump-workers", str(self.workers), "--new")
        return self.run(*program, *ends, *what, *OURS[form], *more)

    def mongoexport(self) -> Figures:
        there = ("--uri", self.place.source.uri, "-d", "bench", "-c", self.name, "--quiet")
        out = ("--jsonFormat", "canonical", "-o", str(self.fresh() / "all.jsonl"))
        return self.run(MONGOEXPORT, *there, *out)

    def peer(self, program: str) -> Figures:
        path = Path(__file__).with_name("peers") / program
        words = (self.place.source.uri, self.name, str(self.fresh()))
        return self.run(sys.executable, "-W", "ignore", str(path), *words)

    def fresh(self) -> Path:
        return self.place.fresh("export")

    def run(self, *words: str) -> Figures:
        return measured_with_all(words, self.place.servers, cwd=self.place.folder)


def contenders(exports: Exports, formats: Sequence[str]) -> list[Contender]:
    there = shutil.which(MONGOEXPORT) is not None
    jsonl = [Contender(MONGOEXPORT, exports.mongoexport)] * there + [
        Contender(TEXT, lambda: exports.ours(TEXT), (MONGOEXPORT,)),
        Contender(TEXT_ZSTD, lambda: exports.ours(TEXT_ZSTD), (MONGOEXPORT,)),
    ]
    parquet = [
        Contender(PANDAS, lambda: exports.peer("pandas_loop.py")),
        Contender(ARROW, lambda: exports.peer("arrow_all.py")),
        Contender(PARQUET, lambda: exports.ours(PARQUET), (PANDAS, ARROW)),
    ]
    return jsonl * ("jsonl" in formats) + parquet * ("parquet" in formats)


def contest(results: Results, place: Place, name: str, count: int, asked: Namespace) -> None:
    size = loaded(place.source.uri, name, count)
    all_of_them = contenders(Exports(place, name, asked.workers), asked.formats)
    sizes: dict[str, int] = {}
    found = compete([sized(each, place, sizes) for each in all_of_them], asked.rounds)
    for goal, peer, ours in GOALS:
        if peer in found and ours in found:
            results.reach(goal, name, paired(found[peer], found[ours]))
    ours_all = [each for who, each in found.items() if who in OURS]
    results.reach("export memory", name, [max(f.peak_mb for f in each) for each in ours_all])
    title = f"{name}: {count:,} documents, {size / 1e6:,.0f} MB; rounds: {asked.rounds}"
    told = ", ".join(f"{who} {bytes_ / 1e6:,.0f} MB" for who, bytes_ in sizes.items())
    absent = "" if MONGOEXPORT in found or "jsonl" not in asked.formats else "No mongoexport. "
    note = f"{absent}On disk: {told}."
    results.contest(title, all_of_them, found, amount=size / 1e6, note=note)
    clear(place.source.uri)


def sized(who: Contender, place: Place, sizes: dict[str, int]) -> Contender:
    """Notes what the contender left on disk, too."""

    def run() -> Figures:
        figures = who.run()
        files = (place.folder / "export").rglob("*")
        sizes[who.name] = sum(each.stat().st_size for each in files if each.is_file())
        return figures

    return Contender(who.name, run, who.against)


def growing(results: Results, place: Place, name: str, asked: Namespace) -> list[list[str]]:
    """Peaks of our exports, as the collection grows."""
    smallest = max(10, int(BASE * asked.scale / SETS[name][1]))
    exports = Exports(place, name, asked.workers)
    found: dict[str, list[float]] = {form: [] for form in wanted(asked.formats)}
    for times in asked.times:
        loaded(place.source.uri, name, smallest * times)
        for form, peaks in found.items():
            peaks.append(exports.ours(form, *SMALL_CHUNKS).peak_mb)
        clear(place.source.uri)
    for form, each in found.items():
        results.reach("flat", f"{name}, export {form}", [each[-1] / each[0]])
    return rows_of(f"{name}, {smallest:,}", found)


def wanted(formats: Sequence[str]) -> list[str]:
    return [form for form in OURS if form.partition(",")[0] in formats]


def main() -> None:
    parser = options(__doc__, rounds=3, only="small,medium")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--formats", type=words, default=["jsonl", "parquet"])
    parser.add_argument("--times", type=numbers, default=[1, 10], metavar="N,N")
    asked = parser.parse_args()
    results = Results.begin("export")
    with two_servers() as place:
        place.fresh("export")
        rows = []
        for name, count in sets(asked.only, asked.scale):
            if asked.rounds:
                contest(results, place, name, count, asked)
                results.save(asked.json)
            rows += growing(results, place, name, asked) if any(asked.times) else []
        columns = ["documents", "export", *(f"{n} ×" for n in asked.times), "last to first"]
        results.table("Peak memory, MB, as the collection grows", columns, rows, words=2)
    results.save(asked.json)


def words(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    main()
