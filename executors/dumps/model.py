"""What a dump holds, whatever wrote it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from executors.protocol import StopToken
from statemachine.events import IndexSpec
from statemachine.words import Key

Layout = Literal["chunks", "mongodump", "file", "jsonl"]
"""ferrylog's own; mongodump's directory; one `.bson` file; JSONL, an export or one file."""
Type = Literal["collection", "view", "timeseries"]


@dataclass(frozen=True, slots=True)
class Part:
    """Whole documents, one after another, in one file: what one chunk of a restore carries."""

    file: str
    """Relative to the folder it lies in. Ends in `.flb` (see `executors.chunkfile`), else it holds
    plain BSON."""
    at: int
    """Offset of its first byte; 0 in a chunk file, which is always whole."""
    file_bytes: int
    """From there on, in the file."""
    documents: int
    bytes: int
    """Of the documents, uncompressed."""
    sha256: str
    """Of its bytes in the file."""
    lower: Key | None = None
    upper: Key | None = None
    """The range of `_id`s it stands for, as of a chunk; only of ferrylog's own dumps."""
    natural: bool = False
    erased: int = 0
    """Rows of documents that are gone, beside the documents; only of an increment."""


@dataclass(frozen=True, slots=True)
class Link:
    """The place of an increment in a chain, as its manifest tells it (`increments.model`)."""

    number: int
    parent: str
    """SHA-256 of the manifest of the link before it."""
    base: str
    """SHA-256 of the full dump's manifest."""
    since: str
    until: str
    token: str
    log: tuple[Part, ...] = ()
    """Every event of the stream, in order of time; none where they were not kept."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a dump that are no document; only told when the rest is to be salvaged."""

    file: str
    at: int
    """Offset in the uncompressed bytes."""
    bytes: int
    """Passed over; those to the end of the file where nothing whole was found behind."""
    code: str
    """Stable: `EBSON...`, `EDUMP...`."""
    why: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of JSONL; what is not known of it is not looked at."""

    name: str
    """Relative to the root."""
    bytes: int
    documents: int | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Dumped:
    """One namespace of a dump."""

    namespace: str
    type: Type
    options: bytes
    """Raw BSON, as `listCollections` gives them."""
    indexes: tuple[IndexSpec, ...]
    """All but the one over `_id`."""
    uuid: str = ""
    """On the source, hexadecimal, where the dump knows it."""
    data: str = ""
    """Of a mongodump directory or a single file: the `.bson` or `.bson.gz`, relative to the root;
    empty when there is none (views)."""
    gzip: bool = False
    parts: tuple[Part, ...] = ()
    """Of ferrylog's own layout."""
    texts: tuple[TextFile, ...] = ()
    """Of JSONL, in order."""
    whole: bool = False
    """Of an increment: its parts hold all documents, not only those that changed."""
    documents: int = 0
    bytes: int = 0
    """Exact in ferrylog's own layout; of others documents are unknown (0) and bytes those of the
    file."""


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump that was opened: its names, metadata and file set are in order; its documents were
    not looked at."""

    root: Path
    layout: Layout
    namespaces: tuple[Dumped, ...]
    """By name."""
    server_version: str = ""
    """Of the source; empty when unknown."""
    consistency: str = ""
    cluster_time: str = ""
    """`seconds.increment` of all documents, of a snapshot."""
    identity: str = ""
    """SHA-256 that tells this dump from another one: of the manifest, or of names, sizes and
    metadata."""
    notes: tuple[str, ...] = ()
    """What lies there and is not restored, in words for the operator: `oplog.bson is ignored`."""
    url: str = ""
    """Of the store that it lies in; then nothing lies at its root."""

    @property
    def where(self) -> str:
        return self.url or str(self.root)


class NeverStops:
    """A stop token for those who run to the end."""

    def is_set(self) -> bool:
        return False


__all__ = [
    "Damage",
    "Dump",
    "Dumped",
    "Layout",
    "Link",
    "NeverStops",
    "Part",
    "StopToken",
    "TextFile",
    "Type",
]
