"""The journal's promise on real files: append-only, atomic, durable, fenced, and never silent."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from journal.disk import DISK
from journal.errors import (
    DamagedJournal,
    EpochFenced,
    JournalBehind,
    JournalUnknown,
    JournalUnreachable,
    NewerJournal,
    NotAJournal,
    StalePosition,
    TipMissing,
)
from journal.opening import tip_path
from journal.protocol import Position, Recorded
from journal.sqlite import SqliteJournal
from journal.tip import SLOT, read_tip
from statemachine.events import AnyEvent, JobPaused, PauseRequested
from statemachine.words import JobId, Millis
from tests.statemachine.examples import examples

JOB = JobId("j1")
Opened = Callable[[], SqliteJournal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.create(path) as opened:
        yield opened


def note(text: str) -> PauseRequested:
    return PauseRequested(by="me", why=text, request=0, immediate=False)


def append(journal: SqliteJournal, *events: AnyEvent, job: JobId = JOB, epoch: int = 1) -> Position:
    expected = max((r.version for r in journal.read(job)), default=0)
    return journal.append(job, events, expected=expected, epoch=epoch, at_ms=Millis(1))


def test_what_was_appended_is_read(journal: SqliteJournal) -> None:
    """I2, I6: every kind, in order, seq and version without gaps."""
    events = examples()
    position = append(journal, *events)
    records = list(journal.read(JOB))
    assert [recorded.event for recorded in records] == events
    assert [recorded.version for recorded in records] == list(range(1, len(events) + 1))
    assert all(b.seq == a.seq + 1 for a, b in pairwise(records))
    assert position == Position(len(events), len(events), records[-1].hash)
    assert journal.check() == len(events)


def test_reading_from_and_to(journal: SqliteJournal) -> None:
    """I9: a part is read with its hashes checked as well as the whole."""
    append(journal, *(note(str(n)) for n in range(2500)))
    assert [r.version for r in journal.read(JOB, after=2400)] == list(range(2401, 2501))
    assert sum(1 for _ in journal.read(JOB, to_seq=1700)) == 1700


def test_each_job_has_its_own_chain(journal: SqliteJournal) -> None:
    """I2: so that one job can be moved and still verifies."""
    append(journal, note("a"))
    append(journal, note("b"), job=JobId("j2"))
    append(journal, note("c"))
    assert [r.seq for r in journal.read(JOB)] == [1, 3]
    assert journal.jobs() == [JOB, "j2"]


def test_nothing_is_changed_or_deleted(journal: SqliteJournal, path: Path) -> None:
    """I1: not even by hand, through SQL."""
    append(journal, note("a"))
    db = apsw.Connection(str(path))
    for sql in ("UPDATE events SET data = x'7b7d'", "DELETE FROM events"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            db.execute(sql)
    db.close()


def test_only_one_of_two_appenders_succeeds(journal: SqliteJournal, path: Path) -> None:
    """I5: same expected position, one winner; nothing of the loser's."""
    append(journal, note("a"))
    journal.append(JOB, [note("b")], expected=1, epoch=1, at_ms=Millis(1))
    with pytest.raises(StalePosition, match="version 2, not at 1"):
        journal.append(JOB, [note("c")], expected=1, epoch=1, at_ms=Millis(1))
    assert journal.last_seq() == 2


def test_an_older_epoch_is_fenced(journal: SqliteJournal) -> None:
    """I5, P4: checked inside the transaction."""
    append(journal, note("a"), epoch=2)
    with pytest.raises(EpochFenced, match="epoch 1 .* is over"):
        append(journal, note("b"), epoch=1)


def test_others_read_while_it_is_written(journal: SqliteJournal, path: Path) -> None:
    """I1: what a reader saw stays a prefix."""
    append(journal, note("a"))
    with SqliteJournal.read_only(path) as reader:
        before = list(reader.read(JOB))
        append(journal, note("b"))
        after = list(reader.read(JOB))
    assert after[:1] == before
    assert len(after) == 2


def test_looking_changes_no_file(journal: SqliteJournal, path: Path) -> None:
    """I10: also when a killed process left a write-ahead log."""
    append(journal, *(note(str(n)) for n in range(50)))
    copy = path.parent / "killed"
    copy.mkdir()
    for file in path.parent.glob("ferrylog.db*"):
        shutil.copy2(file, copy / file.name)
    (copy / "ferrylog.db-shm").unlink()
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    with SqliteJournal.read_only(copy / "ferrylog.db") as reader:
        assert reader.check() == 50
    after = {file.name: file.read_bytes() for file in copy.iterdir()}
    after.pop("ferrylog.db-shm", None)  # an index SQLite makes to read a log; holds nothing
    assert after == before


def test_files_are_ours_alone(journal: SqliteJournal, path: Path) -> None:
    append(journal, note("a"))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_settings_are_what_durability_needs(journal: SqliteJournal) -> None:
    """I4: WAL with FULL; NORMAL would lose acknowledged commits at a power cut."""
    db = journal._db
    assert db.pragma("journal_mode") == "wal"
    assert db.pragma("synchronous") == 2
    assert db.pragma("wal_autocheckpoint") == 0


# --- damage ---


def closed(path: Path, count: int = 60) -> Path:
    with SqliteJournal.create(path) as journal:
        for n in range(0, count, 10):
            append(journal, *(note(f"event {n + k} {'x' * 50}") for k in range(10)))
    return path


def verdict(path: Path, before: list[Recorded]) -> str:
    """`refused`, `same`, or `wrong` if another history is read without a word."""
    try:
        with SqliteJournal.read_only(path) as journal:
            journal.check()
            return "same" if list(journal.read(JOB)) == before else "wrong"
    except (DamagedJournal, JournalBehind, NotAJournal, NewerJournal, TipMissing):
        return "refused"


def history(path: Path) -> list[Recorded]:
    with SqliteJournal.read_only(path) as journal:
        return list(journal.read(JOB))


def test_no_changed_bit_is_silent(path: Path) -> None:
    """I2: flipped bits anywhere in the file are refused or change nothing that is read."""
    whole = closed(path).read_bytes()
    before, draw = history(path), random.Random(1)
    counts = {"refused": 0, "same": 0, "wrong": 0}
    for _ in range(400):
        at = draw.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        counts[verdict(path, before)] += 1
    print(counts)
    assert counts["wrong"] == 0
    assert counts["refused"] > 100


def test_every_changed_byte_of_an_event_is_found(path: Path) -> None:
    """I2: byte by byte over one stored event."""
    whole = closed(path).read_bytes()
    before = history(path)
    data = b"event 33 "
    start = whole.index(data)
    for at in range(start - 20, start + 60):
        damaged = bytearray(whole)
        damaged[at] ^= 0x01
        path.write_bytes(damaged)
        assert verdict(path, before) == "refused", at


def test_a_truncated_journal_is_refused(path: Path) -> None:
    whole = closed(path).read_bytes()
    before, draw = history(path), random.Random(2)
    for _ in range(40):
        path.write_bytes(whole[: draw.randrange(100, len(whole))])
        assert verdict(path, before) == "refused"


def test_a_lost_log_is_refused(path: Path) -> None:
    """I4: SQLite itself would open it without a word; the tip knows better."""
    with SqliteJournal.create(path) as journal:
        append(journal, note("a"))
    with SqliteJournal.create(path) as journal:
        append(journal, note("b"), note("c"))
        copy = path.parent / "copy"
        copy.mkdir()
        for name in ("ferrylog.db", "ferrylog.db.tip"):
            shutil.copy2(path.parent / name, copy / name)
    with pytest.raises(JournalBehind, match="2 events are missing"):
        SqliteJournal.create(copy / "ferrylog.db")


def test_an_old_copy_is_refused(path: Path) -> None:
    closed(path, 20)
    old = path.read_bytes()
    with SqliteJournal.create(path) as journal:
        append(journal, note("newer"))
    path.write_bytes(old)
    with pytest.raises(JournalBehind):
        SqliteJournal.read_only(path)


def test_another_history_of_the_same_length_is_refused(path: Path, tmp_path: Path) -> None:
    """I2: a valid chain that is not the acknowledged one."""
    other = tmp_path / "other.db"
    with SqliteJournal.create(path) as one, SqliteJournal.create(other) as two:
        append(one, note("true"))
        append(two, note("forged"))
    path.write_bytes(other.read_bytes())
    with pytest.raises(DamagedJournal, match="not the one that was acknowledged"):
        SqliteJournal.read_only(path)


@pytest.mark.parametrize("ruin", [Path.unlink, lambda tip: tip.write_bytes(b"\0" * 1024)])
def test_a_lost_tip_is_refused_until_somebody_vouches(
    path: Path, ruin: Callable[[Path], object]
) -> None:
    closed(path, 10)
    ruin(Path(f"{path}.tip"))
    with pytest.raises(TipMissing):
        SqliteJournal.create(path)
    SqliteJournal.renew_tip(path)
    with SqliteJournal.read_only(path) as journal:
        assert journal.check() == 10


def test_a_torn_tip_falls_back_to_the_one_before(path: Path) -> None:
    """The tip may be behind, never ahead: a torn write of one slot leaves the other."""
    closed(path, 30)
    tip = Path(f"{path}.tip")
    whole = tip.read_bytes()
    for slot in (0, SLOT):
        torn = bytearray(whole)
        torn[slot + 12 : slot + 20] = b"\xff" * 8
        tip.write_bytes(torn)
        with SqliteJournal.create(path) as journal:
            assert journal.last_seq() == 30


def test_what_is_no_journal(tmp_path: Path) -> None:
    text, other, folder = tmp_path / "text", tmp_path / "other.db", tmp_path / "folder"
    text.write_text("hello, this is no database\n" * 100)
    folder.mkdir()
    db = apsw.Connection(str(other))
    db.execute("CREATE TABLE events (x)")
    db.close()
    for path in (text, other):
        path.chmod(0o600)
        with pytest.raises(NotAJournal):
            SqliteJournal.create(path)
    with pytest.raises(NotAJournal, match="regular"):
        SqliteJournal.create(folder)
    with pytest.raises(JournalUnreachable, match="no such file"):
        SqliteJournal.read_only(tmp_path / "nowhere.db")
    with pytest.raises(JournalUnreachable):
        SqliteJournal.create(tmp_path / "no" / "folder.db")


def test_a_newer_format_is_refused(path: Path) -> None:
    closed(path, 10)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(NewerJournal, match="format 99"):
        SqliteJournal.create(path)


def test_others_must_not_be_able_to_use_it(path: Path) -> None:
    closed(path, 10).chmod(0o644)
    with pytest.raises(JournalUnreachable, match="0644"):
        SqliteJournal.create(path)


# --- faults of the disk, death of the process ---


def test_a_failed_commit_is_unknown(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: an error of a commit or of the tip says nothing about the commit."""
    append(journal, note("a"))
    assert journal._tip is not None
    monkeypatch.setattr(
        journal._tip, "write", lambda tip: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(JournalUnknown, match="nothing that was acknowledged is lost"):
        append(journal, note("b"))


def test_full_disk(tmp_path: Path) -> None:
    """I3, I4: a full disk is said, loses nothing, and is over once there is space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        path, acknowledged = disk / "ferrylog.db", 0
        journal = SqliteJournal.create(path)
        with pytest.raises(JournalUnknown, match="full"):
            for _ in range(10_000):
                acknowledged = append_at(journal, acknowledged)
        journal.close()
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        with SqliteJournal.create(path) as again:
            found = again.last_seq()
            assert acknowledged <= found <= acknowledged + 10, "all or none of the unknown commit"
            assert found % 10 == 0
            append_at(again, found)
    finally:
        subprocess.run(["umount", disk], check=True)


def append_at(journal: SqliteJournal, version: int) -> int:
    events = [note("x" * 500)] * 10
    position = journal.append(JOB, events, expected=version, epoch=1, at_ms=Millis(1))
    return position.version


CHILD = """
import os, sys
from pathlib import Path
from journal.disk import DISK
from journal.opening import tip_path
from journal.sqlite import SqliteJournal
from journal.tip import read_tip
from journal.tip import SLOT
from statemachine.events import PauseRequested
with SqliteJournal.create(Path(sys.argv[1])) as journal:
    version = journal.last_seq()
    while True:
        events = [PauseRequested(by="me", why=str(n), request=0, immediate=False) for n in range(7)]
        version = journal.append("j1", events, expected=version, epoch=1, at_ms=1).version
        os.write(1, b"%d\\n" % version)
"""


def test_killed_at_random(path: Path) -> None:
    """I3, I4: whole batches, and every one that was acknowledged; 15 kills, one journal."""
    draw, acknowledged = random.Random(3), 0
    for _ in range(15):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(draw.randint(1, 60)):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with SqliteJournal.create(path) as journal:
            found = journal.check()
        assert found % 7 == 0
        assert acknowledged <= found <= acknowledged + 7
        acknowledged = found


def test_a_file_that_was_never_laid_out_is_laid_out(path: Path) -> None:
    """A process that died between making the file and its first commit leaves no trap."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    with SqliteJournal.create(path) as journal:
        append(journal, JobPaused())
        assert journal.check() == 1


def test_killed_between_the_first_commit_and_its_tip(path: Path) -> None:
    """I4: a tip that was never written after an event says "at least nothing", not "damaged"."""
    with SqliteJournal.create(path) as journal:
        blank = Path(f"{path}.tip").read_bytes()
        append(journal, note("a"))
    Path(f"{path}.tip").write_bytes(blank)
    with SqliteJournal.create(path) as journal:
        assert journal.check() == 1


def test_checking_a_journal_that_grows(journal: SqliteJournal, path: Path) -> None:
    """I1: a reader beside a writer sees a prefix, never damage."""
    append(journal, *(note(str(n)) for n in range(1500)))
    with SqliteJournal.read_only(path) as reader:
        jobs = reader.jobs

        def jobs_later() -> list[JobId]:
            append(journal, note("meanwhile"))
            return jobs()

        reader.jobs = jobs_later  # type: ignore[method-assign]
        assert reader.check() == 1500
    assert journal.latest_job() == JOB


def test_an_append_may_be_repeated(journal: SqliteJournal) -> None:
    """I3, I5: the same events at the same place are recognised, whatever came after; nothing is
    appended twice and nothing else passes for them."""
    append(journal, note("a"))
    events = [note("b"), note("c")]
    first = journal.append(JOB, events, expected=1, epoch=1, at_ms=Millis(5))
    assert journal.append(JOB, events, expected=1, epoch=1, at_ms=Millis(5)) == first
    journal.append(JOB, [note("d")], expected=3, epoch=1, at_ms=Millis(6))
    assert journal.append(JOB, events, expected=1, epoch=1, at_ms=Millis(5)) == first
    assert journal.append(JOB, events, expected=1, epoch=1, at_ms=Millis(5)) == first
    assert journal.last_seq() == 4
    tip = read_tip(tip_path(journal.path), DISK)
    assert tip is not None
    assert tip.seq == 4, "the tip never goes back"
    for events, at_ms in (([note("b"), note("x")], 5), ([note("b"), note("c")], 6)):
        with pytest.raises(StalePosition):
            journal.append(JOB, events, expected=1, epoch=1, at_ms=Millis(at_ms))
    with pytest.raises(StalePosition):
        journal.append(JOB, [note("z")], expected=9, epoch=1, at_ms=Millis(6))
    assert journal.check() == 4


def test_a_repeated_append_writes_the_tip(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4: after a commit whose tip failed, the repetition makes both durable."""
    with SqliteJournal.create(path) as journal:
        append(journal, note("a"))
        assert journal._tip is not None
        with monkeypatch.context() as broken:
            broken.setattr(
                journal._tip, "write", lambda tip: (_ for _ in ()).throw(OSError(5, "io"))
            )
            with pytest.raises(JournalUnknown):
                journal.append(JOB, [note("b")], expected=1, epoch=1, at_ms=Millis(1))
    with SqliteJournal.create(path) as journal:
        journal.append(JOB, [note("b")], expected=1, epoch=1, at_ms=Millis(1))
        tip = read_tip(tip_path(path), DISK)
        assert tip is not None
        assert tip.seq == journal.last_seq() == 2


def test_a_file_of_format_1_gets_the_new_index(path: Path) -> None:
    """I1: no event is touched; readers manage without it."""
    closed(path, 10)
    before = history(path)
    db = apsw.Connection(str(path))
    db.execute("DROP INDEX events_by_time; PRAGMA user_version = 1")
    db.close()
    assert history(path) == before
    with SqliteJournal.create(path) as journal:
        names = journal.query("SELECT name FROM sqlite_schema WHERE name = 'events_by_time'")
        assert names == [("events_by_time",)]
        assert journal.check() == 10
    assert history(path) == before


def test_a_refused_journal_is_left_as_it_is(path: Path) -> None:
    """I1: also its format: what is to be looked at as evidence is not touched."""
    closed(path, 20)
    db = apsw.Connection(str(path))
    db.execute("DROP INDEX events_by_time; PRAGMA user_version = 1")
    db.execute("DROP TRIGGER events_are_never_deleted; DELETE FROM events WHERE seq > 15")
    db.close()
    with pytest.raises(JournalBehind):
        SqliteJournal.create(path)
    db = apsw.Connection(str(path))
    assert db.pragma("user_version") == 1
    db.close()


def test_a_tip_of_the_first_layout_is_read(path: Path) -> None:
    """I4: its two records stood 512 bytes apart; the next ones stand where they do now."""
    closed(path, 30)
    raw = Path(f"{path}.tip").read_bytes()
    newest = raw[4096:4148] if len(raw) > 4096 else raw[:52]
    for old in (raw[:52] + bytes(460) + newest, bytes(512) + newest):
        Path(f"{path}.tip").write_bytes(old)
        with SqliteJournal.create(path) as journal:
            append_at(journal, journal.last_seq())
            expected = journal.last_seq()
        tip = read_tip(tip_path(path), DISK)
        assert tip is not None
        assert tip.seq == expected
