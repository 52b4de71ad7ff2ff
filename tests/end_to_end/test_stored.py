"""Dumps in an object store: the same dumps, resumable on both sides, damage named."""

from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import Terminal, left_by
from tests.objectstores import S3

pytestmark = pytest.mark.server
SMALL = ("--chunk-docs", "100", "--chunk-bytes", "2000000")


def test_every_kind_survives_a_store(pair: Pair, s3: S3, tmp_path: Path) -> None:
    """I22, G4."""
    every_kind.load(pair.source_client)
    ferrylog, url = Terminal(tmp_path, pair), f"{s3.url}/a/b"
    dumped = ferrylog("dump", "--out", url, *SMALL)
    assert dumped.returncode == 0, dumped.stderr
    restored = ferrylog("restore", "--from", url)
    assert restored.returncode == 0, restored.stderr
    found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    assert every_kind.differences(*found) == []
    assert not left_by(ferrylog.journal)
