"""What is fuzzed: each target takes any bytes, and raises for what must not be.

A target that says `DamagedDump` means well; every other exception is a finding, and so is an
`AssertionError` of the laws that stand here.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from executors.chunkfile import MAX_BLOCK_BYTES, DamagedFile, blocks_of
from executors.dumps import archive as archives
from executors.dumps import archivesalvage, archivestream, bsonfile, gunzip, jsonmeta, manifest
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.extjson import as_bson, parsed
from executors.dumps.jsonlines import Lines
from executors.dumps.model import Damage, NeverStops, Part, TextFile
from executors.export.jsontext import texts_of
from executors.flaws import Code
from executors.rawbson import documents
from executors.structure import envelope_flaw, flaw, resync, walk
from tests.fuzz.agreement import disagreement

NAME: Final = "fuzz"
CHUNK, CHUNK_BYTES = Path("d.c/0-1.flb"), 48
"""The only file there is for a manifest."""
CUT: Final = (Code.CUT_LENGTH, Code.CUT)
_HERE: Final = tempfile.TemporaryDirectory(prefix="ferrylog-fuzz-")
_ROOT: Final = Path(_HERE.name)


def structure(data: bytes) -> None:
    """A verdict, the driver's; the same for a slice; the walk's that of the envelopes; and what
    is found behind damage is a document."""
    found = disagreement(data)
    assert found is None, found
    alone, inside = flaw(data), flaw(memoryview(b"\xff" + data + b"\xff"), 1, len(data) + 1)
    assert (alone and (alone.code, alone.at + 1)) == (inside and (inside.code, inside.at))
    _walk_agrees(data)
    if (begin := resync(data, 1)) is not None:
        _must_be_whole(data[begin : begin + int.from_bytes(data[begin : begin + 4], "little")])


def bsonfile_(data: bytes) -> None:
    """A file is read to the end or refused; a salvage accounts for every byte, keeps whole
    documents only, and loses nothing of a file that is not refused."""
    read = _parts(data, salvage=False)
    told = _parts(data, salvage=True)
    assert told is not None
    assert sum(each.bytes for each in told) == len(data)
    for each in told:
        if isinstance(each, Part):
            rest = data[each.at : each.at + each.bytes]
            assert hashlib.sha256(rest).hexdigest() == each.sha256
            for _ in range(each.documents):
                length = int.from_bytes(rest[:4], "little")
                _must_be_whole(rest[:length])
                rest = rest[length:]
            assert not rest
    assert (read is None) == any(isinstance(each, Damage) for each in told)
    assert read is None or read == told


def gzip(data: bytes) -> None:
    """Unpacked to the end, or refused."""
    try:
        unpacked = gunzip.plain(io.BytesIO(data), gzip=True, name=NAME)
        while unpacked.read(1 << 16):
            pass
    except DamagedDump:
        pass


def metadata(data: bytes) -> None:
    """Understood or refused; what was understood can be written, and is understood the same."""
    try:
        told = jsonmeta.parse(data, NAME)
    except DamagedDump:
        return
    _must_be_whole(told.options)


def manifest_(data: bytes) -> None:
    """Its last line is made anew: changes must get past the checksum."""
    (_ROOT / CHUNK.parent).mkdir(exist_ok=True)
    (_ROOT / CHUNK).write_bytes(bytes(CHUNK_BYTES))
    body = data.rpartition(b'\n"sha256"')[0] + b"\n"
    last = b'"sha256": "%b"}\n' % hashlib.sha256(body).hexdigest().encode()
    for content in (data, body + last):
        (_ROOT / manifest.MANIFEST).write_bytes(content)
        try:
            manifest.read_manifest(_ROOT)
        except (DamagedDump, NoDump):
            continue


def chunkfile(data: bytes) -> None:
    """Blocks of the sizes they tell, up to the first that lies."""
    try:
        for block, _ in blocks_of(io.BytesIO(data).read, NAME):
            assert len(block.data) <= MAX_BLOCK_BYTES
    except DamagedFile:
        pass


def archive(data: bytes) -> None:
    """Read to the end or refused; salvaged without one exception, and without loss where there
    is no damage."""
    read, _ = _runs(data, salvage=False)
    rescued, damage = _runs(data, salvage=True)
    if read is not None:
        assert rescued == read and not damage


def jsonlines(data: bytes) -> None:
    """Every line a document, or named; a salvage leaves out nothing else."""
    (_ROOT / "c.jsonl").write_bytes(data)
    file, damage, read = TextFile("c.jsonl", len(data)), list[Damage](), None
    with suppress(DamagedDump):
        read = b"".join(Lines(_ROOT, file, NeverStops()).blocks())
    rescued = b"".join(Lines(_ROOT, file, NeverStops(), damage).blocks())
    assert (read is None) == bool(damage)
    assert read is None or read == rescued
    for each in documents(rescued):
        _must_be_whole(each)


def jsontext(data: bytes) -> None:
    """A document is said in one line that means the same, or is a misfit."""
    if envelope_flaw(data) or int.from_bytes(data[:4], "little") != len(data):
        return
    texts_of([data], "relaxed")
    [text] = texts_of([data], "canonical")
    if isinstance(text, str):
        assert text.splitlines() == [text]
        again = as_bson(parsed(text.encode()))
        assert again == data or texts_of([again], "canonical") == [text]


def _parts(data: bytes, *, salvage: bool) -> list[Part | Damage] | None:
    file, stop = io.BytesIO(data), NeverStops()
    try:
        if salvage:
            return list(bsonfile.salvaged(file, NAME, documents=3, bytes_=100, stop=stop))
        checked = bsonfile.parts(file, NAME, documents=3, bytes_=100, stop=stop, objcheck=True)
        return list(checked)
    except DamagedDump:
        return None


def _runs(data: bytes, *, salvage: bool) -> tuple[dict[str, bytes] | None, list[Damage]]:
    """The documents of each namespace."""
    damage: list[Damage] = []
    found: dict[str, bytes] = {}
    try:
        source = archivestream.source_of(io.BytesIO(data), NAME, damage if salvage else None)
        prelude = archives.read_prelude(source)
        runs = (
            archivesalvage.salvaged(source, prelude, damage)
            if salvage
            else archives.Body(source, prelude, deep=True).runs()
        )
        for run in runs:
            found[run.entry.namespace] = found.get(run.entry.namespace, b"") + run.data
            assert walk(run.data) == (run.documents, len(run.data), None)
    except DamagedDump:
        return None, damage
    return found, damage


def _walk_agrees(data: bytes) -> None:
    """As many documents as there are envelopes without flaw; the next one is flawed, or cut."""
    documents, end, wrong = walk(data)
    at = 0
    for _ in range(documents):
        assert envelope_flaw(data, at) is None
        at += int.from_bytes(data[at : at + 4], "little")
    assert at == end
    rest = envelope_flaw(data, end)
    assert rest is not None and (rest == wrong or (not wrong and rest.code in CUT)), (rest, wrong)


def _must_be_whole(document: bytes) -> None:
    wrong = flaw(document)
    assert wrong is None or wrong.whole, wrong


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "structure": structure,
    "bsonfile": bsonfile_,
    "gzip": gzip,
    "metadata": metadata,
    "manifest": manifest_,
    "chunkfile": chunkfile,
    "archive": archive,
    "jsonlines": jsonlines,
    "jsontext": jsontext,
}
