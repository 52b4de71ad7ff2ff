"""Measure dump, restore and migrate against mongodump and mongorestore, in one run, as ratios.

usage: scripts/bench data [--rounds N] [--only small,medium,large,real] [--scale F] [--json FILE]
                          [--steps zstd,restore,migrate,more] [--peer-workers 1,2,4,8]
                          [--chunk-bytes N]

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

`--steps` leaves out what takes longest; without any of them, dumps are compared alone. `more` are
mongodump's layout and zstd on the way to a target.
"""

import shutil
from argparse import Namespace
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
from results import Results, paired

STEPS: Final = ("zstd", "restore", "migrate", "more")
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


def dumps(ours: Ours, peers: Peers | None) -> list[Contender]:
    """Ours and theirs; what each leaves is there to be restored."""
    found = [Contender("mongodump", peers.dump)] if peers else []
    return [*found, Contender("dump, none", lambda: ours.dump("none", *NONE), ("mongodump",))]


def contenders(ours: Ours, peers: Peers | None, steps: Sequence[str]) -> list[Contender]:
    """In an order in which each finds what it restores."""
    found = dumps(ours, peers)
    if peers and "zstd" in steps:
        found.append(Contender(ZIPPED, lambda: peers.dump(gzip=True)))
    if peers and ("restore" in steps or "migrate" in steps):
        found.append(Contender("mongorestore", peers.restore))
    if peers and "migrate" in steps:
        found.append(Contender(PIPE, peers.pipe))
    restore, both, layout = ("mongorestore",), (PIPE, BOTH), ("--layout", "mongodump")
    packed = "peer" if peers else "packed"
    for step, name, run, against in (
        ("zstd", "dump, zstd", lambda: ours.dump("zstd", *ZSTD), (ZIPPED,)),
        ("more", "dump, mongodump's layout", lambda: ours.dump("packed", *layout), ("mongodump",)),
        ("restore", "restore, none", lambda: ours.restore("none"), restore),
        ("more", "restore, mongodump's layout", lambda: ours.restore(packed), restore),
        ("migrate", "migrate, none", lambda: ours.migrate(*NONE), both),
        ("more", "migrate, zstd", lambda: ours.migrate(*ZSTD), both),
        ("migrate", "migrate, direct", lambda: ours.migrate("--mode", "direct"), both),
    ):
        if step in steps:
            found.append(Contender(name, run, against))
    return found


def contest(results: Results, place: Place, name: str, count: int, asked: Namespace) -> None:
    """Of what was asked for, on one set of documents."""
    size = loaded(place.source.uri, name, count)
    peers = Peers(place, name, WORKERS) if have_peers() else None
    note = ""
    if peers and not {"restore", "migrate"}.isdisjoint(asked.steps):
        peers = peers.best(asked.peer_workers)
        tried = ", ".join(map(str, asked.peer_workers))
        note = f"mongorestore with {peers.workers} insertion workers, the best of {tried}. "
    all_of_them = contenders(Ours(place, name, asked.chunk_bytes), peers, asked.steps)
    found = compete(all_of_them, asked.rounds)
    if "mongorestore" in found:
        both = zip(found["mongodump"], found["mongorestore"], strict=True)
        found[BOTH] = [dumped + restored for dumped, restored in both]
    sizes = on_disk(place.folder)
    told = ", ".join(f"{k} {v / 1e6:,.0f} MB" for k, v in sizes.items())
    judge(results, name, found, sizes)
    title = f"{name}: {count:,} documents, {size / 1e6:,.0f} MB; rounds: {asked.rounds}"
    note += f"On disk: {told}."
    results.contest(title, all_of_them, found, amount=size / 1e6, note=note)
    shutil.rmtree(place.folder)
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
        if peer in found and ours in found:
            results.reach(goal, name, paired(found[peer], found[ours]))
    if "mongorestore" in found and "restore, none" in found:
        used = paired(found["restore, none"], found["mongorestore"], lambda f: f.cpu_s)
        results.reach("restore CPU", name, used)
    if "zstd" in sizes and "peer-gz" in sizes:
        results.reach("dump size", name, [sizes["zstd"] / sizes["peer-gz"]])
    ours_all = [each for who, each in found.items() if who.startswith(("dump", "restore", "migr"))]
    results.reach("memory", name, [max(f.peak_mb for f in each) for each in ours_all])


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes of each dump."""
    return {
        out.name: sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        for out in sorted(folder.iterdir())
        if out.name in ("none", "zstd", "packed", "peer", "peer-gz")
    }


def main() -> None:
    parser = options(__doc__, only="small,medium,large,real")
    parser.add_argument("--steps", type=words, default=list(STEPS), metavar="STEP,STEP")
    parser.add_argument("--peer-workers", type=numbers, default=[1, 2, 4, 8], metavar="N,N")
    parser.add_argument("--chunk-bytes", type=int, default=16 << 20)
    compare("data", parser.parse_args())


def compare(subject: str, asked: Namespace) -> None:
    results = Results.begin(subject)
    with two_servers() as place:
        for name, count in sets(asked.only, asked.scale):
            contest(results, place, name, count, asked)
            results.save(asked.json)


def words(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    main()
