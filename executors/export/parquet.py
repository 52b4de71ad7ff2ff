"""Batches of Arrow's to a Parquet file: row groups cut by bytes, a checksum for every page.

What was written is counted against the documents once more, by the file's own statistics: a file in
which a value is missing is never whole.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from executors.chunkfile import fresh_file
from executors.export.arrow import described, leaves, schema_of
from executors.export.columns import from_text
from executors.export.counts import Counts
from executors.export.errors import Miscounted, TooManyFolders
from executors.export.model import Piece, Recipe
from executors.export.partition import partition_of

ROW_GROUP_BYTES: Final = 32 << 20
"""Of Arrow's memory: two workers and the processes that convert stay under 500 MB with it."""
ZSTD_LEVEL: Final = 3
"""A fifth smaller than 1, which is Arrow's own, in the same time."""
SHARE: Final = 8
"""One in so many bytes of a worker's memory is for documents that wait for their row group."""
MOST_FOLDERS: Final = 1_000
"""Of one chunk: each is a file."""
BUFFER: Final = 1 << 20
COUNTS: Final = "ferrylog.counts"
"""Where the file itself says what it holds, as JSON."""


class ParquetFiles:
    """Opens the files of one chunk, one for each folder of its partition. Together they hold no
    more documents in memory than the largest row group has."""

    def __init__(self, recipe: Recipe, namespace: str, most_bytes: int) -> None:
        columns = from_text(recipe.columns)
        partition = partition_of(recipe.partition, columns)
        self._partition = recipe.partition
        leaving = partition.leaving if partition is not None else []
        self.columns = tuple(each for each in columns if each.name not in leaving)
        about = {"namespace": namespace, "types": recipe.types}
        self.schema = schema_of(self.columns, recipe.types)
        self.told = described(self.schema, self.columns, about)
        self.compression = recipe.compression
        self._most_bytes = min(ROW_GROUP_BYTES, most_bytes // SHARE)
        self._open: list[ParquetFile] = []
        self._held = 0

    def __call__(self, path: Path) -> "ParquetFile":
        """Raises `TooManyFolders`, `OSError`."""
        if len(self._open) == MOST_FOLDERS:
            raise TooManyFolders(self._partition, MOST_FOLDERS)
        self._open.append(ParquetFile(path, self))
        return self._open[-1]

    def take(self, size: int) -> None:
        """So many bytes more wait, or fewer. Raises `OSError`."""
        self._held += size
        while self._held > self._most_bytes:
            max(self._open, key=lambda each: each.held).write()


class ParquetFile:
    """One of them."""

    def __init__(self, path: Path, files: ParquetFiles) -> None:
        self.held = 0
        """Bytes of documents that wait for their row group."""
        self._files = files
        self._waiting: list[Any] = []
        self._counts = Counts()
        self._documents = 0
        self._sink = _Sink(path)
        self._written: list[Any] = []
        self._writer = pq.ParquetWriter(
            self._sink,
            files.told,
            compression=files.compression,
            compression_level=ZSTD_LEVEL if files.compression == "zstd" else None,
            write_page_checksum=True,
            metadata_collector=self._written,
        )
        self._sink.rest()

    def add(self, piece: Piece) -> None:
        """Raises `OSError`."""
        batch = pa.ipc.read_record_batch(pa.py_buffer(piece.data), self._files.schema)
        assert batch.num_rows == piece.documents
        self._waiting.append(batch)
        self._counts.add(piece.counts)
        self._documents += piece.documents
        self.held += len(piece.data)
        self._files.take(len(piece.data))

    def write(self) -> None:
        """What waits, as one row group. Raises `OSError`."""
        table = pa.Table.from_batches(self._waiting)
        self._waiting = []
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._sink.rest()
        freed, self.held = self.held, 0
        self._files.take(-freed)

    def close(self) -> tuple[int, int, str]:
        """Documents, bytes and SHA-256 of the whole file, which is a valid one without documents
        too. Raises `OSError`, `Miscounted`."""
        if self._waiting:
            self.write()
        self._writer.add_key_value_metadata({COUNTS: json.dumps(asdict(self._counts))})
        self._writer.close()
        self._sink.rest()
        self._check(self._written[0])
        return self._documents, self._sink.size, self._sink.digest.hexdigest()

    def discard(self) -> None:
        """Whatever state it is in."""
        self._sink.closed = True
        with suppress(Exception):
            self._sink.rest()
        with suppress(Exception):
            self._writer.close()

    def _check(self, footer: Any) -> None:
        if footer.num_rows != self._documents:
            raise Miscounted(f"{self._documents} documents became {footer.num_rows} rows")
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        for place, leaf in enumerate(leaves(self._files.columns)):
            found = sum(each.column(place).statistics.num_values for each in groups)
            there = self._counts.present.get(leaf.path, 0)
            if found < there or (leaf.counted and found > there):
                raise Miscounted(f"{there} values of {leaf.path} became {found}")


class _Sink:
    """A file that is open only while it is written to: there may be many."""

    def __init__(self, path: Path) -> None:
        self.closed = False
        """What is written then goes nowhere."""
        self.size = 0
        self.digest = hashlib.sha256()
        self._path = path
        self._file: BinaryIO | None = fresh_file(path)

    def write(self, data: bytes) -> int:
        if not self.closed:
            if self._file is None:
                self._file = self._path.open("ab", buffering=BUFFER)
            self._file.write(data)
            self.digest.update(data)
            self.size += len(data)
        return len(data)

    def rest(self) -> None:
        """Raises `OSError`."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """When it rests."""

    def close(self) -> None:
        """When it rests."""


def counts_in(file: Any) -> Counts:
    """What a file of ours says it holds: `file` is a path, or anything open that can be read
    from a place. Raises `ValueError` where it says nothing."""
    told = pq.read_metadata(file).metadata or {}
    if COUNTS.encode() not in told:
        raise ValueError("no Parquet file of an export")
    return Counts(**json.loads(told[COUNTS.encode()]))
