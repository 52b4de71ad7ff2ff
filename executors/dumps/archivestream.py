"""The bytes of an archive as they come, from a file or a pipe, packed or not."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from executors.chunkfile import READ_BYTES
from executors.dumps.errors import DamagedDump
from executors.dumps.gunzip import MAGIC, plain
from executors.dumps.model import Damage
from executors.flaws import Flaw
from executors.rawbson import int32
from executors.structure import LARGEST, envelope_flaw, flaw, walk


class Source:
    """An archive's bytes, unpacked, a little at a time; every length is doubted first.

    `read(n)` gives up to `n` bytes, none at the end; `name` is for what is said about it.
    """

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self.name = name
        self._read = read
        self._held = b""
        self._next = 0
        self._before = 0

    @property
    def at(self) -> int:
        """Offset of what comes next."""
        return self._before + self._next

    def damaged(self, why: str, detail: str, *, at: int | None = None) -> DamagedDump:
        return DamagedDump(self.name, why, detail=detail, at=self.at if at is None else at)

    def at_end(self) -> bool:
        return not self.hold(1)

    def take(self, count: int) -> bytes:
        """So many bytes. Raises `DamagedDump` when the archive ends before."""
        if not self.hold(count):
            left = len(self._held) - self._next
            raise self.damaged(
                f"the archive is cut: {count} bytes expected, {left} left", "EDUMP084"
            )
        taken = self._held[self._next : self._next + count]
        self._next += count
        return taken

    def document_or_end(self) -> bytes | None:
        """One document, whole as far as its envelope tells; `None` for the end mark."""
        size = self._believed()
        return self.take(size) if size else None

    def documents(self, *, deep: bool) -> Iterator[tuple[bytes, int, int]]:
        """All documents up to the end mark, by the lot: the bytes, how many, where they stand.

        A lot has a MiB, or is one document. With `deep`, each is looked at inside.
        """
        while size := self._believed():
            self.hold(size)
            lot_end = self._next + max(size, READ_BYTES)
            count, after = walk(memoryview(self._held)[:lot_end], self._next)[:2]
            wrong = None
            if deep:
                count, after, wrong = self._sound(after)
            if count:
                at = self.at
                lot, self._next = self._held[self._next : after], after
                yield lot, count, at
            if wrong:
                raise self._flawed(wrong)

    def window(self, count: int) -> tuple[bytes, int]:
        """Bytes, and from which of them on so many are what comes next, less at the end."""
        self.hold(count)
        return self._held, self._next

    def skip_to(self, index: int) -> None:
        """Go on at this one of the bytes that `window` gave."""
        self._next = index

    def back_to(self, at: int) -> None:
        """Go on at this offset again, if what lies there is still at hand."""
        if self._before <= at < self.at:
            self._next = at - self._before

    def hold(self, count: int) -> bool:
        """Have so many bytes at hand; whether there are so many."""
        if len(self._held) - self._next >= count:
            return True
        pieces = [self._held[self._next :]]
        have = len(pieces[0])
        try:
            while have < count and (piece := self._read(READ_BYTES)):
                pieces.append(piece)
                have += len(piece)
        finally:  # what could be read before damage is not lost
            self._before += self._next
            self._held, self._next = b"".join(pieces), 0
        return have >= count

    def _believed(self) -> int:
        """The length of the document that comes next, which is at hand, and ends as one; 0, and
        it is passed over, for the end mark."""
        size = int32(self.take(4), 0)[0]
        if size == -1:
            return 0
        self._next -= 4
        if 5 <= size <= LARGEST and not self.hold(size):
            self.take(size)  # raises
        if wrong := envelope_flaw(self._held, self._next):
            raise self._flawed(wrong)
        return size

    def _sound(self, end: int) -> tuple[int, int, Flaw | None]:
        """How many of the documents that are held up to `end` are sound inside, where they end,
        what is wrong with the next."""
        at, count = self._next, 0
        while at < end:
            after = at + int32(self._held, at)[0]
            wrong = flaw(self._held, at, after)
            if wrong and not wrong.whole:
                return count, at, wrong
            at, count = after, count + 1
        return count, at, None

    def _flawed(self, wrong: Flaw) -> DamagedDump:
        where = f"field {wrong.path}: " if wrong.path else ""
        return self.damaged(where + wrong.why, wrong.code, at=self._before + wrong.at)


def source_of(stream: BinaryIO, name: str, damage: list[Damage] | None = None) -> Source:
    """What the stream holds, unpacked if it is gzip; it need not seek.

    With `damage`, what is wrong with the gzip is told in there, and ends the stream.
    """
    begun = _Begun(stream)
    read = plain(cast("BinaryIO", begun), begun.head == MAGIC, name).read

    def tolerant(count: int) -> bytes:
        try:
            return read(count)
        except DamagedDump as error:
            if damage is None:
                raise
            told = Damage(name, error.at or 0, 0, error.detail, error.why)
            if told not in damage:
                damage.append(told)
            return b""

    return Source(tolerant, name)


class _Begun:
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.head = stream.read(len(MAGIC)) or b""
        self._left = self.head

    def read(self, count: int) -> bytes:
        if self._left:
            left, self._left = self._left, b""
            return left
        return self._stream.read(count) or b""
