"""What one side holds against what the other one does: counts and content digests of one chunk,
and the documents that differ by name.

The sides are the source or a part of a dump, and the target: see `sides`. Two sides with the
same range are compared as sets (`fingerprint`); of a part that stands for no range, each document
is looked up on the other side, and what that holds beside them is told per unit by `beyond`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import Range
from executors.boundaries import to_key
from executors.dump import mean_bytes
from executors.fingerprint import (
    NOTHING,
    Fingerprint,
    What,
    differences,
    digest_of,
    fingerprint,
    fingerprint_of,
    key_of,
)
from executors.partfile import CHUNK_FILE
from executors.placement import Mine
from executors.protocol import StopToken
from executors.rawbson import as_stored
from executors.rejected import shown
from executors.select import USERS, query_of
from executors.sides import InFile, InRange, Lookup, Side, each_of, lots_of
from executors.source import data_of, range_of
from statemachine.events import Difference, JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.stimuli import Verified

MAX_DIFFERENCES: Final = 10
"""Documents named per chunk."""


def verify(
    source: MongoClient[Any],
    target: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
) -> Verified:
    """Read the range on both sides and compare. Raises `PyMongoError`, `Stopped`.

    Of the source only what the job's queries want is read. A job that merges into what the target
    already held (`--on-conflict`) asks less: every document of the source lies on the target;
    others may lie there too. Documents that the restore rejected are missing or different, and
    known to be: as many are no mismatch. Users and roles were merged: each is looked up.
    """
    there = range_of(unit, chunk, spec, read_preference=read_preference, cluster_time=cluster_time)
    left = InRange(source, there, stop, mean_bytes(unit))
    if unit.target in USERS:
        return _look_up(left, _in_target(target, unit, stop), chunk)
    return compare(left, _on_target(target, unit, chunk, stop), chunk, spec)


def verify_dumped(
    source: MongoClient[Any],
    path: Path,
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
) -> Verified:
    """Compare the source with the chunk's file that a dump holds at `path`: by its range, where it
    stands for one, else by look-up, see `verify_restored`.

    Raises as `verify`, and `DamagedFile`, `OSError`.
    """
    right = _file_of(chunk, path, stop)
    if not stands_for_range(right.file):
        where, query = data_of(unit.id, unit.type), query_of(unit.id, spec.queries)
        return _turned(_look_up(right, Lookup(source, *where, stop, query, read_preference), chunk))
    there = range_of(unit, chunk, spec, read_preference=read_preference, cluster_time=cluster_time)
    left = InRange(source, there, stop, mean_bytes(unit))
    return compare(left, right, chunk, spec)


def verify_restored(
    path: Path,
    target: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
    mine: Mine | None = None,
) -> Verified:
    """Compare the chunk's file, at `path`, or what is `mine` of it, with the target. Raises as
    `verify`, and `DamagedFile`, `OSError`.

    A chunk file in a dump stands for the chunk's range. Everything else is looked up, and users
    and roles, which were merged: documents that the target holds beside those of the file are
    not seen, see `beyond`.
    """
    left = _file_of(chunk, path, stop, mine)
    if stands_for_range(left.file) and unit.target not in USERS:
        return compare(left, _on_target(target, unit, chunk, stop), chunk, spec)
    return _look_up(left, _in_target(target, unit, stop), chunk)


def verify_transformed(
    path: Path,
    target: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
) -> Verified:
    """Compare the chunk's file, at `path`, with the target's range: of what the user's own code
    made of the documents, the source does not tell. Those that it held back are counted with those
    of the source, and known to be missing. Raises as `verify_restored`."""
    left = _file_of(chunk, path, stop)
    back = left.file.rejected
    known = chunk.done._replace(rejected=chunk.done.rejected - back)
    found = compare(left, _on_target(target, unit, chunk, stop), replace(chunk, done=known), spec)
    documents, rejected = found.source_documents + back, found.rejected + back
    return replace(found, source_documents=documents, rejected=rejected)


def stands_for_range(file: ChunkFile) -> bool:
    """Whether the file holds a range of `_id`s: only ferrylog's own dumps know."""
    return file.place != "work" and file.name.endswith(CHUNK_FILE)


def compare(left: Side, right: Side, chunk: Chunk, spec: JobSpec) -> Verified:
    """Compare two sides that stand for the same range; the left is the source."""
    source, target = fingerprint(left.blocks()), fingerprint(right.blocks())
    equal = source == target
    verdict = _Verdict(chunk.done.rejected, merges=spec.on_conflict != "stop")
    if not equal:
        verdict.hear(differences(lambda: each_of(left), lambda: each_of(right)))
    return Verified(
        equal=equal or verdict.known,
        source_documents=source.documents,
        target_documents=target.documents,
        source_digest=source.digest,
        target_digest=target.digest,
        rejected=verdict.allowed if verdict.known else 0,
        differing=tuple(verdict.named),
    )


@dataclass(slots=True)
class _Verdict:
    """Whether all that differs is known to."""

    allowed: int
    """Documents that the restore rejected."""
    merges: bool
    """Others may lie on the target."""
    nameless: int = 0
    """Documents whose `_id` nobody can read: nobody can tell which of them were rejected."""
    rejected: int = 0
    extra: int = 0
    named: list[Difference] = field(default_factory=list)

    @property
    def known(self) -> bool:
        unseen = self.allowed - self.rejected
        return not self.extra and 0 <= unseen <= self.nameless

    def hear(self, found: Iterator[tuple[bytes, What]]) -> None:
        """All that differs, or until nothing more of it matters."""
        for key, what in found:
            if what != "extra":
                self.rejected += 1
            elif self.merges:
                continue
            else:
                self.extra += 1
            if len(self.named) < MAX_DIFFERENCES:
                self.named.append(_difference(key, what))
            elif self.extra or self.rejected > self.allowed:
                return


def _look_up(left: Side, there: Lookup, chunk: Chunk) -> Verified:
    verdict = _Verdict(chunk.done.rejected, merges=True)
    source = target = NOTHING
    for lot in lots_of(left):
        mine = [(key, each) for each in lot if (key := key_of(each)) is not None]
        found = there.find([key for key, _ in mine])
        verdict.nameless += len(lot) - len(mine)
        verdict.hear(_unlike(mine, found))
        digests = [int.from_bytes(found[key]) for key, _ in mine if key in found]
        source += fingerprint_of([as_stored(each) for _, each in mine], 0)
        target += Fingerprint(len(digests), 0, sum(digests))
    nameless = verdict.nameless
    lost = max(0, min(nameless, chunk.done.rejected - verdict.rejected))
    return Verified(
        equal=verdict.known,
        source_documents=source.documents + nameless,
        target_documents=target.documents + nameless - lost,
        source_digest=source.digest,
        target_digest=target.digest,
        rejected=verdict.allowed if verdict.known else 0,
        differing=tuple(verdict.named),
    )


def _unlike(
    mine: list[tuple[bytes, bytes]], found: dict[bytes, bytes]
) -> Iterator[tuple[bytes, What]]:
    for key, document in mine:
        if (digest := found.get(key)) is None:
            yield key, "missing"
        elif digest != digest_of(as_stored(document)):
            yield key, "different"


def _turned(found: Verified) -> Verified:
    """What was seen from the target, seen from the source: nothing is extra there."""
    return replace(
        found,
        source_documents=found.target_documents,
        target_documents=found.source_documents,
        source_digest=found.target_digest,
        target_digest=found.source_digest,
        differing=tuple(
            Difference(key=one.key, what="extra" if one.what == "missing" else one.what)
            for one in found.differing
        ),
    )


def _file_of(chunk: Chunk, path: Path, stop: StopToken, mine: Mine | None = None) -> InFile:
    assert chunk.file is not None
    side = InFile(path, chunk.file, stop, mine)
    side.check()
    return side


def _on_target(target: MongoClient[Any], unit: Unit, chunk: Chunk, stop: StopToken) -> InRange:
    where = data_of(unit.target, unit.type)
    here = Range(*where, chunk.lower, chunk.upper, natural=chunk.natural)
    return InRange(target, here, stop, mean_bytes(unit))


def _in_target(target: MongoClient[Any], unit: Unit, stop: StopToken) -> Lookup:
    return Lookup(target, *data_of(unit.target, unit.type), stop)


def _difference(key: bytes, what: What) -> Difference:
    return Difference(key=shown(to_key(key)), what=what)
