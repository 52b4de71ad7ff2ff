"""Opening what lies in a folder that somebody else made.

No symbolic link is followed inside it, nothing above it is reached, and only regular files are
opened: a FIFO would hang, a device do worse. Linux does that in one call, `openat2`; elsewhere
the way is walked name by name.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from executors.dumps.errors import DamagedDump, NoDump

Kind = Literal["file", "directory", "other"]
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPENAT2: Final = 437
"""The number of the call, the same on every architecture."""
_RESOLVE: Final = 0x02 | 0x04 | 0x08
"""RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH."""
_NOT_REGULAR: Final = (errno.ELOOP, errno.EXDEV, errno.ENXIO, errno.ENOTDIR, errno.ENODEV)
"""A link, a way out, a socket, a file where a directory should be, a device without a driver."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a directory holds under one name."""

    name: str
    kind: Kind
    bytes: int


def open_file(root: Path, relative: str) -> BinaryIO:
    """The regular file at `relative`, a path with `/`, for reading, unbuffered.

    Raises `DamagedDump` where there is none, or something else; `NoDump` where it may not be
    read.
    """
    fd = _opened(root, relative, _FILE)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise not_regular(relative)
        os.set_blocking(fd, True)
        return os.fdopen(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


def entries(root: Path, relative: str = "") -> list[Entry]:
    """What the directory at `relative` holds, by name. Raises as `open_file`."""
    fd = _opened(root, relative or ".", _DIRECTORY)
    try:
        with os.scandir(fd) as found:
            return sorted(map(_entry, found), key=lambda each: each.name)
    finally:
        os.close(fd)


def not_regular(relative: str) -> DamagedDump:
    return DamagedDump(
        relative,
        "not a regular file",
        detail="EDUMP010",
        remedy="a dump holds plain files and directories; take it out, or put the file itself "
        "in its place",
    )


def _entry(found: os.DirEntry[str]) -> Entry:
    status = found.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        return Entry(found.name, "file", status.st_size)
    return Entry(found.name, "directory" if stat.S_ISDIR(status.st_mode) else "other", 0)


def _opened(root: Path, relative: str, flags: int) -> int:
    if relative.startswith("/") or "\0" in relative or ".." in relative.split("/"):
        raise not_regular(relative)
    try:
        top = os.open(root, _DIRECTORY)
        try:
            return _open_beneath(top, relative, flags)
        finally:
            os.close(top)
    except OSError as error:
        raise _refusal(root, relative, error) from None


def _refusal(root: Path, relative: str, error: OSError) -> Exception:
    if error.errno == errno.ENOENT:
        return DamagedDump(relative, f"there is no such file in {root}", detail="EDUMP011")
    if error.errno in _NOT_REGULAR:
        return not_regular(relative)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoDump(
            str(root / relative), os.strerror(error.errno), remedy="check its owner and its mode"
        )
    return error


def _walk(top: int, relative: str, flags: int) -> int:
    """`openat` name by name, no name of which may be a link."""
    *directories, last = relative.split("/")
    here = os.dup(top)
    try:
        for name in directories:
            below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _openat2(top: int, relative: str, flags: int) -> int:
    how = _How(flags, 0, _RESOLVE)
    fd: int = _LIBC.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(top),
        ctypes.c_char_p(os.fsencode(relative)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def _best() -> Callable[[int, str, int], int]:
    """`openat2` where the kernel has it and lets us (some sandboxes say EPERM)."""
    if os.uname().sysname != "Linux":
        return _walk
    try:
        top = os.open("/", _DIRECTORY)
        try:
            os.close(_openat2(top, ".", _DIRECTORY))
        finally:
            os.close(top)
    except OSError:
        return _walk
    return _openat2


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_open_beneath: Final = _best()
