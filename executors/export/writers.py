"""Who writes the files of a recipe."""

from functools import partial

from executors.export.files import Open, TextWriter
from executors.export.jsonl import lines
from executors.export.model import Recipe


def writer_of(recipe: Recipe, namespace: str, most_bytes: int) -> Open:
    """`most_bytes`: of memory that one file may take before more of it is written."""
    assert namespace and most_bytes
    if recipe.format == "jsonl":
        return partial(TextWriter, nothing=lines(b"", recipe.json_form, recipe.compression).data)
    raise NotImplementedError
