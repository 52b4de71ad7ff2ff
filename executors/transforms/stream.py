"""Blocks as they were read to blocks as they will be restored, in the same order.

Pieces of blocks are under way in several processes at once, as many as keep them busy. When a
process dies, the document that it was at is tried alone: one with which a process dies again is
rejected, and all others go through as if nothing had happened.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from executors.batches import BLOCK_BYTES, BLOCK_DOCUMENTS, Block
from executors.protocol import StopToken
from executors.rawbson import documents
from executors.transforms.errors import NoProcess
from executors.transforms.heldback import Reject
from executors.transforms.pool import MOST_FALSE_STARTS, Died, Piece, Pool
from executors.transforms.worker import Answer

PIECE_DOCUMENTS: Final = 64
"""What a process gets at once: more would keep others waiting where each takes long."""
PIECE_BYTES: Final = 256 << 10
AHEAD_BYTES: Final = 4 << 20
"""Of one dump, on their way through the processes."""
MOST_AHEAD: Final = 24
"""Pieces of one dump under way."""


def transformed(
    pool: Pool, blocks: Iterator[Block], reject: Reject, stop: StopToken
) -> Iterator[Block]:
    """What the code makes of the documents. Raises what the reader of the blocks raises, `OfCode`,
    `NoProcess`, `Stopped`."""
    let_through = _in_order(blocks, _Passage(pool, reject, stop))
    held: list[bytes] = []
    size = 0
    for document in let_through:
        if held and (size + len(document) > BLOCK_BYTES or len(held) == BLOCK_DOCUMENTS):
            yield Block(b"".join(held), len(held))
            held, size = [], 0
        held.append(document)
        size += len(document)
    if held:
        yield Block(b"".join(held), len(held))


def _in_order(blocks: Iterator[Block], passage: "_Passage") -> Iterator[bytes]:
    waiting: deque[_Sent] = deque()
    size = 0
    for block in blocks:
        for piece in pieces(block):
            waiting.append(passage.send(piece))
            size += waiting[-1].size
            while size > AHEAD_BYTES or len(waiting) > passage.most:
                size -= waiting[0].size
                yield from passage.back(waiting.popleft())
    while waiting:
        yield from passage.back(waiting.popleft())


def pieces(block: Block) -> Iterator[list[bytes]]:
    """The documents of the block, as many at a time as one process gets."""
    held: list[bytes] = []
    size = 0
    for document in documents(block.data):
        if held and (size + len(document) > PIECE_BYTES or len(held) == PIECE_DOCUMENTS):
            yield held
            held, size = [], 0
        held.append(document)
        size += len(document)
    if held:
        yield held


@dataclass(frozen=True, slots=True)
class _Sent:
    """Documents, and their way through a process."""

    documents: list[bytes]
    piece: Piece
    size: int
    alone: bool
    """A process has ended with this one document already."""


@dataclass(slots=True)
class _Passage:
    """Of the documents of one dump."""

    pool: Pool
    reject: Reject
    stop: StopToken
    false_starts: int = 0
    """In a row."""

    @property
    def most(self) -> int:
        return min(2 * self.pool.workers, MOST_AHEAD)

    def send(self, every: list[bytes], *, alone: bool = False) -> _Sent:
        data = b"".join(every)
        return _Sent(every, self.pool.begin(data), len(data), alone)

    def back(self, sent: _Sent) -> Iterator[bytes]:
        """What became of the documents, whatever becomes of processes."""
        left = deque([sent])
        while left:
            now = left.popleft()
            try:
                answer: Answer = now.piece.wait(self.stop)
            except Died as died:
                left.extendleft(reversed(self._again(now, died)))
                continue
            self.false_starts = 0
            if rest := now.documents[answer.done :]:
                left.appendleft(self.send(rest))
            for place, why in answer.rejected:
                self.reject(now.documents[place], *why)
            yield from answer.let_through

    def _again(self, sent: _Sent, died: Died) -> list[_Sent]:
        """What is to be sent once more: the document that the process was at is sent alone."""
        if died.by_us:
            return [self.send(sent.documents, alone=sent.alone)]
        if died.at is None:
            self.false_starts += 1
            self.pool.replace(sent.piece)
            if self.false_starts > MOST_FALSE_STARTS:
                raise NoProcess(str(died))
            return [self.send(sent.documents, alone=sent.alone)]
        self.false_starts = 0
        if sent.alone:
            self.reject(sent.documents[0], died.code, str(died))
            return []
        at = died.at
        parts = sent.documents[:at], sent.documents[at : at + 1], sent.documents[at + 1 :]
        return [self.send(part, alone=part is parts[1]) for part in parts if part]
