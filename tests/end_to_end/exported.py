"""An independent judge of exports: count and digest of all documents, by readers that are not ours.

It imports nothing of the program it judges. JSON lines are read with bson's own `json_util` and
must give the very bytes of the source; Parquet with pyarrow, every value held against what the
documented mapping makes of the source's (`mapped`), and once more by DuckDB in sums. A digest is
the sum of hashes of single documents: it tells what is missing, doubled or changed, in any order.
"""

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

import bson
import zstandard
from bson import Decimal128, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.json_util import CANONICAL_JSON_OPTIONS, JSONOptions, dumps, loads
from pymongo import MongoClient

READERS: Final = 2
"""Processes."""
EXACT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=True)
AS_UUID: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, uuid_representation=UuidRepresentation.STANDARD
)
LINES: Final = JSONOptions(
    json_mode=CANONICAL_JSON_OPTIONS.json_mode, uuid_representation=UuidRepresentation.UNSPECIFIED
)
UUIDS: Final = JSONOptions(
    json_mode=CANONICAL_JSON_OPTIONS.json_mode, uuid_representation=UuidRepresentation.STANDARD
)


@dataclass(frozen=True)
class Seen:
    """So many documents, and the sum of their hashes."""

    documents: int = 0
    digest: int = 0

    def __add__(self, more: "Seen") -> "Seen":
        return Seen(self.documents + more.documents, (self.digest + more.digest) % (1 << 128))

    def __str__(self) -> str:
        return f"{self.documents:,} documents, {self.digest:032x}"


def seen(documents: Iterable[bytes]) -> Seen:
    hashes = [int.from_bytes(blake2b(each, digest_size=16).digest()) for each in documents]
    return Seen(len(hashes), sum(hashes) % (1 << 128))


def total(parts: Iterable[Seen]) -> Seen:
    return sum(parts, Seen())


# --- the source -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a collection holds: by its bytes, and as Parquet should give it back."""

    exact: Seen
    mapped: Seen


def source(uri: str, namespace: str, mixed: Sequence[str]) -> Source:
    """`mixed`: top-level fields of which Parquet has columns of Extended JSON."""
    database, _, name = namespace.partition(".")
    exact, mapped_ = Seen(), Seen()
    with MongoClient[dict[str, Any]](uri) as client, get_context("spawn").Pool(READERS) as pool:
        blocks = client[database][name].find_raw_batches(batch_size=20_000)
        of_block = partial(_of_block, mixed=tuple(mixed))
        for one, other in pool.imap_unordered(of_block, blocks):
            exact += one
            mapped_ += other
    return Source(exact, mapped_)


def _of_block(block: bytes, mixed: Sequence[str]) -> tuple[Seen, Seen]:
    raw = list(_split(block))
    return seen(raw), seen(mapped(bson.decode(each, AS_UUID), mixed) for each in raw)


def _split(block: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(block):
        length = int.from_bytes(block[at : at + 4], "little")
        yield block[at : at + length]
        at += length


def mapped(document: Mapping[str, Any], mixed: Sequence[str]) -> bytes:
    """What stands in Parquet (`--types exchange`) for it, in a form of this module's own: null and
    what is missing are left out."""
    row = {
        name: json.loads(dumps(value, json_options=UUIDS)) if name in mixed else _plain(value)
        for name, value in document.items()
        if value is not None
    }
    return _form(row)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {k: _plain(v) for k, v in value.items() if v is not None}
        case list():
            return [_plain(v) for v in value]
        case ObjectId() | Decimal128() | UUID():
            return str(value)
        case datetime():
            return {"ms": (value - datetime.fromtimestamp(0, value.tzinfo)) // MILLISECOND}
        case bytes():
            return {"bytes": value.hex()}
        case _:
            return value


MILLISECOND: Final = timedelta(milliseconds=1)


def _form(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, sort_keys=True, separators=(",", ":")).encode()


# --- what was exported ----------------------------------------------------------------------------


def of_jsonl(files: Sequence[Path]) -> Seen:
    return _over(_of_lines, files)


def of_parquet(files: Sequence[Path], mixed: Sequence[str]) -> Seen:
    return _over(partial(_of_rows, mixed=tuple(mixed)), files)


def _over(read: Callable[[Path], Seen], files: Sequence[Path]) -> Seen:
    with get_context("spawn").Pool(READERS) as pool:
        return total(pool.imap_unordered(read, files))


def _of_lines(path: Path) -> Seen:
    with _text(path) as lines:
        return seen(bson.encode(loads(line, json_options=LINES)) for line in lines)


def _text(path: Path) -> IO[str]:
    match path.suffix:
        case ".zst":
            file = path.open("rb")
            reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            return io.TextIOWrapper(reader, encoding="utf-8", newline="\n")
        case ".gz":
            return gzip.open(path, "rt", encoding="utf-8", newline="\n")
        case _:
            return path.open(encoding="utf-8", newline="\n")


def _of_rows(path: Path, mixed: Sequence[str]) -> Seen:
    from pyarrow.parquet import ParquetFile

    found = Seen()
    with ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=10_000):
            found += seen(_row(row, mixed) for row in batch.to_pylist())
    return found


def _row(row: Mapping[str, Any], mixed: Sequence[str]) -> bytes:
    there = {name: value for name, value in row.items() if value is not None}
    return _form({k: json.loads(v) if k in mixed else _plain(v) for k, v in there.items()})


@dataclass(frozen=True)
class Sums:
    """By DuckDB over a whole folder, or by the server: two that know nothing of each other."""

    documents: int
    ids: int
    """Different ones."""
    sums: Mapping[str, int] = field(default_factory=dict)
    present: Mapping[str, int] = field(default_factory=dict)
    """Values of a column that are not null."""


def sums_of_parquet(folder: Path, summed: Sequence[str], columns: Sequence[str]) -> Sums:
    import duckdb

    wanted = ["count(*)", "count(DISTINCT _id)"]
    wanted += [f'sum("{name}")::HUGEINT' for name in summed]
    wanted += [f'count("{name}")' for name in columns]
    with duckdb.connect() as connection:
        query = f"SELECT {', '.join(wanted)} FROM read_parquet('{folder}/**/*.parquet')"
        found = connection.execute(query).fetchone()
    assert found is not None
    numbers = [int(each or 0) for each in found]
    split = 2 + len(summed)
    told = dict(zip(summed, numbers[2:split], strict=True))
    return Sums(numbers[0], numbers[1], told, dict(zip(columns, numbers[split:], strict=True)))


def sums_of_source(uri: str, namespace: str, summed: Sequence[str], columns: Sequence[str]) -> Sums:
    database, _, name = namespace.partition(".")
    group: dict[str, Any] = {"_id": None, "n": {"$sum": 1}}
    group |= {f"s{at}": {"$sum": f"${each}"} for at, each in enumerate(summed)}
    present = [{"$cond": [{"$gt": [f"${each}", None]}, 1, 0]} for each in columns]
    group |= {f"c{at}": {"$sum": each} for at, each in enumerate(present)}
    with MongoClient[dict[str, Any]](uri) as client:
        found = next(iter(client[database][name].aggregate([{"$group": group}])))
    told = {each: int(found[f"s{at}"]) for at, each in enumerate(summed)}
    there = {each: int(found[f"c{at}"]) for at, each in enumerate(columns)}
    return Sums(found["n"], found["n"], told, there)
