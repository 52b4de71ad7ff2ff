"""How long a job may take, and how small its chunk files get: learned from the jobs before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from typing import Final, NamedTuple

from ferrylog.recall import recall
from journal import audit
from journal.audit import Wanted
from journal.sqlite import SqliteJournal
from statemachine.events import DumpCompleted, JobSpec
from statemachine.words import JobId, JobStatus

ALIKE: Final = ("source_id", "target_id", "mode", "verify")
"""Fields that two jobs share if the pace of one says something about the other."""
LEARNED_FROM: Final = 10
"""Jobs, the newest."""
FILES_LOOKED_AT: Final = 1000
"""Chunk files of each, the newest."""
MARGIN: Final = 0.25
"""The same job takes so much more or less when it is done again."""
GUESSED_FAST: Final = (100_000, 100_000_000)
"""Documents and bytes per second when nothing is known: what few cores and a local network give."""
GUESSED_SLOW: Final = (5_000, 5_000_000)
GUESSED_SIZE: Final = {"none": 1.0, "zstd": 0.4, "gzip": 0.4}
"""Of a chunk file, as a share of its documents, by compression."""


class Pace(NamedTuple):
    """What one finished job carried, and how long it was at work."""

    documents: int
    bytes: int
    active_s: float


@dataclass(frozen=True, slots=True)
class Learned:
    """From the finished migrations of a journal that are like the one to come."""

    paces: tuple[Pace, ...] = ()
    size: float | None = None
    """Of a chunk file, as a share of its documents; `None` when none was written."""


class Duration(NamedTuple):
    """Seconds: most likely, at least, at most; and how that is known."""

    seconds: float
    least_s: float
    most_s: float
    origin: str


def learn(journal: SqliteJournal, spec: JobSpec, *, before: int) -> Learned:
    """From what stood in the journal up to that seq. Raises `DamagedJournal`."""
    like = list(islice(_alike(journal, spec, before), LEARNED_FROM))
    files = [
        recorded.event
        for job, _, compression in like
        if compression == spec.compression
        for recorded in audit.find(
            journal, Wanted(job, kind="dump_completed", until=before), tail=FILES_LOOKED_AT
        )
        if isinstance(recorded.event, DumpCompleted)
    ]
    documents = sum(file.bytes for file in files)
    size = sum(file.file_bytes for file in files) / documents if documents else None
    return Learned(tuple(pace for _, pace, _ in like), size)


def _alike(
    journal: SqliteJournal, wanted: JobSpec, before: int
) -> Iterator[tuple[JobId, Pace, str]]:
    """Finished jobs with their paces and compression, the newest first."""
    for job in reversed(journal.jobs()):
        recorded, asked = audit.request(journal, job)
        spec = asked.spec
        same = all(getattr(spec, name) == getattr(wanted, name) for name in ALIKE)
        if recorded.seq >= before or spec.kind != "migrate" or not same:
            continue
        past = recall(journal, job, to_seq=before)
        rates = past.rates
        if past.state.status is JobStatus.COMPLETED and rates.bytes and rates.active_ms:
            yield job, Pace(rates.documents, rates.bytes, rates.active_ms / 1000), spec.compression


def duration(documents: int, size: int, paces: tuple[Pace, ...]) -> Duration:
    """Of carrying so much, at the paces of the jobs before; without any a wide guess."""
    if not paces:
        least, most = (
            max(documents / rate[0], size / rate[1]) for rate in (GUESSED_FAST, GUESSED_SLOW)
        )
        return Duration(sqrt(least * most), least, most, "a guess: no finished job to learn from")
    whole = Pace(*(sum(each) for each in zip(*paces, strict=True)))
    seconds = sum(_at(documents, size, whole)) / 2
    all_of_them = [each for pace in paces for each in _at(documents, size, pace)]
    jobs = f"{len(paces)} finished job{'s' if len(paces) > 1 else ''}"
    return Duration(
        seconds,
        min(all_of_them) * (1 - MARGIN),
        max(all_of_them) * (1 + MARGIN),
        f"the pace of {jobs} between the same deployments, {whole.documents:,} documents in all",
    )


def _at(documents: int, size: int, pace: Pace) -> tuple[float, float]:
    """Seconds by the count of documents, and by their bytes."""
    return documents / pace.documents * pace.active_s, size / pace.bytes * pace.active_s
