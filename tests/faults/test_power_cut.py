"""The power fails at every place of a run, and again while the run after it recovers.

Proves, on the product's own opening and appending: I1, I2, I3, I4.
"""

from random import Random

import pytest

from journal.sqlite import SqliteJournal
from tests.counts import count
from tests.faults.disk import PATH, Build, ModelDisk, Promise, Size, Sync, chance
from tests.faults.images import Cut
from tests.faults.power_cut import DISKS, PowerCuts
from tests.faults.workload import record, recover, small_checkpoints


def judge(seeds: range) -> int:
    """All in one process, so that a disk that two seeds share counts once."""
    cuts = PowerCuts()
    for seed in seeds:
        cuts.run(seed)
    cuts.run_old_format()
    count("disks after a power cut, all different", cuts.first)
    count("disks after a cut or a fault during recovery, all different", cuts.again)
    count("faults fired during recovery", cuts.faults)
    count("disks with a loss", 0)  # the first one is raised
    return cuts.first + cuts.again


def test_nothing_acknowledged_is_lost() -> None:
    """I1, I2, I3, I4: it opens without complaint; whole batches, every acknowledged event, the
    same bytes; it can be appended to, closed and opened again. So after a second cut, too, and
    while an old format is brought up to date."""
    assert judge(range(3)) >= 8_000


@pytest.mark.deep
def test_over_many_more_seeds() -> None:
    """I1, I2, I3, I4: many times as many disks."""
    assert judge(range(1000, 1070)) >= 200_000


@pytest.mark.parametrize("build", DISKS, ids=str)
def test_one_seed_one_trace(build: Build) -> None:
    """The same seed gives the same operations, byte for byte: a lot can be repeated."""
    first, second, other = record(8, build), record(8, build), record(9, build)
    assert first.trace == second.trace
    assert first.trace != other.trace


def test_the_run_has_what_it_must_have() -> None:
    """Checkpoints in the middle, a log that is begun anew, a layout, three openings."""
    run = record(1, Build())
    journal, log = f"{PATH}", f"{PATH}-wal"
    files = {op.file: op.name for op in run.trace if hasattr(op, "name") and hasattr(op, "file")}
    synced = [files.get(op.file) for op in run.trace if isinstance(op, Sync)]
    assert synced.count(journal) > 5
    assert synced.count(log) > 30
    assert synced.count(f"{PATH}.tip") > 30
    assert {f"{PATH}-journal", log} <= set(files.values())
    assert any(isinstance(op, Size) for op in run.trace)


def test_the_directory_is_synced_where_the_log_was_there_before() -> None:
    """I4: a tip that somebody put away is made anew, and its name is durable with the first
    acknowledgement: no log is made that would sync the directory."""
    made = record(3, Build(), appends=2)
    image = {name: raw for name, raw in made.contents().items() if not name.endswith(".tip")}
    disk = ModelDisk(image)
    SqliteJournal.renew_tip(PATH, disk)
    with chance(3), small_checkpoints(), SqliteJournal.create(PATH, disk):
        kept = Promise(last_promise(made).kept)
    cut = Cut(image, Build(), kept)
    for op in disk.trace:
        cut.move(op)
    recover(ModelDisk(cut.nothing_more()), kept, Random(1))


def last_promise(disk: ModelDisk) -> Promise:
    return [op for op in disk.trace if isinstance(op, Promise)][-1]
