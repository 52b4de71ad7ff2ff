"""Where an export goes, before it begins and when it goes on."""

from pathlib import Path

import pytest

from executors.export.errors import PlaceUnusable
from executors.export.place import Export
from executors.export.processes import Processes
from executors.storage.local import Local
from ferrylog.exports import take_place
from tests.executors.export.job import FACTS, JOB, asked


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_a_folder_that_cannot_be(place: str, tmp_path: Path, *, begins: bool) -> None:
    """A disk that takes nothing is no fault of ours: it is said what helps."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    to = Export(JOB, Local(tmp_path / place), Processes(1), lambda: FACTS, lambda: 1)
    with pytest.raises(PlaceUnusable, match="cannot take an export") as refused:
        take_place(to, asked(), begins=begins)
    assert (refused.value.exit_code, bool(refused.value.remedy)) == (2, True)
