"""A cache: what is wrong with it counts as nothing being there."""

import random
from pathlib import Path

import apsw
import pytest

from journal.errors import JournalUnreachable
from journal.protocol import Position
from journal.snapshots import Snapshots, thinned
from statemachine.words import JobId

JOB = JobId("j1")


def at(version: int) -> Position:
    return Position(version, version, bytes([version % 256]) * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


def versions(snapshots: Snapshots, job: JobId = JOB, to_seq: int | None = None) -> list[int]:
    return [snapshot.position.version for snapshot in snapshots.of(job, to_seq=to_seq)]


def test_what_was_saved_is_found(path: Path) -> None:
    """I9: the newest first, up to a place, each job its own."""
    snapshots = Snapshots(path, "rules")
    assert versions(snapshots) == []
    assert not snapshots.path.exists(), "looking makes no file"
    for version in (100, 200, 300):
        snapshots.save(JOB, at(version), b"%d" % version)
    snapshots.save(JobId("j2"), at(7), b"other")
    assert versions(snapshots) == [300, 200, 100]
    assert versions(snapshots, to_seq=299) == [200, 100]
    assert next(snapshots.of(JOB)).data == b"300"
    assert next(snapshots.of(JOB)).position == at(300)
    assert snapshots.path.stat().st_mode & 0o777 == 0o600


def test_other_rules_see_nothing_and_take_over(path: Path) -> None:
    """A state folded by other code is not believed."""
    Snapshots(path, "old").save(JOB, at(1), b"x")
    new = Snapshots(path, "new")
    assert versions(new) == []
    new.save(JOB, at(2), b"y")
    assert versions(Snapshots(path, "old")) == []


def test_a_damaged_snapshot_is_none(path: Path) -> None:
    """I9: flipped anywhere, cut anywhere: skipped, and a later save heals the file."""
    snapshots, draw = Snapshots(path, "rules"), random.Random(1)
    for version in (1, 2, 3):
        snapshots.save(JOB, at(version), b"data %d " % version * 300)
    whole = snapshots.path.read_bytes()
    saved = {s.position: s.data for s in snapshots.of(JOB)}
    found = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        snapshots.path.write_bytes(
            damaged if draw.random() < 0.8 else damaged[: draw.randrange(len(whole))]
        )
        for snapshot in snapshots.of(JOB):
            found += 1
            assert saved[snapshot.position] == snapshot.data
        snapshots.save(JOB, at(9), b"healed")
        assert next(snapshots.of(JOB)).data == b"healed"
    assert found > 0


def test_somebody_reads_while_it_is_written(path: Path) -> None:
    """A locked cache is no cache for now; a save that fails says so."""
    snapshots = Snapshots(path, "rules")
    snapshots.save(JOB, at(1), b"x")
    db = apsw.Connection(str(snapshots.path))
    db.execute("BEGIN EXCLUSIVE")
    assert versions(snapshots) == []
    with pytest.raises(JournalUnreachable):
        snapshots.save(JOB, at(2), b"y")
    db.close()
    assert versions(snapshots) == [1]


def test_thinned_by_doubling_distances() -> None:
    """Time travel stays short everywhere, and the number of snapshots small."""
    kept: list[int] = []
    for version in range(20_000, 20_000_001, 20_000):
        kept.append(version)
        gone = thinned(kept)
        kept = [each for each in kept if each not in gone]
    assert 8 <= len(kept) <= 20
    assert kept[-1] == 20_000_000
    assert kept[-2] >= 19_900_000
