"""One block converted, in whatever process."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

from executors.export.jsonl import lines
from executors.export.model import Converted, Piece, Recipe
from executors.rawbson import documents, elements, wrap

KEPT: Final = 64
"""Recipes that a process remembers: one per unit that is exported at a time."""
Convert = Callable[[bytes], Converted]


def convert(recipe: Recipe, block: bytes) -> Converted:
    """Misfits are counted as the documents stand in the block."""
    if recipe.without_id:
        block = b"".join(map(_without_id, documents(block)))
    return _converter(recipe)(block)


@lru_cache(maxsize=KEPT)
def _converter(recipe: Recipe) -> Convert:
    if recipe.format == "jsonl":
        return partial(_lines, recipe)
    from executors.export.shred import converter  # noqa: PLC0415 — pyarrow is large, and an extra

    return converter(recipe)


def _lines(recipe: Recipe, block: bytes) -> Converted:
    made = lines(block, recipe.json_form, recipe.compression)
    pieces = (Piece(made.data, made.documents),) if made.documents else ()
    return Converted(pieces, tuple((each.index, each.code, each.why) for each in made.misfits))


def _without_id(document: bytes) -> bytes:
    kept = [
        document[begin - len(name) - 2 : end]
        for _, name, begin, end in elements(document)
        if name != b"_id"
    ]
    return wrap(b"".join(kept))
