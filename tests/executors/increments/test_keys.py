"""The database of changed keys: each once, in order, durable, in bounded memory (I21, I32)."""

import os
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.classify import classify
from executors.increments.errors import DamagedKeys
from executors.increments.keyorder import order
from executors.increments.keys import ChangedKeys, Keys, discard
from statemachine.words import Cause
from tests.executors.test_boundaries import one, values

ONE, OTHER = "11" * 16, "f0" * 16
MEMORY = 1 << 20


def key(value: object) -> bytes:
    return bson.encode({"_id": value})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


def filled(path: Path, *added: tuple[str, object], memory: int = MEMORY) -> Keys:
    with ChangedKeys(path, memory) as keys:
        keys.add((uuid, key(value)) for uuid, value in added)
        keys.flush()
    return Keys(path)


def test_each_key_once_by_collection(path: Path) -> None:
    """I32: a change more of the same document is no key more; equal numbers are one."""
    added = [(ONE, 5), (ONE, "a"), (OTHER, 5), (ONE, 5), (ONE, Int64(5)), (ONE, Decimal128("5.0"))]
    keys = filled(path, *added)
    assert keys.counts() == {ONE: 2, OTHER: 1}
    assert (keys.count(ONE), keys.count(OTHER), keys.count("00" * 16)) == (2, 1, 0)
    assert list(keys.between(ONE, None, None)) == [key(Decimal128("5.0")), key("a")]
    filled(path, (ONE, 5), (ONE, 6))
    assert keys.counts() == {ONE: 3, OTHER: 1}


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(values.map(one), max_size=40), st.integers(1, 12), st.integers(0, 3000))
def test_parts_hold_every_key_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, ids: list[bytes], every: int, memory: int
) -> None:
    """I21: the ranges between the boundaries are disjoint and cover all, whatever the ids are and
    however little memory there was."""
    path = tmp_path_factory.mktemp("keys") / "keys.db"
    with ChangedKeys(path, memory) as keys:
        keys.add((ONE, each) for each in ids)
        keys.add((OTHER, each) for each in ids[::2])
        keys.flush()
        edges = [None, *keys.boundaries(ONE, every), None]
        parts = [list(keys.between(ONE, lower, upper)) for lower, upper in pairwise(edges)]
    wanted = {order(each): each for each in ids}
    assert [each for part in parts for each in part] == [wanted[each] for each in sorted(wanted)]
    assert all(len(part) == every for part in parts[:-1])
    assert len(parts[-1]) <= every
    assert parts[-1] or not ids


def test_what_was_flushed_outlives_the_process(path: Path) -> None:
    """I32: it dies without a word right behind the flush; what came later may be lost."""
    script = f"""
import os, bson
from pathlib import Path
from executors.increments.keys import ChangedKeys
keys = ChangedKeys(Path({str(path)!r}), 1 << 20)
keys.add(({ONE!r}, bson.encode({{"_id": n}})) for n in range(1000))
keys.flush("here")
keys.add([({ONE!r}, bson.encode({{"_id": "lost"}}))])
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path.cwd())
    assert done.returncode == 9
    assert Keys(path).count(ONE) == 1000
    with ChangedKeys(path, MEMORY) as keys:
        assert keys.token() == "here"
        keys.flush()
        assert keys.token() == "here"
        keys.flush("there")
        assert keys.token() == "there"


def test_it_is_nobody_else_s(path: Path) -> None:
    filled(path, (ONE, 1))
    with ChangedKeys(path, MEMORY) as keys:
        keys.add([(ONE, key(2))])
        keys.flush()
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600, file


def test_many_read_while_it_is_written(path: Path) -> None:
    """What a reader sees is as of its beginning."""
    filled(path, *((ONE, n) for n in range(2000)))
    failed: list[str] = []

    def read() -> None:
        for _ in range(5):
            found = list(Keys(path).between(ONE, key(100), key(1900)))
            if found != [key(n) for n in range(100, 1900)]:
                failed.append(f"{len(found)} keys")

    readers = [threading.Thread(target=read) for _ in range(4)]
    with ChangedKeys(path, MEMORY) as keys:
        reading = keys.between(ONE, None, None)
        next(reading)
        for reader in readers:
            reader.start()
        for n in range(20):
            keys.add((ONE, key(5000 + n * 100 + m)) for m in range(100))
            keys.flush()
        for reader in readers:
            reader.join(60)
        assert sum(1 for _ in reading) == 1999
        assert keys.count(ONE) == 4000
    assert not failed


def damaged(path: Path) -> None:
    filled(path, *((ONE, n) for n in range(5000)))
    with path.open("r+b") as file:
        file.seek(16 << 10)
        file.write(os.urandom(64 << 10))


def empty(path: Path) -> None:
    path.touch()


def another(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE keys (uuid, key, id)")
    db.commit()
    db.close()


NO_KEYS = {
    "none": lambda _: None,
    "empty": empty,
    "text": lambda path: path.write_text("no database" * 1000),
    "another database": another,
    "damaged": damaged,
    "cut": lambda path: (filled(path, *((ONE, n) for n in range(5000))), os.truncate(path, 20_000)),
}


@pytest.mark.parametrize("kind", NO_KEYS)
def test_what_is_no_such_database_is_told(path: Path, kind: str) -> None:
    """Never an empty one in its place: an increment without its changes would look whole (I32)."""
    NO_KEYS[kind](path)
    with pytest.raises(DamagedKeys, match="captured anew|cannot be read") as told:
        list(Keys(path).between(ONE, None, None))
    assert told.value.code == "EKEYS001"
    with pytest.raises(DamagedKeys):
        Keys(path).counts()


@pytest.mark.parametrize("kind", ["text", "another database"])
def test_nothing_is_added_to_what_is_none(path: Path, kind: str) -> None:
    NO_KEYS[kind](path)
    before = path.read_bytes()
    with pytest.raises(DamagedKeys):
        ChangedKeys(path, MEMORY)
    assert path.read_bytes() == before
    discard(path)
    assert filled(path, (ONE, 1)).counts() == {ONE: 1}


def test_a_full_disk_is_no_damage(path: Path) -> None:
    """The rules wait for the operator then; what was flushed stays."""
    with ChangedKeys(path, MEMORY) as keys:
        keys.add((ONE, key(n)) for n in range(100))
        keys.flush("a")
        keys._db.execute("PRAGMA max_page_count = 5")
        with pytest.raises(OSError, match="full") as told:
            keys.add((ONE, key(ObjectId())) for _ in range(20_000))
        assert classify(told.value)[:2] == (Cause.FATAL, "EDISK001")
        assert (keys.count(ONE), keys.token()) == (100, "a")


def test_memory_is_bounded(path: Path) -> None:
    """A16: 600,000 random keys, some 150 MB of Python objects, in 16 MB."""
    script = f"""
import os, resource
from pathlib import Path
from executors.increments.keys import ChangedKeys
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
keys = ChangedKeys(Path({str(path)!r}), 16 << 20)
head = bytes.fromhex("1f000000055f69640010000000") + b"\\4"
keys.add(({ONE!r}, head + os.urandom(16) + b"\\0") for _ in range(600_000))
keys.flush()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert int(done.stdout) << 10 < 24 << 20
    assert Keys(path).count(ONE) == 600_000
