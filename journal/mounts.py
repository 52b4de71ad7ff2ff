"""Where a journal must not be written: SQLite's locks and its log do not hold over a network."""

import re
from pathlib import Path
from typing import Final

from journal.errors import JournalUnreachable

NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "fuse.sshfs")
)
MOUNTS: Final = Path("/proc/self/mountinfo")


def refuse_network(journal: Path) -> None:
    """Raises `JournalUnreachable` when the journal lies on a network file system."""
    try:
        mounts = MOUNTS.read_text()
    except OSError:  # no such file on this system: nobody can tell
        return
    kind = file_system(journal.parent.resolve(), mounts)
    if kind in NETWORK:
        raise JournalUnreachable(
            journal,
            f"it lies on a network file system ({kind}), where locks and the order of writes "
            "are not certain",
            remedy="put the journal on a local disk; chunk files may lie elsewhere (--work-dir)",
        )


def file_system(folder: Path, mounts: str) -> str:
    """The type of the file system that the folder lies on, by the kernel's table of mounts."""
    best, found = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if folder.is_relative_to(place) and len(place.parts) >= best:
            best, found = len(place.parts), after.split()[0]
    return found
