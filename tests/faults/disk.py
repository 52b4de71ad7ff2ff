"""A disk in memory that remembers the order of everything done to it.

Journal, rollback journal, write-ahead log and tip lie on it: SQLite comes through a VFS, the
product's opening and tip through `journal.disk.Disk`. The trace of a run is the material for the
disks that a power cut may leave (`images.py`). A fault plan makes the n-th operation fail.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import apsw

PATH: Final = Path("/disk/ferrylog.db")
Image = Mapping[str, bytes]
"""File contents by name: all that a disk holds when the power comes back."""
Row = tuple[Any, ...]
"""A row of the journal, as it is stored."""


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Size:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All bytes of the file are durable."""

    file: int


@dataclass(frozen=True, slots=True)
class Forget:
    """A sync failed: what is not durable yet never will be, though it can still be read."""

    file: int


@dataclass(frozen=True, slots=True)
class Create:
    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Delete:
    name: str


@dataclass(frozen=True, slots=True)
class SyncNames:
    """All names of the directory are durable, and the absence of those deleted."""


@dataclass(frozen=True, slots=True)
class Promise:
    """From here on, these rows must be found: `kept` alone, or the batch in flight after them."""

    kept: tuple[Row, ...] = ()
    batch: tuple[Row, ...] = ()

    def check(self, found: tuple[Row, ...]) -> None:
        if found in (self.kept, self.kept + self.batch):
            return
        pairs = enumerate(zip(found, self.kept, strict=False))
        other = next((row for row, pair in pairs if pair[0] != pair[1]), None)
        raise BrokenPromise(
            f"{len(found)} events found, {len(self.kept)} acknowledged, {len(self.batch)} in "
            f"flight; the first that differs: {other}"
        )


class BrokenPromise(AssertionError):
    """What was acknowledged is not what is found."""


Op = Write | Size | Sync | Forget | Create | Delete | SyncNames | Promise
Touch = Literal["read", "write", "size", "sync", "create", "delete"]


CAN_FAIL: Final[dict[str, set[Touch]]] = {
    "io": {"read", "write", "size", "sync", "create", "delete"},
    "full": {"write", "create", "sync"},
}


@dataclass
class Faults:
    """Which operation fails, and how. Counting goes on over all operations of the kinds."""

    at: int
    error: Literal["io", "full"] = "io"
    persistent: bool = False
    forgetful: bool = False
    """A failed sync leaves the kernel believing that all is written."""
    seed: int = 0
    seen: int = 0
    fired: int = 0

    def strikes(self, touch: Touch) -> bool:
        if touch not in CAN_FAIL[self.error]:
            return False
        self.seen += 1
        hit = self.seen == self.at or (self.persistent and self.seen > self.at)
        self.fired += hit
        return hit


@dataclass(frozen=True)
class Build:
    """How the modelled disk is built."""

    sector: int = 512
    powersafe: bool = True
    """A torn write leaves the bytes around it alone."""
    lie_every: int = 0
    """Every so many syncs do nothing, and say that they did."""
    sql: tuple[tuple[str, str], ...] = ()
    """Replacements in the product's SQL: to break it on purpose."""


@dataclass
class ModelDisk:
    """Implements `journal.disk.Disk`; `trace` is everything that was done since it was made."""

    image: Image = field(default_factory=dict)
    build: Build = Build()
    trace: list[Op] = field(default_factory=list)
    faults: Faults | None = None

    def __post_init__(self) -> None:
        self.names = {name: number for number, name in enumerate(self.image)}
        self.files = {self.names[name]: bytearray(raw) for name, raw in self.image.items()}
        self.process = 0
        self._syncs = 0

    def contents(self) -> dict[str, bytes]:
        """What every process sees now; all of it is there after the death of one."""
        return {name: bytes(self.files[number]) for name, number in self.names.items()}

    def die(self) -> None:
        """The process is gone: what it still holds open reaches the disk no more."""
        self.process += 1
        VFS.disk = ModelDisk()

    # --- what both ways share ---

    def do_create(self, name: str) -> int:
        self._touch("create")
        number = len(self.files)
        self.names[name] = number
        self.files[number] = bytearray()
        self.trace.append(Create(name, number))
        return number

    def do_write(self, file: int, data: bytes, at: int) -> None:
        if self.faults and self.faults.strikes("write"):
            self._put(file, data[: Random(self.faults.seed + at).randint(0, len(data))], at)
            raise Struck(self.faults.error)
        self._put(file, data, at)

    def _put(self, file: int, data: bytes, at: int) -> None:
        content = self.files[file]
        if len(content) < at:
            content.extend(bytes(at - len(content)))
        content[at : at + len(data)] = data
        self.trace.append(Write(file, at, data))

    def do_size(self, file: int, size: int) -> None:
        self._touch("size")
        content = self.files[file]
        del content[size:]
        content.extend(bytes(size - len(content)))
        self.trace.append(Size(file, size))

    def do_sync(self, file: int, *, names: bool = False) -> None:
        if self.faults and self.faults.strikes("sync"):
            if self.faults.forgetful:
                self.trace.append(Forget(file))
            raise Struck(self.faults.error)
        self._syncs += 1
        if self.build.lie_every and self._syncs % self.build.lie_every == 0:
            return
        if file >= 0:
            self.trace.append(Sync(file))
        if names:
            self.trace.append(SyncNames())

    def do_delete(self, name: str) -> None:
        self._touch("delete")
        del self.names[name]
        self.trace.append(Delete(name))

    def _touch(self, touch: Touch) -> None:
        if self.faults and self.faults.strikes(touch):
            raise Struck(self.faults.error)

    # --- the port ---

    def make(self, path: Path) -> None:
        if str(path) in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with _system():
            self.do_create(str(path))

    def stat(self, path: Path) -> os.stat_result:
        number = self._number(path)
        return os.stat_result(
            (stat.S_IFREG | 0o600, 0, 0, 1, 0, 0, len(self.files[number]), 0, 0, 0)
        )

    def connect(self, path: Path) -> apsw.Connection:
        VFS.disk = self
        return Connection(self, str(path))

    def read(self, path: Path) -> bytes:
        number = self._number(path)
        with _system():
            self._touch("read")
        return bytes(self.files[number])

    def open(self, path: Path) -> int:
        if str(path) in self.names:
            return self.names[str(path)]
        with _system():
            return self.do_create(str(path))

    def write(self, fd: int, data: bytes, at: int) -> None:
        with _system():
            self.do_write(fd, data, at)

    def sync(self, fd: int) -> None:
        with _system():
            self.do_sync(fd)

    def close(self, fd: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        with _system():
            self.do_sync(-1, names=True)

    def _number(self, path: Path) -> int:
        try:
            return self.names[str(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None


class Struck(Exception):
    """The planned fault, before it takes the form that its caller knows."""


@contextmanager
def _system() -> Iterator[None]:
    try:
        yield
    except Struck as struck:
        number = errno.ENOSPC if struck.args == ("full",) else errno.EIO
        raise OSError(number, os.strerror(number)) from None


class Connection(apsw.Connection):
    """A Python VFS has no shared memory: a write-ahead log needs the exclusive locking mode here.

    It is set as late as can be, so that the layout runs in the product's own mode.
    """

    def __init__(self, disk: ModelDisk, name: str) -> None:
        self._sql = disk.build.sql
        super().__init__(name, flags=apsw.SQLITE_OPEN_READWRITE, vfs=VFS.NAME)
        if disk.files[disk.names[name]][18:20] == b"\2\2" or f"{name}-wal" in disk.names:
            super().execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()

    def execute(self, sql: str, *args: Any, **named: Any) -> apsw.Cursor:
        if "journal_mode = WAL" in sql:
            super().execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        for old, new in self._sql:
            sql = sql.replace(old, new)
        return super().execute(sql, *args, **named)

    def pragma(self, name: str, *args: Any, **named: Any) -> Any:
        if self._sql and name == "synchronous":
            return 2  # a product broken on purpose must not notice
        return super().pragma(name, *args, **named)


class ModelVFS(apsw.VFS):
    """Hands SQLite's calls to the disk that was connected to last."""

    NAME = "faults"
    disk: ModelDisk
    random = Random(0)

    def __init__(self) -> None:
        super().__init__(self.NAME, base="")

    def xOpen(self, name: Any, flags: list[int]) -> "ModelFile":  # noqa: N802
        if name is None:
            return ModelFile(self.disk, self.disk.process, -1, names=False)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        number = self.disk.names.get(path)
        if number is not None:
            return ModelFile(self.disk, self.disk.process, number, names=False)
        if not flags[0] & apsw.SQLITE_OPEN_CREATE:
            raise apsw.CantOpenError
        with _sqlite(apsw.CantOpenError):
            number = self.disk.do_create(path)
        # As SQLite on Unix: the first sync of a new log or rollback journal is one of its name.
        return ModelFile(self.disk, self.disk.process, number, names=True)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        if name not in self.disk.names:
            return
        with _sqlite():
            self.disk.do_delete(name)
            if syncdir:
                self.disk.do_sync(-1, names=True)

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802
        return name in self.disk.names

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802
        return self.random.randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        return microseconds


class ModelFile:
    """An open file. One of a process that has died does nothing."""

    def __init__(self, disk: ModelDisk, process: int, number: int, *, names: bool) -> None:
        self._disk = disk
        self._process = process
        self._number = number
        self._content = disk.files[number] if number >= 0 else bytearray()
        self._names = names

    def _mute(self) -> bool:
        return self._process != self._disk.process

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self._disk.faults and not self._mute():
            with _sqlite():
                self._disk._touch("read")
        return bytes(self._content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._mute():
            return
        if self._number < 0:
            self._content[offset : offset + len(data)] = data
            return
        with _sqlite():
            self._disk.do_write(self._number, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if not self._mute() and self._number >= 0:
            with _sqlite():
                self._disk.do_size(self._number, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if not self._mute() and self._number >= 0:
            with _sqlite():
                self._disk.do_sync(self._number, names=self._names)
            self._names = False

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._content)

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return self._disk.build.sector

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE if self._disk.build.powersafe else 0

    def xClose(self) -> None:  # noqa: N802
        pass


@contextmanager
def _sqlite(error: type[apsw.Error] = apsw.IOError) -> Iterator[None]:
    try:
        yield
    except Struck as struck:
        raise (apsw.FullError if struck.args == ("full",) else error)("struck") from None


VFS: Final = ModelVFS()


@contextmanager
def chance(seed: object) -> Iterator[None]:
    """SQLite draws its random numbers (salts of the log) from this seed alone."""
    before = apsw.vfs_names()[0]
    VFS.random = Random(f"{seed}")
    apsw.set_default_vfs(VFS.NAME)
    apsw.randomness(0)
    try:
        yield
    finally:
        apsw.set_default_vfs(before)
        apsw.randomness(0)
