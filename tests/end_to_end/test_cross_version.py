"""From a server of another version to the one that the tests use.

Name its program to run it: FERRYLOG_OTHER_MONGOD=/opt/mongodb-5.0/bin/mongod scripts/test
tests/end_to_end/test_cross_version.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_dump_restore import LAYOUTS, at
from tests.end_to_end.test_main_job import Terminal

OTHER = os.environ.get("FERRYLOG_OTHER_MONGOD", "")
pytestmark = pytest.mark.skipif(
    not OTHER, reason="FERRYLOG_OTHER_MONGOD names no mongod of another version"
)


@pytest.fixture
def older(servers: Pair, tmp_path: Path) -> Iterator[Pair]:
    """Its source is the other server."""
    servers.empty()
    with Mongod(tmp_path / "other", name="other", program=Path(OTHER)) as other:
        client: MongoClient[dict[str, object]] = MongoClient(other.uri)
        yield Pair(other, servers.target, client, servers.target_client)
        client.close()


def test_a_migration(older: Pair, tmp_path: Path) -> None:
    """Faults 9: an older source is carried, every kind that it knows."""
    every_kind.load(older.source_client)
    done = Terminal(tmp_path, older)("start", "--chunk-docs", "100")
    assert done.returncode == 0, done.stderr
    found = every_kind.read(older.source_client), every_kind.read(older.target_client)
    assert every_kind.differences(*found) == []


@pytest.mark.parametrize("layout", ["chunks", "mongodump", "archive"])
def test_a_dump(layout: str, older: Pair, tmp_path: Path) -> None:
    every_kind.load(older.source_client)
    ferrylog, place = Terminal(tmp_path, older), tmp_path / "dump"
    down, up = LAYOUTS[layout]
    assert ferrylog("dump", *at(down, place)).returncode == 0
    back = ferrylog("restore", *at(up, place))
    assert back.returncode == 0, back.stderr
    found = every_kind.read(older.source_client), every_kind.read(older.target_client)
    assert every_kind.differences(*found) == []
