"""How busy a server is, by its own word (F7)."""

from typing import Any

import pytest
from pymongo import MongoClient

from executors.pressure import NotAllowed, load_of
from ferrylog.embedded import Mongod
from tests.conftest import Pair

pytestmark = pytest.mark.server


def test_a_server_says_how_full_its_cache_is(pair: Pair) -> None:
    """In shares: of what the engine writes out by itself, nothing is left out of the answer."""
    before = load_of(pair.target_client)
    assert before is not None
    pair.target_client.shop.c.insert_many([{"pad": "x" * 10_000} for _ in range(1000)])
    after = load_of(pair.target_client)
    assert after is not None
    assert 0 <= before.dirty < 1
    assert 0 < after.used < 1  # what the tests before put there may leave meanwhile
    assert (after.queued, after.lagged) == (0, False)


def test_a_server_that_does_not_answer_says_nothing(pair: Pair) -> None:
    client = MongoClient[Any](pair.target.uri)
    client.close()
    assert load_of(client) is None


@pytest.mark.deep
def test_a_user_who_may_not_ask_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = ("--setParameter", "enableTestCommands=1")
    folder = tmp_path_factory.mktemp("refusing")
    with (
        Mongod(folder, name="r", options=options) as mongod,
        MongoClient[Any](mongod.uri) as client,
    ):
        for code in (13, 11600):
            data = {"failCommands": ["serverStatus"], "errorCode": code}
            command = {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
            client.admin.command(command)
            if code == 13:
                with pytest.raises(NotAllowed):
                    load_of(client)
            else:
                assert load_of(client) is None
        assert load_of(client) is not None
