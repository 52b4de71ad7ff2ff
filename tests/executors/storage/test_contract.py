"""What every store promises, asked of a folder, of moto's S3, and of `xmlstore` as Google
and Azure.

The latter are our own reading of what those publish: they show that the promise is kept towards
such servers, not that a cloud is one.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executors.protocol import Stopped
from executors.storage import local, objects
from executors.storage.checking import check_store
from executors.storage.errors import BadObjectName, NoObject, ObjectExists
from executors.storage.protocol import Found, Store
from executors.storage.urls import normal_url, open_store
from tests.objectstores import speak_az_to, speak_gs_to

NEVER = threading.Event()
ODD = (
    "a b/ü ö/日本 %41 100%/x.parquet",
    "q?x#y&z=+~*'()[]{}\"<>",
    "emoji😀",
    "back\\slash",
    ".hidden/_too",
    "day=2026-01-01/part-000001-1-1.jsonl.zst",
    "\u00e9",
    "e\u0301",  # the same to the eye
    "n" * 200 + "/" + "é" * 100,
)
BAD = (
    "", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\0b", "a\nb", "a\x7f",
    "n" * 201, "/".join(["n" * 199] * 5), "half \ud800",
)  # fmt: skip


@pytest.fixture(params=["local", "s3", "xml-gs", "xml-az"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return open_store((tmp_path / "out put").as_uri(), tmp_path / "work")
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('s3').url}/pre fix", tmp_path / "work")
    if request.param == "xml-gs":
        speak_gs_to(request.getfixturevalue("xml").endpoint, monkeypatch)
        return open_store("gs://bucket/pre fix", tmp_path / "work")
    speak_az_to(request.getfixturevalue("azure").endpoint, monkeypatch)
    return open_store("az://bucket/pre fix", tmp_path / "work")


@pytest.fixture
def large(store: Store, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of three parts. moto wants parts of 5 MiB, as S3 does; for others they are cut down."""
    if not store.url.startswith("s3:"):
        monkeypatch.setattr(objects, "AT_ONCE", 1 << 20)
        monkeypatch.setattr(objects, "PART", 1 << 19)
        monkeypatch.setattr(local, "_PIECE", 1 << 19)
    return objects.AT_ONCE + 5


def names(store: Store, prefix: str = "") -> list[str]:
    return sorted(each.name for each in store.list(prefix))


def put_large(store: Store, name: str, data: bytes, *, replace: bool = False) -> Found:
    draft = store.draft(name)
    draft.write_bytes(data)
    try:
        return store.put_file(name, draft, NEVER, replace=replace)
    finally:
        assert not draft.exists()


def test_what_is_put_is_there_whole(store: Store) -> None:
    """G3, G4: bytes, size, ranges, list."""
    data = bytes(range(256))
    found = store.put("shop.orders/part-1", data)
    assert (found.name, found.size) == ("shop.orders/part-1", 256)
    assert store.get(found.name) == data
    assert store.head(found.name) == found
    assert list(store.list()) == [found]
    assert store.read(found.name, 0, 256) == data
    assert store.read(found.name, 100, 3) == data[100:103]
    assert store.read(found.name, 250, 100) == data[250:]
    assert store.read(found.name, 256, 1) == store.read(found.name, 9999, 1) == b""
    assert store.read(found.name, 5, 0) == b""
    empty = store.put("empty", b"")
    assert empty.size == 0 and store.get("empty") == b"" == store.read("empty", 0, 10)


def test_put_if_absent(store: Store) -> None:
    """G4: the same bytes again are what a retry puts; other bytes never replace them."""
    first = store.put("one", b"first")
    assert store.put("one", b"first") == first
    for other in (b"other", b"", b"first and more"):
        with pytest.raises(ObjectExists):
            store.put("one", other)
        with pytest.raises(ObjectExists):
            put_large(store, "one", other)
    assert put_large(store, "one", b"first") == first
    assert store.get("one") == b"first"


def test_replaced_when_told(store: Store) -> None:
    first = store.put("one", b"first")
    second = store.put("one", b"other", replace=True)
    assert store.get("one") == b"other"
    assert first.etag and first.etag != second.etag
    put_large(store, "one", b"third", replace=True)
    assert store.get("one") == b"third"


def test_large_ones(store: Store, large: int, tmp_path: Path) -> None:
    """More than one request for an object store; the last part is a small one."""
    data = os.urandom(large)
    found = put_large(store, "big", data)
    assert found.size == large and store.head("big") == found
    into = tmp_path / "fetched"
    assert store.fetch("big", into, NEVER).size == large
    assert into.read_bytes() == data
    assert store.read("big", large - 3, 10) == data[-3:]
    assert put_large(store, "big", data) == found
    with pytest.raises(ObjectExists):
        put_large(store, "big", data[:-1] + b"x")
    with pytest.raises(ObjectExists):
        store.put("big", b"small")
    assert put_large(store, "big", data[::-1], replace=True).size == large
    assert store.read("big", 0, 5) == data[::-1][:5]


def test_of_two_at_once_one_wins(store: Store) -> None:
    """G2: eight that put at once: one wins, the others are told."""

    def put(number: int) -> int:
        try:
            store.put("contested", b"%d" % number)
        except ObjectExists:
            return -1
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [each for each in pool.map(put, range(8)) if each >= 0]
    assert [store.get("contested")] == [b"%d" % each for each in won]


def test_lists_by_prefix(store: Store) -> None:
    for name in ("a", "a/x", "a/y/z", "ab", "b/part-1", "b/part-2", "c"):
        if not (name == "a" and store.url.startswith("file:")):  # a disk has it or what is in it
            store.put(name, b"1")
    assert set(names(store)) >= {"a/x", "a/y/z", "ab", "b/part-1", "b/part-2", "c"}
    assert names(store, "b/part-") == names(store, "b/") == ["b/part-1", "b/part-2"]
    assert names(store, "b/part-2") == ["b/part-2"]
    assert set(names(store, "a/")) == {"a/x", "a/y/z"}
    assert set(names(store, "a")) >= {"a/x", "a/y/z", "ab"}
    assert names(store, "nothing") == names(store, "c/") == []


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    assert store.head("none") is None and store.head("none/at/all") is None
    assert list(store.list()) == []
    for ask in (
        lambda: store.get("none"),
        lambda: store.read("none", 0, 1),
        lambda: store.fetch("none", tmp_path / "into", NEVER),
    ):
        with pytest.raises(NoObject) as told:
            ask()
        assert store.url in str(told.value)


def test_removed(store: Store) -> None:
    """What is not there is no error, and keeps nothing that is."""
    for name in ("one", "two/three", "four"):
        store.put(name, b"1")
    store.remove(["none", "one", "none/either", "two/three"])
    assert names(store) == ["four"]
    store.remove(["one"])
    store.remove([])
    many = [f"many/{number}" for number in range(40)]
    for name in many:
        store.put(name, b"1")
    store.remove(["none", *many])
    assert names(store) == ["four"]
    store.put("one", b"new")
    assert names(store) == ["four", "one"]


def test_odd_names_come_back(store: Store) -> None:
    """Nothing is escaped, folded or normalised on the way."""
    for name in ODD:
        draft = store.draft(name)
        draft.write_bytes(name.encode())
        assert store.put_file(name, draft, NEVER).name == name
    assert names(store) == sorted(ODD)
    for name in ODD:
        assert store.get(name) == name.encode()
        assert store.head(name) is not None
        assert names(store, name) == [name]
    store.remove(ODD)
    assert names(store) == []


def test_bad_names_are_refused(store: Store) -> None:
    """On every store the same; none leads out of it."""
    asks: tuple[Callable[[str], object], ...] = (
        lambda name: store.put(name, b"1"),
        store.draft,
        store.get,
        store.head,
        lambda name: store.remove([name]),
    )
    for name in BAD:
        for ask in asks:
            with pytest.raises(BadObjectName):
                ask(name)
    assert list(store.list()) == []


def test_drafts_are_no_objects(store: Store) -> None:
    """G4: what a dead attempt left is not listed, and goes when it is told to."""
    store.put("whole", b"1")
    draft = store.draft("part-1")
    draft.write_bytes(b"half")
    assert names(store) == ["whole"] and store.head("part-1") is None
    assert not store.draft("part-1").exists(), "what lay there is gone"
    store.draft("part-1").write_bytes(b"half")
    store.draft("deep/er/part-2").write_bytes(b"half")
    assert store.remove_drafts() == 2
    assert not draft.exists() and store.remove_drafts() == 0
    assert names(store) == ["whole"]


def test_two_drafts_are_two(store: Store) -> None:
    one, two = store.draft("a/x"), store.draft("b/x")
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    store.put_file("b/x", two, NEVER)
    store.put_file("a/x", one, NEVER)
    assert (store.get("a/x"), store.get("b/x")) == (b"one", b"two")


class _After:
    """A stop token that is set after so many looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_stopped_put_leaves_nothing(store: Store, large: int, looks: int) -> None:
    draft = store.draft("big")
    draft.write_bytes(bytes(large))
    try:
        store.put_file("big", draft, _After(looks))
    except Stopped:
        assert names(store) == [] and store.head("big") is None
    else:
        assert looks and store.url.startswith("file:"), "on a disk it is one step"
    assert not draft.exists()


def test_nothing_is_put_once_it_is_stopped(store: Store) -> None:
    """I24: an attempt that was given up and wakes up later leaves nothing beside a manifest."""
    draft = store.draft("small")
    draft.write_bytes(b"1")
    with pytest.raises(Stopped):
        store.put_file("small", draft, _After(0))
    assert store.head("small") is None and not draft.exists()


def test_a_stopped_fetch(store: Store, large: int, tmp_path: Path) -> None:
    put_large(store, "big", bytes(large))
    with pytest.raises(Stopped):
        store.fetch("big", tmp_path / "into", _After(1))


def test_checks_out(store: Store) -> None:
    """G6: nothing to find, and nothing left behind."""
    assert check_store(store) == []
    assert list(store.list()) == []


def test_the_url_opens_it_again(store: Store, tmp_path: Path) -> None:
    store.put("one", b"1")
    assert normal_url(store.url) == store.url
    assert open_store(store.url, tmp_path / "other").get("one") == b"1"
