"""Looking at a journal where there is no room to write: truthful, and no file changed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.errors import DamagedJournal, JournalBehind, JournalUnknown, JournalUnreachable
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from statemachine.events import PauseRequested
from statemachine.words import JobId, Millis

JOB = JobId("j1")


def run(*command: object) -> int:
    return subprocess.run([str(word) for word in command], check=False).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", disk):
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    assert run("umount", disk) == 0


def append(journal: SqliteJournal, version: int, count: int = 10) -> int:
    events = [PauseRequested(by="me", why="x" * 500, request=0, immediate=False)] * count
    return journal.append(JOB, events, expected=version, epoch=1, at_ms=Millis(1)).version


def killed(path: Path, disk: Path) -> Path:
    """A journal of 60 events on that disk, all of them in the log of a process that died."""
    with SqliteJournal.create(path / "ferrylog.db") as journal:
        for version in range(0, 60, 10):
            append(journal, version)
        for suffix in ("", "-wal", ".tip"):
            shutil.copy2(path / f"ferrylog.db{suffix}", disk)
    return disk / "ferrylog.db"


def ended(disk: Path) -> Path:
    """A journal of 60 events on that disk, closed in good order."""
    path = disk / "ferrylog.db"
    with SqliteJournal.create(path) as journal:
        for version in range(0, 60, 10):
            append(journal, version)
    return path


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 512)
        except OSError:
            return


def contents(disk: Path) -> dict[str, bytes]:
    """All but the files that hold nothing: SQLite's index of a log, and an empty log."""
    files = {file.name: file.read_bytes() for file in disk.iterdir() if file.name != "filler"}
    return {name: raw for name, raw in files.items() if raw and not name.endswith("-shm")}


def looked(path: Path) -> int:
    before = contents(path.parent)
    with SqliteJournal.read_only(path) as journal:
        found = journal.check()
        assert sum(1 for _ in journal.read(JOB)) == found
        assert journal.path == path
    assert contents(path.parent) == before
    return found


def test_on_a_full_disk(disk: Path) -> None:
    """I4, I10: an ended journal is read as it stands."""
    path = ended(disk)
    fill(disk)
    assert looked(path) == 60


def test_on_a_full_disk_after_a_kill(tmp_path: Path, disk: Path) -> None:
    """I4, I10: what stands only in the write-ahead log is seen too."""
    path = killed(tmp_path, disk)
    fill(disk)
    assert looked(path) == 60


def test_when_the_journal_filled_the_disk(disk: Path) -> None:
    """I3, I4: the run that met the full disk is over; all it acknowledged can be seen."""
    path, version = disk / "ferrylog.db", 0
    journal = SqliteJournal.create(path)
    with pytest.raises(JournalUnknown, match="full"):
        while True:
            version = append(journal, version)
    journal.close()
    fill(disk)
    assert looked(path) in (version, version + 10)


def read_only(disk: Path) -> None:
    assert run("mount", "-o", "remount,ro", disk) == 0


def test_on_a_read_only_file_system(disk: Path) -> None:
    """I10: immutable there."""
    path = ended(disk)
    read_only(disk)
    assert looked(path) == 60


def test_on_a_read_only_file_system_after_a_kill(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4, I10: the journal and its log are read from a copy, which is gone afterwards."""
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    path = killed(tmp_path, disk)
    read_only(disk)
    assert looked(path) == 60
    assert not list(copies.iterdir())


def test_a_lost_log_is_said_there_too(tmp_path: Path, disk: Path) -> None:
    """I4: the tip is asked wherever the journal is read from."""
    path = killed(tmp_path, disk)
    (disk / "ferrylog.db-wal").unlink()
    read_only(disk)
    with pytest.raises(JournalBehind, match="60 events are missing"):
        SqliteJournal.read_only(path)


def test_not_past_a_running_process(tmp_path: Path, disk: Path) -> None:
    """A held journal is never read as immutable or from a copy: it would be out of date."""
    path = killed(tmp_path, disk)
    with Lease(path, host="here", since="now"):
        fill(disk)
        with pytest.raises(JournalUnreachable):
            SqliteJournal.read_only(path)


def test_a_read_only_disk_takes_no_events(disk: Path) -> None:
    path = ended(disk)
    read_only(disk)
    with pytest.raises(JournalUnreachable):
        SqliteJournal.create(path)


def test_a_file_that_was_never_laid_out(tmp_path: Path) -> None:
    """A process killed while it made the journal leaves an empty file: that is what is said."""
    path = tmp_path / "ferrylog.db"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    with pytest.raises(JournalUnreachable, match="it is empty: its making was interrupted") as told:
        SqliteJournal.read_only(path)
    assert "ferrylog start" in told.value.remedy


@pytest.mark.parametrize("left", [b"", None])
def test_a_log_without_its_journal(tmp_path: Path, left: bytes | None) -> None:
    """I4: SQLite would remove the log of an empty database, and what it holds, without a word."""
    (tmp_path / "copy").mkdir()
    path = killed(tmp_path, tmp_path / "copy")
    path.unlink()
    if left is not None:
        path.touch(mode=0o600)
    before = contents(path.parent)
    with pytest.raises(DamagedJournal, match="its write-ahead log is there"):
        SqliteJournal.create(path)
    assert contents(path.parent) == before
