"""A dump by itself: whatever is wrong with it is found, and all of it; nothing else is."""

import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import bson
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors import examination
from executors.batches import Block
from executors.chunkfile import write_chunk_file
from executors.dumps.archive import Entry, Prelude, write_archive
from executors.dumps.errors import NoDump
from executors.dumps.manifest import MANIFEST, Facts, write_manifest
from executors.dumps.model import Dumped, Part
from executors.examination import Examination, examine_dump
from executors.look import MAX_FOUND
from executors.protocol import Stopped
from executors.subset import BadSubset, Subset
from ferrylog.cli.options import Common
from ferrylog.cli.verify_dump import verify_dump

Row = dict[str, object]
NAMES = ("shop.a", "shop.b")
quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows(count: int, size: int = 20) -> list[Row]:
    return [{"_id": n, "x": "x" * size, "y": {"z": [n, None]}} for n in range(count)]


def part_of(root: Path, name: str, documents: list[bytes], compression: str = "zstd") -> Part:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    blocks = [
        Block(b"".join(documents[at : at + 4]), len(documents[at : at + 4]))
        for at in range(0, len(documents), 4)
    ]
    written = write_chunk_file(path, iter(blocks), "zstd" if compression == "zstd" else "none")
    return Part(name, 0, written.file_bytes, written.documents, written.bytes, written.sha256)


def chunks(root: Path, *, files: int = 2, compression: str = "zstd", count: int = 6) -> Path:
    """A dump in ferrylog's own layout."""
    root.mkdir(exist_ok=True)
    documents = list(map(bson.encode, rows(count)))
    namespaces = []
    for name in NAMES:
        parts = tuple(
            part_of(root, f"{name}/{n}-1.flb", documents, compression) for n in range(files)
        )
        made = sum(part.documents for part in parts)
        size = sum(part.bytes for part in parts)
        namespaces.append(
            Dumped(name, "collection", bson.encode({}), (), parts=parts, documents=made, bytes=size)
        )
    write_manifest(root, Facts(tool_version="0"), namespaces)
    return root


def mongodump(root: Path, *, zipped: bool = False) -> Path:
    (root / "shop").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        raw = b"".join(map(bson.encode, rows(6)))
        told = json.dumps({"options": {}, "indexes": [], "type": "collection"}).encode()
        end = ".gz" if zipped else ""
        for kind, data in ((".bson", raw), (".metadata.json", told)):
            packed = gzip.compress(data, mtime=0) if zipped else data
            (root / "shop" / f"{name.partition('.')[2]}{kind}{end}").write_bytes(packed)
    return root


def archive(path: Path) -> Path:
    entries = tuple(Entry("shop", name.partition(".")[2], "{}", "collection") for name in NAMES)
    with path.open("wb") as file:
        write_archive(
            file.write,
            Prelude("6.0.5", "100.9", entries),
            lambda _: [b"".join(map(bson.encode, rows(6)))],
        )
    return path


def codes(found: Examination) -> set[tuple[str, str]]:
    return {(each.stage, each.code) for each in found.findings}


def each_flip(path: Path) -> Iterator[int]:
    """Each byte of the file changed in one bit, one after another."""
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])
        yield at
    path.write_bytes(raw)


# --- nothing is wrong ---


@pytest.mark.parametrize(
    "made",
    [
        lambda at: chunks(at / "d"),
        lambda at: chunks(at / "d", compression="none"),
        lambda at: mongodump(at / "d"),
        lambda at: mongodump(at / "d", zipped=True),
        lambda at: mongodump(at / "d") / "shop" / "a.bson",
        lambda at: archive(at / "all.archive"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_sound_dump_is_sound(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Path], Path],
    workers: int,
) -> None:
    """Whatever wrote it, and in however many processes."""
    monkeypatch.setattr(examination, "ALONE_BYTES", 0)
    found = examine_dump(made(tmp_path), workers=workers)
    assert (found.sound, found.findings) == (True, ())
    assert found.documents == {1: 6, 2: 12, 4: 24}[found.documents // 6]
    assert [each.stage for each in found.stages] == ["manifest", "files", "digests", "structure"]
    assert not any(each.skipped for each in found.stages)


def test_an_empty_dump_is_sound(tmp_path: Path) -> None:
    found = examine_dump(chunks(tmp_path / "d", files=0))
    assert (found.sound, found.files) == (True, 0)
    assert examine_dump(chunks(tmp_path / "e", count=0)).sound


# --- ferrylog's own layout ---


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_flipped_bit_in_any_byte_of_a_chunk_file_is_found(
    tmp_path: Path, compression: str
) -> None:
    """I24, faults.md 5, 30."""
    root = chunks(tmp_path / "d", compression=compression)
    for at in each_flip(root / "shop.a/0-1.flb"):
        found = examine_dump(root)
        assert ("digests", "EDUMP069") in codes(found), at
        assert {each.file for each in found.findings} == {"shop.a/0-1.flb"}
    assert examine_dump(root).sound


def test_a_flipped_bit_in_any_byte_of_the_manifest_is_found(tmp_path: Path) -> None:
    """faults.md 5, 30."""
    root = chunks(tmp_path / "d", files=1)
    for at in each_flip(root / MANIFEST):
        found = examine_dump(root)
        assert [each.stage for each in found.findings] == ["manifest"], at
        assert [each.skipped for each in found.stages] == [False, True, True, True]


@quick
@given(st.data())
def test_a_file_cut_anywhere_or_longer_is_found(tmp_path: Path, data: st.DataObject) -> None:
    """faults.md 5, 13 and 30."""
    root = chunks(tmp_path / "d")
    path = root / "shop.b/1-1.flb"
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw) - 1))
    longer = data.draw(st.binary(min_size=1))
    for changed in (raw[:cut], raw + longer):
        path.write_bytes(changed)
        assert {("files", "EDUMP064"), ("digests", "EDUMP069")} <= codes(examine_dump(root))


def test_missing_and_surplus_files_and_things_that_are_no_files_are_found(tmp_path: Path) -> None:
    """faults.md 5, 30 and 31: all of them at once."""
    root = chunks(tmp_path / "d", files=4)
    (root / "shop.a/0-1.flb").unlink()
    (root / "shop.a/1-1.flb").unlink()
    (root / "shop.a/1-1.flb").symlink_to(root / "shop.a/2-1.flb")
    (root / "shop.b/0-1.flb").unlink()
    os.mkfifo(root / "shop.b/0-1.flb")
    (root / "shop.b/1-1.flb").unlink()
    (root / "shop.b/1-1.flb").mkdir()
    (root / "shop.b/9-1.flb").write_bytes(b"")
    (root / "notes.txt").write_bytes(b"")
    found = examine_dump(root)
    assert [(each.file, each.code) for each in found.findings] == [
        ("notes.txt", "EDUMP065"),
        ("shop.a/0-1.flb", "EDUMP063"),
        ("shop.a/1-1.flb", "EDUMP010"),
        ("shop.b/0-1.flb", "EDUMP010"),
        ("shop.b/1-1.flb", "EDUMP010"),
        ("shop.b/9-1.flb", "EDUMP065"),
    ]
    assert (found.files, found.documents) == (4, 24)


def test_a_missing_folder_is_every_file_of_it(tmp_path: Path) -> None:
    root = chunks(tmp_path / "d")
    (root / "shop.a").rename(tmp_path / "gone")
    found = examine_dump(root)
    assert [each.code for each in found.findings] == ["EDUMP063", "EDUMP063"]
    (root / "shop.a").symlink_to(tmp_path / "gone")
    assert ("files", "EDUMP010") in codes(examine_dump(root))


def test_damage_that_the_manifest_swears_to_is_found_in_the_documents(tmp_path: Path) -> None:
    """A digest tells what was written, not that it was right: faults.md 5, 18 to 24."""
    good = bson.encode({"_id": 1, "a": True})
    bad = {
        "EBSON024": good[:-2] + b"\7\0",
        "EBSON016": good.replace(b"\x08a\0", b"\x77a\0"),
        "EBSON014": good[:-1] + b"\1",
    }
    for code, document in bad.items():
        root = tmp_path / code
        root.mkdir()
        part = part_of(root, "shop.a/0-1.flb", [good, document, good])
        write_manifest(
            root,
            Facts(tool_version="0"),
            [
                Dumped(
                    "shop.a",
                    "collection",
                    bson.encode({}),
                    (),
                    parts=(part,),
                    documents=part.documents,
                    bytes=part.bytes,
                )
            ],
        )
        found = examine_dump(root)
        assert ("structure", code) in codes(found), code
        assert ("digests", "EDUMP069") not in codes(found)


def test_a_head_that_lies_about_its_documents_is_found(tmp_path: Path) -> None:
    root = tmp_path / "d"
    (root / "shop.a").mkdir(parents=True)
    data = b"".join(map(bson.encode, rows(3)))
    written = write_chunk_file(root / "shop.a/0-1.flb", iter([Block(data, 4)]), "none")
    part = Part("shop.a/0-1.flb", 0, written.file_bytes, 4, len(data), written.sha256)
    empty = bson.encode({})
    told = Dumped("shop.a", "collection", empty, (), parts=(part,), documents=4, bytes=len(data))
    write_manifest(root, Facts(tool_version="0"), [told])
    found = examine_dump(root)
    assert [(each.at, each.code) for each in found.findings] == [
        (None, "EDUMP071"),
        (0, "EDUMP071"),
    ]


# --- mongodump's layouts ---


@pytest.mark.parametrize("what", ["directory", "archive"])
def test_a_flipped_bit_in_any_byte_of_gzip_is_found_or_changes_nothing(
    tmp_path: Path, what: str
) -> None:
    """faults.md 5, 28: some bits of a head mean nothing, some others say the same differently."""
    if what == "directory":
        root = mongodump(tmp_path / "d", zipped=True)
        path = root / "shop/a.bson.gz"
    else:
        root = path = archive(tmp_path / "all.archive")
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    good = gzip.decompress(path.read_bytes())
    for at in each_flip(path):
        try:
            assert not examine_dump(root).sound or gzip.decompress(path.read_bytes()) == good, at
        except NoDump:
            assert at < 10


@quick
@given(st.data())
def test_a_gzip_that_is_cut_is_found(tmp_path: Path, data: st.DataObject) -> None:
    """faults.md 5, 28."""
    root = mongodump(tmp_path / "d", zipped=True)
    path = root / "shop/a.bson.gz"
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(1, path.stat().st_size - 1))])
    assert not examine_dump(root).sound


def test_all_damage_of_a_bson_file_is_listed(tmp_path: Path) -> None:
    """faults.md 5, 14 to 24: not only the first."""
    root = mongodump(tmp_path / "d")
    documents = list(map(bson.encode, rows(9)))
    for n in (2, 5):
        documents[n] = documents[n][:-1] + b"\1"
    (root / "shop/a.bson").write_bytes(b"".join(documents) + b"\x30\0")
    found = examine_dump(root)
    assert [(each.stage, each.file) for each in found.findings] == [
        ("structure", "shop/a.bson")
    ] * 3
    offsets = [sum(map(len, documents[:n])) for n in (2, 5, 9)]
    assert [each.at for each in found.findings] == offsets
    assert found.documents == 6 + 7


def test_metadata_that_is_no_json_is_found_and_the_documents_are_looked_at(tmp_path: Path) -> None:
    """faults.md 5, 29."""
    root = mongodump(tmp_path / "d")
    (root / "shop/a.metadata.json").write_bytes(b"{")
    path = root / "shop/b.bson"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    found = examine_dump(root)
    assert {each.stage for each in found.findings} == {"manifest", "structure"}


def test_a_flipped_bit_in_any_byte_of_an_archive_behind_its_prelude_is_found(
    tmp_path: Path,
) -> None:
    """By the CRC of each namespace, and by what blocks are made of."""
    path = archive(tmp_path / "all.archive")
    begin = path.read_bytes().index(b"\xff" * 4)
    missed = [at for at in each_flip(path) if at >= begin and examine_dump(path).sound]
    assert len(missed) <= 16  # the CRC of a head before its documents: it says nothing yet


def test_a_cut_archive_is_found(tmp_path: Path) -> None:
    path = archive(tmp_path / "all.archive")
    raw = path.read_bytes()
    for size in random.Random(3).sample(range(4, len(raw)), 60):
        path.write_bytes(raw[:size])
        assert not examine_dump(path).sound, size


# --- limits, subsets, ends ---


def test_what_is_listed_is_limited_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "MAX_FINDINGS", 150)
    root = mongodump(tmp_path / "d")
    document = bson.encode({"_id": 1, "x": "x" * 30})
    broken = document[:-1] + b"\1"
    for name in ("a", "b"):
        (root / f"shop/{name}.bson").write_bytes((document + broken) * 300 + document)
    found = examine_dump(root)
    assert len(found.findings) == 150 < 2 * MAX_FOUND
    assert sum(each.findings for each in found.stages) == 600


@pytest.mark.parametrize("of", [1, 2, 5, 13])
def test_the_parts_of_a_whole_cover_it_once(of: int) -> None:
    """As restic's `--read-data-subset n/t`."""
    sizes = {f"shop.a/{n}-1.flb": n for n in range(100)}
    chosen = [Subset.parse(f"{n}/{of}").of_files(sizes) for n in range(1, of + 1)]
    assert sum(map(len, chosen)) == len(sizes)
    assert set().union(*chosen) == set(sizes)


@given(
    st.dictionaries(st.text(), st.integers(0, 1 << 40), max_size=50),
    st.one_of(
        st.floats(0.001, 100).map(lambda share: f"{share:.3f}%"),
        st.integers(1, 1 << 44).map(str),
        st.integers(1, 900).map(lambda size: f"{size}G"),
    ),
)
def test_a_share_or_a_size_is_reached_and_no_file_more(sizes: dict[str, int], text: str) -> None:
    subset = Subset.parse(text)
    chosen = subset.of_files(sizes)
    assert chosen == subset.of_files(dict(reversed(sizes.items()))) <= set(sizes)
    wanted = subset.bytes or subset.share * sum(sizes.values())
    read = sum(sizes[name] for name in chosen)
    assert read >= min(wanted, sum(sizes.values())) * 0.999999
    assert bool(chosen) == bool(sizes)
    if len(chosen) > 1:
        assert read - max(sizes[name] for name in chosen) < wanted


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/0", "0%", "101%", "-1", "5X", "1/2/3", "a", "0"])
def test_what_is_no_subset_is_refused(text: str) -> None:
    with pytest.raises(BadSubset):
        Subset.parse(text)


def test_a_subset_reads_less_and_still_knows_manifest_and_files(tmp_path: Path) -> None:
    root = chunks(tmp_path / "d", files=10)
    parts = [examine_dump(root, subset=Subset.parse(f"{n}/3")) for n in (1, 2, 3)]
    assert sum(part.files for part in parts) == 20
    assert all(part.files < 20 and part.stages[1].files == 20 for part in parts)
    (root / "shop.a/0-1.flb").unlink()
    assert not any(examine_dump(root, subset=Subset.parse(f"{n}/3")).sound for n in (1, 2, 3))


def test_what_is_no_dump_is_an_error_of_who_asked(tmp_path: Path) -> None:
    """faults.md 5, 10 and 11."""
    (tmp_path / "text").write_bytes(b"hello")
    for path in (tmp_path / "absent", tmp_path / "text"):
        with pytest.raises(NoDump):
            examine_dump(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(examination, "ALONE_BYTES", 0)
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        examine_dump(chunks(tmp_path / "d"), workers=workers, stop=stop)


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "ALONE_BYTES", 0)
    root = chunks(tmp_path / "d", files=6)
    for n in (1, 4):
        path = root / f"shop.b/{n}-1.flb"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert examine_dump(root, workers=2) == examine_dump(root)


# --- the command ---


def run(path: Path, capsys: pytest.CaptureFixture[str], *, json_: bool) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as end:
        verify_dump(str(path), Common(Path("none.db"), json_, 0, False), "", 2)
    return end.value.exit_code, capsys.readouterr().out


def test_the_command_says_what_was_found_and_exits_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """cli.md: `verify --from`, exit 4 for damaged data."""
    root = chunks(tmp_path / "d")
    code, text = run(root, capsys, json_=True)
    told = json.loads(text)
    assert (code, told["schema"], told["equal"]) == (0, "ferrylog.verify-dump/1", True)
    assert (told["files"], told["documents"], told["findings"]) == (4, 24, [])
    code, text = run(root, capsys, json_=False)
    assert code == 0
    assert text.endswith("nothing is wrong; only a restore shows that a server takes it\n")
    (root / "shop.a/0-1.flb").unlink()
    (root / "two\nlines").write_bytes(b"")
    code, text = run(root, capsys, json_=True)
    told = json.loads(text)
    assert (code, told["equal"]) == (4, False)
    assert [each["stage"] for each in told["findings"]] == ["files", "files"]
    assert [each["findings"] for each in told["stages"]] == [0, 2, 0, 0]
    code, text = run(root, capsys, json_=False)
    assert code == 4
    assert "EDUMP063: shop.a/0-1.flb: " in text
    assert "two\\nlines" in text
    assert "DAMAGED" in text
