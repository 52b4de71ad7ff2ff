"""Files that need not be read twice, and threads beside each other."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from executors.beside import ahead, beside
from executors.chunkfile import DamagedFile
from executors.rawbson import may_have_empty_timestamp, wrap
from executors.restore import restore
from executors.unchanged import Unchanged, mark_of
from statemachine.state import ChunkFile
from tests.executors.examples import Looks, filed, part_of, plain_unit, spec

TICK_S = 0.02
"""Two writes that are nearer have one time on some file systems."""
FILE = ChunkFile("c/0-1.flb", 1, 5, 5, "sum")


def test_a_file_that_was_read_is_known_once(tmp_path: Path) -> None:
    """P2: who asks again has met trouble, and reads it."""
    path, unchanged = tmp_path / "0-1.flb", Unchanged()
    path.write_bytes(b"12345")
    unchanged.holds(path, 0, 5, "sum", mark_of(path))
    assert unchanged.still_holds(path, FILE)
    assert not unchanged.still_holds(path, FILE)


@pytest.mark.parametrize("how", ["written", "replaced", "gone", "backdated", "other sum"])
def test_a_file_that_was_touched_is_read_again(tmp_path: Path, how: str) -> None:
    """P2, I24: whatever was done to it since, its time of writing set back included."""
    path, unchanged = tmp_path / "0-1.flb", Unchanged()
    path.write_bytes(b"12345")
    before = path.stat()
    unchanged.holds(path, 0, 5, "other" if how == "other sum" else "sum", mark_of(path))
    time.sleep(TICK_S)
    match how:
        case "written" | "backdated":
            with path.open("r+b") as file:
                file.write(b"5")
            if how == "backdated":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "replaced":
            other = tmp_path / "other"
            other.write_bytes(b"12345")
            os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
            other.replace(path)
        case "gone":
            path.unlink()
    assert not unchanged.still_holds(path, FILE)


def test_no_more_is_believed_than_memory_holds(tmp_path: Path) -> None:
    """P2, I24: what the machine had to forget is read from the disk again."""
    unchanged = Unchanged(9)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"12345")
        unchanged.holds(tmp_path / name, 0, 5, "sum", mark_of(tmp_path / name))
    assert not unchanged.still_holds(tmp_path / "b", FILE)
    assert unchanged.still_holds(tmp_path / "a", FILE)
    unchanged.holds(tmp_path / "b", 0, 5, "sum", mark_of(tmp_path / "b"))
    assert unchanged.still_holds(tmp_path / "b", FILE)


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    unchanged = Unchanged()
    unchanged.holds(tmp_path / "none", 0, 5, "sum", mark_of(tmp_path / "none"))
    assert not unchanged.still_holds(tmp_path / "none", FILE)


def test_results_come_in_order_and_the_first_error_in_its_turn() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(10)  # the later one is done first
        if number == 1:
            second.set()
        if number == 3:
            raise OSError("the fourth")
        return number * 2

    found = beside(work, range(100), 2)
    assert [next(found), next(found), next(found)] == [0, 2, 4]
    with pytest.raises(OSError, match="the fourth"):
        next(found)
    assert list(beside(work, [], 2)) == []


def test_empty_timestamps_are_never_overlooked() -> None:
    """At any place of a block, behind bytes that look like another one's beginning."""
    empty, told = b"\x11t\0" + bytes(8), b"\x11t\0" + b"\x01" * 8
    noise = [b"", b"\x11", b"\x11\x11", b"\x11\0", b"\x02s\0\x02\0\0\0\x11\0", told, b"\x11x\0" * 3]
    for before in noise:
        assert may_have_empty_timestamp(before + empty)
        assert may_have_empty_timestamp(wrap(before + empty) * 2)
        assert not may_have_empty_timestamp(before + told + b"\x01")


def test_the_next_one_is_made_while_the_caller_is_at_the_one_before() -> None:
    made = [threading.Event() for _ in range(4)]

    def things() -> Iterator[int]:
        for number, each in enumerate(made):
            each.set()
            yield number
        raise OSError("the end")

    found = ahead(things())
    assert next(found) == 0
    assert made[1].wait(10)
    assert not made[2].wait(0.05)  # no further: memory is bounded
    assert [next(found), next(found), next(found)] == [1, 2, 3]
    with pytest.raises(OSError, match="the end"):
        next(found)
    assert list(ahead(iter(()))) == []


def test_who_leaves_early_leaves_no_thread() -> None:
    before = threading.active_count()
    found = ahead(iter(range(10)))
    assert next(found) == 0
    found.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("touched", [False, True])
def test_a_restore_reads_a_file_for_its_digest_unless_it_is_known(
    tmp_path: Path, touched: bool
) -> None:
    """I24: what was known to be whole and was flipped since is found before anything is written."""
    path, unchanged, stop = tmp_path / "c.bson", Unchanged(), Looks()
    document = bson.encode({"_id": 1, "pad": "x" * 100})
    path.write_bytes(document)
    unit = plain_unit()
    file = part_of(path, [document])._replace(sha256="of nothing")  # who looks is disappointed
    chunk = filed(file, unit)
    unchanged.holds(path, file.at, file.file_bytes, file.sha256, mark_of(path))
    if touched:
        time.sleep(TICK_S)
        path.write_bytes(document.replace(b"x", b"y", 1))
    client = MongoClient[Any]("mongodb://127.0.0.1:1/", serverSelectionTimeoutMS=10)
    expected = DamagedFile if touched else PyMongoError  # it came to writing, and nobody is there
    with client, pytest.raises(expected):
        list(restore(client, unit, chunk, spec(), path, tmp_path, stop, unchanged=unchanged))
