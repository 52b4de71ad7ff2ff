"""The promise of a journal."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis


class Recorded(NamedTuple):
    """One event in its envelope, as it stands in the journal."""

    seq: int
    """Position among all events of the file, from 1, without gaps."""
    job: JobId
    version: int
    """Position among the events of its job, from 1, without gaps."""
    epoch: int
    recorded_at_ms: Millis
    event: AnyEvent
    hash: bytes
    """SHA-256 over the hash of the job's event before it and all of this one but `seq`."""


class Position(NamedTuple):
    """Where a job ends: its last version, and that event's place in the file and hash."""

    version: int = 0
    seq: int = 0
    hash: bytes = bytes(32)
    """Of that event."""


class Page(NamedTuple):
    """Events of one job that follow each other, without their envelopes: for folding."""

    events: Sequence[AnyEvent]
    times: Sequence[int]
    """When each was recorded."""
    end: Position
    """Of the last one."""


class Journal(Protocol):
    """Keeps events in order, for ever.

    An append that returned is durable: it survives the death of the process and a power cut.
    An append that raised `JournalUnknown` may or may not have happened: close, reopen, read.
    Nothing that was appended is ever changed or removed. One process appends; any number read.
    """

    def append(
        self,
        job: JobId,
        events: Sequence[AnyEvent],
        *,
        expected: int,
        epoch: int,
        at_ms: Millis,
    ) -> Position:
        """Append all of `events` (at least one) or none; return where the job ends now.

        Idempotent: events that stand behind `expected` already, equal to the byte in envelope
        and content, are not appended again; returned is where they stand. Raises `StalePosition`
        when the job's last version is not `expected`, `EpochFenced` when a newer epoch has
        written; in both cases nothing was appended.
        """
        ...

    def pages(self, job: JobId, *, after: int = 0) -> Iterator[Page]:
        """The job's events with a version above `after`, in order, each with its hash checked."""
        ...
