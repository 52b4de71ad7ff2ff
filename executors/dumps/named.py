"""Which dump a job names, whether it is still the same, and how an archive is opened."""

import hashlib
import os
import sys
from io import BufferedReader, RawIOBase
from pathlib import Path
from select import select
from typing import Any, BinaryIO, Final, Literal

from executors.dumps.beneath import open_file
from executors.dumps.errors import NoDump, OtherDump
from executors.dumps.exported import is_export
from executors.dumps.manifest import MANIFEST
from executors.dumps.model import Dump, NeverStops
from executors.dumps.mongodump import OPLOG
from executors.dumps.opening import open_dump
from executors.dumps.pairs import kind_of
from executors.dumps.stored import NOWHERE, read_stored
from executors.protocol import Stopped, StopToken
from executors.storage.urls import open_store
from statemachine.events import JobSpec
from statemachine.state import DUMP, is_dump, is_stored

PIECE_BYTES: Final = 1 << 20
LOOK_S: Final = 1.0
"""Between two looks at the token while nothing comes."""
SAMPLES: Final = 64
SAMPLE_BYTES: Final = 1 << 20
"""Of an archive, that tell it from others: all of a small one."""
UNPACKED: Final = "unpacked"
"""Where an archive becomes chunk files, in the job's work folder."""


def open_archive(spec: JobSpec, stdin: BinaryIO, stop: StopToken) -> BinaryIO:
    """From its beginning; standard input (`-`) can be read but once. Raises `NoDump`,
    `DamagedDump`."""
    path = dump_path(spec)
    if path == "-":
        if stdin.closed:
            raise NoDump("standard input", "was read already", remedy="begin anew with --new")
        return BufferedReader(_Patient(stdin, stop), PIECE_BYTES)
    whole = Path(path).resolve()
    if not whole.exists():
        raise NoDump(path, "no such file")
    if whole.is_dir():
        raise NoDump(path, "a directory, not an archive", remedy="leave out --archive")
    if not whole.is_file():
        raise NoDump(path, "not a regular file", remedy="pipe it in: --archive -")
    return open_file(whole.parent, whole.name)


class _Patient(RawIOBase):
    """Standard input, whoever writes it taking their time: the token is looked at meanwhile."""

    def __init__(self, stdin: BinaryIO, stop: StopToken) -> None:
        self._stdin, self._stop = stdin, stop

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not select([self._stdin], [], [], LOOK_S)[0]:
            if self._stop.is_set():
                raise Stopped
        view = memoryview(into)
        piece = os.read(self._stdin.fileno(), len(view))
        view[: len(piece)] = piece
        return len(piece)


def what_lies_there(path: Path) -> Literal["databases", "files"]:
    """Whether a dump names its databases, or is one `.bson` file or a directory of such."""
    if not path.is_dir():
        return "files" if path.is_file() else "databases"
    if is_export(path):
        return "databases"
    names = {each.name for each in path.iterdir()} - set(OPLOG)
    of_collections = any(kind_of(name)[1] for name in names)
    return "files" if of_collections and MANIFEST not in names else "databases"


def identity_of(spec: JobSpec) -> str:
    """Tells the dump that a job reads from others: a job goes on with the same one only.

    Raises `DamagedDump`, `NoDump`, `StoreError`.
    """
    if is_stored(dump_path(spec)):
        return read_stored(open_store(dump_path(spec), NOWHERE), alone=True)[0].identity
    if spec.layout != "archive":
        return open_named(spec).identity
    path = dump_path(spec)
    if path == "-":
        return path
    digest = hashlib.sha256()
    with open_archive(spec, sys.stdin.buffer, NeverStops()) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(b"%d" % size)
        for at in range(0, size, max(SAMPLE_BYTES, size // SAMPLES)):
            file.seek(at)
            digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, size - SAMPLE_BYTES))
        digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def must_be_the_same(spec: JobSpec, folder: Path | None = None) -> None:
    """Raise `OtherDump` where the dump is not the one that the job began with. What an archive
    held lies in the job's work `folder` once it is unpacked. Raises `DamagedDump`, `NoDump`."""
    if not is_dump(spec.source) or dump_path(spec) == "-":
        return
    if spec.layout == "archive" and folder is not None and (folder / UNPACKED / MANIFEST).exists():
        return
    if identity_of(spec) != spec.source_id:
        raise OtherDump(dump_path(spec))


def dump_path(spec: JobSpec) -> str:
    """Of the dump that a job reads; of one in a store its URL."""
    named = spec.source if is_dump(spec.source) else spec.target
    return named.removeprefix(DUMP)


def open_named(spec: JobSpec) -> Dump:
    """The dump that a spec names; no archive. Raises `DamagedDump`, `NoDump`, `StoreError`."""
    if is_stored(dump_path(spec)):
        return read_stored(open_store(dump_path(spec), NOWHERE))[0]
    database, _, collection = spec.into.partition(".")
    path = Path(dump_path(spec))
    return open_dump(
        path,
        database=database or None,
        collection=collection or None,
        salvage=spec.salvage,
    )
