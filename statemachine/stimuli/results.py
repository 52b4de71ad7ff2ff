"""What a task that succeeded brings back, and what it tells on the way."""

from dataclasses import dataclass

from statemachine.events import (
    ChainLink,
    Difference,
    FilePart,
    IndexSpec,
    MetadataDifference,
)
from statemachine.state import ChunkFile
from statemachine.words import (
    BsonText,
    ChunkId,
    Found,
    Key,
    UnitId,
    UnitType,
)


@dataclass(frozen=True, slots=True)
class FoundUnit:
    unit: UnitId
    target: str
    type: UnitType
    uuid: str
    options: BsonText
    indexes: tuple[IndexSpec, ...]
    documents: int
    bytes: int
    expires: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    units: tuple[FoundUnit, ...]
    cluster_time: str = ""
    users: int = 0
    roles: int = 0
    """Left where they are."""
    notes: tuple[str, ...] = ()
    damage: tuple["FoundDamage", ...] = ()
    """Of the dump as a whole."""
    since: str = ""
    """The source's cluster time before anything was looked at."""
    links: tuple[ChainLink, ...] = ()
    """Of a chain: the increments to apply."""


@dataclass(frozen=True, slots=True)
class Created:
    built: tuple[str, ...]
    uuid: str = ""
    found: Found = ""
    """What lay under the name before this job came, over all attempts."""


@dataclass(frozen=True, slots=True)
class Censused:
    """What the documents of a unit hold, as the columns of its export."""

    columns: str
    documents: int


@dataclass(frozen=True, slots=True)
class Planned:
    """`n` boundaries cut the `_id` space into `n + 1` chunks, in order."""

    boundaries: tuple[Key, ...]
    documents: int
    """Estimate over all chunks."""
    natural: bool
    conflicts: tuple[tuple[str, str], ...] = ()
    """Of a dry run: code and reason of what will go wrong, or may."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Where the documents of one chunk lie; its range, where the dump tells it."""

    file: ChunkFile
    lower: Key | None = None
    upper: Key | None = None
    natural: bool = False


@dataclass(frozen=True, slots=True)
class FoundDamage:
    file: str
    at: int
    bytes: int
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class PlannedFiles:
    """Chunks by the files of a dump, in order; and what of them cannot be read."""

    files: tuple[FoundFile, ...]
    damage: tuple[FoundDamage, ...] = ()
    conflicts: tuple[tuple[str, str], ...] = ()
    """Of a dry run, as in `Planned`."""


@dataclass(frozen=True, slots=True)
class Split:
    """`n` boundaries cut a chunk's range into `n + 1` parts with so many documents."""

    boundaries: tuple[Key, ...]
    documents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    key: Key
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Dumped:
    file: str
    documents: int
    bytes: int
    file_bytes: int
    blocks: int
    sha256: str
    erased: int = 0
    rejected: int = 0
    rejections: tuple[Rejection, ...] = ()
    parts: tuple[FilePart, ...] = ()
    """Of an export that writes several files for one chunk."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How far a restore came, counted over all its attempts; `position` in the chunk file."""

    position: int
    documents: int
    bytes: int
    present: int
    rejected: int
    rejections: tuple[Rejection, ...] = ()
    """Those since the last news."""
    repaired: int = 0
    """Since the last news too."""


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a copy came, counted over all its attempts; `position` in documents read."""

    position: int
    last_key: Key | None
    documents: int
    bytes: int
    present: int
    rejected: int
    rejections: tuple[Rejection, ...] = ()
    """Those since the last news."""
    repaired: int = 0
    """Since the last news too."""


@dataclass(frozen=True, slots=True)
class Built:
    """An index stands."""


@dataclass(frozen=True, slots=True)
class Verified:
    equal: bool
    source_documents: int
    target_documents: int
    source_digest: str
    target_digest: str
    rejected: int
    differing: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    differing: tuple[MetadataDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifested:
    sha256: str
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Unfiled:
    """Chunk files that a dump was to hold are not as they were written; each with the reason."""

    chunks: tuple[tuple[ChunkId, str], ...]


@dataclass(frozen=True, slots=True)
class Capturing:
    """The keys of all changes up to a cluster time are durable."""

    token: BsonText
    cluster_time: str
    changes: int
    """Over all attempts."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The keys of all changes up to a cluster time are durable, and `units` is what stood then."""

    units: tuple[FoundUnit, ...]
    token: BsonText
    cluster_time: str
    changes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundShard:
    """A key range of a collection in an increment, and the file with its documents."""

    namespace: str
    target: str
    type: UnitType
    lower: Key | None
    upper: Key | None
    file: ChunkFile


@dataclass(frozen=True, slots=True)
class Shaped:
    shards: tuple[FoundShard, ...]
    """Of the increment: the same in every attempt."""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applying:
    """How far the target has a shard, counted over all attempts; `position` in its file."""

    position: int
    last_key: Key | None
    documents: int
    erased: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Settled:
    differing: tuple[MetadataDifference, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """One round: what changed up to `cluster_time` is on the target."""

    token: BsonText
    cluster_time: str
    lag_ms: int
    documents: int = 0
    erased: int = 0
    bytes: int = 0
    changes: tuple[str, ...] = ()
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Operated:
    """An operation of a group is applied."""

    changes: tuple[str, ...] = ()
    """In words."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an operation did is taken back; see `events.UndoCompleted`."""

    documents: int = 0
    kept: int = 0
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """A chunk file is gone."""


Result = (
    Surveyed
    | Created
    | Censused
    | Planned
    | PlannedFiles
    | Split
    | Dumped
    | Restored
    | Copied
    | Built
    | Verified
    | Finished
    | Manifested
    | Unfiled
    | Captured
    | Shaped
    | Applying
    | Settled
    | Followed
    | Operated
    | Undone
    | Released
)
