"""What all tests share: real servers, one pair per worker process, empty for each test."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).parent.parent))

from ferrylog.embedded import Mongod
from tests import counts
from tests.objectstores import OF_THE_CLOUDS, S3, bucket_of_its_own, s3_server, speak_gs_to

OWN = ("admin", "local", "config")
LIVELY = ("--setParameter", "periodicNoopIntervalSecs=1")
"""What waits for an idle server's time to go on need not wait for ten seconds."""


@dataclass
class Pair:
    """Two deployments: their servers, and plain clients for oracles."""

    source: Mongod
    target: Mongod
    source_client: MongoClient[dict[str, Any]]
    target_client: MongoClient[dict[str, Any]]

    def empty(self) -> None:
        for client in (self.source_client, self.target_client):
            for name in client.list_database_names():
                if name not in OWN:
                    client.drop_database(name)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two real mongods, each a replica set of one, for the whole session."""
    folder = tmp_path_factory.mktemp("servers")
    with (
        Mongod(folder / "source", name="source", options=LIVELY) as source,
        Mongod(folder / "target", name="target", options=LIVELY) as target,
    ):
        one: MongoClient[dict[str, Any]] = MongoClient(source.uri)
        two: MongoClient[dict[str, Any]] = MongoClient(target.uri)
        yield Pair(source, target, one, two)
        one.close()
        two.close()


@pytest.fixture
def pair(servers: Pair) -> Pair:
    """The two servers, empty."""
    servers.empty()
    return servers


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server for the whole session."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, _clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A bucket of its own on it; whatever starts from here on finds it by the environment."""
    return bucket_of_its_own(s3_endpoint, monkeypatch)


@pytest.fixture
def gs(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the same bucket as one of Google's, as far as the XML APIs are the same: nothing
    that is put there is refused."""
    speak_gs_to(s3.endpoint, monkeypatch)
    return f"gs://{s3.bucket}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FERRYLOG_")]:
        if name not in ("FERRYLOG_CORPUS", "FERRYLOG_OTHER_MONGOD"):
            monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.startswith(OF_THE_CLOUDS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)  # nobody's own keys
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Each worker of pytest-xdist leaves out the same ones: the first one counts them."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        counts.count("deselected (scripts/test --deep runs all)", len(items))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its numbers to the controller."""
    if hasattr(session.config, "workeroutput"):
        counts.hand_over(session.config.workeroutput)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    counts.take_over(getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was counted, what was skipped: nothing is left out without a word."""
    for line in counts.lines():
        terminalreporter.write_line(line)
    if not os.environ.get("FERRYLOG_CORPUS"):
        terminalreporter.write_line("FERRYLOG_CORPUS is not set: conformance tests have no corpus")
    terminalreporter.write_line(f"skipped: {len(terminalreporter.stats.get('skipped', []))}")
