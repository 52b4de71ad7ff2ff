"""The main promise with real servers and real SIGKILLs; and that the journal alone tells it all.

Judged by `oracle.py`, which shares no code with what it judges. Seeds are printed: `-s`, or the
report of a failure, shows the one command that repeats a run.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests import program
from tests.conftest import Pair
from tests.end_to_end import oracle
from tests.end_to_end.kills import (
    ENOUGH,
    FERRYLOG,
    PHASES,
    Campaign,
    Size,
    Watch,
    empty,
    fight,
    load,
    prepare,
)

pytestmark = pytest.mark.server

SEED = 20_000
SMALL = Size(documents=16_000, chunk_docs=470)
TINY = Size(documents=6_000, chunk_docs=170)
Client = MongoClient[dict[str, Any]]
DIGEST = re.compile(r"state digest seq=(\d+) digest=([0-9a-f]+)")


# --- nothing lost, nothing doubled ------------------------------------------------------------


def test_a_migration_killed_at_any_moment_ends_as_if_nothing_had_happened(
    pair: Pair, tmp_path: Path
) -> None:
    """I12, I22: target and source are equal to the byte, whatever was killed; I15: what completed
    never starts again; I16: one decision per doubt; I17: what the journal calls done is there at
    the moment of the kill; I4: what was acknowledged is still in the journal (its tip and chains
    hold); I18, I21, I23, I25 by the story that the journal tells."""
    arena = prepare(pair.source, pair.target, SEED, SMALL, tmp_path)
    _must_have_lost_nothing(fight(arena, tmp_path, runs=2, seed=SEED))


@pytest.mark.deep
def test_a_mongod_that_dies_and_comes_back_costs_nothing(pair: Pair, tmp_path: Path) -> None:
    """I12, I22 under failures of a server: it is waited for, or the job pauses and is resumed."""
    arena = prepare(pair.source, pair.target, SEED, SMALL, tmp_path)
    campaign = fight(arena, tmp_path, runs=1, seed=SEED, mongod=True)
    _must_have_lost_nothing(campaign)
    assert campaign.outages.total() > 0


@pytest.mark.deep
def test_fifty_runs_hit_every_phase_ten_times(tmp_path: Path) -> None:
    """I12, I15, I16, I17, I22: 200,000 documents, and no phase is spared."""
    with _own_servers(tmp_path) as (source, target):
        arena = prepare(source, target, SEED, Size(), tmp_path)
        campaign = fight(arena, tmp_path, runs=50, seed=SEED)
    _must_have_lost_nothing(campaign)
    assert min(campaign.hits[phase] for phase in PHASES) >= ENOUGH, campaign.table()
    assert campaign.continued >= ENOUGH, "too few restores were cut between two blocks"


@pytest.mark.deep
def test_ten_runs_survive_the_deaths_of_servers(tmp_path: Path) -> None:
    """I12, I22, I30 with 200,000 documents and servers that die in any phase."""
    with _own_servers(tmp_path) as (source, target):
        arena = prepare(source, target, SEED, Size(), tmp_path)
        campaign = fight(arena, tmp_path, runs=10, seed=SEED, mongod=True)
    _must_have_lost_nothing(campaign)
    assert campaign.outages.total() >= ENOUGH, campaign.table()


class _own_servers:  # noqa: N801  # reads as the context manager it is
    """Servers that no other test uses: their counters and caches are nobody else's."""

    def __init__(self, folder: Path) -> None:
        self._source = Mongod(folder / "source", name="source")
        self._target = Mongod(folder / "target", name="target")

    def __enter__(self) -> tuple[Mongod, Mongod]:
        return self._source.start(), self._target.start()

    def __exit__(self, *_: object) -> None:
        self._source.stop()
        self._target.stop()


def _must_have_lost_nothing(campaign: Campaign) -> None:
    print(campaign.table())
    lost = [f"{each.repeat}\n  {each.problems}" for each in campaign.failures]
    assert not lost, "\n".join(lost)


# --- the judge can say no ----------------------------------------------------------------------


def _change_one_byte(target: Client) -> None:
    target["shop"]["orders"].update_one({}, {"$set": {"status": "opem"}})


def _lose_one(target: Client) -> None:
    target["depot"]["events"].delete_one({})


def _add_one(target: Client) -> None:
    target["shop"]["customers"].insert_one({"_id": 1}, bypass_document_validation=True)


def _change_the_type_of_a_number(target: Client) -> None:
    found = target["shop"]["orders"].find_one({"_id": {"$type": "int"}})
    assert found is not None
    target["shop"]["orders"].delete_one({"_id": found["_id"]})
    target["shop"]["orders"].insert_one({**found, "_id": float(found["_id"])})


def _lose_an_index(target: Client) -> None:
    target["shop"]["orders"].drop_index("p@%")


def _lose_the_validator(target: Client) -> None:
    target["shop"].command({"collMod": "customers", "validator": {}})


def _lose_the_view(target: Client) -> None:
    target["shop"].drop_collection("open_orders")


def _leave_something(target: Client) -> None:
    target["shop"].create_collection("orders.staging")


CHANGES = (
    _change_one_byte,
    _lose_one,
    _add_one,
    _change_the_type_of_a_number,
    _lose_an_index,
    _lose_the_validator,
    _lose_the_view,
    _leave_something,
)


def test_the_judge_sees_every_difference(pair: Pair) -> None:
    """A judge that never says no proves nothing (I22)."""
    load(pair.target.uri, SEED, TINY)
    before = oracle.snapshot(pair.target.uri)
    assert oracle.differences(before, oracle.snapshot(pair.target.uri)) == []
    for change in CHANGES:
        change(pair.target_client)
        after = oracle.snapshot(pair.target.uri)
        assert oracle.differences(before, after), change.__name__
        before = after


def _t(kind: str, entity: str = "a.b#0", **data: object) -> dict[str, object]:
    return {"kind": kind, "entity": entity, "data": data}


_SPEC = {"kind": "migrate", "verify": True}
_BEGAN = [_t("job_requested", "job", spec=_SPEC), _t("run_started", "job", epoch=1)]
_DUMPED = [*_BEGAN, _t("dump_started", attempt=1), _t("dump_completed")]
_AGAIN = _t("run_started", "job", epoch=2)
GOOD_STORIES = {
    "a retry": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _t("dump_retry_scheduled", not_before_ms=0),
        _t("dump_started", attempt=2),
    ],
    "a doubt and its decision": [
        *_DUMPED,
        _t("restore_started", attempt=1),
        _AGAIN,
        _t("restore_in_doubt"),
        _t("restore_resolved"),
        _t("restore_started", attempt=2),
    ],
    "a damaged file": [
        *_DUMPED,
        _t("restore_started", attempt=1),
        _t("restore_cancelled"),
        _t("dump_invalidated"),
        _t("dump_started", attempt=2),
        _t("dump_completed"),
        _t("restore_started", attempt=2),
    ],
}
BAD_STORIES = {
    "I15": [*_DUMPED, _t("dump_started", attempt=2)],
    "I16: nobody doubts": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _AGAIN,
        _t("dump_started", "a.b#1", attempt=1),
    ],
    "I16: nobody decides": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _AGAIN,
        _t("dump_in_doubt"),
        _t("dump_started", attempt=2),
    ],
    "I16: decided twice": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _AGAIN,
        _t("dump_in_doubt"),
        _t("dump_resolved"),
        _t("dump_resolved"),
    ],
    "I18: attempts": [*_BEGAN, _t("dump_started", attempt=2)],
    "I18: too early": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _t("dump_retry_scheduled", not_before_ms=9),
        _t("dump_started", attempt=2),
    ],
    "I19": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _t("dump_dead_lettered"),
        _t("dump_started", attempt=2),
    ],
    "I20: of an older epoch": [
        *_BEGAN,
        _t("dump_started", attempt=1),
        _AGAIN,
        _t("dump_completed"),
    ],
    "I20: out of nowhere": [*_DUMPED, _t("restore_progressed")],
    "I23": [*_BEGAN, _t("dump_started", attempt=1), _t("restore_started", attempt=1)],
    "I28": [*_DUMPED, _t("pause_requested", "job"), _t("restore_started", attempt=1)],
    "I29": [*_BEGAN, _t("dump_started", attempt=1), _t("job_completed", "job")],
}


def _told(story: list[dict[str, object]]) -> list[oracle.Told]:
    epoch, told = 1, []
    for seq, event in enumerate(story, 1):
        data = event["data"]
        assert isinstance(data, dict)
        epoch = data["epoch"] if event["kind"] == "run_started" else epoch
        kind, entity = str(event["kind"]), str(event["entity"])
        told.append(oracle.Told(seq, epoch, 0, kind, entity, data))
    return told


@pytest.mark.parametrize("name", GOOD_STORIES)
def test_the_judge_believes_a_true_story(name: str) -> None:
    assert oracle.story(_told(GOOD_STORIES[name])) == []


@pytest.mark.parametrize("name", BAD_STORIES)
def test_the_judge_hears_every_lie(name: str) -> None:
    """Each story breaks the invariant it is named for."""
    found = oracle.story(_told(BAD_STORIES[name]))
    assert any(name.partition(":")[0] in what for what in found), found


def test_the_judge_counts_events_and_epochs() -> None:
    """I2, I5: a gap in the sequence, an event of an epoch that is over."""
    told = _told(GOOD_STORIES["a doubt and its decision"])
    assert any("(I2)" in what for what in oracle.story(told[:3] + told[4:]))
    late = [*told[:-1], oracle.Told(told[-1].seq, 1, 0, "restore_started", "a.b#0", {"attempt": 2})]
    assert any("(I5)" in what for what in oracle.story(late))


# --- the journal is the whole truth -----------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One small migration with a journal of its own."""

    pair: Pair
    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "ferrylog.db"

    def ferrylog(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        known = {**os.environ, "FERRYLOG_DIGEST_EVERY": "50"}
        return program.ferrylog(*arguments, "--journal", self.journal, env=known)

    def start(self) -> "subprocess.CompletedProcess[str]":
        return self.ferrylog(*self._start())

    def start_and_kill(self, happened: Callable[[Watch], bool]) -> str:
        """What the killed process had said on stderr."""
        watch = Watch(self.journal)
        with (self.folder / "stderr").open("w+") as said:
            known = {**os.environ, "FERRYLOG_DIGEST_EVERY": "50"}
            words = (*self._start(), "--journal", self.journal)
            process = program.begin(*words, stderr=said, env=known)
            while process.poll() is None and not happened(watch):
                time.sleep(0.002)
            process.kill()
            assert process.wait() < 0, "it ended before it was killed"
            said.seek(0)
            return said.read()

    def _start(self) -> tuple[str, ...]:
        uris = ("--source", self.pair.source.uri, "--target", self.pair.target.uri)
        return ("start", *uris, "--chunk-docs", str(TINY.chunk_docs))

    def replayed(self, seq: int) -> str:
        done = self.ferrylog("replay", "--to", str(seq), "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["digest"])

    def files(self) -> dict[str, str]:
        """Every file of the job but SQLite's shared memory, which belongs to no past."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not path.name.endswith("-shm")
        }


@pytest.fixture
def job(pair: Pair, tmp_path: Path) -> Job:
    """A small source, an empty target, nothing asked for yet."""
    load(pair.source.uri, SEED, TINY)
    empty(pair.target.uri)
    folder = tmp_path / "job"
    folder.mkdir()
    return Job(pair, folder)


def _half_restored(watch: Watch) -> bool:
    return sum(row.kind == "restore_completed" for row in watch.rows()) >= 12


def _digests(said: str) -> dict[int, str]:
    found = {int(seq): digest for seq, digest in DIGEST.findall(said)}
    assert len(found) >= 2, f"too few digests in: {said}"
    return found


def test_the_live_state_is_the_fold_of_the_journal(job: Job) -> None:
    """I8: at every point at which a process said what it believes, a replay up to there says the
    same; after the process is dead (I4), and when another has finished the job."""
    live = _digests(job.start_and_kill(_half_restored))
    assert {seq: job.replayed(seq) for seq in live} == live
    finished = job.ferrylog("resume")
    assert finished.returncode == 0, finished.stderr
    later = _digests(finished.stderr)
    assert max(later) > max(live)
    assert {seq: job.replayed(seq) for seq in later} == later
    assert {seq: job.replayed(seq) for seq in live} == live, "the past has changed (I1)"


def _settled(uri: str) -> oracle.Snapshot:
    """What lies there once the server has ended what a killed process had asked of it."""
    last = oracle.snapshot(uri)
    while oracle.differences(last, now := oracle.snapshot(uri)):
        last = now
    return last


def test_replay_changes_no_byte(job: Job) -> None:
    """I10: of a job whose process was killed, its write-ahead log still there, and of a finished
    one; neither does anything that only looks."""
    looks = (("replay", "--check"), ("inspect", "check"), ("inspect", "events"), ("status",))
    job.start_and_kill(_half_restored)
    for finished in (False, True):
        before, there = job.files(), _settled(job.pair.target.uri)
        for look in looks:
            done = job.ferrylog(*look)
            assert done.returncode == 0, done.stderr
            assert job.files() == before, f"{look} changed the journal's files"
        assert oracle.differences(there, oracle.snapshot(job.pair.target.uri)) == []
        if not finished:
            resumed = job.ferrylog("resume")
            assert resumed.returncode == 0, resumed.stderr


def test_resuming_a_finished_job_does_nothing(job: Job) -> None:
    """I13: only the run itself is noted; the target is not touched."""
    assert job.start().returncode == 0
    watch = Watch(job.journal)
    before, there = watch.rows(), oracle.snapshot(job.pair.target.uri)
    assert job.ferrylog("resume", watch.job()).returncode == 0
    after = watch.rows()
    assert after[: len(before)] == before
    assert [row.kind for row in after[len(before) :]] == ["run_started"]
    found = oracle.judge(there, oracle.snapshot(job.pair.target.uri), job.journal, FERRYLOG)
    assert found == []


def test_one_changed_bit_in_any_event_is_damage(job: Job, tmp_path: Path) -> None:
    """I2: whatever event it is in, `replay --check` and `inspect check` refuse with exit 4."""
    assert job.start().returncode == 0
    assert job.ferrylog("replay", "--check").returncode == 0
    for at, (seq, data) in enumerate(_some_events(job.journal)):
        damaged = Job(job.pair, tmp_path / f"damaged-{at}")
        shutil.copytree(job.folder, damaged.folder)
        _flip_a_bit(damaged.journal, data)
        for look in (("replay", "--check"), ("inspect", "check")):
            done = damaged.ferrylog(*look)
            assert done.returncode == 4, f"{look} after a bit of seq {seq}: {done.stderr}"


def _some_events(journal: Path) -> list[tuple[int, bytes]]:
    """The first, one in the middle, the last; among those whose content stands there once."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT seq, data FROM events ORDER BY seq").fetchall()
    raw = journal.read_bytes()
    alone = [(seq, data) for seq, data in rows if len(data) > 40 and raw.count(data) == 1]
    return [alone[0], alone[len(alone) // 2], alone[-1]]


def _flip_a_bit(file: Path, data: bytes) -> None:
    """In the last digit or letter: what changes is still JSON, only not what was said."""
    offset = max(at for at, byte in enumerate(data) if chr(byte).isalnum())
    raw = bytearray(file.read_bytes())
    raw[raw.index(data) + offset] ^= 1
    file.write_bytes(raw)
