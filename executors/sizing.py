"""How much one write command holds: shared by the workers that fill one collection."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from executors.batches import Block
from executors.protocol import Report
from statemachine.state import Unit


class Sizer(Protocol):
    """Of one unit; called from the threads of all workers that fill it."""

    def parts(self, block: Block) -> Iterator[Block]:
        """The block in pieces, each small enough for one command by what is known when it is taken;
        whole where that is small enough."""
        ...

    def timed(self, part: Block, /) -> AbstractContextManager[None]:
        """Around the command that sends it: what that takes, and what it raises, tells how big the
        next ones may be."""
        ...


class WholeBlocks:
    """Every block as it comes."""

    def parts(self, block: Block) -> Iterator[Block]:
        yield block

    def timed(self, _part: Block) -> AbstractContextManager[None]:
        return nullcontext()


WHOLE: Final = WholeBlocks()
Sizers = Callable[[Unit, Report], Sizer]
"""That of a unit, and whom it tells when its size changes."""


def whole_blocks(_unit: Unit, _report: Report) -> Sizer:
    return WHOLE
