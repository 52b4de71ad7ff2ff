"""Cleaning up: what nobody needs goes, what a job names that has not ended stays (M4, I44)."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from executors.dumps.claim import CLAIM, claim
from ferrylog.cleanup.finished import archive
from ferrylog.cleanup.items import DAY_MS, HOUR_MS, Freed, Item, Kind
from ferrylog.cleanup.standing import ENDS, GOES_ON, cannot_return, ended
from ferrylog.cleanup.sweep import Wanted, find, sweep
from ferrylog.cli.cleanup import cleaned
from ferrylog.engine import Engine
from ferrylog.recall import Keeper, recall
from ferrylog.views.cleanup import CleanupReport, cleanup_text
from journal.evidence import examine
from journal.inbox import Inbox
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from journal.upkeep import kept_snapshots
from statemachine.state import State
from statemachine.stimuli import CommitAsked, JobAsked, RunBegan
from statemachine.transitions import JOB_TRANSITIONS
from statemachine.words import Cause, JobId, JobStatus, Millis, TaskKind
from tests.ferrylog.histories import CHUNK, DUMP, JOB, KILLED, RESTORE, Play, failed, rejecting
from tests.program import ferrylog
from tests.statemachine.examples import SETTINGS, SPEC

LOST = "20200101-000000-dead"
OTHER = JobId("20261122-150000-0abc")
UNDOABLE = SPEC.model_copy(update={"undo": True})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


def play(path: Path, **how: object) -> Play:
    """A job that has ended."""
    played = Play(path, {}, **how)  # type: ignore[arg-type]
    played.run()
    return played


def killed(path: Path) -> Play:
    """A job that nobody runs, in the middle of a restore."""
    played = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(40, KILLED)]})
    played.once()
    return played


def plant(path: Path, at_ms: int, content: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at_ms / 1000, at_ms / 1000))
    return path


def in_work(path: Path, job: str, name: str, at_ms: int) -> Path:
    return plant(Path(f"{path}.d") / job / name, at_ms)


def clean(
    path: Path,
    now_ms: int,
    *only: Kind,
    dry_run: bool = False,
    foreign: bool = False,
    others: Sequence[Path] = (),
) -> CleanupReport:
    wanted = Wanted(only=only or Wanted().only, foreign=foreign, others=others)
    return cleaned(path, None, wanted, now_ms, dry_run=dry_run)


# --- whose something is ---


def test_every_event_that_leads_out_of_an_end_is_known() -> None:
    """I44: else a job that went on would count as ended."""
    ends = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ROLLED_BACK)
    leading_in = {
        event for table in JOB_TRANSITIONS.values() for event, to in table.items() if to in ends
    }
    leading_out = {
        event for end in ends for event, to in JOB_TRANSITIONS[end].items() if to not in ends
    }
    assert leading_in - {"run_started", "job_committed"} == set(ENDS)
    assert leading_out == set(GOES_ON)


def test_a_job_has_ended_or_not(path: Path) -> None:
    killed(path)
    with SqliteJournal.read_only(path) as journal:
        assert not ended(journal, JOB)
        assert not ended(journal, OTHER)
    Play(path, {}).run()
    with SqliteJournal.read_only(path) as journal:
        assert ended(journal, JOB)


# --- files ---


def test_chunk_files_of_an_unknown_job_go_after_an_hour(path: Path) -> None:
    """M4, and exactly what a dry run lists."""
    now = play(path).now
    file = in_work(path, LOST, "shop.orders/0-1.flb", now - 2 * HOUR_MS)
    in_work(path, LOST, "shop.orders/1-1.flb.tmp", now - 2 * HOUR_MS)
    foretold = clean(path, now, dry_run=True)
    assert file.exists()
    done = clean(path, now)
    assert not Path(f"{path}.d", LOST).exists()
    assert [each.what for each in done.removed] == [each.what for each in foretold.removed]
    assert done.freed == foretold.freed
    assert (done.freed.files, done.freed.bytes) == (2, 10)
    assert clean(path, now).removed == ()


def test_younger_ones_stay(path: Path) -> None:
    now = play(path).now
    file = in_work(path, LOST, "shop.orders/0-1.flb", now - 2 * HOUR_MS)
    in_work(path, LOST, "shop.orders/1-1.flb", now - HOUR_MS + 60_000)
    assert clean(path, now).removed == ()
    assert file.exists()


def test_what_a_live_job_names_stays_whatever_its_age(path: Path) -> None:
    """I44: nobody runs it, its files are years old."""
    killed(path)
    names = ("shop.orders/0-1.flb", "undo/create/shop.orders.bson", "rejected/shop.orders/0.bson")
    files = [in_work(path, JOB, name, 1_000) for name in names]
    report = clean(path, 4_000_000_000_000, foreign=True)
    assert report.removed == ()
    assert all(file.exists() for file in files)


def test_what_an_ended_job_left_goes(path: Path) -> None:
    """A kill between its end and its tidying; rejected documents that are carried are stale."""
    now = play(path).now
    in_work(path, JOB, "shop.orders/0-1.flb", 1_000)
    in_work(path, JOB, "rejected/shop.orders/0.bson", 1_000)
    assert clean(path, now).removed == ()  # it ended just now
    report = clean(path, now + HOUR_MS)
    assert report.freed.files == 2
    assert not Path(f"{path}.d", JOB).exists()


def test_what_dead_letters_need_stays(path: Path) -> None:
    """Rejected documents that are missing on the target, and what would carry them again."""
    script = {(TaskKind.RESTORE, CHUNK, 1): [(40, rejecting(12))]}
    played = Play(path, script, spec=RESTORE)
    played.run()
    names = ("rejected/shop.orders/1.bson", "shop.orders/1-1.flb")
    needed = [in_work(path, JOB, name, 1_000) for name in names]
    stale = [
        in_work(path, JOB, "rejected/shop.orders/0.bson", 1_000),
        in_work(path, JOB, "shop.orders/1-2.flb.tmp", 1_000),
    ]
    assert clean(path, played.now + 400 * DAY_MS).freed.files == 2
    assert [file.exists() for file in (*needed, *stale)] == [True, True, False, False]


def test_a_dump_that_is_being_made_keeps_its_folder(path: Path, tmp_path: Path) -> None:
    """I44: nobody makes it now; it may go on."""
    spec = DUMP.model_copy(update={"target": f"file:{tmp_path / 'backup'}"})
    played = Play(path, {(TaskKind.DUMP, CHUNK, 1): [(40, KILLED)]}, spec=spec)
    played.once()
    chunk = plant(tmp_path / "backup" / "shop.orders" / "0-1.flb", 1_000)
    claim(tmp_path / "backup", JOB)
    report = clean(path, 4_000_000_000_000, foreign=True)
    assert (report.removed, report.failed) == ((), ())
    assert chunk.exists()


def test_documents_of_an_unknown_job_go_only_when_asked_for(path: Path) -> None:
    now = play(path).now
    undo = in_work(path, LOST, "undo/create/shop.orders.bson", 1_000)
    rejected = in_work(path, LOST, "rejected/shop.orders/0.bson", 1_000)
    chunk = in_work(path, LOST, "shop.orders/0-1.flb", 1_000)
    report = clean(path, now)
    assert (undo.exists(), rejected.exists(), chunk.exists()) == (True, True, False)
    (left,) = report.left
    assert left.frees.files == 2 and "--foreign" in left.why
    assert clean(path, now, foreign=True).freed.files == 2
    assert not undo.exists()


def test_other_names_in_the_work_folder_are_nobodys_business(path: Path) -> None:
    now = play(path).now
    mine = plant(Path(f"{path}.d") / "notes" / "shop.orders" / "0-1.flb", 1_000)
    elsewhere = plant(path.parent / "elsewhere" / "0-1.flb", 1_000)
    Path(f"{path}.d", LOST).symlink_to(elsewhere.parent)
    (Path(f"{path}.d") / "20200101-000000-0002").mkdir()
    (Path(f"{path}.d") / "20200101-000000-0002" / "a.b").symlink_to(elsewhere.parent)
    clean(path, now, foreign=True)
    assert mine.exists() and elsewhere.exists()


def test_in_a_shared_work_folder_only_what_is_asked_for(path: Path, tmp_path: Path) -> None:
    """I44: another journal's live job has its files there."""
    shared = tmp_path / "shared"
    settings = SETTINGS.model_copy(update={"work_dir": str(shared)})
    now = play(path, settings=settings).now
    lost = plant(shared / LOST / "shop.orders" / "0-1.flb", 1_000)
    theirs = plant(shared / OTHER / "shop.orders" / "0-1.flb", 1_000)
    other = tmp_path / "other.db"
    with SqliteJournal.create(other) as journal:
        began = RunBegan("me", "host", 1, "0", settings)
        Engine(journal, OTHER).turn([JobAsked("me", SPEC), began], now=Millis(1))
    assert len(clean(path, now).left) == 2
    assert len(clean(path, now, others=[other]).left) == 1
    clean(path, now, foreign=True, others=[other])
    assert theirs.exists() and not lost.exists()


def test_what_came_since_another_process_began_stays(path: Path) -> None:
    """A job makes its folder just before its first event."""
    now = play(path).now
    with Lease(path, host="h", since="now"):
        lease_ms = int(Path(f"{path}.lease").stat().st_mtime * 1000)
        young = in_work(path, LOST, "shop.orders/0-1.flb", lease_ms + 1_000)
        old = in_work(path, "20200101-000000-beef", "a.b/0-1.flb", lease_ms - 60_000)
        clean(path, max(now, lease_ms) + 10 * HOUR_MS)
    assert young.exists() and not old.exists()


def test_a_failed_dump_gives_its_folder_back(path: Path, tmp_path: Path) -> None:
    """Chunk files and claim go; what is somebody else's stays, and so does a dump that is whole."""
    out = tmp_path / "backup"
    spec = DUMP.model_copy(update={"target": f"file:{out}"})
    now = a_failed_dump(path, spec.target)
    out.mkdir()
    claim(out, JOB)
    chunk = plant(out / "shop.orders" / "0-1.flb", 1_000)
    mine = plant(out / "mine.txt", 1_000)
    theirs = plant(out / "increments" / "0001" / CLAIM, 1_000, OTHER.encode())
    assert clean(path, now).removed == ()
    report = clean(path, now + HOUR_MS)
    assert report.freed.files == 2
    assert not chunk.exists() and mine.exists() and theirs.exists()


def a_failed_dump(path: Path, target: str) -> int:
    spec = DUMP.model_copy(update={"target": target})
    settings = SETTINGS.model_copy(update={"on_exhausted": "fail-job"})
    gone = failed(Cause.PERMANENT, "EMONGO043", "cursor not found")
    played = Play(
        path, {(TaskKind.PLAN, "shop.orders", 1): [(40, gone)]}, spec=spec, settings=settings
    )
    played.run()
    with SqliteJournal.read_only(path) as journal:
        assert recall(journal, JOB).state.status is JobStatus.FAILED
    return played.now


def test_a_file_that_changed_since_it_was_looked_at_stays(path: Path) -> None:
    now = play(path).now
    file = in_work(path, LOST, "shop.orders/0-1.flb", 1_000)
    with SqliteJournal.read_only(path) as journal:
        items, _ = find(journal, None, Wanted(), now)
        plant(file, 2_000, b"new")
        assert [each.error for each in sweep(journal, items)] == [""]
    assert file.exists()


def test_a_job_that_went_on_since_keeps_what_it_has(path: Path) -> None:
    """I44: between looking and removing."""
    killed(path)
    with SqliteJournal.read_only(path) as journal:
        item = Item("files", "x", 0, "", Freed(), lambda: pytest.fail("removed"), JOB)
        (swept,) = sweep(journal, [item])
    assert "goes on" in swept.error


# --- groups ---


def test_undo_logs_stay_until_nobody_can_take_the_job_back(path: Path) -> None:
    """M4: a day after `commit`, not before, and never before it."""
    now = play(path, spec=UNDOABLE).now
    log = in_work(path, JOB, "undo/create/shop.orders.bson", 1_000)
    assert clean(path, now + 400 * DAY_MS).removed == ()
    with SqliteJournal.create(path) as journal:
        engine = Engine(journal, JOB, recall(journal, JOB))
        engine.turn([CommitAsked("me")], now=Millis(now))
    assert clean(path, now + DAY_MS - 1).removed == ()
    assert log.exists()
    report = clean(path, now + DAY_MS)
    assert [each.kind for each in report.removed] == ["groups"]
    assert not Path(f"{path}.d", JOB).exists()


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"status": JobStatus.COMPLETED}, False),
        ({"status": JobStatus.COMPLETED, "committed": True}, True),
        ({"status": JobStatus.COMPLETED, "spec": SPEC}, True),
        ({"status": JobStatus.ROLLED_BACK}, True),
        ({"status": JobStatus.ROLLED_BACK, "rolled_to": "create shop.orders"}, False),
        ({"status": JobStatus.ROLLED_BACK, "skipped": 1}, False),
        ({"status": JobStatus.ROLLED_BACK, "undo_kept": 1}, False),
        ({"status": JobStatus.ROLLING_BACK, "spec": SPEC}, False),
        ({"status": JobStatus.PAUSED, "spec": SPEC}, False),
    ],
)
def test_who_cannot_be_taken_back(changes: dict[str, Any], gone: bool) -> None:
    """Only then its undo logs serve nothing: what a rollback kept or skipped may need them."""
    assert cannot_return(State(**{"spec": UNDOABLE, **changes})) is gone


# --- requests ---


def test_requests_expire_after_a_week(path: Path) -> None:
    now = play(path).now
    inbox = Inbox(path)
    inbox.leave(JOB, "pause", "ann")
    left_ms = int(inbox.path.stat().st_mtime * 1000)
    assert clean(path, left_ms + 6 * DAY_MS, "requests").removed == ()
    report = clean(path, left_ms + 7 * DAY_MS + 1000, "requests")
    assert report.freed.requests == 1 and now
    assert inbox.waiting(JOB) == []


def test_requests_of_the_job_that_runs_stay(path: Path) -> None:
    """I44: it may be about to answer."""
    killed(path)
    inbox = Inbox(path)
    inbox.leave(JOB, "pause", "ann")
    with Lease(path, host="h", since="now"):
        assert clean(path, 4_000_000_000_000, "requests").removed == ()
    assert len(inbox.waiting(JOB)) == 1


# --- finished jobs ---


def with_snapshot(path: Path) -> int:
    now = play(path).now
    keep_one(path)
    return now


def keep_one(path: Path) -> None:
    with SqliteJournal.create(path) as journal:
        Keeper(journal, JOB).keep(Engine(journal, JOB, recall(journal, JOB)))


def test_a_finished_jobs_snapshots_go_when_its_history_is_archived(path: Path) -> None:
    """M4: the archive names the final hash, the chain in the journal stays as it was."""
    now = with_snapshot(path)
    with SqliteJournal.read_only(path) as journal:
        before = [each.hash for each in journal.read(JOB)]
    assert clean(path, now + 29 * DAY_MS, "jobs").removed == ()
    report = clean(path, now + 31 * DAY_MS, "jobs")
    assert report.freed.snapshots == 1 and report.freed.bytes > 0
    (file,) = Path(f"{path}.archive").iterdir()
    assert examine(file).last_hash == before[-1]
    assert before[-1].hex() in report.removed[0].told
    assert kept_snapshots(path) == {}
    with SqliteJournal.read_only(path) as journal:
        assert [each.hash for each in journal.read(JOB)] == before
        assert journal.check() == len(before)


def test_snapshots_of_a_live_job_stay(path: Path) -> None:
    """I44."""
    killed(path)
    keep_one(path)
    report = clean(path, 4_000_000_000_000, "jobs")
    assert (report.removed, report.failed) == ((), ())
    assert kept_snapshots(path)


def test_an_old_archive_goes_where_the_journal_holds_all_of_it(path: Path) -> None:
    now = with_snapshot(path)
    clean(path, now + 31 * DAY_MS, "jobs")
    (file,) = Path(f"{path}.archive").iterdir()
    os.utime(file, (now / 1000, now / 1000))
    strange = plant(file.with_name("old.evidence.ndjson"), now, b"{}\n")
    report = clean(path, now + 31 * DAY_MS, "jobs")
    assert [each.what for each in report.removed] == [str(file)]
    assert [each.what for each in report.left] == [str(strange)]
    assert not file.exists() and strange.exists()


def test_an_archive_of_another_history_is_none(path: Path, tmp_path: Path) -> None:
    """A file in its place: the snapshots stay until somebody has looked."""
    now = with_snapshot(path)
    other = tmp_path / "other.db"
    play(other, now=now)
    with SqliteJournal.read_only(other) as journal:
        _, found = archive(journal, JOB)
    Path(f"{other}.archive").rename(f"{path}.archive")
    report = clean(path, now + 31 * DAY_MS, "jobs")
    assert len(report.failed) == 1 and "otherwise" in report.failed[0].why
    assert kept_snapshots(path) and found.job == JOB


def test_without_an_archive_the_snapshots_stay(path: Path) -> None:
    now = with_snapshot(path)
    Path(f"{path}.archive").write_text("in the way")
    report = clean(path, now + 31 * DAY_MS, "jobs")
    assert [each.kind for each in report.failed] == ["jobs"]
    assert kept_snapshots(path)
    assert "FAILED" in cleanup_text(report)


# --- as a command ---


def test_the_command(path: Path) -> None:
    play(path)
    in_work(path, LOST, "shop.orders/0-1.flb", 1_000)
    dry = ferrylog("cleanup", "--journal", path, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    foretold = json.loads(dry.stdout)
    assert (foretold["schema"], foretold["dry_run"]) == ("ferrylog.cleanup/1", True)
    done = ferrylog("cleanup", "--journal", path, "--only", "files", "--older-than", "files=2h")
    assert done.returncode == 0, done.stderr
    assert f"removed files {path}.d/{LOST}" in done.stdout
    assert "freed 5 B, 1 file" in done.stderr


@pytest.mark.parametrize(
    "words", [("--only", "events"), ("--older-than", "files"), ("--older-than", "files=2 hours")]
)
def test_what_is_no_kind_or_no_age_is_refused(path: Path, words: tuple[str, ...]) -> None:
    play(path)
    refused = ferrylog("cleanup", "--journal", path, *words)
    assert refused.returncode == 2 and "EUSE001" in refused.stderr


def test_a_stack_is_left_without_the_lease(path: Path) -> None:
    """Whoever cleans up keeps nobody out afterwards."""
    play(path)
    clean(path, 1)
    with ExitStack() as stack:
        stack.enter_context(Lease(path, host="h", since="now"))
