"""What an export of a chunk is made of: how its blocks are converted, and what comes back."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Compression = Literal["none", "zstd", "gzip"]
SUFFIXES: Final[dict[str, str]] = {"none": "", "zstd": ".zst", "gzip": ".gz"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the blocks of one unit are converted; it travels with each of them."""

    format: Literal["parquet", "jsonl"]
    json_form: Literal["canonical", "relaxed"] = "canonical"
    compression: Compression = "zstd"
    types: Literal["exchange", "native"] = "exchange"
    columns: str = ""
    """As `columns.to_text` made them."""
    partition: str = ""
    without_id: bool = False
    """Documents were read with an `_id` that nobody wants."""

    @property
    def suffix(self) -> str:
        """Of the names of its files."""
        if self.format == "parquet":
            return ".parquet"
        return ".jsonl" + SUFFIXES[self.compression]


@dataclass(frozen=True, slots=True)
class Piece:
    """What of a block goes to one file."""

    data: bytes
    """JSONL: text, compressed as a frame of its own; Parquet: an Arrow stream of one batch."""
    documents: int
    folder: str = ""
    """Of its partition, with a slash at its end."""
    counts: Any = None
    """Parquet: of non-null values, and of BSON types, by column."""


@dataclass(frozen=True, slots=True)
class Converted:
    """Of one block."""

    pieces: tuple[Piece, ...]
    misfits: tuple[tuple[int, str, str], ...] = field(default=())
    """Documents that are in no piece: the place in the block, a code, and why."""
