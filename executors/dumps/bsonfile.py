"""A `.bson` file: documents in a row, walked from the start and cut into parts.

No length in it is believed before it is checked, and no more than a block and a document is
held: a part names the bytes where they lie, and their digest. What comes as a stream (gzip) is
put into chunk files on the way.
"""

import hashlib
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from executors.batches import BLOCK_BYTES, BLOCK_DOCUMENTS, Block
from executors.beside import ahead
from executors.chunkfile import sync_directory, write_chunk_file
from executors.dumps.errors import DamagedDump
from executors.dumps.gunzip import is_gzip, plain
from executors.dumps.model import Damage, Part, StopToken
from executors.folder import inside
from executors.protocol import Stopped
from executors.structure import LARGEST, Flaw, envelope_flaw, flaw, resync, walk

__all__ = ["is_gzip", "made", "parts", "plain", "salvaged", "unpack"]

READ_BYTES: Final = BLOCK_BYTES
SEARCHED: Final = 2 * LARGEST
"""Bytes that are held to find where whole documents begin again."""
_NO_LIMIT: Final = sys.maxsize
_LONGEST_NAME: Final = 256
"""Of a field, as far as it is looked for before a nested document."""
_NAMED: Final = re.compile(rb"[\x03\x04][^\0]+\0\Z")
_int32: Final = struct.Struct("<i").unpack_from


def parts(
    file: BinaryIO,
    name: str,
    *,
    documents: int,
    bytes_: int,
    stop: StopToken,
    objcheck: bool = False,
    whole: bool = False,
) -> Iterator[Part]:
    """The plain file, which is at its beginning, as parts of about so many documents and bytes;
    one part if `whole`, none of an empty file.

    Every envelope is checked, with `objcheck` every document inside too. Raises `DamagedDump` at
    the first flaw, `Stopped`.
    """
    walker = _Walker(file, name, stop, _Limits.of(documents, bytes_, whole), deep=objcheck)
    # The digest is as much work as all the rest.
    for each in _Cut(name).parts(ahead(walker.runs())):
        assert isinstance(each, Part)
        yield each


def salvaged(
    file: BinaryIO, name: str, *, documents: int, bytes_: int, stop: StopToken, whole: bool = False
) -> Iterator[Part | Damage]:
    """As `parts`, but damage is passed over and told: parts hold structurally whole documents
    only, and end where there is a gap, `whole` or not."""
    limits = _Limits.of(documents, bytes_, whole)
    walker = _Walker(file, name, stop, limits, deep=True, salvage=True)
    yield from _Cut(name).parts(walker.runs())


def unpack(
    stream: BinaryIO,
    name: str,
    folder: Path,
    relative: str,
    *,
    documents: int,
    bytes_: int,
    stop: StopToken,
    objcheck: bool = False,
    salvage: bool = False,
    whole: bool = False,
) -> Iterator[Part | Damage]:
    """As `parts` or `salvaged`, for what cannot be sought in: its documents go into chunk files
    `<relative>/<n>-0.flb` of `folder`, one per part, durable when the part is yielded.

    The same documents make the same chunk files again. What the stream raises is raised; damage of
    a gzip, in a salvage, is the end of what can be read.
    """
    limits = _Limits.of(documents, bytes_, whole)
    walker = _Walker(stream, name, stop, limits, deep=objcheck or salvage, salvage=salvage)
    feed = _Feed(walker.runs())
    place = inside(folder, relative)
    number = 0
    while feed.has_more():
        made(folder, place)
        path = f"{relative}/{number}-0.flb"
        written = write_chunk_file(folder / path, feed.blocks(), "zstd")
        yield Part(path, 0, written.file_bytes, written.documents, written.bytes, written.sha256)
        yield from feed.damage()
        number += 1
    yield from feed.damage()


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of a part."""

    documents: int
    bytes: int

    @classmethod
    def of(cls, documents: int, bytes_: int, whole: bool) -> "_Limits":
        return cls(_NO_LIMIT, _NO_LIMIT) if whole else cls(documents, bytes_)


@dataclass(frozen=True, slots=True)
class _Run:
    """Whole documents of one block; `full`: the part ends with them."""

    at: int
    data: memoryview
    documents: int
    full: bool


class _Walker:
    """Walks a file block by block."""

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        stop: StopToken,
        limits: _Limits,
        *,
        deep: bool,
        salvage: bool = False,
    ) -> None:
        self._file, self._name, self._stop = file, name, stop
        self._deep, self._salvage, self._limits = deep, salvage, limits
        self._part_documents = self._part_bytes = 0
        self._documents = 0
        self._data = b""
        self._base = 0  # offset of `_data` in the file
        self._ended = False
        self._broken: DamagedDump | None = None  # what ended the reading of a salvage

    def runs(self) -> Iterator[_Run | Damage]:
        """All runs in order, and in a salvage the gaps between them."""
        while not self._ended:
            self._read(max(READ_BYTES, _length(self._data, 0) - len(self._data)))
            at = 0
            while (step := self._step(at)) is not None:
                found, at = step
                yield found
            self._drop(at)
        if self._broken:
            yield self._damage(self._base, 0, self._broken.detail, self._broken.why)

    def _step(self, at: int) -> tuple[_Run | Damage, int] | None:
        """What comes at `at` in the block, and where it ends; None when more has to be read."""
        count, end, wrong = self._whole(at)
        if count:
            return self._run(at, end, count), end
        if wrong is None and self._ended and at < len(self._data):
            wrong = envelope_flaw(self._data, at)
        if wrong is None:
            return None
        if not self._salvage:
            raise self._refusal(at, wrong)
        return self._gap(at, wrong)

    def _whole(self, at: int) -> tuple[int, int, Flaw | None]:
        """How many documents from `at` on are whole and have room in the part, where they end,
        and what is wrong with the next one, if that is known."""
        view = memoryview(self._data)[at:]
        count, end, wrong = walk(view[: self._limits.bytes - self._part_bytes])
        if not count and not wrong:  # a document may be larger than what room is left
            count, end, wrong = walk(view[: _length(self._data, at)])
        most = min(self._limits.documents - self._part_documents, BLOCK_DOCUMENTS)
        if count > most:
            count, end, wrong = most, _behind(view, most), None
        if wrong:
            wrong = envelope_flaw(self._data, at + end)
        return self._sound(at, at + end, wrong) if self._deep else (count, at + end, wrong)

    def _sound(self, at: int, end: int, wrong: Flaw | None) -> tuple[int, int, Flaw | None]:
        """As `_whole`, of documents whose envelopes are right, up to the first that is flawed."""
        count = 0
        while at < end:
            after = at + _length(self._data, at)
            found = flaw(self._data, at, after)
            if found and not found.whole:
                return count, at, found
            at = after
            count += 1
        return count, end, wrong

    def _run(self, at: int, end: int, count: int) -> _Run:
        self._documents += count
        self._part_documents += count
        self._part_bytes += end - at
        full = (
            self._part_documents >= self._limits.documents or self._part_bytes >= self._limits.bytes
        )
        if full:
            self._part_documents = self._part_bytes = 0
        return _Run(self._base + at, memoryview(self._data)[at:end], count, full)

    def _refusal(self, at: int, wrong: Flaw) -> DamagedDump:
        field = f" in field {wrong.path}" if wrong.path else ""
        return DamagedDump(
            self._name,
            f"{wrong.why}{field}; the document begins at offset {self._base + at}, "
            f"{self._documents} whole ones lie before it",
            detail=str(wrong.code),
            at=self._base + wrong.at,
        )

    def _gap(self, at: int, wrong: Flaw) -> tuple[Damage, int]:
        """What is passed over from `at` on, and where whole documents begin again."""
        begin = self._base + at
        at = self._look_ahead(at)
        found = self._next_whole(at)
        while found is None and not self._ended:
            at = self._look_ahead(len(self._data) - LARGEST)
            found = resync(self._data, at)
        code, why = str(wrong.code), wrong.why
        if found is None and self._broken:
            code, why, self._broken = self._broken.detail, self._broken.why, None
        end = len(self._data) if found is None else found
        return self._damage(begin, self._base + end - begin, code, why), end

    def _next_whole(self, at: int) -> int | None:
        """Where whole documents begin behind the flawed one at `at`.

        Where its envelope is right and a whole one lies behind it, there; but not if its length
        took whole ones in.
        """
        found = resync(self._data, at + 1)
        if at + _length(self._data, at) > len(self._data):  # most often the last one, cut
            while found is not None and not self._stands_alone(found):
                found = resync(self._data, found + 1)
            return found
        after = at + _length(self._data, at)
        if envelope_flaw(self._data, at) or not self._may_begin(after):
            return found
        return found if found is not None and self._row_passes(found, after) else after

    def _row_passes(self, at: int, mark: int) -> bool:
        """Whether documents in a row lead from `at` to `mark`, or over it."""
        if at >= mark:
            return False
        row = walk(memoryview(self._data)[at:mark])
        end = at + row.end
        return end == mark or (not row.flaw and not envelope_flaw(self._data, end))

    def _stands_alone(self, at: int) -> bool:
        """Whether the whole document at `at`, inside one that the end of the file cuts, is none
        that is nested in that: another one follows it at once, or it fills the file and has no
        name."""
        after = at + _length(self._data, at)
        if after < len(self._data):
            return not envelope_flaw(self._data, after) and self._may_begin(after)
        return not self._broken and not _NAMED.search(self._data, max(0, at - _LONGEST_NAME), at)

    def _may_begin(self, at: int) -> bool:
        """Whether a whole document begins at `at`, or the file ends there."""
        if at == len(self._data):
            return self._ended
        if envelope_flaw(self._data, at):
            return False
        wrong = flaw(self._data, at, at + _length(self._data, at))
        return wrong is None or wrong.whole

    def _damage(self, at: int, size: int, code: str, why: str) -> Damage:
        return Damage(self._name, at, size, code, why)

    def _look_ahead(self, at: int) -> int:
        """Hold enough bytes behind `at` to search in; returns where `at` is now."""
        if self._ended or len(self._data) - at >= SEARCHED:
            return at
        self._drop(at)
        while len(self._data) < 2 * SEARCHED and self._read(2 * SEARCHED - len(self._data)):
            pass
        return 0

    def _read(self, size: int) -> bool:
        """Read on; False at the end."""
        if self._stop.is_set():
            raise Stopped
        try:
            read = self._file.read(size)
        except DamagedDump as error:
            if not self._salvage:
                raise
            self._broken, read = error, b""
        self._ended = not read
        self._data += read
        return not self._ended

    def _drop(self, size: int) -> None:
        self._data = self._data[size:]
        self._base += size


def _length(data: bytes, at: int) -> int:
    """What the document at `at` says of its length, no more than any may have; 0 if unknown."""
    return min(max(_int32(data, at)[0], 0), LARGEST) if at + 4 <= len(data) else 0


def _behind(view: memoryview, documents: int) -> int:
    """Where so many documents end, whose envelopes are right."""
    at = 0
    for _ in range(documents):
        at += _int32(view, at)[0]
    return at


class _Cut:
    """Puts runs together to parts of the file they lie in."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._at = self._documents = self._bytes = 0
        self._digest = hashlib.sha256()

    def parts(self, runs: Iterator[_Run | Damage]) -> Iterator[Part | Damage]:
        for run in runs:
            if isinstance(run, Damage):
                yield from self._end()
                yield run
                continue
            self._add(run)
            if run.full:
                yield from self._end()
        yield from self._end()

    def _add(self, run: _Run) -> None:
        self._at = self._at if self._documents else run.at
        self._documents += run.documents
        self._bytes += len(run.data)
        self._digest.update(run.data)

    def _end(self) -> Iterator[Part]:
        if self._documents:
            size, digest = self._bytes, self._digest.hexdigest()
            yield Part(self._name, self._at, size, self._documents, size, digest)
        self._begin()


class _Feed:
    """Hands runs to whoever writes chunk files, the damage between them aside."""

    def __init__(self, runs: Iterator[_Run | Damage]) -> None:
        self._runs = runs
        self._next: _Run | None = None
        self._damage: list[Damage] = []

    def has_more(self) -> bool:
        """Whether documents are left; keeps the damage met on the way to them."""
        while self._next is None and (run := next(self._runs, None)) is not None:
            if isinstance(run, Damage):
                self._damage.append(run)
            else:
                self._next = run
        return self._next is not None

    def blocks(self) -> Iterator[Block]:
        """The documents of the next chunk file; `has_more` has said that there are some."""
        full = False
        while not full and self.has_more():
            run, self._next = self._next, None
            assert run is not None
            full = run.full
            yield Block(bytes(run.data), run.documents)

    def damage(self) -> Iterator[Damage]:
        """What was met since it was asked for last."""
        met, self._damage = self._damage, []
        yield from met


def made(folder: Path, place: Path) -> None:
    """The directory `place` below `folder`, its name durable."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (place, *place.parents):
        if each == folder:
            break
        sync_directory(each.parent)
