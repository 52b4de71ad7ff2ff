"""What a place for files promises, be it a disk or an object store."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from executors.protocol import StopToken


@dataclass(frozen=True, slots=True)
class Found:
    """A whole object of a store."""

    name: str
    """Beneath the store's URL, with slashes."""
    size: int
    """Bytes."""
    etag: str
    """Changes when the object does; empty where the store has none."""


class Store(Protocol):
    """Objects by name beneath one URL; threads share it.

    An object is there whole or not at all, and when a method that puts one returns, it is durable:
    file and directory synced, or acknowledged by the store. Nothing half done is ever visible under
    a name. Raises a `StoreError` that says what was asked for, where, why it failed, what helps,
    and by its `cause` who can make it go away; `OSError` from a disk; `classify` knows both.
    `BadObjectName` for a name that not every store takes, `Stopped` when the token of a long
    transfer is set.
    """

    url: str
    """Without credentials; ends without a slash."""

    def put(self, name: str, data: bytes, *, replace: bool = False) -> Found:
        """A small object. Without `replace`: raises `ObjectExists` when there is one of that name,
        but for one with the very same bytes, which is what a retry finds."""
        ...

    def draft(self, name: str) -> Path:
        """A local path at which the bytes of that object may be written: beside its place on a
        disk, in the work folder for an object store. Nobody takes it for the object. Its directory
        exists; what lay there is gone. One writer for each name at a time."""
        ...

    def put_file(self, name: str, draft: Path, stop: StopToken, *, replace: bool = False) -> Found:
        """The bytes of the draft become the object, of any size; the draft is gone after it,
        however it ends. As `put`; but an object store looks first and then puts what is larger than
        16 MiB, so that two who put the same name at once are not told apart."""
        ...

    def get(self, name: str) -> bytes:
        """A small object, whole. Raises `NoObject`."""
        ...

    def read(self, name: str, at: int, length: int) -> bytes:
        """So many bytes from byte `at` on; fewer where the object ends. Raises `NoObject`."""
        ...

    def fetch(self, name: str, into: Path, stop: StopToken) -> Found:
        """The whole object into a file of that path. Raises `NoObject`, `OSError`."""
        ...

    def head(self, name: str) -> Found | None:
        """`None`: there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[Found]:
        """All whole objects whose name begins so, in no order that matters. Drafts of a dead
        process are not among them."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """What is not there is no error."""
        ...

    def remove_drafts(self, ours: Callable[[str], bool] | None = None) -> int:
        """What dead attempts left half done: temporary files, multipart uploads, where the store
        tells of them; how many. On a disk others may write beneath the same folder: `ours` says
        whether an object is whoever's that asks, by its name (of a small one, any in its place);
        `None`: all are."""
        ...
