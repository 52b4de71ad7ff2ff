"""Measure adaptive write commands against those of a fixed size, under a quiet and a noisy server.

usage: scripts/bench batches [--rounds N] [--documents N] [--bytes N] [--targets MS,MS,...]
                             [--only quiet,latency,load] [--json FILE]

A dump of generated documents is restored by the whole program (4 workers, `--no-verify`, majority)
with `--batch adaptive`, with the document's policy, and with fixed sizes of 100 documents, 1000 and
whole blocks; with `--targets`, adaptive with other targets (`--batch-ms`) too. The server is

- quiet: nothing else happens;
- latency: for two seconds of every four, each insert waits 300 ms, whatever it holds;
- load: two others keep the server's processors busy, for two seconds of every four.

Each round runs every contender once. Printed per condition: medians, the mean time of one write
command as the server saw it, and how many times the throughput of whole blocks is reached (the
median of the rounds' ratios).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from common import (
    WORKERS,
    Contender,
    Figures,
    Place,
    compete,
    loaded,
    numbers,
    options,
    two_servers,
)
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from results import Results, middle, paired, spread

NAME: Final = "batches"
WHOLE: Final = "whole blocks"
WAIT_MS: Final = 300
PERIOD_S: Final = 2.0
BUSY: Final[list[dict[str, Any]]] = [
    {"$documents": {"$map": {"input": {"$range": [0, 300_000]}, "in": {"n": "$$this"}}}},
    {"$group": {"_id": {"$mod": ["$n", 97]}, "sum": {"$sum": {"$sqrt": "$n"}}}},
]
Client = MongoClient[dict[str, Any]]


# --- noise ----------------------------------------------------------------------------------------


@contextmanager
def quiet(_uri: str) -> Iterator[None]:
    yield


@contextmanager
def latency(uri: str) -> Iterator[None]:
    wait = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": WAIT_MS}

    def turn(client: Client, *, on: bool) -> None:
        point: dict[str, Any] = {"configureFailPoint": "failCommand", "mode": "off"}
        client.admin.command({**point, "mode": "alwaysOn", "data": wait} if on else point)

    with Client(uri) as client, in_turns(lambda on: turn(client, on=on)):
        yield
    with Client(uri) as client:
        turn(client, on=False)


@contextmanager
def load(uri: str) -> Iterator[None]:
    ended, busy = threading.Event(), threading.Event()

    def work() -> None:
        with Client(uri) as client:
            while not ended.is_set():
                if busy.wait(0.1):
                    client.admin.aggregate(BUSY).to_list()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for each in workers:
        each.start()
    with in_turns(lambda on: busy.set() if on else busy.clear()):
        yield
    ended.set()
    for each in workers:
        each.join()


@contextmanager
def in_turns(turn: Callable[[bool], None]) -> Iterator[None]:
    """On, off, on, off, beginning with on."""
    ended = threading.Event()

    def run() -> None:
        on = True
        while not ended.is_set():
            try:
                turn(on)
            except PyMongoError:
                return
            on = not on
            ended.wait(PERIOD_S)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


NOISES: Final = {"quiet": quiet, "latency": latency, "load": load}


# --- contenders -----------------------------------------------------------------------------------


@dataclass
class Bench:
    """Restores of one dump, and how long the server took for a write command in each."""

    place: Place
    noise: str
    command_ms: dict[str, list[float]] = field(default_factory=dict)

    def contender(self, name: str, *how: str) -> Contender:
        return Contender(name, lambda: self._restore(name, how), (WHOLE,))

    def _restore(self, name: str, how: Sequence[str]) -> Figures:
        place = self.place
        place.empty()
        words = ("--target", place.target.uri, "--no-verify", "--restore-workers", str(WORKERS))
        before = self._writes()
        with NOISES[self.noise](place.target.uri):
            figures = place.ferrylog("restore", str(place.folder / NAME), *words, *how)
        took, commands = (b - a for a, b in zip(before, self._writes(), strict=True))
        self.command_ms.setdefault(name, []).append(took / 1000 / max(1, commands))
        return figures

    def _writes(self) -> tuple[int, int]:
        """Microseconds, and commands."""
        with Client(self.place.target.uri) as client:
            found = client.admin.command("serverStatus")["opLatencies"]["writes"]
        return found["latency"], found["ops"]


def contenders(bench: Bench, targets: Sequence[int]) -> list[Contender]:
    return [
        bench.contender("adaptive"),
        *(bench.contender(f"adaptive, {ms} ms", "--batch-ms", str(ms)) for ms in targets),
        bench.contender("document", "--batch", "document"),
        bench.contender("fixed, 100", "--batch", "fixed", "--batch-docs", "100"),
        bench.contender("fixed, 1000", "--batch", "fixed", "--batch-docs", "1000"),
        bench.contender(WHOLE, "--batch", "fixed"),
    ]


def contest(
    results: Results, bench: Bench, targets: Sequence[int], count: int, rounds: int
) -> None:
    found = compete(contenders(bench, targets), rounds)
    rows = []
    for name, each in found.items():
        took = middle(each, lambda f: f.seconds)
        ratio = spread(paired(found[WHOLE], each))
        cpu = (f"{middle(each, of):.2f}" for of in (lambda f: f.cpu_s, lambda f: f.server_cpu_s))
        command = f"{median(bench.command_ms[name]):.0f}"
        rows.append([name, f"{took:.2f}", f"{count / took:,.0f}", *cpu, command, ratio])
    columns = [
        "",
        "s",
        "documents/s",
        "client CPU s",
        "server CPU s",
        "ms a command",
        f"times {WHOLE}",
    ]
    results.table(f"{bench.noise}: {count:,} documents; rounds: {rounds}", columns, rows)


def main() -> None:
    parser = options(__doc__, rounds=3, only=",".join(NOISES))
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--bytes", type=int, default=230)
    parser.add_argument("--targets", type=numbers, default=[])
    asked = parser.parse_args()
    count = max(1000, int(asked.documents * asked.scale))
    results = Results.begin("batches")
    with two_servers("--setParameter", "enableTestCommands=1") as place:
        loaded(place.source.uri, NAME, count, asked.bytes)
        place.fresh(NAME).rmdir()
        what = ("-d", "bench", "-c", NAME, "--chunk-bytes", str(16 << 20), "--compression", "none")
        to = ("--out", str(place.folder / NAME))
        place.ferrylog("dump", "--source", place.source.uri, *to, *what)
        for noise in asked.only.split(","):
            contest(results, Bench(place, noise), asked.targets, count, asked.rounds)
            results.save(asked.json)


if __name__ == "__main__":
    main()
