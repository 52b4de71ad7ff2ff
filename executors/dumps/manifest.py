"""The manifest: what makes a folder of chunk files a dump.

`manifest.json` lies at the root and is written last, so a folder without it is no dump. It is
JSON, one line per chunk, and its last line holds the SHA-256 of all bytes before that line:

    head -n -1 manifest.json | sha256sum

It names each chunk file with its size, its SHA-256 and its number of documents.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, StringConstraints, ValidationError

from executors.batches import Block
from executors.boundaries import from_text, to_text
from executors.chunkfile import DamagedFile, blocks_of, sync_directory
from executors.dumps.beneath import open_file
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.fileset import beside
from executors.dumps.model import Damage, Dump, Dumped, Part, StopToken, Type
from executors.dumps.names import must_be_names
from executors.flaws import Flaw
from executors.metadata import split
from executors.protocol import Stopped
from executors.rawbson import int32
from executors.structure import envelope_flaw, flaw, walk
from statemachine.events import IndexSpec
from statemachine.words import BsonText, Key

MANIFEST: Final = "manifest.json"
VERSION: Final = "dump/1"
MAX_BYTES: Final = 512 << 20
"""Of a manifest, which is read as a whole: more than a million chunks."""
_HEAD: Final = re.compile(rb'\{"ferrylog": "([^"\\]{1,40})",\n')
_LAST: Final = re.compile(rb'\n"sha256": "([0-9a-f]{64})"\}\n\Z')
_LAST_BYTES: Final = len('\n"sha256": ""}\n') + 64
_HOW: Final = "SHA-256 of all bytes before the last line: head -n -1 manifest.json | sha256sum"
_CHUNK_FILE: Final = re.compile(r"[^/\\\0]{1,255}/[^/\\\0]{1,251}\.flb")

_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Facts(_Strict):
    """Where a dump comes from, and what it was to hold."""

    tool_version: str
    job: str = ""
    created: str = ""
    """ISO 8601, UTC."""
    source: str = ""
    """Without credentials."""
    source_id: str = ""
    server_version: str = ""
    consistency: Literal["", "fuzzy", "snapshot"] = ""
    cluster_time: str = ""
    """`seconds.increment` of all documents, of a snapshot."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    queries: tuple[tuple[str, str], ...] = ()
    """As in `JobSpec`."""
    users: bool = False
    notes: tuple[str, ...] = ()
    """What was left out, in words for the operator."""
    damage: tuple[Damage, ...] = ()
    """Of what it was unpacked from."""


class _Chunk(_Strict):
    file: str
    documents: NonNegativeInt
    bytes: NonNegativeInt
    file_bytes: NonNegativeInt
    sha256: _Sha256
    lower: str | None = None
    upper: str | None = None
    natural: bool = False


class _Index(_Strict):
    name: str
    unique: bool
    spec: str


class _Namespace(_Strict):
    namespace: str
    type: Type
    uuid: str
    options: str
    indexes: tuple[_Index, ...]
    documents: NonNegativeInt
    bytes: NonNegativeInt
    chunks: tuple[_Chunk, ...]


class _Manifest(_Strict):
    ferrylog: Literal["dump/1"]
    checksum: str
    facts: Facts
    namespaces: tuple[_Namespace, ...]
    sha256: str


def write_manifest(root: Path, facts: Facts, namespaces: Sequence[Dumped]) -> str:
    """Make the chunk files in `root` a dump; returns the manifest's SHA-256.

    When this returns, the manifest is whole and durable; when it raises, there is none, or the
    one that was there before. The chunk files are durable already.
    """
    body = "".join(_lines(facts, namespaces)).encode()
    digest = hashlib.sha256(body).hexdigest()
    temporary = root / (MANIFEST + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(body)
            file.write(b'"sha256": "%b"}\n' % digest.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(root / MANIFEST)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(root)
    return digest


def _lines(facts: Facts, namespaces: Sequence[Dumped]) -> Iterator[str]:
    yield f'{{"ferrylog": "{VERSION}",\n"checksum": {_json(_HOW)},\n'
    yield f'"facts": {_json(facts.model_dump(mode="json"))},\n"namespaces": ['
    between = "\n"
    for each in sorted(namespaces, key=lambda each: each.namespace):
        head = {
            "namespace": each.namespace,
            "type": each.type,
            "uuid": each.uuid,
            "options": to_text(each.options),
            "indexes": [index.model_dump() for index in each.indexes],
            "documents": sum(part.documents for part in each.parts),
            "bytes": sum(part.bytes for part in each.parts),
        }
        yield f'{between}{_json(head)[:-1]}, "chunks": ['
        yield ",".join("\n" + _json(_chunk(part)) for part in each.parts)
        yield "]}"
        between = ",\n"
    yield "\n],\n"


def _chunk(part: Part) -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": part.file,
        "documents": part.documents,
        "bytes": part.bytes,
        "file_bytes": part.file_bytes,
        "sha256": part.sha256,
    }
    if part.lower is not None:
        told["lower"] = part.lower
    if part.upper is not None:
        told["upper"] = part.upper
    if part.natural:
        told["natural"] = True
    return told


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_manifest(root: Path, *, alone: bool = False) -> Dump:
    """The dump that lies in `root`.

    The manifest is whole and its own, and each chunk file it names is a regular file in there, of
    the right size; nobody looked into the chunk files. `alone`: nor whether they are there.
    Raises `NoDump`, `DamagedDump`, `OSError`.
    """
    manifest, identity = _load(root)
    namespaces = tuple(map(_dumped, manifest.namespaces))
    _no_lies(manifest.namespaces)
    parts = {part.file: part for each in namespaces for part in each.parts}
    facts = manifest.facts
    return Dump(
        root=root,
        layout="chunks",
        namespaces=namespaces,
        server_version=facts.server_version,
        consistency=facts.consistency,
        cluster_time=facts.cluster_time,
        identity=identity,
        notes=(*facts.notes, *(() if alone else beside(root, MANIFEST, parts))),
    )


def read_facts(root: Path) -> Facts:
    """Where the dump in `root` comes from. Raises as `read_manifest`, which has checked it."""
    return _load(root)[0].facts


def _load(root: Path) -> tuple[_Manifest, str]:
    raw = _bytes_of(root)
    head = _HEAD.match(raw)
    if head and head[1] != VERSION.encode():
        version = head[1].decode(errors="replace")
        raise _damaged(
            MANIFEST,
            f"is of version {version}, and this ferrylog reads {VERSION}",
            "EDUMP062",
            remedy="restore with the ferrylog that made the dump, or a newer one",
        )
    last = _LAST.search(raw, max(0, len(raw) - _LAST_BYTES))
    if not head or not last:
        raise _damaged(MANIFEST, "is not a manifest, or not a whole one", "EDUMP060", at=len(raw))
    digest = hashlib.sha256(memoryview(raw)[: last.start() + 1]).hexdigest()
    if digest != last[1].decode():
        raise _damaged(MANIFEST, "does not have the SHA-256 that its last line names", "EDUMP061")
    try:
        return _Manifest.model_validate_json(raw), digest
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged(MANIFEST, f"{where}: {first['msg']}", "EDUMP060") from None


def _bytes_of(root: Path) -> bytes:
    if not root.exists():
        raise NoDump(str(root), "there is no such directory")
    if not root.is_dir():
        raise NoDump(str(root), "a file, and a directory is expected")
    try:
        with open_file(root, MANIFEST) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise _damaged(MANIFEST, f"has {size} bytes, more than {MAX_BYTES}", "EDUMP072")
            return file.read(size)
    except DamagedDump as error:
        if error.detail != "EDUMP011":
            raise
        raise NoDump(str(root), f"no {MANIFEST} in it: no dump, or one not finished") from None


def _dumped(each: _Namespace) -> Dumped:
    """Raises `DamagedDump` for what cannot be a namespace."""
    must_be_names(*split(each.namespace), file=MANIFEST)
    try:
        options = _sound(each.options)
        for index in each.indexes:
            _sound(index.spec)
    except ValueError as error:
        raise _damaged(MANIFEST, f"{each.namespace}: {error}", "EDUMP060") from None
    return Dumped(
        namespace=each.namespace,
        type=each.type,
        options=options,
        indexes=tuple(
            IndexSpec(name=index.name, unique=index.unique, spec=BsonText(index.spec))
            for index in each.indexes
        ),
        uuid=each.uuid,
        parts=tuple(map(_part, each.chunks)),
        documents=each.documents,
        bytes=each.bytes,
    )


def _sound(text: str) -> bytes:
    """The document. Raises `ValueError` where it is none."""
    raw = from_text(text)
    if wrong := flaw(raw):
        raise ValueError(str(wrong))
    return raw


def _part(chunk: _Chunk) -> Part:
    return Part(
        file=chunk.file,
        at=0,
        file_bytes=chunk.file_bytes,
        documents=chunk.documents,
        bytes=chunk.bytes,
        sha256=chunk.sha256,
        lower=None if chunk.lower is None else Key(chunk.lower),
        upper=None if chunk.upper is None else Key(chunk.upper),
        natural=chunk.natural,
    )


def _no_lies(namespaces: Sequence[_Namespace]) -> None:
    """Each name once, each file once and in here, sums that are sums."""
    names = [each.namespace for each in namespaces]
    files = [chunk.file for each in namespaces for chunk in each.chunks]
    for what in (names, files):
        if len(set(what)) != len(what):
            twice = next(each for each in what if what.count(each) > 1)
            raise _damaged(MANIFEST, f"{twice} stands in it twice", "EDUMP067")
    for file in files:
        if not _CHUNK_FILE.fullmatch(file) or {".", ".."} & set(file.split("/")):
            raise _damaged(MANIFEST, f"{file!r} is no name of a chunk file", "EDUMP066")
    for each in namespaces:
        documents = sum(chunk.documents for chunk in each.chunks)
        size = sum(chunk.bytes for chunk in each.chunks)
        if (documents, size) != (each.documents, each.bytes):
            why = f"{each.namespace}: its chunks do not add up to its sums"
            raise _damaged(MANIFEST, why, "EDUMP068")
        if each.type == "view" and each.chunks:
            raise _damaged(MANIFEST, f"{each.namespace} is a view, with documents", "EDUMP034")


def check_file(root: Path, part: Part, stop: StopToken, *, objcheck: bool) -> None:
    """Raise `DamagedDump` unless the chunk file is, to the byte, the one the manifest names, and
    every document in it is one: by its envelope, with `objcheck` by every byte.

    Raises `Stopped`, `OSError`.
    """
    for block, at in file_blocks(root, part, stop):
        _check_block(part.file, at, block, objcheck=objcheck)


def file_blocks(root: Path, part: Part, stop: StopToken) -> Iterator[tuple[Block, int]]:
    """The blocks of a chunk file, each with its offset.

    Who has taken the last one knows that the file is, to the byte, the one the manifest names.
    Raises `DamagedDump`, `Stopped`, `OSError`.
    """
    digest = hashlib.sha256()
    documents = size = at = 0
    with open_file(root, part.file) as file:

        def read(count: int) -> bytes:
            piece = file.read(count)
            digest.update(piece)
            return piece

        try:
            for block, after in blocks_of(read, part.file):
                if stop.is_set():
                    raise Stopped
                yield block, at
                documents += block.documents
                size += len(block.data)
                at = after
        except DamagedFile as error:
            raise _damaged(part.file, str(error), "EDUMP070", at=at) from None
    if (at, digest.hexdigest()) != (part.file_bytes, part.sha256):
        raise _damaged(part.file, "does not have the SHA-256 it was written with", "EDUMP069")
    if (documents, size) != (part.documents, part.bytes):
        why = f"holds {documents} documents, and the manifest says {part.documents}"
        raise _damaged(part.file, why, "EDUMP071", at=at)


def _check_block(file: str, at: int, block: Block, *, objcheck: bool) -> None:
    data = block.data
    documents, end, wrong = walk(data)
    if wrong is None and end < len(data):
        wrong = envelope_flaw(data, end)
    if objcheck and wrong is None:
        wrong = next(_flaws(data), None)
    if wrong is not None:
        where = f"byte {wrong.at} of the documents of the block: {wrong.path} {wrong.why}"
        raise _damaged(file, where, wrong.code, at=at)
    if documents != block.documents:
        why = f"the block holds {documents} documents, and its head says {block.documents}"
        raise _damaged(file, why, "EDUMP070", at=at)


def _flaws(data: bytes) -> Iterator[Flaw]:
    """What is wrong inside documents whose envelopes are right."""
    begin = 0
    while begin < len(data):
        end = begin + int32(data, begin)[0]
        wrong = flaw(data, begin, end)
        if wrong and not wrong.whole:
            yield wrong
        begin = end


def _damaged(
    file: str, why: str, detail: str, *, at: int | None = None, remedy: str = ""
) -> DamagedDump:
    return DamagedDump(file, why, detail=detail, at=at, remedy=remedy)
