"""Which files lie in the folder of a dump, or beneath its URL, and which should."""

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from executors.dumps.beneath import Entry, entries, not_regular
from executors.dumps.errors import DamagedDump
from executors.dumps.model import Part

Lying = Callable[[AbstractSet[str]], Iterator[tuple[str, Entry]]]
"""What lies where a dump is, and in those folders of it."""
_NAMED: Final = 5
"""So many unknown files are told by name."""


def beside(lying: Lying, known: Collection[str], parts: Mapping[str, Part]) -> tuple[str, ...]:
    """What else lies there than what the manifest names and what is `known`, in words.
    Raises `DamagedDump` unless all that the manifest names is there as it says.

    Files nobody knows hurt nobody, and are told; what is no file at all has no business in a dump.
    """
    missing = dict(parts)
    cut_short: list[str] = []
    unknown: list[str] = []
    for name, entry in lying({file.partition("/")[0] for file in parts}):
        part = missing.pop(name, None)
        if entry.kind == "other" or (part and entry.kind != "file"):
            raise not_regular(name)
        if part is None and name not in known:
            (cut_short if name.endswith((".flb", ".tmp")) else unknown).append(name)
        if part and entry.bytes != part.file_bytes:
            why = f"has {entry.bytes} bytes, and the manifest says {part.file_bytes}"
            raise DamagedDump(name, why, detail="EDUMP064", at=min(entry.bytes, part.file_bytes))
    for name in missing:
        raise DamagedDump(name, "the manifest names it, and it is missing", detail="EDUMP063")
    return (
        *told(cut_short, "left by attempts that were cut short, ignored"),
        *told(unknown, "not in the manifest, ignored"),
    )


def in_folder(root: Path, folders: AbstractSet[str]) -> Iterator[tuple[str, Entry]]:
    """What lies in the folder, and in those folders of it that the manifest names."""
    for entry in entries(root):
        if entry.name not in folders:
            yield entry.name, entry
            continue
        for inner in entries(root, entry.name):
            yield f"{entry.name}/{inner.name}", inner


def told(names: list[str], what: str) -> tuple[str, ...]:
    """One sentence about all of these names; none about none."""
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"{', '.join(sorted(names)[:_NAMED])}{more}: {what}",)
