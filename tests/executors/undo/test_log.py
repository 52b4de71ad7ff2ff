"""The undo log is whole up to what was synced, whatever a crash tore (I40, P3)."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import bson
import pytest

from executors.errors import BadFolder
from executors.undo.log import (
    FIRST,
    LARGEST_ROW,
    DamagedLog,
    UndoLog,
    _head,
    rows,
    rows_at,
    rows_backwards,
    undo_path,
)
from executors.undo.recording import Recorder, head
from statemachine.words import TaskKey, TaskKind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return undo_path(tmp_path, TaskKey(TaskKind.RESTORE, "shop.c#4"))


def _numbers(path: Path) -> list[int]:
    return [row["n"] for row in rows(path)]


def test_rows_come_as_they_were_written_and_backwards(path: Path) -> None:
    with UndoLog(path) as log:
        log.add({"n": 1})
        log.add(bson.encode({"n": 2, "before": {"_id": 1, "deep": {"a": [1]}}}))
        log.sync()
    with UndoLog(path) as log:
        log.add({"n": 3})
        log.sync()
    assert _numbers(path) == [1, 2, 3]
    assert [row["n"] for row in rows_backwards(path)] == [3, 2, 1]
    assert bson.decode(list(rows(path))[1]["before"].raw) == {"_id": 1, "deep": {"a": [1]}}


def test_nothing_is_made_before_something_is_synced(path: Path) -> None:
    with UndoLog(path) as log:
        log.sync()
        log.add({"n": 1})
    assert not path.exists()
    assert _numbers(path) == []
    assert list(rows_backwards(path)) == []


def _small(path: Path) -> list[int]:
    """Two rows that were synced at once, and two more; where each ends."""
    ends = []
    for lot in ((1, 2), (3, 4)):
        with UndoLog(path) as log:
            for n in lot:
                log.add({"n": n, "t": "x" * n})
            log.sync()
    ends += [end for _, end, _ in rows_at(path)]
    assert _numbers(path) == [1, 2, 3, 4]
    return ends


def test_a_log_that_was_cut_anywhere_tells_its_whole_rows(path: Path, tmp_path: Path) -> None:
    """I40: a crash leaves a torn tail; it is no row, and it is cut off before one is added."""
    ends, data = _small(path), path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        whole = [n for n, end in enumerate(ends, 1) if end <= size]
        assert _numbers(path) == whole
        assert [row["n"] for row in rows_backwards(path)] == whole[::-1]
        with UndoLog(path) as log:
            log.add({"n": 5})
            log.sync()
        assert _numbers(path) == [*whole, 5]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF], ids=hex)
def test_a_byte_that_was_altered_is_never_passed_over(path: Path, flip: int) -> None:
    """I40: whichever it is, of the last row too: nothing is undone, nothing is added."""
    _small(path)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        with pytest.raises(DamagedLog, match=f"{path.name} is damaged at byte "):
            next(rows_backwards(path))
        with UndoLog(path) as log, pytest.raises(DamagedLog):
            log.add({"n": 5})
            log.sync()
        assert path.stat().st_size == len(data)


def test_rows_that_are_gone_from_the_middle_are_missed(path: Path) -> None:
    ends = [0, *_small(path)]
    data = path.read_bytes()
    for begin, end in pairwise(ends[:-1]):
        path.write_bytes(data[:begin] + data[end:])
        with pytest.raises(DamagedLog):
            _numbers(path)


@pytest.mark.parametrize("hole", [(512, 1024), (1024, 1536), (1536, 2560)], ids=str)
def test_sectors_that_a_crash_left_unwritten_are_a_torn_tail(
    path: Path, hole: tuple[int, int]
) -> None:
    """P3: pages of one write reach the disk in any order. Behind a later write none is missing."""
    for lot in ((1,), (2, 3, 4)):
        with UndoLog(path) as log:
            for n in lot:
                log.add({"n": n, "t": "x" * 600})
            log.sync()
    before = next(rows_at(path))[1]
    data = bytearray(path.read_bytes())
    begin, end = max(before, hole[0]), hole[1]
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    assert _numbers(path) in ([1], [1, 2])
    with UndoLog(path) as log:
        log.add({"n": 5})
        log.sync()
    assert _numbers(path) in ([1, 5], [1, 2, 5])
    data = bytearray(path.read_bytes())
    data[before - 520 : before] = bytes(520)
    path.write_bytes(data)
    with pytest.raises(DamagedLog, match="at byte 0:"):
        _numbers(path)


def test_a_head_believes_no_length_that_no_row_has(path: Path) -> None:
    """A row of more bytes than any has, or of fewer than a document, was never written."""
    for size in (0, 4, -1, LARGEST_ROW + 1, 1 << 30):
        row = size.to_bytes(4, "little", signed=True) + bytes(100)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_head(FIRST, row, 0) + row)
        with pytest.raises(DamagedLog):
            _numbers(path)


def test_a_log_without_a_row_is_begun(path: Path) -> None:
    """I40: what is torn before its first row was whole tells as little as no file."""
    path.parent.mkdir(parents=True)
    for data in (b"", b"FLU1", b"FLU1" + bytes(9)):
        path.write_bytes(data)
        with UndoLog(path) as log:
            log.make()
        assert [row["k"] for row in rows(path)] == ["began"]


def test_what_could_not_be_written_hides_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I40: a full disk in the middle of a row, while another attempt has the file open, too."""
    with UndoLog(path) as one, UndoLog(path) as other:
        for number, log in enumerate((one, other)):
            log.add({"n": number})
            log.sync()
        with monkeypatch.context() as full:
            full.setattr("executors.appended.os.write", Full())
            one.add({"n": 2})
            with pytest.raises(OSError, match="full"):
                one.sync()
        other.add({"n": 3})
        other.sync()
    assert _numbers(path) == [0, 1, 3]


class Full:
    """Takes half of what is to be written, and nothing after that."""

    def __init__(self) -> None:
        self._write, self._taken = os.write, False

    def __call__(self, fd: int, data: memoryview) -> int:
        if self._taken:
            raise OSError(errno.ENOSPC, "full")
        self._taken = True
        return self._write(fd, data[: len(data) // 2])


def test_only_we_may_read_it(path: Path) -> None:
    with UndoLog(path) as log:
        log.add({"n": 1})
        log.sync()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


def test_each_operation_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Kinds and names that differ by case or slashes stay apart, and inside the folder."""
    entities = ("shop.c#1", "shop.C#1", "shop./../c#1", "shop.\0#1", "shop." + "ö" * 250)
    tasks = [TaskKey(kind, each) for kind in (TaskKind.COPY, TaskKind.APPLY) for each in entities]
    paths = {undo_path(tmp_path, task) for task in tasks}
    assert len(paths) == len(tasks)
    assert all(each.resolve().is_relative_to(tmp_path / "undo") for each in paths)


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with UndoLog(path) as log, pytest.raises(OSError, match="symbolic links"):
        log.add({"n": 1})
        log.sync()
    assert not (tmp_path / "elsewhere").exists()


def test_every_attempt_says_what_its_rows_are_about(path: Path) -> None:
    """The first row of a log does, whichever attempt wrote it first."""
    for n in range(2):
        with UndoLog(path) as log:
            recorder = Recorder(log, "shop.c", "collection")
            recorder.inserted([])
            recorder.sync()
            recorder.inserted([bson.encode({"_id": n})])
            recorder.erased(bson.encode({"_id": n}))
            recorder.sync()
    first, *others = rows(path)
    assert first.raw == head("shop.c", "collection")
    kinds = ["inserted", "erased", "documents", "inserted", "erased"]
    assert [row["k"] for row in others] == kinds


def test_a_row_of_many_documents_is_small(path: Path) -> None:
    """Of 50,000 documents: their keys and 8 bytes each."""
    with UndoLog(path) as log:
        recorder = Recorder(log, "shop.c", "collection")
        recorder.inserted(bson.encode({"_id": n, "text": "x" * 500}) for n in range(50_000))
        recorder.sync()
    assert path.stat().st_size < 50_000 * 23


def test_documents_that_nobody_can_read_are_passed_over(path: Path) -> None:
    """A dump may hold anything; no server takes these."""
    odd = [b"\x05\0\0\0\0", b"\x0c\0\0\0\x10a\0\1\0\0\0\0", b"\x0d\0\0\0\x03_id\0\xff\xff\xff\0"]
    with UndoLog(path) as log:
        recorder = Recorder(log, "shop.c", "collection")
        recorder.inserted(odd)
        recorder.sync()
    assert not path.exists()


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """Kinds are words of ours; entities are escaped: nothing is left that could."""
    assert undo_path(tmp_path, TaskKey(TaskKind.COPY, "..")).parent == tmp_path / "undo" / "copy"
    with pytest.raises(BadFolder):
        undo_path(tmp_path, TaskKey("..", "x"))  # type: ignore[arg-type]
