"""What a writer writes down before it changes documents: rows that `documents` takes back.

The rows of one log are of one collection, which its first row names:

    {k: "documents", ns, type}
    {k: "inserted", ids, sums, bytes}
                                  keys that were not there; each `{_id}`, and 8 bytes of the sum
                                  of our document, one after another; what these documents take
    {k: "stamped", ours}          the same of one document whose empty timestamps a server fills
    {k: "replaced", sum, before}  what lay there, and the sum of ours
    {k: "erased", before}         what lay there
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Final

import bson
from bson.raw_bson import RawBSONDocument

from executors.fingerprint import key_of
from executors.increments.keyorder import order
from executors.rawbson import (
    MALFORMED,
    as_stored,
    has_empty_timestamp,
    may_have_empty_timestamp,
    wrap,
)
from executors.undo.log import UndoLog, undo_path
from statemachine.events import JobSpec
from statemachine.state import Unit, transforms
from statemachine.words import TaskKey, UnitType

SUM_BYTES: Final = 8
_INSERTED: Final = b"\x02k\0\x09\0\0\0inserted\0"
_STAMPED: Final = b"\x02k\0\x08\0\0\0stamped\0"
_REPLACED: Final = b"\x02k\0\x09\0\0\0replaced\0"
_ERASED: Final = b"\x02k\0\x07\0\0\0erased\0"


class Recorder:
    """Writes down what is about to be done to the documents of one collection."""

    def __init__(self, log: UndoLog, namespace: str, kind: UnitType) -> None:
        self._log = log
        self._head: bytes | None = head(namespace, kind)

    def inserted(self, documents: Iterable[bytes]) -> None:
        """Under whose `_id`s nothing lies."""
        self._add(*inserted(documents))

    def replaced(self, ours: bytes, before: bytes) -> None:
        self._add(replaced(ours, before))

    def erased(self, before: bytes) -> None:
        self._add(erased(before))

    def sync(self) -> None:
        """All that was told is durable when this returns: now it may be done. Raises `OSError`."""
        self._log.sync()

    def _add(self, *rows: bytes) -> None:
        if rows and self._head is not None:  # each attempt says it again: it is the first row
            self._log.add(self._head)
            self._head = None
        for row in rows:
            self._log.add(row)


def log_of(
    folder: Path, unit: Unit, task: TaskKey, spec: JobSpec
) -> AbstractContextManager[UndoLog | None]:
    """The undo log of a task that writes the unit's documents. None where the collection holds
    nothing but ours, and the source tells what that is: it goes as a whole."""
    if not spec.undo or (unit.found != "documents" and not transforms(spec)):
        return nullcontext()
    log = UndoLog(undo_path(folder, task))
    log.make()
    return log


def head(namespace: str, kind: UnitType) -> bytes:
    """The first row of a log of documents."""
    return bson.encode({"k": "documents", "ns": namespace, "type": kind})


def sum_of(document: bytes) -> bytes:
    """What tells a document, as a server stores it, from others under its `_id`."""
    return blake2b(document, digest_size=SUM_BYTES).digest()


def comparable(key: bytes) -> bytes:
    """Equal for `{_id}`s that are one key, as 1 and 1.0 are."""
    try:
        return order(key)
    except (*MALFORMED, KeyError, RecursionError):  # bytes of a dump that are no value
        return key


def inserted(documents: Iterable[bytes]) -> list[bytes]:
    """Rows for documents under whose `_id`s nothing lies. What has no `_id` that anybody can read
    is passed over: no server takes it."""
    read = [(key, as_stored(each)) for each in documents if (key := key_of(each)) is not None]
    stamped: list[bytes] = []
    if may_have_empty_timestamp(b"".join([each for _, each in read])):
        stamped = [each for _, each in read if is_stamped(each)]
        read = [(key, each) for key, each in read if not is_stamped(each)]
    rows = [wrap(_STAMPED + b"\x03ours\0" + each) for each in stamped]
    if read:
        keys = b"".join([key for key, _ in read])
        sums = b"".join([sum_of(each) for _, each in read])
        size = sum([len(each) for _, each in read])
        told = _binary(b"ids", keys) + _binary(b"sums", sums)
        rows.append(wrap(_INSERTED + told + b"\x12bytes\0" + size.to_bytes(8, "little")))
    return rows


def weight(row: RawBSONDocument) -> tuple[int, int]:
    """How many documents a row is of, and how many bytes they take, about."""
    if row["k"] == "inserted":
        return len(row["sums"]) // SUM_BYTES, row.get("bytes", 0)
    return 1, len(row.raw)


def replaced(ours: bytes, before: bytes) -> bytes:
    """The row for a document that takes the place of another."""
    return wrap(_REPLACED + _binary(b"sum", sum_of(as_stored(ours))) + b"\x03before\0" + before)


def erased(before: bytes) -> bytes:
    """The row for a document that is taken away."""
    return wrap(_ERASED + b"\x03before\0" + before)


def is_stamped(document: bytes) -> bool:
    """Whether a server fills empty timestamps of it when it is inserted."""
    try:
        return has_empty_timestamp(document)
    except MALFORMED:  # a dump may hold anything
        return False


def _binary(name: bytes, value: bytes) -> bytes:
    return b"\x05%b\0%b\0%b" % (name, len(value).to_bytes(4, "little"), value)
