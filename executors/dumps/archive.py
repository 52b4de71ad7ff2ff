"""mongodump's archive: many namespaces in one stream, their blocks interleaved.

    archive  = magic, header, entry*, end, block*
    block    = {db, collection, EOF: false, CRC: 0}, document*, end
             | {db, collection, EOF: true, CRC: <of all its documents>}, end
    end      = ff ff ff ff

Header, entries, block heads and documents are BSON. Each namespace that has an entry ends with
one block that says EOF; an archive in which one does not was cut. The CRC is CRC-64/XZ (Go's
`crc64.ECMA`). Source of the format: mongo-tools, `common/archive`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson import Int64
from fastcrc import crc64

from executors.boundaries import UNREADABLE
from executors.dumps.archivestream import Source
from executors.dumps.errors import DamagedDump
from executors.dumps.names import BUCKETS

MAGIC: Final = b"\x6d\xe2\x99\x81"
END: Final = b"\xff\xff\xff\xff"
FORMAT: Final = "0.1"
"""The only version there ever was."""
MAX_PRELUDE_BYTES: Final = 512 << 20
"""It is held in memory: room for the metadata of half a million collections."""
_RAW_DATA: Final = (8, 3)
"""From this version on, servers give the buckets of a time-series collection under its own
name."""
_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.")
_MASK: Final = (1 << 64) - 1
"""BSON has signed numbers, a CRC has no sign."""
_HEADER: Final[Mapping[str, type]] = {"version": str, "server_version": str, "tool_version": str}
_ENTRY: Final[Mapping[str, type]] = {"db": str, "collection": str, "metadata": str}
_BLOCK: Final[Mapping[str, type]] = {"db": str, "collection": str, "EOF": bool, "CRC": Int64}


@dataclass(frozen=True, slots=True)
class Entry:
    """One namespace, as the prelude tells it."""

    database: str
    collection: str
    metadata: str
    """mongodump's JSON; empty where there is none."""
    type: str
    """`collection`, `view`, `timeseries`; empty when unknown."""
    at: int = 0
    """Where it stands in the archive."""

    @property
    def namespace(self) -> str:
        return f"{self.database}.{self.collection}"


@dataclass(frozen=True, slots=True)
class Prelude:
    """What an archive says before its documents."""

    server_version: str
    tool_version: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Whole documents of one namespace, one after another; or its end."""

    entry: Entry
    data: bytes
    documents: int
    at: int
    """Where they stand in the archive."""
    ended: bool = False
    """Nothing of this namespace follows; its CRC is right."""


def read_prelude(source: Source) -> Prelude:
    """What the archive says of itself; the source stands before the first block then.

    Raises `DamagedDump`, `OSError`.
    """
    if source.take(4) != MAGIC:
        raise source.damaged("this is no archive of mongodump", "EDUMP080", at=0)
    header = _fields(source, source.document_or_end() or b"", _HEADER, "the header")
    if header["version"] != FORMAT:
        why = f"the archive is of version {header['version']!r}, and {FORMAT} is known"
        raise source.damaged(why, "EDUMP081", at=4)
    entries: list[Entry] = []
    while True:
        at = source.at
        raw = source.document_or_end()
        if raw is None:
            break
        entries.append(_entry(source, raw, at))
        if source.at > MAX_PRELUDE_BYTES:
            raise source.damaged(f"the prelude has more than {MAX_PRELUDE_BYTES} bytes", "EDUMP083")
    return Prelude(header["server_version"], header["tool_version"], tuple(entries))


def _entry(source: Source, raw: bytes, at: int) -> Entry:
    told = _fields(source, raw, _ENTRY, "an entry of the prelude", at=at)
    kind = told.get("type", "")
    if kind not in ("", "collection", "view", "timeseries"):
        raise source.damaged(f"a namespace of type {kind!r}", "EDUMP082", at=at)
    return Entry(told["db"], told["collection"], told["metadata"], kind, at)


def _fields(
    source: Source, raw: bytes, shape: Mapping[str, type], what: str, *, at: int | None = None
) -> dict[str, Any]:
    """The document, which has at least these fields, of these types."""
    at = source.at - len(raw) if at is None else at
    try:
        found: dict[str, Any] = bson.decode(raw)
    except UNREADABLE as error:
        raise source.damaged(f"{what} is no document: {error}", "EDUMP082", at=at) from None
    for name, kind in shape.items():
        if type(found.get(name)) is not kind:
            raise source.damaged(f"{what} lacks its {name!r}", "EDUMP082", at=at)
    if shape is _BLOCK and len(found) > len(shape):
        raise source.damaged(f"{what} holds what no head does", "EDUMP082", at=at)
    return found


class Body:
    """The blocks behind the prelude, one after another. All raise `DamagedDump`, `OSError`."""

    def __init__(self, source: Source, prelude: Prelude, *, deep: bool) -> None:
        self._source = source
        self._deep = deep
        self._entries = _by_data(source, prelude)
        self._open: dict[Entry, int] = {}
        self._closed: set[Entry] = set()
        self._distrusted: set[Entry] = set()

    def runs(self) -> Iterator[Run]:
        """All there is, each document looked at inside if this is `deep`."""
        while not self._source.at_end():
            entry, end = self.head()
            yield from (end,) if end else self.documents(entry)
        self.must_be_over()

    def head(self) -> tuple[Entry, Run | None]:
        """Whose documents follow; or, of a block that says EOF, the end, behind it."""
        source, at = self._source, self._source.at
        raw = source.document_or_end()
        if raw is None:
            raise source.damaged("an end mark without a block", "EDUMP087", at=at)
        told = _fields(source, raw, _BLOCK, "the head of a block", at=at)
        entry = self._named(told)
        if entry is None:
            why = f"a block of {told['db']}.{told['collection']}, which is not in the prelude"
            raise source.damaged(why, "EDUMP088", at=at)
        if entry in self._closed:
            raise source.damaged(f"a block of {entry.namespace} behind its end", "EDUMP088", at=at)
        crc = self._open.setdefault(entry, 0)
        if told["CRC"] and not told["EOF"]:
            raise source.damaged("a CRC where nothing ends", "EDUMP082", at=at)
        if not told["EOF"]:
            return entry, None
        if source.document_or_end() is not None:
            raise source.damaged(f"{entry.namespace} goes on behind its end", "EDUMP087", at=at)
        self._closed.add(entry)
        del self._open[entry]
        if int(told["CRC"]) & _MASK != crc and entry not in self._distrusted:
            why = f"{entry.namespace}: its documents do not have the CRC they were written with"
            raise source.damaged(why, "EDUMP089", at=at)
        return entry, Run(entry, b"", 0, at, ended=True)

    def distrust(self, entry: Entry) -> None:
        """Of this one, something was passed over: its CRC cannot be right."""
        self._distrusted.add(entry)

    def is_head(self, raw: bytes) -> bool:
        """Whether this may be the head of a block of this archive."""
        try:
            told = bson.decode(raw)
        except UNREADABLE:
            return False
        return told.keys() == _BLOCK.keys() and self._named(told) is not None

    def _named(self, told: dict[str, Any]) -> Entry | None:
        return self._entries.get((str(told["db"]), str(told["collection"])))

    def documents(self, entry: Entry) -> Iterator[Run]:
        """Those of the block whose head was read."""
        try:
            for lot, count, at in self._source.documents(deep=self._deep):
                self._open[entry] = crc64.xz(lot, self._open[entry])
                yield Run(entry, lot, count, at)
        except DamagedDump as error:
            raise error.of(entry.namespace) from None

    def must_be_over(self) -> None:
        """Raise `DamagedDump` unless each namespace has come to its end."""
        missing = [each.namespace for each in self._entries.values() if each not in self._closed]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            why = f"the archive is cut: it ends before {missing[0]}{more} does"
            raise self._source.damaged(why, "EDUMP085")


def _by_data(source: Source, prelude: Prelude) -> dict[tuple[str, str], Entry]:
    """The entries by the names that their blocks bear."""
    found: dict[tuple[str, str], Entry] = {}
    for entry in prelude.entries:
        name = entry.database, data_collection(entry.collection, entry.type, prelude.server_version)
        if found.setdefault(name, entry) is not entry:
            why = f"{entry.namespace} stands in the prelude twice"
            raise source.damaged(why, "EDUMP088", at=entry.at)
    return found


def data_collection(collection: str, kind: str, server_version: str) -> str:
    """The name under which mongodump keeps the documents of a collection."""
    if kind != "timeseries" or _numbers(server_version) >= _RAW_DATA:
        return collection
    return BUCKETS + collection


def _numbers(version: str) -> tuple[int, ...]:
    """Of `8.3.0-rc1`: 8, 3; none where there are none."""
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else ()


def write_archive(
    write: Callable[[bytes], object],
    prelude: Prelude,
    documents: Callable[[Entry], Iterable[bytes]],
) -> None:
    """Write an archive that mongorestore reads: one namespace after another, in the prelude's
    order; `documents` gives those of one, by the lot."""
    write(MAGIC + _header(prelude))
    for entry in prelude.entries:
        write(_told(entry))
    write(END)
    for entry in prelude.entries:
        data = data_collection(entry.collection, entry.type, prelude.server_version)
        name, crc = {"db": entry.database, "collection": data}, 0
        write(_head(name, crc, end=False))
        for lot in documents(entry):
            crc = crc64.xz(lot, crc)
            write(lot)
        write(END + _head(name, crc, end=True) + END)


def _header(prelude: Prelude) -> bytes:
    return bson.encode(
        {
            "concurrent_collections": 1,
            "version": FORMAT,
            "server_version": prelude.server_version,
            "tool_version": prelude.tool_version,
        }
    )


def _told(entry: Entry) -> bytes:
    return bson.encode(
        {
            "db": entry.database,
            "collection": entry.collection,
            "metadata": entry.metadata,
            "size": 0,
            "type": entry.type,
        }
    )


def _head(name: dict[str, str], crc: int, *, end: bool) -> bytes:
    signed = crc - (1 << 64) if crc >> 63 else crc
    return bson.encode({**name, "EOF": end, "CRC": Int64(signed)})
