"""What the benches share: processes that are measured, contests in rounds, documents, and peers.

Every contender is a process of its own, so that its CPU and memory are its own. Peak memory is
that of its largest process, and cannot be told below what this one holds: so little is imported.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil
from pymongo import MongoClient

from ferrylog.embedded import Mongod

ROOT: Final = Path(__file__).resolve().parent.parent.parent
WORKERS: Final = 4
SETS: Final[dict[str, tuple[int, int]]] = {
    "small": (1_000_000, 230),
    "medium": (150_000, 4_000),
    "large": (2_500, 300_000),
    "real": (1_000_000, 0),
}
"""Documents, and the bytes of each, about; those of `real` are as they are."""
CACHE_GB: Final = 1.0
PROGRAM: Final = (sys.executable, "-m", "ferrylog")


# --- what one process took ------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    seconds: float
    cpu_s: float
    peak_mb: float
    server_cpu_s: float = 0.0
    """Of all servers together, while the process ran."""

    def __add__(self, after: "Figures") -> "Figures":
        """One after the other."""
        return Figures(
            self.seconds + after.seconds,
            self.cpu_s + after.cpu_s,
            max(self.peak_mb, after.peak_mb),
            self.server_cpu_s + after.server_cpu_s,
        )


def measured(words: Sequence[str], servers: Sequence[Mongod] = (), **kwargs: Any) -> Figures:
    """Run a command; wall, CPU and peak memory of its whole process, and CPU of the servers.
    Ends the bench when the command fails."""
    os.sync()  # what was written before is not for this one to wait for
    before = sum(map(cpu_of, servers))
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)
    assert process.stderr is not None
    with process.stderr as pipe:
        error = pipe.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{words} ended with {process.returncode}: {error.decode()[-2000:]}")
    served = sum(map(cpu_of, servers)) - before
    return Figures(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, served)


def cpu_of(server: Mongod) -> float:
    used = psutil.Process(server.pid).cpu_times()
    return float(used.user + used.system)


# --- contests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    name: str
    run: Callable[[], Figures]
    against: tuple[str, ...] = ()
    """Whom it is compared with."""


def compete(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Figures]]:
    """Each runs once a round; the first round in the order given, as one may need what another
    leaves, and each later one begins with another contender."""
    results: dict[str, list[Figures]] = {each.name: [] for each in contenders}
    for number in range(rounds):
        first = number * len(contenders) // rounds
        for each in (*contenders[first:], *contenders[:first]):
            results[each.name].append(each.run())
    return results


# --- servers and folders --------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Two servers and a folder."""

    source: Mongod
    target: Mongod
    folder: Path

    @property
    def servers(self) -> tuple[Mongod, Mongod]:
        return self.source, self.target

    def fresh(self, name: str) -> Path:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir(parents=True)
        return self.folder / name

    def empty(self) -> None:
        """The target holds nothing of before, and has nothing left to write of it."""
        clear(self.target.uri)

    def run(self, *words: str) -> Figures:
        return measured(words, self.servers, cwd=ROOT)

    def ferrylog(self, step: str, *words: str, journal: Path | None = None) -> Figures:
        """The whole program, with a journal of its own."""
        path = journal or self.fresh("journal") / "j.db"
        return self.run(*PROGRAM, step, "--quiet", "--journal", str(path), *words)


@contextmanager
def two_servers(*options: str) -> Iterator[Place]:
    """`options`: more words for both."""
    with tempfile.TemporaryDirectory(prefix="ferrylog-bench-") as name:
        folder = Path(name)
        with (
            Mongod(folder / "a", name="a", cache_gb=CACHE_GB, options=options) as source,
            Mongod(folder / "b", name="b", cache_gb=CACHE_GB, options=options) as target,
        ):
            yield Place(source, target, folder / "files")


def clear(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client.drop_database("bench")
        client.admin.command("fsync")


# --- documents ------------------------------------------------------------------------------------


def loaded(uri: str, name: str, count: int, size: int | None = None) -> int:
    """Fill `bench.<name>` with documents of the set, or of about `size` bytes, in a process of its
    own; returns their bytes."""
    words = [sys.executable, __file__, "load", uri, name, str(count)]
    words.append(str(SETS[name][1] if size is None else size))
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def load(uri: str, name: str, count: int, size: int) -> int:
    """The same in this process; documents of about `size` bytes."""
    draw = random.Random(name)
    words = [draw.randbytes(4).hex() for _ in range(4000)]
    known = real_documents() if name == "real" else []

    def made(n: int) -> Mapping[str, Any]:
        return dict(known[n % len(known)]) if known else document(draw, words, n, size)

    with MongoClient[Any](uri) as client:
        collection = client.bench[name]
        for start in range(0, count, 5000):
            collection.insert_many(
                [made(n) for n in range(start, min(count, start + 5000))], ordered=False
            )
        client.admin.command("fsync")
        return int(client.bench.command("collStats", name)["size"])


def document(draw: random.Random, words: list[str], n: int, size: int) -> dict[str, Any]:
    text = " ".join(draw.choices(words, k=max(1, (size - 110) // 9)))
    return {"n": n, "x": draw.random(), "tags": draw.choices(words, k=3), "text": text}


def corpus() -> Path | None:
    """Real collections as Extended JSON, one document a line: what `FERRYLOG_CORPUS` names."""
    named = os.environ.get("FERRYLOG_CORPUS")
    folder = Path(named) / "samples" if named else None
    return folder if folder is not None and folder.is_dir() else None


def real_documents() -> list[dict[str, Any]]:
    """Those of the corpus, without their `_id`s: loaded again and again under new ones."""
    from bson.json_util import loads  # noqa: PLC0415 — only who loads needs it

    folder = corpus()
    assert folder is not None, "FERRYLOG_CORPUS names no folder with samples"
    files = sorted(folder.glob("*/*.json"))
    lines = [line for file in files for line in file.read_text().split("\n")]
    documents = [loads(line) for line in lines if line.strip()]
    return [{k: v for k, v in each.items() if k != "_id"} for each in documents]


def sets(wanted: str, scale: float) -> Iterator[tuple[str, int]]:
    """The sets that were asked for, with how many documents; says which is skipped."""
    for name in wanted.split(","):
        if name == "real" and corpus() is None:
            print("real: skipped, as FERRYLOG_CORPUS names no folder with samples\n", flush=True)
        else:
            yield name, max(10, int(SETS[name][0] * scale))


# --- the peers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peers:
    """mongodump and mongorestore, for one collection of a place."""

    place: Place
    name: str
    workers: int

    def dump(self, *, gzip: bool = False) -> Figures:
        out = self.place.fresh("peer-gz" if gzip else "peer")
        return self.place.run("mongodump", *self._there, "-o", str(out), *["--gzip"] * gzip)

    def restore(self) -> Figures:
        self.place.empty()
        return self.place.run("mongorestore", *self._here, str(self.place.folder / "peer"))

    def pipe(self) -> Figures:
        self.place.empty()
        dump = " ".join(("mongodump", "--archive", *self._there))
        restore = " ".join(("mongorestore", "--archive", *self._here))
        return self.place.run("bash", "-o", "pipefail", "-c", f"{dump} | {restore}")

    def best(self, numbers: Sequence[int]) -> "Peers":
        """With as many insertion workers as restore fastest; one trial each, of two if close."""
        if len(numbers) == 1:
            return replace(self, workers=numbers[0])
        self.dump()
        tried = {n: replace(self, workers=n).restore().seconds for n in numbers}
        close = [n for n, took in tried.items() if took < 1.1 * min(tried.values())]
        for n in close:
            tried[n] = (tried[n] + replace(self, workers=n).restore().seconds) / 2
        return replace(self, workers=min(close, key=tried.__getitem__))

    @property
    def _there(self) -> tuple[str, ...]:
        return ("--uri", self.place.source.uri, "-d", "bench", "-c", self.name, "--quiet")

    @property
    def _here(self) -> tuple[str, ...]:
        workers = f"--numInsertionWorkersPerCollection={self.workers}"
        return ("--uri", self.place.target.uri, workers, "--quiet")


def have_peers() -> bool:
    return all(map(shutil.which, ("mongodump", "mongorestore")))


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def options(doc: str | None, *, rounds: int = 5, only: str = "") -> argparse.ArgumentParser:
    """The options that every bench has; `only`: the sets it runs on by default."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of documents")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found, for `report`")
    if only:
        parser.add_argument("--only", default=only, help="sets of documents")
    return parser


if __name__ == "__main__":
    _, what, where, *rest = sys.argv
    assert what == "load"
    print(load(where, rest[0], int(rest[1]), int(rest[2])))
