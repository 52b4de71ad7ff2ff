"""A folder as a store: what is synced when, what a kill or a full disk leaves, whom it follows."""

import errno
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.classify import classify
from executors.storage.errors import BadObjectName, NoObject, ObjectExists
from executors.storage.local import DRAFT, Local
from statemachine.words import Cause

NEVER = threading.Event()


def put_file(store: Local, name: str, data: bytes) -> None:
    draft = store.draft(name)
    draft.write_bytes(data)
    store.put_file(name, draft, NEVER)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the disk is asked for that matters after a power cut, in order, with its path."""
    found: list[tuple[str, str]] = []
    fsync, link, mkdir = os.fsync, os.link, os.mkdir

    def synced(fd: int) -> None:
        found.append(("sync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        fsync(fd)

    def linked(source: Any, target: Any, **how: Any) -> None:
        found.append(("link", os.fspath(target)))
        link(source, target, **how)

    def made(path: Any, *how: Any) -> None:
        mkdir(path, *how)
        found.append(("make", os.fspath(path)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "mkdir", made)
    return found


def test_durable_before_it_returns(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    """Order of truth: each new directory's name, then the bytes, then the name, then the name's
    directory."""
    root = tmp_path / "new" / "out"
    put_file(Local(root), "a/b/part", b"1")
    for directory in (root.parent, root, root / "a", root / "a/b"):
        made = told.index(("make", str(directory)))
        assert ("sync", str(directory.parent)) in told[made:]
    draft = told.index(("sync", str(root / f"a/b/{DRAFT}part.tmp")))
    linked = told.index(("link", str(root / "a/b/part")))
    assert draft < linked < len(told) - 1
    assert told[-1] == ("sync", str(root / "a/b"))


def test_directories_of_a_dead_process_are_synced(
    tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    """It may have died between making one and syncing it."""
    (tmp_path / "out" / "a").mkdir(parents=True)
    told.clear()
    store = Local(tmp_path / "out")
    store.put("a/one", b"1")
    assert {("sync", str(tmp_path)), ("sync", str(tmp_path / "out"))} <= set(told)
    told.clear()
    store.put("a/two", b"1")
    assert [what for what, _ in told] == ["sync", "link", "sync"], "once a process"


def test_what_is_found_is_made_durable(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    """The attempt that put it may have died before its syncs."""
    store = Local(tmp_path)
    (tmp_path / "one").write_bytes(b"1")
    store.put("one", b"1")
    assert told[-2:] == [("sync", str(tmp_path / "one")), ("sync", str(tmp_path))]


def test_removal_is_durable(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    """Else garbage came back behind a manifest."""
    store = Local(tmp_path)
    store.put("a/one", b"1")
    told.clear()
    store.remove(["a/one"])
    assert told == [("sync", str(tmp_path / "a"))]


def test_replacing_is_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Local(tmp_path)
    store.put("one", b"old")
    monkeypatch.setattr(Path, "replace", _fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        store.put("one", b"new", replace=True)
    assert store.get("one") == b"old" and store.remove_drafts() == 0


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_failed_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """After a failed sync the kernel may have forgotten the bytes: the draft is not used again."""
    store = Local(tmp_path)
    draft = store.draft("one")
    draft.write_bytes(b"1")
    monkeypatch.setattr(os, call, _fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        store.put_file("one", draft, NEVER)
    monkeypatch.undo()
    assert list(store.list()) == [] and not draft.exists()


@pytest.mark.parametrize("point", ["fsync", "link", "unlink"])
def test_killed_in_the_middle_of_a_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """I24: kill -9 before the bytes are synced, before the link, before the draft goes: there is
    no object, or the whole one; what is left besides is a draft."""
    store = Local(tmp_path)
    store.draft("one").write_bytes(b"whole")
    child = os.fork()
    if not child:
        monkeypatch.setattr(os, point, lambda *args, **how: os.kill(os.getpid(), signal.SIGKILL))
        store.put_file("one", tmp_path / f"{DRAFT}one.tmp", NEVER)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = Local(tmp_path)
    found = [each.name for each in again.list()]
    assert found == (["one"] if point == "unlink" else [])
    assert again.head("one") is None or again.get("one") == b"whole"
    assert not again.draft("one").exists() and [each.name for each in again.list()] == found
    again.draft("one").write_bytes(b"whole")
    assert again.remove_drafts() == 1
    put_file(again, "one", b"whole")
    assert again.get("one") == b"whole" and again.remove_drafts() == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(small: Path) -> None:
    """The operator must act, nothing shows, nothing is in the way."""
    store = Local(small)
    store.put("fits", bytes(1 << 19))
    with pytest.raises(OSError) as error:  # noqa: PT011 - its number is looked at
        store.put("too/big", bytes(1 << 20))
    cause, code, why = classify(error.value)
    assert (cause, code) == (Cause.FATAL, "EDISK001") and "No space" in why
    assert [each.name for each in store.list()] == ["fits"] and store.remove_drafts() == 0
    store.put("fits too", bytes(1 << 18))


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, who puts first is found out by looking."""
    monkeypatch.setattr(os, "link", _fails(errno.EPERM))
    store = Local(tmp_path)
    store.put("one", b"1")
    assert store.put("one", b"1").size == 1 and store.get("one") == b"1"
    with pytest.raises(ObjectExists):
        store.put("one", b"2")
    put_file(store, "two", b"2")
    assert sorted(each.name for each in store.list()) == ["one", "two"]


def test_for_its_owner_alone(tmp_path: Path) -> None:
    store = Local(tmp_path / "out")
    put_file(store, "a/one", b"1")
    store.put("a/two", b"2")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"out": 0o700, "a": 0o700, "one": 0o600, "two": 0o600}


def test_what_others_laid_there(tmp_path: Path) -> None:
    """Links and pipes are seen, and neither followed nor waited for."""
    secret = tmp_path / "secret"
    secret.write_text("s")
    root = tmp_path / "out"
    root.mkdir()
    (root / "link").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / "real").write_text("r")
    store = Local(root)
    assert sorted(each.name for each in store.list()) == ["folder", "link", "pipe", "real"]
    for name in ("link", "pipe", "folder"):
        assert store.head(name) is None
        with pytest.raises(NoObject):
            store.get(name)
        with pytest.raises(ObjectExists):
            store.put(name, b"x")
    assert secret.read_text() == "s"


def test_no_object_has_a_drafts_name(tmp_path: Path) -> None:
    with pytest.raises(BadObjectName):
        Local(tmp_path).put(f"{DRAFT}x", b"1")


def test_a_directory_that_went(tmp_path: Path) -> None:
    """Somebody tidied up: it is made again."""
    store = Local(tmp_path / "out")
    store.put("a/one", b"1")
    store.remove(["a/one"])
    (tmp_path / "out" / "a").rmdir()
    store.put("a/one", b"1")
    assert store.get("a/one") == b"1"


def test_many_threads_make_one_directory(tmp_path: Path) -> None:
    store = Local(tmp_path / "out")
    threads = [threading.Thread(target=put_file, args=(store, f"a/b/{n}", b"1")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.list("a/b/"))) == 16


def _fails(number: int) -> Callable[..., None]:
    def fail(*args: Any, **how: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail
