"""Source against target: counts and content digests over one chunk's range.

The digest of a set of documents is the sum of their BLAKE2b-128 digests modulo 2**128: it does
not depend on the order in which they are read, and sums of parts add up to that of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import Range, read_range
from executors.boundaries import to_key
from executors.dump import mean_bytes, source_range
from executors.metadata import split
from executors.protocol import StopToken
from executors.rawbson import documents, id_of
from statemachine.events import Difference, JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import Verified

MODULUS: Final = 1 << 128
MAX_DIFFERENCES: Final = 10
"""Documents named per chunk."""


@dataclass(frozen=True, slots=True)
class Side:
    client: MongoClient[Any]
    range: Range

    def blocks(self, unit: Unit, stop: StopToken) -> Iterator[bytes]:
        size = mean_bytes(unit)
        for block in read_range(self.client, self.range, stop, document_bytes=size):
            yield block.data


def verify(
    source: MongoClient[Any],
    target: MongoClient[Any],
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    stop: StopToken,
    *,
    read_preference: str = "primary",
) -> Verified:
    """Read the range on both sides and compare. Raises `PyMongoError`.

    A job that merges into what the target already held (`--on-conflict`) asks less: every
    document of the source lies on the target; others may lie there too. Documents that the
    restore rejected are missing or different, and known to be: as many are no mismatch.
    """
    there = source_range(unit, chunk, read_preference)
    database, collection = split(unit.target)
    left = Side(source, there)
    here = replace(there, database=database, collection=collection, read_preference="primary")
    right = Side(target, here)
    source_count, source_sum = _digest(left.blocks(unit, stop))
    target_count, target_sum = _digest(right.blocks(unit, stop))
    equal = (source_count, source_sum) == (target_count, target_sum)
    differing = [] if equal else _differences(left, right, unit, stop)
    if spec.on_conflict != "stop":
        differing = [each for each in differing if each.what != "extra"]
    rejected = sum(each.what != "extra" for each in differing)
    known = rejected == chunk.done.rejected and rejected == len(differing)
    equal = equal or known
    return Verified(
        equal=equal,
        source_documents=source_count,
        target_documents=target_count,
        source_digest=f"{source_sum:032x}",
        target_digest=f"{target_sum:032x}",
        rejected=rejected if known else 0,
        differing=tuple(differing[:MAX_DIFFERENCES]),
    )


def _digest(blocks: Iterator[bytes]) -> tuple[int, int]:
    count = total = 0
    for block in blocks:
        for document in documents(block):
            total += int.from_bytes(blake2b(document, digest_size=16).digest())
            count += 1
    return count, total % MODULUS


def _differences(left: Side, right: Side, unit: Unit, stop: StopToken) -> list[Difference]:
    """The documents that differ. Holds 16 bytes and the `_id` of each document of one side."""
    mine = {
        id_of(document): blake2b(document, digest_size=16).digest()
        for block in left.blocks(unit, stop)
        for document in documents(block)
    }
    found: list[Difference] = []
    for block in right.blocks(unit, stop):
        for document in documents(block):
            key = id_of(document)
            expected = mine.pop(key, None)
            if expected is None:
                found.append(Difference(key=to_key(key), what="extra"))
            elif expected != blake2b(document, digest_size=16).digest():
                found.append(Difference(key=to_key(key), what="different"))
    found += [Difference(key=to_key(key), what="missing") for key in mine]
    return found
