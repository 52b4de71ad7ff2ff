"""A folder as a store: whole files, put by a link, synced with every directory above them.

A draft is a hidden file beside its place, so that becoming the object is one link in one directory.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from executors.chunkfile import sync_directory
from executors.protocol import Stopped, StopToken
from executors.storage.errors import BadObjectName, NoObject, ObjectExists
from executors.storage.names import OWN, checked
from executors.storage.protocol import Found

DRAFT: Final = f"{OWN}draft-"
_PIECE: Final = 8 << 20
"""Bytes between two looks at the stop token."""
_NONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""Nothing of that name, or a link or a socket."""
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""How a file system says that it has no links; there, who puts first is found out by looking."""


class Local:
    """A `Store`; what the disk says is raised as `OSError`, which `classify` knows. What it makes
    is for its owner alone: directories 0700, files 0600."""

    def __init__(self, root: Path) -> None:
        """`root` may be missing: it is made when the first object comes."""
        self.url = root.absolute().as_uri()
        self._root = root.absolute()
        self._durable: set[Path] = set()
        """Directories that a thread has made or found, and synced by their names."""

    def put(self, name: str, data: bytes, *, replace: bool = False) -> Found:
        place = self._made(name)
        draft = place.with_name(f"{DRAFT}{uuid4().hex}.tmp")
        try:
            with _new(draft) as file:
                file.write(data)
            return self._become(name, draft, replace=replace)
        finally:
            draft.unlink(missing_ok=True)

    def draft(self, name: str) -> Path:
        place = self._made(name)
        draft = place.with_name(f"{DRAFT}{place.name}.tmp")
        draft.unlink(missing_ok=True)  # never cut: it may be a second link to the object
        return draft

    def put_file(self, name: str, draft: Path, stop: StopToken, *, replace: bool = False) -> Found:
        try:
            if stop.is_set():
                raise Stopped
            return self._become(name, draft, replace=replace)
        finally:
            draft.unlink(missing_ok=True)  # after a failed sync its bytes are not to be trusted

    def get(self, name: str) -> bytes:
        with self._opened(name) as file:
            return file.read()

    def read(self, name: str, at: int, length: int) -> bytes:
        with self._opened(name) as file:
            file.seek(at)
            return file.read(length)

    def fetch(self, name: str, into: Path, stop: StopToken) -> Found:
        with self._opened(name) as file, into.open("wb") as copy:
            while piece := file.read(_PIECE):
                if stop.is_set():
                    raise Stopped
                copy.write(piece)
            return _found(name, os.fstat(file.fileno()))

    def head(self, name: str) -> Found | None:
        try:
            status = self._place(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _found(name, status) if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[Found]:
        """What is no file of ours is among them, too: links, sockets, what others put there."""
        if self._root.is_dir():
            yield from self._under("", prefix)

    def remove(self, names: Iterable[str]) -> None:
        directories = set()
        for name in names:
            place = self._place(name)
            with suppress(FileNotFoundError, NotADirectoryError):
                place.unlink()
                directories.add(place.parent)
        for directory in directories:
            sync_directory(directory)

    def remove_drafts(self, ours: Callable[[str], bool] | None = None) -> int:
        drafts = [
            path
            for path in self._root.rglob(f"{DRAFT}*")
            if not path.is_dir() and (ours is None or ours(self._drafted(path)))
        ]
        for path in drafts:
            path.unlink(missing_ok=True)
        return len(drafts)

    def _drafted(self, draft: Path) -> str:
        """The name of the object that a draft was to become."""
        name = draft.name.removeprefix(DRAFT).removesuffix(".tmp")
        return draft.with_name(name).relative_to(self._root).as_posix()

    def _become(self, name: str, draft: Path, *, replace: bool) -> Found:
        with draft.open("rb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        place = self._place(name)
        if replace:
            draft.replace(place)
        elif not _linked(draft, place) and not self._same(name, draft, size):
            raise ObjectExists(f"{self.url}/{name}")
        sync_directory(place.parent)
        return _found(name, place.lstat())

    def _same(self, name: str, draft: Path, size: int) -> bool:
        """Whether the object has the bytes of the draft, and is durable."""
        found = self.head(name)
        if found is None or found.size != size:
            return False
        with self._opened(name) as one, draft.open("rb") as other:
            while piece := one.read(_PIECE):
                if piece != other.read(len(piece)):
                    return False
            os.fsync(one.fileno())  # its process may have died before it did
        return True

    def _place(self, name: str) -> Path:
        place = self._root / checked(name)
        if place.name.startswith(DRAFT):
            raise BadObjectName(name, "drafts are named so")
        return place

    def _made(self, name: str) -> Path:
        """The place of that name; its directory exists, and will after a power cut."""
        place = self._place(name)
        self._make(place.parent)
        return place

    def _make(self, directory: Path) -> None:
        """A directory that is there may be one of a process that died before it synced it."""
        if directory.parent == directory or (directory in self._durable and directory.is_dir()):
            return
        self._make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        with suppress(PermissionError):  # one that we may not read is none that we made
            sync_directory(directory.parent)
        self._durable.add(directory)

    def _opened(self, name: str) -> BinaryIO:
        """A link that somebody laid there is not followed."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self._place(name), flags)
        except OSError as error:
            if error.errno in _NONE:
                raise NoObject(f"{self.url}/{name}") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NoObject(f"{self.url}/{name}")
        return os.fdopen(descriptor, "rb")

    def _under(self, folder: str, prefix: str) -> Iterator[Found]:
        try:
            entries = list(os.scandir(self._root / folder))
        except FileNotFoundError:
            return
        for entry in entries:
            name = f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if f"{name}/".startswith(prefix) or prefix.startswith(f"{name}/"):
                    yield from self._under(f"{name}/", prefix)
            elif name.startswith(prefix) and not entry.name.startswith(DRAFT):
                with suppress(FileNotFoundError):
                    yield _found(name, entry.stat(follow_symlinks=False))


def _new(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _linked(draft: Path, place: Path) -> bool:
    """Whether the draft is now the object; `False`: there is one."""
    try:
        place.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(place):
            return False
        draft.rename(place)
    return True


def _found(name: str, status: os.stat_result) -> Found:
    return Found(name, status.st_size, f"{status.st_ino:x}-{status.st_mtime_ns:x}")
