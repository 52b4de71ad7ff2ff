"""An archive, from any stream, into ferrylog's own layout: chunk files and a manifest.

An archive can be read once, from its beginning to its end; chunk files can be restored in any
order, each again and again. The manifest is the sign that nothing needs to be read again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from executors.dumps.archive import Body, Entry, Run, read_prelude
from executors.dumps.archivesalvage import salvaged
from executors.dumps.archivestream import Source, source_of
from executors.dumps.chunkwriter import ChunkWriter
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.jsonmeta import Metadata, parse
from executors.dumps.manifest import MANIFEST, Facts, read_facts, read_manifest, write_manifest
from executors.dumps.model import Damage, Dump, Dumped, Part, Type
from executors.dumps.names import must_be_names
from executors.metadata import fields
from executors.plan import is_capped
from executors.protocol import Stopped, StopToken

_ADMINS: Final = "admin.system.users"
_OF_ONE_DATABASE: Final = "$admin.system."
"""mongodump keeps users and roles of one database beside its collections."""
_SERVERS: Final = (
    "system.indexes",
    "system.namespaces",
    "system.profile",
    "system.users",
    "system.views",
)
"""What servers make themselves, or no server of today takes."""
_OF_DEPLOYMENTS: Final = re.compile(r"(local|config)\.(system\.|.*\$)")


def unpack_archive(
    opened: Callable[[], BinaryIO],
    name: str,
    folder: Path,
    *,
    documents: int,
    bytes_: int,
    stop: StopToken,
    objcheck: bool,
    salvage: bool,
    wanted: Callable[[str], bool],
) -> tuple[Dump, tuple[Damage, ...]]:
    """Unpack the archive, called `name`, that `opened` opens into `folder`, which is ours alone.

    Called again, it finds the manifest and opens nothing. Every envelope is looked at, with
    `objcheck` every byte of a document, and every CRC compared; also of what is not wanted.
    Raises `DamagedDump`, with `salvage` only where nothing can be told apart: else damage is
    returned, and what is whole is kept. Raises `OSError`, `Stopped`.
    """
    if (found := _complete(folder)) is not None:
        return found
    folder.mkdir(mode=0o700, exist_ok=True)
    damage: list[Damage] | None = [] if salvage else None
    with opened() as stream:
        archive = _Archive(source_of(stream, name, damage), damage, wanted)
        parts = archive.write(
            folder, documents=documents, bytes_=bytes_, objcheck=objcheck, stop=stop
        )
    (folder / MANIFEST).unlink(missing_ok=True)  # of an attempt that was killed
    write_manifest(folder, archive.facts(), archive.dumped(parts))
    return _unpacked(folder)


def _complete(folder: Path) -> tuple[Dump, tuple[Damage, ...]] | None:
    """What was unpacked before, if it was to the end. Chunk files that were restored since may be
    gone."""
    try:
        return _unpacked(folder)
    except (NoDump, DamagedDump):
        return None


def _unpacked(folder: Path) -> tuple[Dump, tuple[Damage, ...]]:
    return read_manifest(folder, alone=True), read_facts(folder).damage


class _Archive:
    """An archive whose prelude was read."""

    def __init__(
        self, source: Source, damage: list[Damage] | None, wanted: Callable[[str], bool]
    ) -> None:
        self._source, self._damage = source, damage
        self._prelude = read_prelude(source)
        self._left: Counter[str] = Counter()
        self._known: dict[Entry, Dumped] = {}
        names: set[str] = set()
        for entry in self._prelude.entries:
            if _is_left(entry):
                self._left[entry.namespace] = 0
                continue
            self._check_name(entry, names)
            if wanted(entry.namespace):
                self._known[entry] = self._dumped(entry)

    def write(
        self, folder: Path, *, documents: int, bytes_: int, objcheck: bool, stop: StopToken
    ) -> dict[str, tuple[Part, ...]]:
        """Write the chunk files; the parts by namespace."""
        whole = {each.namespace for each in self._known.values() if is_capped(each.options)}
        with ChunkWriter(folder, documents=documents, bytes_=bytes_, whole=whole) as writer:
            for run in self._runs(objcheck):
                if stop.is_set():
                    raise Stopped
                self._take(run, writer)
            return writer.finish()

    def facts(self) -> Facts:
        return Facts(
            tool_version=self._prelude.tool_version,
            source=self._source.name,
            server_version=self._prelude.server_version,
            notes=tuple(
                f"{namespace.removeprefix('.')} of the archive is ignored: {count} documents"
                for namespace, count in self._left.items()
            ),
            damage=tuple(self._damage or ()),
        )

    def dumped(self, parts: Mapping[str, tuple[Part, ...]]) -> list[Dumped]:
        return [replace(each, parts=parts.get(each.namespace, ())) for each in self._known.values()]

    def _runs(self, objcheck: bool) -> Iterator[Run]:
        if self._damage is not None:
            return salvaged(self._source, self._prelude, self._damage)
        return Body(self._source, self._prelude, deep=objcheck).runs()

    def _take(self, run: Run, writer: ChunkWriter) -> None:
        if (dumped := self._known.get(run.entry)) is None:
            if run.entry.namespace in self._left:
                self._left[run.entry.namespace] += run.documents
        elif run.ended:
            writer.end(dumped.namespace)
        elif dumped.type == "view" and run.documents:
            why = f"documents of {dumped.namespace}, which is a view"
            raise self._source.damaged(why, "EDUMP034", at=run.at)
        else:
            writer.add(dumped.namespace, run.data, run.documents)

    def _check_name(self, entry: Entry, names: set[str]) -> None:
        """Servers take it, and it was not there before."""
        try:
            must_be_names(entry.database, entry.collection)
        except DamagedDump as error:
            raise self._source.damaged(error.why, error.detail, at=entry.at) from None
        if entry.namespace in names:
            why = f"{entry.namespace} stands in the prelude twice"
            raise self._source.damaged(why, "EDUMP088", at=entry.at)
        names.add(entry.namespace)

    def _dumped(self, entry: Entry) -> Dumped:
        metadata = self._metadata(entry)
        kind = _kind(metadata)
        told = {entry.type, metadata.type} - {"", kind}
        if told and not (told == {"view"} and kind == "collection"):
            why = f"{entry.namespace} is called a {min(told)}, and its options are of a {kind}"
            raise self._source.damaged(why, "EDUMP034", at=entry.at)
        if metadata.collection not in ("", entry.collection):
            why = f"the metadata of {entry.namespace} is of {metadata.collection}"
            raise self._source.damaged(why, "EDUMP034", at=entry.at)
        return Dumped(entry.namespace, kind, metadata.options, metadata.indexes, metadata.uuid)

    def _metadata(self, entry: Entry) -> Metadata:
        if not entry.metadata:
            return Metadata()
        try:
            return parse(entry.metadata.encode(), entry.namespace)
        except DamagedDump as error:
            why = f"{entry.namespace}: {error.why}"
            if self._damage is None or entry.type not in ("", "collection"):
                raise self._source.damaged(why, error.detail, at=entry.at) from None
            size = len(entry.metadata)
            self._damage.append(Damage(self._source.name, entry.at, size, error.detail, why))
            return Metadata()


def _is_left(entry: Entry) -> bool:
    """Whether it is no collection that could be restored: the oplog, users of one database, what
    belongs to the deployment that was dumped."""
    if entry.namespace == _ADMINS:
        return False
    return (
        (entry.database, entry.collection) == ("", "oplog")
        or entry.collection.startswith(_OF_ONE_DATABASE)
        or entry.collection in _SERVERS
        or _OF_DEPLOYMENTS.match(entry.namespace) is not None
    )


def _kind(metadata: Metadata) -> Type:
    """mongodump calls a view that it dumped as a collection a view still, without `viewOn`."""
    options = fields(metadata.options)
    if "viewOn" in options:
        return "view"
    return "timeseries" if "timeseries" in options else "collection"
