"""The disks that a power cut may leave behind at one place of a trace.

Durable is what was synced. Of all else, bytes and names alike, any part may have reached the disk,
in any order, and a sector that was being written may hold anything.
"""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Final, assert_never

from tests.faults.disk import (
    Build,
    Create,
    Delete,
    Forget,
    Image,
    Op,
    Promise,
    Size,
    Sync,
    SyncNames,
    Write,
)

SECTOR: Final = 512
"""Bytes that reach the disk together, or do not."""


class Cut:
    """What is durable and what is on its way, at a place that moves along a trace."""

    def __init__(self, image: Image, build: Build, promise: Promise) -> None:
        self._build = build
        self._files = dict(enumerate(image.values()))
        self._names = {name: number for number, name in enumerate(image)}
        self._on_the_way: dict[int, list[Write | Size]] = {}
        self._names_on_the_way: list[Create | Delete] = []
        self.promise = promise

    def move(self, op: Op) -> None:
        """One operation further."""
        match op:
            case Write() | Size():
                self._on_the_way.setdefault(op.file, []).append(op)
            case Sync():
                self._files[op.file] = _all(self._file(op.file), self._on_the_way.pop(op.file, []))
            case Forget():
                self._on_the_way.pop(op.file, None)
            case Create() | Delete():
                self._names_on_the_way.append(op)
            case SyncNames():
                self._names = _renamed(self._names, self._names_on_the_way)
                self._names_on_the_way = []
            case Promise():
                self.promise = op
            case _:
                assert_never(op)

    def _file(self, number: int) -> bytes:
        return self._files.get(number, b"")

    # --- disks ---

    def image(self, lot: str) -> Image:
        """The disk of a lot `.../n`: 0 holds the least, 1 the most, every other some."""
        match lot.rpartition("/")[2]:
            case "0":
                return self.nothing_more()
            case "1":
                return self.everything()
        return self.some(Random(lot))

    def nothing_more(self) -> Image:
        """Only what was synced."""
        return self._image(self._names, lambda number, _: self._file(number))

    def everything(self) -> Image:
        """All of it, as after the death of the process alone."""
        names = _renamed(self._names, self._names_on_the_way)
        return self._image(names, lambda number, ops: _all(self._file(number), ops))

    def some(self, draw: Random) -> Image:
        """Any part, in one of the ways in which parts come about."""
        keep, junk = draw.choice((0.1, 0.5, 0.9)), draw.choice((0.0, 0.0, 0.1, 0.5))
        whole = draw.random() < 0.3

        def part(number: int, ops: list[Write | Size]) -> bytes:
            way = draw.random()
            if way < 0.15:
                return self._file(number)
            if way < 0.3:
                return _all(self._file(number), ops)
            if way < 0.45 and ops:  # in order, and the last one torn
                ops = ops[: draw.randint(1, len(ops))]
                done, torn = _all(self._file(number), ops[:-1]), ops[-1:]
                return self._scattered(done, torn, draw, 0.5, junk)
            if whole:
                return _all(self._file(number), [op for op in ops if draw.random() < keep])
            return self._scattered(self._file(number), ops, draw, keep, junk)

        return self._image(self._some_names(draw), part)

    def _image(
        self, names: dict[str, int], part: Callable[[int, list[Write | Size]], bytes]
    ) -> Image:
        return {
            name: part(number, ops) if (ops := self._on_the_way.get(number)) else self._file(number)
            for name, number in names.items()
        }

    def _some_names(self, draw: Random) -> dict[str, int]:
        """Of what happened to one name, the beginning; of different names, any."""
        ops = self._names_on_the_way
        if not ops:
            return self._names
        reached = {
            name: draw.choice((0, 99, draw.randint(0, 4))) for name in {op.name: 0 for op in ops}
        }
        kept: list[Create | Delete] = []
        for op in ops:
            if reached[op.name] > 0:
                reached[op.name] -= 1
                kept.append(op)
        return _renamed(self._names, kept)

    def _scattered(
        self, before: bytes, ops: list[Write | Size], draw: Random, keep: float, junk: float
    ) -> bytes:
        content = bytearray(before)
        for op in ops:
            if isinstance(op, Size):
                if draw.random() < keep:
                    _apply(content, op)
                continue
            for at, data in _sectors(op):
                if draw.random() < keep:
                    _put(content, at, data)
                elif draw.random() < junk:
                    self._junk(content, at, data, draw)
        return bytes(content)

    def _junk(self, content: bytearray, at: int, data: bytes, draw: Random) -> None:
        """Anything where it was being written; on a disk without powersafe overwrite around it
        too."""
        start, end = at, at + len(data)
        if not self._build.powersafe:
            size = self._build.sector
            start, end = start // size * size, min(-(-end // size) * size, max(len(content), end))
        length = end - start
        _put(content, start, bytes(length) if draw.random() < 0.3 else draw.randbytes(length))


def _sectors(op: Write) -> list[tuple[int, bytes]]:
    end = op.at + len(op.data)
    cuts = [op.at, *range(op.at // SECTOR * SECTOR + SECTOR, end, SECTOR), end]
    return [(start, op.data[start - op.at : stop - op.at]) for start, stop in pairwise(cuts)]


def _all(before: bytes, ops: list[Write | Size]) -> bytes:
    content = bytearray(before)
    for op in ops:
        _apply(content, op)
    return bytes(content)


def _apply(content: bytearray, op: Write | Size) -> None:
    if isinstance(op, Write):
        _put(content, op.at, op.data)
    else:
        del content[op.size :]
        content.extend(bytes(op.size - len(content)))


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _renamed(names: dict[str, int], ops: list[Create | Delete]) -> dict[str, int]:
    names = dict(names)
    for op in ops:
        if isinstance(op, Create):
            names[op.name] = op.file
        else:
            names.pop(op.name, None)
    return names


def digest(image: Image, build: Build) -> bytes:
    """Tells images apart."""
    hashed = hashlib.sha256(repr(build).encode())
    for name in sorted(image):
        hashed.update(f"{name} {len(image[name])}\n".encode())
        hashed.update(image[name])
    return hashed.digest()[:16]
