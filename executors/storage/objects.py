"""S3, Google Cloud Storage and Azure as a store.

A small object is one conditional request, a large one a multipart upload that shows only when it is
completed. Requests are repeated twice at most; more is the journal's affair, and stands in it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from executors.folder import folder_name
from executors.protocol import Stopped, StopToken
from executors.storage.answers import meant
from executors.storage.errors import (
    NoBucket,
    NoObject,
    ObjectExists,
    StoreError,
    TransferBroken,
)
from executors.storage.names import checked
from executors.storage.protocol import Found

AT_ONCE: Final = 16 << 20
"""Bytes up to which an object is one request, and one conditional put."""
PART: Final = 8 << 20
"""Bytes of a part of a larger one, and of one request that fetches."""
MOST_PARTS: Final = 9000
"""S3 takes 10,000; parts grow before that."""
IN_FLIGHT: Final = 2
"""Parts of one upload at once: they are in memory."""
DRAFTS: Final = "drafts"


class Objects:
    """A `Store`. What is larger than `AT_ONCE` is put where a look before found nothing: stores
    take no condition for multipart uploads that all of them keep. Names of attempts are used once,
    so that nobody comes between. An upload that a dead process left shows nowhere, costs, and is
    removed by a rule of the bucket: no store tells us of it."""

    def __init__(self, store: S3Store | GCSStore | AzureStore, url: str, work_folder: Path) -> None:
        """`work_folder`: of the job, for drafts."""
        self.url = url
        self._store = store
        self._drafts = work_folder / DRAFTS

    def put(self, name: str, data: bytes, *, replace: bool = False) -> Found:
        checked(name)
        with self._putting(name):
            try:
                done = obstore.put(
                    self._store,
                    name,
                    data,
                    mode="overwrite" if replace else "create",
                    use_multipart=False,
                )
                return Found(name, len(data), done["e_tag"] or "")
            except (AlreadyExistsError, PreconditionError):
                return self._same(name, BytesIO(data), len(data))

    def draft(self, name: str) -> Path:
        self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._drafts / f"{folder_name(checked(name))}.tmp"
        draft.unlink(missing_ok=True)
        return draft

    def put_file(self, name: str, draft: Path, stop: StopToken, *, replace: bool = False) -> Found:
        try:
            if stop.is_set():
                raise Stopped
            size = draft.stat().st_size
            if size <= AT_ONCE:
                return self.put(name, draft.read_bytes(), replace=replace)
            with draft.open("rb") as file:
                return self._put_large(name, file, size, stop, replace=replace)
        finally:
            draft.unlink(missing_ok=True)

    def get(self, name: str) -> bytes:
        with self._asking(name):
            return bytes(obstore.get(self._store, checked(name)).bytes())

    def read(self, name: str, at: int, length: int) -> bytes:
        if not length:
            return b""
        with self._asking(name):
            try:
                return bytes(obstore.get_range(self._store, checked(name), start=at, length=length))
            except BaseError as error:
                if "status code: 416" in str(error):  # it ends before
                    return b""
                raise

    def fetch(self, name: str, into: Path, stop: StopToken) -> Found:
        found = self.head(name)
        if found is None:
            raise NoObject(f"{self.url}/{name}")
        with into.open("wb") as file:
            while (at := file.tell()) < found.size:
                if stop.is_set():
                    raise Stopped
                piece = self.read(name, at, min(PART, found.size - at))
                if not piece:
                    raise TransferBroken(f"{self.url}/{name}", "it became shorter")
                file.write(piece)
        return found

    def head(self, name: str) -> Found | None:
        with suppress(NoObject), self._asking(name):
            return _found(obstore.head(self._store, checked(name)))
        return None

    def list(self, prefix: str = "") -> Iterator[Found]:
        folder, _, _ = prefix.rpartition("/")
        with self._asking(prefix):
            for several in obstore.list(self._store, folder or None, chunk_size=1000):
                for each in several:
                    found = _found(each)
                    if found.name and found.name.startswith(prefix):  # "": the folder as such
                        yield found

    def remove(self, names: Iterable[str]) -> None:
        """Google and Azure tell of those that are not there, after the others are gone."""
        gone = [checked(name) for name in names]
        for at in range(0, len(gone), 1000):
            some = gone[at : at + 1000]
            try:
                self._remove(some)
            except NoObject:
                for name in some:
                    with suppress(NoObject):
                        self._remove([name])

    def remove_drafts(
        self,
        ours: Callable[[str], bool] | None = None,  # noqa: ARG002 — where others write beside us
    ) -> int:
        """Whatever `ours` says: they lie in the job's own folder."""
        removed = 0
        for path in self._drafts.glob("*.tmp"):
            path.unlink(missing_ok=True)
            removed += 1
        return removed

    def _put_large(
        self, name: str, file: BinaryIO, size: int, stop: StopToken, *, replace: bool
    ) -> Found:
        if not replace and self.head(name) is not None:
            return self._same(name, file, size)
        part = max(PART, size // MOST_PARTS + 1)
        with self._putting(name):
            obstore.put(
                self._store,
                name,
                _pieces(file, part, stop),  # what raises in there aborts the upload
                use_multipart=True,
                chunk_size=part,
                max_concurrency=IN_FLIGHT,
            )
        found = self.head(name)
        if found is None or found.size != size:
            raise TransferBroken(f"{self.url}/{name}", "it is not what was sent")
        return found

    def _same(self, name: str, file: BinaryIO, size: int) -> Found:
        """The object, if it has these bytes: a request whose answer was lost, or an attempt that
        was. Raises `ObjectExists`."""
        found = self.head(name)
        if found is None:
            raise TransferBroken(f"{self.url}/{name}", "another one put it at the same time")
        if found.size != size:
            raise ObjectExists(f"{self.url}/{name}")
        for at in range(0, size, PART):
            if self.read(name, at, PART) != file.read(PART):
                raise ObjectExists(f"{self.url}/{name}")
        return found

    def _remove(self, names: Sequence[str]) -> None:
        with self._asking(names[0]):
            obstore.delete(self._store, names)

    @contextmanager
    def _putting(self, name: str) -> Iterator[None]:
        """What is not found then is the bucket."""
        try:
            with self._asking(name):
                yield
        except NoObject:
            raise NoBucket(self.url) from None

    @contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """What obstore raises becomes ours."""
        try:
            yield
        except StoreError:
            raise
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise meant(error, self.url, name) from None


def _pieces(file: BinaryIO, part: int, stop: StopToken) -> Iterator[bytes]:
    while piece := file.read(part):
        if stop.is_set():
            raise Stopped
        yield piece


def _found(meta: "obstore.ObjectMeta") -> Found:
    return Found(meta["path"], meta["size"], meta["e_tag"] or "")
