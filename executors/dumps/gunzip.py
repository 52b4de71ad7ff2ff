"""gzip from anywhere: whole members with their checksums, no bombs, and all that was readable
before the damage."""

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from executors.dumps.errors import DamagedDump
from executors.rawbson import int32

MAGIC: Final = b"\x1f\x8b\x08"
MAX_RATIO: Final = 1000
"""Bytes that one byte of gzip may become, over a window. The format's own limit is 1032: nothing
but a bomb, and documents of nothing but zeros, comes near it."""
WINDOW: Final = 64 << 20
_READ: Final = 256 << 10
_PIECE: Final = 1 << 20
_FINE: Final = 1 << 10
_EXTRA, _NAME, _COMMENT, _CHECKED, _UNKNOWN = 0x04, 0x08, 0x10, 0x02, 0xE0
_TRAILER: Final = 8


def plain(file: BinaryIO, gzip: bool, name: str = "") -> BinaryIO:
    """The bytes of the file, unpacked if it is `gzip`; only to be read, from here on.

    What is readable is read before damage is raised: `DamagedDump`, whose offset is one of the
    unpacked bytes.
    """
    return cast("BinaryIO", Pieces(_members(file, name))) if gzip else file


def is_gzip(file: BinaryIO) -> bool:
    """Whether the file, which is at its beginning and stays there, holds gzip, by its bytes.

    A document of 559,903 bytes begins like gzip: what holds documents, one behind the other,
    where their lengths say, is BSON.
    """
    head = file.read(10)
    found = head.startswith(MAGIC) and len(head) == 10 and not head[3] & _UNKNOWN
    found = found and not (head[3] < 2 and head[4] and _looks_like_bson(file, head))
    file.seek(0)
    return found


def _looks_like_bson(file: BinaryIO, head: bytes) -> bool:
    file.seek(int32(head, 0)[0] - 1)
    end = file.read(5)
    return end[:1] == b"\0" and (len(end) == 1 or (len(end) == 5 and end[4] in (0, 1)))


class Pieces(io.RawIOBase):
    """Pieces as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As many bytes as wanted, less only at the end or before damage."""
        taken: list[bytes] = []
        missing = size if size >= 0 else 1 << 62
        while missing:
            if not self._left and not self._next(bool(taken)):
                break
            piece, self._left = self._left[:missing], self._left[missing:]
            taken.append(piece)
            missing -= len(piece)
        return b"".join(taken)

    def _next(self, has_some: bool) -> bool:
        """Get a piece; damage is told only when nothing readable is left to hand out."""
        try:
            self._left = next(filter(None, self._pieces), b"")
        except DamagedDump as error:
            self._pieces = _raising(error)
            if not has_some:
                raise
        return bool(self._left)


def _raising(error: DamagedDump) -> Iterator[bytes]:
    raise error
    yield b""


class _Input:
    """The packed bytes, as far as they were looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.buffer = b""
        self.taken = 0
        """All that was read from the file."""

    def more(self) -> bool:
        """Read on; False at the end."""
        read = self._file.read(_READ)
        self.buffer += read
        self.taken += len(read)
        return bool(read)

    def take(self, size: int) -> bytes:
        """The next bytes; fewer at the end of the file."""
        while len(self.buffer) < size and self.more():
            pass
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def take_text(self) -> None:
        """Pass over what ends with NUL."""
        while b"\0" not in self.buffer:
            self.buffer = b""
            if not self.more():
                return
        self.buffer = self.buffer.partition(b"\0")[2]


def _members(file: BinaryIO, name: str) -> Iterator[bytes]:
    """What all members of the file hold, in pieces."""
    packed = _Input(file)
    out = 0
    while True:
        head = packed.take(10)
        if len(head) < 10 or not head.startswith(MAGIC) or head[3] & _UNKNOWN:
            raise _cut(name, out) if len(head) < 10 and not out else _garbage(name, out)
        _skip(packed, head[3])
        checksum = size = 0
        for piece in _inflated(packed, name, out):
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
            yield piece
        out += size
        _check_trailer(packed, checksum, size, name, out)
        if not _another(packed):
            return


def _skip(packed: _Input, flags: int) -> None:
    """Pass over what a member's head may hold beside its ten bytes."""
    if flags & _EXTRA:
        packed.take(int.from_bytes(packed.take(2), "little"))
    if flags & _NAME:
        packed.take_text()
    if flags & _COMMENT:
        packed.take_text()
    if flags & _CHECKED:
        packed.take(2)


def _inflated(packed: _Input, name: str, before: int) -> Iterator[bytes]:
    """What one member holds; `before` bytes of the members before it are told in errors."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    out, window_out, window_in = 0, 0, packed.taken - len(packed.buffer)
    while True:
        if not packed.buffer and not packed.more():
            raise _cut(name, before + out)
        again = inflate.copy()
        try:
            piece = inflate.decompress(packed.buffer, _PIECE)
        except zlib.error as error:
            rest = _up_to_damage(again, packed.buffer)
            yield rest
            raise _damaged(name, str(error), before + out + len(rest)) from None
        out += len(piece)
        yield piece
        if inflate.eof:
            packed.buffer = inflate.unused_data
            return
        packed.buffer = inflate.unconsumed_tail
        if out - window_out >= WINDOW:
            used = packed.taken - len(packed.buffer)
            if out - window_out > MAX_RATIO * (used - window_in):
                raise _bomb(name, before + out)
            window_out, window_in = out, used


def _up_to_damage(inflate: "zlib._Decompress", packed: bytes) -> bytes:
    """What can be unpacked before the error that lies in `packed`."""
    found = []
    for step in (_FINE, 1):
        before = inflate
        try:
            while packed:
                before = inflate.copy()
                found.append(inflate.decompress(packed, step))
                packed = inflate.unconsumed_tail
        except zlib.error:
            inflate = before
    return b"".join(found)


def _check_trailer(packed: _Input, checksum: int, size: int, name: str, at: int) -> None:
    trailer = packed.take(_TRAILER)
    if len(trailer) < _TRAILER:
        raise _cut(name, at)
    if int.from_bytes(trailer[:4], "little") != checksum:
        raise _damaged(name, "the checksum (CRC-32) does not match", at)
    if int.from_bytes(trailer[4:], "little") != size & 0xFFFFFFFF:
        raise _damaged(name, "the length at its end does not match", at)


def _another(packed: _Input) -> bool:
    """Whether another member follows; zeros to the end are padding."""
    while True:
        packed.buffer = packed.buffer.lstrip(b"\0")
        if packed.buffer or not packed.more():
            return packed.buffer != b""


def _cut(name: str, at: int) -> DamagedDump:
    return DamagedDump(name, "the gzip stream ends too early", detail="EDUMP020", at=at)


def _damaged(name: str, why: str, at: int) -> DamagedDump:
    return DamagedDump(name, f"the gzip stream is damaged: {why}", detail="EDUMP021", at=at)


def _garbage(name: str, at: int) -> DamagedDump:
    return DamagedDump(name, "what follows the gzip stream is no gzip", detail="EDUMP022", at=at)


def _bomb(name: str, at: int) -> DamagedDump:
    return DamagedDump(
        name,
        f"each byte of gzip became more than {MAX_RATIO}: a bomb",
        detail="EDUMP023",
        at=at,
        remedy="if that is meant, unpack it with gunzip and restore the plain file. Nothing was "
        "written",
    )
