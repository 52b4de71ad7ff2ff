"""What runs in a process of the user's own code: pieces of blocks, one after another.

The process says which document it is at in memory that it shares with whoever waits: when it
dies, that one is tried alone. A document that takes too long ends it: the kernel's alarm does,
which no code can hold up.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from threading import Thread
from typing import Final

from executors.rawbson import documents
from executors.transforms.apply import Rejected, through
from executors.transforms.code import Names, load
from executors.transforms.errors import OfCode

MOST_BYTES: Final = 2 << 20
"""What one answer holds, but for its last document: code may make documents much larger, and many
answers wait for their turn."""
PER_SLOT: Final = 2
"""Numbers of a slot: the process, and the document that it is at, from 1 on."""

_slots: list[Sequence[int]] = []


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one piece."""

    done: int
    """Documents of it that were looked at, from the first on."""
    let_through: tuple[bytes, ...]
    rejected: tuple[tuple[int, Rejected], ...]
    """With their places in the piece."""


def begin(slots: Sequence[int], folder: str) -> None:
    """First of all in each process. What the code prints is no result of ours."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.dup2(2, 1)
    sys.path.insert(0, folder)
    os.chdir(folder)
    _slots.append(slots)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed ends nobody itself."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check(names: Names) -> str | OfCode:
    """The SHA-256 of the code."""
    try:
        return load(names).sha256
    except OfCode as error:
        return error


def transform(names: Names, piece: bytes, slot: int, limit_s: float) -> Answer | OfCode:
    at, slots = slot * PER_SLOT, _slots[0]
    slots[at] = os.getpid()  # type: ignore[index]
    try:
        code = load(names)
    except OfCode as error:
        return error
    done, size = 0, 0
    whole: list[bytes] = []
    rejected: list[tuple[int, Rejected]] = []
    for document in documents(piece):
        if size > MOST_BYTES:
            break
        done += 1
        slots[at + 1] = done  # type: ignore[index]
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            found = through(document, code)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(found, Rejected):
            rejected.append((done - 1, found))
        else:
            whole.append(found)
            size += len(found)
    return Answer(done, tuple(whole), tuple(rejected))
