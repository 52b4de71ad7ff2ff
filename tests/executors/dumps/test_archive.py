"""mongodump's archive, read without trust: whole, or refused with offset and reason (I24; bad
inputs 14 to 18, 27, 28 of the list), and written as mongodump writes it."""

import gzip
import io
import struct
import tracemalloc
from collections.abc import Callable

import bson
import pytest

from executors.dumps.archive import Body, Entry, Prelude, Run, read_prelude, write_archive
from executors.dumps.archivestream import Source, source_of
from executors.dumps.errors import DETAILS, DamagedDump
from executors.flaws import Code
from tests.counts import count
from tests.executors.dumps.archives import (
    END,
    MAGIC,
    block,
    crc64,
    document,
    end,
    entry,
    head,
    interleaved,
    prelude,
)


def runs(raw: bytes, *, deep: bool = False) -> list[Run]:
    source = source_of(io.BytesIO(raw), "x.archive")
    return list(Body(source, read_prelude(source), deep=deep).runs())


def documents(raw: bytes, *, deep: bool = False) -> dict[str, bytes]:
    """All of each namespace that the archive brings to its end."""
    found: dict[str, bytes] = {}
    for run in runs(raw, deep=deep):
        found[run.entry.namespace] = found.get(run.entry.namespace, b"") + run.data
    return found


def refusal(raw: bytes, *, deep: bool = False) -> DamagedDump:
    with pytest.raises(DamagedDump) as caught:
        documents(raw, deep=deep)
    assert caught.value.file == "x.archive"
    assert caught.value.at is not None
    assert caught.value.detail in {*DETAILS, *Code}
    return caught.value


def test_blocks_of_several_namespaces_are_told_apart() -> None:
    raw = interleaved()
    assert documents(raw) == {
        "shop.a": b"".join(document(n) for n in range(5)),
        "shop.b": b"".join(document(n, more=[-1, {"_id": n}]) for n in range(10, 14)),
        "shop.none": b"",
    }
    assert [run.entry.namespace for run in runs(raw) if run.ended] == [
        "shop.none",
        "shop.a",
        "shop.b",
    ]
    for run in runs(raw):
        assert raw[run.at : run.at + len(run.data)] == run.data


def test_what_the_prelude_says() -> None:
    raw = prelude(entry("a.b", "{}", type="timeseries"), entry(".oplog"), server_version="7.0.1")
    said = read_prelude(source_of(io.BytesIO(raw), ""))
    assert (said.server_version, said.tool_version) == ("7.0.1", "100.1.0")
    first, oplog = said.entries
    assert (first.namespace, first.metadata, first.type) == ("a.b", "{}", "timeseries")
    assert (oplog.database, oplog.collection) == ("", "oplog")
    assert first.at == raw.index(entry("a.b", "{}", type="timeseries"))


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_comes_a_byte_at_a_time_too(packed: bool) -> None:
    raw = gzip.compress(interleaved()) if packed else interleaved()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 3))

    source = source_of(Slow(raw), "")
    assert sum(run.documents for run in Body(source, read_prelude(source), deep=True).runs()) == 9


def test_the_end_of_a_namespace_without_a_block_will_do() -> None:
    assert documents(prelude(entry("a.b")) + end("a.b")) == {"a.b": b""}


def test_time_series_are_told_by_their_buckets() -> None:
    told = entry("a.t", type="timeseries")
    old = prelude(told) + block("a.system.buckets.t", document(1))
    old += end("a.system.buckets.t", document(1))
    new = prelude(told, server_version="8.3.0-rc1") + block("a.t", document(1))
    new += end("a.t", document(1))
    assert documents(old) == documents(new) == {"a.t": document(1)}


def test_an_archive_cut_at_any_byte_is_refused() -> None:
    """I24, bad inputs 14 and 15."""
    raw = interleaved()
    for size in range(len(raw)):
        refusal(raw[:size])
    count("archives cut, refused", len(raw))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_byte_that_changed_is_noticed_or_changes_no_document(flip: int) -> None:
    """I24: documents, heads and ends have a CRC or a form that must fit; the prelude has neither,
    so a change of what it says of a version or a kind may pass, with the same documents."""
    raw, whole = interleaved(), documents(interleaved())
    passed = 0
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
        try:
            found = documents(changed)
        except DamagedDump:
            continue
        assert found == whole
        assert at < len(prelude(entry("shop.a"), entry("shop.b"), entry("shop.none")))
        passed += 1
    assert passed < len(raw) // 4
    count("archives with a changed byte, refused", len(raw) - passed)
    count("archives with a changed byte in the prelude, the same documents", passed)


@pytest.mark.parametrize("size", range(4, 400, 13))
def test_gzip_that_was_cut_is_refused(size: int) -> None:
    """Bad input 28."""
    packed = gzip.compress(interleaved())
    assert refusal(packed[: max(4, min(size, len(packed) - 1))])


def test_gzip_with_something_behind_is_refused() -> None:
    packed = gzip.compress(interleaved())
    assert refusal(packed + b"more").detail == "EDUMP022"
    assert documents(packed) == documents(interleaved())


ONE = prelude(entry("a.b"))
TWO = block("a.b", document(1)) + end("a.b", document(1))
LENGTHS = (0, 1, 4, -2, -(1 << 31), (1 << 31) - 1, (17 << 20))

BAD: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "nothing": ("EDUMP084", 0, lambda: b""),
    "no magic": ("EDUMP080", 0, lambda: document(1) * 3),
    "another version": ("EDUMP081", 4, lambda: prelude(version="0.2")),
    "a header without version": ("EDUMP082", 4, lambda: MAGIC + bson.encode({"a": 1}) + END),
    "no header": ("EDUMP082", 8, lambda: MAGIC + END),
    "an entry without metadata": (
        "EDUMP082",
        len(prelude()) - 4,
        lambda: prelude(bson.encode({"db": "a", "collection": "b"})) + TWO,
    ),
    "an entry of unknown type": (
        "EDUMP082",
        len(prelude()) - 4,
        lambda: prelude(entry("a.b", type="index")) + TWO,
    ),
    "an entry that is no document": (
        "EDUMP082",
        len(prelude()) - 4,
        lambda: prelude(b"\x09\0\0\0wxyz\0") + TWO,
    ),
    "a namespace twice": (
        "EDUMP088",
        len(ONE) - 4,
        lambda: prelude(entry("a.b"), entry("a.b")) + TWO,
    ),
    "no end": ("EDUMP085", len(ONE), lambda: ONE),
    "a block of another": ("EDUMP088", len(ONE), lambda: ONE + block("a.c") + TWO),
    "a block behind the end": ("EDUMP088", len(ONE + TWO), lambda: ONE + TWO + block("a.b")),
    "two ends": ("EDUMP088", len(ONE + TWO), lambda: ONE + TWO + end("a.b", document(1))),
    "an end mark too many": ("EDUMP087", len(ONE), lambda: ONE + END + TWO),
    "documents behind EOF": (
        "EDUMP087",
        len(ONE),
        lambda: ONE + head("a.b", end=True) + document(1) + END,
    ),
    "a head with more": ("EDUMP082", len(ONE), lambda: ONE + head("a.b", more=1) + END),
    "a head with less": (
        "EDUMP082",
        len(ONE),
        lambda: ONE + bson.encode({"db": "a", "collection": "b"}) + END,
    ),
    "a head that is none": ("EDUMP082", len(ONE), lambda: ONE + document(1) + END),
    "the CRC": ("EDUMP089", len(ONE), lambda: ONE + head("a.b", crc=1, end=True) + END),
    "no NUL": (
        "EBSON014",
        len(ONE + head("a.b") + document(1)) - 1,
        lambda: ONE + head("a.b") + document(1)[:-1] + b"\1" + END,
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_archive_is_refused_where_it_is_wrong(kind: str) -> None:
    detail, at, raw = BAD[kind]
    error = refusal(raw())
    assert (error.detail, error.at) == (detail, at)
    assert str(at) in str(error)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("where", ["header", "entry", "head", "document"])
def test_a_length_that_lies_is_refused_before_allocation(length: int, where: str) -> None:
    """Bad inputs 16 and 17."""
    before = {
        "header": MAGIC,
        "entry": prelude()[:-4],
        "head": ONE,
        "document": ONE + head("a.b"),
    }[where]
    raw = before + struct.pack("<i", length) + b"\0" * 100
    tracemalloc.start()
    try:
        error = refusal(raw)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert error.at == len(before)
    assert error.detail in ("EBSON011", "EBSON012")


def test_a_length_beyond_the_end_is_a_cut() -> None:
    raw = ONE + head("a.b") + struct.pack("<i", 1 << 20) + b"\0" * 100
    error = refusal(raw)
    assert (error.detail, error.at) == ("EDUMP084", len(ONE + head("a.b")))


def test_the_inside_of_documents_is_looked_at_on_demand() -> None:
    """Bad input 24; the CRC is right: so it was dumped."""
    wrong = document(2, ok=True).replace(b"ok\0\1", b"ok\0\7")
    good = document(1)
    raw = ONE + block("a.b", good, wrong) + end("a.b", good, wrong)
    assert documents(raw) == {"a.b": good + wrong}
    error = refusal(raw, deep=True)
    assert (error.detail, "ok" in error.why) == ("EBSON024", True)
    assert error.at == raw.index(b"ok\0\7") + 3


def test_large_documents_pass_in_bounded_memory() -> None:
    large = bson.encode({"_id": 1, "b": b"x" * (16 << 20)})
    lots = [ONE, head("a.b"), *[large] * 6, END, head("a.b", 0, end=True) + END]

    pieces = iter(lots)
    source = Source(lambda _: next(pieces, b""), "x.archive")
    body = Body(source, read_prelude(source), deep=False)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedDump, match="EDUMP089"):
            for run in body.runs():
                assert run.documents >= 1
        assert tracemalloc.get_traced_memory()[1] < 120 << 20
    finally:
        tracemalloc.stop()


def test_a_written_archive_is_the_one_made_by_hand() -> None:
    """To the byte, but for the order of the blocks, which is the prelude's."""
    entries = (Entry("a", "b", "{}", "collection"), Entry("a", "t", "", "timeseries"))
    told = {"a.b": [document(1), document(2) + document(3)], "a.t": []}
    written = io.BytesIO()
    write_archive(written.write, Prelude("6.0.5", "x", entries), lambda one: told[one.namespace])
    buckets = "a.system.buckets.t"
    assert written.getvalue() == b"".join(
        [
            prelude(
                entry("a.b", "{}"),
                entry("a.t", type="timeseries"),
                concurrent_collections=1,
                tool_version="x",
            ),
            block("a.b", document(1), document(2), document(3)),
            end("a.b", document(1), document(2), document(3)),
            block(buckets),
            end(buckets),
        ]
    )


def test_the_crc_by_hand_is_the_standard_one() -> None:
    assert crc64(b"123456789") & ((1 << 64) - 1) == 0x995DC9BBDF1939FA
