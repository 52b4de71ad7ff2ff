"""A copy taken from under a writer is a whole journal."""

import threading
from pathlib import Path

import pytest

from journal.backup import backup
from journal.errors import EvidenceExists, EvidenceUnreachable, JournalUnreachable
from journal.sqlite import SqliteJournal
from tests.journal.test_sqlite import append_at, closed, history


def test_the_copy_is_the_journal(tmp_path: Path) -> None:
    """I1: every event, its tip, and nothing beside it; it can be appended to."""
    path, copy = closed(tmp_path / "j.db", 30), tmp_path / "copy.db"
    assert backup(path, copy) == 30
    assert history(copy) == history(path)
    assert {file.name for file in tmp_path.iterdir()} >= {"copy.db", "copy.db.tip"}
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".part"]
    assert {f.stat().st_mode & 0o777 for f in tmp_path.glob("copy*")} == {0o600}
    with SqliteJournal.create(copy) as journal:
        append_at(journal, 30)


def test_a_journal_in_use(tmp_path: Path) -> None:
    """I4: whatever was acknowledged before the backup began is in it, and a prefix of the rest."""
    path, stop = tmp_path / "j.db", threading.Event()
    acknowledged = [0]
    ready = threading.Event()

    def write() -> None:
        with SqliteJournal.create(path) as journal:
            while not stop.is_set():
                acknowledged[0] = append_at(journal, acknowledged[0])
                if acknowledged[0] > 3000:
                    ready.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert ready.wait(60)
        for n in range(3):
            before = acknowledged[0]
            assert backup(path, tmp_path / f"copy{n}.db") >= before
    finally:
        stop.set()
        writer.join()
    whole = history(path)
    for n in range(3):
        part = history(tmp_path / f"copy{n}.db")
        assert part == whole[: len(part)]


@pytest.mark.parametrize("end", ["", ".tip", "-wal"])
def test_nothing_is_replaced(tmp_path: Path, end: str) -> None:
    path, copy = closed(tmp_path / "j.db", 10), tmp_path / "copy.db"
    taken = Path(f"{copy}{end}")
    taken.write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EvidenceExists):
        backup(path, copy)
    assert taken.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_where_it_cannot_be(tmp_path: Path) -> None:
    path = closed(tmp_path / "j.db", 10)
    with pytest.raises(EvidenceUnreachable):
        backup(path, tmp_path / "no" / "copy.db")
    with pytest.raises(JournalUnreachable):
        backup(tmp_path / "none.db", tmp_path / "copy2.db")
    assert not list(tmp_path.glob("copy*"))
