"""The log of an increment: every event of its change stream, whole, in order, in chunk files.

The files lie in the link's folder as `log/<number>-<attempt>.flb` and are read by their numbers.
A resume token tells where an event stands (its `_data`, compared as text): when a capture goes on
after a crash, what lies behind the token at which its stream goes on is dropped, for it comes
again; so each event stands there once, whatever was torn or written twice. An attempt never adds to
a file of another one: it copies what holds of the last file under a name of its own. So one that
was given up and still hangs somewhere writes into a file that is gone, or that does not count:
files of an older attempt behind one of a newer one are not of the log.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self

from executors.batches import BLOCK_BYTES, BLOCK_DOCUMENTS, Block
from executors.chunkfile import (
    DamagedFile,
    Written,
    blocks_of,
    compressor,
    framed,
    fresh_file,
    read_blocks,
    sync_directory,
    write_chunk_file,
)
from executors.dumps.model import Part
from executors.increments.model import position_of
from executors.protocol import Stopped, StopToken
from executors.rawbson import TIMESTAMP, documents, elements, int32

LOG: Final = "log"
"""The folder's name; no collection's folder has it, for that has a dot."""
MAX_FILE_BYTES: Final = 256 << 20
"""A file ends with the block that reaches this: bounds what an attempt copies."""
_NAME: Final = re.compile(r"(\d{6,})-(\d+)\.flb")
Compression = Literal["none", "zstd"]


class LogWriter:
    """Adds events to the log of an increment. For one thread, a context manager."""

    def __init__(
        self,
        folder: Path,
        attempt: int,
        after: str,
        since: str,
        *,
        compression: Compression = "zstd",
        file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        """`folder`: of the link. `attempt`: greater than of all before. `after`: the `_data` of the
        token behind which the events come that will be added; empty: from the beginning. `since`:
        what happened up to then is not of this link.

        What lies there behind `after` is dropped. Raises `OSError`.
        """
        self._folder = folder / LOG
        self._attempt = attempt
        self._since = position_of(since)
        self._squeeze = compressor(compression)
        self._file_bytes = file_bytes
        self._events: list[bytes] = []
        self._held = 0
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sync_directory(folder)
        self._number = _kept(self._folder, after)
        self._file: BinaryIO = self._begun(after, compression)

    def _begun(self, after: str, compression: Compression) -> BinaryIO:
        """A file of this attempt, with what holds of the last one."""
        last = _last_of(self._folder, self._number)
        path = self._path()
        blocks = _up_to(last, lambda event: token_of(event) <= after) if last else iter(())
        write_chunk_file(path, blocks, compression)
        if last is not None and last != path:
            last.unlink()
        return path.open("ab")

    def _path(self) -> Path:
        return self._folder / f"{self._number:06d}-{self._attempt}.flb"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, event: bytes) -> None:
        """The raw event, which comes behind all that were added. Raises `OSError`."""
        if time_of(event) <= self._since:
            return
        self._events.append(event)
        self._held += len(event)
        if self._held >= BLOCK_BYTES or len(self._events) >= BLOCK_DOCUMENTS:
            self._end_block()

    def flush(self) -> None:
        """All that was added is durable when this returns. Raises `OSError`."""
        self._end_block()
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _end_block(self) -> None:
        if not self._events:
            return
        block = Block(b"".join(self._events), len(self._events))
        self._events, self._held = [], 0
        for piece in framed(block, self._squeeze):
            self._file.write(piece)
        if self._file.tell() >= self._file_bytes:
            self._sync()
            self._file.close()
            self._number += 1
            self._file = fresh_file(self._path())
            sync_directory(self._folder)


def log_parts(folder: Path, until: str, stop: StopToken) -> tuple[Part, ...]:
    """The files of the finished log for the link's manifest; `folder` is the link's.

    What happened after `until` is cut off; the files are durable. None where no log was kept.
    Raises `DamagedFile`, `Stopped`, `OSError`.
    """
    end, parts = position_of(until), list[Part]()
    cut, before = False, ""
    for path in _ordered(folder / LOG):
        if cut:
            path.unlink()
            continue
        written, before = _looked_at(path, end, before, stop)
        if cut := written is None:
            kept = _up_to(path, lambda event: time_of(event) <= end, stop)
            written = write_chunk_file(path, kept, "zstd")
        parts.append(_part(path, written))
    if parts:
        sync_directory(folder / LOG)
    return tuple(parts)


def _looked_at(
    path: Path, end: tuple[int, int], before: str, stop: StopToken
) -> tuple[Written | None, str]:
    """What the file holds, `None` where it has events behind the end; and its last event's token.
    Raises `DamagedFile` where events do not follow one another, the first of them `before`."""
    digest, count, size, blocks = hashlib.sha256(), 0, 0, 0
    with path.open("rb") as file:

        def read(length: int) -> bytes:
            piece = file.read(length)
            digest.update(piece)
            return piece

        for block, _ in blocks_of(read, path.name):
            if stop.is_set():
                raise Stopped
            for event in documents(block.data):
                if time_of(event) > end:
                    return None, before
                if (token := token_of(event)) <= before:
                    raise DamagedFile(f"{path.name} holds events that do not follow one another")
                before = token
            count += block.documents
            size += len(block.data)
            blocks += 1
        return Written(count, size, file.tell(), blocks, digest.hexdigest()), before


def _part(path: Path, written: Written) -> Part:
    return Part(
        file=f"{LOG}/{path.name}",
        at=0,
        file_bytes=written.file_bytes,
        documents=written.documents,
        bytes=written.bytes,
        sha256=written.sha256,
    )


# --- the files ---


def _ordered(folder: Path) -> list[Path]:
    """The files of the log in order; those that do not count are removed."""
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in folder.glob("*"):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append((int(match[2]), path))
        else:
            path.unlink()  # cut off while it was being written
    newest, counted = 0, list[Path]()
    for number in sorted(found):
        *older, (attempt, path) = sorted(found[number])
        if attempt < newest:
            older.append((attempt, path))
        else:
            newest = attempt
            counted.append(path)
        for _, each in older:
            each.unlink()
    return counted


def _kept(folder: Path, after: str) -> int:
    """Remove the files that begin behind the token; the number of the last one that is left, or
    of the first one to be made."""
    number = 1
    for path in _ordered(folder):
        first = _first_token(path)
        if first and first <= after:
            number = int(path.name.partition("-")[0])
        else:
            path.unlink()
    return number


def _last_of(folder: Path, number: int) -> Path | None:
    return next(iter(folder.glob(f"{number:06d}-*.flb")), None)


def _first_token(path: Path) -> str:
    """Of its first event; empty where there is none, or none that is whole."""
    return next((token_of(event) for block in _up_to(path) for event in documents(block.data)), "")


def _up_to(
    path: Path, holds: Callable[[bytes], bool] = lambda _: True, stop: StopToken | None = None
) -> Iterator[Block]:
    """The events up to the first that does not hold any more, or to where the file is torn."""
    try:
        for block, _ in read_blocks(path):
            if stop is not None and stop.is_set():
                raise Stopped
            kept = list(takewhile(holds, documents(block.data)))
            if kept:
                yield Block(b"".join(kept), len(kept))
            if len(kept) < block.documents:
                return
    except DamagedFile:
        return


# --- events ---


def token_of(event: bytes) -> str:
    """The text by which events are in order (`_id._data`: hexadecimal, as servers compare it)."""
    for _, name, begin, end in elements(event):
        if name == b"_id":
            for kind, inner, value, after in elements(event, begin, end):
                if inner == b"_data" and kind == 0x02:
                    return event[value + 4 : after - 1].decode("ascii").upper()
    raise ValueError("an event without a resume token")


def time_of(event: bytes) -> tuple[int, int]:
    """Its cluster time, in an order that numbers have."""
    for kind, name, begin, _ in elements(event):
        if name == b"clusterTime" and kind == TIMESTAMP:
            increment, seconds = int32(event, begin)[0], int32(event, begin + 4)[0]
            return seconds % 2**32, increment % 2**32
    raise ValueError("an event without a cluster time")
