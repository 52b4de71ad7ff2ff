"""Blocks of documents as pieces of a JSONL file: lines, each piece compressed for itself.

Pieces put one after another are a valid file: gzip knows members, zstd frames. Made in worker
processes; pure.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import zstandard

from executors.export.jsontext import Form, Misfit, texts_of
from executors.rawbson import documents

Compression = Literal["none", "gzip", "zstd"]
SUFFIXES: Final[Mapping[Compression, str]] = {
    "none": ".jsonl",
    "gzip": ".jsonl.gz",
    "zstd": ".jsonl.zst",
}
ZSTD_LEVEL: Final = 1
"""As of chunk files."""
GZIP_LEVEL: Final = 3
"""Twice as fast as 6, which is gzip's own, and a tenth larger."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What became of a block."""

    data: bytes
    """A whole gzip member or zstd frame, even of no line."""
    documents: int
    """Lines of it."""
    misfits: tuple[Misfit, ...]
    """Those of the block that are not among them."""
    text_bytes: int
    """Uncompressed."""


def lines(block: bytes, form: Form, compression: Compression) -> Lines:
    """The documents of a block, raw BSON one after another, as one piece of a file."""
    found = texts_of([*documents(block)], form) if block else []
    misfits = tuple(each for each in found if isinstance(each, Misfit))
    whole = [each for each in found if isinstance(each, str)]
    text = "\n".join([*whole, ""]).encode()
    return Lines(_PACKED[compression](text), len(whole), misfits, len(text))


def _zstd(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(text)


_PACKED: Final[Mapping[Compression, Callable[[bytes], bytes]]] = {
    "none": lambda text: text,
    "gzip": lambda text: gzip.compress(text, GZIP_LEVEL, mtime=0),
    "zstd": _zstd,
}
