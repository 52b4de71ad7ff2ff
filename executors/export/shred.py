"""Documents to columns: a block of raw documents becomes batches of Arrow's, one for each folder.

Runs in processes of its own, thousands of documents at a time, so that loops are C's. Every value
of a document comes out of here, or the whole document is a misfit: what comes out is counted
against the documents, at every level.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, Final

import pyarrow as pa

from executors.export.arrow import ELEMENT, beneath, schema_of
from executors.export.atoms import CONVERTED, Unfit, census, require_types, require_values
from executors.export.columns import Column, Types, from_text
from executors.export.counts import Counts
from executors.export.errors import Miscounted
from executors.export.model import Converted, Piece, Recipe
from executors.export.partition import Partition, partition_of
from executors.export.rows import Rows, rows_of

Row = dict[str, Any]
_NOTHING: Final[Row] = {}
_NONE: Final = type(None)


def converter(recipe: Recipe) -> Callable[[bytes], Converted]:
    """For the blocks of one collection."""
    columns = from_text(recipe.columns)
    return Shredder(columns, recipe.types, partition_of(recipe.partition, columns)).shred


class Shredder:
    """Of one collection."""

    def __init__(
        self, columns: tuple[Column, ...], types: Types, partition: Partition | None = None
    ) -> None:
        self._columns = columns
        self._types = types
        self._schema = schema_of(columns, types)
        self._partition = partition
        self._leaving = partition.leaving if partition is not None else []

    def shred(self, block: bytes) -> Converted:
        """Each piece's data is a batch as a message of Arrow's, without its schema. Raises
        `Miscounted`."""
        found = rows_of(block, self._columns)
        unfit = dict(found.unfit)
        pieces = []
        for folder, rows in self._folders(found, unfit):
            batch = self._fitting(rows, unfit)
            if batch.arrow.num_rows:
                pieces.append(self._piece(folder, batch))
        misfits = [(place, error.code, str(error)) for place, error in sorted(unfit.items())]
        return Converted(tuple(pieces), tuple(misfits))

    def _folders(self, found: Rows, unfit: dict[int, Unfit]) -> Iterator[tuple[str, Rows]]:
        if self._partition is None:
            yield "", found
            return
        folders, nowhere = self._partition.folders(found.rows)
        unfit.update((found.places[at], error) for at, error in nowhere)
        for folder, ats in folders.items():
            yield folder, Rows([found.rows[at] for at in ats], [found.places[at] for at in ats])

    def _fitting(self, rows: Rows, unfit: dict[int, Unfit]) -> "_Batch":
        try:
            return self._batch(rows.rows)
        except Unfit:
            wrong = dict(self._wrong(rows.rows, 0))
        unfit.update((rows.places[at], error) for at, error in wrong.items())
        return self._batch([row for at, row in enumerate(rows.rows) if at not in wrong])

    def _wrong(self, rows: Sequence[Row], first: int) -> Iterator[tuple[int, Unfit]]:
        """By halves: few do not fit where most do."""
        try:
            self._batch(rows)
        except Unfit as error:
            if len(rows) == 1:
                yield first, error
                return
            half = len(rows) // 2
            yield from self._wrong(rows[:half], first)
            yield from self._wrong(rows[half:], first + half)

    def _batch(self, rows: Sequence[Row]) -> "_Batch":
        return _Batch(self._types, rows, self._columns, self._schema)

    def _piece(self, folder: str, batch: "_Batch") -> Piece:
        arrays = batch.arrow.drop_columns(self._leaving) if self._leaving else batch.arrow
        return Piece(arrays.serialize().to_pybytes(), arrays.num_rows, folder, batch.counts)


class _Batch:
    """Rows as arrays. Raises `Unfit`, `Miscounted`."""

    def __init__(
        self, types: Types, rows: Sequence[Row], columns: tuple[Column, ...], schema: Any
    ) -> None:
        self._types = types
        self.counts = Counts()
        arrays = self._members(rows, columns, schema, "")
        self.arrow = pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _members(
        self, rows: Sequence[Row], columns: tuple[Column, ...], fields: Any, above: str
    ) -> list[Any]:
        """An array for each column; `fields`: theirs, of Arrow's."""
        unknown = set[str]().union(*rows).difference([each.field for each in columns])
        if unknown:
            raise Unfit.unknown(above, min(unknown))
        arrays, taken = [], 0
        for column, its in zip(columns, fields, strict=True):
            path, field = beneath(above, column.name), column.field
            arrays.append(self._array(column, its.type, [row.get(field) for row in rows], path))
            taken += self.counts.present[path]
        kinds = Counter(map(type, chain.from_iterable(map(dict.values, rows))))
        if taken != kinds.total() - kinds[_NONE]:
            raise Miscounted(f"{kinds.total() - kinds[_NONE]} values in {above!r}, {taken} taken")
        return arrays

    def _array(self, column: Column, kind: Any, values: list[Any], path: str) -> Any:
        types = Counter(map(type, values))
        nulls = types.pop(_NONE, 0)
        require_types(path, column.kind, self._types, types)
        self.counts.present[path] = present = len(values) - nulls
        self.counts.census[path] = census(types, values)
        if column.kind == "struct":
            array = self._struct(column, kind, values, path)
        elif column.element is not None:
            array = self._list(column.element, kind, values, path)
        else:
            require_values(path, column.kind, types, values)
            convert = CONVERTED[self._types].get(column.kind)
            array = pa.array(values if convert is None else convert(values), kind)
        if len(array) != len(values) or len(array) - array.null_count != present:
            raise Miscounted(f"{present} values in {path!r}, {array.null_count} nulls made")
        return array

    def _struct(self, column: Column, kind: Any, values: list[Any], path: str) -> Any:
        members = self._members(list(map(_as_row, values)), column.members, kind, path)
        return pa.StructArray.from_arrays(members, fields=list(kind), mask=_nulls(values))

    def _list(self, element: Column, kind: Any, values: list[Any], path: str) -> Any:
        rows = [() if each is None else each for each in values]
        items = list(chain.from_iterable(rows))
        inside = self._array(element, kind.value_type, items, beneath(path, ELEMENT))
        offsets = pa.array(list(accumulate(map(len, rows), initial=0)), pa.int32())
        return pa.ListArray.from_arrays(offsets, inside, type=kind, mask=_nulls(values))


def _as_row(value: Any) -> Row:
    if type(value) is dict:
        return value
    return _NOTHING if value is None else dict(value.as_doc())


def _nulls(values: list[Any]) -> Any:
    """Which of the values are; `None`: none of them."""
    return pa.array([each is None for each in values]) if None in values else None
