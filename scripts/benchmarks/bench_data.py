"""Measure dump, restore and migrate against mongodump and mongorestore, in one run, as ratios.

usage: scripts/bench data [--rounds N] [--only small,medium,large,real] [--scale F] [--json FILE]
                          [--peer-workers 1,2,4,8] [--chunk-bytes N]

Two throw-away servers on this machine. Documents are generated: small (about 230 bytes), medium
(4 KB), large (300 KB); and real ones, some thousands of sample collections loaded again and again
under new _ids, where FERRYLOG_CORPUS names a folder with them. The peers run when they are on PATH;
mongorestore and the pipe with the number of insertion workers that restores fastest in a trial.
Each round runs every contender once, each round beginning with another. Printed are medians:
seconds, MB/s of raw BSON, CPU seconds of the client and of both servers, peak memory, and how many
times the peer's throughput ours is, as the median of the rounds' ratios with the least and the
most. All restores are acknowledged by a majority. Ours is always the whole program with its
journal, 4 workers, `--no-verify`: dumps in its own layout and in mongodump's, restores of its own
dumps and of the directory that mongodump left, migrations by chunk files (uncompressed, zstd) and
direct. Chunks are of 16 MiB, so that so little data makes enough of them for 4 workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common import (
    WORKERS,
    Contender,
    Figures,
    Peers,
    Place,
    clear,
    compete,
    have_peers,
    loaded,
    numbers,
    options,
    sets,
    two_servers,
)
from results import Results, paired, seconds

PIPE: Final = "mongodump | mongorestore"
BOTH: Final = "mongodump, then mongorestore"
ZIPPED: Final = "mongodump --gzip"
NONE: Final = ("--compression", "none")
ZSTD: Final = ("--compression", "zstd")


@dataclass(frozen=True)
class Ours:
    """The program, for one collection of a place."""

    place: Place
    name: str
    chunk_bytes: int = 16 << 20
    workers: int = WORKERS

    def dump(self, out: str, *how: str) -> Figures:
        folder = self.place.fresh(out)
        folder.rmdir()
        to = ("--out", str(folder), "--dump-workers", str(self.workers))
        return self._run("dump", "--source", self.place.source.uri, *to, *how)

    def restore(self, out: str) -> Figures:
        self.place.empty()
        dump = ("--from", str(self.place.folder / out))
        return self._run("restore", *dump, *self._to, "--restore-workers", str(self.workers))

    def migrate(self, *how: str) -> Figures:
        self.place.empty()
        workers = ("--dump-workers", str(self.workers), "--restore-workers", str(self.workers))
        return self._run("start", "--source", self.place.source.uri, *self._to, *workers, *how)

    @property
    def _to(self) -> tuple[str, ...]:
        return ("--target", self.place.target.uri, "--no-verify")

    def _run(self, step: str, *words: str) -> Figures:
        what = ("-d", "bench", "-c", self.name, "--chunk-bytes", str(self.chunk_bytes), "--new")
        return self.place.ferrylog(step, *what, *words)


def contenders(ours: Ours, peers: Peers | None) -> list[Contender]:
    """In an order in which each finds what it restores."""
    found: list[Contender] = []
    if peers:
        found += [
            Contender("mongodump", peers.dump),
            Contender(ZIPPED, lambda: peers.dump(gzip=True)),
            Contender("mongorestore", peers.restore),
            Contender(PIPE, peers.pipe),
        ]
    dump, restore, both = ("mongodump",), ("mongorestore",), (PIPE, BOTH)
    packed = "peer" if peers else "packed"
    found += [
        Contender("dump, none", lambda: ours.dump("none", *NONE), dump),
        Contender("dump, zstd", lambda: ours.dump("zstd", *ZSTD), (ZIPPED,)),
        Contender(
            "dump, mongodump's layout", lambda: ours.dump("packed", "--layout", "mongodump"), dump
        ),
        Contender("restore, none", lambda: ours.restore("none"), restore),
        Contender("restore, zstd", lambda: ours.restore("zstd"), restore),
        Contender("restore, mongodump's layout", lambda: ours.restore(packed), restore),
        Contender("migrate, none", lambda: ours.migrate(*NONE), both),
        Contender("migrate, zstd", lambda: ours.migrate(*ZSTD), both),
        Contender("migrate, direct", lambda: ours.migrate("--mode", "direct"), both),
    ]
    return found


def contest(
    results: Results, place: Place, name: str, count: int, rounds: int, tries: Sequence[int],
    chunk_bytes: int,
) -> None:  # fmt: skip
    size = loaded(place.source.uri, name, count)
    peers = Peers(place, name, WORKERS).best(tries) if have_peers() else None
    all_of_them = contenders(Ours(place, name, chunk_bytes), peers)
    found = compete(all_of_them, rounds)
    if peers:
        both = zip(found["mongodump"], found["mongorestore"], strict=True)
        found[BOTH] = [dumped + restored for dumped, restored in both]
    sizes = on_disk(place.folder)
    note = "On disk: " + ", ".join(f"{k} {v / 1e6:,.0f} MB" for k, v in sizes.items())
    if peers:
        tried = ", ".join(map(str, tries))
        note += f". mongorestore with {peers.workers} insertion workers, the best of {tried}"
        judge(results, name, found, sizes)
    title = f"{name}: {count:,} documents, {size / 1e6:,.0f} MB; rounds: {rounds}"
    results.contest(title, all_of_them, found, amount=size / 1e6, note=note + ".")
    ours = [found[each.name] for each in all_of_them if each.against]
    peaks = [max(f.peak_mb for f in each) for each in zip(*ours, strict=True)]
    results.reach("memory", name, peaks)
    clear(place.source.uri)


def judge(
    results: Results, name: str, found: dict[str, list[Figures]], sizes: dict[str, int]
) -> None:
    for goal, peer, ours in (
        ("dump", "mongodump", "dump, none"),
        ("dump zstd", ZIPPED, "dump, zstd"),
        ("restore", "mongorestore", "restore, none"),
        ("direct", PIPE, "migrate, direct"),
        ("coordinated", BOTH, "migrate, none"),
    ):
        results.reach(goal, name, paired(found[peer], found[ours], seconds))
    used = paired(found["restore, none"], found["mongorestore"], lambda f: f.cpu_s)
    results.reach("restore CPU", name, used)
    results.reach("dump size", name, [sizes["zstd"] / sizes["peer-gz"]])


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes of each dump."""
    return {
        out.name: sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        for out in sorted(folder.iterdir())
        if out.name in ("none", "zstd", "packed", "peer", "peer-gz")
    }


def main() -> None:
    parser = options(__doc__, only="small,medium,large,real")
    parser.add_argument("--peer-workers", type=numbers, default=[1, 2, 4, 8], metavar="N,N")
    parser.add_argument("--chunk-bytes", type=int, default=16 << 20)
    asked = parser.parse_args()
    results = Results.begin("data")
    with two_servers() as place:
        for name, count in sets(asked.only, asked.scale):
            contest(
                results, place, name, count, asked.rounds, asked.peer_workers, asked.chunk_bytes
            )
            results.save(asked.json)


if __name__ == "__main__":
    main()
