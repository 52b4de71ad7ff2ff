"""JSONL: documents of Extended JSON, one a line, as BSON, exact to the byte.

Lines are read as they come, packed with gzip or zstd or not at all; no more than a line and a
piece is held. A line that is no document ends the reading, or is passed over and told.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from executors.batches import BLOCK_BYTES
from executors.chunkfile import READ_BYTES
from executors.dumps.beneath import open_file
from executors.dumps.errors import DamagedDump
from executors.dumps.extjson import as_bson, parsed
from executors.dumps.gunzip import MAGIC as GZIP
from executors.dumps.gunzip import plain
from executors.dumps.model import Damage, TextFile
from executors.protocol import Stopped, StopToken
from executors.rawbson import wrap
from executors.structure import DEEPEST, LARGEST, flaw

LONGEST: Final = 128 << 20
"""Bytes of a line: a document of 16 MiB takes six times that where each byte is escaped."""
NAMES: Final = re.compile(r"(.*)\.(jsonl|ndjson|json)(\.gz|\.zst)?", re.IGNORECASE | re.DOTALL)
"""Of files that are taken for JSONL."""
_ZSTD: Final = (b"\x28\xb5\x2f\xfd", *(b"%c\x2a\x4d\x18" % kind for kind in range(0x50, 0x60)))
_PACKED_BYTES: Final = 4 << 10
"""Of zstd that are unpacked at once: a bomb makes 128 MiB of them."""
_BLANK: Final = b" \t\r\n"
_MARK: Final = b"\xef\xbb\xbf"


class Lines:
    """The documents of one file."""

    def __init__(
        self, root: Path, file: TextFile, stop: StopToken, damage: list[Damage] | None = None
    ) -> None:
        """`damage`: takes what is no document, lines in a row as one, which is passed over;
        `None`: it is raised."""
        self._root, self._file, self._stop, self._damage = root, file, stop, damage

    def blocks(self) -> Iterator[bytes]:
        """Whole documents, some at a time. Raises `DamagedDump`, when what lies before it is out,
        `Stopped`."""
        held: list[bytes] = []
        size = 0
        try:
            for document in self._documents():
                held.append(document)
                size += len(document)
                if size >= BLOCK_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
        except DamagedDump as error:
            yield b"".join(held)
            self._tell(error, 0)
        else:
            yield b"".join(held)

    def _documents(self) -> Iterator[bytes]:
        name, count = self._file.name, 0
        with open_file(self._root, name) as opened:
            source = _Hashed(opened, self._stop)
            for number, (at, line) in enumerate(_split(_unpacked(source, name)), 1):
                try:
                    document = _document(line, name, at)
                except (ValueError, TypeError) as error:
                    self._tell(_no_document(name, number, at, error), len(line or b""))
                    continue
                if document:
                    count += 1
                    yield document
            self._must_be_whole(source, count)

    def _must_be_whole(self, source: "_Hashed", count: int) -> None:
        file, said = self._file, source.digest.hexdigest()
        if file.sha256 not in ("", said):
            why = f"its SHA-256 is {said}, the manifest says {file.sha256}"
            raise DamagedDump(file.name, why, detail="EDUMP105")
        if file.documents not in (None, count):
            why = f"{count} documents, the manifest says {file.documents}"
            raise DamagedDump(file.name, why, detail="EDUMP106")

    def _tell(self, error: DamagedDump, size: int) -> None:
        if self._damage is None:
            raise error
        told = Damage(error.file, error.at or 0, size, error.detail, error.why)
        last = self._damage[-1] if self._damage else None
        if last and size and last.code == told.code and last.at + last.bytes + 1 == told.at:
            self._damage[-1] = replace(last, bytes=told.at + size - last.at)
        else:
            self._damage.append(told)


class _Hashed:
    """What is read of a file, its digest taken on the way."""

    def __init__(self, file: BinaryIO, stop: StopToken) -> None:
        self._file, self._stop = file, stop
        self.digest = hashlib.sha256()
        self._left = b""

    def peek(self) -> bytes:
        """How it begins."""
        self._left = self.read(READ_BYTES)
        return self._left

    def read(self, size: int) -> bytes:
        if self._stop.is_set():
            raise Stopped
        if self._left:
            piece, self._left = self._left[:size], self._left[size:]
            return piece
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


def _unpacked(source: _Hashed, name: str) -> Iterator[bytes]:
    head = source.peek()
    if head.startswith(_ZSTD):
        return _zstd(source, name)
    stream = plain(source, head.startswith(GZIP), name)  # type: ignore[arg-type]
    return iter(lambda: stream.read(READ_BYTES), b"")


def _zstd(source: _Hashed, name: str) -> Iterator[bytes]:
    """What all frames hold. Raises `DamagedDump`."""
    out, packed = 0, b""
    while packed := packed or source.read(_PACKED_BYTES):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if not packed and not (packed := source.read(_PACKED_BYTES)):
                raise DamagedDump(name, "the zstd stream is cut", detail="EDUMP102", at=out)
            try:
                piece = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise DamagedDump(name, str(error), detail="EDUMP103", at=out) from None
            packed = b""
            out += len(piece)
            yield piece
        packed = frame.unused_data


def _split(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Each line with the offset of its first byte; `None`: it is too long."""
    at = size = 0
    held: list[bytes] = []
    for piece in pieces:
        first, *others = piece.split(b"\n")
        size += len(first)
        held = [*held, first] if size <= LONGEST else []
        for line in others:
            yield at, b"".join(held) if size <= LONGEST else None
            at += size + 1
            held, size = [line], len(line)
    if size:
        yield at, b"".join(held) if size <= LONGEST else None


def _document(line: bytes | None, name: str, at: int) -> bytes:
    """Nothing of an empty line. Raises `ValueError`, `TypeError`."""
    if line is None:
        raise ValueError(f"longer than {LONGEST} bytes")
    if not line.strip(_BLANK) or line == _MARK:
        return b""
    value = parsed(line)
    raw = as_bson(value)
    if not any(field == "_id" for field, _ in value):
        raw = wrap(b"\x07_id\0" + _id_for(name, at, line) + raw[4:-1])
    if len(raw) > LARGEST:
        raise ValueError(f"a document of {len(raw)} bytes, {LARGEST} is the most")
    if line.count(b"{") + line.count(b"[") > DEEPEST and (wrong := flaw(raw)) and not wrong.whole:
        raise ValueError(wrong.why)
    return raw


def _id_for(name: str, at: int, line: bytes) -> bytes:
    """An `_id` for a document that has none: the same whenever the line is read again, so that
    what was killed writes nothing twice."""
    place = b"%b\0%d\0" % (name.encode(errors="surrogateescape"), at)
    return hashlib.blake2b(place + line, digest_size=12).digest()


def _no_document(name: str, number: int, at: int, error: Exception) -> DamagedDump:
    why = str(error)
    if isinstance(error, json.JSONDecodeError):
        why = f"{error.msg}, column {error.colno}"
    if number == 1 and isinstance(error, TypeError):
        why += "; an array of documents is no JSONL: jq -c '.[]' makes it one"
    return DamagedDump(name, f"line {number}: {why}", detail="EDUMP100", at=at)
