"""What was copied of a range: the key and the digest of every document, written down before it is
inserted. By it, and by nothing else, documents are deleted: there, to take the copy back; at the
old place, when the copy counts.

A row for each lot: {k: "copied", new: whether they were not there before, ids, sums}.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import bson

from executors.fingerprint import digest_of
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents, id_of
from executors.undo.log import UndoLog, rows

DIGEST_BYTES: Final = 16
FILE: Final = "copied.bson"


@dataclass(slots=True)
class Copied:
    """Memory: some 250 bytes for each document of a range."""

    sums: dict[bytes, bytes] = field(default_factory=dict)
    """The digest of each document, by its `{_id}`."""
    ours: dict[bytes, None] = field(default_factory=dict)
    """Those that were not there before."""


def note(log: UndoLog, copied: Copied, lot: Sequence[bytes], *, new: bool) -> None:
    """These documents are about to be copied, or are there already; not durable yet."""
    if not lot:
        return
    ids, sums = [id_of(each) for each in lot], [digest_of(each) for each in lot]
    _take(copied, ids, sums, new=new)
    log.add(bson.encode({"k": "copied", "new": new, "ids": b"".join(ids), "sums": b"".join(sums)}))


def copied_at(folder: Path, stop: StopToken) -> Copied:
    """All that the log of a copy tells; what stands there later counts. Raises `OSError`."""
    found = Copied()
    for row in rows(folder / FILE):
        if stop.is_set():
            raise Stopped
        sums = bytes(row["sums"])
        cut = [sums[at : at + DIGEST_BYTES] for at in range(0, len(sums), DIGEST_BYTES)]
        _take(found, list(documents(bytes(row["ids"]))), cut, new=row["new"])
    return found


def _take(copied: Copied, ids: Sequence[bytes], sums: Sequence[bytes], *, new: bool) -> None:
    copied.sums.update(zip(ids, sums, strict=True))
    if new:
        copied.ours.update(dict.fromkeys(ids))
