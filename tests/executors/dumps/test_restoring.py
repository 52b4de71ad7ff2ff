"""What a path holds, before anything of it is read."""

from pathlib import Path

import pytest

from executors.dumps.restoring import what_lies_there

HELD = {
    "databases": (
        (),
        ("shop/c.bson",),
        ("prelude.json", "oplog.bson", "shop/c.bson"),
        ("oplog.bson.gz", "shop/c.bson.gz"),
        ("manifest.json", "shop.c/1.flb"),
    ),
    "files": (
        ("c.bson", "c.metadata.json"),
        ("c.bson.gz", "prelude.json.gz"),
        ("view.metadata.json",),
        ("view.metadata.json.gz",),
        ("oplog.rs.bson",),
    ),
}


@pytest.mark.parametrize(
    ("held", "names"), [(held, names) for held in HELD for names in HELD[held]], ids=str
)
def test_a_directory_is_of_databases_or_of_one(
    held: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    """A database of views alone is one too: it has no documents, only metadata."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert what_lies_there(tmp_path) == held


def test_a_file_is_one_and_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.bson").touch()
    assert what_lies_there(tmp_path / "c.bson") == "files"
    assert what_lies_there(tmp_path / "not there") == "databases"
