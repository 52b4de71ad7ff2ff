"""Archives that nobody here wrote: unpacked to their documents, or refused with file, offset and
reason (I22, I24)."""

import io
from pathlib import Path

import bson
import pytest

from executors.dumps.archive import Body, read_prelude
from executors.dumps.archivestream import source_of
from executors.dumps.errors import DETAILS, DamagedDump
from executors.dumps.manifest import MANIFEST
from executors.dumps.model import Damage, Dump, NeverStops
from executors.dumps.unpack import unpack_archive
from executors.flaws import Code
from executors.rawbson import documents
from executors.structure import flaw
from tests.conformance.corpus import files, needs_corpus
from tests.counts import count
from tests.executors.dumps.archives import held

pytestmark = needs_corpus

SWEPT = 8 << 10
"""Larger archives are not cut at every byte."""


def archives() -> list[Path]:
    return [path for pattern in ("*.archive", "*.archive.gz") for path in files(pattern)]


def unpack(path: Path, folder: Path, *, salvage: bool = False) -> tuple[Dump, tuple[Damage, ...]]:
    return unpack_archive(
        lambda: path.open("rb"),
        path.name,
        folder,
        documents=1000,
        bytes_=1 << 20,
        stop=NeverStops(),
        objcheck=True,
        salvage=salvage,
        wanted=lambda namespace: True,
    )


def attempt(path: Path, folder: Path) -> Dump | DamagedDump:
    try:
        return unpack(path, folder)[0]
    except DamagedDump as error:
        return error


def read(raw: bytes) -> dict[str, bytes]:
    source = source_of(io.BytesIO(raw), "x.archive")
    found: dict[str, bytes] = {}
    for run in Body(source, read_prelude(source), deep=False).runs():
        found[run.entry.namespace] = found.get(run.entry.namespace, b"") + run.data
    return found


def test_there_are_some() -> None:
    assert archives()


@pytest.mark.parametrize("path", archives(), ids=lambda path: path.name)
def test_an_archive_is_unpacked_or_refused_in_full(path: Path, tmp_path: Path) -> None:
    """What is unpacked are the very bytes of the archive; what is refused says where and why."""
    found = attempt(path, tmp_path / "out")
    if isinstance(found, DamagedDump):
        assert (found.file, found.at is not None) == (path.name, True)
        assert found.detail in {*DETAILS, *Code}
        assert f"{path.name}, offset {found.at}: " in str(found)
        assert not (tmp_path / "out" / MANIFEST).exists()
        count("archives of the corpus, refused")
    else:
        must_be_its_documents(found, path)
        count("archives of the corpus, unpacked")


def must_be_its_documents(dump: Dump, path: Path) -> None:
    found, told = held(dump), read(path.read_bytes())
    assert found == {name: told[name] for name in found}
    for each in dump.namespaces:
        whole = list(documents(found[each.namespace]))
        assert len(whole) == each.documents
        assert not any(wrong and not wrong.whole for wrong in map(flaw, whole))
        for document in whole:
            bson.decode(document)


def test_both_kinds_are_there(tmp_path: Path) -> None:
    """One whole with documents, one with metadata that are no JSON, as its name says."""
    kinds = set()
    for number, path in enumerate(archives()):
        found = attempt(path, tmp_path / f"{number}")
        if isinstance(found, DamagedDump):
            kinds.add(found.detail)
        else:
            kinds.add("whole" if any(each.documents for each in found.namespaces) else "empty")
    assert {"whole", "EDUMP030"} <= kinds


@pytest.mark.parametrize("path", archives(), ids=lambda path: path.name)
def test_an_archive_cut_anywhere_is_refused(path: Path) -> None:
    raw = path.read_bytes()[:SWEPT]
    for size in range(len(raw)):
        with pytest.raises(DamagedDump) as caught:
            read(raw[:size])
        assert caught.value.at is not None
        assert caught.value.at <= size or raw[:2] == b"\x1f\x8b"
    count("archives of the corpus cut, refused", len(raw))


@pytest.mark.parametrize("path", archives(), ids=lambda path: path.name)
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_byte_that_changed_anywhere_changes_no_document_in_silence(path: Path, flip: int) -> None:
    raw = path.read_bytes()[:SWEPT]
    try:
        whole = read(raw)
    except DamagedDump:
        pytest.skip("it is refused as it is")
    for at in range(len(raw)):
        try:
            found = read(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
        except DamagedDump:
            continue
        assert found == whole
    count("archives of the corpus with a changed byte", len(raw))


@pytest.mark.parametrize("path", archives(), ids=lambda path: path.name)
def test_of_what_is_refused_the_documents_are_salvaged(path: Path, tmp_path: Path) -> None:
    dump, damage = unpack(path, tmp_path / "out", salvage=True)
    refused = attempt(path, tmp_path / "other")
    if isinstance(refused, DamagedDump):
        assert refused.detail in [each.code for each in damage]
    else:
        assert damage == ()
        must_be_its_documents(dump, path)
