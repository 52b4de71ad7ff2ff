"""Rows of the table and what they must be before anybody believes them."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from journal.codec import NoEvent, decode, encode, link
from journal.errors import DamagedJournal, UnknownEvent
from journal.protocol import Page, Position, Recorded
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

Row = tuple[int, JobId, int, int, Millis, str, str, bytes, bytes]
COLUMNS: Final = "seq, job, version, epoch, recorded_at_ms, kind, entity, data, hash"


def made(
    events: Sequence[AnyEvent],
    *,
    job: JobId,
    seq: int,
    version: int,
    before: bytes,
    epoch: int,
    at_ms: Millis,
) -> list[Row]:
    """The rows of these events, after that seq, version and hash."""
    rows: list[Row] = []
    name = job.encode()
    for event in events:
        seq, version = seq + 1, version + 1
        kind, entity, data = event.kind, event.about, encode(event)
        before = link(before, name, version, epoch, at_ms, kind, entity, data)
        rows.append((seq, job, version, epoch, at_ms, kind, entity, data, before))
    return rows


def check(path: Path, rows: Sequence[Row], *, job: JobId, version: int, before: bytes) -> bytes:
    """Whether the rows follow that version and hash; the hash of the last one.

    Raises `DamagedJournal`, naming the first bad row and the last good one.
    """
    name = job.encode()
    for seq, _, found, epoch, at_ms, kind, entity, data, hash_ in rows:
        version += 1
        if found != version:
            why = f"job {job} has version {found} at seq {seq} where {version} belongs"
            raise DamagedJournal(path, why, good=seq - 1)
        try:
            before = link(before, name, version, epoch, at_ms, kind, entity, data)
        except (TypeError, AttributeError, struct.error):  # a damaged row has values of any type
            before = b""
        if before != hash_:
            why = f"event seq {seq} ({kind} of {entity}) does not match its hash"
            raise DamagedJournal(path, why, good=seq - 1)
    return before


def page(path: Path, rows: Sequence[Row]) -> Page:
    """The events of checked rows. Raises `UnknownEvent`."""
    seq, _, version, *_, hash_ = rows[-1]
    return Page(_events(path, rows), [row[4] for row in rows], Position(version, seq, hash_))


def recorded(path: Path, rows: Sequence[Row]) -> Iterator[Recorded]:
    """The events of checked rows, each in its envelope. Raises `UnknownEvent`."""
    events = _events(path, rows)
    seqs, jobs, versions, epochs, times, _, _, _, hashes = zip(*rows, strict=True)
    return map(Recorded, seqs, jobs, versions, epochs, times, events, hashes)


def _events(path: Path, rows: Sequence[Row]) -> Sequence[AnyEvent]:
    try:
        return decode([(row[5], row[7]) for row in rows])
    except NoEvent as bad:
        seq, *_, kind, _, _, _ = rows[bad.index]
        raise UnknownEvent(path, seq, kind, bad.why) from None
