"""mongodump's directory: one directory per database, in it two files per collection.

Names, metadata and the set of files are looked at; of the documents only whether they are gzip.
What is there and is not restored is told in notes; what could be data and is not understood is
refused, for else it would be lost without a word.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import bson

from executors.batches import TOLERANT
from executors.boundaries import UNREADABLE
from executors.dumps.beneath import Entry, entries, not_regular, open_file
from executors.dumps.errors import DamagedDump, NoDump, shown
from executors.dumps.gunzip import is_gzip, plain
from executors.dumps.jsonmeta import MAX_BYTES, Metadata, index_spec, parse
from executors.dumps.model import Dump, Dumped, Layout, Type
from executors.dumps.names import BUCKETS, may_be_called, must_be_names
from executors.dumps.pairs import (
    APPLE,
    INDEXES,
    METADATA,
    OTHER_FORM,
    File,
    Listed,
    Pair,
    joined,
    kind_of,
    paired,
)
from executors.metadata import fields
from executors.rawbson import documents
from executors.structure import walk
from statemachine.events import IndexSpec

PRELUDE: Final = ("prelude.json", "prelude.json.gz")
OPLOG: Final = ("oplog.bson", "oplog.bson.gz")
MAX_PRELUDE: Final = 1 << 20
_TOLD: Final = 3
"""So many notes go into an error."""
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?[-+.\w]*")
_SERVERS: Final = (
    "system.profile",
    "system.views",
    "system.namespaces",
    "system.users",
)
"""What servers make themselves, or no server of today takes."""
_SERVERS_DATABASES: Final = ("local", "config")
_OF_ONE_DATABASE: Final = "$admin.system."
"""mongodump keeps users and roles of one database beside its collections."""


def read_directory(
    root: Path, *, database: str | None = None, collection: str | None = None
) -> Dump:
    """The dump in the directory `root`, of one database or one collection if so wanted.

    With `database`, `root` may as well be the directory of one database, which need not bear
    that name. Raises `NoDump` where nothing of that lies there, `DamagedDump`.
    """
    top = entries(root)
    reading = _Reading(root, collection)
    for name, place in _databases(root, top, database):
        reading.read_database(name, place)
    if reading.places == [""]:
        reading.read_prelude_above()
    else:
        reading.read_rest(each for each in top if each.kind != "directory" or database is None)
    of_an_empty_server = database is None and set(reading.preludes) & set(PRELUDE)
    if not reading.found and not of_an_empty_server:
        raise _nothing(root, database, collection, reading.notes)
    return reading.dump("mongodump")


def read_file(path: Path, *, database: str, collection: str) -> Dump:
    """The one `.bson` or `.bson.gz` file at `path` as this collection, with the metadata that
    lies beside it. Raises `NoDump`, `DamagedDump`."""
    reading = _Reading(path.parent, None)
    reading.read_file(path.name, database, collection)
    return reading.dump("file")


def content(root: Path, path: str, limit: int = MAX_BYTES) -> bytes:
    """What a small file holds, unpacked; one byte more than `limit` of what is longer."""
    with open_file(root, path) as file:
        stream = plain(file, is_gzip(file), path)
        data = stream.read(limit + 1)
        while len(data) <= limit and (more := stream.read(limit + 1 - len(data))):
            data += more
        return data


class _Reading:
    """One dump, while its directories are read."""

    def __init__(self, root: Path, collection: str | None) -> None:
        self._root, self._collection = root, collection
        self._wanted = (
            may_be_called(collection) | may_be_called(BUCKETS + collection) if collection else None
        )
        self._version = ""
        self._digest = hashlib.sha256()
        self.found: dict[str, Dumped] = {}
        self.places: list[str] = []
        self.preludes: list[str] = []
        self.notes: list[str] = []

    def dump(self, layout: Layout) -> Dump:
        return Dump(
            root=self._root,
            layout=layout,
            namespaces=tuple(self.found[name] for name in sorted(self.found)),
            server_version=self._version,
            identity=self._digest.hexdigest(),
            notes=tuple(self.notes),
        )

    def read_database(self, database: str, place: str) -> None:
        """All that lies in the directory `place` of one database."""
        self.places.append(place)
        listed = Listed(place, entries(self._root, place), self._wanted)
        if not listed.data and not listed.metadata:
            self._note(place, "no files of collections lie in it")
        self.read_rest(listed.rest, place)
        said = {stem: self._parsed(file) for stem, file in listed.metadata.items()}
        pairs = paired(listed, said)
        old = self._old_indexes(pairs)
        for collection, pair in sorted(pairs.items()):
            if self._is_restored(database, collection, pair):
                self._add(database, collection, pair, old.get(collection, ()))

    def read_rest(self, rest: Iterable[Entry], place: str = "") -> None:
        """What is no collection's, at the top or in a database's directory."""
        for entry in rest:
            path = joined(place, entry.name)
            if entry.kind == "other":
                raise not_regular(path)
            if entry.kind == "directory":
                if path not in self.places:
                    self._note(path, "a directory where none should be")
            elif entry.name in PRELUDE:
                self._read_prelude(self._root, path)
            elif not place and entry.name in OPLOG:
                self._note(path, "changes that were made during the dump are not replayed")
            elif OTHER_FORM.fullmatch(entry.name) and not entry.name.startswith(APPLE):
                raise _other_form(path)
            else:
                self._note(path, "it is no part of a dump")

    def read_file(self, name: str, database: str, collection: str) -> None:
        stem, _ = kind_of(name)
        beside = {entry.name: entry for entry in entries(self._root)}
        plain_stem = stem.removeprefix(BUCKETS)
        buckets = plain_stem != stem or collection.startswith(BUCKETS)
        pair = Pair(File(name, beside[name].bytes), buckets)
        for suffix in METADATA:
            if entry := beside.get(plain_stem + suffix):
                pair.metadata = File(entry.name, entry.bytes)
                pair.said = self._parsed(pair.metadata)
        self._add(database, collection.removeprefix(BUCKETS), pair, ())
        for each in PRELUDE:
            if each in beside:
                self._read_prelude(self._root, each)
        self.read_prelude_above()

    def read_prelude_above(self) -> None:
        """The prelude of all databases lies above the directory of one."""
        above = self._root.absolute().parent
        for each in PRELUDE:
            if not self.preludes and (above / each).is_file():
                self._read_prelude(above, each)

    def _note(self, path: str, why: str) -> None:
        if path:
            self.notes.append(f"{shown(path)} is ignored: {why}")

    def _parsed(self, file: File) -> Metadata:
        data = content(self._root, file.path)
        self._digest.update(_counted(file.path.encode("utf-8", "surrogateescape"), data))
        return parse(data, file.path)

    def _is_restored(self, database: str, collection: str, pair: Pair) -> bool:
        path = pair.path
        if collection.startswith(_OF_ONE_DATABASE):
            self._note(path, f"it holds users and roles of {database} alone")
        elif collection in _SERVERS and (database, collection) != ("admin", "system.users"):
            self._note(path, "servers make it themselves")
        elif database in _SERVERS_DATABASES and re.search(r"^system\.|\$", collection):
            self._note(path, "it belongs to the deployment that was dumped")
        else:
            return True
        return False

    def _old_indexes(self, pairs: dict[str, Pair]) -> dict[str, tuple[IndexSpec, ...]]:
        """The indexes of all collections of a database, as mongodump 2 kept them."""
        pair = pairs.pop(INDEXES, None)
        if not pair or not pair.data or all(each.metadata for each in pairs.values()):
            return {}
        data = content(self._root, pair.data.path)
        self._digest.update(data)
        found: dict[str, tuple[IndexSpec, ...]] = {}
        for collection, index in _indexes_in(data, pair.data.path):
            found[collection] = (*found.get(collection, ()), index)
        return found

    def _add(self, database: str, collection: str, pair: Pair, old: tuple[IndexSpec, ...]) -> None:
        """Put one namespace to those that were found."""
        namespace, path = f"{database}.{collection}", pair.path
        must_be_names(database, collection, file=path)
        said = pair.said or Metadata()
        type_ = _type(pair, said, path)
        if pair.metadata is None:
            lost = "options" if old else "options and indexes"
            self.notes.append(f"{namespace} comes without {lost}: it has no metadata file")
        elif pair.data is None and type_ != "view":
            self.notes.append(f"{namespace} comes without documents: it has no .bson file")
        size = pair.data.bytes if pair.data else 0
        self._digest.update(_counted(namespace.encode(), path.encode(), str(size).encode()))
        self.found[namespace] = Dumped(
            namespace=namespace,
            type=type_,
            options=said.options,
            indexes=said.indexes or old,
            uuid=said.uuid,
            data=pair.data.path if pair.data else "",
            gzip=pair.data is not None and self._is_gzip(pair.data),
            bytes=size,
        )

    def _is_gzip(self, file: File) -> bool:
        """By its bytes; an empty `.gz` is gzip that was cut."""
        with open_file(self._root, file.path) as opened:
            return is_gzip(opened) or (file.bytes == 0 and file.path.endswith(".gz"))

    def _read_prelude(self, root: Path, path: str) -> None:
        """Where the dump comes from, as far as it says."""
        self.preludes.append(path)
        try:
            said = json.loads(content(root, path, MAX_PRELUDE))
            version = said["ServerVersion"]
            if not _VERSION.fullmatch(version):
                raise ValueError(f"{version!r} is no version")
        except (DamagedDump, ValueError, TypeError, KeyError, RecursionError):
            self.notes.append(f"{path} does not tell the version of the server")
            return
        self._version = self._version or version


def _databases(root: Path, top: list[Entry], database: str | None) -> Iterator[tuple[str, str]]:
    """Each database to be read, and its directory."""
    files = [each.name for each in top if each.kind == "file" and kind_of(each.name)[1]]
    folders = [each.name for each in top if each.kind == "directory"]
    if database is not None:
        of_many = set(files) <= set(OPLOG) and database in folders
        yield database, database if of_many else ""
        return
    if lone := [each for each in files if each not in OPLOG]:
        raise NoDump(
            str(root),
            f"{lone[0]} lies where directories of databases should",
            remedy="if this is the directory of one database, name it with -d",
        )
    yield from ((name, name) for name in folders)


def _type(pair: Pair, said: Metadata, path: str) -> Type:
    """What the options say it is; older metadata say nothing else."""
    options = fields(said.options)
    if "viewOn" in options:
        if pair.data:
            raise _contradiction(pair.data.path, "a view has no documents")
        return "view"
    if said.type == "view" and not pair.data:
        raise _contradiction(path, "it is of a view, but does not say of what (viewOn)")
    if "timeseries" in options:
        return "timeseries"
    if pair.buckets or said.type == "timeseries":
        raise _contradiction(
            path, "a time series needs its metadata file, and in it options.timeseries"
        )
    return "collection"


def _indexes_in(data: bytes, path: str) -> Iterator[tuple[str, IndexSpec]]:
    """Collection and index, of each document of `system.indexes`."""
    walked = walk(data)
    if walked.end < len(data):
        why = walked.flaw.why if walked.flaw else "it ends inside a document, or is too long"
        raise DamagedDump(path, why, detail="EDUMP032", at=walked.end)
    for document in documents(data):
        try:
            namespace = bson.decode(document, TOLERANT)["ns"]
        except UNREADABLE:
            raise DamagedDump(path, "an index of no collection", detail="EDUMP032") from None
        if index := index_spec(document, path):
            yield str(namespace).partition(".")[2], index


def _nothing(root: Path, database: str | None, collection: str | None, notes: list[str]) -> NoDump:
    if collection:
        why = f"is a directory, not a bson file, and holds no {database}.{collection}"
    elif database:
        why = f"holds no collection of a database {database!r}"
    else:
        why = "holds no .bson and no .metadata.json files of databases"
    below = next(root.glob("*/*/*.bson*"), None)
    return NoDump(
        str(root),
        "; ".join([why, *notes[:_TOLD]]),
        remedy=f"is the dump in {below.parent.parent}?" if below and not database else "",
    )


def _other_form(path: str) -> DamagedDump:
    return DamagedDump(
        path,
        "it looks like documents in a form that is not read here",
        detail="EDUMP017",
        remedy="make it a plain .bson or .bson.gz file, or take it out",
    )


def _contradiction(path: str, why: str) -> DamagedDump:
    return DamagedDump(path, why, detail="EDUMP034", remedy="make the dump anew")


def _counted(*pieces: bytes) -> bytes:
    """The pieces as one, of which no other pieces can be made."""
    return b"".join(b"%d:%b" % (len(piece), piece) for piece in pieces)
