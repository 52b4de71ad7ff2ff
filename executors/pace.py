"""How fast the data plane may go: every worker asks here once per batch, and what it is told to
wait it waits here. Nothing is ever left out to keep a limit: what is too much comes later.
"""

from types import TracebackType
from typing import Final, Protocol, Self

from executors.protocol import StopToken


class Room(Protocol):
    """Memory for one batch and what is made of it, from `with` to its end."""

    def holds(self, size: int) -> None:
        """The batch came, and it has so many bytes."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Pace(Protocol):
    """Shared by all workers of a run; each method is called from their threads.

    A method returns when the caller may go on, after no time at all where nothing limits. While
    it waits it looks at the token, which is a sign of life. Raises `Stopped` when that is set.
    """

    def asks(self, size: int, stop: StopToken, /) -> Room:
        """A reply of about so many bytes is asked for next, and held until the room is left."""
        ...

    def loads(self, size: int, stop: StopToken, /) -> Room:
        """The same of a block of a file."""
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

    def asks(self, _size: int, _stop: StopToken) -> Room:
        return NO_ROOM

    def loads(self, _size: int, _stop: StopToken) -> Room:
        return NO_ROOM

    def read(self, documents: int, size: int, stop: StopToken) -> None:
        pass

    def writes(self, documents: int, size: int, stop: StopToken) -> None:
        pass

    def files(self, size: int, stop: StopToken) -> None:
        pass


class _Unmeasured:
    def holds(self, size: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


NO_ROOM: Final = _Unmeasured()
UNLIMITED: Final = Unlimited()
