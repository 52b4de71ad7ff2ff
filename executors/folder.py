"""The work folder: where chunk files lie between dump and restore."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from executors.chunkfile import sync_directory
from executors.errors import BadFolder

REJECTED: Final = "rejected"
"""Where the documents lie that the target refused; no unit's folder has this name, for a unit's
has a dot."""
UNDO: Final = "undo"
"""Where the undo logs lie, a folder for each kind of operation."""
LONGEST_NAME: Final = 200
"""Bytes of a folder's name; file systems take 255."""


def prepare_folder(folder: Path) -> None:
    """Make the folder of a job inside the work folder, for us alone. Raises `BadFolder`."""
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"1")
        probe.unlink()
        for directory in (folder.parent, folder.parent.parent):
            sync_directory(directory)  # the names of what was made
    except OSError as error:
        raise BadFolder(str(folder), error.strerror or str(error)) from None


def inside(folder: Path, name: str) -> Path:
    """What has that name in the folder. Raises `BadFolder` for a name that leads elsewhere: names
    come from the journal, and a journal may come from elsewhere."""
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise BadFolder(str(folder), f"the journal names a file outside it: {name!r}")
    return folder / name


def remove_folder(
    folder: Path,
    *,
    keep_files: bool,
    keep_rejected: Collection[Path],
    keep_undo: bool = False,
) -> None:
    """Remove what a finished job left in its folder: all but these files of rejected documents,
    and on demand but whole chunk files, and what brings the target back.

    The job is done: what cannot be removed stays, and is no reason to say otherwise.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        rejected = path.is_relative_to(folder / REJECTED)
        kept = path in keep_rejected if rejected else keep_files
        if path.is_relative_to(folder / UNDO):
            kept = keep_undo
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            elif not kept or path.suffix == ".tmp":
                path.unlink()
    remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def folder_name(namespace: str) -> str:
    """A namespace as one safe file name: lower-case letters, digits, `-`, `_` and inner dots
    stay, all else is `%XX`: names that differ by case stay apart on every file system."""
    safe = "".join(map(_escaped, namespace))
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= LONGEST_NAME:
        return safe
    digest = hashlib.sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe[: LONGEST_NAME - 65]}-{digest}"


def _escaped(character: str) -> str:
    if character in "-_." or (
        character.isascii() and character.isalnum() and not character.isupper()
    ):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
