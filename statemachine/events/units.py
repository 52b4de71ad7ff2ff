"""Units and chunks."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Event, OfChunk, OfUnit
from statemachine.events.spec import IndexSpec
from statemachine.words import (
    BatchCause,
    BsonText,
    Key,
    Place,
    UnitId,
    UnitType,
)


class UnitRegistered(OfUnit):
    """A collection or view of the source belongs to the job."""

    kind: Literal["unit_registered"] = "unit_registered"
    target: str
    type: UnitType
    uuid: str
    """The collection's UUID on the source, hexadecimal; empty for a view."""
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents: NonNegativeInt
    bytes: NonNegativeInt
    expires: bool
    """The server deletes documents by their age: switched on when everything else is done."""


class ChunkPlanned(OfChunk):
    """A key range of a unit became a chunk: from `lower` (included) to `upper` (not included).

    `None` is the open end: below every `_id` of every type, above every one (MaxKey included).
    """

    kind: Literal["chunk_planned"] = "chunk_planned"
    unit: UnitId
    lower: Key | None
    upper: Key | None
    documents: NonNegativeInt
    """An estimate."""
    natural: bool
    """Read in insertion order (capped collections) instead of `_id` order."""


class FileFound(OfChunk):
    """The chunk's documents lie in a dump, whole: they need not be dumped."""

    kind: Literal["file_found"] = "file_found"
    file: str
    place: Place
    at: NonNegativeInt
    """Offset of its first byte."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    """Of the documents, uncompressed."""
    file_bytes: NonNegativeInt
    sha256: str
    """Of its bytes in the file."""


class DamageFound(OfUnit):
    """Bytes of the unit's file are no documents; what is whole around them is carried. Without
    a unit: of an archive, where nobody can tell whose they were."""

    kind: Literal["damage_found"] = "damage_found"
    file: str
    at: NonNegativeInt
    """Offset in the uncompressed bytes."""
    bytes: NonNegativeInt
    code: str
    why: str

    @property
    def about(self) -> str:
        return self.unit or "job"


class UnitCompleted(OfUnit):
    """Every chunk of the unit is settled and every index was tried."""

    kind: Literal["unit_completed"] = "unit_completed"


class UnitSkipped(OfUnit):
    """A task of the unit was dead-lettered and the policy is to go on without the unit."""

    kind: Literal["unit_skipped"] = "unit_skipped"
    why: str


class UnitExcluded(OfUnit):
    """Somebody took the unit out of the job; what the target has of it stays there."""

    kind: Literal["unit_excluded"] = "unit_excluded"
    by: str
    request: NonNegativeInt


class ConflictForeseen(OfUnit):
    """A dry run saw what will go wrong, or may."""

    kind: Literal["conflict_foreseen"] = "conflict_foreseen"
    code: str
    why: str


class SplitRequested(OfChunk):
    """The chunk is to be cut in two: somebody finds it too big, or something in it fails."""

    kind: Literal["split_requested"] = "split_requested"
    by: str
    request: NonNegativeInt
    why: str


class ChunkReplaced(OfChunk):
    """Other chunks, planned next, cover the range of this one: they begin from nothing."""

    kind: Literal["chunk_replaced"] = "chunk_replaced"
    by: str
    request: NonNegativeInt
    why: str


class ChunkDropped(OfChunk):
    """The job goes on without this chunk; its documents count as rejected."""

    kind: Literal["chunk_dropped"] = "chunk_dropped"
    by: str
    request: NonNegativeInt
    documents: NonNegativeInt
    """Not carried; an estimate."""
    why: str


class IndexDropped(Event):
    """The job goes on without this index of the target."""

    kind: Literal["index_dropped"] = "index_dropped"
    entity: str
    by: str
    request: NonNegativeInt

    @property
    def about(self) -> str:
        return self.entity


class ChunkReleased(OfChunk):
    """The chunk's file is no longer needed and is gone."""

    kind: Literal["chunk_released"] = "chunk_released"


class ChunkKept(OfChunk):
    """The chunk is settled but its file stays in the work folder."""

    kind: Literal["chunk_kept"] = "chunk_kept"
    why: str


class BatchResized(OfUnit):
    """Write commands for the unit hold another number of documents from now on; smaller changes
    between two such events stand in the log only."""

    kind: Literal["batch_resized"] = "batch_resized"
    documents: PositiveInt
    """At most, in one command."""
    bytes: PositiveInt
    """At most, but for a single document that is bigger."""
    was_documents: NonNegativeInt
    """0: nothing was known."""
    was_bytes: NonNegativeInt
    cause: BatchCause
    batch_ms: NonNegativeInt
    """How long the last command took."""


class DocumentsRepaired(OfChunk):
    """Empty timestamps, which a server fills in when it inserts, were put back."""

    kind: Literal["documents_repaired"] = "documents_repaired"
    documents: PositiveInt
    """Since the last such news of the chunk; what is sent again is repaired again."""


class DocumentRejected(OfChunk):
    """The target refused one document, or holds another under the same `_id`."""

    kind: Literal["document_rejected"] = "document_rejected"
    key: Key
    code: str
    why: str
