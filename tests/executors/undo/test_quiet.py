"""Nothing is taken back beside what a dead process sent."""

import threading

from pymongo import MongoClient

from executors.clients import APP
from executors.dumps.model import NeverStops
from executors.undo.quiet import wait_for_the_dead
from tests.conftest import Pair


def test_what_runs_on_the_server_is_waited_for(pair: Pair) -> None:
    """P9: a write that was sent before is over when the wait is; one of another program is nobody's
    business."""
    pair.target_client.shop.c.insert_many([{"_id": n} for n in range(20)])
    slow = {"$where": "function() { sleep(60); return true; }"}
    with MongoClient[dict[str, int]](pair.target.uri, appname=APP) as dying:
        writing = threading.Thread(
            target=lambda: dying.shop.c.update_many(slow, {"$set": {"a": 1}})
        )
        writing.start()
        while not pair.target_client.shop.c.count_documents({"a": 1}):
            pass
        wait_for_the_dead(pair.target_client, NeverStops())
        assert pair.target_client.shop.c.count_documents({"a": 1}) == 20
        writing.join()
