"""One file of a dump, looked at to its last byte: digests, checksums, every document.

Everything that is wrong with it is found; damage ends the look at a file only where nothing behind
it can be told apart.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Final, Literal

from executors.batches import Block
from executors.chunkfile import READ_BYTES, DamagedFile, blocks_of
from executors.classify import classify
from executors.dumps.archive import read_prelude
from executors.dumps.archivesalvage import salvaged as salvaged_archive
from executors.dumps.archivestream import Source
from executors.dumps.beneath import open_file
from executors.dumps.bsonfile import is_gzip, plain, salvaged
from executors.dumps.errors import DamagedDump
from executors.dumps.jsonlines import Lines
from executors.dumps.model import Damage, Part, StopToken, TextFile
from executors.protocol import Stopped
from executors.rawbson import int32
from executors.structure import envelope_flaw, flaw, walk

Stage = Literal["manifest", "files", "digests", "structure"]
MAX_FOUND: Final = 100
"""Findings told one by one of one file."""
CHECKSUMS: Final = ("EDUMP02", "EDUMP089", "EDUMP102", "EDUMP103", "EDUMP105")
"""How codes begin that say that a checksum does not match, or cannot be reached: of gzip, of a
namespace in an archive, of zstd, of a file of an export."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    stage: Stage
    file: str
    at: int | None
    """Offset in the file, of packed files in what they unpack to; `None`: the file as a whole."""
    code: str
    """Stable: `EBSON...`, `EDUMP...`."""
    why: str


@dataclass(frozen=True, slots=True)
class Work:
    """A file to look at."""

    root: Path
    file: str
    bytes: int
    part: Part | None = None
    """Of a chunk file: what the manifest says of it."""
    archive: bool = False
    text: TextFile | None = None
    """Of a file of JSONL."""


@dataclass(slots=True)
class Looked:
    """What was seen in one file."""

    file: str
    documents: int = 0
    bytes: int = 0
    """Of the documents."""
    digested: bool = False
    """There was a digest or a checksum to compare."""
    found: list[Finding] = field(default_factory=list)
    left: dict[Stage, int] = field(default_factory=dict)
    """Findings beyond those told."""

    def add(self, stage: Stage, at: int | None, code: str, why: str) -> None:
        if len(self.found) < MAX_FOUND:
            self.found.append(Finding(stage, self.file, at, code, why))
        else:
            self.left[stage] = self.left.get(stage, 0) + 1

    def hear(self, damage: Damage | DamagedDump) -> None:
        code = damage.code if isinstance(damage, Damage) else damage.detail
        stage: Stage = "digests" if code.startswith(CHECKSUMS) else "structure"
        self.add(stage, damage.at, code, damage.why)


def look(work: Work, stop: StopToken) -> Looked:
    """Raises `Stopped`; what cannot be read is a finding, too."""
    looked = Looked(work.file)
    try:
        if work.part is not None:
            _chunk_file(work, work.part, looked, stop)
        elif work.archive:
            _archive(work, looked, stop)
        elif work.text is not None:
            _text(work.root, work.text, looked, stop)
        else:
            _bson_file(work, looked, stop)
    except DamagedDump as error:
        looked.hear(error)
    except OSError as error:
        _, code, why = classify(error)
        looked.add("digests", None, code, why)
    return looked


def _chunk_file(work: Work, part: Part, looked: Looked, stop: StopToken) -> None:
    digest, at = hashlib.sha256(), 0
    with open_file(work.root, work.file) as raw, BufferedReader(raw, READ_BYTES) as file:  # type: ignore[type-var]

        def read(count: int) -> bytes:
            piece = file.read(count)
            digest.update(piece)
            if stop.is_set():
                raise Stopped
            return piece

        try:
            for block, after in blocks_of(read, work.file):
                _block(block, at, looked)
                at = after
        except DamagedFile as error:
            looked.add("structure", at, "EDUMP070", str(error))
        while read(READ_BYTES):
            pass
    looked.digested = True
    if digest.hexdigest() != part.sha256:
        why = "does not have the SHA-256 that the manifest names"
        looked.add("digests", None, "EDUMP069", why)
    if (looked.documents, looked.bytes) != (part.documents, part.bytes):
        why = (
            f"holds {looked.documents} documents of {looked.bytes} bytes, the manifest says "
            f"{part.documents} of {part.bytes}"
        )
        looked.add("structure", None, "EDUMP071", why)


def _block(block: Block, at: int, looked: Looked) -> None:
    """`at`: where the block begins in its file; places in it are told beside."""
    data, walked = block.data, walk(block.data)
    begin = 0
    for _ in range(walked.documents):
        end = begin + int32(data, begin)[0]
        wrong = flaw(data, begin, end)
        if wrong is not None and not wrong.whole:
            looked.add("structure", at, wrong.code, f"in the block that begins here: {wrong}")
        begin = end
    if begin < len(data):
        wrong = envelope_flaw(data, begin)
        assert wrong is not None
        looked.add("structure", at, wrong.code, f"in the block that begins here: {wrong}")
    elif walked.documents != block.documents:
        why = f"the block has {walked.documents} documents, its head says {block.documents}"
        looked.add("structure", at, "EDUMP071", why)
    looked.documents += walked.documents
    looked.bytes += len(data)


def _bson_file(work: Work, looked: Looked, stop: StopToken) -> None:
    with open_file(work.root, work.file) as file:
        looked.digested = is_gzip(file)
        unpacked = plain(file, looked.digested, work.file)
        for each in salvaged(unpacked, work.file, documents=1, bytes_=1, stop=stop, whole=True):
            if isinstance(each, Damage):
                looked.hear(each)
            else:
                looked.documents += each.documents
                looked.bytes += each.bytes


def _archive(work: Work, looked: Looked, stop: StopToken) -> None:
    looked.digested = True
    with open_file(work.root, work.file) as file:
        source = Source(_stoppable(plain(file, is_gzip(file), work.file).read, stop), work.file)
        prelude, damage = read_prelude(source), list[Damage]()
        for run in salvaged_archive(source, prelude, damage):
            looked.documents += run.documents
            looked.bytes += len(run.data)
            while damage:
                looked.hear(damage.pop(0))
        for each in damage:
            looked.hear(each)


def _text(root: Path, text: TextFile, looked: Looked, stop: StopToken) -> None:
    looked.digested = bool(text.sha256) or text.name.lower().endswith((".gz", ".zst"))
    damage: list[Damage] = []
    for block in Lines(root, text, stop, damage).blocks():
        looked.documents += walk(block).documents
        looked.bytes += len(block)
        for each in damage:
            looked.hear(each)
        damage.clear()
    for each in damage:
        looked.hear(each)


def _stoppable(read: Callable[[int], bytes], stop: StopToken) -> Callable[[int], bytes]:
    def reading(count: int) -> bytes:
        if stop.is_set():
            raise Stopped
        return read(count)

    return reading
