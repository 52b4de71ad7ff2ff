"""Source to chunk file."""

import hashlib
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import Range, read_range
from executors.chunkfile import sync_directory, write_chunk_file
from executors.errors import OtherCollection
from executors.metadata import split
from executors.protocol import StopToken
from executors.survey import namespaces
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Dumped

LONGEST_NAME: Final = 200
"""Bytes of a folder's name; file systems take 255."""


def dump(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    folder: Path,
    attempt: int,
    stop: StopToken,
) -> Dumped:
    """Write the chunk's documents to a file that is whole, durable and named when this returns.

    Raises `PyMongoError`, `OSError`, `OtherCollection`.
    """
    must_be_same(client, unit)
    name = f"{folder_name(unit.id)}/{chunk.id.rpartition('#')[2]}-{attempt}.flb"
    path = folder / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    sync_directory(folder)
    for leftover in path.parent.glob(f"{path.name.partition('-')[0]}-*"):
        leftover.unlink()  # of attempts that were killed, or whose file was given up
    blocks = read_range(client, source_range(unit, chunk), stop, document_bytes=mean_bytes(unit))
    written = write_chunk_file(path, blocks, spec.compression)
    must_be_same(client, unit)
    return Dumped(
        file=name,
        documents=written.documents,
        bytes=written.bytes,
        file_bytes=written.file_bytes,
        blocks=written.blocks,
        sha256=written.sha256,
    )


def source_range(unit: Unit, chunk: Chunk) -> Range:
    database, collection = split(unit.id)
    return Range(database, collection, chunk.lower, chunk.upper, chunk.natural)


def mean_bytes(unit: Unit) -> int:
    """Of a document of the unit; 0 when unknown."""
    return unit.bytes_estimate // unit.documents_estimate if unit.documents_estimate else 0


def must_be_same(client: MongoClient[Any], unit: Unit) -> None:
    """The name must still mean the collection that was surveyed: a range read over a cut cursor
    would otherwise join two collections without a word."""
    database, collection = split(unit.id)
    found = [entry.uuid for entry in namespaces(client, database, name=collection)]
    if found != [unit.uuid]:
        raise OtherCollection("source", unit.id, unit.uuid, found[0] if found else "")


def folder_name(namespace: str) -> str:
    """A namespace as one safe file name: lower-case letters, digits, `-`, `_` and inner dots
    stay, all else is `%XX`: names that differ by case stay apart on every file system."""
    safe = "".join(map(_escaped, namespace))
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= LONGEST_NAME:
        return safe
    digest = hashlib.sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe[: LONGEST_NAME - 65]}-{digest}"


def _escaped(character: str) -> str:
    if character in "-_." or (
        character.isascii() and character.isalnum() and not character.isupper()
    ):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
