"""A journal is not written over a network."""

from pathlib import Path

import pytest

from ferrylog.jobs import journal_to_write
from journal import mounts
from journal.errors import JournalUnreachable
from journal.mounts import file_system, refuse_network

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt rw - tmpfs tmpfs rw
31 22 0:41 / /mnt/my\\040share rw master:2 - nfs4 server:/x rw,vers=4.2
32 22 0:42 / /mnt/my\\040share/local rw - xfs /dev/sdb1 rw
33 22 0:43 / /mnt/dätä rw - nfs server:/y rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/mnt/x", "tmpfs"),
        ("/mnt/my share", "nfs4"),
        ("/mnt/my share/jobs", "nfs4"),
        ("/mnt/my shared", "tmpfs"),
        ("/mnt/dätä/x", "nfs"),
        ("/mnt/my share/local/deep", "xfs"),
    ],
)
def test_the_nearest_mount_counts(folder: str, kind: str) -> None:
    assert file_system(Path(folder), TABLE) == kind


def test_a_network_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"{TABLE}40 22 0:50 / {tmp_path} rw - cifs //server/x rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    with pytest.raises(JournalUnreachable, match=r"network file system \(cifs\)"):
        refuse_network(tmp_path / "ferrylog.db")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    refuse_network(tmp_path / "ferrylog.db")


def test_whoever_writes_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"40 22 0:50 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    with pytest.raises(JournalUnreachable, match="network"), journal_to_write(tmp_path / "j.db"):
        pass
    assert not (tmp_path / "j.db").exists()
