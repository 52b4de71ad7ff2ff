"""The tip: how many events were acknowledged, kept outside the journal.

SQLite drops the end of a damaged write-ahead log without a word, and a prefix of a hash chain
is a valid chain. Only a record elsewhere shows that events are missing. It is written after
each commit, so it may be behind, never ahead.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from journal.disk import Disk

_RECORD = struct.Struct("<8sQ32s")
_MAGIC = b"ferrytip"
SLOT: Final = 4096
"""Bytes between the two slots, a sector of today's disks: a torn write of one leaves the other."""


@dataclass(frozen=True, slots=True)
class Tip:
    seq: int
    hash: bytes


class TipFile:
    """Two slots, written in turn; the valid one with the greater seq counts."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._disk = disk
        self._fd = disk.open(path)
        try:
            newest = _slots(disk.read(path))
        except OSError:
            self.close()
            raise
        self._slot = 1 if newest and newest[0][0] == 0 else 0

    def write(self, tip: Tip) -> None:
        """Durable when it returns. Raises `OSError`."""
        body = _RECORD.pack(_MAGIC, tip.seq, tip.hash)
        record = body + struct.pack("<I", zlib.crc32(body))
        self._disk.write(self._fd, record, self._slot * SLOT)
        self._disk.sync(self._fd)
        self._slot ^= 1

    def close(self) -> None:
        self._disk.close(self._fd)


def read_tip(path: Path, disk: Disk) -> Tip | None:
    """The newest whole record; `None` when there is none. Raises `FileNotFoundError`."""
    newest = _slots(disk.read(path))
    return newest[0][1] if newest else None


def _slots(raw: bytes) -> list[tuple[int, Tip]]:
    """The whole records and where they stand, the newest first. The first ferrylog put the second
    one at 512, in the sector of the first: it is read, and counts as standing there."""
    found = [(slot, _parse(raw[at:])) for slot, at in ((0, 0), (1, SLOT), (0, 512))]
    tips = [(slot, tip) for slot, tip in found if tip is not None]
    return sorted(tips, key=lambda each: each[1].seq, reverse=True)


def _parse(raw: bytes) -> Tip | None:
    body, check = raw[: _RECORD.size], raw[_RECORD.size : _RECORD.size + 4]
    if len(check) < 4 or struct.unpack("<I", check)[0] != zlib.crc32(body):
        return None
    magic, seq, hash_ = _RECORD.unpack(body)
    return Tip(seq, hash_) if magic == _MAGIC else None
