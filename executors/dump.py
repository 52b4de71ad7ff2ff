"""Source to chunk file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pymongo import MongoClient

from executors.batches import Block, read_range
from executors.chunkfile import Written, sync_directory, write_chunk_file
from executors.errors import CollectionGone, OtherCollection
from executors.folder import folder_name, inside
from executors.metadata import split
from executors.pace import UNLIMITED, Pace
from executors.protocol import Stopped, StopToken
from executors.select import USERS
from executors.source import range_of
from executors.survey import namespaces
from executors.transforms.heldback import HeldBack, Through
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit, transforms
from statemachine.stimuli import Dumped
from statemachine.words import UnitId


def dump(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    folder: Path,
    attempt: int,
    stop: StopToken,
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
    since: str = "",
    pace: Pace = UNLIMITED,
    through: Through | None = None,
) -> Dumped:
    """Write the chunk's documents, or what the user's own code makes of them, to a file that is
    whole, durable and named when this returns; so are those that the code holds back.

    Raises what `through` raises, `PyMongoError`, `OSError`, `OtherCollection`, `Stopped`.
    """
    read = as_called(client, unit, spec)
    name, path = prepare_file(folder, chunk, attempt, stop)
    what = range_of(
        read,
        chunk,
        spec,
        read_preference=read_preference,
        cluster_time=cluster_time,
        since=since,
    )
    blocks = read_range(client, what, stop, document_bytes=mean_bytes(unit), pace=pace)
    assert through is not None or not transforms(spec), "nothing goes past the user's own code"
    if through is None or unit.id in USERS:
        written = _write(path, blocks, spec, pace, stop)
        must_be_same(client, read)
        return dumped(name, written)
    with HeldBack(folder, unit, chunk) as back:
        written = _write(path, through(blocks, back.reject, stop), spec, pace, stop)
        back.sync()
    must_be_same(client, read)
    held = tuple(back.named)
    return replace(dumped(name, written), rejected=back.count, rejections=held)


def _write(
    path: Path, blocks: Iterator[Block], spec: JobSpec, pace: Pace, stop: StopToken
) -> Written:
    compression: Literal["none", "zstd"] = "none" if spec.compression == "none" else "zstd"
    return write_chunk_file(path, _filed(blocks, pace, stop), compression)


def _filed(blocks: Iterator[Block], pace: Pace, stop: StopToken) -> Iterator[Block]:
    """Each when the disk has room for it."""
    for block in blocks:
        pace.files(len(block.data), stop)
        yield block


def prepare_file(folder: Path, chunk: Chunk, attempt: int, stop: StopToken) -> tuple[str, Path]:
    """The name and the path of the attempt's file; what older attempts left is gone, and the
    directory is there to stay. Raises `Stopped`, `OSError`."""
    if stop.is_set():  # given up while it hung before this: another attempt may be at work
        raise Stopped
    name = f"{folder_name(chunk.unit)}/{chunk.id.rpartition('#')[2]}-{attempt}.flb"
    path = inside(folder, name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    sync_directory(folder)
    _remove_older(path, attempt)
    return name, path


def dumped(name: str, written: Written, *, erased: int = 0) -> Dumped:
    """What a file that was written holds: so many of its rows say that a document is gone."""
    return Dumped(
        file=name,
        documents=written.documents - erased,
        bytes=written.bytes,
        file_bytes=written.file_bytes,
        blocks=written.blocks,
        sha256=written.sha256,
        erased=erased,
    )


def _remove_older(path: Path, attempt: int) -> None:
    """Files of attempts that were killed, that hang, or whose file was given up; never of one that
    came after this one."""
    chunk = path.name.partition("-")[0]
    for leftover in path.parent.glob(f"{chunk}-*"):
        number = leftover.name.removeprefix(f"{chunk}-").partition(".")[0]
        if number.isdecimal() and int(number) < attempt:
            leftover.unlink(missing_ok=True)


def mean_bytes(unit: Unit) -> int:
    """Of a document of the unit; 0 when unknown."""
    return unit.bytes_estimate // unit.documents_estimate if unit.documents_estimate else 0


def as_called(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Unit:
    """The unit by the name that its collection has now: what is followed may be renamed while it
    is copied. Raises `OtherCollection`, `CollectionGone`."""
    database, collection = split(unit.id)
    if not spec.follow or _uuids(client, database, collection) == [unit.uuid]:
        must_be_same(client, unit)
        return unit
    for entry in namespaces(client, database):
        if entry.uuid == unit.uuid:
            return replace(unit, id=UnitId(entry.name))
    raise CollectionGone(unit.id)


def must_be_same(client: MongoClient[Any], unit: Unit) -> None:
    """The name must still mean the collection that was surveyed: a range read over a cut cursor
    would otherwise join two collections without a word."""
    database, collection = split(unit.id)
    found = _uuids(client, database, collection)
    if found != [unit.uuid]:
        raise OtherCollection("source", unit.id, unit.uuid, found[0] if found else "")


def _uuids(client: MongoClient[Any], database: str, collection: str) -> list[str]:
    return [entry.uuid for entry in namespaces(client, database, name=collection)]
