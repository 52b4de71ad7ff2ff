"""What a check expects of a reply."""

from typing import Any

import pytest
from pymongo.errors import ServerSelectionTimeoutError

from executors.operation.predicate import fits, holds
from tests.conftest import Pair
from tests.executors.examples import Client

REPLY = {"n": 3, "cursor": {"firstBatch": [{"name": "a", "on": True}, {"name": "b"}], "id": 0}}


@pytest.mark.parametrize(
    ("expected", "so"),
    [
        ({"n": 3}, True),
        ({"n": 3.0}, True),
        ({"n": 4}, False),
        ({"n": 3, "m": 1}, False),
        ({"cursor.firstBatch.0.name": "a"}, True),
        ({"cursor.firstBatch.2.name": {"$exists": False}}, True),
        ({"cursor.firstBatch.1": {"$exists": True}}, True),
        ({"cursor.firstBatch.x": 1}, False),
        ({"cursor": {"id": 0}}, True),
        ({"cursor": {"firstBatch": [{"name": "a"}, {"name": "b"}]}}, True),
        ({"cursor": {"firstBatch": [{"name": "a"}]}}, False),
        ({"cursor": {"firstBatch": {"name": "a"}}}, False),
        ({"n": {"id": 0}}, False),
        ({"n": {"$exists": False}}, False),
        ({"gone": None}, False),
    ],
)
def test_a_reply_fits(expected: dict[str, Any], so: bool) -> None:
    """M5: dots lead inside, a document fits by its fields, an array by its places."""
    assert fits(expected, REPLY) is so


@pytest.mark.server
def test_a_refusal_is_a_reply(pair: Pair) -> None:
    asked = {"database": "shop", "command": {"listIndexes": "none"}, "expect": {"code": 26}}
    assert holds(pair.target_client, asked)
    assert not holds(pair.target_client, {**asked, "expect": {"ok": 1}})


def test_a_server_that_is_away_tells_nothing() -> None:
    """A24: no answer is no answer."""
    away = Client("mongodb://127.0.0.1:9/?directConnection=true", serverSelectionTimeoutMS=50)
    with away, pytest.raises(ServerSelectionTimeoutError):
        holds(away, {"database": "a", "command": {"ping": 1}, "expect": {"ok": 1}})
