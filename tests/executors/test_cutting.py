"""A server's reply is cut into its documents without looking into them."""

import bson
import pytest

from executors.batches import (
    BLOCK_BYTES,
    BLOCK_DOCUMENTS,
    CUT_BYTES,
    VIEWS_BYTES,
    _cut_reply,
)


def reply(documents: list[bytes], cursor: int = 7) -> bytes:
    """As a server writes it: an array is a document whose names count."""
    batch = b"".join(b"\x03%d\0%b" % each for each in enumerate(documents))
    array = (len(batch) + 5).to_bytes(4, "little") + batch + b"\0"
    rest = bson.encode({"id": bson.Int64(cursor), "ns": "a.b"})[4:]
    body = b"\x04nextBatch\0" + array + rest
    inner = (len(body) + 4).to_bytes(4, "little") + body
    outer = b"\x03cursor\0" + inner + bson.encode({"ok": 1.0})[4:]
    return (len(outer) + 4).to_bytes(4, "little") + outer


@pytest.mark.parametrize("size", [0, VIEWS_BYTES])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 1000, 1001, 10_001])
def test_every_document_of_a_reply_is_in_its_blocks_once(count: int, size: int) -> None:
    """F1: names of every length are stripped, from documents that are copied or joined from
    views."""
    documents = [bson.encode({"_id": n, "x": "y" * size}) for n in range(count)]
    blocks, cursor = _cut_reply(reply(documents))
    assert cursor == 7
    assert b"".join(block.data for block, _ in blocks) == b"".join(documents)
    assert sum(block.documents for block, _ in blocks) == count
    assert all(block.data.endswith(last) for block, last in blocks)
    assert all(type(last) is bytes for _, last in blocks)


def test_a_block_has_a_limit_of_documents_and_of_bytes() -> None:
    """F1: a reply that is longer than it was asked for is several blocks; one that is a little
    longer is one."""
    small = [bson.encode({})] * (BLOCK_DOCUMENTS + 1)
    blocks, _ = _cut_reply(reply(small))
    assert [block.documents for block, _ in blocks] == [BLOCK_DOCUMENTS, 1]
    large = [bson.encode({"x": bytes(BLOCK_BYTES // 4)})] * 6
    blocks, _ = _cut_reply(reply(large))
    assert [block.documents for block, _ in blocks] == [5, 1]
    assert len(blocks[0][0].data) < CUT_BYTES + len(large[0])


def test_a_batch_that_does_not_end_where_it_says_is_refused() -> None:
    """I21: nothing is taken for a document that is none."""
    whole = bytearray(reply([bson.encode({"_id": 1})]))
    at = whole.index(b"nextBatch\0") + len(b"nextBatch\0") + 4 + 3
    whole[at] += 1
    with pytest.raises(ValueError, match="does not end"):
        _cut_reply(bytes(whole))
