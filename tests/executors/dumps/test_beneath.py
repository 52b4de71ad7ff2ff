"""What is no plain file inside the folder is not opened (fault 31)."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executors.dumps import beneath
from executors.dumps.beneath import entries, open_file
from executors.dumps.errors import DamagedDump, NoDump


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_open_beneath", beneath._walk)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _link_inside(path: Path) -> None:
    path.symlink_to("plain")


@pytest.mark.parametrize("make", [_fifo, _socket, _link, _link_inside, Path.mkdir])
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "plain").write_bytes(b"x")
    make(tmp_path / "odd")
    with pytest.raises(DamagedDump, match="not a regular file") as refused:
        open_file(tmp_path, "odd")
    assert (refused.value.detail, refused.value.file) == ("EDUMP010", "odd")


@pytest.mark.parametrize(
    "path", ["../secret", "db/../../secret", "/etc/passwd", "link/passwd", "link", "a\0b"]
)
def test_nothing_outside_is_reached(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    root = tmp_path / "root"
    (root / "db").mkdir(parents=True)
    (root / "link").symlink_to("/etc")
    with pytest.raises(DamagedDump) as refused:
        open_file(root, path)
    assert refused.value.detail == "EDUMP010"


def test_a_file_is_read_and_its_folder_listed(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "c.bson").write_bytes(b"five!")
    _link(tmp_path / "db" / "l")
    with open_file(tmp_path, "db/c.bson") as file:
        assert file.read() == b"five!"
    found = [(each.name, each.kind, each.bytes) for each in entries(tmp_path, "db")]
    assert found == [("c.bson", "file", 5), ("l", "other", 0)]
    assert [(each.name, each.kind) for each in entries(tmp_path)] == [("db", "directory")]


def test_a_directory_that_is_a_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "db").symlink_to("/etc")
    with pytest.raises(DamagedDump) as refused:
        entries(tmp_path, "db")
    assert refused.value.detail == "EDUMP010"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedDump) as refused:
        open_file(tmp_path, "db/c.bson")
    assert (refused.value.detail, refused.value.file) == ("EDUMP011", "db/c.bson")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.bson").touch(0)
    with pytest.raises(NoDump, match="Permission denied"):
        open_file(tmp_path, "c.bson")
