"""What files of columns say they hold, read from their ends: each can be opened then."""

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from executors.export.counts import Counts
from executors.export.parquet import counts_in
from executors.protocol import Stopped, StopToken
from executors.storage.protocol import Store

AT_ONCE: Final = 4
"""Files that are looked into at the same time: of a distant store, each takes its time."""


def footers(
    store: Store, sizes: Mapping[str, int], stop: StopToken
) -> Iterator[tuple[str, Counts | str]]:
    """Of files by name and size: what they hold, or why that cannot be read. Raises what the store
    raises, `Stopped`."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        try:
            yield from threads.map(partial(_counts, store, stop), sizes.items())
        finally:
            threads.shutdown(cancel_futures=True)


def _counts(store: Store, stop: StopToken, file: tuple[str, int]) -> tuple[str, Counts | str]:
    if stop.is_set():
        raise Stopped
    try:
        return file[0], counts_in(_Ranged(store, *file))
    except ValueError as error:
        return file[0], f"{file[0]} is no whole Parquet file: {error}"


class _Ranged(io.RawIOBase):
    """An object as a file that is read here and there."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, length: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        data = self._store.read(self._name, self._at, left if length < 0 else min(length, left))
        self._at += len(data)
        return data
