"""How fast the data plane may go: every worker asks here once per batch, and what it is told to
wait it waits here. Nothing is ever left out to keep a limit: what is too much comes later.
"""

from typing import Final, Protocol

from executors.protocol import StopToken


class Pace(Protocol):
    """Shared by all workers of a run; each method is called from their threads.

    A method returns when the caller may go on, after no time at all where nothing limits. While
    it waits it looks at the token, which is a sign of life. Raises `Stopped` when that is set.
    """

    def asks(self, size: int, stop: StopToken) -> None:
        """A reply of about so many bytes is asked for next; what the one before it brought is let
        go by now."""
        ...

    def read(self, documents: int, size: int, stop: StopToken) -> None:
        """So many documents, with so many bytes, arrived from the source."""
        ...

    def writes(self, documents: int, size: int, stop: StopToken) -> None:
        """So many are about to go to the target."""
        ...

    def files(self, size: int, stop: StopToken) -> None:
        """So many bytes are about to go to a chunk file. Raises `OSError` (ENOSPC) when the disk
        has no room for them and none is about to be made."""
        ...


class Unlimited:
    """Nothing waits."""

    def asks(self, size: int, stop: StopToken) -> None:
        pass

    def read(self, documents: int, size: int, stop: StopToken) -> None:
        pass

    def writes(self, documents: int, size: int, stop: StopToken) -> None:
        pass

    def files(self, size: int, stop: StopToken) -> None:
        pass


UNLIMITED: Final = Unlimited()
