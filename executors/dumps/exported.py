"""Exports of JSONL, and single files of it, as dumps: their names and files; and their documents
as chunk files.

An export knows no options and no indexes: collections come with their documents alone.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from executors.dumps.beneath import open_file
from executors.dumps.bsonfile import unpack
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.gunzip import Pieces
from executors.dumps.jsonlines import NAMES, Lines
from executors.dumps.model import Damage, Dump, Dumped, Part, StopToken, TextFile
from executors.dumps.names import must_be_names
from executors.dumps.pairs import kind_of
from executors.export.manifest import Collection, Manifest, parsed
from executors.export.names import CLAIM, MANIFEST, SUCCESS
from executors.folder import folder_name
from executors.rawbson import wrap

MOST_BYTES: Final = 1 << 30
"""Of a manifest."""
_NO_OPTIONS: Final = wrap(b"")


def is_export(folder: Path) -> bool:
    """Whether an export lies there, finished or not."""
    return any((folder / name).is_file() for name in (MANIFEST, CLAIM))


def is_text(name: str) -> bool:
    """Whether a file of that name is taken for JSONL."""
    return NAMES.fullmatch(name) is not None and not kind_of(name)[1]


def read_text(path: Path, *, database: str, collection: str) -> Dump:
    """One file, as this collection. Raises `NoDump`, `DamagedDump`."""
    with open_file(path.parent, path.name) as file:
        status = os.fstat(file.fileno())
    text = TextFile(path.name, status.st_size)
    told = f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
    dumped = _dumped(f"{database}.{collection}", (text,))
    return Dump(path.parent, "jsonl", (dumped,), identity=hashlib.sha256(told).hexdigest())


def read_export(folder: Path, *, salvage: bool = False) -> Dump:
    """The export in the folder: finished, and each of its files there, of its size; not looked
    for to `salvage`. Raises `NoDump`, `DamagedDump`, `BadManifest`."""
    if not (folder / MANIFEST).is_file():
        raise _unfinished(folder, f"no {MANIFEST} yet")
    with open_file(folder, MANIFEST) as file:
        raw = file.read(MOST_BYTES)
    manifest = parsed(raw, str(folder))
    if manifest.format != "jsonl":
        raise NoDump(
            str(folder),
            f"an export to {manifest.format}, which is for other readers",
            remedy="dump with `ferrylog dump`, or export to JSONL, to restore it",
        )
    if not salvage:
        _must_be_whole(folder, manifest)
    return Dump(
        root=folder,
        layout="jsonl",
        namespaces=tuple(
            _dumped(each.namespace, tuple(_text(folder, each, salvage=salvage)))
            for each in sorted(manifest.collections, key=lambda each: each.namespace)
            if each.type != "view" or each.files
        ),
        server_version=manifest.server_version,
        consistency=manifest.consistency,
        cluster_time=manifest.cluster_time,
        identity=hashlib.sha256(raw).hexdigest(),
        notes=tuple(_notes(manifest)),
    )


def unpack_texts(
    dump: Dump,
    each: Dumped,
    folder: Path,
    *,
    documents: int,
    bytes_: int,
    stop: StopToken,
    salvage: bool,
) -> Iterator[Part | Damage]:
    """The documents of a collection in chunk files of `folder`, as `bsonfile.unpack` does it; to
    salvage, what is no document is told at the end. Raises `DamagedDump`, `OSError`, `Stopped`."""
    damage: list[Damage] = []
    blocks = text_blocks(dump.root, each, stop, damage if salvage else None)
    yield from unpack(
        cast("BinaryIO", Pieces(blocks)),
        each.namespace,
        folder,
        folder_name(each.namespace),
        documents=documents,
        bytes_=bytes_,
        stop=stop,
    )
    yield from damage


def text_blocks(
    root: Path, each: Dumped, stop: StopToken, damage: list[Damage] | None = None
) -> Iterator[bytes]:
    """The documents of a collection. Raises as `jsonlines.Lines`."""
    for text in each.texts:
        yield from Lines(root, text, stop, damage).blocks()


def _dumped(namespace: str, texts: Sequence[TextFile]) -> Dumped:
    size = sum(each.bytes for each in texts)
    return Dumped(namespace, "collection", _NO_OPTIONS, (), texts=tuple(texts), bytes=size)


def _text(folder: Path, each: Collection, *, salvage: bool) -> Iterator[TextFile]:
    must_be_names(*each.namespace.split(".", 1), file=MANIFEST)
    for file in each.files:
        if not salvage or (folder / file.name).is_file():
            yield TextFile(file.name, file.bytes, file.documents, file.sha256)


def _must_be_whole(folder: Path, manifest: Manifest) -> None:
    """Raise `DamagedDump` unless it is finished, and all its files are there."""
    if manifest.complete and not (folder / SUCCESS).is_file():
        raise _unfinished(folder, f"no {SUCCESS} beside its manifest")
    for each in manifest.collections:
        for file in each.files:
            try:
                with open_file(folder, file.name) as opened:
                    size = os.fstat(opened.fileno()).st_size
            except DamagedDump as error:
                raise DamagedDump(file.name, error.why, detail="EDUMP104") from None
            if size != file.bytes:
                why = f"{size} bytes, the manifest says {file.bytes}"
                raise DamagedDump(file.name, why, detail="EDUMP104")


def _unfinished(folder: Path, why: str) -> DamagedDump:
    return DamagedDump(
        str(folder),
        f"an export that was not finished: {why}",
        detail="EDUMP101",
        remedy="`ferrylog resume` with its journal finishes it; --salvage takes what a manifest "
        "names. Nothing was written",
    )


def _notes(manifest: Manifest) -> Iterator[str]:
    yield "an export holds documents alone: no options, no indexes, no views"
    if manifest.json_form == "relaxed":
        yield "relaxed Extended JSON: whole numbers come as int32 or int64, by their size"
    if manifest.projection or manifest.queries or manifest.since or manifest.transform:
        yield "the export holds what was selected or made of the documents, not all of them"
    for each in manifest.collections:
        if each.type != "collection" and each.files:
            yield f"{each.namespace} was a {each.type}, and comes as a collection"
    yield from (f"not in the export: {each}" for each in manifest.missing)
