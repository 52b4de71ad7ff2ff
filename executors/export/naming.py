"""What fields are called in files: names that every reader takes, each once whatever the case."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_UNWANTED: Final = re.compile(r"""[\x00-\x20\x7f.$/\\,;:{}()\[\]<>="'`]""")
"""A dot means a path to some readers, to others spaces and brackets are errors."""
EMPTY: Final = "_"


def names_of(fields: Sequence[str]) -> list[str]:
    """A name for each of these fields, which are neighbours.

    A field whose own name will do keeps it before another one can get it; who comes later gets a
    number. Names that differ only by case, or only by how Unicode writes them, are the same name.
    """
    names = [_UNWANTED.sub("_", field) or EMPTY for field in fields]
    keepers: dict[str, str] = {}
    for field, name in zip(fields, names, strict=True):
        if name == field:
            keepers.setdefault(_seen(name), field)
    taken = set(keepers)
    return [
        name if keepers.get(_seen(name)) == field else _numbered(name, taken)
        for field, name in zip(fields, names, strict=True)
    ]


def _numbered(name: str, taken: set[str]) -> str:
    """The first that is free; it is taken then."""
    free, number = name, 1
    while _seen(free) in taken:
        number += 1
        free = f"{name}__{number}"
    taken.add(_seen(free))
    return free


def _seen(name: str) -> str:
    """As readers see it that ignore case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
