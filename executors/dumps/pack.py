"""ferrylog's own layout as mongodump would have written it: a directory, or an archive.

Both come out the same, to the byte, from the same dump. Each chunk file is compared with the
SHA-256 it was written with while it is read: one that is not the file that was dumped stops the
packing before what holds it bears its name, or before the archive says that it is whole.
"""

import gzip as gz
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import bson

from executors.chunkfile import sync_directory
from executors.dumps.archive import Entry, Prelude, data_collection, write_archive
from executors.dumps.jsonmeta import EMPTY, metadata_json
from executors.dumps.manifest import file_blocks, read_facts
from executors.dumps.model import Dump, Dumped
from executors.dumps.names import directory_name, file_name, must_differ
from executors.metadata import split
from executors.protocol import Stopped, StopToken
from executors.select import USERS
from statemachine.errors import OperatorError

LEVEL: Final = 6
"""Of gzip: its own default, and mongodump's."""
_TEMPORARY: Final = ".ferrylog-"
_NO_VERSION: Final = "0.0.0"
"""A server's where none is known: mongorestore insists on three numbers in an archive."""
_VERSION: Final = Dumped("admin.system.version", "collection", EMPTY, ())
_AUTH_SCHEMA: Final = bson.encode({"_id": "authSchema", "currentVersion": 5})
"""How users and roles are written down, by every server since 3.0. mongorestore takes a dump
without it for one of 2.4, and refuses all of it."""
Write = Callable[[bytes], object]


class CannotPack(OperatorError):
    """mongodump's formats cannot say what this dump holds."""

    code = "EDUMP095"

    def __init__(self, why: str) -> None:
        super().__init__(
            why, remedy="dump with --layout chunks, which keeps every byte; or leave it out"
        )


def must_be_packable(namespaces: Iterable[Dumped]) -> None:
    """Raise `CannotPack` for what mongodump's formats cannot say."""
    for each in namespaces:
        _metadata(each)


def pack_directory(dump: Dump, out: Path, *, gzip: bool, stop: StopToken) -> None:
    """Write the dump as mongodump's directory `out`; run again, it leaves the same.

    Raises `CannotPack` before anything is written; `DamagedDump`, `OSError`, `Stopped`.
    """
    files = {name + ".gz" * gzip: content for name, content in _files(dump, stop)}
    _prepare(out, list(files))
    for name, content in files.items():
        with _file(out, name, gzip=gzip) as write:
            for piece in content:
                write(piece)
            if stop.is_set():
                raise Stopped
    for folder in {(out / name).parent for name in files}:
        sync_directory(folder)


def pack_archive(dump: Dump, stream: BinaryIO, *, gzip: bool, stop: StopToken) -> None:
    """Write the dump as mongodump's archive to `stream`, which need not seek; the caller makes it
    durable. Raises as `pack_directory`; what was written until then is no whole archive.
    """
    found = {each.namespace: each for each in _namespaces(dump)}
    entries = tuple(map(_entry, sorted(found.values(), key=_is_ordinary)))
    prelude = Prelude(dump.server_version or _NO_VERSION, _tool(dump), entries)
    with _written(stream, gzip=gzip) as write:
        write_archive(write, prelude, lambda one: _documents(dump, found[one.namespace], stop))


def _files(dump: Dump, stop: StopToken) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The name of each file, and its content, which is read when it is asked for."""
    for each in _namespaces(dump):
        database, collection = split(each.namespace)
        folder = directory_name(database)
        yield f"{folder}/{file_name(collection)}.metadata.json", [_metadata(each)]
        if each.type != "view":
            data = data_collection(collection, each.type, dump.server_version)
            yield f"{folder}/{file_name(data)}.bson", _documents(dump, each, stop)
    told = {"ServerVersion": dump.server_version or "unknown", "ToolVersion": _tool(dump)}
    yield "prelude.json", [json.dumps(told, separators=(",", ":")).encode()]


def _namespaces(dump: Dump) -> tuple[Dumped, ...]:
    """Those of the dump; with users or roles, what goes with them."""
    names = {each.namespace for each in dump.namespaces}
    lacks = not names.isdisjoint(USERS) and _VERSION.namespace not in names
    return (*dump.namespaces, _VERSION) if lacks else dump.namespaces


def _entry(each: Dumped) -> Entry:
    database, collection = split(each.namespace)
    return Entry(database, collection, _metadata(each).decode(), each.type)


def _is_ordinary(each: Dumped) -> bool:
    """mongorestore takes users, roles and their version only before all else."""
    return not each.namespace.startswith("admin.system.")


def _metadata(each: Dumped) -> bytes:
    try:
        return metadata_json(
            options=each.options,
            indexes=each.indexes,
            uuid=each.uuid,
            collection=split(each.namespace)[1],
            type_=each.type,
        )
    except ValueError as error:
        raise CannotPack(f"{each.namespace}: {error}") from None


def _documents(dump: Dump, each: Dumped, stop: StopToken) -> Iterator[bytes]:
    if each is _VERSION:
        yield _AUTH_SCHEMA
    for part in each.parts:
        for block, _ in file_blocks(dump.root, part, stop):
            yield block.data


def _tool(dump: Dump) -> str:
    return read_facts(dump.root).tool_version


@contextmanager
def _file(out: Path, name: str, *, gzip: bool) -> Iterator[Write]:
    """Writes the file `name` of `out`, which bears its name once it is whole and synced."""
    fd, temporary = tempfile.mkstemp(dir=out, prefix=_TEMPORARY)
    try:
        with os.fdopen(fd, "wb") as file:
            with _written(file, gzip=gzip) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(out / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _written(stream: BinaryIO, *, gzip: bool) -> Iterator[Write]:
    if not gzip:
        yield stream.write
        return
    with gz.GzipFile("", "wb", LEVEL, stream, mtime=0) as squeezed:
        yield squeezed.write


def _prepare(out: Path, names: list[str]) -> None:
    """The directories are there, what a killed attempt left is not."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in out.glob(f"{_TEMPORARY}*"):
        left.unlink(missing_ok=True)
    if _ignores_case(out):
        must_differ(names)
    for folder in {(out / name).parent for name in names}:
        folder.mkdir(mode=0o700, exist_ok=True)
    sync_directory(out)


def _ignores_case(out: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=out, prefix=_TEMPORARY) as file:
        probe = Path(file.name)
        return probe.with_name(probe.name.upper()).exists()
