"""The lease: one running process per journal, held by the kernel, gone with the process."""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Self

from journal.errors import JournalHeld, JournalUnreachable


class Lease:
    """An exclusive `flock` on a file beside the journal; its content names the holder.

    Raises `JournalHeld` when another process holds it.
    """

    def __init__(self, journal: Path, *, host: str, since: str) -> None:
        self.path = Path(f"{journal}.lease")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise JournalUnreachable(journal, f"{self.path}: {error.strerror}") from None
        if not _lock(self._fd):
            holder = _describe(os.pread(self._fd, 4096, 0))
            os.close(self._fd)
            raise JournalHeld(journal, holder)
        text = json.dumps({"pid": os.getpid(), "host": host, "since": since})
        with suppress(OSError):  # the lock counts; a full disk only keeps its holder unnamed
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(fd: int) -> bool:
    """Try for a fifth of a second: `held` of another terminal locks for an instant too."""
    for pause_s in (0.0, 0.02, 0.08, 0.1):
        sleep(pause_s)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            continue
    return False


def held(journal: Path) -> bool:
    """Whether a running process holds the journal now."""
    try:
        fd = os.open(f"{journal}.lease", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _describe(raw: bytes) -> str:
    try:
        holder = json.loads(raw)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return ""
