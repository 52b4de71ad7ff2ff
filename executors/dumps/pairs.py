"""The files in the directory of one database, put together by collection."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from executors.dumps.beneath import Entry, not_regular
from executors.dumps.errors import DamagedDump
from executors.dumps.jsonmeta import Metadata
from executors.dumps.names import BUCKETS, collection_of, file_name

DATA: Final = (".bson", ".bson.gz", ".bin")
"""The last one is of very old mongodumps."""
METADATA: Final = (".metadata.json", ".metadata.json.gz")
APPLE: Final = "._"
"""What macOS puts beside each file on foreign file systems; no collection begins so."""
OTHER_FORM: Final = re.compile(
    r".*\.bson(\.(gz|zst|xz|bz2|lz4|lzo|br|sz|snappy|zip|7z|gpg|age|enc))?",
    re.IGNORECASE | re.DOTALL,
)
"""Names that documents in another form may have."""
INDEXES: Final = "system.indexes"
"""Where servers before 3.0 kept all indexes of a database."""
Kind = Literal["data", "metadata", ""]


@dataclass(frozen=True, slots=True)
class File:
    path: str
    bytes: int


@dataclass(slots=True)
class Pair:
    """The files of one namespace."""

    data: File | None = None
    buckets: bool = False
    """The data are those of a time series, as buckets."""
    metadata: File | None = None
    said: Metadata | None = None

    @property
    def path(self) -> str:
        """Of one of them."""
        file = self.data or self.metadata
        assert file is not None, "a pair has at least one file"
        return file.path


class Listed:
    """The files of one database's directory, by their names less the extension."""

    def __init__(self, place: str, found: list[Entry], wanted: frozenset[str] | None) -> None:
        self.data: dict[str, File] = {}
        self.metadata: dict[str, File] = {}
        self.rest: list[Entry] = []
        for entry in found:
            stem, kind = kind_of(entry.name)
            if not kind:
                self.rest.append(entry)
            elif entry.kind != "file":
                raise _no_file(joined(place, entry.name), entry)
            elif not wanted or stem in wanted or stem == INDEXES:
                self._put(stem, kind, File(joined(place, entry.name), entry.bytes))

    def _put(self, stem: str, kind: Kind, file: File) -> None:
        files = self.data if kind == "data" else self.metadata
        if stem in files:
            raise _twice(files[stem].path, file.path)
        files[stem] = file


def paired(listed: Listed, said: Mapping[str, Metadata]) -> dict[str, Pair]:
    """The files by collection; buckets and metadata of a time series come together."""
    pairs: dict[str, Pair] = {}
    buckets = {file_name(BUCKETS + each.collection): each.collection for each in said.values()}
    for stem, file in listed.metadata.items():
        name = collection_of(stem, said[stem].collection, file=file.path)
        pair = pairs.setdefault(name, Pair())
        if pair.metadata:
            raise _twice(pair.metadata.path, file.path)
        pair.metadata, pair.said = file, said[stem]
    for stem, file in listed.data.items():
        told = said[stem].collection if stem in said else ""
        if not told and stem in buckets:
            told = BUCKETS + buckets[stem]
        name = collection_of(stem, told, file=file.path)
        pair = pairs.setdefault(name.removeprefix(BUCKETS), Pair())
        if pair.data:
            raise _twice(pair.data.path, file.path)
        pair.data, pair.buckets = file, name.startswith(BUCKETS)
    return pairs


def kind_of(name: str) -> tuple[str, Kind]:
    """The name of a file, less its extension, and what it should hold."""
    known: tuple[tuple[Kind, tuple[str, ...]], ...] = (("metadata", METADATA), ("data", DATA))
    for kind, suffixes in known:
        for suffix in suffixes:
            if name.endswith(suffix) and not name.startswith(APPLE):
                return name.removesuffix(suffix), kind
    return name, ""


def joined(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _no_file(path: str, entry: Entry) -> DamagedDump:
    if entry.kind == "other":
        return not_regular(path)
    return DamagedDump(
        path,
        "is a directory, not a bson file",
        detail="EDUMP010",
        remedy="take it out of the dump",
    )


def _twice(one: str, other: str) -> DamagedDump:
    return DamagedDump(
        other,
        f"it is of the same collection as {one}",
        detail="EDUMP014",
        remedy="take out the one that should not be restored",
    )
