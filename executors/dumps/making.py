"""What a job dumped becomes a dump: a manifest, or what mongodump would have left."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from executors.boundaries import from_text
from executors.chunkfile import fresh_file, sync_directory
from executors.dumps.manifest import Facts, read_manifest, write_manifest
from executors.dumps.model import Dumped, Part
from executors.dumps.pack import must_be_packable, pack_archive, pack_directory
from executors.errors import OutExists, OutUnwritable, StreamClosed
from executors.protocol import StopToken
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import DUMP, Chunk, Unit
from statemachine.stimuli import Manifested, Surveyed


@dataclass(frozen=True)
class Out:
    """Where a dump goes."""

    folder: Path
    """Where the chunk files are written: the dump itself, or the job's work folder while they
    wait to be packed."""
    directory: Path | None = None
    """Of mongodump's layout."""
    archive: Callable[[], AbstractContextManager[BinaryIO]] | None = None
    """Opens what takes the archive; what was written is durable when it closes without error."""
    facts: Callable[[], Facts] = lambda: Facts(tool_version="")


def make_dump(out: Out, spec: JobSpec, effect: Effect, stop: StopToken) -> Manifested:
    """Name every chunk file in a manifest, then pack them where another layout is wanted.

    Run again, it leaves the same. Raises `OSError`, `Stopped`.
    """
    parts: dict[str, list[Part]] = {}
    for chunk in effect.filed:
        parts.setdefault(chunk.unit, []).append(_part(chunk))
    namespaces = [_dumped(unit, parts.get(unit.id, [])) for unit in effect.units]
    facts = out.facts().model_copy(update={"cluster_time": effect.cluster_time})
    sha256 = write_manifest(out.folder, facts, namespaces)
    gzip = spec.compression == "gzip"
    if out.directory is not None:
        pack_directory(read_manifest(out.folder), out.directory, gzip=gzip, stop=stop)
    elif out.archive is not None:
        with out.archive() as stream:
            pack_archive(read_manifest(out.folder), stream, gzip=gzip, stop=stop)
    return Manifested(
        sha256 if spec.layout == "chunks" else "",
        sum(each.documents for each in namespaces),
        sum(each.bytes for each in namespaces),
    )


def refuse_unpackable(spec: JobSpec, found: Surveyed) -> None:
    """Raise `CannotPack` before anything is dumped that could not be packed at the end."""
    if spec.layout != "chunks":
        must_be_packable(
            Dumped(
                namespace=each.unit,
                type=each.type,
                options=from_text(each.options),
                indexes=each.indexes,
                uuid=each.uuid,
            )
            for each in found.units
        )


def out_of(spec: JobSpec, folder: Path, facts: Callable[[], Facts], stdout: BinaryIO) -> Out:
    """`folder`: the job's work folder, where chunk files wait that are to be packed."""
    path = spec.target.removeprefix(DUMP)
    match spec.layout:
        case "chunks":
            return Out(Path(path), facts=facts)
        case "mongodump":
            return Out(folder, directory=Path(path), facts=facts)
        case "archive":
            return Out(folder, archive=partial(archive_file, path, stdout), facts=facts)


@contextmanager
def archive_file(path: str, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """What takes an archive: a file that has its name only when it is whole and durable, or
    standard output (`-`)."""
    if path == "-":
        try:
            yield stdout
            stdout.flush()
        except OSError as error:  # not to be tried again: a second archive would follow a piece
            raise StreamClosed(error.strerror or str(error)) from None
        return
    whole = Path(path)
    temporary = whole.with_name(whole.name + ".tmp")
    try:
        with fresh_file(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(whole)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(whole.absolute().parent)


def refuse_existing(spec: JobSpec) -> None:
    """Raise `OutExists` where a new dump would be written over something, `OutUnwritable` where
    none can be written at all."""
    path = Path(spec.target.removeprefix(DUMP))
    if spec.layout == "archive":
        if str(path) != "-" and path.exists():
            raise OutExists(str(path), "exists already")
    elif path.exists() and not path.is_dir():
        raise OutExists(str(path), "is no directory")
    elif path.is_dir() and any(path.iterdir()):
        raise OutExists(str(path), "is not empty")
    if str(path) != "-":
        _refuse_unwritable(path, archive=spec.layout == "archive")


def _refuse_unwritable(path: Path, *, archive: bool) -> None:
    """Of a directory, one above it may be missing; of an archive, none."""
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise OutUnwritable(str(path), f"{there} is no directory")
    if len(path.relative_to(there).parts) > (1 if archive else 2):
        raise OutUnwritable(str(path), f"there is no directory {path.parent}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutUnwritable(str(path), f"{there} is not writable")


def _dumped(unit: Unit, parts: Sequence[Part]) -> Dumped:
    return Dumped(
        namespace=unit.id,
        type=unit.type,
        options=from_text(unit.options),
        indexes=unit.indexes,
        uuid=unit.uuid,
        parts=tuple(parts),
        documents=sum(part.documents for part in parts),
        bytes=sum(part.bytes for part in parts),
    )


def _part(chunk: Chunk) -> Part:
    file = chunk.file
    assert file is not None
    return Part(
        file=file.name,
        at=0,
        file_bytes=file.file_bytes,
        documents=file.documents,
        bytes=file.bytes,
        sha256=file.sha256,
        lower=chunk.lower,
        upper=chunk.upper,
        natural=chunk.natural,
    )
