"""The undo log of an operation: what brings the target back, written before anything is changed.

A file of rows, one after another; each is a 12-byte head and a BSON document:

    4 bytes  magic: `FLU1` of the first row of what was written and synced at once, `FLU+` of others
    u32      CRC-32C of the document, begun with the row's offset in the file
    u32      CRC-32C of the eight bytes before and the document's length, begun so, too

All numbers are little-endian. So a row proves itself and its place: none can be altered, lost or
moved without a word. What was synced is whole for ever; a tail that a crash tore was never acted
upon, and is cut off before anything is added. Whatever else is not whole is damage, and nothing
is undone by such a log. To undo means to read the rows from the last to the first.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import bson
from bson.raw_bson import RawBSONDocument
from fastcrc import crc32

from executors.appended import Appended
from executors.batches import RAW
from executors.folder import UNDO, folder_name, inside
from executors.rawbson import int32
from statemachine.errors import OperatorError
from statemachine.words import TaskKey

__all__ = ["UNDO", "DamagedLog", "UndoLog", "rows", "rows_at", "rows_backwards", "undo_path"]

FIRST: Final = b"FLU1"
"""All before it was synced."""
NEXT: Final = b"FLU+"
HEAD_BYTES: Final = 12
LENGTH: Final = 4
"""Bytes in which a BSON document tells its own."""
LARGEST_ROW: Final = 48 << 20
"""Bytes: a block of keys and sums, or two documents, and a little."""
SECTOR: Final = 512
"""Bytes that a disk writes at once. Those that a crash left unwritten read as zeros."""

_crc: Final[Callable[[bytes, int], int]] = crc32.iscsi


class DamagedLog(OperatorError):
    """Nobody knows any more what the log told."""

    code = "EUNDO003"

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(
            f"{path} is damaged at byte {at}: no crash leaves that, so what an operation did to "
            "the target is not known any more",
            remedy="put the file back as it was; or look after what that operation did yourself, "
            "and leave its undo out: `ferrylog dead-letters drop`",
        )


class UndoLog(Appended):
    """Takes the rows of one operation; the file is made with the first of them. For one thread.
    What is damaged is not added to: `sync` raises `DamagedLog`."""

    def make(self) -> None:
        """The file is there, durable, with a row, when this returns: an operation that has none
        did nothing. Raises `DamagedLog`, `OSError`."""
        if is_empty(self._path):
            self.add({"k": "began"})
            self.sync()

    def add(self, row: Mapping[str, Any] | bytes) -> None:
        """Nothing may be done on its strength before `sync` has returned."""
        self._new.append(row if isinstance(row, bytes) else bson.encode(row))

    def _whole(self, file: BinaryIO) -> int:
        return max((end for _, end, _ in _read(file, self._path)), default=0)

    def _framed(self, pieces: Sequence[bytes], at: int, /) -> bytes:
        framed: list[bytes] = []
        for row in pieces:
            framed += (_head(NEXT if framed else FIRST, row, at), row)
            at += HEAD_BYTES + len(row)
        return b"".join(framed)


def undo_path(folder: Path, task: TaskKey) -> Path:
    """Where the undo log of an operation lies in the job's folder, if it has one."""
    return inside(folder, f"{UNDO}/{task.kind}/{folder_name(task.entity)}.bson")


def is_empty(path: Path) -> bool:
    """Whether no row of it was ever acted upon. Raises `DamagedLog`, `OSError`."""
    return next(rows(path), None) is None


def rows(path: Path) -> Iterator[RawBSONDocument]:
    """The whole rows in the order of writing; none where there is no file. Raises `DamagedLog`
    as soon as damage is met, `OSError`."""
    return (row for _, _, row in rows_at(path))


def rows_at(path: Path, begin: int = 0) -> Iterator[tuple[int, int, RawBSONDocument]]:
    """The same from one on that begins at byte `begin`: where each begins and ends, and itself."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(begin)
        for at, end, row in _read(file, path):
            yield at, end, RawBSONDocument(row, RAW)


def rows_backwards(path: Path) -> Iterator[RawBSONDocument]:
    """All from the last to the first; none of a log that is damaged anywhere. Memory: 8 bytes a
    row."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        begins = array("Q", (at for at, _, _ in _read(file, path)))
        for at in reversed(begins):
            file.seek(at + HEAD_BYTES)
            length = file.read(LENGTH)
            yield RawBSONDocument(length + file.read(int32(length, 0)[0] - LENGTH), RAW)


def _head(magic: bytes, row: bytes, at: int) -> bytes:
    begun = at & 0xFFFFFFFF
    told = magic + _crc(row, begun).to_bytes(4, "little")
    return told + _crc(told + row[:LENGTH], begun).to_bytes(4, "little")


def _read(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Each row from here on, where it begins and ends, up to a torn tail. Raises `DamagedLog`."""
    at = file.tell()
    while front := file.read(HEAD_BYTES + LENGTH):
        size = _length(front, at)
        row = front[HEAD_BYTES:] + file.read(max(0, size - LENGTH))
        if len(row) != size or _head(front[:4], row, at) != front[:HEAD_BYTES]:
            tail = front[:HEAD_BYTES] + row + file.read()
            short = len(tail) < HEAD_BYTES + max(size, LENGTH)
            if not (short or _has_hole(tail, at)) or _has_first(tail, at):
                raise DamagedLog(path, at)
            return
        yield at, (at := at + HEAD_BYTES + size), row


def _length(front: bytes, at: int) -> int:
    """Of the document whose head this is, with the length itself; 0: this is none. Only a head
    that was written is believed."""
    if len(front) < HEAD_BYTES + LENGTH or front[:4] not in (FIRST, NEXT):
        return 0
    told, length = front[:HEAD_BYTES], front[HEAD_BYTES:]
    checked = _crc(told[:8] + length, at & 0xFFFFFFFF).to_bytes(4, "little")
    size = int32(length, 0)[0]
    return size if told[8:] == checked and 5 <= size <= LARGEST_ROW else 0


def _has_hole(tail: bytes, at: int) -> bool:
    """Whether a crash left a sector of it unwritten. Of one that begins before the tail or ends
    behind it, as much as a head must lie in it to tell."""
    begins = range(-(at % SECTOR), len(tail), SECTOR)
    sectors = (tail[max(0, begin) : begin + SECTOR] for begin in begins)
    return any(len(each) >= HEAD_BYTES and not any(each) for each in sectors)


def _has_first(tail: bytes, at: int) -> bool:
    """Whether something was written, later, behind what is not whole: then that was synced."""
    found = tail.find(FIRST, 1)
    while found >= 0 and not _length(tail[found : found + HEAD_BYTES + LENGTH], at + found):
        found = tail.find(FIRST, found + 1)
    return found >= 0
