"""Names come from the journal, and a journal may come from elsewhere."""

from pathlib import Path

import pytest

from executors.errors import BadFolder
from executors.folder import inside


@pytest.mark.parametrize("name", ["0-1.flb", "shop.orders/0-1.flb", "a b/é%2F-1.flb", "..x"])
def test_what_lies_inside(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "x\0y", "./x"]
)
def test_what_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """P10: nothing outside the work folder is read or removed, whatever a journal says."""
    with pytest.raises(BadFolder, match="outside"):
        inside(tmp_path, name)
