"""Whose a folder is in which a dump is made: of the job that claimed it, then of its manifest."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from executors.chunkfile import sync_directory
from executors.dumps.errors import NoDump
from executors.dumps.manifest import read_facts
from executors.errors import OutExists
from executors.increments.errors import LinkClaimed, LinkStands

CLAIM: Final = ".ferrylog-dump"
"""In a folder whose dump is not whole yet: the job that makes it."""
OURS: Final = re.compile(r"\d+-\d+\.flb(\.tmp)?")
"""Names of chunk files."""


def claim(folder: Path, job: str, *, link: bool = False) -> None:
    """Mark the folder of a dump that is being made. Raises as `must_be_ours`."""
    fresh = True
    try:
        with _created(folder / CLAIM) as file:
            file.write(job.encode())
    except FileExistsError:
        fresh = False
    try:
        must_be_ours(folder, job, link=link)
    except BaseException:
        if fresh:
            (folder / CLAIM).unlink()
        raise


def take_over(folder: Path, job: str) -> None:
    """Claim the folder of a link that another job began and did not finish, and remove what it
    left. Raises `LinkStands` where it did finish."""
    if maker(folder) is None and holder(folder) not in (None, job):
        temporary = folder / f"{CLAIM}.{job}.tmp"
        temporary.write_text(job)
        temporary.rename(folder / CLAIM)
        sync_directory(folder)
        _empty(folder)
    claim(folder, job, link=True)


def release(folder: Path, job: str) -> None:
    """Give a link back that a job claimed and will make nothing of."""
    with suppress(OSError):
        if holder(folder) == job and maker(folder) is None:
            _empty(folder)
            (folder / CLAIM).unlink()
            folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove chunk files of an attempt at a dump that will not be."""
    for path in folder.glob("*/*.flb*"):
        if OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()


def must_be_ours(folder: Path, job: str, *, link: bool) -> None:
    """Raise `OutExists`, or of a link of a chain `LinkStands` or `LinkClaimed`, where the folder
    holds or takes the dump of another job. Raises `DamagedDump` for a manifest that is none."""
    if (by := maker(folder)) not in (None, job):
        raise (
            LinkStands(str(folder), by)
            if link
            else OutExists(str(folder), f"holds the dump of job {by}")
        )
    if (by := holder(folder)) not in (None, job):
        raise (
            LinkClaimed(str(folder), by)
            if link
            else OutExists(str(folder), f"takes the dump of job {by} already")
        )


def maker(folder: Path) -> str | None:
    """The job whose dump stands in the folder."""
    try:
        return read_facts(folder).job
    except NoDump:
        return None


def holder(folder: Path) -> str | None:
    """The job that has claimed the folder."""
    try:
        return (folder / CLAIM).read_text(errors="replace")
    except FileNotFoundError:
        return None


def _created(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
