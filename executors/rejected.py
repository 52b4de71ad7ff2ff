"""The documents that the target refused, whole, for whoever will look after them.

One file per chunk, `rejected/<unit>/<chunk number>.bson`: raw BSON, one document after another,
as in mongodump's `.bson`. A document may stand there twice, after a crash or a second attempt:
the last one counts. A tail that a crash tore is cut off before anything is added.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

import bson
from bson import json_util

from executors.appended import Appended
from executors.batches import TOLERANT
from executors.boundaries import CANONICAL, UNREADABLE, to_key, to_text
from executors.folder import REJECTED, folder_name, inside
from executors.rawbson import int32, readable_id
from statemachine.words import ChunkId, Key, UnitId

LARGEST: Final = 17 << 20
"""Bytes of a document; servers hold 16 MiB and a little."""
MAX_JSON: Final = 100_000
"""Characters of a document that are shown."""
MAX_KEY: Final = 1000
"""Characters of a rejected document's `_id` that the journal keeps."""


class Rejects(Appended):
    """Takes the rejected documents of one chunk; the file is made with the first of them."""

    def add(self, document: bytes) -> None:
        self._new.append(document)

    def _whole(self, file: BinaryIO) -> int:
        return max((at + len(document) for at, document in _whole(file)), default=0)


def rejected_path(folder: Path, unit: UnitId, chunk: ChunkId) -> Path:
    """Where the rejected documents of a chunk lie in the job's folder, if there are any."""
    return inside(folder, f"{REJECTED}/{folder_name(unit)}/{chunk.rpartition('#')[2]}.bson")


def rejected_documents(folder: Path, unit: UnitId, chunk: ChunkId) -> Iterator[bytes]:
    """Each rejected document of the chunk once: the last that was written under its `_id`."""
    path = rejected_path(folder, unit, chunk)
    if not path.is_file():
        return
    with path.open("rb") as file:
        last = {blake2b(readable_id(each) or each).digest(): at for at, each in _whole(file)}
        for at in sorted(last.values()):
            file.seek(at)
            yield next(_whole(file))[1]


def find_rejected(folder: Path, unit: UnitId, chunk: ChunkId, key: Key) -> bytes | None:
    """The rejected document that an event names by this key."""
    for document in rejected_documents(folder, unit, chunk):
        found = readable_id(document)
        if key == name_of(document) or (found is not None and key == to_key(found)):
            return document
    return None


def name_of(document: bytes) -> Key:
    """The document's `_id` for people, or what it looks like where none can be read."""
    found = readable_id(document)
    return shown(to_key(found)) if found is not None else Key(f"(none: {document[:40]!r})")


def shown(key: Key) -> Key:
    """A key for people: an `_id` may have 16 MB, its beginning must do."""
    return key if len(key) <= MAX_KEY else Key(f"{key[:MAX_KEY]}… ({len(key)} characters)")


def as_json(document: bytes) -> str:
    """A document for people: canonical Extended JSON, cut where it gets too long."""
    try:
        text = json_util.dumps(
            bson.decode(document, TOLERANT), json_options=CANONICAL, ensure_ascii=False
        )
    except UNREADABLE:
        text = to_text(document)
    return text if len(text) <= MAX_JSON else f"{text[:MAX_JSON]}… ({len(text)} characters)"


def _whole(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The documents from here on with their offsets, up to what is not whole."""
    while True:
        at = file.tell()
        head = file.read(4)
        size = int32(head, 0)[0] if len(head) == 4 else 0
        if not 5 <= size <= LARGEST:
            return
        document = head + file.read(size - 4)
        if len(document) < size or document[-1]:
            return
        yield at, document
