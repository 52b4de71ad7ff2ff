"""Documents that the target refused lie whole in a file of their own (P10)."""

import stat
from pathlib import Path

import bson
import pytest
from bson import Binary, DatetimeMS

from executors.boundaries import to_key
from executors.errors import BadFolder
from executors.folder import remove_folder
from executors.rejected import (
    MAX_JSON,
    Rejects,
    as_json,
    find_rejected,
    name_of,
    rejected_documents,
    rejected_path,
    shown,
)
from statemachine.words import ChunkId, Key, UnitId
from tests.executors.test_restore import KEYS, ODD_KEYS, document, raw

UNIT, CHUNK = UnitId("Shop.c/d"), ChunkId("Shop.c/d#7")


def write(folder: Path, *documents: bytes) -> Path:
    path = rejected_path(folder, UNIT, CHUNK)
    with Rejects(path) as rejects:
        for each in documents:
            rejects.add(each)
        rejects.sync()
    return path


def read(folder: Path) -> list[bytes]:
    return list(rejected_documents(folder, UNIT, CHUNK))


DOCUMENTS = [document(_id=n, text="x" * n) for n in range(5)]


def test_whole_documents_as_in_a_bson_file(tmp_path: Path) -> None:
    path = write(tmp_path, *DOCUMENTS)
    assert path == tmp_path / "rejected" / "%53hop.c%2Fd" / "7.bson"
    assert path.read_bytes() == b"".join(DOCUMENTS)
    assert read(tmp_path) == DOCUMENTS


def test_it_is_ours_alone(tmp_path: Path) -> None:
    path = write(tmp_path, *DOCUMENTS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (path.parent, path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_nothing_rejected_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read(tmp_path) == []


def test_it_is_there_before_the_file_is_closed(tmp_path: Path) -> None:
    with Rejects(rejected_path(tmp_path, UNIT, CHUNK)) as rejects:
        for count, each in enumerate(DOCUMENTS, 1):
            rejects.add(each)
            rejects.sync()
            assert read(tmp_path) == DOCUMENTS[:count]


def test_the_last_of_two_counts(tmp_path: Path) -> None:
    write(tmp_path, *DOCUMENTS)
    newer = document(_id=1, text="newer")
    write(tmp_path, newer, DOCUMENTS[3])
    assert read(tmp_path) == [DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[4], newer, DOCUMENTS[3]]


@pytest.mark.parametrize("key", [*KEYS, *ODD_KEYS])
def test_any_key(tmp_path: Path, key: str) -> None:
    mine = ODD_KEYS.get(key) or document(_id=KEYS[key], n=1)
    write(tmp_path, *DOCUMENTS, mine)
    write(tmp_path, mine)
    assert read(tmp_path) == [*DOCUMENTS, mine]
    (name,) = (to_key(raw_id) for raw_id in [_id_of(mine)])
    assert find_rejected(tmp_path, UNIT, CHUNK, name) == mine


def _id_of(mine: bytes) -> bytes:
    """`{_id}`: all but the field `n` at the end."""
    end = mine.rfind(b"\x10n\0\1\0\0\0")
    return mine if end < 0 else (end + 1).to_bytes(4, "little") + mine[4:end] + b"\0"


@pytest.mark.parametrize("cut", range(1, len(DOCUMENTS[4])))
def test_a_torn_tail_is_cut_off(tmp_path: Path, cut: int) -> None:
    """At every byte of the last document; what was whole stays, what comes is whole."""
    path = write(tmp_path, *DOCUMENTS)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(tmp_path) == DOCUMENTS[:4]
    write(tmp_path, DOCUMENTS[4])
    assert path.read_bytes() == b"".join(DOCUMENTS)


@pytest.mark.parametrize(
    "tail",
    [
        bytes(4096),
        b"\xff" * 100,
        b"\xff\xff\xff\x7f" + bytes(100),
        DOCUMENTS[4][:-1] + b"\1",
    ],
    ids=["zeros", "ones", "no end", "no NUL at the end"],
)
def test_garbage_at_the_end_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = write(tmp_path, *DOCUMENTS[:4])
    path.write_bytes(path.read_bytes() + tail)
    assert read(tmp_path) == DOCUMENTS[:4]
    write(tmp_path, DOCUMENTS[4])
    assert path.read_bytes() == b"".join(DOCUMENTS)


@pytest.mark.parametrize("odd", [bson.encode({}), bson.encode({"a": 1}), b"\x10\0\0\0" + bytes(12)])
def test_what_has_no_id_or_is_no_document_is_kept_too(tmp_path: Path, odd: bytes) -> None:
    """A dump may hold it: its envelope is whole, and a server has refused it (P10)."""
    write(tmp_path, DOCUMENTS[0], odd, DOCUMENTS[1])
    write(tmp_path, odd)
    assert read(tmp_path) == [DOCUMENTS[0], DOCUMENTS[1], odd]
    assert find_rejected(tmp_path, UNIT, CHUNK, name_of(odd)) == odd
    assert name_of(odd).startswith("(none: ")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = rejected_path(tmp_path, UNIT, CHUNK)
    path.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        write(tmp_path, *DOCUMENTS)
    assert elsewhere.read_bytes() == b"theirs"


@pytest.mark.parametrize("chunk", ["a.b#../../x", "a.b#", "a.b#0/1\0", "a.b#/etc/passwd"])
def test_names_stay_inside(tmp_path: Path, chunk: str) -> None:
    try:
        path = rejected_path(tmp_path, UnitId("a.b"), ChunkId(chunk))
    except BadFolder:
        return
    assert path.resolve().is_relative_to(tmp_path / "rejected")


def test_the_end_of_a_job_keeps_what_is_still_missing(tmp_path: Path) -> None:
    """Of another chunk's documents, carried since, no copy stays."""
    folder = tmp_path / "job"
    folder.mkdir()
    path = write(folder, *DOCUMENTS)
    stale = path.with_name("8.bson")
    stale.write_bytes(DOCUMENTS[0])
    (folder / "rejected" / "empty").mkdir()
    (folder / "shop.c").mkdir()
    (folder / "shop.c" / "0-1.flb").write_bytes(b"whole")
    (folder / "shop.c" / "1-1.flb.tmp").write_bytes(b"torn")

    remove_folder(folder, keep_files=True, keep_rejected={path, stale})
    left = sorted(each for each in folder.rglob("*") if each.is_file())
    assert left == [path, stale, folder / "shop.c" / "0-1.flb"]

    remove_folder(folder, keep_files=True, keep_rejected={path})
    left = sorted(each for each in folder.rglob("*") if each.is_file())
    assert left == [path, folder / "shop.c" / "0-1.flb"]

    remove_folder(folder, keep_files=False, keep_rejected={path})
    assert sorted(folder.rglob("*")) == [path.parent.parent, path.parent, path]

    remove_folder(folder, keep_files=False, keep_rejected=())
    assert not folder.exists()


def test_a_key_that_was_cut_for_the_journal(tmp_path: Path) -> None:
    long = [document(_id=f"{n}" + "x" * 5_000) for n in range(3)]
    write(tmp_path, *long)
    name = shown(to_key(long[1]))
    assert len(name) < 1_100
    assert find_rejected(tmp_path, UNIT, CHUNK, name) == long[1]
    assert find_rejected(tmp_path, UNIT, CHUNK, Key('"nobody"')) is None


# --- for people -----------------------------------------------------------------------------------


def test_as_json_is_canonical() -> None:
    text = as_json(document(_id=1, name="Zoë", at=DatetimeMS(2**60)))
    assert text == (
        '{"_id": {"$numberInt": "1"}, "name": "Zoë", '
        '"at": {"$date": {"$numberLong": "1152921504606846976"}}}'
    )


@pytest.mark.parametrize("name", [*KEYS, *ODD_KEYS])
def test_as_json_shows_every_document(name: str) -> None:
    assert "_id" in as_json(ODD_KEYS.get(name) or document(_id=KEYS[name]))


def test_as_json_of_what_cannot_be_shown_and_what_is_long() -> None:
    deep = raw((0x03, b"_id", b""))
    for _ in range(3_000):
        deep = raw((0x03, b"a", deep))
    assert len(as_json(deep)) < MAX_JSON + 100
    long = as_json(document(_id=1, blob=Binary(bytes(1 << 20))))
    assert len(long) < MAX_JSON + 100
    assert long.endswith("characters)")
    assert bson.is_valid(document(_id=1))
