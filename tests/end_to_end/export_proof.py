"""The proof of exports: killed at random, resumed, and all that was written read back.

    scripts/prove-export [--documents 2000000] [--kills 5] [--seed 1]
                         [--formats parquet,jsonl] [--to file,s3] [--folder DIR]

One collection of documents with values of many types goes out in each form to each place. Every
export is killed with SIGKILL so many times: each time when a drawn share of its chunks is done and
a drawn moment has passed. Then it is left to finish, and `exported.py`, which shares no code with
the program, compares count and digest over all documents with the source. What must be there
besides: a manifest that names exactly the files that lie there, `_SUCCESS`, and nothing else.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ferrylog.embedded import Mongod
from tests.end_to_end import exported
from tests.end_to_end.kills import Watch
from tests.objectstores import bucket_of_its_own, s3_server

NAMESPACE: Final = "proof.orders"
MIXED: Final = ("mixed",)
SUMMED: Final = ("n", "big")
COLUMNS: Final = ("name", "at", "price", "maybe", "mixed", "tags")
FERRYLOG: Final = (sys.executable, "-m", "ferrylog")
PATIENCE_S: Final = 1800.0
"""An export that takes longer hangs."""
ORPHANS_S: Final = 15.0
"""So long may processes live on whose parent was killed."""
OWN: Final = ("_manifest.json", "_SUCCESS")
SUFFIXES: Final = {"parquet": "*.parquet", "jsonl": "*.jsonl*"}


# --- the documents --------------------------------------------------------------------------------


def load(uri: str, count: int, seed: int) -> None:
    parts = [(uri, seed, first, min(count, first + 20_000)) for first in range(0, count, 20_000)]
    with get_context("spawn").Pool(exported.READERS) as pool:
        pool.starmap(_load, parts, chunksize=1)


def _load(uri: str, seed: int, first: int, end: int) -> None:
    draw = random.Random(f"{seed}/{first}")
    with MongoClient[dict[str, Any]](uri) as client:
        collection = client["proof"]["orders"]
        for start in range(first, end, 5_000):
            made = [document(draw, n) for n in range(start, min(end, start + 5_000))]
            collection.insert_many(made, ordered=False)


def document(draw: random.Random, n: int) -> dict[str, Any]:
    """Of one collection: uniform columns, one with every type, one that is often not there."""
    made: dict[str, Any] = {
        "_id": ObjectId(n.to_bytes(4, "big") + draw.randbytes(8)),
        "n": n,
        "big": Int64(draw.getrandbits(40)),
        "x": draw.random() * 1000,
        "name": f'Nämé {draw.getrandbits(40):x}\t"quoted"',
        "at": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(milliseconds=draw.getrandbits(36)),
        "ok": n % 3 == 0,
        "price": Decimal128(f"{draw.randrange(10**9)}.{draw.randrange(100):02}"),
        "key": Binary(draw.randbytes(16), 4),
        "blob": draw.randbytes(12),
        "where": {"city": f"city {draw.randrange(900)}", "geo": {"lat": draw.random(), "n": n % 7}},
        "tags": draw.choices(("red", "green", "blue", "gift", "bulk"), k=n % 4),
        "lines": [{"sku": f"{draw.getrandbits(24):x}", "count": k} for k in range(1 + n % 2)],
        "mixed": _mixed(draw, n),
    }
    if n % 5 == 0:
        made["maybe"] = None if n % 10 else draw.getrandbits(20)
    return made


def _mixed(draw: random.Random, n: int) -> Any:
    values = (
        n,
        Int64(n << 33),
        f"text {n}",
        n / 7,
        {"a": n, "b": [n]},
        [n, "x"],
        datetime(2021, 1, 1, tzinfo=UTC),
        Regex(f"^{n}", "i"),
        Timestamp(n + 1, 1),
        ObjectId(draw.randbytes(12)),
        Decimal128("1.50"),
        None,
    )
    return values[n % len(values)]


# --- where exports go -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What `--out` says, and how a judge gets at what lies there."""

    url: str
    folder: Path
    """What lies there on this disk, after `fetch`."""
    endpoint: str = ""

    def fetch(self) -> None:
        """From an object store with the cloud's own client."""
        if not self.endpoint:
            return
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        for name in self._names(bucket, prefix + "/"):
            path = self.folder / name.removeprefix(prefix + "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client().download_file(bucket, name, str(path))

    def half_done(self) -> int:
        """Multipart uploads that nobody ended or took back."""
        if not self.endpoint:
            return 0
        bucket = self.url.removeprefix("s3://").partition("/")[0]
        return len(self._client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    def _names(self, bucket: str, prefix: str) -> Iterator[str]:
        pages = self._client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            yield from (each["Key"] for each in page.get("Contents", []))

    def _client(self) -> Any:
        import boto3  # type: ignore[import-untyped]

        return boto3.client("s3", endpoint_url=self.endpoint)


@contextmanager
def places(wanted: Sequence[str], folder: Path) -> Iterator[dict[str, Place]]:
    """By what was asked for; a store for each form of each of them is beneath its URL."""
    found: dict[str, Place] = {}
    with ExitStack() as stack:
        if "file" in wanted:
            found["file"] = Place(str(folder / "out"), folder / "out")
        if "s3" in wanted:
            endpoint = stack.enter_context(s3_server())
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            bucket = bucket_of_its_own(endpoint, patch)
            found["s3"] = Place(f"{bucket.url}/out", folder / "fetched", endpoint)
        yield found


# --- one export under fire ------------------------------------------------------------------------


@dataclass
class Export:
    """Begun once, then resumed as often as it was killed."""

    uri: str
    place: Place
    form: str
    folder: Path
    shots: Sequence[float]
    """Shares of all chunks at which it is killed."""
    chunks: int
    draw: random.Random
    more: Sequence[str] = ()
    kills: int = 0
    hits: list[str] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.folder / "ferrylog.db"

    def run(self) -> None:
        """To its end. Raises `AssertionError` with what it said when that is not a success."""
        self.folder.mkdir(parents=True)
        for share in self.shots:
            if not self._killed_at(share):
                return
        done = subprocess.run(
            self._words(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}"

    def _killed_at(self, share: float) -> bool:
        """False: it ended before."""
        process = subprocess.Popen(self._words(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait = self.draw.random()
        while process.poll() is None and self._done() < share:
            time.sleep(0.01)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            self._kill(process)
            return True
        error = process.communicate()[1].decode()
        assert process.returncode == 0, f"exit {process.returncode}: {error}"
        return False

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        self.kills += 1
        self.hits.append(f"{self._done():.0%}")
        _, left = psutil.wait_procs(helpers, timeout=ORPHANS_S)
        assert not left, f"processes outlived the one that started them: {left}"

    def _done(self) -> float:
        rows = Watch(self.journal).rows()
        return sum(row.kind == "dump_completed" for row in rows) / self.chunks

    def _words(self) -> list[str]:
        ends = ("--source", self.uri)
        if self.journal.exists() and Watch(self.journal).job():
            return [*FERRYLOG, "resume", "--quiet", "--journal", str(self.journal), *ends]
        words = ("export", "--quiet", "--journal", str(self.journal), *ends)
        out = ("--out", self.place.url, "--format", self.form)
        return [*FERRYLOG, *words, *out, "-d", "proof", "--dump-workers", "2", *self.more]


def judge(export: Export, source: exported.Source, sums: exported.Sums) -> list[str]:
    """What is wrong with the finished export."""
    export.place.fetch()
    folder = export.place.folder
    files = sorted(folder.rglob(SUFFIXES[export.form]))
    if export.form == "jsonl":
        wanted, found = source.exact, exported.of_jsonl(files)
    else:
        wanted, found = source.mapped, exported.of_parquet(files, MIXED)
    problems = [f"read back: {found}, not {wanted}"] * (found != wanted)
    if export.form == "parquet":
        read = exported.sums_of_parquet(folder, SUMMED, COLUMNS)
        problems += [f"DuckDB: {read}, not {sums}"] * (read != sums)
    return problems + _misplaced(export, files)


def _misplaced(export: Export, files: Sequence[Path]) -> list[str]:
    """Files beside those that the manifest names, or the other way round."""
    folder = export.place.folder
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    named = set(_file_names(json.loads((folder / "_manifest.json").read_bytes())))
    lying = {str(path.relative_to(folder)) for path in files}
    problems = [f"in the manifest, not there: {each}" for each in sorted(named - lying)]
    problems += [f"there, not in the manifest: {each}" for each in sorted(lying - named)]
    problems += [f"not of the export: {each}" for each in sorted(there - lying - set(OWN))]
    problems += [f"{each} is missing" for each in OWN if each not in there]
    half_done = export.place.half_done()
    return problems + [f"{half_done} uploads half done"] * bool(half_done)


def _file_names(value: Any) -> Iterator[str]:
    """Wherever a manifest has a list of `files`."""
    match value:
        case {"files": list() as files}:
            yield from (each["name"] for each in files)
        case dict():
            for each in value.values():
                yield from _file_names(each)
        case list():
            for each in value:
                yield from _file_names(each)


# --- all of them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    documents: int
    kills: int = 5
    seed: int = 1
    chunk_docs: int = 100_000
    formats: Sequence[str] = ("parquet", "jsonl")
    to: Sequence[str] = ("file", "s3")

    def prove(self, uri: str, folder: Path) -> list[str]:
        """Problems, each with where; prints what was done."""
        began = time.monotonic()
        load(uri, self.documents, self.seed)
        source = exported.source(uri, NAMESPACE, MIXED)
        sums = exported.sums_of_source(uri, NAMESPACE, SUMMED, COLUMNS)
        print(f"source: {source.exact}; loaded and read in {time.monotonic() - began:.0f} s")
        problems = []
        with places(self.to, folder) as found:
            for form in self.formats:
                for name, place in found.items():
                    told = self._one(uri, form, name, place, folder, source, sums)
                    problems += [f"{form} to {name}: {each}" for each in told]
        return problems

    def _one(
        self,
        uri: str,
        form: str,
        name: str,
        place: Place,
        folder: Path,
        source: exported.Source,
        sums: exported.Sums,
    ) -> list[str]:
        draw = random.Random(f"{self.seed}/{form}/{name}")
        shots = sorted(draw.uniform(0, 0.9) for _ in range(self.kills))
        beneath = Place(f"{place.url}/{form}", place.folder / form, place.endpoint)
        chunks = -(-self.documents // self.chunk_docs)
        more = ("--chunk-docs", str(self.chunk_docs))
        work = folder / f"{form}-{name}"
        export = Export(uri, beneath, form, work, shots, chunks, draw, more)
        began = time.monotonic()
        export.run()
        took = time.monotonic() - began
        problems = judge(export, source, sums)
        print(
            f"{form} to {name}: killed {export.kills} times (chunks done: "
            f"{', '.join(export.hits)}), {took:.0f} s in all; read back in "
            f"{time.monotonic() - began - took:.0f} s: "
            f"{problems or 'complete, nothing twice'}",
            flush=True,
        )
        return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=2_000_000)
    parser.add_argument("--chunk-docs", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", default="parquet,jsonl")
    parser.add_argument("--to", default="file,s3")
    parser.add_argument("--folder", type=Path, help="kept; a temporary one otherwise")
    asked = parser.parse_args()
    proof = Proof(
        asked.documents,
        asked.kills,
        asked.seed,
        asked.chunk_docs,
        asked.formats.split(","),
        asked.to.split(","),
    )
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="ferrylog-proof-"))
        folder = asked.folder or Path(made)
        mongod = stack.enter_context(Mongod(folder / "mongod", name="proof", cache_gb=1))
        problems = proof.prove(mongod.uri, folder)
    sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
