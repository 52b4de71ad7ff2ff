"""A large `.bson` file, cut in its last document and with a hole in its middle, salvaged."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bson
from pymongo import MongoClient

from tests import program

PAD: Final = 4000
HOLE: Final = 3 * PAD + 17
"""Bytes of garbage in the middle."""


@dataclass(frozen=True)
class Told:
    bytes: int
    documents: int
    restored: int
    expected: int
    damage: int
    """Places that were named."""
    code: int
    seconds: float
    most_kib: int

    def __str__(self) -> str:
        return (
            f"{self.bytes:,} bytes, {self.documents:,} documents: {self.restored:,} restored "
            f"({self.expected:,} are whole), {self.damage} places named, exit {self.code}, "
            f"{self.seconds:.1f} s, {self.bytes / self.seconds / 1e6:,.0f} MB/s, "
            f"{self.most_kib / 1024:,.0f} MiB of memory at most"
        )


def play(size: int, target: str, folder: Path) -> Told:
    """Make the file, restore it with `--salvage`, count what is there, by the ids of it."""
    path = folder / "large.bson"
    documents, lost = make(path, size)
    began = time.monotonic()
    environment = os.environ | {"FERRYLOG_JOURNAL": str(folder / "large.db")}
    words = ("restore", "--from", str(path), "-d", "large", "-c", "c", "--salvage")
    # Forked from a small process: what a big one executes counts that one's memory as its own.
    done = program.forked(*words, "--target", target, env=environment)
    seconds = time.monotonic() - began
    with MongoClient[dict[str, int]](target) as client:
        there = {row["_id"] for row in client.large.c.find({}, {"_id": 1})}
        client.drop_database("large")
    assert there == set(range(documents)) - lost, done.err
    return Told(
        path.stat().st_size,
        documents,
        len(there),
        documents - len(lost),
        done.err.count("bytes passed over"),
        done.code,
        seconds,
        done.most_kib,
    )


def make(path: Path, size: int) -> tuple[int, set[int]]:
    """How many documents were to be in it, and the numbers of those that are not whole."""
    one = len(_document(0))
    count = size // one
    with path.open("wb") as file:
        for n in range(count):
            file.write(_document(n))
        begin = count // 2 * one + 100
        file.seek(begin)
        file.write(os.urandom(HOLE))
        file.truncate(count * one - 50)
    hole = range(begin // one, (begin + HOLE - 1) // one + 1)
    return count, {*hole, count - 1}


def _document(n: int) -> bytes:
    return bson.encode({"_id": bson.Int64(n), "n": n % 7, "x": f"{n:08}" * (PAD // 8)})
