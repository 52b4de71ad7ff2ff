"""The manifest: what makes a folder of chunk files a dump, or a link of a chain.

`manifest.json` lies at the root and is written last, so a folder without it is no dump. It is
JSON, one line per chunk, and its last line holds the SHA-256 of all bytes before that line:

    head -n -1 manifest.json | sha256sum

It names each chunk file with its size, its SHA-256 and its number of documents.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from executors.batches import Block
from executors.boundaries import from_text
from executors.chunkfile import DamagedFile, blocks_of, fresh_file, sync_directory
from executors.dumps.beneath import open_file
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.fileset import Lying, beside, in_folder
from executors.dumps.form import (
    DUMP,
    INCREMENT,
    ChunkForm,
    DumpForm,
    Facts,
    IncrementForm,
    LinkForm,
    NamespaceForm,
    lines,
)
from executors.dumps.model import Dump, Dumped, Link, Part, StopToken
from executors.dumps.names import must_be_names
from executors.errors import OutExists
from executors.flaws import Flaw
from executors.increments.model import INCREMENTS
from executors.metadata import split
from executors.protocol import Stopped
from executors.rawbson import int32
from executors.structure import envelope_flaw, flaw, walk
from statemachine.events import IndexSpec
from statemachine.words import BsonText, Key

MANIFEST: Final = "manifest.json"
MAX_BYTES: Final = 512 << 20
"""Of a manifest, which is read as a whole: more than a million chunks."""
_HEAD: Final = re.compile(rb'\{"ferrylog": "([^"\\]{1,40})",\n')
_LAST: Final = re.compile(rb'\n"sha256": "([0-9a-f]{64})"\}\n\Z')
_LAST_BYTES: Final = len('\n"sha256": ""}\n') + 64
_CHUNK_FILE: Final = re.compile(r"[^/\\\0]{1,255}/[^/\\\0]{1,251}\.flb")
_FORMS: Final[dict[str, type[DumpForm] | type[IncrementForm]]] = {
    DUMP: DumpForm,
    INCREMENT: IncrementForm,
}


def write_manifest(
    root: Path, facts: Facts, namespaces: Sequence[Dumped], link: Link | None = None
) -> str:
    """Make the chunk files in `root` a dump, or that link of a chain; returns the manifest's
    SHA-256.

    When this returns, the manifest is whole and durable; when it raises, there is none, or the
    one that was there before. The chunk files are durable already. A manifest of another job is
    never replaced: raises `OutExists` then.
    """
    data, digest = manifest_bytes(facts, namespaces, link)
    temporary = root / (MANIFEST + ".tmp")
    try:
        with fresh_file(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _put(temporary, root, facts.job)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(root)
    return digest


def manifest_bytes(
    facts: Facts, namespaces: Sequence[Dumped], link: Link | None = None
) -> tuple[bytes, str]:
    """The whole manifest, and the SHA-256 that its last line names."""
    body = "".join(lines(facts, namespaces, link)).encode()
    digest = hashlib.sha256(body).hexdigest()
    return b'%b"sha256": "%b"}\n' % (body, digest.encode()), digest


def _put(temporary: Path, root: Path, job: str) -> None:
    """Give the manifest its name."""
    try:
        os.link(temporary, root / MANIFEST)
    except OSError:  # one is there, or the file system has no links
        if (root / MANIFEST).exists() and (by := read_facts(root).job) != job:
            raise OutExists(str(root), f"holds the dump of job {by}") from None
        temporary.rename(root / MANIFEST)


def read_manifest(root: Path, *, alone: bool = False) -> Dump:
    """The dump that lies in `root`.

    The manifest is whole and its own, and each chunk file it names is a regular file in there, of
    the right size; nobody looked into the chunk files. `alone`: nor whether they are there.
    Raises `NoDump`, `DamagedDump`, `OSError`.
    """
    form, identity = parsed(_bytes_of(root))
    must_be_full(form)
    lying = None if alone else partial(in_folder, root)
    return opened(root, form, identity, lying, (MANIFEST, INCREMENTS))


def must_be_full(form: DumpForm | IncrementForm) -> None:
    """Raises `DamagedDump` for the manifest of an increment."""
    if isinstance(form, IncrementForm):
        raise _damaged(
            MANIFEST,
            f"is of increment {form.link.number} of a chain, and no dump by itself",
            "EDUMP090",
            remedy="name the folder of the whole chain, two above: it goes up to there with "
            f"--to-increment {form.link.number}",
        )


def read_link(root: Path) -> tuple[Link, Dump]:
    """The increment that lies in `root`, its own folder, and its place in the chain; otherwise as
    `read_manifest`. Nobody looked at the other links."""
    form, identity = parsed(_bytes_of(root))
    if isinstance(form, DumpForm):
        raise _damaged(MANIFEST, "is that of a full dump", "EDUMP091")
    link = _link(form.link)
    return link, opened(root, form, identity, partial(in_folder, root), (MANIFEST,), link.log)


def read_facts(root: Path) -> Facts:
    """Where the dump or the increment in `root` comes from. Raises as `read_manifest`, which has
    checked it."""
    return parsed(_bytes_of(root))[0].facts


def opened(
    root: Path,
    form: DumpForm | IncrementForm,
    identity: str,
    lying: Lying | None,
    known: Collection[str],
    log: Sequence[Part] = (),
    *,
    url: str = "",
) -> Dump:
    """The dump that a manifest tells of. `lying`: what lies there; `None`: nobody looks. `known`:
    of it, what is no chunk file. Raises `DamagedDump`."""
    namespaces = tuple(map(_dumped, form.namespaces))
    _no_lies(form.namespaces, log, incremental=isinstance(form, IncrementForm))
    parts = {part.file: part for each in namespaces for part in each.parts}
    parts |= {part.file: part for part in log}
    facts = form.facts
    return Dump(
        root=root,
        layout="chunks",
        namespaces=namespaces,
        server_version=facts.server_version,
        consistency=facts.consistency,
        cluster_time=facts.cluster_time,
        identity=identity,
        notes=(*facts.notes, *(beside(lying, known, parts) if lying is not None else ())),
        url=url,
    )


def parsed(raw: bytes) -> tuple[DumpForm | IncrementForm, str]:
    """The manifest, and the SHA-256 that it bears rightly. Raises `DamagedDump`."""
    head = _HEAD.match(raw)
    version = head[1].decode(errors="replace") if head else ""
    if head and version not in _FORMS:
        raise _damaged(
            MANIFEST,
            f"is of version {version}, and this ferrylog reads {' and '.join(_FORMS)}",
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
        return _FORMS[version].model_validate_json(raw), digest
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
            must_not_be_too_large(size)
            return file.read(size)
    except DamagedDump as error:
        if error.detail != "EDUMP011":
            raise
        raise NoDump(str(root), f"no {MANIFEST} in it: no dump, or one not finished") from None


def must_not_be_too_large(size: int) -> None:
    """Raises `DamagedDump`."""
    if size > MAX_BYTES:
        raise _damaged(MANIFEST, f"has {size} bytes, more than {MAX_BYTES}", "EDUMP072")


def _dumped(each: NamespaceForm) -> Dumped:
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
        whole=each.whole,
        documents=each.documents,
        bytes=each.bytes,
    )


def _sound(text: str) -> bytes:
    """The document. Raises `ValueError` where it is none."""
    raw = from_text(text)
    if wrong := flaw(raw):
        raise ValueError(str(wrong))
    return raw


def _part(chunk: ChunkForm) -> Part:
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
        erased=chunk.erased,
    )


def _link(form: LinkForm) -> Link:
    """Raises `DamagedDump` where its token is none."""
    try:
        _sound(form.token)
    except ValueError as error:
        raise _damaged(MANIFEST, f"its token: {error}", "EDUMP060") from None
    log = tuple(map(_part, form.log))
    return Link(form.number, form.parent, form.base, form.since, form.until, form.token, log=log)


def _no_lies(
    namespaces: Sequence[NamespaceForm], log: Sequence[Part], *, incremental: bool
) -> None:
    """Each name once, each file once and in here, sums that are sums."""
    names = [each.namespace for each in namespaces]
    files = [chunk.file for each in namespaces for chunk in each.chunks]
    files += [part.file for part in log]
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
        if any(chunk.erased for chunk in each.chunks) and (each.whole or not incremental):
            why = f"{each.namespace} is held whole, and names documents that are gone"
            raise _damaged(MANIFEST, why, "EDUMP092")


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
    rows = part.documents + part.erased
    if (documents, size) != (rows, part.bytes):
        why = f"holds {documents} documents, and the manifest says {rows}"
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


__all__ = [
    "MANIFEST",
    "Facts",
    "Link",
    "check_file",
    "file_blocks",
    "manifest_bytes",
    "must_be_full",
    "must_not_be_too_large",
    "opened",
    "parsed",
    "read_facts",
    "read_link",
    "read_manifest",
    "write_manifest",
]
