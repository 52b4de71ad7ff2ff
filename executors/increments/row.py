"""Rows of an increment: a document as it is, or the key of one that is gone.

A gone one is a document whose only element is its `_id` under the empty name, which no stored
document can be: its first element would be called `_id`.
"""

from executors.rawbson import id_of


def erased(id_document: bytes) -> bytes:
    """The row for `{_id: <value>}` that is gone."""
    size = len(id_document) - 3
    return size.to_bytes(4, "little") + id_document[4:5] + id_document[8:]


def is_erased(row: bytes | memoryview) -> bool:
    return len(row) > 5 and row[5] == 0


def key_of(row: bytes) -> bytes:
    """`{_id: <value>}` of any row."""
    if not is_erased(row):
        return id_of(row)
    size = len(row) + 3
    return size.to_bytes(4, "little") + row[4:5] + b"_id" + row[5:]
