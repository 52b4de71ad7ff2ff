"""The work folder: where chunk files lie between dump and restore."""

from contextlib import suppress
from pathlib import Path

from executors.chunkfile import sync_directory
from executors.errors import BadFolder


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


def remove_folder(folder: Path, *, keep_files: bool) -> None:
    """Remove what a finished job left in its folder: everything, or all but whole chunk files.

    The job is done: what cannot be removed stays, and is no reason to say otherwise.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            elif not keep_files or path.suffix == ".tmp":
                path.unlink()
    with suppress(OSError):
        folder.rmdir()


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
