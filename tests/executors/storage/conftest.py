"""A server whose faults a test chooses."""

from collections.abc import Iterator

import pytest

from tests.executors.storage.azurestore import AzureHandler
from tests.executors.storage.xmlstore import XmlStore, xml_store


@pytest.fixture
def xml() -> Iterator[XmlStore]:
    with xml_store() as server:
        yield server


@pytest.fixture
def azure() -> Iterator[XmlStore]:
    with xml_store(AzureHandler) as server:
        yield server
