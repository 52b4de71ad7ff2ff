"""A dump in a store, object by object: whose the prefix is, what is lost, what is named (P3, I17).

The store is a folder: every rule here is the same for S3, of which tests/end_to_end/test_stored.py
tells.
"""

import json
from pathlib import Path
from shutil import copytree

import pytest

from executors.chunkfile import DamagedFile
from executors.dumps.claim import CLAIM
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.making import OF_WHAT
from executors.dumps.manifest import MANIFEST, MAX_BYTES, Facts, read_manifest
from executors.dumps.model import Dumped, NeverStops
from executors.dumps.stored import fetch_chunk, holds_chain, lying_in, read_stored
from executors.dumps.storing import (
    claim_in,
    claimed_in,
    lost_in,
    maker_in,
    must_be_ours_in,
    put_manifest,
    refuse_existing_in,
    remove_claimed,
)
from executors.errors import OutExists
from executors.examination import examine_dump, examine_stored
from executors.protocol import Stopped
from executors.storage.local import Local
from executors.storage.names import PROBE
from statemachine.effects import Effect
from statemachine.state import Chunk, ChunkFile
from statemachine.words import THE_JOB, ChunkId, TaskKey, TaskKind, UnitId
from tests.executors.examples import Looks
from tests.executors.test_examination import chunks

MINE, THEIRS = Facts(tool_version="1", job="mine"), Facts(tool_version="1", job="theirs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Chunk files, and nothing that makes a dump of them."""
    root = chunks(tmp_path / "dump")
    (root / MANIFEST).unlink()
    return root


@pytest.fixture
def store(root: Path) -> Local:
    return Local(root)


@pytest.fixture
def held(tmp_path: Path) -> tuple[Dumped, ...]:
    return read_manifest(chunks(tmp_path / "as it is")).namespaces


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_prefix_belongs_to_one_job(store: Local, root: Path) -> None:
    """The first that claims it; as often as it likes."""
    claim_in(store, "mine")
    claim_in(store, "mine")
    with pytest.raises(OutExists, match="takes the dump of job mine already"):
        claim_in(store, "theirs")
    with pytest.raises(OutExists, match="takes"):
        must_be_ours_in(store, "theirs")
    must_be_ours_in(store, "mine")
    assert (root / CLAIM).read_text() == "mine"


def test_a_dump_that_stands_is_not_claimed(
    store: Local, root: Path, held: tuple[Dumped, ...]
) -> None:
    """Nor is a mark left on it."""
    put_manifest(store, MINE, held, OF_WHAT)
    with pytest.raises(OutExists, match="holds the dump of job mine"):
        claim_in(store, "theirs")
    assert not (root / CLAIM).exists()
    with pytest.raises(OutExists, match="is not empty"):
        refuse_existing_in(store)


def test_nothing_lies_there_yet(tmp_path: Path) -> None:
    """A prefix without objects takes a dump, and holds none."""
    empty = Local(tmp_path / "none")
    empty.put(f"{PROBE}killed", b"")  # by a look at the store
    assert not list(lying_in(empty)), "else a verification calls it an extra file"
    refuse_existing_in(empty)
    assert maker_in(empty) is None
    assert not holds_chain(empty)
    with pytest.raises(NoDump, match=r"no manifest\.json beneath it"):
        read_stored(empty)


def test_a_manifest_makes_it_a_dump(store: Local, root: Path, held: tuple[Dumped, ...]) -> None:
    """I17: the same bytes as in a folder; objects of dead attempts are gone, others stay."""
    claim_in(store, "mine")
    (root / "shop.a/0-2.flb").write_bytes(b"of a dead attempt")
    (root / "shop.a/notes.txt").write_bytes(b"")
    before = files(root) - {CLAIM, "shop.a/0-2.flb"}
    identity = put_manifest(store, MINE, held, OF_WHAT)
    assert files(root) == before | {MANIFEST}
    dump, facts = read_stored(store)
    assert (dump.namespaces, facts, dump.url) == (held, MINE, store.url)
    assert dump.notes == ("shop.a/notes.txt: not in the manifest, ignored",)
    assert read_manifest(root).identity == dump.identity == identity
    assert examine_dump(root).findings


def test_a_manifest_that_stands_is_told_again(
    store: Local, root: Path, held: tuple[Dumped, ...]
) -> None:
    """The process that put it died before it could tell; another hour makes no other dump."""
    first = put_manifest(store, MINE, held, OF_WHAT)
    raw = (root / MANIFEST).read_bytes()
    later = MINE.model_copy(update={"created": "later"})
    assert put_manifest(store, later, held, OF_WHAT) == first
    assert (root / MANIFEST).read_bytes() == raw


def test_what_was_added_is_named_by_another(store: Local, held: tuple[Dumped, ...]) -> None:
    """Of the same job; one of another job stays."""
    first = put_manifest(store, MINE, held[:1], OF_WHAT)
    assert put_manifest(store, MINE, held, OF_WHAT) != first
    with pytest.raises(OutExists):
        put_manifest(store, THEIRS, held[:1], OF_WHAT)
    assert maker_in(store) == "mine"


def test_what_is_lost_is_told_by_one_listing(
    store: Local, root: Path, held: tuple[Dumped, ...]
) -> None:
    """I24: missing or of another size; what is there is not read again."""
    filed = tuple(
        Chunk(
            ChunkId(f"{each.namespace}#{n}"),
            UnitId(each.namespace),
            None,
            None,
            part.documents,
            natural=False,
            file=ChunkFile(part.file, part.documents, part.bytes, part.file_bytes, part.sha256),
        )
        for each in held
        for n, part in enumerate(each.parts)
    )
    effect = Effect(TaskKey(TaskKind.MANIFEST, THE_JOB), 1, 2, unit=None, filed=filed)
    assert list(lost_in(store, effect)) == []
    (root / filed[0].file.name).unlink()  # type: ignore[union-attr]
    (root / filed[3].file.name).write_bytes(b"x")  # type: ignore[union-attr]
    lost = dict(lost_in(store, effect))
    assert list(lost) == [filed[0].id, filed[3].id]
    assert [why.split()[-1] for why in lost.values()] == ["missing", "written"]


def test_what_will_not_be_is_removed(store: Local, root: Path, held: tuple[Dumped, ...]) -> None:
    """Of the job that claimed it and of no other; never a dump, never what others put there."""
    (root / "notes.txt").write_bytes(b"")
    claim_in(store, "mine")
    remove_claimed(store, "theirs")
    assert len(claimed_in(store, "mine")) == 5
    remove_claimed(store, "mine")
    assert files(root) == {"notes.txt"}
    chunks(root)
    store.put(CLAIM, b"mine")
    remove_claimed(store, "mine")
    assert len(files(root)) == 7


def test_a_manifest_is_read_without_trust(store: Local, root: Path) -> None:
    """A byte of it changed, or too many of them."""
    chunks(root)
    raw = (root / MANIFEST).read_bytes()
    (root / MANIFEST).write_bytes(raw.replace(b'"tool_version": "0"', b'"tool_version": "1"'))
    with pytest.raises(DamagedDump, match="EDUMP061"):
        read_stored(store)
    assert {each.code for each in examine_stored(store, root.parent).findings} == {"EDUMP061"}
    with (root / MANIFEST).open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DamagedDump, match="EDUMP072"):
        read_stored(store)


def test_a_chunk_file_comes_whole_or_not_at_all(store: Local, root: Path, tmp_path: Path) -> None:
    """I24: one that is gone or changed leaves nothing behind; nor does one that is stopped."""
    chunks(root)
    part = read_stored(store)[0].namespaces[0].parts[0]
    named = {"file_bytes": part.file_bytes, "sha256": part.sha256}
    into = tmp_path / "work" / "shop.a" / "0-1.flb"
    fetch_chunk(store, part.file, into, NeverStops(), **named)  # type: ignore[arg-type]
    assert into.read_bytes() == (root / part.file).read_bytes()
    into.unlink()
    with pytest.raises(Stopped):
        fetch_chunk(store, part.file, into, Looks(1), **named)  # type: ignore[arg-type]
    (root / part.file).write_bytes(b"x" * part.file_bytes)
    with pytest.raises(DamagedFile, match=f"{part.file}: .*SHA-256"):
        fetch_chunk(store, part.file, into, NeverStops(), **named)  # type: ignore[arg-type]
    (root / part.file).unlink()
    with pytest.raises(DamagedFile, match=f"{part.file} is missing"):
        fetch_chunk(store, part.file, into, NeverStops(), **named)  # type: ignore[arg-type]
    assert not files(tmp_path / "work")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.deep)])
def test_a_dump_in_a_store_is_looked_at_as_in_a_folder(
    store: Local,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """The same findings; what was fetched for them is gone."""
    monkeypatch.setattr("executors.examination.ALONE_BYTES", 0)
    chunks(root)
    (root / "else").write_bytes(b"")
    (root / "shop.a/0-1.flb").unlink()
    raw = (root / "shop.b/1-1.flb").read_bytes()
    (root / "shop.b/1-1.flb").write_bytes(raw[:-9] + b"\0" + raw[-8:])
    near = tmp_path / "near"
    near.mkdir()
    found = examine_stored(store, near, workers=workers)
    assert found == examine_dump(root)
    assert {each.code for each in found.findings} >= {"EDUMP063", "EDUMP065", "EDUMP069"}
    assert not files(near)


def test_a_chain_in_a_store_is_seen(store: Local, root: Path, tmp_path: Path) -> None:
    """What is copied there as a whole holds increments, whose folder nobody takes for foreign."""
    chunks(root)
    copytree(root, tmp_path / "other")
    (tmp_path / "other").rename(root / "increments")
    assert holds_chain(store)
    assert read_stored(store)[0].notes == ()
    assert json.loads((root / MANIFEST).read_bytes())["ferrylog"] == "dump/1"
