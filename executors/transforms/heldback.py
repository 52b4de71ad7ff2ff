"""The documents of one dump that the user's own code does not let through."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from executors.batches import Block
from executors.protocol import StopToken
from executors.rejected import Rejects, name_of, rejected_path
from statemachine.policy import MAX_REPORTED
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Rejection

Reject = Callable[[bytes, str, str], None]
"""Told of each document that the code does not let through, as it was; with a code and why."""
Through = Callable[[Iterator[Block], Reject, StopToken], Iterator[Block]]
"""`stream.transformed`, with the processes of a run."""

HELD_BYTES: Final = 2 << 20
"""Of them, before they are written."""


class HeldBack(Rejects):
    """Writes them down as they were on the source; each attempt from the beginning."""

    def __init__(self, folder: Path, unit: Unit, chunk: Chunk) -> None:
        path = rejected_path(folder, unit.id, chunk.id)
        path.unlink(missing_ok=True)  # of an attempt before this one
        super().__init__(path)
        self.count = 0
        self.named: list[Rejection] = []
        """The first of them."""
        self._held = 0

    def reject(self, document: bytes, code: str, why: str) -> None:
        """Raises `OSError`."""
        self.add(document)
        self.count += 1
        self._held += len(document)
        if len(self.named) < MAX_REPORTED:
            self.named.append(Rejection(name_of(document), code, why))
        if self._held > HELD_BYTES:
            self.sync()
            self._held = 0
