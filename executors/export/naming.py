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
    taken: set[str] = set()
    found: dict[int, str] = {}
    for at in sorted(range(len(fields)), key=lambda at: names[at] != fields[at]):
        found[at] = _free(names[at], taken)
        taken.add(_seen(found[at]))
    return [found[at] for at in range(len(fields))]


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while _seen(free) in taken:
        number += 1
        free = f"{name}__{number}"
    return free


def _seen(name: str) -> str:
    """As readers see it that ignore case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
