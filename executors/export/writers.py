"""Who writes the files of a recipe."""

from functools import partial

from executors.export.files import Open, TextWriter
from executors.export.jsonl import lines
from executors.export.model import Recipe


def writer_of(recipe: Recipe, namespace: str, most_bytes: int) -> Open:
    """Of the files of one chunk. `most_bytes`: of memory that they may take together."""
    if recipe.format == "jsonl":
        return partial(TextWriter, nothing=lines(b"", recipe.json_form, recipe.compression).data)
    from executors.export.parquet import ParquetFiles  # noqa: PLC0415 — as in `convert`

    return ParquetFiles(recipe, namespace, most_bytes)
