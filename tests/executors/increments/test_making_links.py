"""Whose a link is that is being made: of one job, and never one that stands (I17, I32)."""

import os
from dataclasses import replace
from pathlib import Path

import bson
import pytest

from executors.boundaries import to_text
from executors.dumps.claim import CLAIM, claim, holder, release, take_over
from executors.dumps.making import Out, make_dump
from executors.dumps.manifest import MANIFEST, write_manifest
from executors.dumps.model import NeverStops
from executors.increments import errors
from executors.increments.chain import last_link, open_chain
from executors.increments.making import increment_to_make
from executors.increments.model import INCREMENTS
from statemachine.effects import Effect
from statemachine.stimuli import Manifested, Unfiled
from statemachine.words import THE_JOB, TaskKey, TaskKind
from tests.executors.examples import spec
from tests.executors.increments.test_chain import FACTS, Making, folder, rows_file

EFFECT = Effect(
    TaskKey(TaskKind.MANIFEST, THE_JOB),
    1,
    1,
    None,
    cluster_time="200.1",
    token=to_text(bson.encode({"_data": "82"})),
)


class Job:
    """One that makes the increment behind what is the last link as it begins."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.root = name, root
        parent = last_link(root).digest
        self.spec = spec(kind="dump", target=f"file:{root}", incremental=True, parent=parent)
        self.making = increment_to_make(self.spec, root.parent / name)
        self.folder = self.making.folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def make(self, **effect: str) -> Manifested | Unfiled:
        facts = FACTS.model_copy(
            update={"job": self.name, "since": "", "created": os.urandom(4).hex()}
        )
        out = Out(self.folder, facts=lambda: facts)
        asked = replace(EFFECT, **effect)  # type: ignore[arg-type]
        return make_dump(out, self.spec, asked, NeverStops(), making=self.making)

    def claim(self) -> None:
        claim(self.folder, self.name, link=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "chain"
    root.mkdir()
    Making(root).full(FACTS.model_copy(update={"include": ("shop.*",)}))
    return root


def test_a_link_that_stands_is_done(root: Path) -> None:
    """Its job was killed before it could tell; another one has made the link behind it since."""
    one = Job(root, "one")
    one.claim()
    done = one.make()
    assert holder(one.folder) is None
    other = Job(root, "other")
    other.claim()
    other.make(cluster_time="300.1")
    one.claim()
    assert one.make() == done
    assert len(open_chain(root).increments) == 2
    with pytest.raises(errors.LinkNeeded, match="link 1 stays: link 2"):
        one.make(cluster_time="250.1")
    assert len(open_chain(root).increments) == 2


def test_the_link_of_another_job_stays(root: Path) -> None:
    """Two began behind the same link: the slower one is told, before and after it is at work."""
    slow, fast = Job(root, "slow"), Job(root, "fast")
    rows_file(slow.folder, "shop.a/0-1.flb", [1])
    fast.claim()
    with pytest.raises(errors.LinkClaimed, match="job fast") as caught:
        slow.claim()
    assert "`ferrylog resume fast`" in caught.value.remedy
    assert "dump --incremental --new" in caught.value.remedy
    assert holder(fast.folder) == "fast"
    fast.make()
    rows_file(slow.folder, "shop.a/0-2.flb", [1])
    before = (slow.folder / MANIFEST).read_bytes()
    for attempt in (slow.claim, slow.make, lambda: take_over(slow.folder, "slow")):
        with pytest.raises(errors.LinkStands, match="made by job fast"):
            attempt()
    assert (slow.folder / MANIFEST).read_bytes() == before
    assert sorted(path.name for path in slow.folder.rglob("*.flb")) == ["0-2.flb"]
    assert not (slow.folder / CLAIM).exists()


def test_a_link_that_nobody_finishes_is_taken_over(root: Path) -> None:
    """What lies there goes; the job that had it makes nothing of it any more."""
    lost, new = Job(root, "lost"), Job(root, "new")
    lost.claim()
    rows_file(lost.folder, "shop.a/0-1.flb", [1])
    rows_file(lost.folder, "log/000001-1.flb", [1])
    (lost.folder / "notes").touch()
    take_over(new.folder, "new")
    assert sorted(path.name for path in new.folder.iterdir()) == [CLAIM, "notes"]
    for attempt in (lost.claim, lost.make):
        with pytest.raises(errors.LinkClaimed, match="job new"):
            attempt()
    release(new.folder, "lost")
    assert holder(new.folder) == "new"
    new.make()
    assert len(open_chain(root).increments) == 1


def test_a_job_that_failed_is_in_nobodys_way(root: Path) -> None:
    failed = Job(root, "failed")
    failed.claim()
    rows_file(failed.folder, "shop.a/0-1.flb", [1])
    rows_file(failed.folder, "log/000001-1.flb", [1])
    release(failed.folder, "failed")
    assert list((root / INCREMENTS).iterdir()) == []
    other = Job(root, "other")
    other.claim()
    other.make()
    release(other.folder, "other")
    assert len(open_chain(root).increments) == 1


def test_what_follows_another_full_dump_is_not_made(root: Path) -> None:
    """What was left out was added to the full dump while the increment was made."""
    job = Job(root, "one")
    job.claim()
    (root / MANIFEST).unlink()
    write_manifest(root, FACTS, [])
    with pytest.raises(errors.CannotFollow, match="another one now"):
        job.make()
    assert not (folder(root, 1) / MANIFEST).exists()
